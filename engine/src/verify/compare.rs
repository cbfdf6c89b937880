//! Two results of one case, value by value.
use super::Tolerance;
use crate::backend::Backend;
use crate::buffer::{Buffer, Host};
use crate::error::Result;

/// What an error is measured against.
#[derive(Clone, Copy, Debug)]
pub(super) enum ErrorScale {
    /// Every bit the same.
    Exact,
    /// The expected value itself, but at least this: the size of what was added up to it.
    AtLeast(f64),
    /// The largest expected value in its row of n.
    Row(usize),
    /// The largest expected value, but at least this.
    Tensor(f64),
    /// As `Tensor(1.0)` times this: by how much the kernel's mathematics magnifies the rounding of what it is given.
    Magnified(f64),
}

/// One result of a case, still on the device.
pub(super) struct Compared {
    what: &'static str,
    buffer: Buffer,
    scale: ErrorScale,
}

pub(super) fn out(what: &'static str, buffer: Buffer, scale: ErrorScale) -> Compared {
    Compared { what, buffer, scale }
}

/// One result of a case in host memory.
pub(super) struct Downloaded {
    what: &'static str,
    host: Host,
    scale: ErrorScale,
}

impl Downloaded {
    pub(super) fn exact(what: &'static str, host: Host) -> Self {
        Downloaded { what, host, scale: ErrorScale::Exact }
    }
}

pub(super) fn download(device: &dyn Backend, outputs: Vec<Compared>) -> Result<Vec<Downloaded>> {
    let get = |o: Compared| Ok(Downloaded { what: o.what, host: device.download(&o.buffer)?, scale: o.scale });
    outputs.into_iter().map(get).collect()
}

/// The largest relative error over all results, and where it is.
pub(super) fn compare(expected: &[Downloaded], found: &[Downloaded], tolerance: Tolerance) -> (f64, String) {
    let mut worst = (0.0, String::new());
    for (expected, found) in expected.iter().zip(found) {
        let error = match (&expected.host, &found.host) {
            (Host::F32(b), Host::F32(a)) => compare_f32(expected.what, b, a, expected.scale, tolerance),
            (Host::U32(b), Host::U32(a)) => compare_exact(expected.what, b, a),
            (Host::Half(d, b), Host::Half(e, a)) if d == e => compare_exact(expected.what, b, a),
            (b, a) => (f64::INFINITY, format!("{} is {}, not {}", expected.what, a.dtype().name(), b.dtype().name())),
        };
        if error.0 > worst.0 {
            worst = error;
        }
    }
    worst
}

fn compare_exact<T: PartialEq + std::fmt::Debug>(what: &str, expected: &[T], found: &[T]) -> (f64, String) {
    if expected.len() != found.len() {
        return (f64::INFINITY, format!("{what} has {} elements, {} expected", found.len(), expected.len()));
    }
    match (0..expected.len()).find(|&i| expected[i] != found[i]) {
        Some(i) => (f64::INFINITY, format!("{what}[{i}]: {:?} found, {:?} expected", found[i], expected[i])),
        None => (0.0, String::new()),
    }
}

fn compare_f32(what: &str, expected: &[f32], found: &[f32], scale: ErrorScale, tolerance: Tolerance) -> (f64, String) {
    if let ErrorScale::Exact = scale {
        let differs = |(b, a): (&f32, &f32)| b.to_bits() != a.to_bits();
        return match expected.iter().zip(found).position(differs) {
            Some(i) => {
                (f64::INFINITY, format!("{what}[{i}]: {:?} found, exactly {:?} expected", found[i], expected[i]))
            }
            None => compare_exact(what, &[expected.len()], &[found.len()]),
        };
    }
    if expected.len() != found.len() {
        return (f64::INFINITY, format!("{what} has {} elements, {} expected", found.len(), expected.len()));
    }
    let largest = |values: &[f32]| values.iter().fold(0.0, |m: f64, &x| m.max(f64::from(x.abs())));
    let (span, least, factor) = match scale {
        ErrorScale::Exact => (1, 0.0, 1.0),
        ErrorScale::AtLeast(least) => (1, least, 1.0),
        ErrorScale::Row(n) => (n.max(1), 0.0, 1.0),
        ErrorScale::Tensor(least) => (expected.len().max(1), least, 1.0),
        ErrorScale::Magnified(factor) => (expected.len().max(1), 1.0, factor),
    };
    // |a − b| ≤ absolute + relative · scale  ⟺  |a − b| / (scale + absolute / relative) ≤ relative
    let floor = tolerance.absolute / tolerance.relative;
    let mut worst = (0.0, 0);
    for (row, (expected, found)) in expected.chunks(span).zip(found.chunks(span)).enumerate() {
        let scale = largest(expected).max(least) * factor + floor;
        for (i, (&b, &a)) in expected.iter().zip(found).enumerate() {
            let error = if a == b { 0.0 } else { (f64::from(a) - f64::from(b)).abs() / scale };
            let error = if error.is_nan() { f64::INFINITY } else { error };
            if error > worst.0 {
                worst = (error, row * span + i);
            }
        }
    }
    let (error, i) = worst;
    if error == 0.0 {
        return (0.0, String::new());
    }
    (error, format!("{what}[{i}]: {:?} found, {:?} expected", found[i], expected[i]))
}
