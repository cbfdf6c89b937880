//! Kernels on Mesa's software Vulkan. Without it tests say that they are skipped, and fail where CI is set.
use super::*;
use crate::backend::{Backend, Layout, Product};
use crate::buffer::Host;

/// The software adapter, or a visible skip.
fn software(options: GpuOptions) -> Option<Arc<Gpu>> {
    match Gpu::open_with(AdapterSelect::Software, options) {
        Ok(gpu) => Some(gpu),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn checked() -> GpuOptions {
    GpuOptions { checked: true, ..Default::default() }
}

#[test]
fn every_shader_compiles() {
    let Some(gpu) = software(checked()) else { return };
    for &shader in shaders::ALL {
        gpu.compile(shader, &[]).unwrap_or_else(|e| panic!("{e}"));
    }
}

fn values(n: usize, seed: u64) -> Vec<f32> {
    let stream = crate::random::Stream::new(seed, 0);
    (0..n as u64).map(|i| stream.normal(i)).collect()
}

fn up(gpu: &Gpu, v: &[f32]) -> Buffer {
    gpu.upload(Host::F32(v.to_vec())).unwrap()
}

fn down(gpu: &Gpu, x: &Buffer) -> Vec<f32> {
    gpu.download_f32(&[x]).unwrap().remove(0)
}

/// GFLOP/s of each rung: `cargo test --release -p lapidary-engine matmul_speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn matmul_speed() {
    for (layout, m, n, k) in [
        (Layout::NT, 128, 576, 576),
        (Layout::NT, 128, 1536, 576),
        (Layout::NN, 128, 576, 1536),
        (Layout::TN, 576, 1536, 128),
    ] {
        for rung in [None, Some(Rung::Naive), Some(Rung::Tiled), Some(Rung::RegisterTiled)] {
            let gpu = software(GpuOptions { rung, ..Default::default() }).unwrap();
            let (a, b) = (up(&gpu, &values(m * k, 1)), up(&gpu, &values(n * k, 2)));
            let p = Product { layout, m, n, k, alpha: 1.0 };
            gpu.matmul(p, &a, &b, None).unwrap();
            gpu.synchronize().unwrap();
            let start = std::time::Instant::now();
            gpu.matmul(p, &a, &b, None).unwrap();
            gpu.synchronize().unwrap();
            let seconds = start.elapsed().as_secs_f64();
            println!("{layout:?} {m}x{n}x{k} {rung:?}: {:.2} GFLOP/s", 2e-9 * (m * n * k) as f64 / seconds);
        }
    }
}

/// Runs the suite that compares every kernel with the reference.
fn verify(options: GpuOptions) {
    let Some(gpu) = software(options) else { return };
    let device: crate::backend::Device = gpu;
    let reports = crate::verify::verify_backend(&device, crate::verify::Tolerance { absolute: 1e-5, relative: 1e-4 });
    let failed: Vec<String> = reports.iter().filter(|r| !r.passed).map(|r| r.to_string()).collect();
    assert!(failed.is_empty(), "{} of {} cases\n{}", failed.len(), reports.len(), failed.join("\n"));
}

#[test]
fn every_kernel_with_bounds_checks() {
    verify(checked());
}
