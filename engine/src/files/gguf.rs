//! GGUF container, versions 2 and 3: metadata, table of tensors, and where each tensor lies.
//!
//! ```text
//! "GGUF"  version u32  n_tensors u64  n_entries u64
//! n_entries × (key string, type u32, value)
//! n_tensors × (name string, n_dims u32, dims u64 × n_dims innermost first, type u32, offset u64)
//! padding to `general.alignment`, then the data; offsets count from here
//! ```
//! A string is a u64 length and UTF-8; an array is a type u32, a count u64 and its values. All little-endian.
//! Nothing the file says is believed before it was compared with the file's size.
use crate::dtype::{DType, Quant};
use crate::error::{Error, Result};
use crate::files::weights::{MappedFile, Stored};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

/// A metadata value. Arrays stay in the file until they are asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// u8, u16, u32 or u64.
    Unsigned(u64),
    /// i8, i16, i32 or i64.
    Signed(i64),
    /// f32 or f64.
    Float(f64),
    /// A byte; anything but 0 is true.
    Bool(bool),
    /// A string, which has to be UTF-8.
    Text(String),
    /// An array's place in the file.
    Array(Array),
}

/// `len` values of type `kind` from byte `start` of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    kind: u32,
    /// Number of values, not of bytes.
    pub len: usize,
    start: usize,
}

/// One line of the tensor table.
#[derive(Clone, Debug)]
pub struct GgufTensor {
    /// llama.cpp's name for it, as `blk.0.attn_q.weight`.
    pub name: String,
    /// Outermost dimension first, as in PyTorch; the reverse of the file.
    pub shape: Vec<usize>,
    /// The type of its elements.
    pub stored: Stored,
    /// Index of the file it lies in, of those that hold the model.
    pub file: usize,
    /// First byte in the file that holds it.
    pub start: usize,
    /// Bytes in the file; 0 for a type this engine does not read.
    pub len: usize,
}

/// A model in GGUF, its header read and checked: one file, or several parts of which the first has the metadata.
#[derive(Debug)]
pub struct Gguf {
    /// The file, or the first part.
    pub file: MappedFile,
    /// The further parts.
    pub parts: Vec<MappedFile>,
    /// Of the format: 2 or 3.
    pub version: u32,
    /// The first part's entries by key. The readers below note what was asked for; a look into this map does not.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors of all parts, in the order of the files.
    pub tensors: Vec<GgufTensor>,
    /// The metadata that was asked for.
    asked: Mutex<BTreeSet<String>>,
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

impl Gguf {
    /// Opens a file, or with any of its parts (`name-00001-of-00003.gguf` …) all of a model that was split.
    pub fn open(path: &Path) -> Result<Self> {
        let given = Self::open_one(path, 0)?;
        let n_parts = given.count("split.count")?.unwrap_or(1);
        if n_parts <= 1 {
            return Ok(given);
        }
        let missing = |path: &Path| Error::file(path, format!("is missing: the model was split into {n_parts} files"));
        let named = path.file_name().and_then(|name| name.to_str());
        let stem = named.and_then(|name| name.strip_suffix(&format!("-of-{n_parts:05}.gguf")));
        let stem = stem.and_then(|stem| stem.rsplit_once('-')).map(|(stem, _)| stem).ok_or_else(|| {
            Error::file(path, format!("is one of {n_parts} parts of a model, which are found by their names: call them NAME-00001-of-{n_parts:05}.gguf and so on"))
        })?;
        let mut all: Option<Gguf> = None;
        for i in 0..n_parts {
            let path = path.with_file_name(format!("{stem}-{:05}-of-{n_parts:05}.gguf", i + 1));
            if !path.exists() {
                return Err(missing(&path));
            }
            let part = Self::open_one(&path, i)?;
            if part.count("split.no")? != Some(i) || part.count("split.count")? != Some(n_parts) {
                return Err(Error::file(
                    &path,
                    format!("is not part {} of {n_parts}, as its name says; fetch the parts again", i + 1),
                ));
            }
            match &mut all {
                None => all = Some(part),
                Some(all) => {
                    all.tensors.extend(part.tensors);
                    all.parts.push(part.file);
                }
            }
        }
        let all = all.ok_or_else(|| missing(path))?;
        let (found, told) = (all.tensors.len(), all.count("split.tensors.count")?);
        let names: BTreeSet<&str> = all.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        if told.is_some_and(|told| told != found) || names.len() != found {
            return Err(Error::file(
                path,
                format!(
                    "its {n_parts} parts have {found} tensors, {} of them different; {} belong to the model: fetch the parts again",
                    names.len(),
                    told.unwrap_or(found)
                ),
            ));
        }
        Ok(all)
    }

