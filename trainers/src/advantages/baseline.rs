//! Baselines of REINFORCE: what a completion's reward is compared with when there is no group and no critic.
//! R. J. Williams, "Simple statistical gradient-following algorithms", 1992, equation 11: any baseline that does not
//! depend on the completion leaves the gradient's expectation as it is and may lower its variance.
use crate::statistics::mean;
use serde::{Deserialize, Serialize};

/// Aᵢ = rᵢ − mean of the batch; of a completion without a reward 0.
pub fn batch_baseline(rewards: &[f64]) -> Vec<f64> {
    let mean = mean(rewards);
    rewards.iter().map(|r| if r.is_nan() { 0.0 } else { r - mean }).collect()
}

/// The mean reward of earlier batches, the older the less: b ← d·b + (1 − d)·mean(r).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MovingAverage {
    /// b; None before the first batch.
    pub value: Option<f64>,
}

impl MovingAverage {
    /// Aᵢ = rᵢ − b with b from before this batch (its own mean, if it is the first), then takes the batch in.
    pub fn advantages(&mut self, rewards: &[f64], decay: f64) -> Vec<f64> {
        let batch = mean(rewards);
        if batch.is_nan() {
            return vec![0.0; rewards.len()];
        }
        let baseline = self.value.unwrap_or(batch);
        self.value = Some(decay * baseline + (1.0 - decay) * batch);
        rewards.iter().map(|r| if r.is_nan() { 0.0 } else { r - baseline }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_by_hand() {
        assert_eq!(batch_baseline(&[1.0, 5.0, f64::NAN]), [-2.0, 2.0, 0.0]);
    }

    #[test]
    fn moving_average_by_hand() {
        let mut average = MovingAverage::default();
        // The first batch is its own baseline: 2. Then b = 2; the batch (4, 8) is measured against it and moves it to
        // ¾·2 + ¼·6 = 3.
        assert_eq!(average.advantages(&[1.0, 3.0], 0.75), [-1.0, 1.0]);
        assert_eq!(average.advantages(&[4.0, 8.0], 0.75), [2.0, 6.0]);
        assert_eq!(average.value, Some(3.0));
        // Nothing judged: nothing learnt, nothing forgotten.
        assert_eq!(average.advantages(&[f64::NAN], 0.75), [0.0]);
        assert_eq!(average.value, Some(3.0));
    }
}
