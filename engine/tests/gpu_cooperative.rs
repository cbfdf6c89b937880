//! Products on matrix units, where a software adapter has them (Mesa 26's has: 8 x 8; tests/with-mesa.sh gets it): odd sizes,
//! numbers of every magnitude that f32 has, numbers that are not finite, matrices in windows. Elsewhere the tests say that
//! they are skipped, and fail where LAPIDARY_COOPERATIVE is `required`. `engine::gpu` checks everywhere that the kernel is valid.
#![cfg(feature = "gpu")]
use engine::backend::*;
use engine::buffer::{Buffer, Host};
use engine::dtype::DType;
use engine::gpu::{AdapterKind, AdapterSelect, Gpu, GpuOptions, Plant};
use engine::random::Stream;
use half::f16;
use std::sync::Arc;

/// The software adapter with f16 operands on matrix units, or a visible skip.
fn cooperative(options: GpuOptions) -> Option<Arc<Gpu>> {
    let has = |feature| Gpu::list().iter().any(|d| d.kind == AdapterKind::Software && d.features.contains(&feature));
    if has("cooperative matrices") {
        let options = GpuOptions { f16_operands: true, checked: true, ..options };
        return Some(Gpu::open_with(AdapterSelect::Software, options).unwrap());
    }
    let required = std::env::var("LAPIDARY_COOPERATIVE").is_ok_and(|v| v == "required");
    assert!(!required, "no software adapter with cooperative matrices: {:?}", Gpu::list());
    eprintln!("SKIPPED: no software adapter with cooperative matrices; tests/with-mesa.sh gets one");
    None
}

/// A product α op(A) op(B) (+ C) with B in f16: A as given, B rounded.
struct Case {
    p: Product,
    a: Vec<f32>,
    b: Vec<f16>,
    c: Option<Vec<f32>>,
}

impl Case {
    fn run(&self, gpu: &Gpu) -> Vec<f32> {
        let up = |v: &[f32]| gpu.upload(Host::F32(v.to_vec())).unwrap();
        let b = gpu.upload(Host::Half(DType::F16, self.b.iter().map(|b| b.to_bits()).collect())).unwrap();
        let before = gpu.counts();
        let c: Buffer = gpu.matmul(self.p, &up(&self.a), &b, self.c.as_deref().map(up)).unwrap();
        let dispatches =
            |counts: &engine::gpu::Counts| counts.kernels.get("matmul_cooperative").map_or(0, |w| w.dispatches);
        assert!(dispatches(&gpu.counts()) > dispatches(&before), "{:?} on another kernel", self.p);
        gpu.download_f32(&[&c]).unwrap().remove(0)
    }

    fn b_at(&self, l: usize, j: usize) -> f64 {
        let at = if self.p.layout == Layout::NT { j * self.p.k + l } else { l * self.p.n + j };
        self.b[at].to_f64()
    }

    /// C[i, j] in f64, and how far a product of f16 operands and f32 sums may be from it: 2⁻¹⁰ Σ|a b| for the rounding of A
    /// (to nearest or towards 0), k 2⁻²³ Σ|a b| for that of sums, and what a row's smallest numbers lose below f16's,
    /// 2⁻²⁴ / 2¹⁴ of its largest.
    fn exact(&self, i: usize, j: usize) -> (f64, f64) {
        let Product { k, n, alpha, .. } = self.p;
        let row = &self.a[i * k..(i + 1) * k];
        let largest = row.iter().fold(0f64, |m, a| m.max(f64::from(a.abs())));
        let (mut sum, mut size, mut b_size) = (0.0, 0.0, 0.0);
        for (l, &a) in row.iter().enumerate() {
            let b = self.b_at(l, j);
            sum += f64::from(a) * b;
            size += (f64::from(a) * b).abs();
            b_size += b.abs();
        }
        let start = self.c.as_ref().map_or(0.0, |c| f64::from(c[i * n + j]));
        let alpha = f64::from(alpha);
        let bound =
            alpha.abs() * (size * (2f64.powi(-10) + k as f64 * 2f64.powi(-23)) + largest * b_size * 2f64.powi(-38));
        (
            alpha * sum + start,
            bound + 2f64.powi(-23) * (start.abs() + (alpha * sum).abs()) + f64::from(f32::MIN_POSITIVE),
        )
    }

