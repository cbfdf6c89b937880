//! Every kernel of a backend compared with the reference on odd shapes: what tests and benches run.
//!
//! A kernel is run twice on the same random data, by the backend and by [`Reference`]; each case is one line of the
//! result. Gradients are taken at random upstream gradients, and the values that a forward saves for its backward come
//! from the reference, so that a case fails only for the kernel it names.
mod attention;
mod compare;
mod elementwise;
#[cfg(test)]
mod faults;
mod invariance;
#[cfg(all(test, feature = "gpu"))]
mod kernel_faults;
mod log_probs;
mod matmul;
mod norms;
mod optimise;
mod rows;
mod sample;

use crate::backend::{Backend, Device, Memory};
use crate::buffer::{Buffer, Host};
use crate::dtype::{DType, Quant};
use crate::error::Result;
use crate::random::Stream;
use crate::reference::Reference;
use compare::{Compared, compare};
use std::fmt;

/// How far a value may be from the reference's: |a − b| ≤ absolute + relative · scale, where the scale is |b|, or the
/// largest |b| of its row or tensor where sums cancel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// What is allowed near 0, in the value's own unit.
    pub absolute: f64,
    /// What is allowed beside the scale, as a share of it.
    pub relative: f64,
}

impl Tolerance {
    /// For kernels that compute in f32 throughout.
    pub const FLOAT32: Tolerance = Tolerance { absolute: 1e-6, relative: 1e-5 };
    /// For products whose operands are rounded to f16 (11 bits): cooperative matrices.
    pub const FLOAT16: Tolerance = Tolerance { absolute: 1e-4, relative: 2e-3 };
}

/// One case of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The kernel and its sizes; starts with the kernel's name in [`Backend`].
    pub name: String,
    /// The largest error, relative to the scale (see [`Tolerance`]) with the absolute tolerance as its floor; it passes
    /// up to `Tolerance::relative`. Infinite for an error, a wrong length, or a value that had to be exact and is not.
    pub max_error: f64,
    /// Whether `max_error` is within the tolerance.
    pub passed: bool,
    /// Where the largest error is and both values, or the error's text.
    pub detail: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let verdict = if self.passed { "ok    " } else { "FAILED" };
        write!(f, "{verdict} {:<64} {:.1e}", self.name, self.max_error)?;
        if self.passed { Ok(()) } else { write!(f, "  {}", self.detail) }
    }
}

/// Runs every kernel of `device` against the reference.
pub fn verify_backend(device: &Device, tolerance: Tolerance) -> Vec<Report> {
    let mut suite = Suite::new(&**device, tolerance);
    cases(&mut suite);
    suite.reports
}

/// The kernels of attention alone, forward and backward, in the cases whose names contain `only`: to compare their rungs.
pub fn verify_attention(device: &Device, tolerance: Tolerance, only: &str) -> Vec<Report> {
    let mut suite = Suite::new(&**device, tolerance);
    suite.only = only.into();
    attention::cases(&mut suite);
    suite.reports
}

/// Every elementwise kernel on buffers longer than 65,535 workgroups of 256: 17 million elements and more. Takes seconds and about
/// 500 MB, as a large vocabulary does.
pub fn verify_large(device: &Device, tolerance: Tolerance) -> Vec<Report> {
    let mut suite = Suite::new(&**device, tolerance);
    elementwise::large_cases(&mut suite);
    suite.reports
}

/// Whether a number depends only on the values it is computed from: a call repeated, a row alone, a sequence without
/// its batch and a token decoded instead of re-scored give the same bits.
pub fn verify_invariance(device: &Device) -> Vec<Report> {
    let mut suite = Suite::new(&**device, Tolerance::FLOAT32);
    invariance::cases(&mut suite);
    suite.reports
}

fn cases(suite: &mut Suite) {
    elementwise::cases(suite);
    matmul::cases(suite);
    rows::cases(suite);
    norms::cases(suite);
    attention::cases(suite);
    log_probs::cases(suite);
    sample::cases(suite);
    optimise::cases(suite);
}

/// The cases run so far, and against whom.
struct Suite<'a> {
    device: &'a dyn Backend,
    tolerance: Tolerance,
    reports: Vec<Report>,
    /// Runs the cases of this kernel only, and only up to the first that fails.
    first_failure_of: Option<&'static str>,
    /// Runs only cases whose names contain this.
    only: String,
}

impl<'a> Suite<'a> {
    fn new(device: &'a dyn Backend, tolerance: Tolerance) -> Self {
        Suite { device, tolerance, reports: Vec::new(), first_failure_of: None, only: String::new() }
    }

    fn wanted(&self, name: &str) -> bool {
        let of_kernel = |kernel| name.split([' ', ',']).next() == Some(kernel);
        let stops = |kernel| of_kernel(kernel) && self.reports.iter().all(|r| r.passed);
        name.contains(&self.only) && self.first_failure_of.is_none_or(stops)
    }

