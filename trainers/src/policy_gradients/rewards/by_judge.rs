//! A judge (`crate::judges::constitutional`) as a reward: it compares the completions of a prompt with each other, or grades each.
use super::by_model::ModelReward;
use crate::device;
use crate::error::{Error, Result};
use crate::judges::constitutional::{Case, Judge, readable};
use crate::options::value::with_home;
use crate::options::{DeviceOptions, JudgingOptions, WeightType};
use crate::policy_gradients::judged::{Judged, Reward};
use crate::text::Tokenizer;

/// Cases judged at once.
const BATCH: usize = 8;

/// The share of the other completions of its prompt that a completion is better than; a tie counts one half. None where
/// a prompt has one completion.
pub struct CompareReward(Judge);

/// The log-odds that a completion is good.
pub struct GradeReward(Judge);

/// Completions of a prompt that are neighbours.
fn groups<'a, 'b>(completions: &'b [Judged<'a>]) -> impl Iterator<Item = &'b [Judged<'a>]> {
    completions.chunk_by(|a, b| std::ptr::eq(a.prompt, b.prompt))
}

impl Reward for CompareReward {
    fn name(&self) -> &str {
        "judge"
    }
    fn score(&mut self, completions: &[Judged]) -> Result<Vec<Option<f64>>> {
        let (mut cases, mut pairs, mut start) = (Vec::new(), Vec::new(), 0);
        for group in groups(completions) {
            for i in 0..group.len() {
                for j in i + 1..group.len() {
                    let texts = vec![group[i].text.to_string(), group[j].text.to_string()];
                    cases.push(Case { prompt: readable(group[i].prompt.value()), completions: texts });
                    pairs.push((start + i, start + j));
                }
            }
            start += group.len();
        }
        let (mut won, mut compared) = (vec![0.0; completions.len()], vec![0.0; completions.len()]);
        for ((i, j), verdict) in pairs.into_iter().zip(self.0.judge(&cases, BATCH)?) {
            let Some(verdict) = verdict else { continue };
            let of_first = [1.0, 0.0, 0.5][verdict.rank(self.0.rule).rem_euclid(3) as usize];
            won[i] += of_first;
            won[j] += 1.0 - of_first;
            compared[i] += 1.0;
            compared[j] += 1.0;
        }
        Ok(won.into_iter().zip(compared).map(|(w, n)| (n > 0.0).then(|| w / n)).collect())
    }
}

impl Reward for GradeReward {
    fn name(&self) -> &str {
        "judge_score"
    }
    fn score(&mut self, completions: &[Judged]) -> Result<Vec<Option<f64>>> {
        let case = |c: &Judged| Case { prompt: readable(c.prompt.value()), completions: vec![c.text.to_string()] };
        let cases: Vec<Case> = completions.iter().map(case).collect();
        Ok(self.0.judge(&cases, BATCH)?.into_iter().map(|v| v.map(|v| v.log_odds())).collect())
    }
}

/// The reward that is a model and named so: model:PATH, judge:PATH or judge_score:PATH; None for any other name.
pub fn open_model(
    name: &str,
    options: &JudgingOptions,
    policy: &Tokenizer,
    device_options: &DeviceOptions,
) -> Result<Option<Box<dyn Reward>>> {
    let open_device = || device::open(device_options.device, device_options.threads);
    let judge = |path: &str| {
        let constitution = options.judge_constitution.as_deref().ok_or_else(|| {
            Error::input("judge_constitution is missing: a judge judges by the principles in this file")
        })?;
        let with = (&open_device()?, WeightType::Auto);
        Judge::open(path, None, constitution, options.judge_template.as_deref(), options.judge_verdict, with)
    };
    Ok(match name.split_once(':') {
        Some(("model", path)) => Some(Box::new(ModelReward::open(&with_home(path), policy, &open_device()?)?)),
        Some(("judge", path)) => Some(Box::new(CompareReward(judge(&with_home(path))?))),
        Some(("judge_score", path)) => Some(Box::new(GradeReward(judge(&with_home(path))?))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::VerdictRule;
    use crate::policy_gradients::judged::test_prompt;
    use engine::backend::Device;
    use serde_json::json;

    fn judge() -> Judge {
        let root = format!("{}/../tests/golden/models/llama", env!("CARGO_MANIFEST_DIR"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Be brief.").unwrap();
        let device: Device = std::sync::Arc::new(engine::reference::Reference);
        Judge::open(&root, None, file.path(), None, VerdictRule::Agree, (&device, WeightType::Auto)).unwrap()
    }

    #[test]
    fn shares_of_a_group_add_up() {
        let (one, two) = (test_prompt(&[("prompt", json!("a"))]), test_prompt(&[("prompt", json!("b"))]));
        let of = |prompt, text| Judged { prompt, text, ids: &[1] };
        let all = [of(&one, "x"), of(&one, "why not"), of(&one, "12"), of(&two, "x"), of(&two, "x")];
        let rewards = CompareReward(judge()).score(&all).unwrap();
        let rewards: Vec<f64> = rewards.into_iter().map(Option::unwrap).collect();
        assert_eq!(rewards[..3].iter().sum::<f64>(), 1.5);
        assert_eq!(rewards[3..], [0.5, 0.5]);
        let verdict = |a: &str, b: &str| {
            let case = Case { prompt: "a".into(), completions: vec![a.into(), b.into()] };
            judge().judge(&[case], 1).unwrap()[0].unwrap().rank(VerdictRule::Agree)
        };
        let points = |rank| [1.0, 0.0, 0.5][if rank < 0 { 2 } else { rank as usize }];
        assert_eq!(rewards[0], (points(verdict("x", "why not")) + points(verdict("x", "12"))) / 2.0);
        assert_eq!(CompareReward(judge()).score(&all[..1]).unwrap(), [None]);
        assert!(GradeReward(judge()).score(&all).unwrap().iter().all(|r| r.is_some_and(f64::is_finite)));
    }
}