    /// The largest error over what is allowed.
    fn worst(&self, found: &[f32]) -> f64 {
        let n = self.p.n;
        assert_eq!(found.len(), self.p.m * n);
        let error = |(at, &found): (usize, &f32)| {
            let (want, bound) = self.exact(at / n, at % n);
            (f64::from(found) - want).abs() / bound
        };
        found.iter().enumerate().map(error).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
    }
}

fn normals(n: usize, seed: u64) -> Vec<f32> {
    let stream = Stream::new(seed, 0);
    (0..n as u64).map(|i| stream.normal(i)).collect()
}

fn case(layout: Layout, [m, n, k]: [usize; 3], alpha: f32, accumulate: bool) -> Case {
    let b = normals(n * k, 2).into_iter().map(f16::from_f32).collect();
    let c = accumulate.then(|| normals(m * n, 3));
    Case { p: Product { layout, m, n, k, alpha }, a: normals(m * k, 1), b, c }
}

const LAYOUTS: [Layout; 2] = [Layout::NT, Layout::NN];

/// Sizes that fill no tile, odd ones and ones below a matrix of the units.
#[test]
fn odd_sizes() {
    let Some(gpu) = cooperative(GpuOptions::default()) else { return };
    let sizes = [
        [1, 1, 1],
        [1, 3, 5],
        [3, 1, 7],
        [2, 33, 8],
        [7, 9, 15],
        [8, 8, 16],
        [9, 100, 17],
        [31, 32, 33],
        [33, 31, 9],
        [64, 64, 64],
        [65, 70, 51],
        [37, 129, 1],
        [40, 24, 257],
    ];
    for layout in LAYOUTS {
        for (i, size) in sizes.into_iter().enumerate() {
            let case = case(layout, size, [1.0, -0.3][i % 2], i % 3 == 0);
            let worst = case.worst(&case.run(&gpu));
            assert!(worst <= 1.0, "{:?}: {worst} of what is allowed", case.p);
        }
    }
}

/// Numbers that f16 holds give what f32 gives, and a depth of 4099 ones adds up to 4099, where f16 would stop at 2048.
#[test]
fn sums_are_f32() {
    let Some(gpu) = cooperative(GpuOptions::default()) else { return };
    for layout in LAYOUTS {
        let (m, n, k) = (9, 10, 4099);
        let p = Product { layout, m, n, k, alpha: 1.0 };
        let ones = Case { p, a: vec![1.0; m * k], b: vec![f16::ONE; n * k], c: None };
        assert_eq!(ones.run(&gpu), vec![4099.0; m * n]);
        let mut exact = case(layout, [33, 70, 51], 0.5, false);
        exact.a.iter_mut().for_each(|a| *a = f16::from_f32(*a).to_f32());
        for (at, &found) in exact.run(&gpu).iter().enumerate() {
            let (want, _) = exact.exact(at / 70, at % 70);
            assert!((f64::from(found) - want).abs() < 1e-4, "{want} {found}");
        }
    }
}

/// Rows from 2⁻¹²⁰ to 2¹⁰⁰, rows whose numbers are 2⁶⁰ apart, weights at f16's limits: nothing becomes 0 or infinite that is not.
#[test]
fn every_magnitude() {
    let Some(gpu) = cooperative(GpuOptions::default()) else { return };
    for layout in LAYOUTS {
        let mut case = case(layout, [45, 21, 39], 1.0, false);
        let power = |i: usize| 2f32.powi(5 * i as i32 - 120);
        for (i, row) in case.a.chunks_mut(39).enumerate() {
            row.iter_mut().for_each(|a| *a *= power(i));
            if i % 3 == 1 {
                row.iter_mut().step_by(2).for_each(|a| *a *= 2f32.powi(-60));
            }
            if i == 7 {
                row.fill(0.0);
            }
        }
        for (at, weight) in [f16::MAX, f16::MIN, f16::MIN_POSITIVE, f16::MIN_POSITIVE_SUBNORMAL].into_iter().enumerate()
        {
            case.b[50 * at] = weight;
        }
        let found = case.run(&gpu);
        let worst = case.worst(&found);
        assert!(worst <= 1.0, "{layout:?}: {worst} of what is allowed");
        let zeros = |i: usize| found[i * 21..(i + 1) * 21].iter().filter(|v| **v == 0.0).count();
        assert_eq!(
            (0..45).map(zeros).collect::<Vec<_>>(),
            (0..45).map(|i| if i == 7 { 21 } else { 0 }).collect::<Vec<_>>()
        );

        // The same without scales: small rows are lost, large ones overflow.
        let unscaled = Plant { kernel: "row_scales", from: "scale[row] = bitcast<f32>(bits)", to: "scale[row] = 1.0" };
        let faulty = cooperative(GpuOptions { planted: vec![unscaled], ..GpuOptions::default() }).unwrap();
        let found = case.run(&faulty);
        assert!(found[..21].iter().all(|v| *v == 0.0) && found[44 * 21..].iter().all(|v| !v.is_finite()), "{found:?}");
    }
}