    /// Runs `run` on both backends and compares what it returns.
    fn case(&mut self, name: impl Into<String>, run: impl Fn(&dyn Backend) -> Result<Vec<Compared>>) {
        let name = name.into();
        if !self.wanted(&name) {
            return;
        }
        let expected = run(&Reference).and_then(|outputs| compare::download(&Reference, outputs));
        let found = run(self.device).and_then(|outputs| compare::download(self.device, outputs));
        self.report(name, expected, found);
    }

    /// Runs two computations on the device; their results must be the same bits.
    fn same_bits(
        &mut self,
        name: impl Into<String>,
        one: impl Fn(&dyn Backend) -> Result<Vec<f32>>,
        other: impl Fn(&dyn Backend) -> Result<Vec<f32>>,
    ) {
        let exact = |values: Vec<f32>| vec![compare::Downloaded::exact("bits", Host::F32(values))];
        let (expected, found) = (one(self.device).map(exact), other(self.device).map(exact));
        self.report(name.into(), expected, found);
    }

    fn report(
        &mut self,
        name: String,
        expected: Result<Vec<compare::Downloaded>>,
        found: Result<Vec<compare::Downloaded>>,
    ) {
        let (max_error, detail) = match (expected, found) {
            (Ok(expected), Ok(found)) => compare(&expected, &found, self.tolerance),
            (Err(error), _) => (f64::INFINITY, format!("nothing to compare with: {error}")),
            (_, Err(error)) => (f64::INFINITY, error.to_string()),
        };
        self.reports.push(Report { name, max_error, passed: max_error <= self.tolerance.relative, detail });
    }
}

/// Random inputs of one case; every call draws from a new stream.
struct Data {
    seed: u64,
    stream: u64,
}

impl Data {
    fn new(seed: usize) -> Self {
        Data { seed: seed as u64, stream: 0 }
    }
    fn stream(&mut self) -> Stream {
        self.stream += 1;
        Stream::new(self.seed, self.stream)
    }
    /// Standard normal.
    fn normals(&mut self, n: usize) -> Vec<f32> {
        let stream = self.stream();
        (0..n as u64).map(|i| stream.normal(i)).collect()
    }
    fn scaled(&mut self, n: usize, factor: f32) -> Vec<f32> {
        self.normals(n).iter().map(|x| factor * x).collect()
    }
    /// Integers below `bound`, with repeats.
    fn indices(&mut self, n: usize, bound: usize) -> Vec<u32> {
        let stream = self.stream();
        (0..n as u64).map(|i| stream.below(i, bound as u64) as u32).collect()
    }
    /// `n` distinct integers below `bound`, in random order.
    fn distinct(&mut self, n: usize, bound: usize) -> Vec<u32> {
        self.stream().permutation(bound).into_iter().take(n).map(|i| i as u32).collect()
    }
}

fn f32s(device: &dyn Backend, values: &[f32]) -> Result<Buffer> {
    device.upload(Host::F32(values.to_vec()))
}

fn u32s(device: &dyn Backend, values: &[u32]) -> Result<Buffer> {
    device.upload(Host::U32(values.to_vec()))
}

const QUANTS: [Quant; 8] =
    [Quant::Q4_0, Quant::Q4_1, Quant::Q5_0, Quant::Q5_1, Quant::Q8_0, Quant::Q4_K, Quant::Q5_K, Quant::Q6_K];

/// `n` random weights in quantised blocks, about standard normal: random bytes but for the half-precision factors.
fn quantised(quant: Quant, data: &mut Data, n: usize) -> Host {
    // where the factors lie in a block, and what makes weights of about 1 of them
    let factors: &[(usize, f32)] = match quant {
        Quant::Q4_0 => &[(0, 0.2)],
        Quant::Q4_1 => &[(0, 0.2), (2, 1.0)],
        Quant::Q5_0 => &[(0, 0.1)],
        Quant::Q5_1 => &[(0, 0.1), (2, 1.0)],
        Quant::Q8_0 => &[(0, 0.0135)],
        Quant::Q4_K => &[(0, 0.004), (2, 0.03)],
        Quant::Q5_K => &[(0, 0.002), (2, 0.03)],
        Quant::Q6_K => &[(208, 0.0008)],
    };
    let bytes = quant.block_bytes();
    let mut blocks: Vec<u8> = data.indices(n / quant.block_len() * bytes, 256).iter().map(|&b| b as u8).collect();
    let sizes = data.normals(blocks.len() / bytes * factors.len());
    for (block, sizes) in blocks.chunks_mut(bytes).zip(sizes.chunks(factors.len())) {
        for (&(at, factor), size) in factors.iter().zip(sizes) {
            block[at..at + 2].copy_from_slice(&half::f16::from_f32(factor * size).to_le_bytes());
        }
    }
    Host::Blocks(DType::Quant(quant), blocks)
}

/// `values` as float32, float16 or bfloat16, rounded by the reference.
fn weights(device: &dyn Backend, values: &[f32], dtype: DType) -> Result<Buffer> {
    let rounded = Reference.cast(&Buffer::from_f32(values.to_vec()), values.len(), dtype)?;
    device.upload(Reference.download(&rounded)?)
}
