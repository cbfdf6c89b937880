//! Mistakes of norms of rows, and the reference with one of them.
use super::Fault::Norms as Of;
use super::*;
use crate::verify::norms::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    EpsilonOfNorm,
    NormUpstream,
    NormWithoutProjection,
    NormOntoNothing,
    NormOfOneTerm,
    SumNotKept,
    RowNormSquared,
    RowNormUpstream,
    RowOfZeros,
}

pub(super) const PLANTED: &[Planted] = &[
    (Of(EpsilonOfNorm), "rms_norm", cases),
    (Of(NormUpstream), "rms_norm_backward", cases),
    (Of(NormWithoutProjection), "rms_norm_backward", cases),
    (Of(NormOntoNothing), "rms_norm_backward", cases),
    (Of(NormOfOneTerm), "add_rms_norm", cases),
    (Of(SumNotKept), "add_rms_norm", cases),
    (Of(RowNormSquared), "row_norms", cases),
    (Of(RowNormUpstream), "row_norms_backward", cases),
    (Of(RowOfZeros), "row_norms_backward", cases),
];

impl Norms for Faulty {
    fn rms_norm(&self, x: &Buffer, w: &Buffer, m: usize, d: usize, epsilon: f32) -> Result<(Buffer, Buffer)> {
        Reference.rms_norm(x, w, m, d, if self.0 == Of(EpsilonOfNorm) { 0.0 } else { epsilon })
    }

    fn add_rms_norm(
        &self,
        x: &Buffer,
        f: Buffer,
        w: &Buffer,
        m: usize,
        d: usize,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer, Buffer)> {
        let (s, y, rstd) = Reference.add_rms_norm(x, f.clone(), w, m, d, epsilon)?;
        match self.0 {
            Of(NormOfOneTerm) => {
                let (y, rstd) = Reference.rms_norm(&f, w, m, d, epsilon)?;
                Ok((s, y, rstd))
            }
            Of(SumNotKept) => Ok((x.clone(), y, rstd)),
            _ => Ok((s, y, rstd)),
        }
    }

    fn rms_norm_backward(&self, inputs: RmsNormBackward<'_>, onto: Option<Buffer>) -> Result<(Buffer, Option<Buffer>)> {
        let RmsNormBackward { dy, w, rstd, m, d, .. } = inputs;
        match self.0 {
            Of(NormUpstream) => Reference.rms_norm_backward(RmsNormBackward { dy: &ones(m * d), ..inputs }, onto),
            Of(NormWithoutProjection) => {
                let (_, dw) = Reference.rms_norm_backward(inputs, onto)?;
                let (w, r) = (w.f32()?.to_vec(), rstd.f32()?.to_vec());
                let dx = changed(dy, |dx| {
                    dx.iter_mut().enumerate().for_each(|(i, dx)| *dx *= w[i % d] * r[i / d]);
                })?;
                Ok((dx, dw))
            }
            Of(NormOntoNothing) => Reference.rms_norm_backward(inputs, None),
            _ => Reference.rms_norm_backward(inputs, onto),
        }
    }
    fn row_norms(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        let y = Reference.row_norms(x, m, n)?;
        if self.0 == Of(RowNormSquared) { changed(&y, |y| y.iter_mut().for_each(|y| *y *= *y)) } else { Ok(y) }
    }
    fn row_norms_backward(&self, dy: &Buffer, x: &Buffer, y: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        match self.0 {
            Of(RowNormUpstream) => Reference.row_norms_backward(&ones(m), x, y, m, n),
            // 0 / 0
            Of(RowOfZeros) => {
                let smallest = changed(y, |y| y.iter_mut().for_each(|y| *y += 1e-30))?;
                let x = changed(x, |x| x.iter_mut().for_each(|x| *x += 1e-30))?;
                Reference.row_norms_backward(dy, &x, &smallest, m, n)
            }
            _ => Reference.row_norms_backward(dy, x, y, m, n),
        }
    }
}
