//! A sum and its root mean square normalisation: what a layer gives to the residual stream, and what the next one reads.
use super::check::{size, values, values_mut};
use super::rms_norm::rms_norm;
use crate::buffer::Buffer;
use crate::error::Result;

/// s = x + f (into f's memory if it has no other owner), y = s r ∘ w: x, f [m, d], w [d] → (s [m, d], y [m, d], r [m]).
/// The backward is that of the norm, added onto the gradient of s.
pub fn add_rms_norm(
    x: &Buffer,
    mut f: Buffer,
    w: &Buffer,
    m: usize,
    d: usize,
    epsilon: f32,
) -> Result<(Buffer, Buffer, Buffer)> {
    let n = size("add_rms_norm", &[m, d])?;
    let x = values("add_rms_norm", "x", x, n)?;
    values("add_rms_norm", "w", w, d)?;
    for (s, x) in values_mut("add_rms_norm", "f", &mut f, n)?.iter_mut().zip(x) {
        *s = (f64::from(*s) + f64::from(*x)) as f32;
    }
    let (y, rstd) = rms_norm(&f, w, m, d, epsilon)?;
    Ok((f, y, rstd))
}
