//! Tasks made on the spot, in the spirit of reasoning-gym: questions from a seed, answers checked by code.
//!
//! ```text
//! task:FAMILY?level=3&rows=500&seed=7&holdout=0.1&style=short
//! ```
//! A question belongs to the training or to the test split by a hash of its own text, so that no question is in both,
//! whatever the seeds. Families and their dials are in `families.rs`.
pub mod expression;
pub mod families;

use super::judged::{Judged, Prompt, Reward};
use crate::data::Row;
use crate::error::{Error, Result};
use crate::options::given::suggestion;
use engine::random::Stream;
use families::{FAMILIES, TaskFamily};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Which questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Those that are trained on.
    Train,
    /// Those that are held out, a share `holdout` of all.
    Test,
}

/// A family of questions with its dials set.
#[derive(Clone, Debug)]
pub struct Task {
    /// What is asked, and how answers are checked.
    pub family: &'static TaskFamily,
    name: String,
    dials: Dials,
    rows: Option<usize>,
    seed: Option<u64>,
    split: Option<Split>,
    /// Share of questions that belong to the test split.
    holdout: f64,
    /// Whether questions are short ("12+34=") rather than sentences.
    short: bool,
}

/// A family's own parameters.
#[derive(Clone, Debug, Default)]
pub struct Dials(BTreeMap<&'static str, u64>);

impl Dials {
    /// The dial's value, else what follows from the level.
    pub fn get(&self, name: &str, otherwise: u64) -> u64 {
        self.0.get(name).copied().unwrap_or(otherwise)
    }
    /// Difficulty, 1 (easy) to 9.
    pub fn level(&self) -> u64 {
        self.get("level", 1)
    }
}

/// Random numbers of one question, one after another.
pub struct Dice {
    stream: Stream,
    next: u64,
}

impl Dice {
    /// The dice of question number `question` of a data set with this seed.
    pub fn new(seed: u64, question: u64) -> Self {
        Dice { stream: Stream::new(seed ^ 0x7461_736b, question), next: 0 }
    }
    /// A whole number in 0 .. n.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next += 1;
        self.stream.below(self.next, n.max(1))
    }
    /// A whole number in low ..= high.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.max(low) - low + 1)
    }
    /// One of the items, each equally likely; there must be one.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The question in sentences.
    pub text: String,
    /// The same in few characters.
    pub short: String,
    /// The right answer, or one of them.
    pub answer: String,
    /// What the check needs besides the answer.
    pub facts: Value,
}

/// Rows of a made-up data set.
pub struct Made {
    /// `prompt`, `answer`, `task`, and `facts` where the check needs them.
    pub rows: Vec<Row>,
    /// Says so where the dials have fewer different questions than rows were asked for.
    pub note: Option<String>,
}

