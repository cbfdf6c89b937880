//! What a model says about answers to prompts: log-probabilities of their tokens, and metrics of them.
use crate::error::Result;
use crate::job::batch::Batch;
use crate::job::scoring::{Scored, score};
use crate::losses::sequences::sum_of_tokens;
use engine::model::decoder::{Decoder, Pass};
use engine::tensor::Tensor;

/// A batch of answers as a model sees it.
pub struct Answers<'a> {
    /// The answers as a forest, and which predictions belong to which.
    pub batch: &'a Batch,
    /// log π of each prediction, on the loss device: [N].
    pub logp: Tensor,
    /// log Σᵥ π(v)² of each prediction, where asked for: [N].
    pub log_collision: Option<Vec<f32>>,
    entropy: Vec<f32>,
    correct: Vec<bool>,
    mean_logit: Vec<f32>,
}

impl<'a> Answers<'a> {
    /// Passes the batch through the model; a watched model leaves its trace on the tape.
    pub fn score(model: &Decoder, batch: &'a Batch, pass: Pass) -> Result<Self> {
        let scored = score(model, batch, 1.0, pass)?;
        Self::of(model, batch, scored)
    }

    /// The same with `log_collision`: at half the temperature a token t has log π_½(t) = 2 z_t − log Σᵥ e^(2 zᵥ), so
    /// log Σᵥ π(v)² = log Σ e^(2z) − 2 log Σ eᶻ = 2 log π(t) − log π_½(t).
    pub fn score_with_collision(model: &Decoder, batch: &'a Batch, pass: Pass) -> Result<Self> {
        let scored = score(model, batch, 1.0, pass)?;
        let sharp =
            model.without_gradient().score_in(pass, &scored.hidden.detach(), &batch.rows, &batch.targets, 0.5)?;
        let (logp, sharp) = (scored.logp.to_vec()?, sharp.logp.to_vec()?);
        let log_collision = Some(logp.iter().zip(&sharp).map(|(p, q)| 2.0 * p - q).collect());
        Ok(Answers { log_collision, ..Self::of(model, batch, scored)? })
    }

    fn of(model: &Decoder, batch: &'a Batch, scored: Scored) -> Result<Self> {
        Ok(Answers {
            batch,
            log_collision: None,
            entropy: scored.entropy()?,
            correct: scored.correct(batch)?,
            mean_logit: model.mean_logits(&scored.hidden, &batch.rows)?.to_vec()?,
            logp: scored.logp,
        })
    }

    /// Σ log π over the predictions of each of `n` sequences: [n].
    pub fn sums(&self, n: usize) -> Result<Tensor> {
        Ok(sum_of_tokens(&self.logp, None, &self.batch.sequences, n)?)
    }

    /// The mean of a per-token value over the tokens of the sequences that `which` names; None where there are none.
    fn mean(&self, values: impl Fn(usize) -> f64, which: impl Fn(usize) -> bool) -> Option<f64> {
        let tokens = (0..self.batch.n_items()).filter(|&i| which(self.batch.sequences[i] as usize));
        let (sum, n) = tokens.fold((0.0, 0u64), |(sum, n), i| (sum + values(i), n + 1));
        (n > 0).then(|| sum / n as f64)
    }

    /// Mean entropy of the predictions in nats, over the answers (sequences below `n`).
    pub fn entropy(&self, n: usize) -> f64 {
        self.mean(|i| f64::from(self.entropy[i]), |s| s < n).unwrap_or(0.0)
    }
    /// Share of tokens that were the likeliest, of some sequences.
    pub fn token_accuracy(&self, which: impl Fn(usize) -> bool) -> f64 {
        self.mean(|i| f64::from(u8::from(self.correct[i])), which).unwrap_or(0.0)
    }
    /// Mean logit of the whole vocabulary, over the tokens of some sequences.
    pub fn mean_logit(&self, which: impl Fn(usize) -> bool) -> Option<f64> {
        self.mean(|i| f64::from(self.mean_logit[i]), which)
    }
}
