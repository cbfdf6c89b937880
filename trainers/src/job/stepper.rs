//! From gradients to the next weights, for every model that is trained: collect, clip, step the optimiser; its state.
use crate::run::{OptimizerState, Slot};
use engine::backend::Device;
use engine::optim::{AdamW, clip_coefficient, sgd, square_sums};
use engine::tape::Gradients;
use engine::tensor::Tensor;
use engine::{Error, Result};
use std::collections::BTreeMap;

/// The optimiser and its state.
#[derive(Debug)]
pub enum Optimizer {
    /// Adam with decoupled weight decay, and its moments.
    AdamW(AdamW),
    /// Plain gradient descent: no state.
    Sgd,
}

/// An optimiser with the gradients that its next step takes.
#[derive(Debug)]
pub struct Stepper {
    optimizer: Optimizer,
    /// Decoupled weight decay of matrices; norms and biases have none.
    weight_decay: f64,
    /// Largest global norm of the gradient; 0 does not clip.
    max_grad_norm: f64,
    /// Sum over the micro-batches so far, in the order of the parameters.
    gradients: Vec<Tensor>,
}

/// A tensor that steps: its name, its values, and whether weights of its kind decay.
pub type Stepped<'a> = (String, &'a mut Tensor, bool);

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Tried {
    /// It was taken; the global norm of the gradients before clipping.
    Stepped(f64),
    /// That norm is not finite, so nothing has moved.
    Diverged {
        /// inf or NaN.
        norm: f64,
        /// The first tensor, in the order of the model, whose gradient is not finite.
        tensor: String,
    },
}

impl Tried {
    /// The norm of a step that was taken. Errors: it was not; `whose`: the critic …
    pub fn taken(self, whose: &str) -> Result<f64> {
        match self {
            Tried::Stepped(norm) => Ok(norm),
            Tried::Diverged { norm, tensor } => Err(Error::Input(format!(
                "{whose} has diverged: the gradient's norm is {norm}, first in {tensor}. Lower the learning rate"
            ))),
        }
    }
}

impl Stepper {
    /// Nothing collected yet. `max_grad_norm` 0: gradients are not clipped.
    pub fn new(optimizer: Optimizer, weight_decay: f64, max_grad_norm: f64) -> Self {
        Stepper { optimizer, weight_decay, max_grad_norm, gradients: vec![] }
    }

    /// Whether no gradient has been collected since the last step.
    pub fn is_empty(&self) -> bool {
        self.gradients.is_empty()
    }

