//! PPO's critic: how much reward is still to come after each token. A head on the policy's own hidden states, or a model
//! of its own with such a head.
//!
//! ```text
//! V = w · rms_norm(x)      x the hidden state of the row that predicts the token
//! ```
use super::experience::{Experience, Sample};
use super::measure::by_sample;
use crate::error::{Error, Result};
use crate::job::batch::Batch;
use crate::job::learner::{leaves, loss_device, stepped};
use crate::job::stepper::Stepper;
use crate::run::Slot;
use crate::run::side_files::{CRITIC, read_state, write_state};
use engine::backend::{Device, RowIndex};
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::tape::{Gradients, Tape};
use engine::tensor::Tensor;
use std::path::Path;
use std::sync::Arc;

const HEAD: &str = "score.weight";

/// A critic being trained.
pub struct Critic {
    /// Its own model; None for a head on the policy's.
    pub trunk: Option<Decoder>,
    /// w: [1, D]. It starts at 0: the first values are 0.
    pub head: Tensor,
    device: Device,
    stepper: Stepper,
}

/// A critic on a tape.
pub struct Watched {
    trunk: Option<Decoder>,
    /// w on the tape: [1, D].
    pub head: Tensor,
}

impl Critic {
    /// `trunk`: the model that the critic starts from, if it has one of its own.
    pub fn new(policy: &Decoder, trunk: Option<Decoder>, stepper: Stepper) -> Result<Self> {
        let device = policy.device.clone();
        let head = Tensor::zeros(&device, &[1, policy.config.hidden_size])?;
        Ok(Critic { trunk, head, device, stepper })
    }

    /// The critic with its trunk (if it has one) and head as leaves of `tape`.
    pub fn watch(&self, tape: &Tape) -> Watched {
        Watched { trunk: self.trunk.as_ref().map(|t| t.watch(tape)), head: tape.watch(&self.head) }
    }

    /// The same without a gradient.
    fn at_rest(&self) -> Watched {
        Watched { trunk: self.trunk.clone(), head: self.head.clone() }
    }

    /// The value at every token of every sample, before anything is learnt from them.
    pub fn values_of(&self, policy: &Decoder, experience: &Experience, batch_size: usize) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(experience.samples.len());
        for samples in experience.samples.chunks(batch_size.max(1)) {
            let batch = experience.batch(samples)?;
            let values = match batch.n_items() {
                0 => vec![],
                _ => {
                    let hidden = match &self.trunk {
                        Some(_) => None,
                        None => Some(policy.hidden(&batch.forest, Pass::default())?),
                    };
                    self.at_rest().values(policy, hidden.as_ref(), &batch, Pass::default())?.to_vec()?
                }
            };
            all.extend(by_sample(samples, &values));
        }
        Ok(all)
    }

    /// Collects the gradients of its trunk's tensors, then of its head; `watched` is itself on the tape.
    pub fn accumulate(&mut self, watched: &Watched, gradients: &mut Gradients) -> Result<()> {
        Ok(self.stepper.accumulate(all(watched.trunk.as_ref(), &watched.head), gradients)?)
    }

    /// One optimiser step with what was collected.
    pub fn step(&mut self, learning_rate: f64) -> Result<()> {
        if self.stepper.is_empty() {
            return Ok(());
        }
        let trunk = self.trunk.iter_mut().flat_map(stepped);
        let parameters = trunk.chain([(HEAD.to_string(), &mut self.head, true)]).collect();
        self.stepper.try_step(&self.device, parameters, learning_rate)?.taken("the critic")?;
        Ok(())
    }

    /// Puts weights and moments into a checkpoint.
    pub fn save(&self, checkpoint: &Path) -> Result<()> {
        let mut state = self.stepper.state(&self.device)?;
        for (name, tensor) in all(self.trunk.as_ref(), &self.head) {
            state.slots.insert(name.into(), Slot { shape: tensor.shape().to_vec(), values: tensor.to_host()? });
        }
        write_state(checkpoint, CRITIC, &state)
    }

    /// Takes them from a checkpoint.
    pub fn restore(&mut self, checkpoint: &Path) -> Result<()> {
        let mut saved = read_state(checkpoint, CRITIC)?;
        let mut shapes = Vec::new();
        let trunk = self.trunk.iter_mut().flat_map(stepped);
        for (name, tensor, _) in trunk.chain([(HEAD.to_string(), &mut self.head, true)]) {
            let shape = tensor.shape().to_vec();
            *tensor = Tensor::from_f32(&self.device, saved.take(&name, &shape)?, &shape)?;
            shapes.push((name, shape));
        }
        // A critic that has not stepped yet has no moments.
        if saved.step > 0 { self.stepper.restore(&self.device, shapes, saved) } else { Ok(()) }
    }
}

/// The trained tensors of a critic by name: its trunk's, then its head.
fn all<'a>(trunk: Option<&'a Decoder>, head: &'a Tensor) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
    trunk.into_iter().flat_map(leaves).chain([(HEAD, head)])
}

impl Watched {
    /// The value at each prediction of a batch, on the device of losses: [N]. `hidden` is the policy's, for a critic
    /// without a model of its own.
    pub fn values(&self, policy: &Decoder, hidden: Option<&Tensor>, batch: &Batch, pass: Pass) -> Result<Tensor> {
        let (model, own);
        let hidden = match (&self.trunk, hidden) {
            (Some(trunk), _) => {
                model = trunk;
                own = trunk.hidden(&batch.forest, Pass { dropout: None, noise: None, ..pass })?;
                &own
            }
            (None, Some(hidden)) => {
                model = policy;
                hidden
            }
            (None, None) => return Err(Error::internal("a critic's head without hidden states")),
        };
        let index = Arc::new(RowIndex::new(&*model.device, &batch.rows)?);
        let x = ops::gather_rows(hidden, &index)?;
        let x = ops::rms_norm(&x, &model.norm, model.config.rms_norm_eps as f32)?;
        let values = ops::linear(&x, &self.head, None)?.reshape(&[batch.n_items()])?;
        Ok(ops::to_device(&values, &loss_device())?)
    }
}

/// How much of the variance of the returns the values explain: 1 − Var(R − V) / Var(R).
pub fn explained_variance(samples: &[Sample]) -> f64 {
    let flat =
        |f: fn(&Sample) -> &Vec<f32>| -> Vec<f64> { samples.iter().flat_map(f).map(|x| f64::from(*x)).collect() };
    let (returns, values) = (flat(|s| &s.returns), flat(|s| &s.values));
    let rest: Vec<f64> = returns.iter().zip(&values).map(|(r, v)| r - v).collect();
    1.0 - (crate::statistics::std(&rest) / crate::statistics::std(&returns)).powi(2)
}
