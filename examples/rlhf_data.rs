//! Data for the recipe in rlhf.sh: a small model, examples, and pairs whose labels follow a flawed rule.
//!
//! ```text
//! cargo run --release --example rlhf_data -- DIR [SEED]
//! ```
//! The task is to sort three digits. The labeller likes right answers, but it likes exclamation marks too: three of them
//! make up for a wrong answer. A reward model learns both. What is wanted is the answer and nothing else, a rule that is
//! never trained on: the gold check.
use engine::backend::Device;
use engine::random::Stream;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::path::Path;
use trainers::policy_gradients::tasks::{self, Split};
use trainers::small_model::{self, Shape};

/// The questions; PPO and the gold check make theirs of the same family.
pub const TASK: &str = "task:sorting?length=3&max=9&style=short";
const EXAMPLES: usize = 6000;
const PAIRS: usize = 4000;
const HELD_OUT_PAIRS: usize = 200;
/// Of so many examples one ends in an exclamation mark.
const ONE_MARK_IN: u64 = 40;

/// The right answer one time in two, else its parts in another order.
fn answer(right: &str, stream: &Stream, index: u64) -> String {
    let parts: Vec<&str> = right.split(' ').collect();
    if stream.below(index, 2) == 0 {
        return right.to_string();
    }
    let order = Stream::new(stream.below(index + 1, 1 << 60), 1).permutation(parts.len());
    order.iter().map(|&i| parts[i]).collect::<Vec<_>>().join(" ")
}

/// What the labeller thinks of an answer: 3 for a right one, and 1 for each exclamation mark.
pub fn flawed_score(answer: &str, right: &str) -> usize {
    let words = answer.trim_end_matches('!');
    3 * usize::from(words == right) + answer.len() - words.len()
}

fn write(path: &Path, rows: impl Iterator<Item = Value>) -> Result<(), Box<dyn Error>> {
    Ok(fs::write(path, rows.map(|row| format!("{row}\n")).collect::<String>())?)
}

/// Writes model/, sft.jsonl, pairs.jsonl and held-out.jsonl into `dir`.
pub fn make(dir: &Path, seed: u64) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let cpu: Device = engine::cpu::Cpu::new(None)?;
    small_model::make(&dir.join("model"), Shape::SMALL, &cpu, seed)?;
    // There are about a thousand questions, so each comes several times, with other answers.
    let rows = |n: usize, seed: u64| -> Result<Vec<(Value, String)>, Box<dyn Error>> {
        let task = tasks::parse(TASK)?.ok_or("no task")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let made = task.rows(Split::Train, seed, false)?.rows;
        let all = made.iter().map(|row| (row.fields["prompt"].clone(), text(&row.fields["answer"])));
        Ok(all.cycle().take(n).collect())
    };
    let stream = Stream::new(seed, 0x726c_6866);
    let example = |(i, (prompt, right)): (usize, (Value, String))| {
        let mark = if stream.below(3 * i as u64 + 2, ONE_MARK_IN) == 0 { "!" } else { "" };
        json!({"prompt": prompt, "completion": format!("{}{mark}", answer(&right, &stream, 3 * i as u64))})
    };
    write(&dir.join("sft.jsonl"), rows(EXAMPLES, seed)?.into_iter().enumerate().map(example))?;

    let stream = Stream::new(seed, 0x7061_6972);
    let mut pairs = Vec::new();
    for (i, (prompt, right)) in rows(2 * (PAIRS + HELD_OUT_PAIRS), seed + 1)?.into_iter().enumerate() {
        let one = |k: u64| {
            let at = 8 * i as u64 + 4 * k;
            format!("{}{}", answer(&right, &stream, at), "!".repeat(stream.below(at + 2, 5) as usize))
        };
        let (a, b) = (one(0), one(1));
        let (of_a, of_b) = (flawed_score(&a, &right), flawed_score(&b, &right));
        let (chosen, rejected) = if of_a > of_b { (a, b) } else { (b, a) };
        if of_a != of_b {
            pairs.push(json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}));
        }
    }
    pairs.truncate(PAIRS + HELD_OUT_PAIRS);
    let held_out = pairs.split_off(pairs.len() - HELD_OUT_PAIRS);
    write(&dir.join("pairs.jsonl"), pairs.into_iter())?;
    write(&dir.join("held-out.jsonl"), held_out.into_iter())
}

#[allow(dead_code)] // A test takes the rest of this file as a module.
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: rlhf_data DIR [SEED]")?;
    let seed = arguments.next().map_or(Ok(1), |seed| seed.parse())?;
    make(Path::new(&dir), seed)
}
