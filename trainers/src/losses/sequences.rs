//! From log-probabilities of tokens to those of sequences.
use engine::Result;
use engine::backend::RowIndex;
use engine::ops::{gather_rows, mul, sum_by_group};
use engine::tensor::Tensor;
use std::sync::Arc;

/// y[g] = Σ_{i: groups[i] = g} w[i] · logp[i]: `logp` [N], `weights` [N] or none for 1 → [n_groups].
pub fn sum_of_tokens(logp: &Tensor, weights: Option<&[f32]>, groups: &[u32], n_groups: usize) -> Result<Tensor> {
    let logp = match weights {
        None => logp.clone(),
        Some(w) => mul(logp, &Tensor::from_f32(logp.device(), w.to_vec(), logp.shape())?)?,
    };
    let index = Arc::new(RowIndex::new(&**logp.device(), groups)?);
    sum_by_group(&logp.reshape(&[groups.len(), 1])?, &index, n_groups)?.reshape(&[n_groups])
}

/// y[i] = x[rows[i]]: [n] → [rows].
pub fn pick(x: &Tensor, rows: impl IntoIterator<Item = usize>) -> Result<Tensor> {
    let rows: Vec<u32> = rows.into_iter().map(|r| r as u32).collect();
    let index = Arc::new(RowIndex::new(&**x.device(), &rows)?);
    gather_rows(&x.reshape(&[x.len(), 1])?, &index)?.reshape(&[rows.len()])
}

/// LD-DPO's token weights: 1 within the length that both answers of a pair have, α beyond. W. Liu et al.,
/// "Length desensitization in direct preference optimization", 2024, equation 10. `groups` as in [`sum_of_tokens`],
/// pair p being the groups 2p and 2p + 1; → [N].
pub fn length_weights(groups: &[u32], alpha: f32) -> Vec<f32> {
    let n_groups = groups.iter().max().map_or(0, |&g| g as usize + 1).next_multiple_of(2);
    let mut lengths = vec![0; n_groups];
    groups.iter().for_each(|&g| lengths[g as usize] += 1);
    let mut seen = vec![0; n_groups];
    groups
        .iter()
        .map(|&g| {
            let (g, other) = (g as usize, g as usize ^ 1);
            seen[g] += 1;
            if seen[g] <= lengths[g].min(lengths[other]) { 1.0 } else { alpha }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::value_and_gradient;
    use super::*;

    #[test]
    fn sums_and_picks() {
        let (y, gradient) = value_and_gradient(&[1.0, 2.0, 4.0], |x| {
            pick(&sum_of_tokens(x, Some(&[1.0, 0.5, 2.0]), &[0, 1, 1], 3)?, [1])
        });
        assert_eq!((y, gradient), (9.0, vec![0.0, 0.5, 2.0]));
    }

    #[test]
    fn tokens_beyond_the_shorter_answer_weigh_less() {
        assert_eq!(length_weights(&[0, 0, 0, 1, 2, 3, 3], 0.5), [1.0, 0.5, 0.5, 1.0, 1.0, 1.0, 0.5]);
    }
}
