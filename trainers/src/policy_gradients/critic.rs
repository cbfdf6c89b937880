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
use crate::job::learner::{for_optimizer, loss_device};
use crate::run::{OptimizerState, Slot};
use engine::backend::{Device, RowIndex};
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::optim::{AdamW, clip_coefficient, global_norm};
use engine::tape::{Gradients, Tape};
use engine::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const HEAD: &str = "score.weight";
const DIRECTORY: &str = "critic";

/// A critic being trained.
pub struct Critic {
    /// Its own model; None for a head on the policy's.
    pub trunk: Option<Decoder>,
    /// w: [1, D]. It starts at 0: the first values are 0.
    pub head: Tensor,
    device: Device,
    adamw: AdamW,
    weight_decay: f64,
    max_grad_norm: f64,
    gradients: Vec<Tensor>,
}

/// A critic on a tape.
pub struct Watched {
    trunk: Option<Decoder>,
    /// w on the tape: [1, D].
    pub head: Tensor,
}

impl Critic {
    /// `trunk`: the model that the critic starts from, if it has one of its own.
    pub fn new(
        policy: &Decoder,
        trunk: Option<Decoder>,
        adamw: AdamW,
        weight_decay: f64,
        max_grad_norm: f64,
    ) -> Result<Self> {
        let device = policy.device.clone();
        let head = Tensor::zeros(&device, &[1, policy.config.hidden_size])?;
        Ok(Critic { trunk, head, device, adamw, weight_decay, max_grad_norm, gradients: vec![] })
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

    /// Collects gradients of [`Watched`]: those of its trunk, then of its head.
    pub fn accumulate(&mut self, gradients: Vec<Tensor>) -> Result<()> {
        if self.gradients.is_empty() {
            self.gradients = gradients;
            return Ok(());
        }
        for (sum, gradient) in self.gradients.iter_mut().zip(&gradients) {
            sum.add_in_place(1.0, gradient)?;
        }
        Ok(())
    }

    /// One optimiser step with what was collected.
    pub fn step(&mut self, learning_rate: f64) -> Result<()> {
        let gradients = std::mem::take(&mut self.gradients);
        if gradients.is_empty() {
            return Ok(());
        }
        let norm = global_norm(&self.device, &gradients)?;
        if !norm.is_finite() {
            return Err(Error::Input(format!(
                "the critic's gradient norm is {norm}: it has diverged. Lower its learning rate"
            )));
        }
        let decay = self.weight_decay;
        let trunk = self.trunk.iter_mut().flat_map(Decoder::trained_mut).map(|p| for_optimizer(p, decay));
        let parameters = trunk.chain([(HEAD.to_string(), &mut self.head, decay)]).collect();
        let scale = clip_coefficient(norm, self.max_grad_norm);
        Ok(self.adamw.step(parameters, gradients, learning_rate, scale)?)
    }

    /// Puts weights and moments into a checkpoint.
    pub fn save(&self, checkpoint: &Path) -> Result<()> {
        let dir = checkpoint.join(DIRECTORY);
        std::fs::create_dir_all(&dir).map_err(|e| Error::file(&dir, e))?;
        let moments = self.adamw.state(&self.device)?;
        let mut slots: BTreeMap<String, Slot> =
            moments.into_iter().map(|(name, (shape, values))| (name, Slot { shape, values })).collect();
        let trunk = self.trunk.iter().flat_map(Decoder::trained).map(|p| (p.path().to_string(), &p.tensor));
        for (name, tensor) in trunk.chain([(HEAD.to_string(), &self.head)]) {
            slots.insert(name, Slot { shape: tensor.shape().to_vec(), values: tensor.to_vec()? });
        }
        OptimizerState { step: self.adamw.step, slots }.write(&dir)
    }

    /// Takes them from a checkpoint.
    pub fn restore(&mut self, checkpoint: &Path) -> Result<()> {
        let mut saved = OptimizerState::read(&checkpoint.join(DIRECTORY))?;
        let mut moments = BTreeMap::new();
        let (device, step) = (self.device.clone(), saved.step);
        let trunk = self.trunk.iter_mut().flat_map(Decoder::trained_mut);
        let trunk = trunk.map(|p| (p.path().to_string(), &mut p.tensor));
        for (name, tensor) in trunk.chain([(HEAD.to_string(), &mut self.head)]) {
            let shape = tensor.shape().to_vec();
            *tensor = Tensor::from_f32(&device, saved.take(&name, &shape)?, &shape)?;
            for moment in ["m", "v"].into_iter().filter(|_| step > 0) {
                let key = format!("{name}.{moment}");
                moments.insert(key.clone(), (shape.clone(), saved.take(&key, &shape)?));
            }
        }
        Ok(self.adamw.restore(&device, step, moments)?)
    }
}

impl Watched {
    /// The value at each prediction of a batch, on the device of losses: [N]. `hidden` is the policy's, for a critic
    /// without a model of its own.
    pub fn values(&self, policy: &Decoder, hidden: Option<&Tensor>, batch: &Batch, pass: Pass) -> Result<Tensor> {
        let (model, own);
        let hidden = match (&self.trunk, hidden) {
            (Some(trunk), _) => {
                model = trunk;
                own = trunk.hidden(&batch.forest, Pass { dropout: None, ..pass })?;
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

    /// The gradients of its trunk's tensors and of its head, in this order; zeros where nothing flowed.
    pub fn gradients(&self, gradients: &mut Gradients) -> Result<Vec<Tensor>> {
        let trunk = self.trunk.iter().flat_map(Decoder::trained).map(|p| &p.tensor);
        let of = |leaf: &Tensor| match gradients.take(leaf) {
            Some(gradient) => Ok(gradient),
            None => Ok(Tensor::zeros(leaf.device(), leaf.shape())?),
        };
        trunk.chain([&self.head]).map(of).collect()
    }
}

/// How much of the variance of the returns the values explain: 1 − Var(R − V) / Var(R).
pub fn explained_variance(samples: &[Sample]) -> f64 {
    let flat =
        |f: fn(&Sample) -> &Vec<f32>| -> Vec<f64> { samples.iter().flat_map(f).map(|x| f64::from(*x)).collect() };
    let (returns, values) = (flat(|s| &s.returns), flat(|s| &s.values));
    let rest: Vec<f64> = returns.iter().zip(&values).map(|(r, v)| r - v).collect();
    1.0 - (crate::advantages::std(&rest) / crate::advantages::std(&returns)).powi(2)
}
