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
    /// Completion i draws from stream `first_stream + i` of the seed: a run that generates often never repeats itself.
    pub first_stream: u64,
    /// Rows of the KV cache; None for as many as all need, within a gigabyte. Results do not depend on it.
    pub cache_rows: Option<usize>,
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
            first_stream: 0,
            cache_rows: None,
            stop_tokens: vec![],
        }
    }
}

impl Sampling {
    /// The temperature that logits are divided by: 1 where the likeliest token is taken.
    pub(super) fn scale(&self) -> f32 {
        if self.temperature > 0.0 { self.temperature } else { 1.0 }
    }
    /// Whether tokens are drawn from the whole distribution as it is.
    fn is_plain(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p == 0.0
    }
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

/// A token and its log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    pub token: u32,
    pub logp: f32,
}

/// The token after `prompt` and `generated`, from logits that were divided by the temperature.
/// The random number is number `generated.len()` of the sequence's stream.
pub fn draw(logits: &[f32], prompt: &[u32], generated: &[u32], sampling: &Sampling, stream: Stream) -> u32 {
    let mut changed;
    let mut logits = logits;
    if sampling.repetition_penalty != 1.0 {
        changed = logits.to_vec();
        penalise(&mut changed, prompt, generated, sampling.repetition_penalty);
        logits = &changed;
    }
    if sampling.temperature == 0.0 {
        return argmax(logits) as u32;
    }
    let u = (f64::from(stream.bits(generated.len() as u64)) + 0.5) / 4294967296.0;
    if sampling.is_plain() { draw_plain(logits, u) } else { draw_filtered(logits, sampling, u) }
}

/// Tokens whose weights are summed together before the sum is searched.
const BLOCK: usize = 256;

/// The token at which the sum of probabilities, in order of the vocabulary, passes `u` in (0, 1).
fn draw_plain(logits: &[f32], u: f64) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = logits.iter().map(|z| exp(z - largest)).collect();
    let sums: Vec<f64> = weights.chunks(BLOCK).map(|b| b.iter().map(|w| f64::from(*w)).sum()).collect();
    let mut left = u * sums.iter().sum::<f64>();
    let mut block = 0;
    while block + 1 < sums.len() && left >= sums[block] {
        left -= sums[block];
        block += 1;
    }
    let inside = &weights[block * BLOCK..((block + 1) * BLOCK).min(weights.len())];
    let place = inside.iter().position(|w| {
        left -= f64::from(*w);
        left < 0.0
    });
    // Rounding may leave a rest after the last weight: the last token that has any.
    let last = || inside.iter().rposition(|w| *w > 0.0).unwrap_or(0);
    (block * BLOCK + place.unwrap_or_else(last)) as u32
}

/// eˣ for x ≤ 0, to about 10⁻⁷ relative: 2ⁿ · eʳ with |r| ≤ ½ ln 2 and a Taylor polynomial. The same bits on every
/// machine, and free of branches.
fn exp(x: f32) -> f32 {
    let x = x.max(-87.0);
    // Adding and taking away 1.5 · 2²³ rounds to the nearest whole number.
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// [`draw_plain`] among the tokens that top-k, top-p and min-p leave, from the most likely down.
fn draw_filtered(logits: &[f32], sampling: &Sampling, u: f64) -> u32 {
    // Candidates from the most likely down; equals by index, so that the order is fixed.
    let mut candidates: Vec<u32> = (0..logits.len() as u32).collect();
    let by_likelihood = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if sampling.top_k > 0 && sampling.top_k < candidates.len() {
        candidates.select_nth_unstable_by(sampling.top_k - 1, by_likelihood);
        candidates.truncate(sampling.top_k);
    }
    candidates.sort_unstable_by(by_likelihood);
    let largest = logits[candidates[0] as usize];
    let mut weights: Vec<f64> = candidates.iter().map(|&c| f64::from(exp(logits[c as usize] - largest))).collect();
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
    let u = u * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let drawn = weights.iter().position(|w| {
        sum += w;
        sum > u
    });
    candidates[drawn.unwrap_or(weights.len() - 1)]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: &Sampling, logits: &[f32], n: u64) -> Vec<u32> {
        (0..n).map(|i| draw(logits, &[], &[], sampling, Stream::new(1, i))).collect()
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

    /// More tokens than a block, most of them impossible.
    #[test]
    fn blocks_are_searched_to_the_end() {
        let mut logits = vec![f32::NEG_INFINITY; 3 * BLOCK + 5];
        logits[BLOCK - 1] = 0.0;
        logits[3 * BLOCK + 1] = 0.0;
        let all = draws(&Sampling::default(), &logits, 400);
        let last = all.iter().filter(|&&t| t as usize == 3 * BLOCK + 1).count();
        assert!(all.iter().all(|&t| t as usize == BLOCK - 1 || t as usize == 3 * BLOCK + 1));
        assert!((150..250).contains(&last), "{last} of 400");
        assert_eq!(draw_plain(&[0.0, 0.0, -90.0], 1.0 - 1e-12), 1);
    }

    #[test]
    fn exponential() {
        for i in 0..2000 {
            let x = -0.04 * i as f32;
            approx::assert_relative_eq!(exp(x), f64::from(x).exp() as f32, max_relative = 3e-7);
        }
        assert_eq!(exp(0.0), 1.0);
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
