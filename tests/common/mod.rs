//! What the tests share: golden files, devices to run on, relative errors.
#![allow(dead_code)]
use engine::backend::Device;
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

/// A file or directory of tests/golden.
pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

/// Every device that a test runs on, with the relative error allowed there: the CPU, and software Vulkan.
/// Without a software adapter the GPU half is skipped with a word on stderr; in CI that is a failure.
pub fn devices() -> Vec<(Device, f64)> {
    let cpu = engine::cpu::Cpu::new(Some(2)).expect("the CPU backend opens");
    let mut all: Vec<(Device, f64)> = vec![(cpu, 1e-4)];
    all.extend(software_gpu().map(|d| (d, 1e-3)));
    all
}

#[cfg(feature = "gpu")]
pub fn software_gpu() -> Option<Device> {
    match engine::gpu::Gpu::open(engine::gpu::AdapterSelect::Software) {
        Ok(gpu) => Some(gpu),
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED on the GPU: {error}");
            None
        }
        Err(error) => panic!("CI needs a software Vulkan adapter: {error}"),
    }
}

#[cfg(not(feature = "gpu"))]
pub fn software_gpu() -> Option<Device> {
    None
}

/// ‖a − b‖ / ‖b‖.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "lengths");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut b.iter().map(|b| f64::from(*b))).max(1e-30)
}

/// A safetensors file of expected values.
pub struct Expected(Vec<u8>);

impl Expected {
    pub fn read(path: &Path) -> Self {
        Expected(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }
    fn parse(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).expect("a safetensors file")
    }
    pub fn names(&self) -> Vec<String> {
        self.parse().names().iter().map(|s| s.to_string()).collect()
    }
    pub fn f32(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = self.parse();
        let t = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(t.dtype(), Dtype::F32, "{name}");
        (t.shape().to_vec(), t.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
    pub fn i32(&self, name: &str) -> (Vec<usize>, Vec<i32>) {
        let file = self.parse();
        let t = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        (t.shape().to_vec(), t.data().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}
