//! Norms of rows. Root mean square layer normalisation (B. Zhang and R. Sennrich, NeurIPS 2019, equation 4, with ε under the root).
use super::level::Level;
use super::map::{Map, map_in_place, map_part};
use super::reduce::{Dot, Dot3, fold};
use super::threads::{Shared, build, build_chunks};
use super::{Cpu, check};
use crate::backend::{Norms, RmsNormBackward};
use crate::buffer::Buffer;
use crate::error::Result;
use pulp::{Simd, WithSimd};
use std::mem::MaybeUninit;

/// Rows of a task; also the rows whose part of dw is summed before it is added to the total.
const ROWS: usize = 64;

struct SumSquares<'a>(&'a [f32]);

impl WithSimd for SumSquares<'_> {
    type Output = f32;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        fold(simd, [self.0, self.0], Dot)[0]
    }
}

/// y = x r ∘ w
#[derive(Clone, Copy)]
struct Normalise {
    r: f32,
}

impl Map<2, 1> for Normalise {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [x, w]: [S::f32s; 2]) -> [S::f32s; 1] {
        [simd.mul_f32s(simd.mul_f32s(x, simd.splat_f32s(self.r)), w)]
    }
}

/// y = x r ∘ w for one row; returns r.
fn normalise_row(level: Level, x: &[f32], w: &[f32], y: &mut [MaybeUninit<f32>], epsilon: f32) -> f32 {
    let mean_square = level.run(SumSquares(x)) / x.len() as f32;
    let r = 1.0 / (mean_square + epsilon).sqrt();
    map_part(level, [x, w], [y], Normalise { r });
    r
}

struct Dots<'a>([&'a [f32]; 3]);

impl WithSimd for Dots<'_> {
    type Output = f32;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        fold(simd, self.0, Dot3)[0]
    }
}

/// dx = r (w ∘ dy) − c x
#[derive(Clone, Copy)]
struct NormaliseBackward {
    r: f32,
    c: f32,
}

impl Map<3, 1> for NormaliseBackward {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [dy, x, w]: [S::f32s; 3]) -> [S::f32s; 1] {
        let scaled = simd.mul_f32s(simd.splat_f32s(self.r), simd.mul_f32s(w, dy));
        [simd.mul_add_f32s(simd.splat_f32s(-self.c), x, scaled)]
    }
}

/// dx ← dx + (r (w ∘ dy) − c x)
#[derive(Clone, Copy)]
struct NormaliseBackwardOnto(NormaliseBackward);

impl Map<4, 1> for NormaliseBackwardOnto {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [dy, x, w, onto]: [S::f32s; 4]) -> [S::f32s; 1] {
        let [dx] = self.0.map(simd, [dy, x, w]);
        [simd.add_f32s(onto, dx)]
    }
}

/// dw ← dw + r (dy ∘ x)
#[derive(Clone, Copy)]
struct WeightGradient {
    r: f32,
}

impl Map<3, 1> for WeightGradient {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [dy, x, dw]: [S::f32s; 3]) -> [S::f32s; 1] {
        [simd.mul_add_f32s(dy, simd.mul_f32s(x, simd.splat_f32s(self.r)), dw)]
    }
}

/// s = x + f
#[derive(Clone, Copy)]
struct Add;

impl Map<2, 1> for Add {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [x, f]: [S::f32s; 2]) -> [S::f32s; 1] {
        [simd.add_f32s(x, f)]
    }
}

/// a x
#[derive(Clone, Copy)]
struct Times(f32);

impl Map<1, 1> for Times {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, [x]: [S::f32s; 1]) -> [S::f32s; 1] {
        [simd.mul_f32s(simd.splat_f32s(self.0), x)]
    }
}

impl Norms for Cpu {
    /// For each row: y = x r ∘ w, r = 1/√(mean(x²) + ε). x [m, d], w [d] → (y [m, d], r [m])
    fn rms_norm(&self, x: &Buffer, w: &Buffer, m: usize, d: usize, epsilon: f32) -> Result<(Buffer, Buffer)> {
        let n = check::size("rms_norm", &[m, d])?;
        let (x, w) = (check::f32s("rms_norm", "x", x, n)?, check::f32s("rms_norm", "w", w, d)?);
        let mut rstd = vec![0f32; m];
        let r_to = Shared::of(&mut rstd);
        // SAFETY: tasks own disjoint rows of y and elements of rstd, and write all of them.
        let y = unsafe {
            build(n, |to| {
                self.threads.chunks(m, ROWS, |start, end| {
                    for i in start..end {
                        let r = normalise_row(self.level, &x[i * d..][..d], w, to.part(i * d, d), epsilon);
                        r_to.ptr().add(i).write(r);
                    }
                });
            })?
        };
        Ok((Buffer::from_f32(y), Buffer::from_f32(rstd)))
    }

