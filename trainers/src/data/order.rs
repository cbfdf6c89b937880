//! The order in which examples are seen: a function of (seed, epoch), so that a run can go on where it stopped.
use engine::random::Stream;

/// How rows follow one another; TRL's `train_sampling_strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// Shuffled anew each epoch.
    #[default]
    Random,
    /// As the data set has them.
    Sequential,
}

/// Separates shuffling from the other uses of a seed ("shuffle" in ASCII); the epoch is added.
const SHUFFLE: u64 = 0x0073_6875_6666_6C65_u64 << 8;

/// The order of `n` examples in an epoch (which counts from 0).
pub fn epoch_order(n: usize, sampling: Sampling, seed: u64, epoch: u64) -> Vec<usize> {
    match sampling {
        Sampling::Sequential => (0..n).collect(),
        Sampling::Random => Stream::new(seed, SHUFFLE.wrapping_add(epoch)).permutation(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_again_and_different_by_epoch_and_seed() {
        let order = |seed, epoch| epoch_order(50, Sampling::Random, seed, epoch);
        assert_eq!(order(42, 0), order(42, 0));
        assert_ne!(order(42, 0), order(42, 1));
        assert_ne!(order(42, 0), order(43, 0));
        let mut all = order(1, 2);
        all.sort();
        assert_eq!(all, epoch_order(50, Sampling::Sequential, 1, 2));
    }
}
