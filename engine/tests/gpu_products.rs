//! The rungs of the GPU's product on software Vulkan: values, slices of the depth, blocks decoded in the kernel, the
//! choice among kernels and what is kept of it. Without a software adapter the tests say that they are skipped.
#![cfg(feature = "gpu")]
use engine::backend::*;
use engine::buffer::{Buffer, Host};
use engine::dtype::{DType, Quant};
use engine::gpu::{AdapterKind, AdapterSelect, Gpu, GpuOptions, Rung, SAME_ORDER};
use engine::random::Stream;
use engine::reference::Reference;
use std::sync::Arc;

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

/// Whether the software adapter has a feature, by its name in `lapidary doctor`.
fn has(feature: &str) -> bool {
    Gpu::list().iter().any(|d| d.kind == AdapterKind::Software && d.features.contains(&feature))
}

fn values(n: usize, seed: u64) -> Vec<f32> {
    let stream = Stream::new(seed, 0);
    (0..n as u64).map(|i| stream.normal(i)).collect()
}

fn up(gpu: &Gpu, v: &[f32]) -> Buffer {
    gpu.upload(Host::F32(v.to_vec())).unwrap()
}

fn down(gpu: &Gpu, x: &Buffer) -> Vec<f32> {
    gpu.download_f32(&[x]).unwrap().remove(0)
}

fn upload(gpu: &Gpu, x: &Buffer) -> Buffer {
    gpu.upload(x.as_host().unwrap().clone()).unwrap()
}

/// α op(A) op(B) + C on the device and by the reference; the largest difference over √k.
fn difference(gpu: &Gpu, p: Product, b_type: DType) -> f32 {
    let Product { m, n, k, .. } = p;
    let [a, b, c] = [values(m * k, 1), values(n * k, 2), values(m * n, 3)].map(Buffer::from_f32);
    let b = Reference.cast(&b, n * k, b_type).unwrap();
    let want = Reference.matmul(p, &a, &b, Some(c.clone())).unwrap();
    let found = down(gpu, &gpu.matmul(p, &upload(gpu, &a), &upload(gpu, &b), Some(upload(gpu, &c))).unwrap());
    largest(&found, want.f32().unwrap()) / (k as f32).sqrt()
}

fn largest(found: &[f32], want: &[f32]) -> f32 {
    assert_eq!(found.len(), want.len());
    found.iter().zip(want).map(|(f, w)| (f - w).abs()).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

#[test]
fn every_rung() {
    let shapes = [
        (Layout::NT, [5, 7, 33], DType::BF16),
        (Layout::TN, [68, 132, 36], DType::F32),
        (Layout::NN, [7, 68, 40], DType::F32),
        (Layout::NN, [65, 66, 67], DType::F16),
        (Layout::NT, [130, 140, 50], DType::F32),
    ];
    for rung in
        [Rung::Naive, Rung::Tiled, Rung::RegisterTiled, Rung::Blocked, Rung::BlockedDeep, Rung::FewRows, Rung::Direct]
    {
        let Some(gpu) = software(GpuOptions { rung: Some(rung), ..checked() }) else { return };
        for (layout, [m, n, k], b_type) in shapes {
            let p = Product { layout, m, n, k, alpha: 0.5 };
            let error = difference(&gpu, p, b_type);
            assert!(error < 2e-5, "{rung:?} {p:?} {b_type:?}: {error}");
        }
    }
}

/// The slices of every kernel whose depth can be cut.
#[test]
fn every_rung_in_slices() {
    for rung in SAME_ORDER {
        let Some(gpu) = software(GpuOptions { rung: Some(rung), slices: Some(3), ..checked() }) else { return };
        let p = Product { layout: Layout::TN, m: 37, n: 50, k: 67, alpha: 0.5 };
        let error = difference(&gpu, p, DType::F32);
        assert!(error < 2e-5, "{rung:?}: {error}");
    }
}

/// Slices of the depth: more of them than there is depth, uneven ones, few rows, and by the rule.
#[test]
fn slices_of_the_depth() {
    for slices in [Some(2), Some(5), Some(100), None] {
        let Some(gpu) = software(GpuOptions { slices, rung: Some(Rung::RegisterTiled), ..checked() }) else { return };
        for (layout, m, n, k) in
            [(Layout::TN, 16, 36, 1030), (Layout::NT, 9, 40, 700), (Layout::NN, 33, 20, 513), (Layout::TN, 3, 5, 0)]
        {
            let p = Product { layout, m, n, k, alpha: -1.5 };
            gpu.reset_counts();
            let error = if k > 0 { difference(&gpu, p, DType::F32) } else { 0.0 };
            assert!(error < 2e-5, "{slices:?} {p:?}: {error}");
            let reduced = gpu.counts().kernels.contains_key("matmul_reduce");
            assert_eq!(reduced, k > 512, "{slices:?} {p:?}");
        }
        let Some(gpu) = software(GpuOptions { slices, rung: Some(Rung::FewRows), ..checked() }) else { return };
        let error = difference(&gpu, Product { layout: Layout::NN, m: 4, n: 70, k: 900, alpha: 1.0 }, DType::F16);
        assert!(error < 2e-5, "{slices:?}: {error}");
    }
}

/// The kernels among which times decide differ in no bit, so that no result depends on a time.
#[test]
fn what_is_chosen_changes_no_bit() {
    for (layout, m, n, k) in [(Layout::NT, 150, 140, 77), (Layout::TN, 40, 36, 1200)] {
        let mut first: Option<Vec<u32>> = None;
        for rung in SAME_ORDER {
            let Some(gpu) = software(GpuOptions { rung: Some(rung), ..GpuOptions::default() }) else { return };
            let (a, b) = (up(&gpu, &values(m * k, 1)), up(&gpu, &values(n * k, 2)));
            let p = Product { layout, m, n, k, alpha: 0.3 };
            let c = down(&gpu, &gpu.matmul(p, &a, &b, None).unwrap());
            let bits: Vec<u32> = c.iter().map(|v| v.to_bits()).collect();
            assert_eq!(*first.get_or_insert_with(|| bits.clone()), bits, "{rung:?} {p:?}");
        }
    }
}

/// Times are taken once for each class of shapes, kept in a file, and read from there.
#[test]
fn the_choice_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let options = || GpuOptions { tune: true, cache: Some(dir.path().into()), hardware_rungs: true, ..checked() };
    let Some(gpu) = software(options()) else { return };
    let product = |gpu: &Gpu, m: usize| {
        let p = Product { layout: Layout::NT, m, n: 40, k: 36, alpha: 1.0 };
        down(gpu, &gpu.matmul(p, &up(gpu, &values(m * 36, 1)), &up(gpu, &values(40 * 36, 2)), None).unwrap())
    };
    let found = product(&gpu, 50);
    product(&gpu, 60);
    let choices = gpu.measured_choices();
    assert_eq!(choices.len(), 1, "{choices:?}");
    let n = gpu.counts().total().dispatches;
    assert!(n > 12, "{n} dispatches");
    drop(gpu);
    let gpu = software(options()).unwrap();
    assert_eq!(gpu.measured_choices(), choices);
    assert_eq!(product(&gpu, 50), found);
    assert_eq!(gpu.counts().total().dispatches, 1);
}

