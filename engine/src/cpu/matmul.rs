//! Matrix products: C ← α·op(A)·op(B) (+ C), split into rectangles of C that tasks own.
//!
//! Every element of C is computed in one order, whatever tile, task or instruction set it falls to:
//!
//! ```text
//! for each block K of 256 along k:   s = 0;   for p in K ascending: s = fma(a[p], b[p], s);   c = fma(α, s, c)
//! ```
//!
//! where the first block gives c = α s if there is no C to add to. So a row alone equals the row among a thousand.
//!
//! Worked example: k = 258, α = 1, a = (2²⁴, 0, …, 0, 1, 1), the ones at p = 256 and 257, and b all ones. f32 has no number 2²⁴ + 1:
//!
//! ```text
//! block 1:   s = 2²⁴                    c = 2²⁴
//! block 2:   s = 1 + 1 = 2              c = 2²⁴ + 2
//! all along: 2²⁴ + 1 rounds to 2²⁴, and so does the next: 2²⁴ would be the sum
//! ```
mod kernel;
mod pack;
mod packed;

use super::check;
use super::panels::Panels;
use super::threads::{Shared, build};
use super::weights::HostWeights;
use super::{Cpu, level::Level, threads::Threads};
use crate::backend::{Layout, Product, Products};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use kernel::Rectangle;
use packed::PackedColumns;
use std::sync::Arc;

/// Length of a block of sums along k: part of the definition of the result, the same for every machine.
pub(crate) const K_BLOCK: usize = 256;

/// One product with checked operands.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub p: Product,
    pub a: &'a [f32],
    pub b: HostWeights<'a>,
    /// [m, n]; not yet written unless `accumulate`.
    pub c: Shared<f32>,
    pub accumulate: bool,
}

