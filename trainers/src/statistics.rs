//! Means and deviations of metrics and rewards, summed in float64 in the order of the values.

/// Mean of the values that are not NaN; NaN of none.
pub fn mean(x: &[f64]) -> f64 {
    let (sum, n) = x.iter().filter(|v| !v.is_nan()).fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
    if n == 0 { f64::NAN } else { sum / f64::from(n) }
}

/// Mean of float32 values, each widened before it is added; NaN of none, and where one of them is.
pub fn mean_f32(x: &[f32]) -> f64 {
    x.iter().map(|v| f64::from(*v)).sum::<f64>() / x.len() as f64
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

    /// Added in float32 the first two would lose their 1s; float64 loses a 1 beside 10¹⁶, in the order of the values.
    #[test]
    fn means_round_as_sums_in_float64_do() {
        assert_eq!(mean_f32(&[16_777_216.0, 1.0, 1.0]), 16_777_218.0 / 3.0);
        assert_eq!(mean_f32(&[1e8, 1.0, -1e8]), 1.0 / 3.0);
        assert_eq!(mean_f32(&[0.1, 0.2]), (f64::from(0.1f32) + f64::from(0.2f32)) / 2.0);
        assert!(mean_f32(&[]).is_nan() && mean_f32(&[1.0, f32::NAN]).is_nan());
        assert_eq!(mean(&[1e16, 1.0, -1e16]), 0.0);
        assert_eq!(mean(&[1e16, -1e16, 1.0]), 1.0 / 3.0);
    }
}
