//! The model being trained: what every trainer does between a loss and the next batch.
use crate::job::stepper::{Stepped, Stepper};
use crate::run::OptimizerState;
use engine::Result;
use engine::backend::Device;
use engine::model::decoder::Decoder;
use engine::model::parameter::Parameter;
use engine::reference::Reference;
use engine::tape::{Gradients, Tape};
use engine::tensor::Tensor;
use std::sync::Arc;

pub use crate::job::stepper::{Optimizer, Tried};

/// A model being trained.
pub struct Learner {
    /// What is trained.
    pub model: Decoder,
    /// How it steps.
    stepper: Stepper,
}

/// The device on which losses are computed from log-probabilities: plain loops, the same numbers everywhere.
pub fn loss_device() -> Device {
    Arc::new(Reference)
}

/// The trained tensors of a model as they step; norms and biases do not decay.
pub fn stepped(model: &mut Decoder) -> impl Iterator<Item = Stepped<'_>> {
    model.trained_mut().into_iter().map(|p| (p.path().to_string(), &mut p.tensor, p.slot.role.decays()))
}

/// The trained tensors of a model by path, in the same order.
pub fn leaves(model: &Decoder) -> impl Iterator<Item = (&str, &Tensor)> {
    model.trained().into_iter().map(|p| (p.path(), &p.tensor))
}

impl Learner {
    /// A learner that has accumulated nothing yet. `max_grad_norm` 0: gradients are not clipped.
    pub fn new(model: Decoder, optimizer: Optimizer, weight_decay: f64, max_grad_norm: f64) -> Self {
        Learner { model, stepper: Stepper::new(optimizer, weight_decay, max_grad_norm) }
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
        self.stepper.accumulate(leaves(&watched), &mut gradients)?;
        Ok(gradients)
    }

    /// Counts a micro-batch in which nothing is trained on: its gradients are 0.
    pub fn accumulate_nothing(&mut self) -> Result<()> {
        self.stepper.accumulate_nothing(leaves(&self.model).map(|(_, tensor)| tensor))
    }

    /// One optimiser step with the collected gradients; returns their global norm before clipping.
    pub fn step(&mut self, learning_rate: f64) -> Result<f64> {
        self.try_step(learning_rate)?.taken("training")
    }

    /// [`Learner::step`] for whoever goes on where the norm is not finite.
    pub fn try_step(&mut self, learning_rate: f64) -> Result<Tried> {
        let device = self.model.device.clone();
        self.stepper.try_step(&device, stepped(&mut self.model).collect(), learning_rate)
    }

    /// Forgets the gradients collected so far.
    pub fn forget(&mut self) {
        self.stepper.forget();
    }

    /// The optimiser's state in host memory, ready to save.
    pub fn optimizer_state(&self) -> Result<OptimizerState> {
        self.stepper.state(&self.model.device)
    }

    /// Takes up a saved state, which must have the moments of every trained tensor in its shape.
    pub fn restore_optimizer(&mut self, saved: OptimizerState) -> crate::Result<()> {
        let shape = |p: &Parameter| (p.path().to_string(), p.shape().to_vec());
        let shapes = self.model.trained().into_iter().map(shape).collect();
        self.stepper.restore(&self.model.device, shapes, saved)
    }
}
