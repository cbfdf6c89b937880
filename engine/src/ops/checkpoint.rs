//! Activation checkpointing. T. Chen et al., "Training deep nets with sublinear memory cost", 2016.
use crate::error::{Error, Result};
use crate::tape::{Tape, record1};
use crate::tensor::Tensor;

/// y = f(inputs), keeping only the inputs: the backward computes f again on a tape of its own.
/// `f` must be a pure function of its inputs (dropout is: its mask is a function of a counter), so the gradient is
/// the same, bit for bit, as without checkpointing.
pub fn checkpoint(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor> + Send + 'static) -> Result<Tensor> {
    let detached: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
    let wanted: Vec<bool> = inputs.iter().map(Tensor::needs_grad).collect();
    let y = f(&detached)?;
    record1("checkpoint", &inputs.iter().collect::<Vec<_>>(), y, move |dy| {
        let tape = Tape::new();
        let watched: Vec<Tensor> =
            detached.iter().zip(&wanted).map(|(t, &w)| if w { tape.watch(t) } else { t.clone() }).collect();
        drop(detached);
        let again = f(&watched)?;
        if !again.needs_grad() {
            return Err(Error::NoGradient {
                op: "checkpoint",
                detail: "the output does not depend on the inputs".into(),
            });
        }
        let mut gradients = tape.backward([(&again, dy)])?;
        drop(again);
        watched
            .iter()
            .zip(&wanted)
            .map(|(t, &w)| match (w, gradients.take(t)) {
                (true, None) => Ok(Some(Tensor::zeros(t.device(), t.shape())?)),
                (_, gradient) => Ok(gradient),
            })
            .collect()
    })
}
