//! Optimisers: AdamW and SGD, and clipping by the global norm of the gradient.
use crate::backend::{AdamWStep, Device, Trained};
use crate::buffer::{Buffer, Host};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// √(Σ g²) over all gradients. The order of addition is fixed: inside a tensor by the backend, then tensor by tensor.
pub fn global_norm(device: &Device, gradients: &[Tensor]) -> Result<f64> {
    Ok(square_sums(device, gradients)?.iter().sum::<f64>().sqrt())
}

/// Σ g² of each gradient.
pub fn square_sums(device: &Device, gradients: &[Tensor]) -> Result<Vec<f64>> {
    let buffers: Vec<(&Buffer, usize)> = gradients.iter().map(|g| (g.buffer(), g.len())).collect();
    device.sum_squares(&buffers)
}

/// The factor on gradients that brings their global norm to at most `max_norm`: min(1, max_norm / (norm + 10⁻⁶)).
/// `max_norm` 0 switches clipping off, as in transformers.
pub fn clip_coefficient(norm: f64, max_norm: f64) -> f32 {
    if max_norm <= 0.0 { 1.0 } else { (max_norm / (norm + 1e-6)).min(1.0) as f32 }
}

/// Moments of one parameter.
#[derive(Debug)]
struct Moments {
    m: Buffer,
    v: Buffer,
    shape: Vec<usize>,
}

/// AdamW; see [`AdamWStep`] for the equations.
#[derive(Debug)]
pub struct AdamW {
    /// β₁: decay of the first moment, a step.
    pub beta1: f64,
    /// β₂: decay of the second moment, a step.
    pub beta2: f64,
    /// ε, added to √v.
    pub epsilon: f64,
    /// Steps taken so far.
    pub step: u64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// Without moments yet: they begin at 0.
    pub fn new(beta1: f64, beta2: f64, epsilon: f64) -> Self {
        AdamW { beta1, beta2, epsilon, step: 0, moments: BTreeMap::new() }
    }

    /// One step on all parameters, which lie on one device: (name, tensor, its weight decay), with a gradient each.
    pub fn step(
        &mut self,
        mut parameters: Vec<(String, &mut Tensor, f64)>,
        gradients: Vec<Tensor>,
        learning_rate: f64,
        grad_scale: f32,
    ) -> Result<()> {
        if parameters.len() != gradients.len() {
            return Err(Error::shape(
                "adamw",
                format!("{} parameters, {} gradients", parameters.len(), gradients.len()),
            ));
        }
        let Some(device) = parameters.first().map(|(_, parameter, _)| parameter.device().clone()) else {
            return Ok(());
        };
        for ((name, parameter, _), gradient) in parameters.iter().zip(&gradients) {
            if gradient.len() != parameter.len() {
                return Err(Error::shape(
                    "adamw",
                    format!("{name} {:?}, gradient {:?}", parameter.shape(), gradient.shape()),
                ));
            }
            if !self.moments.contains_key(name) {
                let (n, shape) = (parameter.len(), parameter.shape().to_vec());
                self.moments.insert(name.clone(), Moments { m: device.zeros(n)?, v: device.zeros(n)?, shape });
            }
        }
        self.step += 1;
        let (beta1, beta2, epsilon, step) = (self.beta1, self.beta2, self.epsilon, self.step);
        let mut moments: HashMap<&str, &mut Moments> = self.moments.iter_mut().map(|(n, m)| (n.as_str(), m)).collect();
        let mut tensors = Vec::with_capacity(gradients.len());
        for ((name, parameter, weight_decay), gradient) in parameters.iter_mut().zip(&gradients) {
            let Some(Moments { m, v, .. }) = moments.remove(name.as_str()) else {
                return Err(Error::shape("adamw", format!("{name} is given twice")));
            };
            let (n, weight_decay) = (parameter.len(), *weight_decay);
            tensors.push(Trained { p: parameter.buffer_mut(), m, v, grad: gradient.buffer(), n, weight_decay });
        }
        device.adamw(&mut tensors, AdamWStep { learning_rate, beta1, beta2, epsilon, step, grad_scale })
    }

    /// All moments as host values (float32), named `<parameter>.m` and `<parameter>.v`; shared where they lie in host memory.
    pub fn state(&self, device: &Device) -> Result<BTreeMap<String, (Vec<usize>, Arc<Host>)>> {
        let mut all = BTreeMap::new();
        for (name, moments) in &self.moments {
            for (suffix, values) in [("m", &moments.m), ("v", &moments.v)] {
                let values = Tensor::from_buffer(device, values.clone(), &moments.shape).to_host()?;
                all.insert(format!("{name}.{suffix}"), (moments.shape.clone(), values));
            }
        }
        Ok(all)
    }

    /// Takes up where a saved state left off.
    pub fn restore(
        &mut self,
        device: &Device,
        step: u64,
        mut state: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    ) -> Result<()> {
        self.step = step;
        self.moments.clear();
        while let Some((key, (shape, m))) = state.pop_first() {
            let name = key
                .strip_suffix(".m")
                .ok_or_else(|| Error::Input(format!("optimiser state: {key} has no first moment")))?;
            let (_, v) = state
                .remove(&format!("{name}.v"))
                .ok_or_else(|| Error::Input(format!("optimiser state: {name}.v is missing")))?;
            let moments = Moments { m: device.upload(Host::F32(m))?, v: device.upload(Host::F32(v))?, shape };
            self.moments.insert(name.to_string(), moments);
        }
        Ok(())
    }
}

/// Plain stochastic gradient descent: p ← p − lr · (grad_scale · g + wd · p).
pub fn sgd(
    parameters: Vec<(String, &mut Tensor, f64)>,
    gradients: Vec<Tensor>,
    learning_rate: f64,
    grad_scale: f32,
) -> Result<()> {
    for ((_, parameter, weight_decay), gradient) in parameters.into_iter().zip(gradients) {
        if weight_decay != 0.0 {
            let decayed = parameter.clone();
            parameter.add_in_place((-learning_rate * weight_decay) as f32, &decayed)?;
        }
        parameter.add_in_place(-(learning_rate as f32) * grad_scale, &gradient)?;
    }
    Ok(())
}
