//! Sum, mean and deviation in float32, rounded where and in the order in which PyTorch rounds on a CPU. NaN is passed over.

/// Sum and number of the values. Four sums take turns, of single values or, from 8 values on, of vectors of 8 whose lanes are
/// added last.
pub fn sum(x: &[f32]) -> (f32, f32) {
    const LANES: usize = 8;
    let n = x.iter().filter(|v| !v.is_nan()).count() as f32;
    let x: Vec<f32> = x.iter().map(|v| if v.is_nan() { 0.0 } else { *v }).collect();
    if x.len() < LANES {
        return (four_sums(&x), n);
    }
    let (vectors, rest) = x.split_at(x.len() / LANES * LANES);
    let lane = |l: usize| four_sums(&vectors.iter().skip(l).step_by(LANES).copied().collect::<Vec<_>>());
    let start = rest.iter().fold(0.0, |sum, v| sum + v);
    ((0..LANES).map(lane).fold(start, |sum, lane| sum + lane), n)
}

/// Values 0, 4, 8 … and 1, 5, 9 … and so on, what is left over with the first of them, then the four.
fn four_sums(x: &[f32]) -> f32 {
    let (whole, rest) = x.split_at(x.len() / 4 * 4);
    let mut sums = [0.0; 4];
    whole.iter().enumerate().for_each(|(i, v)| sums[i % 4] += v);
    sums[0] = rest.iter().fold(sums[0], |sum, v| sum + v);
    sums[1..].iter().fold(sums[0], |sum, v| sum + v)
}

/// Σ x / n
pub fn mean(x: &[f32]) -> f32 {
    let (sum, n) = sum(x);
    sum / n
}

/// √(mean((x − mean x)²) · n / (n − 1)): TRL's `nanstd`.
pub fn std(x: &[f32]) -> f32 {
    let (mean_of_all, n) = (mean(x), sum(x).1);
    let squares: Vec<f32> = x.iter().map(|v| (v - mean_of_all) * (v - mean_of_all)).collect();
    (mean(&squares) * (n / (n - 1.0))).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PyTorch 2.15: torch.nansum of torch.arange(1, n + 1) / 10.
    #[test]
    fn sums_are_pytorchs() {
        let tenths = |n: usize| -> Vec<f32> { (1..=n).map(|i| i as f32 / 10.0).collect() };
        let sums = [
            (3, 0.6000000238418579),
            (4, 1.0),
            (7, 2.8000001907348633),
            (8, 3.5999999046325684),
            (13, 9.100000381469727),
            (100, 504.9999694824219),
        ];
        for (n, expected) in sums {
            assert_eq!(sum(&tenths(n)), (expected, n as f32), "{n} values");
        }
        assert_eq!(sum(&[1.0, f32::NAN, 2.0]), (3.0, 2.0));
    }
}
