//! Checks of what comes in: a buffer shorter than the shapes say is an error that names both, never a panic.
use crate::buffer::{Buffer, Host};
use crate::error::{Error, Result};

/// The product of sizes; an error where it does not fit in memory's address range.
pub(crate) fn size(op: &'static str, sizes: &[usize]) -> Result<usize> {
    let n = sizes.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
    n.filter(|&n| n <= isize::MAX as usize / 8).ok_or_else(|| Error::shape(op, format!("{sizes:?} is too large")))
}

pub(crate) fn too_short(op: &'static str, name: &str, have: usize, need: usize) -> Error {
    Error::shape(op, format!("{name} has {have} elements, the shapes say {need}"))
}

/// The first n f32 values of a buffer.
pub(crate) fn f32s<'a>(op: &'static str, name: &str, x: &'a Buffer, n: usize) -> Result<&'a [f32]> {
    let Host::F32(v) = host(op, name, x)? else { return Err(wrong_type(op, name, x, "float32")) };
    v.get(..n).ok_or_else(|| too_short(op, name, v.len(), n))
}

/// The first n f32 values of a buffer, to change; copied first if someone else holds the buffer.
pub(crate) fn f32s_mut<'a>(op: &'static str, name: &str, x: &'a mut Buffer, n: usize) -> Result<&'a mut [f32]> {
    f32s(op, name, x, n)?;
    let v = x.f32_mut()?;
    let have = v.len();
    v.get_mut(..n).ok_or_else(|| too_short(op, name, have, n))
}

/// The first n u32 values of a buffer.
pub(crate) fn u32s<'a>(op: &'static str, name: &str, x: &'a Buffer, n: usize) -> Result<&'a [u32]> {
    let Host::U32(v) = host(op, name, x)? else { return Err(wrong_type(op, name, x, "uint32")) };
    v.get(..n).ok_or_else(|| too_short(op, name, v.len(), n))
}

/// The host values of a buffer.
pub(crate) fn host<'a>(op: &'static str, name: &str, x: &'a Buffer) -> Result<&'a Host> {
    x.as_host().map_err(|_| {
        Error::shape(op, format!("{name} is a packed weight or lies in GPU memory, the CPU needs plain host memory"))
    })
}

pub(crate) fn wrong_type(op: &'static str, name: &str, x: &Buffer, need: &str) -> Error {
    Error::shape(op, format!("{name} is {}, {need} is needed", x.dtype().name()))
}
