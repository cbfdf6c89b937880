//! Advantages that compare the completions of one prompt with each other: GRPO's and RLOO's.
//!
//! Every operation rounds to float32, as TRL's do. It shows only where a reward is the mean of its group, as 0.4 among 0.6, 0, 0.6
//! and 0.4: what is left of the difference is ±10⁻⁸, and its sign says whether the metrics count the completion as clipped.
use super::float32;
use crate::statistics::std;

/// What deviations are added to before they divide: TRL's constant.
const EPSILON: f32 = 1e-4;
/// Deviations up to this are none (`torch.isclose(std, 0)`).
const NO_SPREAD: f64 = 1e-8;

/// One advantage a completion, and the deviation that it was (or would have been) divided by.
#[derive(Clone, Debug, PartialEq)]
pub struct Advantages {
    /// One a completion; NaN where there is none.
    pub values: Vec<f64>,
    /// The deviation of what each was compared with.
    pub std: Vec<f64>,
}

impl Advantages {
    /// Share of completions whose rewards do not differ from those they are compared with: they teach nothing.
    pub fn share_without_spread(&self) -> f64 {
        let n = self.std.iter().filter(|s| s.abs() <= NO_SPREAD).count();
        n as f64 / self.std.len().max(1) as f64
    }
}

/// rᵢ = Σₖ wₖ rₖᵢ over the reward functions k that judged completion i; NaN where none did. `rewards[k][i]`.
pub fn weighted_sum(rewards: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let n = rewards.first().map_or(0, Vec::len);
    let sum = |i: usize| {
        let judged: Vec<f64> =
            rewards.iter().zip(weights).map(|(r, w)| w * r[i]).filter(|weighted| !weighted.is_nan()).collect();
        if judged.is_empty() { f64::NAN } else { judged.iter().sum() }
    };
    (0..n).map(sum).collect()
}

/// NaN is nothing to learn from.
fn zero_if_nan(x: f64) -> f64 {
    if x.is_nan() { 0.0 } else { x }
}

/// (x − mean) / (std + 10⁻⁴), 0 for what is NaN, or where no two values differ.
fn standardised(x: &[f64]) -> Vec<f64> {
    if !differ(x) {
        return vec![0.0; x.len()];
    }
    let x: Vec<f32> = x.iter().map(|v| *v as f32).collect();
    let (mean, std) = (float32::mean(&x), float32::std(&x));
    x.iter().map(|v| zero_if_nan(divided(v - mean, std))).collect()
}

/// c / (s + 10⁻⁴)
fn divided(centred: f32, std: f32) -> f64 {
    f64::from(centred / (std + EPSILON))
}

fn differ(x: &[f64]) -> bool {
    std(x) > NO_SPREAD
}

/// A statistic of each group, repeated for each of its members.
fn by_group(rewards: &[f64], group_size: usize, statistic: fn(&[f64]) -> f64) -> Vec<f64> {
    rewards.chunks(group_size).flat_map(|group| vec![statistic(group); group.len()]).collect()
}

/// r − mean_group; 0 in a group whose rewards are all equal.
fn centred(rewards: &[f64], group_size: usize) -> Vec<f32> {
    let of_group = |group: &[f64]| -> Vec<f32> {
        let r: Vec<f32> = group.iter().map(|r| *r as f32).collect();
        let (mean, differ) = (float32::mean(&r), differ(group));
        r.iter().map(|r| if differ { r - mean } else { 0.0 * r }).collect()
    };
    rewards.chunks(group_size).flat_map(of_group).collect()
}

/// A = (r − mean_group) / (std_group + 10⁻⁴). Z. Shao et al., "DeepSeekMath", 2024, §4.1.2 (the constant is TRL's).
pub fn scaled_by_group(rewards: &[f64], group_size: usize) -> Advantages {
    let values = rewards.chunks(group_size).flat_map(standardised).collect();
    Advantages { values, std: by_group(rewards, group_size, std) }
}

