//! Two models on the same prompts: their answers beside each other, how likely each holds its own and the other's, and which of
//! them judges and references prefer.
//!
//! ```text
//! A's answers yᴬ, B's yᴮ to the same prompts; log p_A, log p_B of all of them
//! log-ratio on yᴬ: log p_A(yᴬ) − log p_B(yᴬ), whose mean estimates KL(A ‖ B) where yᴬ was drawn from p_A as it is
//! ```
pub mod candidate;
pub mod comparison_page;
pub mod intervals;
pub mod side_by_side;
pub mod summed_up;

use crate::data::Row;
use crate::error::{Error, Result};
use crate::judges::constitutional::{Case, Judge, readable};
use crate::judges::reward_model::RewardModel;
use crate::options::DrawingOptions;
use crate::text::RenderInput;
use candidate::{Answer, AnswerLogp, Candidate};
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// What was found about one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Examined {
    /// The answer itself.
    pub answer: Answer,
    /// What A and what B says about it.
    pub logp: [Option<AnswerLogp>; 2],
    /// What the reward model gives it.
    pub reward: Option<f64>,
    /// Whether it is the row's reference, blanks at its ends aside.
    pub exact: Option<bool>,
}

/// Both answers to a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Contest {
    /// The row that it comes from.
    pub row: Row,
    /// A's and B's.
    pub answers: [Examined; 2],
    /// The judge's verdict: 0 for A, 1 for B, −1 for a tie. None without a judge, or where the question is too long for it.
    pub rank: Option<i32>,
}

/// Everything that was found.
#[derive(Clone, Debug)]
pub struct Contests {
    /// What A and B are called.
    pub labels: [String; 2],
    /// A prompt each; those that were too long for a model are not among them.
    pub all: Vec<Contest>,
    /// Prompts that were left out.
    pub too_long: usize,
    /// Whether a token means the same to both, so that tokens are scored as they were drawn.
    pub same_tokens: bool,
    /// Whether answers were drawn from the models as they are: temperature 1 and no filter.
    pub unfiltered: bool,
}

/// The prompt of a row: a text or messages.
fn prompt_of(row: &Row) -> Result<&Value> {
    match row.fields.get("prompt") {
        Some(prompt @ (Value::String(_) | Value::Array(_))) => Ok(prompt),
        _ => Err(row.error("the field \"prompt\" must be a text or a list of messages")),
    }
}