/// The task that a data set's name describes; None if it is no `task:…`.
///
/// Errors: an unknown family or dial (with the nearest known one), a value out of range.
pub fn parse(name: &str) -> Result<Option<Task>> {
    let Some(spec) = name.strip_prefix("task:") else { return Ok(None) };
    let wrong = |detail: String| Error::Input(format!("{name}: {detail}"));
    let (family, dials) = spec.split_once('?').unwrap_or((spec, ""));
    let names: Vec<&str> = FAMILIES.iter().map(|f| f.name).collect();
    let family = FAMILIES.iter().find(|f| f.name == family).ok_or_else(|| {
        let near = suggestion(family, "", names.iter().copied());
        wrong(format!("there is no task {family}{near}; there are {}", names.join(", ")))
    })?;
    let mut task = Task {
        family,
        name: name.into(),
        dials: Dials::default(),
        rows: None,
        seed: None,
        split: None,
        holdout: 0.1,
        short: false,
    };
    for pair in dials.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| wrong(format!("{pair} is not key=value")))?;
        let number = |low: u64, high: u64| {
            let n = value.parse().ok().filter(|n| (low..=high).contains(n));
            n.ok_or_else(|| wrong(format!("{key} is {value}, but it takes a whole number from {low} to {high}")))
        };
        match (key, value) {
            ("rows", _) => task.rows = Some(number(1, 10_000_000)? as usize),
            ("seed", _) => task.seed = Some(number(0, u64::MAX)?),
            ("split", "train") => task.split = Some(Split::Train),
            ("split", "test") => task.split = Some(Split::Test),
            ("split", _) => return Err(wrong(format!("split is {value}, but it takes train or test"))),
            ("style", "short") => task.short = true,
            ("style", "full") => task.short = false,
            ("style", _) => return Err(wrong(format!("style is {value}, but it takes short or full"))),
            ("holdout", _) => {
                let share = value.parse().ok().filter(|s: &f64| (0.0..1.0).contains(s));
                task.holdout =
                    share.ok_or_else(|| wrong(format!("holdout is {value}, but it takes a share below 1")))?;
            }
            _ => {
                let Some((dial, low, high)) = family.dials.iter().copied().find(|(dial, ..)| *dial == key) else {
                    let known = ["rows", "seed", "split", "style", "holdout"].into_iter();
                    let known: Vec<&str> = known.chain(family.dials.iter().map(|d| d.0)).collect();
                    let near = suggestion(key, "", known.iter().copied());
                    return Err(wrong(format!("{key} is not known{near}; there are {}", known.join(", "))));
                };
                task.dials.0.insert(dial, number(low, high)?);
            }
        }
    }
    Ok(Some(task))
}

impl Task {
    /// The rows of a split (`split` unless the name says which). `chat`: prompts are messages.
    ///
    /// Errors: dials under which the split has no question.
    pub fn rows(&self, split: Split, seed: u64, chat: bool) -> Result<Made> {
        let split = self.split.unwrap_or(split);
        let wanted = self.rows.unwrap_or(if split == Split::Train { 1000 } else { 100 });
        let seed = self.seed.unwrap_or(seed);
        let (mut seen, mut rows) = (HashSet::new(), Vec::with_capacity(wanted));
        let path = Arc::new(PathBuf::from(&self.name));
        // A family with few questions gives the same ones again and again: a hundred tries a row are enough to tell.
        for number in 0..100 * wanted as u64 + 10_000 {
            if rows.len() == wanted {
                break;
            }
            let question = (self.family.make)(&self.dials, &mut Dice::new(seed, number));
            if self.split_of(&question) != split || !seen.insert(question.text.clone()) {
                continue;
            }
            let line = rows.len() + 1;
            rows.push(Row { path: path.clone(), line, fields: self.fields(&question, chat && !self.short) });
        }
        if rows.is_empty() {
            return Err(Error::Input(format!(
                "{}: no question of the {} split can be made with these dials; raise holdout or the difficulty",
                self.name,
                if split == Split::Test { "test" } else { "training" }
            )));
        }
        let note = (rows.len() < wanted)
            .then(|| format!("{}: there are only {} different questions, not {wanted}", self.name, rows.len()));
        Ok(Made { rows, note })
    }

    /// By the question's own text: the same in every run, so that no question is in both splits.
    fn split_of(&self, question: &Question) -> Split {
        // FNV-1a, then one round of the counter-based generator to spread it.
        let hash = question
            .text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        if f64::from(Stream::new(hash, 0).uniform(0)) < self.holdout { Split::Test } else { Split::Train }
    }

    fn fields(&self, question: &Question, chat: bool) -> Map<String, Value> {
        let text = if self.short { &question.short } else { &question.text };
        let prompt = if chat { json!([{"role": "user", "content": text}]) } else { json!(text) };
        let mut fields = Map::new();
        fields.insert("prompt".into(), prompt);
        fields.insert("answer".into(), json!(question.answer));
        fields.insert("task".into(), json!(self.family.name));
        if !question.facts.is_null() {
            fields.insert("facts".into(), question.facts.clone());
        }
        fields
    }

