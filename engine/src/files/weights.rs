//! Weights in files on disk: a table of names, shapes and places over mapped files, converted as they are loaded.
use crate::buffer::Host;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files::{LFS_BEGINNING, LFS_POINTER};
use crate::quant;
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file mapped into memory. The file must not be shortened or overwritten in place while it is in use; programs
/// that replace it by renaming (as this one does) do no harm.
#[derive(Debug)]
pub struct MappedFile {
    /// Where it is.
    pub path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps a regular file; errors where it is missing, unreadable, or no regular file.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::file(path, format!("cannot be opened: {e}"));
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(Error::file(path, "is not a file"));
        }
        let file = std::fs::File::open(path).map_err(failed)?;
        // SAFETY: the map is only read; that the file keeps its bytes meanwhile is this type's documented condition.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        if map.starts_with(LFS_BEGINNING) {
            return Err(Error::file(path, LFS_POINTER));
        }
        Ok(MappedFile { path: path.to_path_buf(), map })
    }
    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
    /// Gives the pages of some bytes back to the system, as if they had not been read yet.
    pub fn release_pages(&self, _bytes: Range<usize>) {
        #[cfg(unix)]
        // SAFETY: the map is shared, of a file, and only read: its pages come back from the file with the same bytes.
        // That the system may not take the advice does not matter.
        unsafe {
            let _ = self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, _bytes.start, _bytes.len());
        }
    }
}

/// How the file holds the elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A type that can be read.
    Known(DType),
    /// A type this engine does not read, by the name its format has for it.
    Other(String),
}

/// Order of a matrix' rows in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// That of the model.
    AsIs,
    /// Within every head of `head_size` rows the two halves alternate, as llama.cpp stores the query and key
    /// projections of the llama architecture: row 2i + j of the file is row j·E/2 + i of the head.
    Interleaved {
        /// Rows of a head.
        head_size: usize,
    },
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Index of the file.
    pub file: usize,
    /// Row-major, outermost first.
    pub shape: Vec<usize>,
    /// The type of its elements.
    pub stored: Stored,
    /// First byte in the file.
    pub start: usize,
    /// Bytes; 0 for an unknown type.
    pub len: usize,
    /// In which order the file has its rows.
    pub rows: RowOrder,
}

impl Entry {
    /// Whether shape, type, order and place go together in a file of `file_len` bytes; says what does not.
    fn check(&self, file_len: usize) -> std::result::Result<(), String> {
        if self.start.checked_add(self.len).is_none_or(|end| end > file_len) {
            return Err(format!("lies outside the file: {} bytes from byte {} of {file_len}", self.len, self.start));
        }
        let Stored::Known(dtype) = &self.stored else { return Ok(()) };
        let n = self.shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s)).filter(|n| *n <= usize::MAX / 8);
        let n = n.ok_or_else(|| format!("has an impossible shape {:?}", self.shape))?;
        if let DType::Quant(q) = dtype
            && !self.shape.last().is_some_and(|row| row.is_multiple_of(q.block_len()))
        {
            return Err(format!("of shape {:?} does not have rows of whole {} blocks", self.shape, dtype.name()));
        }
        if dtype.bytes(n) != self.len {
            return Err(format!(
                "of shape {:?} and type {} takes {} bytes, the file has {}",
                self.shape,
                dtype.name(),
                dtype.bytes(n),
                self.len
            ));
        }
        if let RowOrder::Interleaved { head_size } = self.rows {
            let rows = self.shape.first().copied().unwrap_or(0);
            let whole = head_size != 0 && head_size.is_multiple_of(2) && rows.is_multiple_of(head_size);
            if !whole || (self.shape.len() == 1 && matches!(dtype, DType::Quant(_))) {
                return Err(format!("of shape {:?} does not consist of heads of size {head_size}", self.shape));
            }
        }
        Ok(())
    }
}

/// The tensors of a model on disk, by Hugging Face name.
#[derive(Debug)]
pub struct Weights {
    files: Vec<MappedFile>,
    entries: BTreeMap<String, Entry>,
}

impl Weights {
    /// A table over `files`; every entry's bytes must lie inside its file and be as many as its shape and type take.
    pub fn new(files: Vec<MappedFile>, entries: BTreeMap<String, Entry>) -> Result<Self> {
        for (name, entry) in &entries {
            let (path, len) = files.get(entry.file).map_or((Path::new(""), 0), |f| (&f.path, f.bytes().len()));
            entry.check(len).map_err(|detail| Error::file(path, format!("tensor {name} {detail}")))?;
        }
        Ok(Weights { files, entries })
    }

