//! Every kernel on the shapes of SmolLM2: compared with the reference backend first, then timed beside the device's ceilings.
//!
//! `cargo bench --bench kernels`; LAPIDARY_DEVICE=cpu|gpu|gpu:N|gpu:software says where (default: cpu), THREADS sets the
//! CPU's threads. First the matrix product: layout, m, n, k, GFLOP/s (median of 9 after 2 to warm up; a software adapter, which
//! runs on the same cores, gets an eighth of the rows) and its share of the rate of a large square product; then the others.
//!
//! `cargo bench --bench kernels -- count` computes nothing: it prints what a training step of SmolLM2 does on a GPU, by kernel
//! (dispatches, bytes, operations), for a later run on a GPU to be compared with.
//!
//! `cargo bench --bench kernels -- rungs` times each rung of the GPU's matrix product by itself (shaders/README.md): of n × n
//! matrices, n = 4096, on a software adapter 256, and of 8 rows for the kernel of few rows.
//!
//! `cargo bench --bench kernels -- attention` does so with the rungs of attention, of a GPU or of the CPU.
#[path = "kernels/attention.rs"]
mod attention;
#[path = "kernels/others.rs"]
mod others;

use engine::backend::{Backend, Device, Layout, Product, Products};
use engine::buffer::{Buffer, Host};
use engine::dtype::DType;
use engine::random::Stream;
use std::time::Instant;
use trainers::device::DeviceChoice;
use trainers::doctor::Ceilings;

/// Forward, gradient to the input and to the weight of SmolLM2's layers on 1024 tokens; its LM head on a chunk; LoRA.
const SHAPES: [(Layout, usize, usize, usize); 14] = [
    (Layout::NT, 1024, 1536, 576),
    (Layout::NT, 1024, 576, 1536),
    (Layout::NT, 1024, 576, 576),
    (Layout::NT, 1024, 192, 576),
    (Layout::NT, 256, 49152, 576),
    (Layout::NN, 1024, 576, 1536),
    (Layout::NN, 1024, 1536, 576),
    (Layout::NN, 256, 576, 49152),
    (Layout::TN, 1536, 576, 1024),
    (Layout::TN, 576, 1536, 1024),
    (Layout::TN, 49152, 576, 256),
    (Layout::NT, 1024, 16, 576),
    (Layout::NT, 1024, 1536, 16),
    (Layout::TN, 16, 1536, 1024),
];

fn random(device: &dyn Backend, n: usize, stream: u64) -> engine::Result<Buffer> {
    let s = Stream::new(3, stream);
    device.upload(Host::F32((0..n as u64).map(|i| s.uniform(i) - 0.5).collect()))
}

/// The largest relative difference between the device and the reference on a few rows of the shape, B held as `dtype`.
fn verify(cpu: &dyn Backend, p: Product, dtype: DType) -> engine::Result<f32> {
    let p = Product { m: p.m.min(9), n: p.n.min(50), ..p };
    let reference = engine::reference::Reference;
    let weight = |d: &dyn Backend| d.cast(&random(d, p.n * p.k, 2)?, p.n * p.k, dtype);
    let (a, b) = (random(cpu, p.m * p.k, 1)?, weight(cpu)?);
    let found = cpu.download_f32(&[&cpu.matmul(p, &a, &b, None)?])?.remove(0);
    let (a, b) = (random(&reference, p.m * p.k, 1)?, weight(&reference)?);
    let expected = reference.matmul(p, &a, &b, None)?;
    let expected = expected.f32()?;
    let scale = expected.iter().fold(1e-3f32, |s, x| s.max(x.abs()));
    Ok(found.iter().zip(expected).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max))
}

/// What steps of 8 × 512 tokens do, by kernel.
#[cfg(feature = "gpu")]
fn count() -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", trainers::doctor::counted::smollm2_tables()?);
    Ok(())
}

#[cfg(not(feature = "gpu"))]
fn count() -> Result<(), Box<dyn std::error::Error>> {
    Err("built without the feature gpu".into())
}