/// A row's scale is its own: alone it gives the bits that it gives among others, and each time the same.
#[test]
fn a_row_alone() {
    let Some(gpu) = cooperative(GpuOptions::default()) else { return };
    for layout in LAYOUTS {
        let mut all = case(layout, [35, 40, 70], 1.0, false);
        all.a[..70].iter_mut().for_each(|a| *a *= 1e20);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let found = all.run(&gpu);
        assert_eq!(bits(&all.run(&gpu)), bits(&found));
        for i in [0, 8, 34] {
            let p = Product { m: 1, ..all.p };
            let alone = Case { p, a: all.a[i * 70..(i + 1) * 70].to_vec(), b: all.b.clone(), c: None };
            assert_eq!(bits(&alone.run(&gpu)), bits(&found[i * 40..(i + 1) * 40]), "{layout:?} row {i}");
        }
    }
}

/// What is not finite stays so, in its own row; an infinite weight is not made finite.
#[test]
fn numbers_that_are_not_finite() {
    let Some(gpu) = cooperative(GpuOptions::default()) else { return };
    for layout in LAYOUTS {
        let mut case = case(layout, [20, 18, 24], 1.0, false);
        let sound = case.run(&gpu);
        (case.a[24 * 3 + 5], case.a[24 * 17]) = (f32::INFINITY, f32::NAN);
        let found = case.run(&gpu);
        for (at, (found, sound)) in found.iter().zip(&sound).enumerate() {
            let expected = if [3, 17].contains(&(at / 18)) { !found.is_finite() } else { found == sound };
            assert!(expected, "{layout:?} {at}: {found} {sound}");
        }
        let mut case = Case { a: normals(20 * 24, 1), ..case };
        case.b[0] = f16::INFINITY;
        assert!(case.run(&gpu).chunks(18).all(|row| !row[0].is_finite()), "{layout:?}");
    }
}

/// Matrices larger than a binding, cut along every side.
#[test]
fn matrices_in_windows() {
    let Some(gpu) = cooperative(GpuOptions { max_binding_bytes: Some(4 << 10), ..GpuOptions::default() }) else {
        return;
    };
    for layout in LAYOUTS {
        for size in [[67, 90, 75], [9, 33, 300]] {
            let case = case(layout, size, 0.5, true);
            let worst = case.worst(&case.run(&gpu));
            // Sums of pieces are rounded once more each.
            assert!(worst <= 1.0, "{:?}: {worst} of what is allowed", case.p);
        }
    }
}

/// Only products with f16 weights that are not trained take the matrix units.
#[test]
fn other_products_stay_f32() {
    let Some(gpu) = cooperative(GpuOptions::default()) else { return };
    let x = gpu.upload(Host::F32(normals(400, 1))).unwrap();
    let half = gpu.cast(&x, 400, DType::F16).unwrap();
    let brief = gpu.cast(&x, 400, DType::BF16).unwrap();
    let p = Product { layout: Layout::NT, m: 20, n: 20, k: 20, alpha: 1.0 };
    gpu.reset_counts();
    gpu.matmul(p, &x, &x, None).unwrap();
    gpu.matmul(p, &x, &brief, None).unwrap();
    gpu.matmul(Product { layout: Layout::TN, ..p }, &x, &x, None).unwrap();
    assert!(!gpu.counts().kernels.contains_key("matmul_cooperative"));
    gpu.matmul(p, &x, &half, None).unwrap();
    assert_eq!(gpu.counts().kernels["matmul_cooperative"].dispatches, 1);
    assert_eq!(gpu.counts().kernels["row_scales"].dispatches, 1);
}
