//! Losses: pure functions of log-probabilities, one small function each, with paper and equation.
pub mod sft;
pub mod policy;
pub mod weights;
pub mod clipping;
pub mod kl;
pub mod value;
pub mod sequences;
pub mod divergence;
pub mod dpo;
pub mod orpo;
pub mod cpo;
pub mod kto;
pub mod reward;

#[cfg(test)]
mod by_hand {
    //! Value and gradient of a function of one vector, for tests worked by hand.
    use engine::Result;
    use engine::backend::Device;
    use engine::reference::Reference;
    use engine::tape::Tape;
    use engine::tensor::Tensor;
    use std::sync::Arc;

    /// (y, ∂y/∂x) of y = f(x), one value.
    pub fn value_and_gradient(x: &[f32], f: impl Fn(&Tensor) -> Result<Tensor>) -> (f32, Vec<f32>) {
        let device: Device = Arc::new(Reference);
        let tape = Tape::new();
        let x = tape.watch(&Tensor::from_f32(&device, x.to_vec(), &[x.len()]).unwrap());
        let y = f(&x).unwrap();
        let one = Tensor::scalar(&device, 1.0).unwrap();
        let gradient = tape.backward([(&y, one)]).unwrap().take(&x).unwrap();
        (y.item().unwrap(), gradient.to_vec().unwrap())
    }
}
