//! The next token of each row: repetition penalty, then greedy, or drawn among what top-k, top-p and min-p leave.
use super::threads::Shared;
use super::{Cpu, check};
use crate::backend::{Choice, Draw, Sample};
use crate::buffer::{Buffer, Host};
use crate::error::Result;
use crate::likelihood::{aim, argmax, exp, key, likelihood, needed, penalised, share, weight};

/// Tokens whose weights are summed together before the sum is searched.
const BLOCK: usize = 256;

impl Sample for Cpu {
    /// The token of each row of logits [m, v], m = |draws|; rows in parallel.
    fn sample(&self, logits: &Buffer, v: usize, choice: Choice, draws: &[Draw<'_>]) -> Result<Buffer> {
        choice.check(v)?;
        let x = check::f32s("sample", "logits", logits, check::size("sample", &[draws.len(), v])?)?;
        let mut tokens = vec![0u32; draws.len()];
        let to = Shared::of(&mut tokens);
        self.threads.each(draws.len(), |i| {
            let token = token(&x[i * v..][..v], choice, &draws[i]);
            // SAFETY: task i owns element i.
            unsafe { to.ptr().add(i).write(token) };
        });
        Ok(Buffer::host(Host::U32(tokens)))
    }
}

fn token(logits: &[f32], choice: Choice, draw: &Draw<'_>) -> u32 {
    let mut changed;
    let mut z = logits;
    if choice.repetition_penalty != 1.0 {
        changed = z.to_vec();
        for &seen in draw.seen {
            if let Some(z) = changed.get_mut(seen as usize) {
                *z = penalised(*z, choice.repetition_penalty);
            }
        }
        z = &changed;
    }
    if choice.greedy {
        return argmax(z) as u32;
    }
    let number = draw.stream.bits(draw.index);
    let largest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if choice.keeps_all(z.len()) && largest.is_finite() {
        draw_of_all(z, largest, number)
    } else {
        draw_of_kept(z, largest, choice, number)
    }
}

/// The token at which the sum of probabilities, in order of the vocabulary, passes u.
fn draw_of_all(z: &[f32], largest: f32, number: u32) -> u32 {
    let u = (f64::from(number) + 0.5) / 4294967296.0;
    let weights: Vec<f32> = z.iter().map(|z| exp(z - largest)).collect();
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

/// A token that can be drawn.
#[derive(Clone, Copy)]
struct Candidate {
    /// From the likeliest token down, equals by index: the key's complement, then the index.
    place: u64,
    likelihood: f32,
    weight: u64,
}

impl Candidate {
    fn index(&self) -> u32 {
        self.place as u32
    }
}

/// The same among the tokens that are kept, in whole numbers; those without weight change neither a sum nor what is drawn.
fn draw_of_kept(z: &[f32], largest: f32, choice: Choice, number: u32) -> u32 {
    let place = |(index, z): (usize, &f32)| u64::from(!key(*z)) << 32 | index as u64;
    let mut places: Vec<u64> = z.iter().enumerate().map(place).collect();
    if choice.top_k > 0 && choice.top_k < places.len() {
        places.select_nth_unstable(choice.top_k - 1);
        places.truncate(choice.top_k);
    }
    let candidate = |place: u64| {
        let likelihood = likelihood(z[place as u32 as usize], largest);
        Candidate { place, likelihood, weight: weight(likelihood) }
    };
    let mut kept: Vec<Candidate> = places.into_iter().map(candidate).filter(|c| c.weight > 0).collect();
    if choice.top_p < 1.0 {
        let needed = needed(kept.iter().map(|c| c.weight).sum(), share(choice.top_p));
        let fewest = fewest_likeliest(&mut kept, needed);
        kept.truncate(fewest);
    }
    kept.retain(|c| c.likelihood >= choice.min_p);
    kept.sort_unstable_by_key(Candidate::index);
    let aim = aim(kept.iter().map(|c| c.weight).sum(), number);
    let mut sum = 0;
    let passes = |c: &&Candidate| {
        sum += c.weight;
        sum > aim
    };
    kept.iter().find(passes).map_or(0, Candidate::index)
}

/// Puts the fewest likeliest candidates that weigh `needed` together first, from the likeliest down; how many they are. Of a
/// vocabulary that is a handful as a rule, so no more are sorted than it takes: 256, and each time three times as many more.
fn fewest_likeliest(candidates: &mut [Candidate], needed: u64) -> usize {
    let (mut n, mut sum) = (0, 0);
    while sum < needed && n < candidates.len() {
        let rest = &mut candidates[n..];
        let part = (3 * n).clamp(256.min(rest.len()), rest.len());
        if part < rest.len() {
            rest.select_nth_unstable_by_key(part - 1, |c| c.place);
        }
        rest[..part].sort_unstable_by_key(|c| c.place);
        for c in &rest[..part] {
            if sum >= needed {
                break;
            }
            sum += c.weight;
            n += 1;
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const ALL: Choice = Choice { greedy: false, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };

    fn drawn(choice: Choice, logits: &[f32], n: u64) -> Vec<u32> {
        (0..n).map(|i| token(logits, choice, &Draw { stream: Stream::new(1, i), index: 0, seen: &[] })).collect()
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let p = [0.5f32, 0.25, 0.125, 0.125];
        let logits: Vec<f32> = p.iter().map(|p| p.ln()).collect();
        let least = Choice { min_p: 1e-3, ..ALL };
        for choice in [ALL, least] {
            let all = drawn(choice, &logits, 20_000);
            for (token, p) in p.iter().enumerate() {
                let share = all.iter().filter(|&&t| t as usize == token).count() as f32 / 20_000.0;
                assert!((share - p).abs() < 0.015, "token {token}: {share} drawn, {p} expected");
            }
        }
    }

    /// More tokens than a block, most of them impossible.
    #[test]
    fn blocks_are_searched_to_the_end() {
        let mut logits = vec![f32::NEG_INFINITY; 3 * BLOCK + 5];
        logits[BLOCK - 1] = 0.0;
        logits[3 * BLOCK + 1] = 0.0;
        let all = drawn(ALL, &logits, 400);
        let last = all.iter().filter(|&&t| t as usize == 3 * BLOCK + 1).count();
        assert!(all.iter().all(|&t| t as usize == BLOCK - 1 || t as usize == 3 * BLOCK + 1));
        assert!((150..250).contains(&last), "{last} of 400");
        assert_eq!(draw_of_all(&[0.0, 0.0, -90.0], 0.0, u32::MAX), 1);
    }

    #[test]
    fn filters_keep_what_they_say() {
        let logits: Vec<f32> = [0.1f32, 0.4, 0.2, 0.3].iter().map(|p| p.ln()).collect();
        let only = |choice: Choice, allowed: &[u32]| {
            let all = drawn(choice, &logits, 500);
            allowed.iter().for_each(|t| assert!(all.contains(t), "{t} never drawn under {choice:?}"));
            assert!(all.iter().all(|t| allowed.contains(t)), "{choice:?}");
        };
        only(Choice { top_k: 2, ..ALL }, &[1, 3]);
        only(Choice { top_p: 0.65, ..ALL }, &[1, 3]);
        only(Choice { top_p: 0.75, ..ALL }, &[1, 2, 3]);
        only(Choice { top_k: 2, top_p: 0.5, ..ALL }, &[1]);
        only(Choice { min_p: 0.45, ..ALL }, &[1, 2, 3]);
        only(Choice { greedy: true, ..ALL }, &[1]);
    }

    /// What is found part by part is what a whole sort gives, however many it takes.
    #[test]
    fn the_fewest_are_those_of_a_whole_sort() {
        let stream = Stream::new(3, 1);
        let all: Vec<Candidate> = (0..5000u64)
            .map(|i| Candidate {
                place: stream.below(i, 1000) << 32 | i,
                likelihood: 1.0,
                weight: 1 + stream.below(5000 + i, 9),
            })
            .collect();
        let mut sorted = all.clone();
        sorted.sort_by_key(|c| c.place);
        let total: u64 = all.iter().map(|c| c.weight).sum();
        for needed in [0, 1, 700, 1300, 1301, 5000, total / 2, total - 1, total] {
            let (mut sum, mut expected) = (0, 0);
            while sum < needed {
                sum += sorted[expected].weight;
                expected += 1;
            }
            let mut found = all.clone();
            let n = fewest_likeliest(&mut found, needed);
            assert_eq!(n, expected, "{needed} of {total}");
            assert!(found[..n].iter().zip(&sorted).all(|(a, b)| a.place == b.place), "{needed} of {total}");
        }
        assert_eq!(fewest_likeliest(&mut [], 1), 0);
    }

    #[test]
    fn repetition_penalty_by_hand() {
        let choice = Choice { greedy: true, repetition_penalty: 2.0, ..ALL };
        let first = |z: [f32; 3]| token(&z, choice, &Draw { stream: Stream::new(1, 0), index: 0, seen: &[0, 1, 7] });
        assert_eq!(first([2.0, -1.0, 0.9]), 0);
        assert_eq!(first([2.0, -1.0, 1.1]), 2);
        assert_eq!(first([-2.0, -1.0, -2.1]), 1);
        assert_eq!(first([-2.0, -1.0, -1.9]), 2);
    }
}
