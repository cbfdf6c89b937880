//! Our matrix product beside the gemm crate's, in turns in one process, on the shapes of SmolLM2.
//!
//! `cargo run --release --manifest-path benches/products/Cargo.toml`; THREADS sets the threads of both (default: all). Rows:
//! layout, m, n, k, GFLOP/s of ours and of gemm's (medians of 15 rounds in turns), their ratio; last the median ratio.
//! The products are compared with each other first. Weights are packed anew in every call, as a training step does it;
//! rows with `packed` are those of generation, where they stay packed.
use engine::backend::{Backend, Layout, Product};
use engine::buffer::{Buffer, Host};
use engine::cpu::Cpu;
use engine::random::Stream;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Forward, gradient to the input and to the weight of SmolLM2's layers on 1024 tokens, and its LM head.
const TRAINING: [(Layout, usize, usize, usize); 15] = [
    (Layout::NT, 1024, 576, 576),
    (Layout::NT, 1024, 192, 576),
    (Layout::NT, 1024, 1536, 576),
    (Layout::NT, 1024, 576, 1536),
    (Layout::NT, 1024, 49152, 576),
    (Layout::NN, 1024, 576, 576),
    (Layout::NN, 1024, 576, 192),
    (Layout::NN, 1024, 576, 1536),
    (Layout::NN, 1024, 1536, 576),
    (Layout::NN, 1024, 576, 49152),
    (Layout::TN, 576, 576, 1024),
    (Layout::TN, 192, 576, 1024),
    (Layout::TN, 1536, 576, 1024),
    (Layout::TN, 576, 1536, 1024),
    (Layout::TN, 49152, 576, 1024),
];
/// The forward for a few rows: decoding one sequence, and 8 and 32.
const GENERATION: [(usize, usize, usize); 6] =
    [(1, 576, 576), (1, 49152, 576), (8, 1536, 576), (8, 49152, 576), (32, 1536, 576), (32, 576, 1536)];
const ROUNDS: usize = 15;

fn main() -> Outcome<()> {
    let threads = std::env::var("THREADS").ok().and_then(|t| t.parse().ok());
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    // A thread of its own: the CPU backend makes the thread that opens it one of its own.
    std::thread::spawn(move || compare(threads).map_err(|e| e.to_string())).join().map_err(|_| "a panic")??;
    Ok(())
}

fn compare(threads: usize) -> Outcome<()> {
    let cpu = Cpu::new(Some(threads))?;
    println!(
        "{}, gemm 0.19\n\n| layout | m | n | k | ours | gemm | ratio |\n|---|---|---|---|---|---|---|",
        cpu.name()
    );
    let mut ratios = Vec::new();
    for (layout, m, n, k) in TRAINING {
        ratios.push(row(&cpu, Product { layout, m, n, k, alpha: 1.0 }, false, threads)?);
    }
    ratios.sort_by(f64::total_cmp);
    println!("\nmedian {:.2}, smallest {:.2}\n", ratios[ratios.len() / 2], ratios[0]);
    println!("| layout | m | n | k | ours | gemm | ratio |\n|---|---|---|---|---|---|---|");
    for (m, n, k) in GENERATION {
        row(&cpu, Product { layout: Layout::NT, m, n, k, alpha: 1.0 }, true, threads)?;
    }
    Ok(())
}

/// One line of the table; ours over gemm's speed.
fn row(cpu: &Cpu, p: Product, packed: bool, threads: usize) -> Outcome<f64> {
    let Product { layout, m, n, k, .. } = p;
    let random = |n: usize, stream: u64| -> Vec<f32> {
        let s = Stream::new(3, stream);
        (0..n as u64).map(|i| s.uniform(i) - 0.5).collect()
    };
    let (a, b) = (random(m * k, 1), random(n * k, 2));
    let (ours_a, plain) = (cpu.upload(Host::F32(a.clone()))?, cpu.upload(Host::F32(b.clone()))?);
    let ours_b = if packed { cpu.pack_weight(&plain, n, k)? } else { plain };
    let mut c = vec![0f32; m * n];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let start = Instant::now();
        let found: Buffer = cpu.matmul(p, &ours_a, &ours_b, None)?;
        ours.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        gemm_product(p, &a, &b, &mut c, threads);
        theirs.push(start.elapsed().as_secs_f64());
        if round == 0 {
            let largest = c.iter().fold(0f32, |s, x| s.max(x.abs()));
            let off = found.f32()?.iter().zip(&c).map(|(x, y)| (x - y).abs()).fold(0f32, f32::max);
            if off.is_nan() || off > 1e-4 * largest {
                return Err(format!("{p:?}: the two differ by {off}, the largest value is {largest}: not timed").into());
            }
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let rate = |seconds: f64| 2.0 * (m * n * k) as f64 / seconds / 1e9;
    let name = if packed { format!("{layout:?} packed") } else { format!("{layout:?}") };
    println!("| {name} | {m} | {n} | {k} | {:.1} | {:.1} | {:.2} |", rate(ours), rate(theirs), theirs / ours);
    Ok(theirs / ours)
}

/// C = op(A) op(B), row-major, by the gemm crate.
fn gemm_product(p: Product, a: &[f32], b: &[f32], c: &mut [f32], threads: usize) {
    let Product { layout, m, n, k, .. } = p;
    // (column stride, row stride)
    let (a_strides, b_strides) = match layout {
        Layout::NN => ((1, k), (1, n)),
        Layout::NT => ((1, k), (k, 1)),
        Layout::TN => ((m, 1), (1, n)),
    };
    let s = |(column, row): (usize, usize)| (column as isize, row as isize);
    let ((a_cs, a_rs), (b_cs, b_rs)) = (s(a_strides), s(b_strides));
    let parallelism = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    // SAFETY: the slices hold m·k, k·n and m·n floats under these strides.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            a_cs,
            a_rs,
            b.as_ptr(),
            b_cs,
            b_rs,
            0.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}
