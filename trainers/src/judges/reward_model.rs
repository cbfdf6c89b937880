//! A reward model: a decoder whose head says one number for a sequence, read where transformers reads it.
//!
//! A sequence's reward is that of its last token that is no padding (`pad_token_id` of the configuration): what
//! transformers' sequence classification takes, also where EOS serves as padding and so does not count.
use crate::data::Sequence;
use crate::error::{Error, Result};
use crate::job::batch::Batch;
use crate::job::need::{self, Use};
use crate::job::setup::{self, ModelSource};
use crate::options::base_of;
use crate::text::Tokenizer;
use engine::backend::Device;
use engine::config::Head;
use engine::dtype::DType;
use engine::forest::Forest;
use engine::model::decoder::{Decoder, Pass};
use engine::tensor::Tensor;
use std::path::Path;

/// A trained reward model, ready to score.
pub struct RewardModel {
    /// The decoder; its head is `score`, [1, D].
    pub model: Decoder,
    /// The reward model's own, which may differ from the policy's.
    pub tokenizer: Tokenizer,
    /// Where it was opened from, for messages.
    pub path: String,
}

/// Of each leaf of the forest the row where its reward is read: the last token of its sequence that is no padding.
/// Leaves in the forest's order.
pub fn reward_rows(forest: &Forest, pad: Option<u32>) -> Vec<u32> {
    let mut is_leaf = vec![true; forest.segments.len()];
    forest.segments.iter().filter_map(|s| s.parent).for_each(|parent| is_leaf[parent] = false);
    let counts = |row: &&u32| Some(forest.tokens[**row as usize]) != pad;
    (0..forest.segments.len())
        .filter(|&i| is_leaf[i])
        .filter_map(|i| {
            let path = forest.path_rows(i);
            path.iter().rev().find(counts).or(path.first()).copied()
        })
        .collect()
}

/// The rewards of the leaves of a forest, on the model's device: [leaves].
pub fn rewards(model: &Decoder, forest: &Forest, pass: Pass) -> Result<Tensor> {
    let rows = reward_rows(forest, model.config.pad_id);
    Ok(model.rewards(&model.hidden(forest, pass)?, &rows)?)
}

/// A forest whose leaves are these sequences, in their order; neighbours with the same prompt share it.
pub fn forest_of(sequences: &[&Sequence]) -> Result<Forest> {
    // A sequence without an answer would be no leaf beside those that continue its prompt.
    let whole: Vec<Sequence> = sequences
        .iter()
        .map(|s| if s.answer().is_empty() { Sequence { ids: s.ids.clone(), start: 0 } } else { (*s).clone() })
        .collect();
    Ok(Batch::from_answers(&whole.iter().collect::<Vec<_>>(), true, false)?.forest)
}

impl RewardModel {
    /// Opens a directory in Hugging Face layout that `lapidary reward` or TRL saved, with an adapter on it if there
    /// is one. Errors: a language model without `score.weight`.
    pub fn open(path: &str, adapter: Option<&Path>, device: &Device, dtype: Option<DType>) -> Result<Self> {
        let base = base_of(path)?.filter(|_| adapter.is_none());
        let (given, adapter) = (path, adapter.or(base.as_ref().map(|_| Path::new(path))));
        let path = base.as_deref().unwrap_or(path);
        let ModelSource { mut files, tokenizer } = setup::open_with(path, adapter)?;
        if adapter.is_some() {
            files.config.head = Head::Score;
        }
        if files.config.head != Head::Score {
            return Err(Error::Input(format!(
                "{path}: a language model, no reward model (its config.json names no …ForSequenceClassification); train \
                 one with lapidary reward"
            )));
        }
        if files.config.pad_id.is_none() {
            files.config.pad_id = tokenizer.pad_id().or(tokenizer.eos_id());
        }
        let read = adapter.map(|path| setup::load_adapter(path, Head::Score)).transpose()?;
        need::check_use(&files, dtype, read.as_ref(), device, Use::Measure((0, 0)))?;
        let mut model = Decoder::load(&files, device, dtype)?;
        if let (Some(adapter_path), Some(adapter)) = (adapter, read) {
            adapter.check_fits(&files.config, adapter_path)?;
            if !adapter.tensors.contains_key(engine::config::SCORE) {
                let detail = "an adapter of a language model (it has no score.weight), no reward model";
                return Err(Error::Input(format!("{}: {detail}", adapter_path.display())));
            }
            model.load_adapter(&adapter)?;
        }
        Ok(RewardModel { model, tokenizer, path: given.to_string() })
    }

