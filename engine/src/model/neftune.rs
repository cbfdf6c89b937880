//! NEFTune: noise on the embeddings in training. N. Jain et al., "NEFTune: noisy embeddings improve instruction finetuning",
//! 2023, algorithm 1.
use super::linear::DropoutKey;
use crate::random::Stream;

/// "NEFTune" in ASCII: separates its numbers from those of dropout.
const NEFTUNE: u64 = 0x4e45_4674_756e_6500;

/// The noise of one training pass.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingNoise {
    /// α.
    pub alpha: f32,
    /// The numbers drawn are a function of it and the place in the batch.
    pub key: DropoutKey,
    /// L, if it is not the number of tokens of the longest sequence.
    pub length: Option<usize>,
}

impl EmbeddingNoise {
    /// What is added to the embeddings [T, D] of sequences of up to `longest` tokens, row by row: U(−1, 1) · α / √(L · D).
    ///
    /// transformers takes for L what a padded batch has: its longest sequence.
    pub fn values(&self, n_tokens: usize, width: usize, longest: usize) -> Vec<f32> {
        let l = self.length.unwrap_or(longest).max(1);
        let magnitude = self.alpha / ((l * width) as f32).sqrt();
        let stream = Stream::new(self.key.seed ^ NEFTUNE, self.key.pass);
        (0..(n_tokens * width) as u64).map(|i| (2.0 * stream.uniform(i) - 1.0) * magnitude).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(alpha: f32, pass: u64, length: Option<usize>) -> Vec<f32> {
        EmbeddingNoise { alpha, key: DropoutKey { seed: 42, pass }, length }.values(100, 16, 25)
    }

    #[test]
    fn uniform_within_its_magnitude() {
        // α / √(25 · 16) = 5 / 20
        let values = noise(5.0, 0, None);
        assert!(values.iter().all(|x| x.abs() <= 0.25));
        assert!(values.iter().any(|x| *x > 0.24) && values.iter().any(|x| *x < -0.24));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
        // That of U(−m, m) is m² / 3.
        assert!(mean.abs() < 0.01 && (variance - 0.0625 / 3.0).abs() < 0.001, "{mean} {variance}");
    }

    #[test]
    fn a_function_of_seed_pass_and_place() {
        assert_eq!(noise(5.0, 3, None), noise(5.0, 3, None));
        assert_ne!(noise(5.0, 3, None), noise(5.0, 4, None));
        // L four times as long: half the noise, to the bit.
        let half: Vec<f32> = noise(5.0, 3, None).iter().map(|x| x / 2.0).collect();
        assert_eq!(noise(5.0, 3, Some(100)), half);
        assert!(noise(0.0, 3, None).iter().all(|x| *x == 0.0));
    }
}