    /// Adds the gradients of `leaves` (name, tensor on the tape) to those collected so far; zeros where nothing flowed.
    /// The leaves come in the order in which [`Stepper::step`] is given their values.
    pub fn accumulate<'a>(
        &mut self,
        leaves: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let first = self.gradients.is_empty();
        for (i, (name, leaf)) in leaves.into_iter().enumerate() {
            let gradient = match gradients.take(leaf) {
                Some(g) => g,
                None => Tensor::zeros(leaf.device(), leaf.shape())?,
            };
            match self.gradients.get_mut(i) {
                Some(sum) => sum.add_in_place(1.0, &gradient)?,
                None if first => self.gradients.push(gradient),
                None => {
                    return Err(Error::shape("accumulate", format!("{name} was not trained on in the batch before")));
                }
            }
        }
        Ok(())
    }

    /// Counts a micro-batch in which nothing is trained on: the gradients of `leaves` are 0.
    pub fn accumulate_nothing<'a>(&mut self, leaves: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
        if self.gradients.is_empty() {
            let zeros = |leaf: &Tensor| Tensor::zeros(leaf.device(), leaf.shape());
            self.gradients = leaves.into_iter().map(zeros).collect::<Result<_>>()?;
        }
        Ok(())
    }

    /// Forgets the collected gradients.
    pub fn forget(&mut self) {
        self.gradients.clear();
    }

    /// One step of `parameters` with the collected gradients. Where their norm is not finite, nothing moves and they are
    /// forgotten.
    pub fn try_step(&mut self, device: &Device, parameters: Vec<Stepped>, learning_rate: f64) -> Result<Tried> {
        let gradients = std::mem::take(&mut self.gradients);
        let squares = square_sums(device, &gradients)?;
        let norm = squares.iter().sum::<f64>().sqrt();
        if !norm.is_finite() {
            let first = squares.iter().position(|sum| !sum.is_finite()).and_then(|i| parameters.get(i));
            return Ok(Tried::Diverged { norm, tensor: first.map_or_else(String::new, |(name, ..)| name.clone()) });
        }
        let (scale, decay) = (clip_coefficient(norm, self.max_grad_norm), self.weight_decay);
        let decayed = |(name, values, decays)| (name, values, if decays { decay } else { 0.0 });
        let parameters = parameters.into_iter().map(decayed).collect();
        match &mut self.optimizer {
            Optimizer::AdamW(adamw) => adamw.step(parameters, gradients, learning_rate, scale)?,
            Optimizer::Sgd => sgd(parameters, gradients, learning_rate, scale)?,
        }
        Ok(Tried::Stepped(norm))
    }

    /// The optimiser's state in host memory, ready to save.
    pub fn state(&self, device: &Device) -> Result<OptimizerState> {
        let Optimizer::AdamW(adamw) = &self.optimizer else { return Ok(OptimizerState::default()) };
        let state = adamw.state(device)?;
        let slots = state.into_iter().map(|(name, (shape, values))| (name, Slot { shape, values })).collect();
        Ok(OptimizerState { step: adamw.step, slots })
    }

    /// Takes up a saved state, which must have the moments of every parameter (name, shape).
    pub fn restore(
        &mut self,
        device: &Device,
        parameters: Vec<(String, Vec<usize>)>,
        mut saved: OptimizerState,
    ) -> crate::Result<()> {
        let Optimizer::AdamW(adamw) = &mut self.optimizer else { return Ok(()) };
        let mut state = BTreeMap::new();
        for (name, shape) in parameters {
            for moment in ["m", "v"] {
                let key = format!("{name}.{moment}");
                let values = saved.take(&key, &shape)?;
                state.insert(key, (shape.clone(), values));
            }
        }
        Ok(adamw.restore(device, saved.step, state)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ops;
    use engine::reference::Reference;
    use engine::tape::Tape;

    fn device() -> Device {
        std::sync::Arc::new(Reference)
    }

    /// Gradients of Σ c · w for w: they are c, [2].
    fn gradients(w: &Tensor, c: f32) -> (Tensor, Gradients) {
        let tape = Tape::new();
        let watched = tape.watch(w);
        let loss = ops::scale(&ops::sum(&watched).unwrap(), c).unwrap();
        let one = Tensor::scalar(loss.device(), 1.0).unwrap();
        let gradients = tape.backward([(&loss, one)]).unwrap();
        (watched, gradients)
    }

    fn accumulate(stepper: &mut Stepper, w: &Tensor, c: f32) {
        let (watched, mut gradients) = gradients(w, c);
        stepper.accumulate([("w", &watched)], &mut gradients).unwrap();
    }

    #[test]
    fn gradients_add_up_and_are_clipped_together() {
        let mut w = Tensor::from_f32(&device(), vec![1.0, 1.0], &[2]).unwrap();
        let mut stepper = Stepper::new(Optimizer::Sgd, 0.5, 0.0);
        accumulate(&mut stepper, &w, 3.0);
        accumulate(&mut stepper, &w, 1.0);
        // g = 4 each: ‖g‖ = √32. Without decay w = 1 − ¼ · 4; with it 1 − ¼ · ½ first.
        let tried = stepper.try_step(&device(), vec![("w".into(), &mut w, false)], 0.25).unwrap();
        assert_eq!((tried, w.to_vec().unwrap()), (Tried::Stepped(32f64.sqrt()), vec![0.0, 0.0]));
        let mut w = Tensor::from_f32(&device(), vec![1.0, 1.0], &[2]).unwrap();
        accumulate(&mut stepper, &w, 4.0);
        stepper.try_step(&device(), vec![("w".into(), &mut w, true)], 0.25).unwrap();
        assert_eq!(w.to_vec().unwrap(), [-0.125, -0.125]);
        assert!(stepper.is_empty());
        let mut clipped = Stepper::new(Optimizer::Sgd, 0.0, 1.0);
        accumulate(&mut clipped, &w, 4.0);
        clipped.try_step(&device(), vec![("w".into(), &mut w, true)], 1.0).unwrap();
        let moved = f64::from(w.to_vec().unwrap()[0]) + 0.125;
        assert!((moved + 0.5f64.sqrt()).abs() < 1e-6, "{moved}");
    }

    #[test]
    fn what_has_diverged_is_told() {
        let mut w = Tensor::from_f32(&device(), vec![1.0, 1.0], &[2]).unwrap();
        let mut stepper = Stepper::new(Optimizer::Sgd, 0.0, 0.0);
        accumulate(&mut stepper, &w, f32::INFINITY);
        let tried = stepper.try_step(&device(), vec![("w".into(), &mut w, true)], 1.0).unwrap();
        assert_eq!(tried, Tried::Diverged { norm: f64::INFINITY, tensor: "w".into() });
        let told = tried.taken("the critic").unwrap_err().to_string();
        assert!(told.starts_with("the critic has diverged: the gradient's norm is inf, first in w."), "{told}");
        assert!(stepper.is_empty(), "its gradients are forgotten");
        assert_eq!(w.to_vec().unwrap(), [1.0, 1.0], "nothing has moved");
    }

    #[test]
    fn a_restored_optimiser_takes_the_same_steps() {
        let adamw = || Optimizer::AdamW(AdamW::new(0.9, 0.999, 1e-8));
        let mut w = Tensor::from_f32(&device(), vec![1.0, 2.0], &[2]).unwrap();
        let mut stepper = Stepper::new(adamw(), 0.1, 1.0);
        let step = |stepper: &mut Stepper, w: &mut Tensor, c: f32| {
            accumulate(stepper, w, c);
            stepper.try_step(&device(), vec![("w".into(), w, true)], 0.1).unwrap();
        };
        step(&mut stepper, &mut w, 2.0);
        let (mut again, saved) = (Stepper::new(adamw(), 0.1, 1.0), stepper.state(&device()).unwrap());
        assert!(again.restore(&device(), vec![("other".into(), vec![2])], saved.clone()).is_err());
        again.restore(&device(), vec![("w".into(), vec![2])], saved).unwrap();
        let mut copy = w.clone();
        step(&mut stepper, &mut w, -1.0);
        step(&mut again, &mut copy, -1.0);
        assert_eq!(w.to_vec().unwrap(), copy.to_vec().unwrap());
    }
}
