//! Completions judged, and what their rewards and lengths say under TRL's names.
use crate::error::Result;
use crate::policy_gradients::judged::{Judged, Prompt};
use crate::policy_gradients::rewards::{Rewards, Scores};
use crate::policy_gradients::rollout::Completion;
use crate::statistics::{mean, std};

/// The name under which the rewards of a completions file are logged (TRL's name for an anonymous function of its kind).
const FILE_REWARD: &str = "reward_fn";

/// What the rewards of a run are called in its metrics.
pub(super) fn reward_names(rewards: &Rewards) -> Vec<String> {
    if rewards.is_empty() { vec![FILE_REWARD.into()] } else { rewards.names.clone() }
}

/// Rewards of completions, or those that they bring with them.
pub(super) fn judge(
    rewards: &mut Rewards,
    asked: &[&Prompt],
    completions: &[Completion],
    group: usize,
) -> Result<Scores> {
    if rewards.is_empty() {
        let given: Vec<f64> = completions.iter().map(|c| c.reward.unwrap_or(f64::NAN)).collect();
        return Ok(Scores { each: vec![given.clone()], total: given });
    }
    let judged = |(i, c): (usize, &'_ Completion)| (asked[i / group], c.clone());
    let pairs: Vec<(&Prompt, Completion)> = completions.iter().enumerate().map(judged).collect();
    let list: Vec<Judged> = pairs.iter().map(|(prompt, c)| Judged { prompt, text: &c.text, ids: &c.ids }).collect();
    rewards.score(&list)
}

/// The gold check: the mean of each of its rewards, and of their sum.
pub(super) fn gold_metrics(names: &[String], scores: &Scores) -> Vec<(String, f64)> {
    let each = names.iter().zip(&scores.each).map(|(name, rewards)| (format!("gold/{name}"), mean(rewards)));
    std::iter::once(("gold".to_string(), mean(&scores.total))).chain(each).collect()
}

/// Rewards and lengths under TRL's names.
pub(super) fn metrics_of(names: &[String], completions: &[Completion], scores: &Scores) -> Vec<(String, f64)> {
    let mut all = vec![("reward".to_string(), mean(&scores.total)), ("reward_std".into(), std(&scores.total))];
    for (name, rewards) in names.iter().zip(&scores.each) {
        all.push((format!("rewards/{name}/mean"), mean(rewards)));
        all.push((format!("rewards/{name}/std"), std(rewards)));
        let unjudged = rewards.iter().filter(|r| r.is_nan()).count();
        if unjudged > 0 {
            all.push((format!("rewards/{name}/unjudged"), unjudged as f64 / rewards.len() as f64));
        }
    }
    let lengths = |ended_only: bool| -> Vec<f64> {
        completions.iter().filter(|c| c.ended || !ended_only).map(|c| c.ids.len() as f64).collect()
    };
    let ended = lengths(true);
    for (kind, lengths) in
        [("", lengths(false)), ("terminated_", if ended.is_empty() { vec![0.0] } else { ended.clone() })]
    {
        let (least, most) = lengths.iter().fold((f64::INFINITY, 0.0f64), |(a, b), x| (a.min(*x), b.max(*x)));
        all.push((format!("completions/mean_{kind}length"), mean(&lengths)));
        all.push((format!("completions/min_{kind}length"), least));
        all.push((format!("completions/max_{kind}length"), most));
    }
    let cut = completions.len() - ended.len();
    all.push(("completions/clipped_ratio".into(), cut as f64 / completions.len().max(1) as f64));
    all
}
