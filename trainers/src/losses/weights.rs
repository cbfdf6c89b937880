//! How the losses of tokens become one number: the weight wᵢ of each token in Σᵢ wᵢ ℓᵢ. GRPO's loss types differ here
//! as much as in the ℓᵢ.
use super::policy::Sequences;

/// What a micro-batch is a part of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Whole {
    /// Micro-batches whose gradients make one optimiser step.
    pub n_micro_batches: usize,
    /// Tokens that are trained on in all of them.
    pub n_tokens: f64,
    /// What a completion may have at most, in tokens.
    pub max_completion_length: usize,
}

/// The weight of each token: [N].
pub type Weights = fn(&Sequences, &Whole) -> Vec<f32>;

/// The weight of each completion's tokens, repeated for them.
fn by_sequence(sequences: &Sequences, weight: impl Fn(usize) -> f64) -> Vec<f32> {
    sequences.of_token.rows.iter().map(|s| weight(sequences.lengths[*s as usize]) as f32).collect()
}

/// Mean over completions of the mean over their tokens: 1 / (S · length). Z. Shao et al., "DeepSeekMath", 2024,
/// equation 3. (Long completions weigh less a token.)
pub fn mean_of_means(sequences: &Sequences, whole: &Whole) -> Vec<f32> {
    let n = (sequences.lengths.len() * whole.n_micro_batches) as f64;
    by_sequence(sequences, |length| 1.0 / (n * length as f64))
}

/// Mean over the tokens of the micro-batch: 1 / N. ("bnpo": the result depends on how a batch is cut.)
pub fn mean_of_micro_batch(sequences: &Sequences, whole: &Whole) -> Vec<f32> {
    let n = (sequences.n_tokens() * whole.n_micro_batches) as f64;
    by_sequence(sequences, |_| 1.0 / n)
}

/// Mean over the tokens of the whole step. Q. Yu et al., "DAPO", 2025, equation 12.
pub fn mean_of_step(sequences: &Sequences, whole: &Whole) -> Vec<f32> {
    by_sequence(sequences, |_| 1.0 / whole.n_tokens.max(1.0))
}

/// 1 / (S · max_completion_length): a constant, so that length gains nothing. Z. Liu et al., "Understanding
/// R1-Zero-like training" (Dr. GRPO), 2025, §3.2.
pub fn by_longest(sequences: &Sequences, whole: &Whole) -> Vec<f32> {
    let n = (sequences.lengths.len() * whole.max_completion_length * whole.n_micro_batches) as f64;
    by_sequence(sequences, |_| 1.0 / n)
}

/// Mean over completions of the sum over their tokens: 1 / S. "LUSPO", 2026 (a sequence's loss times its length);
/// REINFORCE's own.
pub fn mean_of_sums(sequences: &Sequences, whole: &Whole) -> Vec<f32> {
    let n = (sequences.lengths.len() * whole.n_micro_batches) as f64;
    by_sequence(sequences, |_| 1.0 / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three completions of 2, 1 and (masked) 0 tokens, in a step of 2 micro-batches and 8 tokens.
    #[test]
    fn by_hand() {
        let sequences = Sequences::new(&[0, 0, 1], 3).unwrap();
        let whole = Whole { n_micro_batches: 2, n_tokens: 8.0, max_completion_length: 10 };
        let all = |weights: Weights| weights(&sequences, &whole);
        assert_eq!(all(mean_of_means), [1.0f32 / 12.0, 1.0 / 12.0, 1.0 / 6.0]);
        assert_eq!(all(mean_of_micro_batch), [1.0f32 / 6.0; 3]);
        assert_eq!(all(mean_of_step), [0.125f32; 3]);
        assert_eq!(all(by_longest), [1.0f32 / 60.0; 3]);
        assert_eq!(all(mean_of_sums), [1.0f32 / 6.0; 3]);
    }

    /// All but bnpo give a token the same weight however the step is cut.
    #[test]
    fn cutting_a_step_changes_nothing() {
        let whole = |n| Whole { n_micro_batches: n, n_tokens: 6.0, max_completion_length: 4 };
        let (all, half) = (Sequences::new(&[0, 0, 0, 1, 2, 3], 4).unwrap(), Sequences::new(&[0, 0, 0, 1], 2).unwrap());
        for weights in [mean_of_means, mean_of_step, by_longest, mean_of_sums] {
            assert_eq!(weights(&all, &whole(1))[..4], weights(&half, &whole(2))[..]);
        }
        assert_ne!(mean_of_micro_batch(&all, &whole(1))[..4], mean_of_micro_batch(&half, &whole(2))[..]);
    }
}
