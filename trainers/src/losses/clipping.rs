//! What a policy loss left out: shares of clipped ratios, and the mask of high-entropy tokens.
use super::policy::Sequences;

/// Shares of what was clipped, by TRL's names: over tokens, or over completions where a ratio belongs to one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipShares {
    /// Share clipped from below.
    pub low_mean: f64,
    /// Share clipped from above.
    pub high_mean: f64,
    /// Share clipped at all.
    pub region_mean: f64,
    /// Of the completion with the smallest share clipped below.
    pub low_min: f64,
    /// Of the completion with the largest share clipped above.
    pub high_max: f64,
}

impl ClipShares {
    /// Under TRL's names.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("clip_ratio/low_mean", self.low_mean),
            ("clip_ratio/high_mean", self.high_mean),
            ("clip_ratio/region_mean", self.region_mean),
            ("clip_ratio/low_min", self.low_min),
            ("clip_ratio/high_max", self.high_max),
        ]
    }
}

/// Marks units (tokens or completions) whose ratio is below 1 − ε with A < 0, or above 1 + ε_high with A > 0: those
/// without a gradient.
pub fn clipped_units(ratio: &[f32], advantages: &[f32], epsilon: f32, epsilon_high: f32) -> Vec<(bool, bool)> {
    let unit = |(r, a): (&f32, &f32)| (*r < 1.0 - epsilon && *a < 0.0, *r > 1.0 + epsilon_high && *a > 0.0);
    ratio.iter().zip(advantages).map(unit).collect()
}

/// Shares over the tokens of completions.
pub fn token_shares(clipped: &[(bool, bool)], sequences: &Sequences) -> ClipShares {
    let mut counts = vec![(0.0, 0.0); sequences.lengths.len()];
    for (s, (low, high)) in sequences.of_token.rows.iter().zip(clipped) {
        let count = &mut counts[*s as usize];
        *count = (count.0 + f64::from(u8::from(*low)), count.1 + f64::from(u8::from(*high)));
    }
    let n = clipped.len().max(1) as f64;
    let (low, high) = counts.iter().fold((0.0, 0.0), |sum, c| (sum.0 + c.0, sum.1 + c.1));
    let shares = || counts.iter().zip(&sequences.lengths).filter(|(_, n)| **n > 0);
    ClipShares {
        low_mean: low / n,
        high_mean: high / n,
        region_mean: (low + high) / n,
        low_min: shares().map(|(c, n)| c.0 / *n as f64).fold(f64::INFINITY, f64::min),
        high_max: shares().map(|(c, n)| c.1 / *n as f64).fold(f64::NEG_INFINITY, f64::max),
    }
}

/// Shares over whole completions.
pub fn sequence_shares(clipped: &[(bool, bool)]) -> ClipShares {
    let share =
        |f: fn(&(bool, bool)) -> bool| clipped.iter().filter(|c| f(c)).count() as f64 / clipped.len().max(1) as f64;
    let (low_mean, high_mean) = (share(|c| c.0), share(|c| c.1));
    ClipShares {
        low_mean,
        high_mean,
        region_mean: low_mean + high_mean,
        low_min: f64::from(u8::from(clipped.iter().all(|c| c.0))),
        high_max: f64::from(u8::from(clipped.iter().any(|c| c.1))),
    }
}

/// 1 for the tokens whose entropy is at least the (1 − `quantile`)-quantile of all of them, 0 for the others.
/// S. Wang et al., "Beyond the 80/20 rule", 2025, equation 5; the quantile is interpolated between neighbours, as
/// `torch.quantile` does.
pub fn top_entropy_mask(entropy: &[f32], quantile: f64) -> Vec<f32> {
    let mut sorted = entropy.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return vec![] };
    let place = (1.0 - quantile) * last as f64;
    let (below, above) = (place.floor() as usize, (place.ceil() as usize).min(last));
    let threshold = sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor()) as f32;
    entropy.iter().map(|e| if *e >= threshold { 1.0 } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_by_hand() {
        // Completion 0: tokens at ½ (A < 0, clipped) and 1; completion 1: 1.5 (A > 0, clipped), ½ (A > 0, not).
        let clipped = clipped_units(&[0.5, 1.0, 1.5, 0.5], &[-1.0, -1.0, 1.0, 1.0], 0.2, 0.2);
        assert_eq!(clipped, [(true, false), (false, false), (false, true), (false, false)]);
        let shares = token_shares(&clipped, &Sequences::new(&[0, 0, 2, 2], 3).unwrap());
        let expected = ClipShares { low_mean: 0.25, high_mean: 0.25, region_mean: 0.5, low_min: 0.0, high_max: 0.5 };
        assert_eq!(shares, expected);
        let shares = sequence_shares(&[(true, false), (true, false)]);
        assert_eq!((shares.low_mean, shares.low_min, shares.high_max), (1.0, 1.0, 0.0));
    }

    #[test]
    fn top_entropy_by_hand() {
        // Four values: the median lies halfway between 2 and 3; a quarter from the top at 3.25.
        assert_eq!(top_entropy_mask(&[4.0, 1.0, 3.0, 2.0], 0.5), [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(top_entropy_mask(&[4.0, 1.0, 3.0, 2.0], 0.25), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(top_entropy_mask(&[4.0, 1.0], 1.0), [1.0, 1.0]);
        assert_eq!(top_entropy_mask(&[], 0.5), Vec::<f32>::new());
    }
}
