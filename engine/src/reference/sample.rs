//! The next token: repetition penalty, then greedy, or drawn among what top-k, top-p and min-p leave.
use super::Reference;
use super::check::{size, values};
use crate::backend::{Choice, Draw, Sample};
use crate::buffer::{Buffer, Host};
use crate::error::Result;
use crate::likelihood::{aim, argmax, key, likelihood, needed, penalised, share, weight};
use std::cmp::Reverse;

impl Sample for Reference {
    /// The token of each row of logits [m, v], m = |draws|.
    fn sample(&self, logits: &Buffer, v: usize, choice: Choice, draws: &[Draw<'_>]) -> Result<Buffer> {
        choice.check(v)?;
        let x = values("sample", "logits", logits, size("sample", &[draws.len(), v])?)?;
        let token = |(x, draw): (&[f32], &Draw<'_>)| {
            let mut z = x.to_vec();
            for &seen in draw.seen {
                if let Some(z) = z.get_mut(seen as usize) {
                    *z = penalised(*z, choice.repetition_penalty);
                }
            }
            if choice.greedy { argmax(&z) as u32 } else { drawn(&z, choice, draw.stream.bits(draw.index)) }
        };
        Ok(Buffer::host(Host::U32(x.chunks(v).zip(draws).map(token).collect())))
    }
}

/// Of the tokens that are kept, in order of the vocabulary, the first i with Σ_{j ≤ i} w[j] > u Σ w.
fn drawn(z: &[f32], choice: Choice, number: u32) -> u32 {
    let largest = z[argmax(z)];
    let w = |i: &usize| weight(likelihood(z[*i], largest));
    let mut kept: Vec<usize> = (0..z.len()).collect();
    kept.sort_by_key(|&i| (Reverse(key(z[i])), i));
    if choice.top_k > 0 {
        kept.truncate(choice.top_k);
    }
    if choice.top_p < 1.0 {
        let needed = needed(kept.iter().map(w).sum(), share(choice.top_p));
        let last = passes(&kept, w, needed.saturating_sub(1));
        kept.truncate(last.map_or(0, |n| n + 1));
    }
    kept.retain(|&i| likelihood(z[i], largest) >= choice.min_p);
    kept.sort();
    let total = kept.iter().map(w).sum();
    passes(&kept, w, aim(total, number)).map_or(0, |n| kept[n] as u32)
}

/// The place at which the running sum of the weights is more than `bound`.
fn passes(tokens: &[usize], w: impl Fn(&usize) -> u64, bound: u64) -> Option<usize> {
    let mut sum = 0;
    tokens.iter().position(|i| {
        sum += w(i);
        sum > bound
    })
}
