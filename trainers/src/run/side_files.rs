//! Side files of a checkpoint: what one trainer must remember besides model, optimiser and state, as JSON or as weights.
//!
//! A side file is written whole or not at all. One that cannot be read is an error that names it and says what to do.
use super::durable::{io_error, sync_directory, write_file};
use super::optimizer_file::OptimizerState;
use crate::error::{Error, Result};
use engine::buffer::Host;
use engine::dtype::DType;
use engine::files::{atomic, safetensors};
use engine::model::parameter::Parameter;
use engine::tensor::Tensor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Borrow;
use std::path::Path;

/// What a policy-gradient run is still learning from.
pub const EXPERIENCE: &str = "experience.json";
/// PPO's weight of the KL.
pub const KL_COEFFICIENT: &str = "kl_coef.json";
/// REINFORCE's mean of earlier rewards.
pub const BASELINE: &str = "baseline.json";
/// BCO's mean of earlier rewards.
pub const REWARDS: &str = "rewards.json";
/// What the guard has counted.
pub const GUARD: &str = "guard.json";
/// The policy that the guard has kept.
pub const KEPT: &str = "kept.safetensors";
/// The policy that the guard keeps if its KL is within the budget.
pub const CANDIDATE: &str = "candidate.safetensors";
/// A reference that moves.
pub const REFERENCE: &str = "reference.safetensors";
/// The directory with PPO's critic, weights and moments.
pub const CRITIC: &str = "critic";

/// All of them, so that a checkpoint that is opened as a model is not said to have files that nothing reads.
pub const SIDE_FILES: [&str; 9] =
    [EXPERIENCE, KL_COEFFICIENT, BASELINE, REWARDS, GUARD, KEPT, CANDIDATE, REFERENCE, CRITIC];

/// The error of a side file that is missing or not what was written.
fn unusable(error: impl std::fmt::Display) -> Error {
    Error::Input(format!("{error}; take another checkpoint, or start anew in another output_dir"))
}

/// Writes a value into a checkpoint as the JSON file `name`; numbers come back to the bit.
pub fn write_json<T: Serialize>(checkpoint: &Path, name: &str, value: &T) -> Result<()> {
    let text = serde_json::to_string(value).map_err(Error::internal)?;
    write_file(&checkpoint.join(name), text.as_bytes())
}

/// Reads the JSON file `name` of a checkpoint. Errors: it is missing, or no value of this kind.
pub fn read_json<T: DeserializeOwned>(checkpoint: &Path, name: &str) -> Result<T> {
    let path = checkpoint.join(name);
    let text = std::fs::read_to_string(&path).map_err(|e| unusable(io_error(&path, "read", e)))?;
    serde_json::from_str(&text).map_err(|e| unusable(format!("{}: damaged: {e}", path.display())))
}

/// [`read_json`] of a file that a checkpoint need not have.
pub fn find_json<T: DeserializeOwned>(checkpoint: &Path, name: &str) -> Result<Option<T>> {
    checkpoint.join(name).exists().then(|| read_json(checkpoint, name)).transpose()
}

/// Writes tensors (path, shape, values) into a checkpoint as the safetensors file `name`.
pub fn write_weights<H: Borrow<Host>>(
    checkpoint: &Path,
    name: &str,
    tensors: &[(String, Vec<usize>, H)],
) -> Result<()> {
    Ok(safetensors::write(&checkpoint.join(name), tensors)?)
}

/// Gives parameters the values that the safetensors file `name` of a checkpoint has for them, as float32. Errors: the
/// file is missing or damaged, or lacks one of them.
pub fn read_weights(checkpoint: &Path, name: &str, parameters: Vec<&mut Parameter>) -> Result<()> {
    let weights = safetensors::open(&checkpoint.join(name)).map_err(unusable)?;
    for p in parameters {
        let values = weights.load(p.path(), DType::F32).map_err(unusable)?;
        p.tensor = Tensor::new(&p.tensor.device().clone(), values, p.shape())?;
    }
    Ok(())
}

/// Writes the weights and moments of a model beside the trained one into the directory `name` of a checkpoint.
pub fn write_state(checkpoint: &Path, name: &str, state: &OptimizerState) -> Result<()> {
    let directory = checkpoint.join(name);
    atomic::create_directory(&directory)?;
    state.write(&directory)?;
    sync_directory(checkpoint);
    Ok(())
}

/// Reads what [`write_state`] wrote.
pub fn read_state(checkpoint: &Path, name: &str) -> Result<OptimizerState> {
    OptimizerState::read(&checkpoint.join(name)).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Slot;
    use std::collections::BTreeMap;
    use std::fs;

    #[test]
    fn every_bit_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let values = [0.1 + 0.2, 5e-324, f64::MAX, -0.0];
        write_json(dir.path(), BASELINE, &values).unwrap();
        let again: [f64; 4] = read_json(dir.path(), BASELINE).unwrap();
        assert_eq!(again.map(f64::to_bits), values.map(f64::to_bits));
        assert_eq!(find_json::<f64>(dir.path(), GUARD).unwrap(), None);
        let slot = Slot::new(vec![2], vec![0.1, -0.0]);
        let state = OptimizerState { step: 3, slots: BTreeMap::from([("score.weight".to_string(), slot)]) };
        write_state(dir.path(), CRITIC, &state).unwrap();
        write_state(dir.path(), CRITIC, &state).unwrap();
        assert_eq!(read_state(dir.path(), CRITIC).unwrap(), state);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left behind");
    }

    #[test]
    fn missing_and_damaged_files_are_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let named = |told: String, name: &str, how: &str| {
            for words in [name, how, "take another checkpoint"] {
                assert!(told.contains(words), "{words}: {told}");
            }
            assert_eq!(told.lines().count(), 1, "{told}");
        };
        named(read_json::<f64>(dir.path(), KL_COEFFICIENT).unwrap_err().to_string(), KL_COEFFICIENT, "cannot be read");
        named(read_state(dir.path(), CRITIC).unwrap_err().to_string(), CRITIC, "cannot be read");
        named(read_weights(dir.path(), KEPT, vec![]).unwrap_err().to_string(), KEPT, "cannot be opened");
        for text in ["", "{", "\"a\"", "[1]"] {
            fs::write(dir.path().join(KL_COEFFICIENT), text).unwrap();
            let told = read_json::<f64>(dir.path(), KL_COEFFICIENT).unwrap_err().to_string();
            named(told, KL_COEFFICIENT, "damaged");
        }
        fs::write(dir.path().join(KEPT), "short").unwrap();
        named(read_weights(dir.path(), KEPT, vec![]).unwrap_err().to_string(), KEPT, "whole safetensors file");
    }
}