    /// The forward was y = x r ∘ w with r = (Σx²/d + ε)^−½, so ∂r/∂x = −r³ x / d and for each row
    ///
    /// ```text
    /// dx = r (w ∘ dy) − (r³/d) x Σ (w ∘ dy ∘ x)        dw = Σ over rows of dy ∘ x r
    /// ```
    ///
    /// and dx is added to `onto`, if given. dw is summed over blocks of 64 rows, and the blocks in order.
    fn rms_norm_backward(&self, inputs: RmsNormBackward<'_>, onto: Option<Buffer>) -> Result<(Buffer, Option<Buffer>)> {
        let RmsNormBackward { dy, x, w, rstd, m, d, need_dw } = inputs;
        let op = "rms_norm_backward";
        let n = check::size(op, &[m, d])?;
        let (dy, x) = (check::f32s(op, "dy", dy, n)?, check::f32s(op, "x", x, n)?);
        let (w, rstd) = (check::f32s(op, "w", w, d)?, check::f32s(op, "rstd", rstd, m)?);
        let mut blocks = vec![0f32; if need_dw { m.div_ceil(ROWS) * d } else { 0 }];
        let blocks_to = Shared::of(&mut blocks);
        let fill = |to: Shared<f32>, adds: bool| {
            self.threads.chunks(m, ROWS, |start, end| {
                for (i, &r) in rstd.iter().enumerate().take(end).skip(start) {
                    let (dy, x) = (&dy[i * d..][..d], &x[i * d..][..d]);
                    let f = NormaliseBackward { r, c: r * r * r / d as f32 * self.level.run(Dots([w, dy, x])) };
                    // SAFETY: tasks own disjoint rows of dx and of `blocks`; where dx is added to, it was written before.
                    unsafe {
                        if adds {
                            map_in_place(self.level, to.written(i * d, d), [dy, x, w], NormaliseBackwardOnto(f));
                        } else {
                            map_part(self.level, [dy, x, w], [to.part(i * d, d)], f);
                        }
                        if need_dw {
                            let dw = blocks_to.written(start / ROWS * d, d);
                            map_in_place(self.level, dw, [dy, x], WeightGradient { r });
                        }
                    }
                }
            });
        };
        let dx = match onto {
            Some(mut dx) => {
                fill(Shared::of(check::f32s_mut(op, "dx", &mut dx, n)?), true);
                dx
            }
            // SAFETY: the tasks' rows cover all of dx.
            None => Buffer::from_f32(unsafe { build(n, |to| fill(to, false))? }),
        };
        let dw = need_dw.then(|| {
            let mut dw = vec![0f32; d];
            for block in blocks.chunks_exact(d.max(1)) {
                dw.iter_mut().zip(block).for_each(|(dw, &b)| *dw += b);
            }
            Buffer::from_f32(dw)
        });
        Ok((dx, dw))
    }

    /// A sum and its norm in one pass over memory: what a layer gives to the residual stream, and what the next one reads. The
    /// bits are those of the sum and the norm one after the other. s = x + f (into f's memory if it has no other owner), y = s r ∘ w: x, f [m, d], w [d] → (s [m, d], y [m, d], r [m]).
    /// The backward is that of the norm, added onto the gradient of s.
    fn add_rms_norm(
        &self,
        x: &Buffer,
        mut f: Buffer,
        w: &Buffer,
        m: usize,
        d: usize,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let op = "add_rms_norm";
        let n = check::size(op, &[m, d])?;
        let (x, w) = (check::f32s(op, "x", x, n)?, check::f32s(op, "w", w, d)?);
        let s_to = Shared::of(check::f32s_mut(op, "f", &mut f, n)?);
        let mut rstd = vec![0f32; m];
        let r_to = Shared::of(&mut rstd);
        // SAFETY: tasks own disjoint rows of s and y and elements of rstd, and write all of y's.
        let y = unsafe {
            build(n, |to| {
                self.threads.chunks(m, ROWS, |start, end| {
                    for i in start..end {
                        let s = s_to.written(i * d, d);
                        map_in_place(self.level, s, [&x[i * d..][..d]], Add);
                        r_to.ptr().add(i).write(normalise_row(self.level, s, w, to.part(i * d, d), epsilon));
                    }
                });
            })?
        };
        Ok((f, Buffer::from_f32(y), Buffer::from_f32(rstd)))
    }

    /// y[i] = √(Σⱼ x[i, j]²), the sum in the order of [`fold`]: x [m, n] → y [m]
    fn row_norms(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let x = check::f32s("row_norms", "x", x, check::size("row_norms", &[m, n])?)?;
        // SAFETY: every element of a part is written.
        let y = unsafe {
            build_chunks(&self.threads, m, ROWS, |start, part: &mut [MaybeUninit<f32>]| {
                for (i, y) in part.iter_mut().enumerate() {
                    y.write(self.level.run(SumSquares(&x[(start + i) * n..][..n])).sqrt());
                }
            })?
        };
        Ok(Buffer::from_f32(y))
    }

    /// The forward was y = √(Σ x²), so dx = (dy / y) x for each row; at 0, where the norm has a kink, 0.
    fn row_norms_backward(&self, dy: &Buffer, x: &Buffer, y: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let op = "row_norms_backward";
        let size = check::size(op, &[m, n])?;
        let x = check::f32s(op, "x", x, size)?;
        let (dy, y) = (check::f32s(op, "dy", dy, m)?, check::f32s(op, "y", y, m)?);
        // SAFETY: tasks own disjoint rows of dx, and write all of them.
        let dx = unsafe {
            build(size, |to| {
                self.threads.chunks(m, ROWS, |start, end| {
                    for i in start..end {
                        let factor = if y[i] == 0.0 { 0.0 } else { dy[i] / y[i] };
                        map_part(self.level, [&x[i * n..][..n]], [to.part(i * n, n)], Times(factor));
                    }
                });
            })?
        };
        Ok(Buffer::from_f32(dx))
    }
}
