//! The next token: the same one as the reference's, whatever is kept and whatever was seen.
use super::compare::{ErrorScale, out};
use super::{Data, Suite, f32s};
use crate::backend::{Backend, Choice, Draw};
use crate::buffer::Buffer;
use crate::error::Result;
use crate::random::Stream;

const ALL: Choice = Choice { greedy: false, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0 };
const GREEDY: Choice = Choice { greedy: true, ..ALL };
const MIXED: Choice = Choice { top_k: 20, top_p: 0.9, min_p: 0.02, repetition_penalty: 1.3, ..ALL };

const CHOICES: [Choice; 16] = [
    GREEDY,
    ALL,
    Choice { top_k: 1, ..ALL },
    Choice { top_k: 5, ..ALL },
    Choice { top_k: 1000, ..ALL },
    Choice { top_k: usize::MAX, ..ALL },
    Choice { top_p: 1e-12, ..ALL },
    Choice { top_p: 0.5, ..ALL },
    Choice { top_p: 0.999, ..ALL },
    Choice { min_p: 0.1, ..ALL },
    Choice { min_p: 1.0, ..ALL },
    Choice { top_k: 30, top_p: 0.8, ..ALL },
    Choice { repetition_penalty: 1.7, ..GREEDY },
    Choice { repetition_penalty: 0.6, ..ALL },
    Choice { repetition_penalty: 1.1, top_k: 7, ..ALL },
    MIXED,
];

pub(super) fn cases(suite: &mut Suite) {
    for [m, v] in [[1, 1], [1, 7], [7, 33], [33, 65], [9, 257], [5, 1003], [2, 5000], [2, 40_001]] {
        let logits = Data::new(m * v).scaled(m * v, 3.0);
        CHOICES.iter().for_each(|choice| case(suite, "normal logits", &logits, v, *choice));
    }
    let (m, v) = (33, 257);
    let some = |mut change: Box<dyn FnMut(usize, f32) -> f32>| -> Vec<f32> {
        let normals = Data::new(m + v).scaled(m * v, 3.0);
        normals.iter().enumerate().map(|(i, x)| change(i, *x)).collect()
    };
    let equals = some(Box::new(|_, x| (x / 2.0).round() * 2.0));
    let large = some(Box::new(|_, x| 1e30 * x));
    let shifted = some(Box::new(|_, x| x - 120.0));
    let odd = [f32::NAN, f32::NEG_INFINITY, -0.0, 0.0, 1e-40, -f32::NAN, 5.0];
    let special = some(Box::new(move |i, x| if i % 3 == 0 { odd[i / 3 % 7] } else { x }));
    // rows in which one logit, two or none can be drawn
    let few = some(Box::new(move |i, _| if (i / v).min(2) > i % v { 1.0 } else { odd[i % 2] }));
    let infinite = some(Box::new(move |i, x| if i % v % 100 == i / v { f32::INFINITY } else { x }));
    let near =
        some(Box::new(|i, x| f32::from_bits(if x > 0.0 { 1f32 } else { -1f32 }.to_bits() + (i * 7 % 11) as u32)));
    let flat = some(Box::new(|_, _| 0.25));
    for choice in CHOICES {
        case(suite, "equal logits in groups", &equals, v, choice);
        case(suite, "logits near ±1e30", &large, v, choice);
        case(suite, "logits near -120", &shifted, v, choice);
        case(suite, "NaN, -inf and both zeros among the logits", &special, v, choice);
        case(suite, "all but two logits NaN or -inf", &few, v, choice);
        case(suite, "infinite logits", &infinite, v, choice);
        case(suite, "logits a unit in the last place apart", &near, v, choice);
        case(suite, "all logits equal", &flat, v, choice);
    }
    let v = 1 << 18;
    let logits = Data::new(v).scaled(v, 4.0);
    for choice in [GREEDY, ALL, Choice { top_p: 0.95, ..ALL }, MIXED] {
        case(suite, "a large vocabulary", &logits, v, choice);
    }
}

fn case(suite: &mut Suite, what: &str, logits: &[f32], v: usize, choice: Choice) {
    let seen = seen(logits.len() / v, v);
    suite.case(format!("sample m={} v={v}, {what}, {choice:?}", logits.len() / v), |d| {
        Ok(vec![out("token", sample(d, logits, v, choice, &seen, 0)?, ErrorScale::Exact)])
    });
}

/// Some tokens of every row, each once, one of them beyond the vocabulary.
fn seen(m: usize, v: usize) -> Vec<Vec<u32>> {
    (0..m).map(|row| Data::new(row).distinct(v / 3 + 1, v + 1)).collect()
}

/// The tokens of rows that are rows `first` .. of a larger batch.
pub(super) fn sample(
    d: &dyn Backend,
    logits: &[f32],
    v: usize,
    choice: Choice,
    seen: &[Vec<u32>],
    first: usize,
) -> Result<Buffer> {
    // Numbers from both halves of the counter.
    let index = |row: usize| row as u64 % 5 + ((row as u64 % 2) << 33);
    let rows = seen.iter().enumerate().map(|(i, seen)| (first + i, seen));
    let draws: Vec<Draw<'_>> =
        rows.map(|(row, seen)| Draw { stream: Stream::new(7, row as u64), index: index(row), seen }).collect();
    d.sample(&f32s(d, logits)?, v, choice, &draws)
}

/// Rows alone as in their batch.
pub(super) fn rows_alone(suite: &mut Suite) {
    let (m, v) = (9, 1003);
    let logits = Data::new(6).scaled(m * v, 3.0);
    let seen = seen(m, v);
    for choice in [ALL, MIXED] {
        let run = |d: &dyn Backend, rows: usize| -> Result<Vec<f32>> {
            let parts = (0..m).step_by(rows).map(|first| {
                let tokens = sample(d, &logits[first * v..][..rows * v], v, choice, &seen[first..][..rows], first)?;
                match d.download(&tokens)? {
                    crate::buffer::Host::U32(tokens) => Ok(tokens.iter().map(|&t| t as f32).collect()),
                    other => Err(crate::Error::shape("sample", other.dtype().name())),
                }
            });
            Ok(parts.collect::<Result<Vec<Vec<f32>>>>()?.concat())
        };
        suite.same_bits(format!("sample, rows alone, {choice:?}"), |d| run(d, m), |d| run(d, 1));
    }
}
