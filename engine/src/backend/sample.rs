//! The next token, chosen from logits.
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::likelihood;
use crate::random::Stream;

/// How `sample` chooses the next token. The order is transformers': repetition penalty, (temperature,) top-k, top-p, min-p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The likeliest token; nothing is drawn.
    pub greedy: bool,
    /// Only the k likeliest tokens; 0 is off.
    pub top_k: usize,
    /// Of these only the fewest likeliest that have at least this share of their probability; 1 is off.
    pub top_p: f32,
    /// Of these only those at least this many times as likely as the likeliest; 0 is off.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen before; 1 is off.
    pub repetition_penalty: f32,
}

impl Choice {
    /// Whether every token may be drawn, of a vocabulary of `v`.
    pub fn keeps_all(&self, v: usize) -> bool {
        (self.top_k == 0 || self.top_k >= v) && self.top_p >= 1.0 && self.min_p == 0.0
    }

    /// An error if this is no choice among `v` tokens.
    pub fn check(&self, v: usize) -> Result<()> {
        likelihood::check_vocabulary(v)?;
        let penalty = self.repetition_penalty;
        let fits = self.top_p > 0.0 && self.top_p <= 1.0 && (0.0..=1.0).contains(&self.min_p);
        if fits && penalty > 0.0 && penalty.is_finite() {
            Ok(())
        } else {
            Err(Error::shape("sample", format!("{self:?}")))
        }
    }
}

/// What `sample` needs to know of a row.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// Number `index` of this stream is drawn with.
    pub stream: Stream,
    /// Which number of the stream: another one for each token of a sequence.
    pub index: u64,
    /// The tokens that the repetition penalty is for, each once; those beyond the vocabulary are passed over.
    pub seen: &'a [u32],
}

/// Choosing tokens.
pub trait Sample {
    /// The next token of each row of logits [m, v] that were divided by the temperature, m = |draws|: u32 [m].
    ///
    /// Logits z of `seen` tokens become z / penalty where they are positive, else z · penalty. Greedy takes the lowest i
    /// with the largest z[i]. Else, with whole numbers w[i] = ⌊2⁴⁴ e^(z[i] − max z)⌋ (see [`likelihood`]), tokens are kept:
    ///
    /// ```text
    /// top-k    the k largest z                                               of equal z the lowest i first,
    /// top-p    of these the fewest largest with Σ w ≥ p Σ (all of these) w   here too
    /// min-p    of these all with e^(z[i] − max z) ≥ min_p, in f32
    /// ```
    ///
    /// and the first kept i, in order of the vocabulary, is taken at which Σ w over the kept up to i is more than u times Σ w
    /// over all that are kept; u = (bits + ½) / 2³². NaN counts as −∞, and a row that has nothing else gives 0. The CPU adds
    /// the weights in f64 before they are cut to whole numbers where all tokens are kept: it takes the same token
    /// wherever u is more than v · 2⁻⁴³ from a boundary between two. At most [`likelihood::LARGEST_VOCABULARY`] tokens.
    fn sample(&self, logits: &Buffer, v: usize, choice: Choice, draws: &[Draw<'_>]) -> Result<Buffer>;
}
