//! Memory of one tensor on one device. A buffer is shared (cheap to clone) and changed only by its sole owner.
use crate::dtype::DType;
use crate::error::{Error, Result};
use std::any::Any;
use std::sync::Arc;

/// Values in host memory.
#[derive(Clone, Debug, PartialEq)]
pub enum Host {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// Indices and counts.
    U32(Vec<u32>),
    /// bf16 or f16, as bits.
    Half(DType, Vec<u16>),
    /// Quantised blocks, as in the file.
    Blocks(DType, Vec<u8>),
}

impl Host {
    /// The type of the values.
    pub fn dtype(&self) -> DType {
        match self {
            Host::F32(_) => DType::F32,
            Host::U32(_) => DType::U32,
            Host::Half(d, _) | Host::Blocks(d, _) => *d,
        }
    }
    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        match self {
            Host::F32(v) => 4 * v.len(),
            Host::U32(v) => 4 * v.len(),
            Host::Half(_, v) => 2 * v.len(),
            Host::Blocks(_, v) => v.len(),
        }
    }
}

/// Memory in a form of which only the backend that made it knows: a GPU's, or a weight in another order.
pub trait DeviceMemory: Any + Send + Sync + std::fmt::Debug {
    /// The type of the values.
    fn dtype(&self) -> DType;
    /// What it is, for people: "GPU memory".
    fn what(&self) -> &'static str;
    /// Whether it is a weight in an order that only products read fast: a cast to its own type is then a copy in rows.
    fn is_packed(&self) -> bool {
        false
    }
}

/// Memory on a device: plain host memory for the reference and the CPU backend, else what a backend makes of it.
#[derive(Clone, Debug)]
pub enum Buffer {
    /// Plain host memory.
    Host(Arc<Host>),
    /// Whatever a backend keeps.
    Device(Arc<dyn DeviceMemory>),
}

impl Buffer {
    /// Values in host memory.
    pub fn host(host: Host) -> Self {
        Buffer::Host(Arc::new(host))
    }
    /// Floats in host memory.
    pub fn from_f32(values: Vec<f32>) -> Self {
        Buffer::host(Host::F32(values))
    }
    /// The type of the values.
    pub fn dtype(&self) -> DType {
        match self {
            Buffer::Host(h) => h.dtype(),
            Buffer::Device(memory) => memory.dtype(),
        }
    }
    /// The memory of the backend that calls its memory M; None if it is another's.
    pub fn device<M: DeviceMemory>(&self) -> Option<&M> {
        match self {
            Buffer::Host(_) => None,
            Buffer::Device(memory) => {
                let any: &dyn Any = &**memory;
                any.downcast_ref()
            }
        }
    }
    /// Whether it is a packed weight ([`DeviceMemory::is_packed`]).
    pub fn is_packed(&self) -> bool {
        match self {
            Buffer::Host(_) => false,
            Buffer::Device(memory) => memory.is_packed(),
        }
    }
    /// Whether nobody else holds it, so that it may change in place.
    pub fn is_sole(&mut self) -> bool {
        match self {
            Buffer::Host(host) => Arc::get_mut(host).is_some(),
            Buffer::Device(memory) => Arc::get_mut(memory).is_some(),
        }
    }
    fn no_host_values(&self) -> Error {
        let found = match self {
            Buffer::Host(_) => "host memory",
            Buffer::Device(memory) => memory.what(),
        };
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
