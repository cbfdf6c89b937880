//! Means and deviations over what is there: NaN is passed over.

/// Mean of the values that are not NaN; NaN of none.
pub fn mean(x: &[f64]) -> f64 {
    let (sum, n) = x.iter().filter(|v| !v.is_nan()).fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
    if n == 0 { f64::NAN } else { sum / f64::from(n) }
}

/// Standard deviation with n − 1 of the values that are not NaN, as PyTorch's `std`; of one value 0, of none NaN.
pub fn std(x: &[f64]) -> f64 {
    let (mean, n) = (mean(x), x.iter().filter(|v| !v.is_nan()).count());
    let squares: f64 = x.iter().filter(|v| !v.is_nan()).map(|v| (v - mean).powi(2)).sum();
    match n {
        0 => f64::NAN,
        1 => 0.0,
        n => (squares / (n - 1) as f64).sqrt(),
    }
}

/// (x − mean) / √(variance + 10⁻⁸), with `keep_mean` the mean added again. The variance is divided by n − 1. The
/// whitening of PPO's rewards and advantages (TRL's `masked_whiten`; N. Stiennon et al., "Learning to summarize with
/// human feedback", 2020, and its published code). Fewer than two values stay as they are.
pub fn whiten(x: &[f64], keep_mean: bool) -> Vec<f64> {
    if x.len() < 2 {
        return x.to_vec();
    }
    let (mean, std) = (mean(x), std(x));
    let scale = 1.0 / (std * std + 1e-8).sqrt();
    x.iter().map(|v| (v - mean) * scale + if keep_mean { mean } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn by_hand() {
        // Mean of 1, 2, 6 is 3; deviations −2, −1, 3: √(14 / 2).
        assert_eq!(mean(&[1.0, f64::NAN, 2.0, 6.0]), 3.0);
        assert_relative_eq!(std(&[1.0, f64::NAN, 2.0, 6.0]), 7f64.sqrt());
        assert_eq!(std(&[5.0]), 0.0);
        assert!(mean(&[]).is_nan() && std(&[f64::NAN]).is_nan());
    }

    #[test]
    fn whitening_by_hand() {
        // 1, 3: mean 2, variance 2.
        let half = 1.0 / (2.0f64 + 1e-8).sqrt();
        assert_relative_eq!(whiten(&[1.0, 3.0], false)[..], [-half, half][..]);
        assert_relative_eq!(whiten(&[1.0, 3.0], true)[..], [2.0 - half, 2.0 + half][..]);
        assert_eq!(whiten(&[4.0], false), [4.0]);
    }
}
