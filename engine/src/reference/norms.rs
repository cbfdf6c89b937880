//! Norms of rows. Root mean square layer normalisation (B. Zhang and R. Sennrich, NeurIPS 2019, equation 4, with ε under the root).
use super::Reference;
use super::check::{size, values, values_mut};
use crate::backend::{Norms, RmsNormBackward};
use crate::buffer::Buffer;
use crate::error::Result;

impl Norms for Reference {
    /// For each row: y = x r ∘ w, r = 1/√(mean(x²) + ε). x [m, d], w [d] → (y [m, d], r [m])
    fn rms_norm(&self, x: &Buffer, w: &Buffer, m: usize, d: usize, epsilon: f32) -> Result<(Buffer, Buffer)> {
        let x = values("rms_norm", "x", x, size("rms_norm", &[m, d])?)?;
        let w = values("rms_norm", "w", w, d)?;
        let (mut y, mut rstd) = (vec![0f32; m * d], vec![0f32; m]);
        for i in 0..m {
            let x = &x[i * d..][..d];
            let mean_square = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / d as f64;
            let r = 1.0 / (mean_square + f64::from(epsilon)).sqrt();
            for j in 0..d {
                y[i * d + j] = (f64::from(x[j]) * r * f64::from(w[j])) as f32;
            }
            rstd[i] = r as f32;
        }
        Ok((Buffer::from_f32(y), Buffer::from_f32(rstd)))
    }

    /// The forward was y = x r ∘ w with r = (Σx²/d + ε)^−½, so ∂r/∂x = −r³ x / d and for each row
    ///
    /// ```text
    /// dx = r (w ∘ dy) − (r³/d) x Σ (w ∘ dy ∘ x)        dw = Σ over rows of dy ∘ x r
    /// ```
    ///
    /// and dx is added to `onto`, if given.
    fn rms_norm_backward(&self, inputs: RmsNormBackward<'_>, onto: Option<Buffer>) -> Result<(Buffer, Option<Buffer>)> {
        let RmsNormBackward { dy, x, w, rstd, m, d, need_dw } = inputs;
        let op = "rms_norm_backward";
        let n = size(op, &[m, d])?;
        let (dy, x) = (values(op, "dy", dy, n)?, values(op, "x", x, n)?);
        let (w, rstd) = (values(op, "w", w, d)?, values(op, "rstd", rstd, m)?);
        let mut to_x = onto.unwrap_or_else(|| Buffer::from_f32(vec![0f32; n]));
        let (dx, mut dw) = (values_mut(op, "dx", &mut to_x, n)?, vec![0f64; d]);
        for i in 0..m {
            let (dy, x, r) = (&dy[i * d..][..d], &x[i * d..][..d], f64::from(rstd[i]));
            let dot: f64 = (0..d).map(|j| f64::from(w[j]) * f64::from(dy[j]) * f64::from(x[j])).sum();
            for j in 0..d {
                let (dy, x) = (f64::from(dy[j]), f64::from(x[j]));
                let onto = f64::from(dx[i * d + j]);
                dx[i * d + j] = (onto + r * f64::from(w[j]) * dy - r * r * r / d as f64 * x * dot) as f32;
                dw[j] += dy * x * r;
            }
        }
        let dw = need_dw.then(|| Buffer::from_f32(dw.iter().map(|&x| x as f32).collect()));
        Ok((to_x, dw))
    }

    /// A sum and its norm: what a layer gives to the residual stream, and what the next one reads. s = x + f (into f's memory if it has no other owner), y = s r ∘ w: x, f [m, d], w [d] → (s [m, d], y [m, d], r [m]).
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
        let n = size("add_rms_norm", &[m, d])?;
        let x = values("add_rms_norm", "x", x, n)?;
        values("add_rms_norm", "w", w, d)?;
        for (s, x) in values_mut("add_rms_norm", "f", &mut f, n)?.iter_mut().zip(x) {
            *s = (f64::from(*s) + f64::from(*x)) as f32;
        }
        let (y, rstd) = self.rms_norm(&f, w, m, d, epsilon)?;
        Ok((f, y, rstd))
    }

    /// y[i] = √(Σⱼ x[i, j]²): x [m, n] → y [m]
    fn row_norms(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let x = values("row_norms", "x", x, size("row_norms", &[m, n])?)?;
        let square = |j: usize| f64::from(x[j]) * f64::from(x[j]);
        let norm = |i: usize| (i * n..(i + 1) * n).map(square).sum::<f64>().sqrt() as f32;
        Ok(Buffer::from_f32((0..m).map(norm).collect()))
    }

    /// The forward was y = √(Σ x²), so dx = dy x / y for each row; at 0, where the norm has a kink, 0.
    fn row_norms_backward(&self, dy: &Buffer, x: &Buffer, y: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let op = "row_norms_backward";
        let x = values(op, "x", x, size(op, &[m, n])?)?;
        let (dy, y) = (values(op, "dy", dy, m)?, values(op, "y", y, m)?);
        let dx = |j: usize| {
            let (dy, y) = (f64::from(dy[j / n]), f64::from(y[j / n]));
            if y == 0.0 { 0.0 } else { (dy * f64::from(x[j]) / y) as f32 }
        };
        Ok(Buffer::from_f32((0..m * n).map(dx).collect()))
    }
}
