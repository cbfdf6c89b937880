//! What is learnt from: completions with their advantages, as forests in which each prompt is computed once.
use crate::error::Result;
use crate::job::batch::Batch;
use crate::run::side_files::{EXPERIENCE, find_json, write_json};
use engine::forest::Forest;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One completion, ready to be learnt from. Per-token lists are as long as `ids`, or empty where they are not needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its prompt's index in the experience.
    pub prompt: usize,
    /// Its tokens, without the prompt's.
    pub ids: Vec<u32>,
    /// Not trained on: it has no end, and that was asked for.
    pub masked: bool,
    /// log π of each token when it was drawn.
    pub logp_old: Vec<f32>,
    /// log π_ref of each token.
    pub logp_ref: Vec<f32>,
    /// One for all tokens, or one each.
    pub advantages: Vec<f32>,
    /// What the critic said of each token: PPO.
    pub values: Vec<f32>,
    /// The targets of the critic: what it should have said.
    pub returns: Vec<f32>,
}

impl Sample {
    /// Tokens that are trained on.
    pub fn n_trained(&self) -> usize {
        if self.masked { 0 } else { self.ids.len() }
    }
    /// The advantage of token t.
    pub fn advantage(&self, t: usize) -> f32 {
        self.advantages.get(t).or(self.advantages.first()).copied().unwrap_or(0.0)
    }
}

/// The completions of one generation. They are kept in a checkpoint until they have been used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Experience {
    /// Tokens of each prompt, in the order in which they were drawn from.
    pub prompts: Vec<Vec<u32>>,
    /// The completions, those of one prompt side by side.
    pub samples: Vec<Sample>,
}

impl Experience {
    /// Tokens that are trained on.
    pub fn n_trained(&self) -> usize {
        self.samples.iter().map(Sample::n_trained).sum()
    }

    /// Gives each completion its advantage, one for all its tokens.
    pub fn set_advantages(&mut self, advantages: &[f64]) {
        self.samples.iter_mut().zip(advantages).for_each(|(s, a)| s.advantages = vec![*a as f32]);
    }

    /// Tokens, each prompt counted once a completion as TRL counts them.
    pub fn n_tokens(&self) -> u64 {
        self.samples.iter().map(|s| (self.prompts[s.prompt].len() + s.ids.len()) as u64).sum()
    }

    /// The forest of some samples: each prompt a root, its completions its children; samples of one prompt are
    /// neighbours. Prediction i belongs to sample `sequences[i]`, counted from the first of `samples`.
    ///
    /// The last token of a completion predicts nothing and is left out.
    pub fn batch(&self, samples: &[Sample]) -> Result<Batch> {
        let mut batch = Batch { forest: Forest::new(), ..Batch::default() };
        let mut open: Option<(usize, usize)> = None;
        for (sequence, sample) in samples.iter().enumerate().filter(|(_, s)| s.n_trained() > 0) {
            let root = match open {
                Some((prompt, root)) if prompt == sample.prompt => root,
                _ => batch.forest.push(None, &self.prompts[sample.prompt])?,
            };
            open = Some((sample.prompt, root));
            let prompt = &batch.forest.segments[root];
            let last_of_prompt = prompt.start + prompt.len - 1;
            let n = sample.ids.len();
            let start = batch.forest.n_tokens();
            if n > 1 {
                batch.forest.push(Some(root), &sample.ids[..n - 1])?;
            }
            batch.rows.push(last_of_prompt as u32);
            batch.rows.extend((start..start + n - 1).map(|row| row as u32));
            batch.targets.extend(&sample.ids);
            batch.sequences.extend(std::iter::repeat_n(sequence as u32, n));
        }
        Ok(batch)
    }

    /// Keeps it in a checkpoint.
    pub fn save(&self, checkpoint: &Path) -> Result<()> {
        write_json(checkpoint, EXPERIENCE, self)
    }

    /// Takes it from a checkpoint; None if there is none.
    pub fn load(checkpoint: &Path) -> Result<Option<Self>> {
        find_json(checkpoint, EXPERIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(prompt: usize, ids: &[u32]) -> Sample {
        Sample { prompt, ids: ids.to_vec(), ..Sample::default() }
    }

    #[test]
    fn a_prompt_is_the_root_of_its_completions() {
        let masked = Sample { masked: true, ..sample(0, &[7, 7]) };
        let samples = vec![sample(0, &[10, 11, 12]), masked, sample(0, &[20]), sample(1, &[30, 31])];
        let experience = Experience { prompts: vec![vec![1, 2], vec![3]], samples };
        let batch = experience.batch(&experience.samples).unwrap();
        // Prompt 0 at rows 0, 1; 10 11 at 2, 3; the single token 20 needs no row; prompt 1 at 4; 30 at 5.
        assert_eq!(batch.forest.tokens, [1, 2, 10, 11, 3, 30]);
        assert_eq!(batch.rows, [1, 2, 3, 1, 4, 5]);
        assert_eq!(batch.targets, [10, 11, 12, 20, 30, 31]);
        assert_eq!(batch.sequences, [0, 0, 0, 2, 3, 3]);
        assert_eq!(experience.n_trained(), 6);
        assert_eq!(batch.forest.segments[1].first_position, 2);
    }

    #[test]
    fn it_is_saved_to_the_bit() {
        let mut kept = sample(0, &[1, 2]);
        kept.logp_old = vec![-0.1f32, -1.2345679e-30];
        kept.advantages = vec![f32::MIN_POSITIVE, 0.1 + 0.2];
        let experience = Experience { prompts: vec![vec![1]], samples: vec![kept] };
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Experience::load(dir.path()).unwrap(), None);
        experience.save(dir.path()).unwrap();
        assert_eq!(Experience::load(dir.path()).unwrap(), Some(experience));
    }
}
