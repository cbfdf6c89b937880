//! The policy that a KL is measured from.
use crate::error::Result;
use crate::job::{Job, moving_reference};
use crate::options::{PolicyGradient, SyncOptions};
use engine::model::decoder::Decoder;
use std::path::Path;

/// The policy that a KL is measured from.
pub(super) enum KlReference {
    /// None is asked for.
    Nothing,
    /// The base under a new adapter.
    AdapterOff,
    /// A copy of the start, and how it moves.
    Copy(Box<Decoder>, Option<SyncOptions>),
}

impl KlReference {
    /// The start of a run, if it is `needed`: with `freezes` a copy of it, read again where the run is resumed, else the
    /// model with its adapter off.
    pub(super) fn open<C: PolicyGradient>(job: &Job, options: &C, needed: bool, freezes: bool) -> Result<Self> {
        let sync = options.sync().filter(|sync| sync.sync_ref_model).cloned();
        Ok(match (needed, freezes, &job.resumed) {
            (false, ..) => KlReference::Nothing,
            (true, false, _) => KlReference::AdapterOff,
            // Memory is shared until the optimiser changes the policy's.
            (true, true, None) => KlReference::Copy(Box::new(job.learner.model.clone()), sync),
            (true, true, Some(checkpoint)) => {
                let training = options.common().training;
                let mut model = job.policy.learner(&job.device, &job.source, training, None)?.model;
                if let Some(sync) = &sync {
                    moving_reference::restore(&mut model, &checkpoint.path, sync)?;
                }
                KlReference::Copy(Box::new(model), sync)
            }
        })
    }

    /// The policy itself, if one is asked for; `model` is the one that is trained.
    pub(super) fn policy(&self, model: &Decoder) -> Option<Decoder> {
        match self {
            KlReference::Nothing => None,
            KlReference::AdapterOff => Some(model.without_adapter()),
            KlReference::Copy(copy, _) => Some((**copy).clone()),
        }
    }

    /// Draws the copy towards the policy, when that is due after step `step` (from 1).
    pub(super) fn moved(&mut self, policy: &Decoder, step: u64) -> Result<()> {
        match self {
            KlReference::Copy(copy, Some(sync)) => moving_reference::sync(copy, policy, step, sync),
            _ => Ok(()),
        }
    }

    /// Keeps a copy that moves in a checkpoint.
    pub(super) fn save(&self, checkpoint: &Path) -> Result<()> {
        match self {
            KlReference::Copy(copy, Some(sync)) => moving_reference::save(copy, checkpoint, sync),
            _ => Ok(()),
        }
    }
}