/// A = (r − mean_group) / (std_batch + 10⁻⁴). Z. Liu et al., "Part I: tricks or traps?", 2025, §4.1.
pub fn scaled_by_batch(rewards: &[f64], group_size: usize) -> Advantages {
    let std = std(rewards);
    let values = centred(rewards, group_size).into_iter().map(|c| zero_if_nan(divided(c, std as f32))).collect();
    Advantages { values, std: vec![std; rewards.len()] }
}

/// A = r − mean_group. Z. Liu et al., "Understanding R1-Zero-like training" (Dr. GRPO), 2025, §3.2. The deviation is the
/// group's, for the metric only.
pub fn unscaled(rewards: &[f64], group_size: usize) -> Advantages {
    let values = centred(rewards, group_size).into_iter().map(|c| zero_if_nan(f64::from(c))).collect();
    Advantages { values, std: by_group(rewards, group_size, std) }
}

/// Each reward function normalised within its group, then the weighted sum, then normalised over the batch:
/// aₖ = (rₖ − mean_group) / (std_group + 10⁻⁴), s = Σₖ wₖ aₖ, A = (s − mean s) / (std s + 10⁻⁴).
/// S.-Y. Liu et al., "GDPO", 2026, equations 4 to 6. `rewards[k][i]`.
pub fn normalise_then_sum(rewards: &[Vec<f64>], weights: &[f64], group_size: usize) -> Advantages {
    let per_function = |r: &Vec<f64>| -> Vec<f64> {
        let std = by_group(r, group_size, std);
        centred(r, group_size).iter().zip(std).map(|(c, s)| divided(*c, s as f32)).collect()
    };
    let summed = weighted_sum(&rewards.iter().map(per_function).collect::<Vec<_>>(), weights);
    Advantages { values: standardised(&summed), std: vec![std(&summed); summed.len()] }
}

/// Aᵢ = rᵢ − mean of the group's other rewards. W. Kool et al., "Buy 4 REINFORCE samples, get a baseline for free!",
/// 2019; A. Ahmadian et al., "Back to basics", 2024, equation 8.
pub fn leave_one_out(rewards: &[f64], group_size: usize) -> Advantages {
    let values = rewards.chunks(group_size).flat_map(|group| {
        let r: Vec<f32> = group.iter().map(|r| *r as f32).collect();
        let (sum, n) = float32::sum(&r);
        // A group with one judged completion has no baseline, and so no advantage.
        let of = |r: &f32| if differ(group) { r - (sum - r) / (n - 1.0) } else { 0.0 };
        r.iter().map(|r| zero_if_nan(f64::from(of(r)))).collect::<Vec<_>>()
    });
    Advantages { values: values.collect(), std: by_group(rewards, group_size, std) }
}

