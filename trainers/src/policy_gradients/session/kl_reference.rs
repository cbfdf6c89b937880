//! The policy that a KL is measured from.
use crate::error::Result;
use crate::job::Job;
use crate::options::TrainingOptions;
use engine::model::decoder::Decoder;

/// The policy that a KL is measured from.
pub(super) enum KlReference {
    /// None is asked for.
    Nothing,
    /// The base under a new adapter.
    AdapterOff,
    /// A copy of the start.
    Frozen(Box<Decoder>),
}

impl KlReference {
    /// The start of a run, if it is `needed`: with `freezes` a copy of it, read again where the run is resumed, else the
    /// model with its adapter off.
    pub(super) fn open(job: &Job, training: &TrainingOptions, needed: bool, freezes: bool) -> Result<Self> {
        Ok(match (needed, freezes, &job.resumed) {
            (false, ..) => KlReference::Nothing,
            (true, false, _) => KlReference::AdapterOff,
            // Memory is shared until the optimiser changes the policy's.
            (true, true, None) => KlReference::Frozen(Box::new(job.learner.model.clone())),
            (true, true, Some(_)) => {
                let start = job.policy.learner(&job.device, &job.source, training, None)?.model;
                KlReference::Frozen(Box::new(start))
            }
        })
    }

    /// The policy itself, if one is asked for; `model` is the one that is trained.
    pub(super) fn policy(&self, model: &Decoder) -> Option<Decoder> {
        match self {
            KlReference::Nothing => None,
            KlReference::AdapterOff => Some(model.without_adapter()),
            KlReference::Frozen(start) => Some((**start).clone()),
        }
    }
}