/// Compiled pipelines are kept where the driver lets them, and a damaged file does no harm.
#[test]
fn pipelines_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let options = || GpuOptions { cache: Some(dir.path().into()), ..checked() };
    let twice = |gpu: &Gpu| down(gpu, &gpu.unary(Unary::Affine(2.0, 0.0), &up(gpu, &[3.0]), 1).unwrap());
    let Some(gpu) = software(options()) else { return };
    assert_eq!(twice(&gpu), [6.0]);
    let keeps = has("pipeline cache");
    drop(gpu);
    let files = || std::fs::read_dir(dir.path()).unwrap().flat_map(|d| std::fs::read_dir(d.unwrap().path()).unwrap());
    let kept: Vec<_> = files().map(|f| f.unwrap().path()).filter(|p| p.ends_with("pipelines.bin")).collect();
    assert_eq!(kept.len(), usize::from(keeps));
    for path in kept {
        std::fs::write(&path, b"not a cache").unwrap();
        assert_eq!(twice(&software(options()).unwrap()), [6.0]);
    }
}

/// Random blocks of every quantised type, in kernels that decode them: the product is that of the decoded weights.
#[test]
fn quantised_weights_in_the_kernel() {
    let all = [Quant::Q4_0, Quant::Q4_1, Quant::Q5_0, Quant::Q5_1, Quant::Q8_0, Quant::Q4_K, Quant::Q5_K, Quant::Q6_K];
    for (rung, quants) in [(Rung::RegisterTiled, &all[..]), (Rung::Blocked, &all[..1]), (Rung::FewRows, &all[1..5])] {
        let Some(gpu) = software(GpuOptions { rung: Some(rung), ..checked() }) else { return };
        for &q in quants {
            // Rows of B are whole blocks: k in NT, n in NN.
            for (layout, m, n, k) in [(Layout::NT, 5, 67, 3 * q.block_len()), (Layout::NN, 7, 2 * q.block_len(), 35)] {
                let weights = blocks(q, n * k / q.block_len());
                let p = Product { layout, m, n, k, alpha: 1.0 };
                let a = values(m * k, 4);
                let host = Buffer::host(weights.clone());
                let want = Reference.matmul(p, &Buffer::from_f32(a.clone()), &host, None).unwrap();
                gpu.reset_counts();
                let found = down(&gpu, &gpu.matmul(p, &up(&gpu, &a), &gpu.upload(weights).unwrap(), None).unwrap());
                let error = largest(&found, want.f32().unwrap()) / (k as f32).sqrt();
                assert!(error < 1e-4, "{rung:?} {q:?} {p:?}: {error}");
                let decoded_before = gpu.counts().kernels.contains_key("cast");
                assert_eq!(decoded_before, q.block_len() == 256, "{rung:?} {q:?}");
            }
        }
    }
}

/// Blocks of random integers whose factors are small powers of two.
fn blocks(q: Quant, n: usize) -> Host {
    let stream = Stream::new(9, q.block_bytes() as u64);
    let mut bytes: Vec<u8> = (0..(n * q.block_bytes()) as u64).map(|i| stream.below(i, 256) as u8).collect();
    let factors: &[usize] = match q {
        Quant::Q4_0 | Quant::Q5_0 | Quant::Q8_0 => &[0],
        Quant::Q6_K => &[208],
        _ => &[0, 2],
    };
    let size = if q.block_len() == 256 { 2e-3 } else { 0.05 };
    for block in bytes.chunks_mut(q.block_bytes()) {
        for &at in factors {
            block[at..at + 2].copy_from_slice(&half::f16::from_f32(size).to_le_bytes());
        }
    }
    Host::Blocks(DType::Quant(q), bytes)
}
