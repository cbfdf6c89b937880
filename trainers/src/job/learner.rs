//! What every trainer does between a loss and the next batch: collect gradients, clip, step the optimiser.
use crate::run::{OptimizerState, Slot};
use engine::backend::Device;
use engine::model::decoder::Decoder;
use engine::model::parameter::Parameter;
use engine::optim::{AdamW, clip_coefficient, global_norm, sgd};
use engine::reference::Reference;
use engine::tape::{Gradients, Tape};
use engine::tensor::Tensor;
use engine::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The optimiser and its state.
#[derive(Debug)]
pub enum Optimizer {
    /// Adam with decoupled weight decay, and its moments.
    AdamW(AdamW),
    /// Plain gradient descent: no state.
    Sgd,
}

/// A model being trained.
pub struct Learner {
    /// What is trained.
    pub model: Decoder,
    /// How it steps.
    pub optimizer: Optimizer,
    /// Decoupled weight decay of matrices; norms and biases have none.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 does not clip.
    pub max_grad_norm: f64,
    /// Sum over the micro-batches so far, in the order of `model.trained()`.
    gradients: Vec<Tensor>,
}

/// The device on which losses are computed from log-probabilities: plain loops, the same numbers everywhere.
pub fn loss_device() -> Device {
    Arc::new(Reference)
}

/// A parameter as optimisers take it: name, values, and its weight decay, which norms and biases have not.
pub fn for_optimizer(parameter: &mut Parameter, decay: f64) -> (String, &mut Tensor, f64) {
    let decay = if parameter.slot.role.decays() { decay } else { 0.0 };
    (parameter.path().to_string(), &mut parameter.tensor, decay)
}

impl Learner {
    /// A learner that has accumulated nothing yet. `max_grad_norm` 0: gradients are not clipped.
    pub fn new(model: Decoder, optimizer: Optimizer, weight_decay: f64, max_grad_norm: f64) -> Self {
        Learner { model, optimizer, weight_decay, max_grad_norm, gradients: vec![] }
    }

    /// Walks back from `loss` (one value, on `tape`) and adds the gradients to those collected so far.
    /// `watched` is the model on the tape that the loss was computed with.
    pub fn accumulate(&mut self, tape: &Tape, watched: Decoder, loss: &Tensor) -> Result<()> {
        self.accumulate_and_keep(tape, watched, loss).map(|_| ())
    }

    /// [`Learner::accumulate`] that returns the gradients of whatever else is on the tape: a critic's.
    pub fn accumulate_and_keep(&mut self, tape: &Tape, watched: Decoder, loss: &Tensor) -> Result<Gradients> {
        let one = Tensor::scalar(loss.device(), 1.0)?;
        let mut gradients = tape.backward([(loss, one)])?;
        let first = self.gradients.is_empty();
        for (i, leaf) in watched.trained().into_iter().enumerate() {
            let gradient = match gradients.take(leaf) {
                Some(g) => g,
                None => Tensor::zeros(leaf.device(), leaf.shape())?,
            };
            match self.gradients.get_mut(i) {
                Some(sum) => sum.add_in_place(1.0, &gradient)?,
                None if first => self.gradients.push(gradient),
                None => {
                    let path = leaf.path();
                    return Err(Error::shape("accumulate", format!("{path} was not trained on in the batch before")));
                }
            }
        }
        Ok(gradients)
    }

    /// Counts a micro-batch in which nothing is trained on: its gradients are 0.
    pub fn accumulate_nothing(&mut self) -> Result<()> {
        if self.gradients.is_empty() {
            let zeros = |p: &Parameter| Tensor::zeros(p.device(), p.shape());
            self.gradients = self.model.trained().into_iter().map(zeros).collect::<Result<_>>()?;
        }
        Ok(())
    }

    /// One optimiser step with the collected gradients; returns their global norm before clipping.
    pub fn step(&mut self, learning_rate: f64) -> Result<f64> {
        let gradients = std::mem::take(&mut self.gradients);
        let norm = global_norm(&self.model.device, &gradients)?;
        if !norm.is_finite() {
            return Err(Error::Input(format!(
                "the gradient's norm is {norm}: training has diverged. Lower the learning rate, or look at the last rows"
            )));
        }
        let scale = clip_coefficient(norm, self.max_grad_norm);
        let decay = self.weight_decay;
        let parameters = self.model.trained_mut().into_iter().map(|p| for_optimizer(p, decay)).collect();
        match &mut self.optimizer {
            Optimizer::AdamW(adamw) => adamw.step(parameters, gradients, learning_rate, scale)?,
            Optimizer::Sgd => sgd(parameters, gradients, learning_rate, scale)?,
        }
        Ok(norm)
    }

    /// The optimiser's state in host memory, ready to save.
    pub fn optimizer_state(&self) -> Result<OptimizerState> {
        match &self.optimizer {
            Optimizer::Sgd => Ok(OptimizerState::default()),
            Optimizer::AdamW(adamw) => {
                let state = adamw.state(&self.model.device)?;
                let slots = state.into_iter().map(|(name, (shape, values))| (name, Slot { shape, values })).collect();
                Ok(OptimizerState { step: adamw.step, slots })
            }
        }
    }

    /// Takes up a saved state, which must have the moments of every trained tensor in its shape.
    pub fn restore_optimizer(&mut self, mut saved: OptimizerState) -> crate::Result<()> {
        let shapes: Vec<(String, Vec<usize>)> =
            self.model.trained().into_iter().map(|p| (p.path().to_string(), p.shape().to_vec())).collect();
        let Optimizer::AdamW(adamw) = &mut self.optimizer else { return Ok(()) };
        let mut state = BTreeMap::new();
        for (name, shape) in shapes {
            for moment in ["m", "v"] {
                let key = format!("{name}.{moment}");
                let values = saved.take(&key, &shape)?;
                state.insert(key, (shape.clone(), values));
            }
        }
        adamw.restore(&self.model.device, saved.step, state)?;
        Ok(())
    }
}
