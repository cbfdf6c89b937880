//! What a model says about the predictions of a batch: the one pass that every loss, reference and judge takes.
use crate::job::batch::Batch;
use crate::job::learner::loss_device;
use engine::Result;
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::tensor::Tensor;

/// What a model says about the N predictions of a batch of T tokens.
pub struct Scored {
    /// log π of each target, on the loss device; differentiable if the model is on a tape: [N].
    pub logp: Tensor,
    /// Hidden states before the last norm: [T, D].
    pub hidden: Tensor,
    head: ops::Scored,
}

/// Passes a batch through the model; a watched model leaves its trace on the tape. `temperature` divides the logits.
pub fn score(model: &Decoder, batch: &Batch, temperature: f64, pass: Pass) -> Result<Scored> {
    let hidden = model.hidden(&batch.forest, pass)?;
    let head = model.score_in(pass, &hidden, &batch.rows, &batch.targets, temperature as f32)?;
    Ok(Scored { logp: ops::to_device(&head.logp, &loss_device())?, hidden, head })
}

/// log π of each target without a gradient, on the loss device: [N]. For a reference, a judge, the policy that drew.
pub fn log_probabilities(model: &Decoder, batch: &Batch, temperature: f64) -> Result<Tensor> {
    Ok(score(model, batch, temperature, Pass::default())?.logp.detach())
}

impl Scored {
    /// Entropy of the distribution of each prediction, in nats: [N].
    pub fn entropy(&self) -> Result<Vec<f32>> {
        self.head.entropy.to_vec()
    }

    /// Whether each target is the likeliest token: [N].
    pub fn correct(&self, batch: &Batch) -> Result<Vec<bool>> {
        Ok(self.head.argmax()?.iter().zip(&batch.targets).map(|(a, t)| a == t).collect())
    }
}