    fn open_one(path: &Path, index: usize) -> Result<Self> {
        let file = MappedFile::open(path)?;
        let mut r = Reader { path, bytes: file.bytes(), at: 0 };
        if r.take(4, "the magic number")? != b"GGUF" {
            return Err(Error::file(path, "is not a GGUF file: it does not start with \"GGUF\""));
        }
        let version = r.u32("the version")?;
        if version.swap_bytes() == 2 || version.swap_bytes() == 3 {
            return Err(Error::Unsupported(format!("{}: big-endian GGUF files are not supported", path.display())));
        }
        if !matches!(version, 2 | 3) {
            return Err(Error::Unsupported(format!(
                "{}: GGUF version {version} is not supported; supported are 2 and 3",
                path.display()
            )));
        }
        // The shortest possible tensor line has 8 + 4 + 4 + 8 bytes, the shortest entry 8 + 4 + 1.
        let n_tensors = r.count(24, "the number of tensors")?;
        let n_entries = r.count(13, "the number of metadata entries")?;
        let metadata = read_metadata(&mut r, n_entries)?;
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(Value::Unsigned(a)) if a.is_power_of_two() && *a <= 1 << 20 => *a as usize,
            Some(other) => return Err(Error::file(path, format!("general.alignment is {other:?}; 32 is usual"))),
        };
        let mut tensors = read_tensors(&mut r, n_tensors, alignment)?;
        tensors.iter_mut().for_each(|tensor| tensor.file = index);
        Ok(Gguf { version, metadata, tensors, file, parts: Vec::new(), asked: Mutex::default() })
    }

    /// The file that was opened, or the first part: where the metadata stand.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
    /// The bytes of a tensor as they are stored.
    pub fn bytes_of(&self, tensor: &GgufTensor) -> &[u8] {
        let file = tensor.file.checked_sub(1).map_or(Some(&self.file), |i| self.parts.get(i));
        file.and_then(|file| file.bytes().get(tensor.start..tensor.start + tensor.len)).unwrap_or_default()
    }

    /// What follows `prefix` in the metadata's keys that begin with it, in order.
    pub fn keys_below<'a>(&'a self, prefix: &str) -> Vec<&'a str> {
        let mut rest: Vec<&str> = self.metadata.keys().filter_map(|key| key.strip_prefix(prefix)).collect();
        rest.sort_unstable();
        rest
    }

    /// The text of `key`; None where it is absent, an error where it is no text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, "a string", |v| if let Value::Text(t) = v { Some(t.as_str()) } else { None })
    }
    /// The bool of `key`; None where it is absent, an error where it is of another type.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "a bool", |v| if let Value::Bool(b) = v { Some(*b) } else { None })
    }
    /// A whole number from 0, of any integer type.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number from 0", |v| match v {
            Value::Unsigned(n) => usize::try_from(*n).ok(),
            Value::Signed(n) => usize::try_from(*n).ok(),
            _ => None,
        })
    }
    /// The number of `key`, integer or float, as f64; None where it is absent, an error where it is no number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", |v| match v {
            Value::Unsigned(n) => Some(*n as f64),
            Value::Signed(n) => Some(*n as f64),
            Value::Float(x) => Some(*x),
            _ => None,
        })
    }
    /// The strings of the array `key`; None where it is absent, an error where it is no array or an element no string.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.array(key, "strings", |v| if let Value::Text(t) = v { Some(t) } else { None })
    }
    /// The floats of the array `key`, as f32; None where it is absent, an error where an element is no float, be it an integer.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.array(key, "floats", |v| if let Value::Float(x) = v { Some(x as f32) } else { None })
    }
    /// The integers of the array `key`; None where it is absent, an error where an element is none or leaves the range of i32.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.array(key, "integers", |v| match v {
            Value::Unsigned(n) => i32::try_from(n).ok(),
            Value::Signed(n) => i32::try_from(n).ok(),
            _ => None,
        })
    }

    /// The keys of the metadata that nothing has asked for yet.
    pub fn not_asked(&self) -> Vec<&str> {
        let asked = self.asked.lock().unwrap_or_else(|e| e.into_inner());
        self.metadata.keys().map(String::as_str).filter(|key| !asked.contains(*key)).collect()
    }
    fn ask(&self, key: &str) -> Option<&Value> {
        self.asked.lock().unwrap_or_else(|e| e.into_inner()).insert(key.to_string());
        self.metadata.get(key)
    }

    fn get<'a, T>(&'a self, key: &str, kind: &str, f: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.ask(key) {
            None => Ok(None),
            Some(value) => f(value)
                .map(Some)
                .ok_or_else(|| Error::file(self.path(), format!("metadata {key} is not {kind}, which it should be"))),
        }
    }

    fn array<T>(&self, key: &str, kind: &str, f: impl Fn(Value) -> Option<T>) -> Result<Option<Vec<T>>> {
        let wrong = || Error::file(self.path(), format!("metadata {key} is not a list of {kind}, which it should be"));
        let array = match self.ask(key) {
            None => return Ok(None),
            Some(Value::Array(array)) => array,
            Some(_) => return Err(wrong()),
        };
        let mut r = Reader { path: self.path(), bytes: self.file.bytes(), at: array.start };
        let values = (0..array.len).map(|_| f(read_value(&mut r, array.kind, key, 0)?).ok_or_else(wrong));
        values.collect::<Result<Vec<T>>>().map(Some)
    }
}

