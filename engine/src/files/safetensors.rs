//! safetensors files: one, or several with an index; read through a map, written whole or not at all.
//!
//! Format: an 8-byte length, a JSON header of names, types, shapes and byte ranges, then the data without gaps.
use crate::buffer::Host;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::files::atomic;
use crate::files::weights::{Entry, MappedFile, RowOrder, Stored, Weights};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Value, json};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// The file that a model directory has when its weights are in one file.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The file that lists which shard holds which tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// As in the format's own implementation.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// One safetensors file, header checked.
pub fn open(path: &Path) -> Result<Weights> {
    let file = MappedFile::open(path)?;
    let entries = table(&file, 0)?;
    Weights::new(vec![file], entries)
}

/// The shards that `index` (a `model.safetensors.index.json`) names, all from its own directory.
pub fn open_sharded(index: &Path) -> Result<Weights> {
    let text = std::fs::read(index).map_err(|e| Error::file(index, format!("cannot be opened: {e}")))?;
    let json: Value = serde_json::from_slice(&text).map_err(|e| Error::file(index, format!("is not JSON: {e}")))?;
    let Some(weight_map) = json.get("weight_map").and_then(Value::as_object) else {
        return Err(Error::file(index, "`weight_map` is missing or not an object"));
    };
    let mut shard_of = BTreeMap::new();
    for (tensor, shard) in weight_map {
        let shard = shard.as_str().filter(|s| is_plain_file_name(s)).ok_or_else(|| {
            Error::file(index, format!("the shard of {tensor} is {shard}, the name of a file beside is needed"))
        })?;
        shard_of.insert(tensor.as_str(), shard);
    }
    let shards: BTreeSet<&str> = shard_of.values().copied().collect();
    let (mut files, mut entries) = (Vec::new(), BTreeMap::new());
    for (i, shard) in shards.iter().enumerate() {
        let file = MappedFile::open(&index.with_file_name(shard))?;
        for (name, entry) in table(&file, i)? {
            if shard_of.get(name.as_str()) == Some(shard) {
                entries.insert(name, entry);
            }
        }
        files.push(file);
    }
    if let Some((tensor, shard)) = shard_of.iter().find(|(tensor, _)| !entries.contains_key(**tensor)) {
        return Err(Error::file(index, format!("says that {shard} holds {tensor}, which it does not")));
    }
    Weights::new(files, entries)
}

fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':'])
}

/// Reads the header of `file`, which is number `index` of its model.
fn table(file: &MappedFile, index: usize) -> Result<BTreeMap<String, Entry>> {
    let bytes = file.bytes();
    let broken = |detail: String| Error::file(&file.path, format!("is not a whole safetensors file: {detail}"));
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(broken(format!("it has {} bytes, its header alone takes more", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().filter(|n| *n <= MAX_HEADER_BYTES).and_then(|n| rest.get(..n));
    let Some(header) = header else {
        return Err(broken(format!("it says its header has {length} bytes, the file has {}", bytes.len())));
    };
    let metadata: Metadata =
        serde_json::from_slice(header).map_err(|e| broken(format!("its header cannot be read: {e}")))?;
    let data = &rest[header.len()..];
    if metadata.data_len() != data.len() {
        return Err(broken(format!(
            "its tensors take {} bytes, {} follow the header",
            metadata.data_len(),
            data.len()
        )));
    }
    let data_start = bytes.len() - data.len();
    let mut entries = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let stored = match info.dtype {
            Dtype::F32 => Stored::Known(DType::F32),
            Dtype::F16 => Stored::Known(DType::F16),
            Dtype::BF16 => Stored::Known(DType::BF16),
            Dtype::U32 => Stored::Known(DType::U32),
            other => Stored::Other(format!("{other:?}")),
        };
        let (start, len) = (data_start + start, end - start);
        entries
            .insert(name, Entry { file: index, shape: info.shape.clone(), stored, start, len, rows: RowOrder::AsIs });
    }
    Ok(entries)
}

/// Writes one safetensors file, with the metadata `{"format":"pt"}` that transformers and PEFT look for. Tensors are
/// (name, shape, values); [`Host::Blocks`] cannot be written.
pub fn write<H: Borrow<Host>>(path: &Path, tensors: &[(String, Vec<usize>, H)]) -> Result<()> {
    let mut ordered = tensors.iter().map(|t| Ok((dtype_of(path, t)?, t))).collect::<Result<Vec<_>>>()?;
    // Wide types first, so that every tensor starts at a multiple of its element size.
    ordered.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.0.cmp(&y.0)));
    let mut infos = Vec::new();
    let mut at = 0;
    for (dtype, (name, shape, host)) in &ordered {
        let end = at + host.borrow().bytes();
        infos.push((name.clone(), TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (at, end) }));
        at = end;
    }
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let header = Metadata::new(Some(format), infos)
        .map_err(|e| Error::file(path, e))
        .and_then(|metadata| serde_json::to_vec(&metadata).map_err(|e| Error::file(path, e)));
    let mut header = header?;
    header.resize(header.len().next_multiple_of(8), b' ');
    atomic::replace_file(path, |w| {
        w.write_all(&(header.len() as u64).to_le_bytes())?;
        w.write_all(&header)?;
        ordered.iter().try_for_each(|(_, (_, _, host))| write_values(w, host.borrow()))
    })
}