    /// Whether a text answers a row's question.
    pub fn is_right(&self, prompt: &Prompt, text: &str) -> bool {
        let answer = prompt.row.fields.get("answer").and_then(Value::as_str).unwrap_or("");
        (self.family.check)(answer, prompt.row.fields.get("facts").unwrap_or(&Value::Null), text)
    }
}

/// 1 for a right answer, 0 for a wrong one.
impl Reward for Task {
    fn name(&self) -> &str {
        "task"
    }
    fn check(&self, prompts: &[Prompt]) -> Result<()> {
        match prompts.iter().find(|p| !p.row.fields.get("task").is_some_and(|t| t == self.family.name)) {
            None => Ok(()),
            Some(p) => {
                Err(p.row.error(format!("is no row of task:{}, which the reward task checks", self.family.name)))
            }
        }
    }
    fn score(&mut self, completions: &[Judged]) -> Result<Vec<Option<f64>>> {
        Ok(completions.iter().map(|c| Some(f64::from(u8::from(self.is_right(c.prompt, c.text))))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> Task {
        parse(name).unwrap().unwrap()
    }
    fn texts(task: &Task, split: Split, seed: u64) -> Vec<String> {
        task.rows(split, seed, false).unwrap().rows.iter().map(|r| r.fields["prompt"].to_string()).collect()
    }

    #[test]
    fn every_family_answers_its_own_questions_at_every_level() {
        assert!(FAMILIES.len() >= 8);
        for family in FAMILIES {
            for level in [1, 3, 6, 9] {
                let task = task(&format!("task:{}?level={level}&rows=40", family.name));
                let made = task.rows(Split::Train, 5, false).unwrap();
                for row in &made.rows {
                    let prompt = Prompt { ids: vec![1], row: row.clone() };
                    let answer = row.fields["answer"].as_str().unwrap();
                    assert!(task.is_right(&prompt, answer), "{row:?}");
                    assert!(!task.is_right(&prompt, "certainly not"), "{row:?}");
                    assert!(!task.is_right(&prompt, ""), "{row:?}");
                }
            }
        }
    }

    #[test]
    fn the_splits_share_no_question_whatever_the_seeds() {
        for family in FAMILIES {
            let task = task(&format!("task:{}?rows=300&holdout=0.3", family.name));
            let train: HashSet<String> = texts(&task, Split::Train, 1).into_iter().collect();
            let other: HashSet<String> = texts(&task, Split::Train, 2).into_iter().collect();
            for question in texts(&task, Split::Test, 3) {
                assert!(!train.contains(&question) && !other.contains(&question), "{question}");
            }
        }
    }

    #[test]
    fn seeds_and_levels() {
        let sums = task("task:addition?digits=3&rows=20");
        assert_eq!(texts(&sums, Split::Train, 1), texts(&sums, Split::Train, 1));
        assert_ne!(texts(&sums, Split::Train, 1), texts(&sums, Split::Train, 2));
        let small = task("task:addition?digits=1&rows=500");
        let made = small.rows(Split::Train, 1, true).unwrap();
        assert!(made.rows.len() < 100 && made.note.is_some());
        assert_eq!(made.rows[0].fields["prompt"][0]["role"], "user");
    }

    #[test]
    fn wrong_names_are_told() {
        let told = |name: &str| parse(name).map(|_| ()).unwrap_err().to_string();
        assert!(told("task:adition").contains("did you mean addition?"));
        assert!(told("task:addition?digit=2").contains("did you mean digits?"));
        assert!(told("task:addition?digits=0").contains("from 1 to"));
        assert!(told("task:addition?digits").contains("key=value"));
        assert!(told("task:addition?split=all").contains("train or test"));
        assert!(parse("prompts.jsonl").unwrap().is_none());
    }
}
