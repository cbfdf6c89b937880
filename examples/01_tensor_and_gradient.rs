//! 1: tensors, and the gradient of a number that was computed from them.
//!
//! ```text
//! cargo run --release --example 01_tensor_and_gradient
//! ```
use engine::backend::Device;
use engine::cpu::Cpu;
use engine::ops;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::error::Error;

/// The loss is |W x − y|², so its gradient is 2 (W x − y) xᵀ. The tape must find the same.
pub fn main() -> Result<(), Box<dyn Error>> {
    // Every tensor lives on a device. Row-major, outermost dimension first.
    let device: Device = Cpu::new(None)?;
    let w = Tensor::from_f32(&device, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])?;
    let x = Tensor::from_f32(&device, vec![1.0, 0.0, -1.0], &[1, 3])?;
    let y = Tensor::from_f32(&device, vec![0.0, 1.0], &[1, 2])?;

    // Only what a tape watches leaves a trace on it.
    let tape = Tape::new();
    let watched = tape.watch(&w);
    let difference = ops::sub(&ops::linear(&x, &watched, None)?, &y)?;
    let loss = ops::sum(&ops::square(&difference)?)?;
    println!("W x − y = {:?}, loss = {}", difference.to_vec()?, loss.item()?);

    // Backward from the loss, whose gradient with respect to itself is 1.
    let mut gradients = tape.backward([(&loss, Tensor::scalar(&device, 1.0)?)])?;
    let gradient = gradients.take(&watched).ok_or("W is on the tape")?.to_vec()?;
    println!("d loss / d W = {gradient:?}");

    let (d, x) = (difference.to_vec()?, x.to_vec()?);
    let by_hand: Vec<f32> = d.iter().flat_map(|d| x.iter().map(move |x| 2.0 * d * x)).collect();
    assert_eq!(gradient, by_hand);
    Ok(())
}