fn dtype_of<H: Borrow<Host>>(path: &Path, (name, shape, host): &(String, Vec<usize>, H)) -> Result<Dtype> {
    let host = host.borrow();
    let dtype = match host.dtype() {
        DType::F32 => Dtype::F32,
        DType::U32 => Dtype::U32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::Quant(_) => {
            return Err(Error::Unsupported(format!(
                "{}: tensor {name} is {}, which safetensors cannot hold; convert it to float32 or bfloat16 first",
                path.display(),
                host.dtype().name()
            )));
        }
    };
    let n = shape.iter().product();
    if host.bytes() != host.dtype().bytes(n) {
        return Err(Error::shape("write", format!("tensor {name} of shape {shape:?} has {} bytes", host.bytes())));
    }
    Ok(dtype)
}

/// Little-endian, whatever the machine is.
pub(super) fn write_values(w: &mut dyn std::io::Write, host: &Host) -> std::io::Result<()> {
    if cfg!(target_endian = "little") {
        return match host {
            Host::F32(v) => w.write_all(bytemuck::cast_slice(v)),
            Host::U32(v) => w.write_all(bytemuck::cast_slice(v)),
            Host::Half(_, v) => w.write_all(bytemuck::cast_slice(v)),
            Host::Blocks(_, v) => w.write_all(v),
        };
    }
    match host {
        Host::F32(v) => v.iter().try_for_each(|x| w.write_all(&x.to_le_bytes())),
        Host::U32(v) => v.iter().try_for_each(|x| w.write_all(&x.to_le_bytes())),
        Host::Half(_, v) => v.iter().try_for_each(|x| w.write_all(&x.to_le_bytes())),
        Host::Blocks(_, v) => w.write_all(v),
    }
}

/// Writes the weights of a model into the directory `dir`: one file, or several of at most `max_shard_bytes` each (a
/// larger tensor has a shard of its own) with an index. Files of an earlier save that would be read instead go.
pub fn write_model<H: Borrow<Host>>(
    dir: &Path,
    tensors: &[(String, Vec<usize>, H)],
    max_shard_bytes: u64,
) -> Result<()> {
    let shards = cut(tensors, max_shard_bytes);
    let written: Vec<String> = match shards.len() {
        0 | 1 => vec![SINGLE_FILE.to_string()],
        n => (1..=n).map(|i| format!("model-{i:05}-of-{n:05}.safetensors")).collect(),
    };
    if shards.is_empty() {
        write::<H>(&dir.join(SINGLE_FILE), &[])?;
    }
    for (shard, name) in shards.iter().zip(&written) {
        write(&dir.join(name), shard)?;
    }
    if shards.len() > 1 {
        let weight_map: BTreeMap<&str, &str> = shards
            .iter()
            .zip(&written)
            .flat_map(|(shard, name)| shard.iter().map(move |(tensor, ..)| (tensor.as_str(), name.as_str())))
            .collect();
        let total: u64 = tensors.iter().map(|(_, _, host)| host.borrow().bytes() as u64).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        atomic::replace_json(&dir.join(INDEX_FILE), &index)?;
    }
    remove_stale(dir, &written)
}

/// Consecutive runs of tensors, each of at most `max_bytes` or of a single tensor.
fn cut<H: Borrow<Host>>(tensors: &[(String, Vec<usize>, H)], max_bytes: u64) -> Vec<&[(String, Vec<usize>, H)]> {
    let (mut shards, mut start, mut size) = (Vec::new(), 0, 0u64);
    for (i, (_, _, host)) in tensors.iter().enumerate() {
        let bytes = host.borrow().bytes() as u64;
        if i > start && size.saturating_add(bytes) > max_bytes {
            shards.push(&tensors[start..i]);
            (start, size) = (i, 0);
        }
        size += bytes;
    }
    if start < tensors.len() {
        shards.push(&tensors[start..]);
    }
    shards
}

fn remove_stale(dir: &Path, written: &[String]) -> Result<()> {
    let failed = |e: std::io::Error| Error::file(dir, format!("cannot be tidied: {e}"));
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let of_a_model = name == SINGLE_FILE || (name.starts_with("model-") && name.ends_with(".safetensors"));
        let stale = (of_a_model && !written.contains(&name)) || (name == INDEX_FILE && written.len() == 1);
        if stale {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}
