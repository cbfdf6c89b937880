//! Means and shares with the interval that holds them in 95 of 100 samples; pure functions.
use crate::statistics::{mean, std};

/// The normal distribution's 97.5 % quantile.
const Z: f64 = 1.959_963_984_540_054;

/// An estimate and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimate itself; NaN of nothing.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Mean of independent values, x̄ ± 1.96 s/√n; NaN values are left out. Of one value the interval is not known.
pub fn mean_of(x: &[f64]) -> Estimate {
    let n = x.iter().filter(|x| !x.is_nan()).count();
    let (value, half) = (mean(x), if n < 2 { f64::NAN } else { Z * std(x) / (n as f64).sqrt() });
    Estimate { value, low: value - half, high: value + half }
}

/// A share of n, by E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927:
///
/// (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)
///
/// `wins` may hold halves (ties): their spread is smaller than that of wins and losses, so the interval is rather too wide.
pub fn share_of(wins: f64, n: usize) -> Estimate {
    if n == 0 {
        return Estimate { value: f64::NAN, low: f64::NAN, high: f64::NAN };
    }
    let (n, z2) = (n as f64, Z * Z);
    let p = wins / n;
    let middle = p + z2 / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).max(0.0).sqrt();
    let all = 1.0 + z2 / n;
    Estimate { value: p, low: ((middle - half) / all).max(0.0), high: ((middle + half) / all).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn a_mean_with_its_interval() {
        // Mean 3, s = √7, n = 3.
        let of = mean_of(&[1.0, f64::NAN, 2.0, 6.0]);
        assert_eq!(of.value, 3.0);
        assert_relative_eq!(of.high - 3.0, Z * (7.0f64 / 3.0).sqrt(), max_relative = 1e-12);
        assert_relative_eq!(3.0 - of.low, of.high - 3.0, max_relative = 1e-12);
        let one = mean_of(&[2.0]);
        assert!(one.value == 2.0 && one.low.is_nan());
        assert!(mean_of(&[]).value.is_nan());
    }

    /// Wilson's interval for 8 and for 0 of 10.
    #[test]
    fn a_share_with_its_interval() {
        let of = share_of(8.0, 10);
        assert_relative_eq!(of.low, 0.490_162_471, max_relative = 1e-6);
        assert_relative_eq!(of.high, 0.943_317_848, max_relative = 1e-6);
        let none = share_of(0.0, 10);
        assert_eq!((none.value, none.low), (0.0, 0.0));
        assert_relative_eq!(none.high, 0.277_532_8, max_relative = 1e-6);
        let half = share_of(1.5, 3);
        assert_relative_eq!(half.low + half.high, 1.0, max_relative = 1e-12);
        assert!(share_of(0.0, 0).value.is_nan());
    }
}
