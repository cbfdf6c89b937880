//! The matrix product on the shapes of SmolLM2: compared with the reference backend first, then timed.
//!
//! `cargo bench --bench kernels`; LAPIDARY_DEVICE=cpu|gpu|gpu:N|gpu:software says where (default: cpu), THREADS sets the
//! CPU's threads. Rows of the table: layout, m, n, k, GFLOP/s (median of 9 after 2 to warm up; a software adapter, which
//! runs on the same cores, gets an eighth of the rows).
//!
//! `cargo bench --bench kernels -- count` computes nothing: it prints what a training step of SmolLM2 does on a GPU, by kernel
//! (dispatches, bytes, operations), for a later run on a GPU to be compared with.
use engine::backend::{Backend, Device, Layout, Product};
use engine::buffer::Host;
use engine::random::Stream;
use std::time::Instant;
use trainers::device::DeviceChoice;

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

fn random(device: &dyn Backend, n: usize, stream: u64) -> engine::Result<engine::buffer::Buffer> {
    let s = Stream::new(3, stream);
    device.upload(Host::F32((0..n as u64).map(|i| s.uniform(i) - 0.5).collect()))
}

/// The largest relative difference between the CPU and the reference on a few rows of the shape.
fn verify(cpu: &dyn Backend, p: Product) -> engine::Result<f32> {
    let p = Product { m: p.m.min(9), n: p.n.min(50), ..p };
    let reference = engine::reference::Reference;
    let (a, b) = (random(cpu, p.m * p.k, 1)?, random(cpu, p.n * p.k, 2)?);
    let found = cpu.download_f32(&[&cpu.matmul(p, &a, &b, None)?])?.remove(0);
    let (a, b) = (random(&reference, p.m * p.k, 1)?, random(&reference, p.n * p.k, 2)?);
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().any(|argument| argument == "count") {
        return count();
    }
    let threads = std::env::var("THREADS").ok().and_then(|t| t.parse().ok());
    let name = std::env::var("LAPIDARY_DEVICE").unwrap_or("cpu".into());
    let chosen = DeviceChoice::parse(&name).ok_or_else(|| format!("LAPIDARY_DEVICE is {}", DeviceChoice::ACCEPTS))?;
    let cpu: Device = trainers::device::open(chosen, threads)?;
    println!("{}\n| layout | m | n | k | GFLOP/s |\n|---|---|---|---|---|", cpu.name());
    let slow = name == "gpu:software";
    for (layout, m, n, k) in SHAPES {
        let (m, k) = match layout {
            _ if !slow || n > 40_000 || m > 40_000 || k > 40_000 => (m, k),
            Layout::TN => (m, k / 8),
            _ => (m / 8, k),
        };
        let p = Product { layout, m, n, k, alpha: 1.0 };
        let error = verify(&*cpu, p)?;
        if error > 1e-4 {
            return Err(format!("{p:?}: {error} off the reference: not timed").into());
        }
        let (a, b) = (random(&*cpu, m * k, 1)?, random(&*cpu, n * k, 2)?);
        let mut seconds = Vec::new();
        for _ in 0..11 {
            let start = Instant::now();
            cpu.matmul(p, &a, &b, None)?;
            cpu.synchronize()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.drain(..2);
        seconds.sort_by(f64::total_cmp);
        println!("| {layout:?} | {m} | {n} | {k} | {:.1} |", 2.0 * (m * n * k) as f64 / seconds[4] / 1e9);
    }
    Ok(())
}
