//! Dropout (N. Srivastava et al., JMLR 2014), inverted: what stays is scaled up, so that evaluation needs no change.
use super::threads::build_chunks;
use super::{Cpu, check};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::random::Stream;

/// y[i] = x[i] / (1 − p) where u[i] ≥ p, else 0; u[i] is number i of the stream. Its own backward, applied to dy.
pub(crate) fn dropout(cpu: &Cpu, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
    if !(0.0..1.0).contains(&p) {
        return Err(Error::Input(format!("dropout: the probability is {p}; it must be at least 0 and below 1")));
    }
    let x = check::f32s("dropout", "x", x, n)?;
    let scale = (1.0 / (1.0 - f64::from(p))) as f32;
    // SAFETY: every element of a part is written.
    let y = unsafe {
        build_chunks(&cpu.threads, n, 16 * 1024, |start, part| {
            for (i, (y, &x)) in part.iter_mut().zip(&x[start..]).enumerate() {
                let keep = stream.uniform((start + i) as u64) >= p;
                y.write(if keep { x * scale } else { 0.0 });
            }
        })?
    };
    Ok(Buffer::from_f32(y))
}
