//! Mistakes of elementwise kernels, and the reference with one of them.
use super::Fault::Elementwise as Of;
use super::*;
use crate::verify::elementwise::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    UnaryUpstream,
    ClampBounds,
    BroadcastByBlocks,
    AlphaOfAddScaled,
    DropoutWithoutScale,
    DropoutOtherStream,
    SwigluUpstream,
    SwigluSwapped,
    OneElementAlone,
}

pub(super) const PLANTED: &[Planted] = &[
    (Of(UnaryUpstream), "unary_backward", cases),
    (Of(ClampBounds), "unary_backward", cases),
    (Of(BroadcastByBlocks), "binary", cases),
    (Of(AlphaOfAddScaled), "add_scaled", cases),
    (Of(DropoutWithoutScale), "dropout", cases),
    (Of(DropoutOtherStream), "dropout", cases),
    (Of(SwigluUpstream), "swiglu_backward", cases),
    (Of(SwigluSwapped), "swiglu", cases),
];

/// Those that only show beside other rows.
pub(super) const ALONE: &[Fault] = &[Of(OneElementAlone)];

impl Elementwise for Faulty {
    fn unary(&self, op: Unary, x: &Buffer, n: usize) -> Result<Buffer> {
        let y = Reference.unary(op, x, n)?;
        if self.0 == Of(OneElementAlone) && n == 1 { changed(&y, |y| next_float(y)) } else { Ok(y) }
    }

    fn unary_backward(&self, op: Unary, x: &Buffer, y: &Buffer, dy: &Buffer, n: usize) -> Result<Buffer> {
        match (self.0, op) {
            (Of(UnaryUpstream), _) => Reference.unary_backward(op, x, y, &ones(n), n),
            (Of(ClampBounds), Unary::Clamp(lo, hi)) => {
                let inside = Unary::Clamp(lo + 1e-4, hi - 1e-4);
                Reference.unary_backward(inside, x, y, dy, n)
            }
            _ => Reference.unary_backward(op, x, y, dy, n),
        }
    }

    fn binary(&self, op: Binary, a: &Buffer, b: &Buffer, n: usize, n_b: usize) -> Result<Buffer> {
        if self.0 == Of(BroadcastByBlocks) {
            let b = b.f32()?;
            let spread = (0..n).map(|i| b[i / (n / n_b)]).collect();
            return Reference.binary(op, a, &Buffer::from_f32(spread), n, n);
        }
        Reference.binary(op, a, b, n, n_b)
    }

    fn add_scaled(&self, y: &mut Buffer, alpha: f32, x: &Buffer, n: usize) -> Result<()> {
        let alpha = if self.0 == Of(AlphaOfAddScaled) { 1.0 } else { alpha };
        Reference.add_scaled(y, alpha, x, n)
    }

    fn dropout(&self, x: &Buffer, n: usize, p: f32, stream: Stream) -> Result<Buffer> {
        match self.0 {
            Of(DropoutWithoutScale) => {
                let y = Reference.dropout(x, n, p, stream)?;
                changed(&y, |y| y.iter_mut().for_each(|y| *y *= 1.0 - p))
            }
            Of(DropoutOtherStream) => Reference.dropout(x, n, p, Stream { key: [stream.key[1], stream.key[0]] }),
            _ => Reference.dropout(x, n, p, stream),
        }
    }

    fn swiglu(&self, gate: &Buffer, up: &Buffer, n: usize) -> Result<Buffer> {
        let (gate, up) = if self.0 == Of(SwigluSwapped) { (up, gate) } else { (gate, up) };
        Reference.swiglu(gate, up, n)
    }

    fn swiglu_backward(&self, dy: &Buffer, gate: &Buffer, up: &Buffer, n: usize) -> Result<(Buffer, Buffer)> {
        let dy = if self.0 == Of(SwigluUpstream) { &ones(n) } else { dy };
        Reference.swiglu_backward(dy, gate, up, n)
    }
}