/// GFLOP/s of a product: the median of 9 runs after 2 to warm up.
fn rate(device: &dyn Backend, p: Product, a: &Buffer, b: &Buffer) -> engine::Result<f64> {
    let mut seconds = Vec::new();
    for _ in 0..11 {
        let start = Instant::now();
        device.matmul(p, a, b, None)?;
        device.synchronize()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.drain(..2);
    seconds.sort_by(f64::total_cmp);
    Ok(2.0 * (p.m * p.n * p.k) as f64 / seconds[4] / 1e9)
}

/// Each rung of the ladder by itself, on the GPU that LAPIDARY_DEVICE names.
#[cfg(feature = "gpu")]
fn rungs() -> Result<(), Box<dyn std::error::Error>> {
    use engine::backend::Memory;
    use engine::gpu::{AdapterSelect, Gpu, GpuOptions, Rung};
    let name = std::env::var("LAPIDARY_DEVICE").unwrap_or("gpu".into());
    let (select, n) = match DeviceChoice::parse(&name) {
        Some(DeviceChoice::Software) => (AdapterSelect::Software, 256),
        Some(DeviceChoice::Gpu(Some(index))) => (AdapterSelect::Index(index), 4096),
        Some(DeviceChoice::Gpu(None)) => (AdapterSelect::Auto, 4096),
        _ => return Err(format!("LAPIDARY_DEVICE is {name}; rungs are a GPU's: gpu, gpu:N or gpu:software").into()),
    };
    println!("{}\n| rung | m | n | k | GFLOP/s |\n|---|---|---|---|---|", Gpu::open(select)?.name());
    let plain = [Rung::Naive, Rung::Tiled, Rung::RegisterTiled, Rung::Blocked, Rung::BlockedDeep, Rung::Direct];
    for rung in plain.into_iter().chain([Rung::FewRows, Rung::Cooperative]) {
        let f16_operands = rung == Rung::Cooperative;
        let gpu = Gpu::open_with(select, GpuOptions { rung: Some(rung), f16_operands, ..Default::default() })?;
        if f16_operands && !gpu.name().contains("f16 operands") {
            println!("| {rung:?} | – | – | – | no matrix units |");
            continue;
        }
        let p = Product { layout: Layout::NT, m: if rung == Rung::FewRows { 8 } else { n }, n, k: n, alpha: 1.0 };
        // Operands of matrix units have 11 bits.
        let (dtype, allowed) = if f16_operands { (DType::F16, 4e-3) } else { (DType::F32, 1e-4) };
        let error = verify(&*gpu, p, dtype)?;
        if error > allowed {
            return Err(format!("{rung:?}: {error} off the reference: not timed").into());
        }
        let (a, b) = (random(&*gpu, p.m * n, 1)?, gpu.cast(&random(&*gpu, n * n, 2)?, n * n, dtype)?);
        println!("| {rung:?} | {} | {n} | {n} | {:.1} |", p.m, rate(&*gpu, p, &a, &b)?);
    }
    Ok(())
}

#[cfg(not(feature = "gpu"))]
fn rungs() -> Result<(), Box<dyn std::error::Error>> {
    count()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().any(|argument| argument == "count") {
        return count();
    }
    if std::env::args().any(|argument| argument == "rungs") {
        return rungs();
    }
    let threads = std::env::var("THREADS").ok().and_then(|t| t.parse().ok());
    let name = std::env::var("LAPIDARY_DEVICE").unwrap_or("cpu".into());
    if std::env::args().any(|argument| argument == "attention") {
        return attention::table(&name, threads);
    }
    let chosen = DeviceChoice::parse(&name).ok_or_else(|| format!("LAPIDARY_DEVICE is {}", DeviceChoice::ACCEPTS))?;
    let cpu: Device = trainers::device::open(chosen, threads)?;
    let slow = name == "gpu:software";
    let ceilings = Ceilings::measure(&*cpu, slow)?.ok_or("a copy or a product is wrong: not timed")?;
    let (copy, product) = (ceilings.bytes_per_s / 1e9, ceilings.flops_per_s / 1e9);
    println!("{}: copy {copy:.1} GB/s, product {product:.1} GFLOP/s at n = {}\n", cpu.name(), ceilings.n);
    println!("| layout | m | n | k | GFLOP/s | of the product's |\n|---|---|---|---|---|---|");
    for (layout, m, n, k) in SHAPES {
        let (m, k) = match layout {
            _ if !slow || n > 40_000 || m > 40_000 || k > 40_000 => (m, k),
            Layout::TN => (m, k / 8),
            _ => (m / 8, k),
        };
        let p = Product { layout, m, n, k, alpha: 1.0 };
        let error = verify(&*cpu, p, DType::F32)?;
        if error > 1e-4 {
            return Err(format!("{p:?}: {error} off the reference: not timed").into());
        }
        let (a, b) = (random(&*cpu, m * k, 1)?, random(&*cpu, n * k, 2)?);
        let rate = rate(&*cpu, p, &a, &b)?;
        println!("| {layout:?} | {m} | {n} | {k} | {rate:.1} | {:.0} % |", 100.0 * rate / product);
    }
    others::table(&cpu, ceilings)
}
