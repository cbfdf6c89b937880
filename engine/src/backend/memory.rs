//! The way in, the way out, and change of element type.
use crate::buffer::{Buffer, Host};
use crate::dtype::DType;
use crate::error::Result;

/// Memory of a device.
pub trait Memory {
    /// The values on the device.
    fn upload(&self, values: Host) -> Result<Buffer>;
    /// The values in host memory; waits until they are computed.
    fn download(&self, x: &Buffer) -> Result<Host>;
    /// n zeros, f32.
    fn zeros(&self, n: usize) -> Result<Buffer>;
    /// Several f32 buffers at once: a GPU waits once for all of them.
    fn download_f32(&self, xs: &[&Buffer]) -> Result<Vec<Vec<f32>>>;
    /// Several buffers of any type at once, likewise.
    fn download_all(&self, xs: &[&Buffer]) -> Result<Vec<Host>> {
        xs.iter().map(|x| self.download(x)).collect()
    }
    /// The first n elements of x: f32, f16, bf16 → f32, f16, bf16 (round to nearest even); quantised → f32.
    fn cast(&self, x: &Buffer, n: usize, to: DType) -> Result<Buffer>;
    /// All recorded work is done when this returns.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}