/// The row's reference: its answer or solution, a text or a number.
fn reference(row: &Row) -> Option<String> {
    ["answer", "solution"].iter().find_map(|name| match row.fields.get(*name)? {
        Value::String(text) => Some(text.trim().to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// Lets both answer and scores what they said. `at_once`: answers that are scored together.
pub fn compare(
    models: &mut [Candidate; 2],
    rows: &[Row],
    drawing: &DrawingOptions,
    at_once: usize,
) -> Result<Contests> {
    let asked: Vec<&Value> = rows.iter().map(prompt_of).collect::<Result<_>>()?;
    let [a, b] = models;
    let same_tokens = a.shares_tokens_with(b);
    let tokens = |model: &Candidate| asked.iter().map(|prompt| model.prompt(prompt)).collect::<Result<Vec<_>>>();
    let prompts = [tokens(a)?, tokens(b)?];
    let drawn = [a.answers(&prompts[0], drawing)?, b.answers(&prompts[1], drawing)?];
    // logp[of][by]
    let mut logp: Vec<Vec<Vec<Option<AnswerLogp>>>> = Vec::new();
    for answers in &drawn {
        let mut by_model = Vec::new();
        for (model, prompts) in [&*a, &*b].into_iter().zip(&prompts) {
            let pair = |(answer, prompt): (&Option<Answer>, &Vec<u32>)| -> Result<Option<(Vec<u32>, Vec<u32>)>> {
                let tokens = answer.as_ref().map(|answer| model.tokens_of(answer, same_tokens)).transpose()?;
                Ok(tokens.map(|tokens| (prompt.clone(), tokens)))
            };
            let pairs = answers.iter().zip(prompts).map(pair).collect::<Result<Vec<_>>>()?;
            by_model.push(model.log_probabilities(&pairs, at_once)?);
        }
        logp.push(by_model);
    }
    let examined = |of: usize, i: usize, row: &Row| -> Option<Examined> {
        let answer = drawn[of][i].clone()?;
        let exact = reference(row).map(|reference| answer.text.trim() == reference);
        Some(Examined { answer, logp: [logp[of][0][i], logp[of][1][i]], reward: None, exact })
    };
    let contest = |(i, row): (usize, &Row)| -> Option<Contest> {
        Some(Contest { row: row.clone(), answers: [examined(0, i, row)?, examined(1, i, row)?], rank: None })
    };
    let all: Vec<Contest> = rows.iter().enumerate().filter_map(contest).collect();
    if all.is_empty() {
        return Err(Error::input(
            "no prompt leaves room for an answer in both models; give a smaller --max_new_tokens",
        ));
    }
    Ok(Contests {
        labels: [a.label.clone(), b.label.clone()],
        too_long: rows.len() - all.len(),
        all,
        same_tokens,
        unfiltered: a.draws_unfiltered(drawing) && b.draws_unfiltered(drawing),
    })
}

impl Contests {
    /// Asks a judge about each pair, in both orders.
    pub fn judge(&mut self, judge: &Judge, at_once: usize) -> Result<()> {
        let case = |contest: &Contest| Case {
            prompt: contest.row.fields.get("prompt").map(readable).unwrap_or_default(),
            completions: contest.answers.iter().map(|one| one.answer.text.clone()).collect(),
        };
        let verdicts = judge.judge(&self.all.iter().map(case).collect::<Vec<_>>(), at_once)?;
        for (contest, verdict) in self.all.iter_mut().zip(verdicts) {
            contest.rank = verdict.map(|verdict| verdict.rank(judge.rule));
        }
        Ok(())
    }

    /// Gives each answer its reward: prompt and answer as the reward model's own tokens.
    pub fn reward(&mut self, model: &RewardModel, at_once: usize) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        for contests in self.all.chunks_mut(at_once.max(1)) {
            let mut sequences = Vec::new();
            for contest in contests.iter() {
                for one in &contest.answers {
                    sequences.push(rewarded(model, prompt_of(&contest.row)?, &one.answer.text, now)?);
                }
            }
            let rewards = model.score(&sequences.iter().collect::<Vec<_>>())?;
            let answers = contests.iter_mut().flat_map(|contest| &mut contest.answers);
            answers.zip(rewards).for_each(|(one, reward)| one.reward = Some(f64::from(reward)));
        }
        Ok(())
    }

    /// A line of JSON for each prompt: the row, and for A and B what was found.
    pub fn to_rows(&self) -> Vec<Map<String, Value>> {
        let number = |x: f64| if x.is_finite() { json!(x) } else { Value::Null };
        let one = |label: &String, one: &Examined| {
            json!({
                "model": label, "completion": one.answer.text, "tokens": one.answer.tokens.len(), "ended": one.answer.ended,
                "logp": one.logp.map(|p| p.map_or(Value::Null, |p| number(p.sum))),
                "logp_per_token": one.logp.map(|p| p.map_or(Value::Null, |p| number(p.per_token()))),
                "reward": one.reward, "exact": one.exact,
            })
        };
        let row = |contest: &Contest| {
            let answers: Vec<Value> = self.labels.iter().zip(&contest.answers).map(|(l, a)| one(l, a)).collect();
            let mut row = contest.row.fields.clone();
            row.insert("answers".into(), Value::Array(answers));
            let winner = contest.rank.map(|rank| self.labels.get(rank as usize).map_or("tie", String::as_str));
            row.insert("winner".into(), json!(winner));
            row
        };
        self.all.iter().map(row).collect()
    }
}

/// A prompt and an answer as a reward model reads them, through its chat template where the prompt is a conversation.
fn rewarded(model: &RewardModel, prompt: &Value, answer: &str, now: i64) -> Result<crate::data::Sequence> {
    let ids = match prompt {
        Value::Array(messages) => {
            let mut messages = messages.clone();
            messages.push(json!({"role": "assistant", "content": answer}));
            let input = RenderInput { messages: &messages, ..Default::default() };
            model.tokenizer.encode_rendered(&model.tokenizer.chat_templates(now)?.render(&input)?.text)?
        }
        _ => model.tokenizer.encode(&format!("{}{answer}", readable(prompt)))?,
    };
    Ok(crate::data::Sequence { ids, start: 0 })
}
