//! Losses of supervised fine-tuning over the log-probabilities of the trained tokens (`engine::ops::lm_head`).
//!
//! Both are normalised by the number of trained tokens of the whole accumulated batch, so that cutting a batch into
//! micro-batches changes nothing.
use crate::named::named;
use engine::Result;
use engine::ops::{exp, mul, scale, sum};
use engine::tensor::Tensor;

/// A loss over the log-probabilities of the trained tokens, [N], divided by the number of them in the accumulated batch: [1].
pub type TokenMean = fn(&Tensor, f32) -> Result<Tensor>;

named! {
    /// What is minimised over the tokens that are trained on, as `--loss_type` names it.
    pub enum SftLoss: TokenMean {
        /// Negative log-likelihood.
        Nll = "nll" | "chunked_nll" => nll,
        /// Each token's negative log-likelihood times its own probability, held constant: unlikely tokens teach less.
        Dft = "dft" => dft,
    }
}

/// Negative log-likelihood: −(1/n) Σᵢ logpᵢ. `logp` [N] → [1].
pub fn nll(logp: &Tensor, n_items: f32) -> Result<Tensor> {
    scale(&sum(logp)?, -1.0 / n_items)
}

/// Dynamic fine-tuning: −(1/n) Σᵢ sg(pᵢ) · logpᵢ with p = exp(logp) held constant. Y. Wu et al., "On the generalization
/// of SFT: a reinforcement learning perspective with reward rectification", 2025, equation 9. `logp` [N] → [1].
pub fn dft(logp: &Tensor, n_items: f32) -> Result<Tensor> {
    let probability = exp(&logp.detach())?;
    scale(&sum(&mul(logp, &probability)?)?, -1.0 / n_items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::backend::Device;
    use engine::reference::Reference;
    use engine::tape::Tape;
    use std::sync::Arc;

    fn value_and_gradient(loss: fn(&Tensor, f32) -> Result<Tensor>, logp: &[f32], n: f32) -> (f32, Vec<f32>) {
        let device: Device = Arc::new(Reference);
        let tape = Tape::new();
        let x = tape.watch(&Tensor::from_f32(&device, logp.to_vec(), &[logp.len()]).unwrap());
        let y = loss(&x, n).unwrap();
        let one = Tensor::scalar(&device, 1.0).unwrap();
        let gradient = tape.backward([(&y, one)]).unwrap().take(&x).unwrap();
        (y.item().unwrap(), gradient.to_vec().unwrap())
    }

    #[test]
    fn nll_by_hand() {
        // −(−1 − 2) / 4 = 0.75; each token weighs −1/4.
        assert_eq!(value_and_gradient(nll, &[-1.0, -2.0], 4.0), (0.75, vec![-0.25, -0.25]));
    }

    #[test]
    fn dft_by_hand() {
        // p = (½, ¼): −(½ ln ½ + ¼ ln ¼) / 2 = ½ ln 2; gradient −p/2, p constant.
        let (half, quarter) = (0.5f32.ln(), 0.25f32.ln());
        let (loss, gradient) = value_and_gradient(dft, &[half, quarter], 2.0);
        approx::assert_relative_eq!(loss, 0.5 * 2f32.ln(), max_relative = 1e-6);
        approx::assert_relative_eq!(gradient[..], [-0.25f32, -0.125][..], max_relative = 1e-6);
    }
}
