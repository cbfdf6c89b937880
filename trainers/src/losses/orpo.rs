//! Odds-ratio preference optimisation. J. Hong et al., "ORPO: monolithic preference optimization without reference
//! model", EMNLP 2024.
use engine::Result;
use engine::ops::{add, add_scalar, clamp, exp, ln, log_sigmoid, scale, sub};
use engine::tensor::Tensor;

/// log(1 − eˣ) for x < 0, accurate near 0: a series for x > −0.1, as it is below. Each part is held at the border
/// where the other one speaks.
fn log_one_minus_exp(x: &Tensor) -> Result<Tensor> {
    const BORDER: f32 = -0.1;
    let near = clamp(x, BORDER, -1e-30)?;
    // (1 − eˣ)/(−x) = 1 + x/2 (1 + x/3 (1 + x/4 (1 + x/5)))
    let mut series = add_scalar(&scale(&near, 0.2)?, 1.0)?;
    for n in [4.0, 3.0, 2.0] {
        series = add_scalar(&engine::ops::mul(&scale(&near, 1.0 / n)?, &series)?, 1.0)?;
    }
    let near = add(&ln(&scale(&near, -1.0)?)?, &ln(&series)?)?;
    let far = ln(&add_scalar(&scale(&exp(&clamp(x, f32::MIN, BORDER)?)?, -1.0)?, 1.0)?)?;
    add_scalar(&add(&near, &far)?, -(-BORDER.exp_m1()).ln())
}

/// log odds(y_w) / odds(y_l) with odds = P / (1 − P), P = exp of the mean log-probability of the answer's tokens
/// (equations 4 and 7). `chosen`, `rejected`: means [P] → [P].
pub fn log_odds(chosen: &Tensor, rejected: &Tensor) -> Result<Tensor> {
    sub(&sub(chosen, rejected)?, &sub(&log_one_minus_exp(chosen)?, &log_one_minus_exp(rejected)?)?)
}

/// −log σ(log odds ratio): equation 7. [P] → [P].
pub fn odds_ratio_loss(log_odds: &Tensor) -> Result<Tensor> {
    scale(&log_sigmoid(log_odds)?, -1.0)
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::value_and_gradient;
    use super::*;
    use approx::assert_relative_eq;

    /// log(1 − eˣ) and its slope −eˣ/(1 − eˣ) = −1/(e⁻ˣ − 1), in f64.
    #[test]
    fn log_one_minus_exp_everywhere() {
        for x in [-1e-6f32, -1e-3, -0.0999, -0.1001, -0.5, -3.0, -30.0] {
            let (y, dy) = value_and_gradient(&[x], log_one_minus_exp);
            let exact = f64::from(x);
            assert_relative_eq!(f64::from(y), (-exact.exp_m1()).ln(), max_relative = 1e-5, epsilon = 5e-7);
            assert_relative_eq!(f64::from(dy[0]), -1.0 / (-exact).exp_m1(), max_relative = 2e-5, epsilon = 1e-9);
        }
        assert!(value_and_gradient(&[0.0], log_one_minus_exp).0.is_finite());
    }

    /// P_w = ½, P_l = ¼: odds 1 and 1/3.
    #[test]
    fn odds_by_hand() {
        let (y, gradient) = value_and_gradient(&[0.5f32.ln(), 0.25f32.ln()], |x| {
            let side = |i| super::super::sequences::pick(x, [i]);
            odds_ratio_loss(&log_odds(&side(0)?, &side(1)?)?)
        });
        // −log σ(ln 3) = ln 4/3; slope −σ(−ln 3) / (1 − P) = −¼ · 2 and ¼ · 4/3
        assert_relative_eq!(y, (4f32 / 3.0).ln(), max_relative = 1e-6);
        assert_relative_eq!(gradient[..], [-0.5f32, 1.0 / 3.0][..], max_relative = 1e-5);
    }
}