    /// One reward a sequence (prompt and answer as this model's tokens), in their order; neighbours share a prompt.
    pub fn score(&self, sequences: &[&Sequence]) -> Result<Vec<f32>> {
        if sequences.iter().any(|s| s.ids.is_empty()) {
            return Err(Error::Input(format!("{}: a sequence without tokens has no reward", self.path)));
        }
        self.score_forest(&forest_of(sequences)?)
    }

    /// The reward of every leaf of a forest, in the forest's order.
    pub fn score_forest(&self, forest: &Forest) -> Result<Vec<f32>> {
        need::check_batch(&self.model, (forest.tokens.len(), 0))?;
        Ok(rewards(&self.model, forest, Pass::default())?.to_vec()?)
    }

    /// Whether token ids mean the same here and in the policy; an error that says where they part if not.
    pub fn check_tokenizer(&self, policy: &Tokenizer) -> Result<()> {
        let (ours, theirs) = (self.tokenizer.vocab_size(), policy.vocab_size());
        let differing = (0..ours.max(theirs) as u32).find(|&id| self.tokenizer.token(id) != policy.token(id));
        match differing {
            None => Ok(()),
            Some(id) => {
                let show = |token: Option<String>| token.map_or("no token".into(), |t| format!("{t:?}"));
                Err(Error::Input(format!(
                    "{}: the reward model's tokenizer ({ours} tokens) is not the policy's ({theirs}): token {id} is {} \
                     here and {} there. Train the reward model on a model with the policy's tokenizer",
                    self.path,
                    show(self.tokenizer.token(id)),
                    show(policy.token(id))
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(path: &str) -> String {
        format!("{}/../tests/golden/{path}", env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn another_tokenizer_is_told() {
        let device: Device = std::sync::Arc::new(engine::reference::Reference);
        let model = RewardModel::open(&golden("models/llama-reward"), None, &device, None).unwrap();
        model.check_tokenizer(&Tokenizer::from_directory(Path::new(&golden("models/qwen3"))).unwrap()).unwrap();
        let vocabulary = engine::files::vocabulary::Vocabulary {
            model: "gpt2".into(),
            pre: "gpt-2".into(),
            tokens: vec!["<|end|>".into(), "a".into()],
            token_types: vec![3, 1],
            eos_id: Some(0),
            ..Default::default()
        };
        let other = Tokenizer::from_vocabulary(&vocabulary, Path::new("other")).unwrap();
        let told = model.check_tokenizer(&other).unwrap_err().to_string();
        assert!(told.contains("(512 tokens)") && told.contains("(2)") && told.contains("<|end|>"), "{told}");
        let told = RewardModel::open(&golden("models/llama"), None, &device, None).map(|_| ()).unwrap_err().to_string();
        assert!(told.contains("no reward model"), "{told}");
    }

    #[test]
    fn rewards_are_read_at_the_last_token_that_is_no_padding() {
        let sequence = |ids: &[u32], start| Sequence { ids: ids.to_vec(), start };
        let all = [sequence(&[1, 2, 3, 9], 2), sequence(&[1, 2, 9], 2), sequence(&[4, 5], 2), sequence(&[9], 0)];
        let forest = forest_of(&all.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(forest.tokens, [1, 2, 3, 9, 9, 4, 5, 9]);
        assert_eq!(reward_rows(&forest, Some(9)), [2, 1, 6, 7]);
        assert_eq!(reward_rows(&forest, None), [3, 4, 6, 7]);
    }
}
