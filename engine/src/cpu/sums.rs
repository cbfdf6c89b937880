//! Sums over the rows of a matrix, and of the squares of whole buffers.
use super::reduce::{Dot, fold};
use super::threads::build_chunks;
use super::{Cpu, check};
use crate::backend::Sums;
use crate::buffer::Buffer;
use crate::error::Result;
use pulp::{Simd, WithSimd};
use std::mem::MaybeUninit;

/// Columns of a task, and rows whose sum is formed before it is added to the total.
const COLUMNS: usize = 256;
const ROWS: usize = 64;
/// Elements of one partial sum of squares.
const BLOCK: usize = 4096;

struct Square<'a>(&'a [f32]);

impl WithSimd for Square<'_> {
    type Output = f32;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        fold(simd, [self.0, self.0], Dot)[0]
    }
}

impl Sums for Cpu {
    /// y[j] = Σᵢ x[i, j], i ascending: x [m, n] → y [n]
    fn sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let x = check::f32s("sum_rows", "x", x, check::size("sum_rows", &[m, n])?)?;
        // SAFETY: every element of a part is written.
        let y = unsafe {
            build_chunks(&self.threads, n, COLUMNS, |start, part: &mut [MaybeUninit<f32>]| {
                let width = part.len();
                let mut total = [0f32; COLUMNS];
                for first in (0..m).step_by(ROWS) {
                    let mut block = [0f32; COLUMNS];
                    for i in first..(first + ROWS).min(m) {
                        for (sum, &x) in block.iter_mut().zip(&x[i * n + start..][..width]) {
                            *sum += x;
                        }
                    }
                    total.iter_mut().zip(&block).for_each(|(total, &block)| *total += block);
                }
                part.iter_mut().zip(total).for_each(|(y, total)| {
                    y.write(total);
                });
            })?
        };
        Ok(Buffer::from_f32(y))
    }

    /// Σ x² of each buffer: f32 sums of blocks of 4096, added up in f64 in order.
    fn sum_squares(&self, xs: &[(&Buffer, usize)]) -> Result<Vec<f64>> {
        let sum = |&(x, n): &(&Buffer, usize)| {
            let x = check::f32s("sum_squares", "x", x, n)?;
            // SAFETY: every element of a part is written.
            let partial = unsafe {
                build_chunks(&self.threads, n.div_ceil(BLOCK), 16, |start, part: &mut [MaybeUninit<f32>]| {
                    for (i, partial) in part.iter_mut().enumerate() {
                        let at = (start + i) * BLOCK;
                        partial.write(self.level.run(Square(&x[at..(at + BLOCK).min(n)])));
                    }
                })?
            };
            Ok(partial.iter().map(|&x| f64::from(x)).sum())
        };
        xs.iter().map(sum).collect()
    }
}
