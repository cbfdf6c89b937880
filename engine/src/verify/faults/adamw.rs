//! Mistakes of the optimiser, and the reference with one of them.
use super::Fault::Optimise as Of;
use super::*;
use crate::verify::optimise::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    BiasCorrection,
    WeightDecay,
    GradScale,
    Epsilon,
    FirstTensors,
    DecayOfNeighbour,
}

pub(super) const PLANTED: &[Planted] = &[
    (Of(BiasCorrection), "adamw", cases),
    (Of(WeightDecay), "adamw", cases),
    (Of(GradScale), "adamw", cases),
    (Of(Epsilon), "adamw", cases),
    (Of(FirstTensors), "adamw", cases),
    (Of(DecayOfNeighbour), "adamw", cases),
];

impl Optimise for Faulty {
    fn adamw(&self, tensors: &mut [Trained<'_>], mut step: AdamWStep) -> Result<()> {
        let decays: Vec<f64> = tensors.iter().map(|t| t.weight_decay).collect();
        let n_tensors = tensors.len();
        match self.0 {
            Of(BiasCorrection) => step.step = 1_000_000_000,
            Of(WeightDecay) => tensors.iter_mut().for_each(|t| t.weight_decay = 0.0),
            Of(GradScale) => step.grad_scale = 1.0,
            Of(Epsilon) => step.epsilon = 0.0,
            // those of the first dispatch
            Of(FirstTensors) => return Reference.adamw(&mut tensors[..n_tensors.min(7)], step),
            Of(DecayOfNeighbour) => {
                tensors.iter_mut().enumerate().for_each(|(i, t)| t.weight_decay = decays[(i + 1) % n_tensors]);
            }
            _ => {}
        }
        Reference.adamw(tensors, step)
    }
}