    /// The pages of the files no longer count as memory of this process; they are read again if needed. Those of a tensor
    /// are given back as soon as it was loaded: what stays here is what the headers took.
    pub fn release_pages(&self) {
        self.files.iter().for_each(|file| file.release_pages(0..file.bytes().len()));
    }
    fn release_pages_of(&self, entry: &Entry) {
        if let Some(file) = self.files.get(entry.file) {
            file.release_pages(entry.start..entry.start.saturating_add(entry.len));
        }
    }

    /// The files that the weights lie in.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }
    /// The tensors, in the order of their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }
    /// Gives a tensor another name.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(entry) = self.entries.remove(from) {
            self.entries.insert(to.to_string(), entry);
        }
    }
    /// Whether two tensors have one shape and the same numbers, whatever they are stored as.
    pub fn equal(&self, a: &str, b: &str) -> Result<bool> {
        let (x, y) = (self.entry(a)?, self.entry(b)?);
        if x.shape != y.shape {
            return Ok(false);
        }
        if x.stored == y.stored && x.rows == y.rows {
            let same = self.bytes(x)? == self.bytes(y)?;
            [x, y].into_iter().for_each(|entry| self.release_pages_of(entry));
            return Ok(same);
        }
        Ok(match (self.load(a, DType::F32)?, self.load(b, DType::F32)?) {
            (Host::F32(x), Host::F32(y)) => x == y,
            _ => false,
        })
    }
    /// Shape, outermost dimension first.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.entry(name)?.shape)
    }
    /// The type the file holds; an error where it is one this engine does not read.
    pub fn dtype(&self, name: &str) -> Result<DType> {
        let entry = self.entry(name)?;
        match &entry.stored {
            Stored::Known(dtype) => Ok(*dtype),
            Stored::Other(kind) => Err(Error::Unsupported(format!(
                "{}: tensor {name} is stored as {kind}; supported are {SUPPORTED_TYPES}",
                self.path(entry).display()
            ))),
        }
    }

    /// The tensor in float32, float16 or bfloat16, rows in Hugging Face order. Conversion rounds to nearest even; a
    /// number too large for float16 is an error.
    pub fn load(&self, name: &str, to: DType) -> Result<Host> {
        let from = self.dtype(name)?;
        if from == to {
            return self.load_stored(name);
        }
        let entry = self.entry(name)?;
        let source = SourceRows::new(self.bytes(entry)?, entry, from);
        let host = match to {
            DType::F32 => {
                let mut out = vec![0f32; source.n()];
                source.each_row(&mut out, |row, values| decode(from, row, values));
                Ok(Host::F32(out))
            }
            DType::F16 => {
                let mut out = vec![0u16; source.n()];
                source.each_row(&mut out, |row, bits| narrow(from, row, bits, |x| f16::from_f32(x).to_bits()));
                let overflow = |b: &u16| f16::from_bits(*b).is_infinite();
                if out.par_iter().any(overflow) {
                    return Err(Error::file(
                        self.path(entry),
                        format!("tensor {name} has a value that float16 cannot hold; load it as bfloat16 or float32"),
                    ));
                }
                Ok(Host::Half(DType::F16, out))
            }
            DType::BF16 => {
                let mut out = vec![0u16; source.n()];
                source.each_row(&mut out, |row, bits| narrow(from, row, bits, |x| bf16::from_f32(x).to_bits()));
                Ok(Host::Half(DType::BF16, out))
            }
            other => Err(Error::Unsupported(format!(
                "tensor {name} cannot be loaded as {}; it is stored as {}, and float32, float16, bfloat16 are possible",
                other.name(),
                from.name()
            ))),
        };
        self.release_pages_of(entry);
        host
    }

    /// The tensor in the type the file holds (quantised blocks stay blocks), rows in Hugging Face order.
    pub fn load_stored(&self, name: &str) -> Result<Host> {
        let from = self.dtype(name)?;
        let entry = self.entry(name)?;
        let source = SourceRows::new(self.bytes(entry)?, entry, from);
        let host = match from {
            DType::F32 => {
                let mut out = vec![0f32; source.n()];
                source.each_row(&mut out, |row, values| decode(DType::F32, row, values));
                Host::F32(out)
            }
            DType::U32 => {
                let mut out = vec![0u32; source.n()];
                source.each_row(&mut out, |row, values| {
                    for (v, b) in values.iter_mut().zip(row.as_chunks::<4>().0) {
                        *v = u32::from_le_bytes(*b);
                    }
                });
                Host::U32(out)
            }
            DType::F16 | DType::BF16 => {
                let mut out = vec![0u16; source.n()];
                source.each_row(&mut out, |row, bits| {
                    for (v, b) in bits.iter_mut().zip(row.as_chunks::<2>().0) {
                        *v = u16::from_le_bytes(*b);
                    }
                });
                Host::Half(from, out)
            }
            DType::Quant(_) => {
                let mut out = vec![0u8; source.bytes.len()];
                source.each_row(&mut out, |row, bytes| bytes.copy_from_slice(row));
                Host::Blocks(from, out)
            }
        };
        self.release_pages_of(entry);
        Ok(host)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            let path = self.files.first().map(|f| f.path.clone()).unwrap_or_default();
            Error::file(path, format!("there is no tensor {name}"))
        })
    }
    fn path(&self, entry: &Entry) -> &Path {
        self.files.get(entry.file).map_or(Path::new(""), |f| &f.path)
    }
    fn bytes(&self, entry: &Entry) -> Result<&[u8]> {
        let bytes = self.files.get(entry.file).map(MappedFile::bytes).unwrap_or_default();
        bytes
            .get(entry.start..entry.start.saturating_add(entry.len))
            .ok_or_else(|| Error::file(self.path(entry), "a tensor lies outside the file"))
    }
}