/// (A − mean) / (std + 10⁻⁴) over those completions whose reward is not NaN; the others stay at 0.
pub fn normalised(advantages: &[f64], rewards: &[f64]) -> Vec<f64> {
    let judged: Vec<f64> =
        advantages.iter().zip(rewards).map(|(a, r)| if r.is_nan() { f64::NAN } else { *a }).collect();
    standardised(&judged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    const NAN: f64 = f64::NAN;
    /// A few roundings to float32.
    const FLOAT: f64 = 3e-7;

    /// TRL's arithmetic in PyTorch 2.15: r = torch.tensor([[.6, 0, .6, .4], [0, 1.4, 1.4, .6]]); a = (r - (r.nansum(1, keepdim=True) -
    /// r) / 3).view(-1); (a - a.nanmean()) / (nanstd(a) + 1e-4). The fourth is 0 in exact arithmetic.
    #[test]
    fn a_reward_at_the_mean_of_its_group_has_float32s_sign() {
        let r = [0.6, 0.0, 0.6, 0.4, 0.0, 1.4, 1.4, 0.6];
        let found = normalised(&leave_one_out(&r, 4).values, &r);
        let expected = [
            0.4143981337547302,
            -0.8287961483001709,
            0.4143981337547302,
            2.3156296435900003e-08,
            -1.761191725730896,
            1.139594554901123,
            1.139594554901123,
            -0.5179976224899292,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn group_batch_and_no_scale_by_hand() {
        // Groups (1, 3) and (0, 8): means 2 and 4, deviations √2 and √32; all four: mean 3, deviation √(4+0+9+25)/3.
        let r = [1.0, 3.0, 0.0, 8.0];
        let (a, b) = (2f64.sqrt() + 1e-4, 32f64.sqrt() + 1e-4);
        let of_group = [-1.0 / a, 1.0 / a, -4.0 / b, 4.0 / b];
        assert_relative_eq!(scaled_by_group(&r, 2).values[..], of_group[..], max_relative = FLOAT);
        let all = (38.0f64 / 3.0).sqrt() + 1e-4;
        let of_batch = [-1.0 / all, 1.0 / all, -4.0 / all, 4.0 / all];
        assert_relative_eq!(scaled_by_batch(&r, 2).values[..], of_batch[..], max_relative = FLOAT);
        assert_eq!(unscaled(&r, 2).values, [-1.0, 1.0, -4.0, 4.0]);
        assert_relative_eq!(unscaled(&r, 2).std[2], 32f64.sqrt());
    }

    #[test]
    fn equal_rewards_teach_nothing() {
        for advantages in [scaled_by_group, scaled_by_batch, unscaled, leave_one_out].map(|f| f(&[0.7; 6], 3)) {
            assert_relative_eq!(advantages.values[..], [0.0; 6][..], epsilon = 1e-9);
            assert_eq!(advantages.share_without_spread(), 1.0);
        }
        assert_eq!(scaled_by_group(&[1.0, 1.0, 0.0, 1.0], 2).share_without_spread(), 0.5);
    }

    #[test]
    fn leave_one_out_by_hand() {
        // 1 − (2 + 6)/2, 2 − (1 + 6)/2, 6 − (1 + 2)/2.
        assert_eq!(leave_one_out(&[1.0, 2.0, 6.0], 3).values, [-3.0, -1.5, 4.5]);
        // The unjudged completion takes no part; its group's other two are compared with each other.
        assert_eq!(leave_one_out(&[1.0, NAN, 6.0], 3).values, [-5.0, 0.0, 5.0]);
        assert_eq!(leave_one_out(&[1.0, NAN, NAN], 3).values, [0.0; 3]);
    }

    #[test]
    fn two_completions_without_scale_are_half_of_leave_one_out() {
        let r = [0.25, 1.0, -3.0, 0.5];
        let doubled: Vec<f64> = unscaled(&r, 2).values.iter().map(|a| 2.0 * a).collect();
        assert_eq!(doubled, leave_one_out(&r, 2).values);
    }

    #[test]
    fn several_rewards() {
        let rewards = vec![vec![1.0, NAN, 2.0, NAN], vec![0.5, 4.0, NAN, NAN]];
        let sum = weighted_sum(&rewards, &[1.0, 2.0]);
        assert_eq!(sum[..3], [2.0, 8.0, 2.0]);
        assert!(sum[3].is_nan());
        assert_eq!(unscaled(&sum, 4).values, [-2.0, 4.0, -2.0, 0.0]);
    }

    #[test]
    fn normalise_then_sum_by_hand() {
        // Two functions on different scales, in one group of 2: each is ∓1/√2 · 1/(1 + 10⁻⁴/(|d|/√2)).
        let part = |d: f64| (d / 2.0) / (d / 2f64.sqrt() + 1e-4);
        let s = part(1.0) + 3.0 * part(100.0);
        let std = s * 2f64.sqrt();
        let found = normalise_then_sum(&[vec![0.0, 1.0], vec![0.0, 100.0]], &[1.0, 3.0], 2);
        assert_relative_eq!(found.values[..], [-s / (std + 1e-4), s / (std + 1e-4)][..], max_relative = FLOAT);
    }

    #[test]
    fn normalised_leaves_the_unjudged_alone() {
        // −1 and 3: mean 1, deviation √8.
        let d = 8f64.sqrt() + 1e-4;
        let found = normalised(&[-1.0, 0.0, 3.0], &[1.0, NAN, 1.0]);
        assert_relative_eq!(found[..], [-2.0 / d, 0.0, 2.0 / d][..], max_relative = FLOAT);
    }
}
