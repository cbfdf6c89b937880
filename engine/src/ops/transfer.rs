//! A tensor moved between devices, with its gradient: losses are computed on the host from log-probabilities of any device.
use crate::backend::Device;
use crate::error::Result;
use crate::tape::record1;
use crate::tensor::Tensor;

/// The same values on `device`; the gradient travels the other way.
pub fn to_device(x: &Tensor, device: &Device) -> Result<Tensor> {
    let (home, moved) = (x.device().clone(), x.detach().to(device)?);
    record1("to_device", &[x], moved, move |dy| Ok(vec![Some(dy.to(&home)?)]))
}
