//! Losses of reward models: from the rewards of answers to one prompt, whose order is known.
use engine::Result;
use engine::ops::{add, log_sigmoid, scale, square, sub};
use engine::tensor::Tensor;

/// −log σ(r_w − r_l − m), m a margin [P] or none. R. Bradley and M. Terry, 1952; with the margin H. Touvron et al.,
/// "Llama 2", 2023, equation 2. `chosen`, `rejected` [P] → [P].
pub fn bradley_terry(chosen: &Tensor, rejected: &Tensor, margin: Option<&Tensor>) -> Result<Tensor> {
    let mut ahead = sub(chosen, rejected)?;
    if let Some(margin) = margin {
        ahead = sub(&ahead, margin)?;
    }
    scale(&log_sigmoid(&ahead)?, -1.0)
}

/// −Σₖ log (e^{rₖ} / Σ_{j ≥ k} e^{rⱼ}): the likelihood of a ranking r₁ ≻ r₂ ≻ …; of two, Bradley and Terry's.
/// R. L. Plackett, "The analysis of permutations", 1975; as a loss R. Rafailov et al., NeurIPS 2023, equation 18.
///
/// With sₖ = log Σ_{j ≥ k} e^{rⱼ} a term is −log σ(rₖ − sₖ₊₁), and sₖ = sₖ₊₁ − log σ(sₖ₊₁ − rₖ).
/// `ranked`: the best first, one value each [1] → [1].
pub fn plackett_luce(ranked: &[Tensor]) -> Result<Tensor> {
    let Some((last, rest)) = ranked.split_last() else {
        return Err(engine::Error::Shape { op: "plackett_luce", detail: "nothing is ranked".into() });
    };
    let (mut behind, mut loss) = (last.clone(), scale(last, 0.0)?);
    for reward in rest.iter().rev() {
        loss = sub(&loss, &log_sigmoid(&sub(reward, &behind)?)?)?;
        behind = sub(&behind, &log_sigmoid(&sub(&behind, reward)?)?)?;
    }
    Ok(loss)
}

/// (2 · mean of r)², of a pair (r_w + r_l)²: keeps rewards near zero. J. Eisenstein et al., "Helping or herding?", 2023,
/// equation 2. `sum` [P] of the rewards of rankings of `length` answers → [P].
pub fn centering(sum: &Tensor, length: usize) -> Result<Tensor> {
    square(&scale(sum, 2.0 / length as f32)?)
}

/// The sum of some values of one shape.
pub fn sum_of(values: &[Tensor]) -> Result<Option<Tensor>> {
    let mut values = values.iter();
    let Some(first) = values.next() else { return Ok(None) };
    values.try_fold(first.clone(), |sum, value| add(&sum, value)).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::value_and_gradient;
    use super::super::sequences::pick;
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn pairs_by_hand() {
        // r = (ln 3, 0), m = ln 2: −log σ(ln 1.5) = ln(5/3); slope −σ(−ln 1.5) = −0.4
        let (y, gradient) = value_and_gradient(&[3f32.ln(), 0.0], |r| {
            let margin = Tensor::from_f32(r.device(), vec![2f32.ln()], &[1])?;
            bradley_terry(&pick(r, [0])?, &pick(r, [1])?, Some(&margin))
        });
        assert_relative_eq!(y, (5f32 / 3.0).ln(), max_relative = 1e-6);
        assert_relative_eq!(gradient[..], [-0.4f32, 0.4][..], max_relative = 1e-6);
        let (y, gradient) = value_and_gradient(&[3.0], |sum| centering(sum, 2));
        assert_eq!((y, gradient), (9.0, vec![6.0]));
    }

    /// e^r = (1, 2, 3): P = 1/6 · 2/5.
    #[test]
    fn rankings_by_hand() {
        let of = |r: &[f32]| {
            value_and_gradient(r, |r| plackett_luce(&(0..r.len()).map(|i| pick(r, [i])).collect::<Result<Vec<_>>>()?))
        };
        let (y, gradient) = of(&[0.0, 2f32.ln(), 3f32.ln()]);
        assert_relative_eq!(y, 15f32.ln(), max_relative = 1e-6);
        // Σ of softmaxes − 1: (1/6 − 1, 2/6 + 2/5 − 1, 3/6 + 3/5)
        assert_relative_eq!(gradient[..], [1.0f32 / 6.0 - 1.0, 2.0 / 6.0 - 0.6, 1.1][..], max_relative = 1e-5);
        let pair = of(&[3f32.ln(), 0.0]);
        assert_relative_eq!(pair.0, (4f32 / 3.0).ln(), max_relative = 1e-6);
    }
}
