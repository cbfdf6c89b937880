//! Dropout (N. Srivastava et al., JMLR 2014), inverted: what stays is scaled up, so that evaluation needs no change.
use super::check::values;
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::random::Stream;

/// y[i] = x[i] / (1 − p) where u[i] ≥ p, else 0; u[i] is number i of the stream, uniform in [0, 1).
/// The backward is the same function of dy.
pub fn dropout(x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
    if !(0.0..1.0).contains(&p) {
        return Err(Error::Input(format!("dropout: the probability is {p}; it must be at least 0 and below 1")));
    }
    let keep = 1.0 - f64::from(p);
    let y = values("dropout", "x", x, n)?
        .iter()
        .enumerate()
        .map(|(i, &x)| if stream.uniform(i as u64) >= p { (f64::from(x) / keep) as f32 } else { 0.0 });
    Ok(Buffer::from_f32(y.collect()))
}