fn read_metadata(r: &mut Reader, n_entries: usize) -> Result<BTreeMap<String, Value>> {
    let mut metadata = BTreeMap::new();
    for i in 0..n_entries {
        let key = r.name(&format!("the key of metadata entry {i}"))?;
        let kind = r.u32(&format!("the type of {key}"))?;
        let value = read_value(r, kind, &key, 0)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(r.error(format!("metadata {key} stands there twice")));
        }
    }
    Ok(metadata)
}

/// Reads a value of type `kind`; of an array only its extent, each value checked.
fn read_value(r: &mut Reader, kind: u32, key: &str, depth: usize) -> Result<Value> {
    let what = key;
    Ok(match kind {
        0 => Value::Unsigned(r.array::<1>(what)?[0].into()),
        1 => Value::Signed((r.array::<1>(what)?[0] as i8).into()),
        2 => Value::Unsigned(u16::from_le_bytes(r.array(what)?).into()),
        3 => Value::Signed(i16::from_le_bytes(r.array(what)?).into()),
        4 => Value::Unsigned(u32::from_le_bytes(r.array(what)?).into()),
        5 => Value::Signed(i32::from_le_bytes(r.array(what)?).into()),
        6 => Value::Float(f32::from_le_bytes(r.array(what)?).into()),
        7 => Value::Bool(r.array::<1>(what)?[0] != 0),
        TEXT => Value::Text(r.text(what)?),
        ARRAY => {
            let kind = r.u32(what)?;
            let size = match kind {
                0 | 1 | 7 => 1,
                2 | 3 => 2,
                4..=6 => 4,
                TEXT | 10..=12 => 8,
                ARRAY if depth < 4 => 12,
                _ => return Err(r.error(format!("metadata {key} is a list of unknown type {kind}"))),
            };
            let len = r.count(size, what)?;
            let array = Array { kind, len, start: r.at };
            match kind {
                TEXT => (0..len).try_for_each(|_| r.string_bytes(what).map(drop))?,
                ARRAY => (0..len).try_for_each(|_| read_value(r, ARRAY, key, depth + 1).map(drop))?,
                _ => r.take(len * size, what).map(drop)?,
            }
            Value::Array(array)
        }
        10 => Value::Unsigned(u64::from_le_bytes(r.array(what)?)),
        11 => Value::Signed(i64::from_le_bytes(r.array(what)?)),
        12 => Value::Float(f64::from_le_bytes(r.array(what)?)),
        other => return Err(r.error(format!("metadata {key} has unknown type {other}"))),
    })
}

fn read_tensors(r: &mut Reader, n_tensors: usize, alignment: usize) -> Result<Vec<GgufTensor>> {
    let (mut lines, mut names) = (Vec::new(), BTreeSet::new());
    for i in 0..n_tensors {
        let name = r.name(&format!("the name of tensor {i}"))?;
        if !names.insert(name.clone()) {
            return Err(r.error(format!("tensor {name} stands there twice")));
        }
        let n_dims = r.u32(&name)?;
        if n_dims > 4 {
            return Err(r.error(format!("tensor {name} has {n_dims} dimensions, at most 4 are possible")));
        }
        let mut shape = (0..n_dims).map(|_| r.usize(&name)).collect::<Result<Vec<usize>>>()?;
        shape.reverse();
        let stored = stored_type(r.u32(&name)?);
        let offset = r.usize(&name)?;
        if !offset.is_multiple_of(alignment) {
            return Err(r.error(format!("tensor {name} starts at {offset}, not a multiple of {alignment}")));
        }
        lines.push((name, shape, stored, offset));
    }
    let data_start = r.at.next_multiple_of(alignment);
    let mut tensors = Vec::new();
    for (name, shape, stored, offset) in lines {
        let len = tensor_bytes(&shape, &stored).ok_or_else(|| {
            r.error(format!("tensor {name} has the impossible shape {shape:?} for its type {stored:?}"))
        })?;
        let start = data_start.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(len));
        match (start, end) {
            (Some(start), Some(end)) if end <= r.bytes.len() => {
                tensors.push(GgufTensor { name, shape, stored, file: 0, start, len });
            }
            _ => {
                return Err(Error::file(
                    r.path,
                    format!(
                        "tensor {name} takes {len} bytes from byte {offset} of the data, the file has only {}; \
                         it is cut off or corrupt, fetch it again",
                        r.bytes.len().saturating_sub(data_start)
                    ),
                ));
            }
        }
    }
    Ok(tensors)
}