impl Products for Cpu {
    /// α·op(A)·op(B), added to `c` if given.
    fn matmul(&self, p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer> {
        let Product { layout, m, n, k, .. } = p;
        let a = check::f32s("matmul", "A", a, check::size("matmul", &[m, k])?)?;
        if let Some(w) = b.device::<Panels>() {
            if (w.n, w.k) != if layout == Layout::NT { (n, k) } else { (k, n) } {
                let detail = format!("a packed weight [{}, {}]; {p:?}", w.n, w.k);
                return Err(Error::shape("matmul", detail));
            }
            if layout == Layout::NT {
                return packed(self, p, a, w, c);
            }
        }
        let (b_rows, b_width) = if layout == Layout::NT { (n, k) } else { (k, n) };
        let b = HostWeights::new("matmul", "B", b, b_rows, b_width)?;
        if layout == Layout::TN && !matches!(b, HostWeights::F32(_)) {
            return Err(Error::Unsupported("matmul: B must be float32 in layout TN (the gradient to a weight)".into()));
        }
        let size = check::size("matmul", &[m, n])?;
        match c {
            Some(mut c) => {
                let to = Shared::of(check::f32s_mut("matmul", "C", &mut c, size)?);
                if k > 0 {
                    run(&self.threads, self.level, Job { p, a, b, c: to, accumulate: true });
                }
                Ok(c)
            }
            None if k == 0 => Ok(Buffer::from_f32(vec![0.0; size])),
            None => {
                // SAFETY: without `accumulate` the first block of k writes all of C.
                let c =
                    unsafe { build(size, |c| run(&self.threads, self.level, Job { p, a, b, c, accumulate: false }))? };
                Ok(Buffer::from_f32(c))
            }
        }
    }

    fn pack_weight(&self, w: &Buffer, n: usize, k: usize) -> Result<Buffer> {
        if w.device::<Panels>().is_some() {
            return Ok(w.clone());
        }
        let weights = HostWeights::new("pack_weight", "W", w, n, k)?;
        Ok(Buffer::Device(Arc::new(Panels::pack(&self.threads, weights, w.dtype(), n, k)?)))
    }
}

/// The product with a packed weight in layout NT, which reads it as it stands.
fn packed(cpu: &Cpu, p: Product, a: &[f32], w: &Panels, c: Option<Buffer>) -> Result<Buffer> {
    let Product { layout, m, n, k, alpha } = p;
    let fill = |c: Shared<f32>, accumulate: bool| {
        let Grid { columns: tasks, .. } = grid(layout, m, n, k, cpu.threads.count());
        let width = n.div_ceil(tasks).max(1).next_multiple_of(96);
        cpu.threads.each(n.div_ceil(width), |task| {
            let columns = task * width..((task + 1) * width).min(n);
            cpu.level.run(PackedColumns { m, alpha, a, w, c, accumulate, columns });
        });
    };
    let size = check::size("matmul", &[m, n])?;
    match c {
        Some(mut c) => {
            fill(Shared::of(check::f32s_mut("matmul", "C", &mut c, size)?), true);
            Ok(c)
        }
        None if k == 0 => Ok(Buffer::from_f32(vec![0.0; size])),
        // SAFETY: without `accumulate` the first block of k writes all of C.
        None => Ok(Buffer::from_f32(unsafe { build(size, |c| fill(c, false))? })),
    }
}

/// Cuts C into rectangles, one for each task.
fn run(threads: &Threads, level: Level, job: Job) {
    let Product { layout, m, n, k, .. } = job.p;
    let Grid { rows, columns } = grid(layout, m, n, k, threads.count());
    // Multiples of the largest tiles, so that no rectangle but the last has rims.
    let height = m.div_ceil(rows).next_multiple_of(24);
    let width = n.div_ceil(columns).next_multiple_of(96);
    let (rows, columns) = (m.div_ceil(height), n.div_ceil(width));
    threads.each(rows * columns, |task| {
        let (i, j) = (task / columns * height, task % columns * width);
        level.run(Rectangle { job, rows: i..(i + height).min(m), columns: j..(j + width).min(n) });
    });
}

/// Into how many rectangles C is cut, down and across.
struct Grid {
    rows: usize,
    columns: usize,
}

/// Across costs another reading of A, down another packing of B.
fn grid(layout: Layout, m: usize, n: usize, k: usize, threads: usize) -> Grid {
    /// Multiply-adds that are worth waking a thread for.
    const WORTH: usize = 1 << 17;
    if threads == 1 || m.saturating_mul(n).saturating_mul(k) < 2 * WORTH {
        return Grid { rows: 1, columns: 1 };
    }
    // Many tasks where C is large, so that a thread that is slower for a while does not keep the others waiting.
    let most = (m * n * k / WORTH).min(if m.max(n) > 8192 { 16 } else { 4 } * threads);
    match layout {
        Layout::NN | Layout::NT => {
            let columns = (n / 96).clamp(1, most);
            let rows = if columns < 2 * threads { (2 * threads).div_ceil(columns).min(m / 48).max(1) } else { 1 };
            Grid { rows, columns }
        }
        Layout::TN if m >= n => Grid { rows: (m / 48).clamp(1, most.min(threads.max(m / 1536))), columns: 1 },
        Layout::TN => Grid { rows: 1, columns: (n / 96).clamp(1, most.min(threads)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_example() {
        let cpu = Cpu::new(Some(1)).unwrap();
        let large = (1 << 24) as f32;
        let mut a = vec![0.0; 258];
        (a[0], a[256], a[257]) = (large, 1.0, 1.0);
        assert_eq!(a.iter().fold(0.0, |sum, a| sum + a), large);
        let (a, b) = (Buffer::from_f32(a), Buffer::from_f32(vec![1.0; 258]));
        for layout in [Layout::NN, Layout::NT, Layout::TN] {
            let c = cpu.matmul(Product { layout, m: 1, n: 1, k: 258, alpha: 1.0 }, &a, &b, None).unwrap();
            assert_eq!(c.f32().unwrap(), [large + 2.0], "{layout:?}");
        }
    }
}
