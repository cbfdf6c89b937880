//! The optimiser's state as a safetensors file: the moments of every parameter, and the step count.
use super::durable::io_error;
use crate::error::{Error, Result};
use engine::buffer::Host;
use engine::files::weights::MappedFile;
use safetensors::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// A tensor of optimiser state.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// That of the trained tensor.
    pub shape: Vec<usize>,
    /// Row-major float32, as many as the shape says; shared with the optimiser where that has them in host memory.
    pub values: Arc<Host>,
}

impl Slot {
    /// Of values that nobody else holds.
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Self {
        Slot { shape, values: Arc::new(Host::F32(values)) }
    }

    /// The values; none where they are of another type.
    fn f32(&self) -> &[f32] {
        if let Host::F32(values) = &*self.values { values } else { &[] }
    }
}

/// All of an optimiser's state, by name (for AdamW `<parameter>.m` and `<parameter>.v`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OptimizerState {
    /// Steps done: t of Adam's bias correction.
    pub step: u64,
    /// By the trained tensor's name.
    pub slots: BTreeMap<String, Slot>,
}

struct SlotView<'a>(&'a Slot);

impl View for SlotView<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        if cfg!(target_endian = "little") {
            Cow::Borrowed(bytemuck::cast_slice(self.0.f32()))
        } else {
            Cow::Owned(self.0.f32().iter().flat_map(|x| x.to_le_bytes()).collect())
        }
    }
    fn data_len(&self) -> usize {
        4 * self.0.f32().len()
    }
}

impl OptimizerState {
    /// In a checkpoint's directory.
    pub const FILE_NAME: &str = "optimizer.safetensors";

    /// Writes [`Self::FILE_NAME`] into a directory.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(Self::FILE_NAME);
        for (name, slot) in &self.slots {
            if slot.shape.iter().product::<usize>() != slot.f32().len() {
                let (shape, n) = (&slot.shape, slot.f32().len());
                return Err(Error::Internal(format!("optimiser state {name}: shape {shape:?} with {n} values")));
            }
        }
        let views = self.slots.iter().map(|(name, slot)| (name.as_str(), SlotView(slot)));
        let metadata = HashMap::from([("step".to_string(), self.step.to_string())]);
        safetensors::serialize_to_file(views, Some(metadata), &path).map_err(|e| io_error(&path, "written", e))
    }

    /// Reads [`Self::FILE_NAME`] of a checkpoint. Of the file no more than a tensor is in memory at a time.
    pub fn read(checkpoint: &Path) -> Result<Self> {
        let path = checkpoint.join(Self::FILE_NAME);
        std::fs::metadata(&path).map_err(|e| io_error(&path, "read", e))?;
        let file = MappedFile::open(&path)?;
        let bytes = file.bytes();
        let damaged = |detail: String| Error::Input(format!("{}: damaged: {detail}", path.display()));
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(e.to_string()))?;
        let step = metadata.metadata().as_ref().and_then(|entries| entries.get("step")?.parse().ok());
        let step = step.ok_or_else(|| damaged("it does not say after which step".into()))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
        let mut slots = BTreeMap::new();
        for (name, tensor) in tensors.iter() {
            if tensor.dtype() != Dtype::F32 {
                return Err(damaged(format!("{name} is {:?}, not F32", tensor.dtype())));
            }
            let (quads, _) = tensor.data().as_chunks::<4>();
            let values = quads.iter().map(|quad| f32::from_le_bytes(*quad)).collect();
            slots.insert(name.to_string(), Slot::new(tensor.shape().to_vec(), values));
            let start = tensor.data().as_ptr().addr() - bytes.as_ptr().addr();
            file.release_pages(start..start + tensor.data().len());
        }
        Ok(OptimizerState { step, slots })
    }

    /// Takes a slot out, which must be there and have this shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let slot = self.slots.remove(name);
        let slot = slot.ok_or_else(|| Error::Input(format!("the checkpoint has no optimiser state {name}")))?;
        if slot.shape != shape {
            let theirs = slot.shape;
            return Err(Error::Input(format!(
                "optimiser state {name} is {theirs:?} in the checkpoint, {shape:?} in the model"
            )));
        }
        match Arc::unwrap_or_clone(slot.values) {
            Host::F32(values) => Ok(values),
            other => Err(Error::Internal(format!("optimiser state {name} is {}", other.dtype().name()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn example() -> OptimizerState {
        let slot = |shape: &[usize], values: &[f32]| Slot::new(shape.to_vec(), values.to_vec());
        OptimizerState {
            step: 40,
            slots: BTreeMap::from([
                ("w.m".into(), slot(&[2, 2], &[1.0, -0.0, f32::MIN_POSITIVE / 4.0, f32::NAN])),
                ("w.v".into(), slot(&[2, 2], &[0.1, 0.2, 0.3, 0.4])),
                ("empty".into(), slot(&[0], &[])),
            ]),
        }
    }

    #[test]
    fn every_bit_comes_back() {
        let dir = tempfile::tempdir().expect("directory");
        example().write(dir.path()).expect("written");
        let mut again = OptimizerState::read(dir.path()).expect("read");
        assert_eq!((again.step, again.slots.len()), (40, 3));
        let values = again.take("w.m", &[2, 2]).expect("there");
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values), bits(example().slots["w.m"].f32()));
        assert!(again.take("w.m", &[2, 2]).expect_err("taken").to_string().contains("no optimiser state w.m"));
        assert!(
            again
                .take("w.v", &[4])
                .expect_err("shape")
                .to_string()
                .contains("is [2, 2] in the checkpoint, [4] in the model")
        );
    }

    #[test]
    fn the_same_state_gives_the_same_bytes() {
        let (a, b) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
        for dir in [&a, &b] {
            example().write(dir.path()).expect("written");
        }
        let bytes = |dir: &tempfile::TempDir| std::fs::read(dir.path().join(OptimizerState::FILE_NAME)).expect("read");
        assert_eq!(bytes(&a), bytes(&b));
    }

    #[test]
    fn damaged_files() {
        let dir = tempfile::tempdir().expect("directory");
        assert!(OptimizerState::read(dir.path()).expect_err("missing").to_string().contains("cannot be read"));
        example().write(dir.path()).expect("written");
        let path = dir.path().join(OptimizerState::FILE_NAME);
        let bytes = std::fs::read(&path).expect("read");
        for cut in [0, 4, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).expect("written");
            let told = OptimizerState::read(dir.path()).expect_err("cut off").to_string();
            assert!(told.contains("damaged"), "{told}");
        }
        let mut wrong = example();
        wrong.slots.insert("x".into(), Slot::new(vec![3], vec![1.0]));
        assert!(matches!(wrong.write(dir.path()), Err(Error::Internal(_))));
    }
}
