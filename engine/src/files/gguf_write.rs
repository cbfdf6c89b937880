//! Writes a GGUF container, version 3: what `gguf.rs` reads, tensor by tensor, whole or not at all.
use crate::buffer::Host;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files::gguf::type_number;
use crate::files::{atomic, safetensors};
use std::io::Write;
use std::path::Path;

/// A value of the metadata, in the types that llama.cpp's writer takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Meta {
    /// A whole number.
    U32(u32),
    /// A number.
    F32(f32),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of numbers.
    Floats(Vec<f32>),
    /// A list of whole numbers.
    Integers(Vec<i32>),
}

/// A tensor that will be written.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedTensor {
    /// llama.cpp's name for it.
    pub name: String,
    /// Outermost dimension first; the file has the reverse.
    pub shape: Vec<usize>,
    /// The type of its elements.
    pub dtype: DType,
}

impl PlannedTensor {
    fn bytes(&self) -> usize {
        self.dtype.bytes(self.shape.iter().product())
    }
}

/// Where tensors begin: `general.alignment` of a file that does not name one.
const ALIGNMENT: usize = 32;

/// Writes `path`. `values(i)` gives tensor i when its turn has come, so that one is in memory at a time; it must have the
/// type and size that were planned.
pub fn write(
    path: &Path,
    metadata: &[(String, Meta)],
    tensors: &[PlannedTensor],
    mut values: impl FnMut(usize) -> Result<Host>,
) -> Result<()> {
    let header = header(path, metadata, tensors)?;
    let mut failed = None;
    let written = atomic::replace_file(path, |w| {
        w.write_all(&header)?;
        for (i, tensor) in tensors.iter().enumerate() {
            let host = match values(i).and_then(|host| as_planned(tensor, host)) {
                Ok(host) => host,
                Err(error) => {
                    failed = Some(error);
                    return Err(std::io::Error::other("a tensor could not be made"));
                }
            };
            safetensors::write_values(w, &host)?;
            pad(w, tensor.bytes())?;
        }
        Ok(())
    });
    failed.map_or(written, Err)
}

fn as_planned(tensor: &PlannedTensor, host: Host) -> Result<Host> {
    if host.dtype() == tensor.dtype && host.bytes() == tensor.bytes() {
        return Ok(host);
    }
    let (have, need) = ((host.dtype().name(), host.bytes()), (tensor.dtype.name(), tensor.bytes()));
    Err(Error::shape("gguf", format!("tensor {} is {have:?} (type, bytes), not {need:?}", tensor.name)))
}

/// Zeros up to the next place where a tensor may begin.
fn pad(w: &mut dyn Write, bytes: usize) -> std::io::Result<()> {
    w.write_all(&[0; ALIGNMENT][..bytes.next_multiple_of(ALIGNMENT) - bytes])
}

/// All that stands before the data, padded.
fn header(path: &Path, metadata: &[(String, Meta)], tensors: &[PlannedTensor]) -> Result<Vec<u8>> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut out, key);
        put_value(&mut out, value);
    }
    let mut offset = 0;
    for tensor in tensors {
        let kind = type_number(tensor.dtype).ok_or_else(|| {
            Error::file(path, format!("tensor {} is {}, which GGUF has no type for", tensor.name, tensor.dtype.name()))
        })?;
        put_text(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|n| out.extend((*n as u64).to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    Ok(out)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The type's number, then the value; a list names the type of its values and their count.
fn put_value(out: &mut Vec<u8>, value: &Meta) {
    const U32: u32 = 4;
    const I32: u32 = 5;
    const F32: u32 = 6;
    const BOOL: u32 = 7;
    const TEXT: u32 = 8;
    const LIST: u32 = 9;
    let number = |out: &mut Vec<u8>, n: u32| out.extend(n.to_le_bytes());
    let list = |out: &mut Vec<u8>, kind: u32, len: usize| {
        number(out, LIST);
        number(out, kind);
        out.extend((len as u64).to_le_bytes());
    };
    match value {
        Meta::U32(n) => [U32, *n].into_iter().for_each(|n| number(out, n)),
        Meta::F32(x) => [F32, x.to_bits()].into_iter().for_each(|n| number(out, n)),
        Meta::Bool(b) => {
            number(out, BOOL);
            out.push(u8::from(*b));
        }
        Meta::Text(text) => {
            number(out, TEXT);
            put_text(out, text);
        }
        Meta::Texts(all) => {
            list(out, TEXT, all.len());
            all.iter().for_each(|text| put_text(out, text));
        }
        Meta::Floats(all) => {
            list(out, F32, all.len());
            all.iter().for_each(|x| out.extend(x.to_le_bytes()));
        }
        Meta::Integers(all) => {
            list(out, I32, all.len());
            all.iter().for_each(|n| out.extend(n.to_le_bytes()));
        }
    }
}
