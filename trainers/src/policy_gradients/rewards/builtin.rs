//! The rewards that are built in, by name; TRL's functions under their names too.
use crate::error::{Error, Result};
use crate::options::given::suggestion;
use crate::options::{JudgingOptions, RolloutOptions};
use crate::policy_gradients::final_answer::{
    after_hashes, after_thinking, boxed, last_number, number, same, same_number,
};
use crate::policy_gradients::judged::Prompt;
use crate::policy_gradients::judged::{Judged, Reward};
use fancy_regex::Regex;
use serde_json::Value;
use std::collections::HashSet;

/// The columns in which an answer is looked for.
const ANSWER_COLUMNS: [&str; 2] = ["answer", "solution"];
const NAMES: [&str; 10] =
    ["exact", "numeric", "gsm8k", "boxed", "think_format", "json", "length", "soft_overlong", "repetition", "regex:"];

/// Judges one completion.
type JudgeOne = Box<dyn Fn(&Judged) -> Option<f64> + Send>;

struct Builtin {
    name: String,
    needs_answer: bool,
    judge: JudgeOne,
}

impl Reward for Builtin {
    fn name(&self) -> &str {
        &self.name
    }
    fn check(&self, prompts: &[Prompt]) -> Result<()> {
        let without = |p: &&Prompt| self.needs_answer && expected(p).is_none();
        match prompts.iter().find(without) {
            None => Ok(()),
            Some(prompt) => Err(prompt.row.error(format!(
                "the reward {} needs a column answer (or solution) with a text or number; the row has {:?}",
                self.name,
                prompt.row.fields.keys().collect::<Vec<_>>()
            ))),
        }
    }
    fn score(&mut self, completions: &[Judged]) -> Result<Vec<Option<f64>>> {
        Ok(completions.iter().map(|c| (self.judge)(c)).collect())
    }
}