/// What the error for any other type lists.
pub const SUPPORTED_TYPES: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";

/// A tensor's bytes as rows.
struct SourceRows<'a> {
    bytes: &'a [u8],
    /// Number of rows and elements in each.
    n_rows: usize,
    row_len: usize,
    row_bytes: usize,
    order: RowOrder,
}

impl<'a> SourceRows<'a> {
    fn new(bytes: &'a [u8], entry: &Entry, dtype: DType) -> Self {
        let n: usize = entry.shape.iter().product();
        // A bias that is interleaved moves element by element.
        let row_len = match (entry.rows, &entry.shape[..]) {
            (RowOrder::Interleaved { .. }, [_]) => 1,
            (_, [.., last]) => *last,
            (_, []) => 1,
        };
        let n_rows = n.checked_div(row_len).unwrap_or(0);
        SourceRows { bytes, n_rows, row_len, row_bytes: dtype.bytes(row_len), order: entry.rows }
    }
    fn n(&self) -> usize {
        self.n_rows * self.row_len
    }

    /// Calls `f` with the file's bytes of each row and the place for it in `out`, which holds `n_rows` equal rows.
    fn each_row<T: Send>(&self, out: &mut [T], f: impl Fn(&[u8], &mut [T]) + Sync) {
        if self.n_rows == 0 || out.is_empty() {
            return;
        }
        let width = out.len() / self.n_rows;
        let rows_at_once = (65536 / width).max(1);
        out.par_chunks_mut(width * rows_at_once).enumerate().for_each(|(chunk, rows)| {
            for (i, row) in rows.chunks_mut(width).enumerate() {
                let at = self.order.stored_row(chunk * rows_at_once + i) * self.row_bytes;
                f(&self.bytes[at..at + self.row_bytes], row);
            }
        });
    }
}

impl RowOrder {
    /// The row of the file that holds row `row` of the Hugging Face matrix.
    pub(super) fn stored_row(self, row: usize) -> usize {
        match self {
            RowOrder::AsIs => row,
            RowOrder::Interleaved { head_size } => {
                let (head, within) = (row / head_size, row % head_size);
                let (half, i) = (within / (head_size / 2), within % (head_size / 2));
                head * head_size + 2 * i + half
            }
        }
    }
}

/// Decodes one row to f32.
fn decode(from: DType, row: &[u8], out: &mut [f32]) {
    match from {
        DType::F32 => {
            for (v, b) in out.iter_mut().zip(row.as_chunks::<4>().0) {
                *v = f32::from_le_bytes(*b);
            }
        }
        DType::F16 => {
            for (v, b) in out.iter_mut().zip(row.as_chunks::<2>().0) {
                *v = f16::from_le_bytes(*b).to_f32();
            }
        }
        DType::BF16 => {
            for (v, b) in out.iter_mut().zip(row.as_chunks::<2>().0) {
                *v = bf16::from_le_bytes(*b).to_f32();
            }
        }
        DType::U32 => {
            for (v, b) in out.iter_mut().zip(row.as_chunks::<4>().0) {
                *v = u32::from_le_bytes(*b) as f32;
            }
        }
        DType::Quant(q) => {
            let decoded = quant::decode_row(q, row, out);
            debug_assert!(decoded.is_ok(), "rows are whole blocks: Entry::check");
        }
    }
}

/// Decodes one row and rounds every number with `round`.
fn narrow(from: DType, row: &[u8], out: &mut [u16], round: impl Fn(f32) -> u16) {
    let mut values = vec![0f32; out.len()];
    decode(from, row, &mut values);
    for (bits, &x) in out.iter_mut().zip(&values) {
        *bits = round(x);
    }
}