/// Bytes of a tensor; None where the shape is impossible. 0 for types this engine does not read.
fn tensor_bytes(shape: &[usize], stored: &Stored) -> Option<usize> {
    let n = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s)).filter(|n| *n <= usize::MAX / 8)?;
    match stored {
        Stored::Other(_) => Some(0),
        Stored::Known(dtype @ DType::Quant(q)) => shape.last()?.is_multiple_of(q.block_len()).then(|| dtype.bytes(n)),
        Stored::Known(dtype) => Some(dtype.bytes(n)),
    }
}

/// ggml's numbers for the types that are read.
const TYPES: [(u32, DType); 11] = [
    (0, DType::F32),
    (1, DType::F16),
    (2, DType::Quant(Quant::Q4_0)),
    (3, DType::Quant(Quant::Q4_1)),
    (6, DType::Quant(Quant::Q5_0)),
    (7, DType::Quant(Quant::Q5_1)),
    (8, DType::Quant(Quant::Q8_0)),
    (12, DType::Quant(Quant::Q4_K)),
    (13, DType::Quant(Quant::Q5_K)),
    (14, DType::Quant(Quant::Q6_K)),
    (30, DType::BF16),
];

/// Those of other types, for messages.
const OTHER_TYPES: [(u32, &str); 17] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

/// The type of a number.
fn stored_type(kind: u32) -> Stored {
    if let Some((_, dtype)) = TYPES.iter().find(|(number, _)| *number == kind) {
        return Stored::Known(*dtype);
    }
    match OTHER_TYPES.iter().find(|(number, _)| *number == kind) {
        Some((_, name)) => Stored::Other(name.to_string()),
        None => Stored::Other(format!("type {kind}")),
    }
}

/// The number of a type, if GGUF has one for it.
pub(super) fn type_number(dtype: DType) -> Option<u32> {
    TYPES.iter().find(|(_, known)| *known == dtype).map(|(number, _)| *number)
}

/// Reads forward through the file; every step is checked against its end.
struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, detail: String) -> Error {
        Error::file(self.path, format!("{detail} (before byte {})", self.at))
    }
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n);
        let Some(taken) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(Error::file(
                self.path,
                format!(
                    "{what} would take {n} bytes from byte {}, the file has {}; it is cut off or corrupt, fetch it again",
                    self.at,
                    self.bytes.len()
                ),
            ));
        };
        self.at += n;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }
    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }
    fn usize(&mut self, what: &str) -> Result<usize> {
        let n = u64::from_le_bytes(self.array(what)?);
        usize::try_from(n).map_err(|_| self.error(format!("{what}: {n} is too large")))
    }
    /// A number of things of at least `size` bytes each that all follow in the file.
    fn count(&mut self, size: usize, what: &str) -> Result<usize> {
        let n = self.usize(what)?;
        let left = self.bytes.len() - self.at;
        if n > left / size {
            let at_least = (n as u128) * (size as u128);
            return Err(self.error(format!("{what}: {n} things need {at_least} bytes or more, {left} are left")));
        }
        Ok(n)
    }
    fn string_bytes(&mut self, what: &str) -> Result<&'a [u8]> {
        let n = self.usize(what)?;
        self.take(n, what)
    }
    /// A text that errors will quote, so a short one.
    fn name(&mut self, what: &str) -> Result<String> {
        let name = self.text(what)?;
        if name.len() > 4096 {
            return Err(self.error(format!("{what} has {} bytes", name.len())));
        }
        Ok(name)
    }
    fn text(&mut self, what: &str) -> Result<String> {
        let bytes = self.string_bytes(what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_string()),
            Err(_) => Err(self.error(format!("{what} is not UTF-8"))),
        }
    }
}
