//! Which device computes: `--device auto|cpu|gpu|gpu:N|gpu:software`.
#[cfg(not(feature = "gpu"))]
use crate::error::Error;
use crate::error::Result;
use engine::backend::Device;
use engine::cpu::Cpu;
use std::fmt;

/// What `--device` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A real GPU if there is one, else the CPU. Never a software adapter.
    Auto,
    /// The CPU, with all its threads or as many as `--threads` says.
    Cpu,
    /// The GPU of this index, or the best one.
    Gpu(Option<usize>),
    /// A GPU's driver that runs on the CPU (Mesa's lavapipe): slow, for tests.
    Software,
}

impl DeviceChoice {
    /// What a person may write, for errors and help.
    pub const ACCEPTS: &str = "auto, cpu, gpu, gpu:N (N = 0, 1, …) or gpu:software";

    /// None: not one of [`DeviceChoice::ACCEPTS`].
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "auto" => Some(DeviceChoice::Auto),
            "cpu" => Some(DeviceChoice::Cpu),
            "gpu" => Some(DeviceChoice::Gpu(None)),
            "gpu:software" => Some(DeviceChoice::Software),
            other => {
                let digits = other.strip_prefix("gpu:")?;
                let is_index = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                digits.parse().ok().filter(|_| is_index).map(|index| DeviceChoice::Gpu(Some(index)))
            }
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Gpu(None) => f.write_str("gpu"),
            DeviceChoice::Gpu(Some(index)) => write!(f, "gpu:{index}"),
            DeviceChoice::Software => f.write_str("gpu:software"),
        }
    }
}

/// Opens the device. `threads`: how many CPU threads to use, None for as many as there are; results do not depend on it.
pub fn open(choice: DeviceChoice, threads: Option<usize>) -> Result<Device> {
    open_to_train(choice, threads, false)
}

/// The same; with `fp16` products with frozen float16 weights take f16 operands, where the device has matrix units for them.
pub fn open_to_train(choice: DeviceChoice, threads: Option<usize>, fp16: bool) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Cpu::new(threads)?),
        DeviceChoice::Auto => match open_gpu(choice, fp16) {
            Ok(gpu) => Ok(gpu),
            Err(_) => Ok(Cpu::new(threads)?),
        },
        DeviceChoice::Gpu(_) | DeviceChoice::Software => open_gpu(choice, fp16),
    }
}

#[cfg(feature = "gpu")]
fn open_gpu(choice: DeviceChoice, fp16: bool) -> Result<Device> {
    use engine::gpu::{AdapterSelect, Gpu, GpuOptions};
    let select = match choice {
        DeviceChoice::Software => AdapterSelect::Software,
        DeviceChoice::Gpu(Some(index)) => AdapterSelect::Index(index),
        _ => AdapterSelect::Auto,
    };
    // A software adapter is for tests: nothing is measured and nothing kept.
    let options = if choice == DeviceChoice::Software { GpuOptions::default() } else { GpuOptions::for_use() };
    Ok(Gpu::open_with(select, GpuOptions { f16_operands: fp16, ..options })?)
}

#[cfg(not(feature = "gpu"))]
fn open_gpu(choice: DeviceChoice, _: bool) -> Result<Device> {
    Err(Error::Input(format!("device {choice}: this program was built without the feature gpu; give --device cpu")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("gpu", DeviceChoice::Gpu(None)),
            ("gpu:0", DeviceChoice::Gpu(Some(0))),
            ("gpu:12", DeviceChoice::Gpu(Some(12))),
            ("gpu:software", DeviceChoice::Software),
        ] {
            assert_eq!(DeviceChoice::parse(text), Some(choice));
            assert_eq!(choice.to_string(), text);
        }
        for wrong in ["", "cuda", "gpu:", "gpu:-1", "gpu:+1", "gpu:x", "GPU", "cpu:0", "gpu:99999999999999999999999"] {
            assert_eq!(DeviceChoice::parse(wrong), None, "{wrong}");
        }
    }
}
