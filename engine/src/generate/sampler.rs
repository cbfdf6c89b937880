//! Choosing the next token from logits: greedy, temperature, top-k, top-p, min-p, repetition penalty.
//!
//! The order is transformers': repetition penalty, temperature, top-k, top-p, min-p.
use crate::error::{Error, Result};
use crate::random::Stream;

/// How tokens are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    pub max_new_tokens: usize,
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f32,
    /// Only the k most likely tokens; 0 is off.
    pub top_k: usize,
    /// Only the smallest set of most likely tokens that has at least this probability; 1 is off.
    pub top_p: f32,
    /// Only tokens at least this many times as likely as the most likely one; 0 is off.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen before; 1 is off. N. S. Keskar et al., "CTRL", 2019, §4.1.
    pub repetition_penalty: f32,
    pub seed: u64,
    /// Tokens that end a completion (they are part of it).
    pub stop_tokens: Vec<u32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            max_new_tokens: 256,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 42,
            stop_tokens: vec![],
        }
    }
}

impl Sampling {
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |name: &str, value: f32, range: &str| Err(Error::Input(format!("{name} {value} is not {range}")));
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return bad("temperature", self.temperature, "0 or a positive number");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", self.top_p, "in (0, 1]");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min_p", self.min_p, "in [0, 1]");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return bad("repetition_penalty", self.repetition_penalty, "a positive number");
        }
        Ok(())
    }
}

/// The index of the largest value, the lowest among equals.
pub fn argmax(x: &[f32]) -> usize {
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

/// The token after `prompt` and `generated`, and its log-probability at this temperature over the whole vocabulary.
/// The random number is number `generated.len()` of the sequence's stream.
pub fn sample(
    logits: &mut [f32],
    prompt: &[u32],
    generated: &[u32],
    sampling: &Sampling,
    stream: Stream,
) -> (u32, f32) {
    if sampling.repetition_penalty != 1.0 {
        penalise(logits, prompt, generated, sampling.repetition_penalty);
    }
    if sampling.temperature == 0.0 {
        let token = argmax(logits);
        return (token as u32, logits[token] - log_sum_exp(logits));
    }
    logits.iter_mut().for_each(|z| *z /= sampling.temperature);
    let normaliser = log_sum_exp(logits);
    // Candidates from the most likely down; equals by index, so that the order is fixed.
    let mut candidates: Vec<u32> = (0..logits.len() as u32).collect();
    let by_likelihood = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if sampling.top_k > 0 && sampling.top_k < candidates.len() {
        candidates.select_nth_unstable_by(sampling.top_k - 1, by_likelihood);
        candidates.truncate(sampling.top_k);
    }
    if sampling.top_p < 1.0 || sampling.min_p > 0.0 || sampling.top_k > 0 {
        candidates.sort_unstable_by(by_likelihood);
    }
    let largest = logits[argmax(logits)];
    let mut weights: Vec<f64> = candidates.iter().map(|&c| f64::from(logits[c as usize] - largest).exp()).collect();
    if sampling.top_p < 1.0 {
        let (total, mut sum) = (weights.iter().sum::<f64>(), 0.0);
        let reached = weights.iter().position(|w| {
            sum += w;
            sum >= f64::from(sampling.top_p) * total
        });
        weights.truncate(reached.map_or(weights.len(), |i| i + 1));
    }
    if sampling.min_p > 0.0 {
        let kept = weights.iter().take_while(|&&w| w >= f64::from(sampling.min_p)).count();
        weights.truncate(kept.max(1));
    }
    let u = (f64::from(stream.bits(generated.len() as u64)) + 0.5) / 4294967296.0 * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let drawn = weights.iter().position(|w| {
        sum += w;
        sum > u
    });
    let token = candidates[drawn.unwrap_or(weights.len() - 1)];
    (token, logits[token as usize] - normaliser)
}

fn penalise(logits: &mut [f32], prompt: &[u32], generated: &[u32], penalty: f32) {
    let mut seen: Vec<u32> = prompt.iter().chain(generated).copied().collect();
    seen.sort_unstable();
    seen.dedup();
    for token in seen {
        if let Some(z) = logits.get_mut(token as usize) {
            *z = if *z > 0.0 { *z / penalty } else { *z * penalty };
        }
    }
}

/// log Σ exp(x), around the largest value, in f64.
fn log_sum_exp(x: &[f32]) -> f32 {
    let largest = x[argmax(x)];
    let sum: f64 = x.iter().map(|&z| f64::from(z - largest).exp()).sum();
    (f64::from(largest) + sum.ln()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: &Sampling, logits: &[f32], n: u64) -> Vec<u32> {
        (0..n).map(|i| sample(&mut logits.to_vec(), &[], &[], sampling, Stream::new(1, i)).0).collect()
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let p = [0.5f32, 0.25, 0.125, 0.125];
        let logits: Vec<f32> = p.iter().map(|p| p.ln()).collect();
        let all = draws(&Sampling::default(), &logits, 20_000);
        for (token, p) in p.iter().enumerate() {
            let share = all.iter().filter(|&&t| t as usize == token).count() as f32 / 20_000.0;
            assert!((share - p).abs() < 0.015, "token {token}: {share} drawn, {p} expected");
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        let logits: Vec<f32> = [0.1f32, 0.4, 0.2, 0.3].iter().map(|p| p.ln()).collect();
        let only = |s: Sampling, allowed: &[u32]| {
            let all = draws(&s, &logits, 500);
            allowed.iter().for_each(|t| assert!(all.contains(t), "{t} never drawn under {s:?}"));
            assert!(all.iter().all(|t| allowed.contains(t)), "{s:?}");
        };
        only(Sampling { top_k: 2, ..Default::default() }, &[1, 3]);
        only(Sampling { top_p: 0.65, ..Default::default() }, &[1, 3]);
        only(Sampling { min_p: 0.45, ..Default::default() }, &[1, 2, 3]);
        only(Sampling { temperature: 0.0, ..Default::default() }, &[1]);
    }

    #[test]
    fn repetition_penalty_by_hand() {
        let mut logits = [2.0, -1.0, 1.5];
        penalise(&mut logits, &[0], &[1, 0], 2.0);
        assert_eq!(logits, [1.0, -2.0, 1.5]);
    }
}
