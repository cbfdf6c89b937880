//! Mistakes of the matrix product, and the reference with one of them.
use super::Fault::Products as Of;
use super::*;
use crate::verify::matmul::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    LastRow,
    LastColumn,
    LastOfK,
    BeyondBlockOfK,
    AlphaOfMatmul,
    CIgnored,
    HalvesMistaken,
    OneRowAlone,
}

pub(super) const PLANTED: &[Planted] = &[
    (Of(LastRow), "matmul", cases),
    (Of(LastColumn), "matmul", cases),
    (Of(LastOfK), "matmul", cases),
    (Of(BeyondBlockOfK), "matmul", cases),
    (Of(AlphaOfMatmul), "matmul", cases),
    (Of(CIgnored), "matmul", cases),
    (Of(HalvesMistaken), "matmul", cases),
];

/// Those that only show beside other rows.
pub(super) const ALONE: &[Fault] = &[Of(OneRowAlone)];

impl Products for Faulty {
    fn matmul(&self, mut p: Product, a: &Buffer, b: &Buffer, c: Option<Buffer>) -> Result<Buffer> {
        let Product { layout, m, n, k, .. } = p;
        let without = |first: usize| {
            let lost = move |i: usize| if layout == Layout::TN { i / m >= first } else { i % k >= first };
            changed(a, |a| a.iter_mut().enumerate().for_each(|(i, a)| *a = if lost(i) { 0.0 } else { *a }))
        };
        match self.0 {
            Of(AlphaOfMatmul) => p.alpha = 1.0,
            Of(HalvesMistaken) => {
                if let Host::Half(dtype, bits) = b.as_host()? {
                    let other = if *dtype == DType::F16 { DType::BF16 } else { DType::F16 };
                    return Reference.matmul(p, a, &Buffer::host(Host::Half(other, bits.clone())), c);
                }
            }
            Of(CIgnored) => return Reference.matmul(p, a, b, None),
            Of(LastOfK) => return Reference.matmul(p, &without(k - 1)?, b, c),
            Of(BeyondBlockOfK) => return Reference.matmul(p, &without(k.max(256) / 256 * 256)?, b, c),
            _ => {}
        }
        let product = Reference.matmul(p, a, b, c)?;
        match self.0 {
            Of(LastRow) => changed(&product, |c| c[(m - 1) * n..].fill(0.0)),
            Of(LastColumn) => changed(&product, |c| c.iter_mut().skip(n - 1).step_by(n).for_each(|c| *c = 0.0)),
            Of(OneRowAlone) if m == 1 => changed(&product, |c| next_float(c)),
            _ => Ok(product),
        }
    }
}
