//! Memory of one tensor on one device. A buffer is shared (cheap to clone) and changed only by its sole owner.
use crate::dtype::DType;
use crate::error::{Error, Result};
use std::sync::Arc;

/// Values in host memory.
#[derive(Clone, Debug)]
pub enum Host {
    F32(Vec<f32>),
    U32(Vec<u32>),
    /// bf16 or f16, as bits.
    Half(DType, Vec<u16>),
    /// Quantised blocks, as in the file.
    Blocks(DType, Vec<u8>),
}

impl Host {
    pub fn dtype(&self) -> DType {
        match self {
            Host::F32(_) => DType::F32,
            Host::U32(_) => DType::U32,
            Host::Half(d, _) | Host::Blocks(d, _) => *d,
        }
    }
    pub fn bytes(&self) -> usize {
        match self {
            Host::F32(v) => 4 * v.len(),
            Host::U32(v) => 4 * v.len(),
            Host::Half(_, v) => 2 * v.len(),
            Host::Blocks(_, v) => v.len(),
        }
    }
}

/// Memory on a device: host memory for the reference and CPU backends, a GPU buffer for the GPU backend.
#[derive(Clone, Debug)]
pub enum Buffer {
    Host(Arc<Host>),
    /// A weight in the order of the CPU's product with few rows: nothing else reads it.
    Packed(Arc<crate::cpu::Panels>),
    #[cfg(feature = "gpu")]
    Gpu(Arc<crate::gpu::GpuBuffer>),
}

impl Buffer {
    pub fn host(host: Host) -> Self {
        Buffer::Host(Arc::new(host))
    }
    pub fn from_f32(values: Vec<f32>) -> Self {
        Buffer::host(Host::F32(values))
    }
    pub fn dtype(&self) -> DType {
        match self {
            Buffer::Host(h) => h.dtype(),
            Buffer::Packed(w) => w.dtype(),
            #[cfg(feature = "gpu")]
            Buffer::Gpu(b) => b.dtype(),
        }
    }
    fn no_host_values(&self) -> Error {
        let found = if matches!(self, Buffer::Packed(_)) { "a packed weight" } else { "GPU memory" };
        Error::shape("buffer", format!("host memory needed, {found} found"))
    }
    /// The values as f32; an error where they are not f32 in host memory.
    pub fn f32(&self) -> Result<&[f32]> {
        match self {
            Buffer::Host(h) => match &**h {
                Host::F32(v) => Ok(v),
                other => Err(Error::shape("buffer", format!("float32 needed, {} found", other.dtype().name()))),
            },
            other => Err(other.no_host_values()),
        }
    }
    /// The values as u32; an error where they are not u32 in host memory.
    pub fn u32(&self) -> Result<&[u32]> {
        match self {
            Buffer::Host(h) => match &**h {
                Host::U32(v) => Ok(v),
                other => Err(Error::shape("buffer", format!("uint32 needed, {} found", other.dtype().name()))),
            },
            other => Err(other.no_host_values()),
        }
    }
    /// The host values of any dtype.
    pub fn as_host(&self) -> Result<&Host> {
        match self {
            Buffer::Host(h) => Ok(h),
            other => Err(other.no_host_values()),
        }
    }
    /// The f32 values to change; copied first if anyone else holds them.
    pub fn f32_mut(&mut self) -> Result<&mut Vec<f32>> {
        match self {
            Buffer::Host(h) => match Arc::make_mut(h) {
                Host::F32(v) => Ok(v),
                other => Err(Error::shape("buffer", format!("float32 needed, {} found", other.dtype().name()))),
            },
            other => Err(other.no_host_values()),
        }
    }
}
