//! A model's word on given completions: log-probabilities and entropies, with or without a gradient.
use super::experience::{Experience, Sample};
use crate::error::Result;
use crate::job::batch::Batch;
use crate::job::learner::loss_device;
use crate::losses::policy::{Constants, Sequences};
use crate::losses::weights::Whole;
use crate::options::RatioOptions;
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::tensor::Tensor;

/// What a model says about the N tokens of a micro-batch.
pub struct Scored {
    /// log π of each token, on the device of losses; differentiable if the model is on a tape: [N].
    pub logp: Tensor,
    /// Entropy of the distribution that each token was drawn from: [N].
    pub entropy: Vec<f32>,
    /// Hidden states, [T, D], and the rows that predict: for a critic's head.
    pub hidden: Tensor,
}

/// What a micro-batch says about itself, by TRL's names.
pub type Metrics = Vec<(&'static str, f64)>;

/// What one micro-batch learns from, as the policy sees it now.
pub struct Part<'a> {
    /// What the policy says about the tokens, on the tape.
    pub scored: Scored,
    /// The completions.
    pub samples: &'a [Sample],
    /// Which completion each token belongs to.
    pub sequences: Sequences,
    /// What the micro-batch is a part of.
    pub whole: Whole,
}

/// How far a ratio may go from 1.
pub fn clip_range(ratio: &RatioOptions) -> Constants {
    Constants {
        epsilon: ratio.epsilon as f32,
        epsilon_high: ratio.epsilon_high.unwrap_or(ratio.epsilon) as f32,
        ..Constants::default()
    }
}

/// Σᵢ wᵢ ℓᵢ: [1].
pub fn weighted(losses: &Tensor, weights: Vec<f32>) -> Result<Tensor> {
    let n = weights.len();
    Ok(ops::sum(&ops::mul(losses, &Tensor::from_f32(losses.device(), weights, &[n])?)?)?)
}

/// One pass over a forest at the temperature that completions are drawn with.
pub fn score(model: &Decoder, batch: &Batch, temperature: f64, pass: Pass) -> Result<Scored> {
    let hidden = model.hidden(&batch.forest, pass)?;
    let scored = model.score_in(pass, &hidden, &batch.rows, &batch.targets, temperature as f32)?;
    let logp = ops::to_device(&scored.logp, &loss_device())?;
    Ok(Scored { logp, entropy: scored.entropy.to_vec()?, hidden })
}

/// log π of every sample's tokens, in micro-batches of `batch_size` samples, without a gradient.
pub fn log_probabilities(
    model: &Decoder,
    experience: &Experience,
    batch_size: usize,
    temperature: f64,
) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::with_capacity(experience.samples.len());
    for samples in experience.samples.chunks(batch_size.max(1)) {
        let batch = experience.batch(samples)?;
        let logp = match batch.n_items() {
            0 => vec![],
            _ => score(model, &batch, temperature, Pass::default())?.logp.to_vec()?,
        };
        all.extend(by_sample(samples, &logp));
    }
    Ok(all)
}

/// Values of a micro-batch's predictions, cut into those of each sample; a masked sample has none.
pub fn by_sample(samples: &[Sample], values: &[f32]) -> Vec<Vec<f32>> {
    let mut rest = values;
    let mut take = |n: usize| {
        let (own, others) = rest.split_at(n.min(rest.len()));
        rest = others;
        own.to_vec()
    };
    samples.iter().map(|s| take(s.n_trained())).collect()
}

/// A value of each prediction of a micro-batch, on the device of losses: [N].
pub fn per_token(samples: &[Sample], value: impl Fn(&Sample, usize) -> f32) -> Result<Tensor> {
    let values: Vec<f32> =
        samples.iter().flat_map(|s| (0..s.n_trained()).map(|t| value(s, t)).collect::<Vec<_>>()).collect();
    let n = values.len();
    Ok(Tensor::from_f32(&loss_device(), values, &[n])?)
}

/// Which sample each prediction belongs to.
pub fn sequences(batch: &Batch, samples: &[Sample]) -> Result<Sequences> {
    Ok(Sequences::new(&batch.sequences, samples.len())?)
}

/// Mean of some numbers; NaN of none.
pub fn mean(x: &[f32]) -> f64 {
    x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len() as f64
}
