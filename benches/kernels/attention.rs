//! The ladder of attention: each rung compared with the reference on forests, windows, grouped heads and odd sizes, then timed.
use super::random;
use engine::backend::{AttentionInputs, AttentionRung, AttentionShape, Backend, Device};
use engine::cpu::{Cpu, Level};
use engine::forest::Forest;
use engine::verify::{Tolerance, verify_attention};
use std::time::Instant;
use trainers::device::DeviceChoice;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const RUNGS: [AttentionRung; 3] = [AttentionRung::Plain, AttentionRung::Tiled, AttentionRung::Shared];

/// Heads, key/value heads and head size of SmolLM2.
const SHAPE: AttentionShape =
    AttentionShape { n_heads: 9, n_kv_heads: 3, head_size: 64, scale: 0.125, window: usize::MAX };

/// Milliseconds of the median of 5 runs after one to warm up.
fn time(device: &dyn Backend, mut work: impl FnMut() -> engine::Result<()>) -> Outcome<f64> {
    let mut ms = Vec::new();
    for _ in 0..6 {
        let start = Instant::now();
        work()?;
        device.synchronize()?;
        ms.push(1e3 * start.elapsed().as_secs_f64());
    }
    ms.remove(0);
    ms.sort_by(f64::total_cmp);
    Ok(ms[2])
}

/// The device with each rung, slowest first; a software adapter says so.
fn devices(name: &str, threads: Option<usize>) -> Outcome<(Vec<Device>, bool)> {
    let choice = DeviceChoice::parse(name).ok_or_else(|| format!("LAPIDARY_DEVICE is {}", DeviceChoice::ACCEPTS))?;
    if let DeviceChoice::Cpu = choice {
        let cpus = RUNGS.map(|rung| Cpu::with_rung(threads, Level::best(), rung).map(|cpu| cpu as Device));
        return Ok((cpus.into_iter().collect::<engine::Result<_>>()?, false));
    }
    gpus(choice)
}

#[cfg(feature = "gpu")]
fn gpus(choice: DeviceChoice) -> Outcome<(Vec<Device>, bool)> {
    use engine::gpu::{AdapterSelect, Gpu, GpuOptions};
    let select = match choice {
        DeviceChoice::Software => AdapterSelect::Software,
        DeviceChoice::Gpu(Some(index)) => AdapterSelect::Index(index),
        _ => AdapterSelect::Auto,
    };
    let open = |attention| Gpu::open_with(select, GpuOptions { attention, ..Default::default() });
    let all = RUNGS.map(|rung| open(rung).map(|gpu| gpu as Device));
    Ok((all.into_iter().collect::<engine::Result<_>>()?, matches!(select, AdapterSelect::Software)))
}

#[cfg(not(feature = "gpu"))]
fn gpus(_: DeviceChoice) -> Outcome<(Vec<Device>, bool)> {
    Err("built without the feature gpu".into())
}

/// A line for each rung.
pub fn table(name: &str, threads: Option<usize>) -> Outcome<()> {
    let (devices, software) = devices(name, threads)?;
    // Sequences, and tokens of each.
    let (n, length) = if software { (1, 128) } else { (4, 256) };
    let t = n * length;
    println!("{}, {n} sequences of {length} tokens, {SHAPE:?}\n", devices[0].name());
    println!("| rung | forward, ms | GFLOP/s | backward, ms | GFLOP/s |\n|---|---|---|---|---|");
    let plan = Forest::from_sequences(&vec![vec![0; length]; n])?.attention_plan();
    let AttentionShape { n_heads, n_kv_heads, head_size, .. } = SHAPE;
    let pairs = (n * length * (length + 1) / 2 * n_heads * head_size) as f64;
    for (rung, device) in RUNGS.into_iter().zip(&devices) {
        let tolerance =
            if device.is_host() { Tolerance::FLOAT32 } else { Tolerance { absolute: 1e-5, relative: 1e-4 } };
        // The plain kernels compute every score for every column; on a processor's cores the smaller cases must do.
        let only = if software && rung == AttentionRung::Plain { "small" } else { "" };
        if let Some(wrong) = verify_attention(device, tolerance, only).into_iter().find(|report| !report.passed) {
            return Err(format!("{rung:?}: {wrong}: not timed").into());
        }
        let d = &**device;
        let (q, d_o) = (random(d, t * n_heads * head_size, 1)?, random(d, t * n_heads * head_size, 2)?);
        let (k, v) = (random(d, t * n_kv_heads * head_size, 3)?, random(d, t * n_kv_heads * head_size, 4)?);
        let inputs = AttentionInputs { shape: SHAPE, plan: &plan, q: &q, k: &k, v: &v };
        let forward = time(d, || d.attention(inputs).map(drop))?;
        let (o, lse) = d.attention(inputs)?;
        let backward = time(d, || d.attention_backward(inputs, &o, &lse, &d_o).map(drop))?;
        // Of the equations: two products forward, five backward.
        let (of_forward, of_backward) = (4.0 * pairs / forward / 1e6, 10.0 * pairs / backward / 1e6);
        println!("| {rung:?} | {forward:.2} | {of_forward:.1} | {backward:.2} | {of_backward:.1} |");
    }
    Ok(())
}