/// The row's answer, as text.
pub fn expected(prompt: &Prompt) -> Option<String> {
    ANSWER_COLUMNS.iter().find_map(|name| match prompt.row.fields.get(*name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

fn one_if(condition: bool) -> Option<f64> {
    Some(f64::from(u8::from(condition)))
}

/// The reward called `name`: ours, or one of TRL's.
pub fn by_name(name: &str, options: &JudgingOptions, rollout: &RolloutOptions) -> Result<Box<dyn Reward>> {
    let answered = |judge: fn(&str, &str) -> bool| -> JudgeOne {
        Box::new(move |c: &Judged| one_if(judge(c.text, &expected(c.prompt)?)))
    };
    let (needs_answer, judge): (bool, JudgeOne) = match name {
        "exact" => (true, answered(|text, answer| text.trim() == answer.trim())),
        "numeric" => (true, answered(is_last_number)),
        "gsm8k" => (true, answered(is_after_hashes)),
        "boxed" | "accuracy_reward" => (true, answered(is_boxed)),
        "reasoning_accuracy_reward" => (true, answered(|text, answer| is_boxed(after_thinking(text), answer))),
        "think_format" | "think_format_reward" => (false, Box::new(|c| one_if(has_think_format(c.text)))),
        "json" => (false, Box::new(|c| one_if(serde_json::from_str::<Value>(c.text.trim()).is_ok()))),
        "length" => {
            let longest = rollout.longest_completion() as f64;
            (false, Box::new(move |c| Some(c.ids.len() as f64 / longest)))
        }
        "soft_overlong" | "soft_overlong_punishment_reward" | "get_soft_overlong_punishment" => {
            let longest = rollout.longest_completion();
            let cache = options.soft_punish_cache.unwrap_or((longest / 8).max(1)).min(longest);
            (false, Box::new(move |c| Some(soft_overlong(c.ids.len(), longest, cache))))
        }
        "repetition" | "repetition_penalty_reward" | "get_repetition_penalty_reward" => {
            let n = options.repetition_ngram_size;
            (false, Box::new(move |c| Some(repetition(c.ids, n))))
        }
        _ => match name.strip_prefix("regex:") {
            Some(pattern) => {
                let regex = Regex::new(pattern)
                    .map_err(|e| Error::Input(format!("reward_funcs: the pattern {pattern:?} is no regex: {e}")))?;
                // A pattern that backtracks without end judges nothing.
                (false, Box::new(move |c| regex.is_match(c.text).ok().and_then(one_if)))
            }
            None => {
                let near = suggestion(name, "", NAMES);
                return Err(Error::Input(format!(
                    "reward_funcs: {name} is not known{near}; there are {}PATTERN, program:COMMAND, model:PATH, judge:PATH, judge_score:PATH, and task for a task:… data set",
                    NAMES.join(", ")
                )));
            }
        },
    };
    let shown = if name.starts_with("regex:") { "regex" } else { name };
    Ok(Box::new(Builtin { name: shown.into(), needs_answer, judge }))
}

/// The last number of the text is the answer (or the answer's last number).
fn is_last_number(text: &str, answer: &str) -> bool {
    let answer = number(answer).or_else(|| last_number(answer));
    last_number(text).zip(answer).is_some_and(|(a, b)| same_number(a, b))
}

/// What stands after `####` is what stands after the answer's.
fn is_after_hashes(text: &str, answer: &str) -> bool {
    after_hashes(text).is_some_and(|found| same(found, after_hashes(answer).unwrap_or(answer)))
}

/// What stands in the last `\boxed{}` is the answer (or what stands in the answer's).
fn is_boxed(text: &str, answer: &str) -> bool {
    boxed(text).is_some_and(|found| same(found, boxed(answer).unwrap_or(answer)))
}

/// `<think>…</think>` at the start, once, then anything: TRL's think_format_reward.
fn has_think_format(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("<think>") else { return false };
    rest.contains("</think>") && !rest.contains("<think>")
}

/// 0 up to L_max − L_cache tokens, then falling to −1 at L_max. Q. Yu et al., "DAPO", 2025, equation 13.
pub fn soft_overlong(length: usize, longest: usize, cache: usize) -> f64 {
    let start = longest - cache;
    match length {
        n if n <= start => 0.0,
        n if n <= longest => (start as f64 - n as f64) / cache as f64,
        _ => -1.0,
    }
}

/// −(1 − distinct n-grams / n-grams). E. Yeo et al., "Demystifying long chain-of-thought reasoning", 2025, appendix C.2.
pub fn repetition(ids: &[u32], n: usize) -> f64 {
    if ids.len() < n {
        return 0.0;
    }
    let distinct: HashSet<&[u32]> = ids.windows(n).collect();
    let total = (ids.len() - n + 1) as f64;
    -(1.0 - distinct.len() as f64 / total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Request, read};
    use crate::policy_gradients::judged::test_prompt;
    use serde_json::json;

    fn options() -> (JudgingOptions, RolloutOptions) {
        let line = "lapidary grpo --model_name_or_path m --dataset_name d --output_dir o --max_completion_length 100";
        match read(line.split(' ').map(Into::into)) {
            Ok(Request::Grpo(parsed)) => (parsed.options.reward, parsed.options.rollout),
            other => panic!("{other:?}"),
        }
    }

    fn judged(name: &str, answer: Value, text: &str) -> Option<f64> {
        let (reward, rollout) = options();
        let prompt = test_prompt(&[("answer", answer)]);
        by_name(name, &reward, &rollout).unwrap().score(&[Judged { prompt: &prompt, text, ids: &[1; 90] }]).unwrap()[0]
    }

    #[test]
    fn each_by_hand() {
        for (name, answer, right, wrong) in [
            ("exact", json!("7"), " 7\n", "it is 7"),
            ("numeric", json!(51), "15 + 36 = 51.", "51 or 52"),
            ("numeric", json!("1,234"), "So 1234", "so 123"),
            ("gsm8k", json!("2 + 3\n#### 5"), "hm\n#### 5", "5"),
            ("boxed", json!("1/2"), "\\boxed{1/2}", "1/2"),
            ("accuracy_reward", json!("\\boxed{3}"), "so \\boxed{3.0}", "\\boxed{4}"),
            ("think_format", json!(""), "<think>a</think> b", "a</think> b"),
            ("think_format_reward", json!(""), "<think>\n</think>", "<think><think></think>"),
            ("json", json!(""), " {\"a\": [1]} ", "{a: 1}"),
            ("regex:^(yes|no)$", json!(""), "yes", "maybe"),
        ] {
            assert_eq!(judged(name, answer.clone(), right), Some(1.0), "{name}: {right}");
            assert_eq!(judged(name, answer, wrong), Some(0.0), "{name}: {wrong}");
        }
        assert_eq!(judged("length", json!(""), ""), Some(0.9));
    }

    #[test]
    fn lengths_and_repetitions_as_in_trl() {
        // TRL's own examples: 90 of 100 tokens with a cache of 20; bigrams of 1 2 3 4 and of 5 5 5 5 5.
        assert_eq!(soft_overlong(90, 100, 20), -0.5);
        assert_eq!((soft_overlong(80, 100, 20), soft_overlong(101, 100, 20)), (0.0, -1.0));
        assert_eq!(repetition(&[1, 2, 3, 4], 2), 0.0);
        assert_eq!(repetition(&[5; 5], 2), -0.75);
        assert_eq!(repetition(&[5], 2), 0.0);
    }

    #[test]
    fn a_missing_column_and_an_unknown_name_are_told() {
        let (reward, rollout) = options();
        let prompt = test_prompt(&[("prompt", json!("a"))]);
        let text = by_name("exact", &reward, &rollout).unwrap().check(&[prompt]).unwrap_err().to_string();
        assert!(text.starts_with("d.jsonl:1: the reward exact needs a column answer"), "{text}");
        let text = by_name("exakt", &reward, &rollout).map(|_| ()).unwrap_err().to_string();
        assert!(text.contains("did you mean exact?"), "{text}");
        assert!(by_name("regex:(", &reward, &rollout).is_err());
    }
}
