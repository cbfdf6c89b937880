//! A trained reward model as a reward: what `lapidary reward` (or TRL) saved.
use crate::data::Sequence;
use crate::error::Result;
use crate::judges::reward_model::RewardModel;
use crate::policy_gradients::judged::{Judged, Reward};
use crate::text::Tokenizer;
use engine::backend::Device;
use std::path::Path;

/// Completions scored at once: neighbours share their prompt.
const BATCH: usize = 16;

/// A reward model that judges prompt and completion, token for token as the policy wrote them.
pub struct ModelReward {
    name: String,
    model: RewardModel,
}

impl ModelReward {
    /// Errors: no reward model, or one whose tokens are not the policy's.
    pub fn open(path: &str, policy: &Tokenizer, device: &Device) -> Result<Self> {
        let model = RewardModel::open(path, None, device, None)?;
        model.check_tokenizer(policy)?;
        let name = Path::new(path).file_name().map_or(path.into(), |n| n.to_string_lossy().into_owned());
        Ok(ModelReward { name, model })
    }
}

impl Reward for ModelReward {
    fn name(&self) -> &str {
        &self.name
    }
    fn score(&mut self, completions: &[Judged]) -> Result<Vec<Option<f64>>> {
        let sequence = |c: &Judged| Sequence {
            ids: c.prompt.ids.iter().chain(c.ids).copied().collect(),
            start: c.prompt.ids.len(),
        };
        let mut all = Vec::with_capacity(completions.len());
        for chunk in completions.chunks(BATCH) {
            let sequences: Vec<Sequence> = chunk.iter().map(sequence).collect();
            let rewards = self.model.score(&sequences.iter().collect::<Vec<_>>())?;
            all.extend(rewards.into_iter().map(|r| Some(f64::from(r))));
        }
        Ok(all)
    }
}
