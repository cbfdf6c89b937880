//! Mistakes of sums of rows and of squares, and the reference with one of them.
use super::Fault::Sums as Of;
use super::*;
use crate::verify::optimise::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    WithoutLastRow,
    SquaresFirstBlock,
    SquaresOfNeighbour,
}

pub(super) const PLANTED: &[Planted] = &[
    (Of(WithoutLastRow), "sum_rows", cases),
    (Of(SquaresFirstBlock), "sum_squares", cases),
    (Of(SquaresOfNeighbour), "sum_squares", cases),
];

impl Sums for Faulty {
    fn sum_rows(&self, x: &Buffer, m: usize, n: usize) -> Result<Buffer> {
        Reference.sum_rows(x, if self.0 == Of(WithoutLastRow) { m - 1 } else { m }, n)
    }

    fn sum_squares(&self, xs: &[(&Buffer, usize)]) -> Result<Vec<f64>> {
        let cut = |n: usize| if self.0 == Of(SquaresFirstBlock) { n.min(65_536) } else { n };
        let mut sums = Reference.sum_squares(&xs.iter().map(|&(x, n)| (x, cut(n))).collect::<Vec<_>>())?;
        if self.0 == Of(SquaresOfNeighbour) {
            sums.rotate_left(1);
        }
        Ok(sums)
    }
}
