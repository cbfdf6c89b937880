//! Rotary position embedding (J. Su et al., "RoFormer", 2021, equation 34), pairs (i, i + r/2) as in GPT-NeoX and Llama.
use super::threads::{Shared, build};
use super::{Cpu, check};
use crate::backend::{Rotary, Rotation};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use pulp::{Simd, WithSimd};

/// Elements of a task.
const CHUNK: usize = 32 * 1024;

impl Rotary for Cpu {
    /// Turns the pairs (x[i], x[i + r/2]), i < r/2, of each head by the angle θᵢ of the token's position:
    ///
    /// ```text
    /// y[i]       = x[i] cos θᵢ − x[i + r/2] sin θᵢ
    /// y[i + r/2] = x[i + r/2] cos θᵢ + x[i] sin θᵢ        y = x beyond r
    /// ```
    ///
    /// A rotation's transpose is its inverse, so the backward is the same with −θ: `inverse`.
    /// x [t, heads, e], cos_sin [positions, r], positions [t].
    fn rope(&self, rotation: Rotation<'_>) -> Result<Buffer> {
        let Rotation { x, cos_sin, positions, t, heads, e, rotary, inverse } = rotation;
        if rotary > e || !rotary.is_multiple_of(2) {
            return Err(Error::shape(
                "rope",
                format!("{rotary} rotary elements in heads of {e}; an even part is needed"),
            ));
        }
        let n = check::size("rope", &[t, heads, e])?;
        let x = check::f32s("rope", "x", x, n)?;
        let positions = check::u32s("rope", "positions", positions, t)?;
        let n_positions = positions.iter().max().map_or(0, |&p| p as usize + 1);
        let cos_sin = check::f32s("rope", "cos_sin", cos_sin, check::size("rope", &[n_positions, rotary])?)?;
        let rows = CHUNK.div_ceil((heads * e).max(1));
        // SAFETY: tasks own disjoint rows; `Rotate` writes all of each.
        let y = unsafe {
            build(n, |to: Shared<f32>| {
                self.threads.chunks(t, rows, |start, end| {
                    self.level.run(Rotate {
                        x: &x[start * heads * e..end * heads * e],
                        y: to.ptr().add(start * heads * e),
                        cos_sin,
                        positions: &positions[start..end],
                        sizes: [heads, e, rotary / 2],
                        inverse,
                    });
                });
            })?
        };
        Ok(Buffer::from_f32(y))
    }
}

/// Some rows; `y` points to as many elements as `x` has.
struct Rotate<'a> {
    x: &'a [f32],
    y: *mut f32,
    cos_sin: &'a [f32],
    positions: &'a [u32],
    sizes: [usize; 3],
    inverse: bool,
}

impl WithSimd for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [heads, e, half] = self.sizes;
        let lanes = S::F32_LANES;
        let sign = simd.splat_f32s(if self.inverse { -1.0 } else { 1.0 });
        for (row, &position) in self.positions.iter().enumerate() {
            let angles = &self.cos_sin[position as usize * 2 * half..][..2 * half];
            for head in 0..heads {
                let at = (row * heads + head) * e;
                let x = &self.x[at..at + e];
                // SAFETY: i + lanes ≤ half, so all loads lie in angles and x, all stores in the e elements of y at `at`.
                unsafe {
                    let y = self.y.add(at);
                    let load = |s: &[f32], i: usize| s.as_ptr().add(i).cast::<S::f32s>().read_unaligned();
                    let store = |i: usize, v: S::f32s| y.add(i).cast::<S::f32s>().write_unaligned(v);
                    let mut i = 0;
                    while i + lanes <= half {
                        let (cos, sin) = (load(angles, i), simd.mul_f32s(sign, load(angles, half + i)));
                        let (a, b) = (load(x, i), load(x, half + i));
                        store(i, simd.sub_f32s(simd.mul_f32s(a, cos), simd.mul_f32s(b, sin)));
                        store(half + i, simd.add_f32s(simd.mul_f32s(b, cos), simd.mul_f32s(a, sin)));
                        i += lanes;
                    }
                    for i in i..half {
                        let (cos, sin) = (angles[i], if self.inverse { -angles[half + i] } else { angles[half + i] });
                        let (a, b) = (x[i], x[half + i]);
                        y.add(i).write(a * cos - b * sin);
                        y.add(half + i).write(b * cos + a * sin);
                    }
                    for (i, &x) in x.iter().enumerate().skip(2 * half) {
                        y.add(i).write(x);
                    }
                }
            }
        }
    }
}
