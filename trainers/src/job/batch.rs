//! From examples to a forest and the list of its predictions.
use crate::data::{Sequence, tokenize::Example};
use engine::Result;
use engine::forest::Forest;

/// A micro-batch: a forest, and for every prediction the row that predicts, the token to predict and its sequence.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The tokens and who sees whom.
    pub forest: Forest,
    /// Row of the forest whose hidden state predicts: [N].
    pub rows: Vec<u32>,
    /// The token it should predict: [N].
    pub targets: Vec<u32>,
    /// Which example the prediction belongs to: [N].
    pub sequences: Vec<u32>,
    /// Of answers: for each the sequence that its prompt's own predictions belong to, if there are any.
    pub prompts: Vec<u32>,
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

    /// Answers to prompts. Neighbours with the same prompt share it: it is one root, the answers are its children
    /// (with `share_prompts` false every sequence is a root of its own). The tokens of answer i are predicted as
    /// sequence i; with `score_prompts` so are those of its prompt, once for all that share it, as sequence `prompts[i]`:
    /// n + the first of them.
    pub fn from_answers(sequences: &[&Sequence], share_prompts: bool, score_prompts: bool) -> Result<Self> {
        let mut batch = Batch::default();
        let mut root: Option<(usize, &[u32])> = None;
        let mut prompt_sequence = sequences.len();
        for (i, sequence) in sequences.iter().enumerate() {
            let (prompt, answer) = (sequence.prompt(), sequence.answer());
            let shared = root.filter(|(_, open)| share_prompts && *open == prompt);
            if shared.is_none() {
                prompt_sequence = sequences.len() + i;
            }
            batch.prompts.push(prompt_sequence as u32);
            let parent = match shared {
                Some((segment, _)) => Some(segment),
                None if prompt.is_empty() => None,
                None => {
                    let start = batch.forest.n_tokens();
                    let segment = batch.forest.push(None, prompt)?;
                    if score_prompts {
                        let end = batch.forest.n_tokens();
                        batch.predict((start..end - 1).map(|row| row as u32), &prompt[1..], prompt_sequence);
                    }
                    Some(segment)
                }
            };
            root = parent.map(|segment| (segment, prompt));
            if answer.is_empty() {
                continue;
            }
            let start = batch.forest.n_tokens() as u32;
            let within = start..start + answer.len() as u32 - 1;
            batch.forest.push(parent, answer)?;
            match parent {
                Some(parent) => {
                    let prompt = &batch.forest.segments[parent];
                    let last = (prompt.start + prompt.len - 1) as u32;
                    batch.predict(std::iter::once(last).chain(within), answer, i);
                }
                None => batch.predict(within, &answer[1..], i),
            }
        }
        Ok(batch)
    }

    fn predict(&mut self, rows: impl Iterator<Item = u32>, targets: &[u32], sequence: usize) {
        self.rows.extend(rows);
        self.targets.extend_from_slice(targets);
        self.sequences.resize(self.targets.len(), sequence as u32);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(ids: &[u32], start: usize) -> Sequence {
        Sequence { ids: ids.to_vec(), start }
    }

    #[test]
    fn a_token_is_predicted_by_the_row_before_it() {
        let example = |ids: &[u32], trained: &[bool]| Example { ids: ids.to_vec(), trained: trained.to_vec() };
        let examples = [example(&[5, 6, 7], &[false, false, true]), example(&[8, 9], &[false, true])];
        let batch = Batch::from_examples(&examples).unwrap();
        assert_eq!(batch.forest.tokens, [5, 6, 7, 8, 9]);
        assert_eq!((batch.rows, batch.targets, batch.sequences), (vec![1, 3], vec![7, 9], vec![0, 1]));
    }

    #[test]
    fn answers_share_their_prompt() {
        let all = [sequence(&[1, 2, 3, 4], 2), sequence(&[1, 2, 5], 2), sequence(&[7, 8], 0), sequence(&[1, 2, 6], 2)];
        let all: Vec<&Sequence> = all.iter().collect();
        let batch = Batch::from_answers(&all, true, false).unwrap();
        assert_eq!(batch.forest.tokens, [1, 2, 3, 4, 5, 7, 8, 1, 2, 6]);
        assert_eq!(batch.rows, [1, 2, 1, 5, 8]);
        assert_eq!(batch.targets, [3, 4, 5, 8, 6]);
        assert_eq!(batch.sequences, [0, 0, 1, 2, 3]);
        assert_eq!(batch.forest.positions(), [0, 1, 2, 3, 2, 0, 1, 0, 1, 2]);
        let apart = Batch::from_answers(&all, false, false).unwrap();
        assert_eq!(apart.n_tokens(), 12);
        assert_eq!(apart.targets, batch.targets);
        let prompts = Batch::from_answers(&all[..2], true, true).unwrap();
        assert_eq!((prompts.rows, prompts.targets), (vec![0, 1, 2, 1], vec![2, 3, 4, 5]));
        assert_eq!((prompts.sequences, prompts.prompts), (vec![2, 0, 0, 1], vec![2, 2]));
        let apart = Batch::from_answers(&all, true, true).unwrap();
        assert_eq!(apart.prompts, [4, 4, 6, 7]);
        assert_eq!(apart.sequences, [4, 0, 0, 1, 2, 7, 3]);
    }
}
