//! Rotary position embedding (J. Su et al., "RoFormer", 2021, equation 34), pairs (i, i + r/2) as in GPT-NeoX and Llama.
use super::Reference;
use super::check::{indices, size, values};
use crate::backend::{Rotary, Rotation};
use crate::buffer::Buffer;
use crate::error::{Error, Result};

impl Rotary for Reference {
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
        let mut y = values("rope", "x", x, size("rope", &[t, heads, e])?)?.to_vec();
        let half = rotary / 2;
        for (row, &position) in indices("rope", "positions", positions, t)?.iter().enumerate() {
            let end = size("rope", &[position as usize + 1, rotary])?;
            let angles = &values("rope", "cos_sin", cos_sin, end)?[end - rotary..];
            for head in 0..heads {
                let y = &mut y[(row * heads + head) * e..][..e];
                for i in 0..half {
                    let (cos, sin) = (f64::from(angles[i]), f64::from(angles[half + i]));
                    let sin = if inverse { -sin } else { sin };
                    let (a, b) = (f64::from(y[i]), f64::from(y[i + half]));
                    y[i] = (a * cos - b * sin) as f32;
                    y[i + half] = (b * cos + a * sin) as f32;
                }
            }
        }
        Ok(Buffer::from_f32(y))
    }
}
