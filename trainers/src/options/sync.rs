//! A reference that moves: TRL's `sync_ref_model`, of every trainer that has a reference.
use super::given::Given;
use super::groups::LoraOptions;
use super::spec::option_group;
use super::value::{at_least, between};
use crate::error::Result;

option_group! {
    /// How the reference moves.
    pub struct SyncOptions "Reference" {
        /// Draw the reference towards the policy every ref_model_sync_steps (TR-DPO).
        sync_ref_model: bool = "false", Trl;
        /// α: the reference becomes α · policy + (1 − α) · reference.
        ref_model_mixup_alpha: f64 = "0.6", Trl, between(0.0, 1.0);
        /// Optimiser steps between two such updates.
        ref_model_sync_steps: u64 = "512", Trl, at_least(1.0);
    }
}

impl SyncOptions {
    /// Contradictions, and what has no effect. `unused`: why there is no reference that could move, if there is none.
    pub(super) fn check(
        &self,
        lora: &LoraOptions,
        unused: Option<&str>,
        given: &Given,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        if self.sync_ref_model && lora.is_used() {
            let detail = "needs a reference of its own; with an adapter the reference is the model without it";
            return given.complain("sync_ref_model", detail);
        }
        if let Some(why) = unused.filter(|_| self.sync_ref_model) {
            return given.complain("sync_ref_model", why);
        }
        for name in ["ref_model_mixup_alpha", "ref_model_sync_steps"] {
            if given.differs(name) && !self.sync_ref_model {
                notes.push(format!("{name} has no effect without sync_ref_model"));
            }
        }
        Ok(())
    }
}
