//! From examples to a forest and the list of its predictions.
use crate::data::tokenize::Example;
use engine::Result;
use engine::forest::Forest;

/// A micro-batch: a forest, and for every prediction the row that predicts, the token to predict and its sequence.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub forest: Forest,
    /// Row of the forest whose hidden state predicts: [N].
    pub rows: Vec<u32>,
    /// The token it should predict: [N].
    pub targets: Vec<u32>,
    /// Which example the prediction belongs to: [N].
    pub sequences: Vec<u32>,
}

impl Batch {
    /// One root an example. Token i of an example is predicted by the row before it, if it is trained on.
    pub fn from_examples<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Result<Self> {
        let mut batch = Batch::default();
        for (sequence, example) in examples.into_iter().enumerate() {
            let start = batch.forest.n_tokens();
            batch.forest.push(None, &example.ids)?;
            for i in (1..example.ids.len()).filter(|&i| example.trained[i]) {
                batch.rows.push((start + i - 1) as u32);
                batch.targets.push(example.ids[i]);
                batch.sequences.push(sequence as u32);
            }
        }
        Ok(batch)
    }

    /// Tokens in the forest.
    pub fn n_tokens(&self) -> usize {
        self.forest.n_tokens()
    }

    /// Predictions that are trained on.
    pub fn n_items(&self) -> usize {
        self.targets.len()
    }
}
