//! The critic's loss, and what PPO adds to the policy's.
use engine::Result;
use engine::ops::{add, clamp, maximum, scale, square, sub};
use engine::tensor::Tensor;

/// ½ max((V − R)², (V_old + clip(V − V_old, −ε, ε) − R)²) of each token: [N] each → [N]. J. Schulman et al., "High-dimensional
/// continuous control using generalized advantage estimation"'s trust region as OpenAI's baselines clip it; TRL's PPO.
/// `values` is differentiable, `old` (the values when the completion was drawn) and `returns` are constants.
pub fn clipped_value_loss(values: &Tensor, old: &Tensor, returns: &Tensor, cliprange: f32) -> Result<Tensor> {
    let near = add(&clamp(&sub(values, old)?, -cliprange, cliprange)?, old)?;
    let worse = maximum(&square(&sub(values, returns)?)?, &square(&sub(&near, returns)?)?)?;
    scale(&worse, 0.5)
}

#[cfg(test)]
mod tests {
    use super::super::policy::tests::{gradient, vector};
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn value_clip_by_hand() {
        // V_old = 1, ε = 0.2, R = 2.
        // V = 1.1: inside, ½ 0.81, slope −0.9. V = 1.5: clipped to 1.2, ½ 0.64 > ½ 0.25, slope 0 (it moved far enough).
        // V = 3: ½ max(1, 0.64) = ½, slope 1 (it overshot).
        let (values, slopes) =
            gradient(&[1.1, 1.5, 3.0], |v| clipped_value_loss(v, &vector(&[1.0; 3]), &vector(&[2.0; 3]), 0.2));
        assert_relative_eq!(values[..], [0.405f32, 0.32, 0.5][..], max_relative = 1e-5);
        assert_relative_eq!(slopes[..], [-0.9f32, 0.0, 1.0][..], max_relative = 1e-5, epsilon = 1e-6);
    }
}
