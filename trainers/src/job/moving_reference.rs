//! A reference that follows the policy: A. Gorbatovski et al., "Learn your reference model for real good alignment"
//! (TR-DPO), ICLR 2025, equation 5.
use crate::error::Result;
use crate::options::SyncOptions;
use crate::run::side_files::{REFERENCE, read_weights, write_weights};
use engine::dtype::DType;
use engine::model::decoder::Decoder;
use engine::ops;
use std::path::Path;

/// reference ← α · policy + (1 − α) · reference, if it is due after the optimiser's step `step` (from 1).
pub fn sync(reference: &mut Decoder, policy: &Decoder, step: u64, options: &SyncOptions) -> Result<()> {
    if !options.sync_ref_model || !step.is_multiple_of(options.ref_model_sync_steps) {
        return Ok(());
    }
    let alpha = options.ref_model_mixup_alpha as f32;
    for (old, new) in reference.parameters_mut().into_iter().zip(policy.parameters()) {
        old.tensor = ops::scale(old, 1.0 - alpha)?;
        old.tensor.add_in_place(alpha, new)?;
    }
    Ok(())
}

/// Keeps a reference that moves in a checkpoint.
pub fn save(reference: &Decoder, checkpoint: &Path, options: &SyncOptions) -> Result<()> {
    if !options.sync_ref_model {
        return Ok(());
    }
    write_weights(checkpoint, REFERENCE, &reference.host_tensors(DType::F32)?)
}

/// Takes up a reference that moves as it was in the checkpoint.
pub fn restore(reference: &mut Decoder, checkpoint: &Path, options: &SyncOptions) -> Result<()> {
    if options.sync_ref_model { read_weights(checkpoint, REFERENCE, reference.parameters_mut()) } else { Ok(()) }
}
