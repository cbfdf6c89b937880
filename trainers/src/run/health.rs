//! What a run's metrics say about whether it went well: each sign of trouble is a small function of a few curves.
//!
//! The limits are rules of thumb: they are meant to make a person look, and say the numbers they judge by.
use super::series::{MetricsFile, Series};

/// A sign of trouble, in one sentence with its numbers and what to try.
pub type Sign = fn(&MetricsFile) -> Option<String>;

/// All signs, in the order in which they are told.
pub const SIGNS: &[Sign] = &[
    nothing_learnt,
    loss_rises,
    overfits,
    prefers_nothing,
    reward_without_spread,
    unjudged,
    all_cut,
    lengths_grow,
    kl_runs_off,
    entropy_collapses,
];

/// What a person should look at.
pub fn warnings(metrics: &MetricsFile) -> Vec<String> {
    SIGNS.iter().filter_map(|sign| sign(metrics)).collect()
}

/// First and last value; None of a curve with fewer than two.
fn ends(series: &Series) -> Option<(f64, f64)> {
    match (series.first(), series.last()) {
        (Some((_, first)), Some((_, last))) if series.len() > 1 => Some((*first, *last)),
        _ => None,
    }
}

/// Mean of the second half of a curve.
fn late_mean(series: &Series) -> Option<f64> {
    let late = &series[series.len() / 2..];
    (!late.is_empty()).then(|| late.iter().map(|(_, y)| y).sum::<f64>() / late.len() as f64)
}

/// Gradients of 0 throughout: no token was trained on, or all advantages were 0.
fn nothing_learnt(metrics: &MetricsFile) -> Option<String> {
    let norms = metrics.series("grad_norm");
    (!norms.is_empty() && norms.iter().all(|(_, norm)| *norm == 0.0)).then(|| {
        "the gradient was 0 at every logged step: nothing was learnt. Look with `lapidary preview` at what is trained on, \
         and in RL at the rewards"
            .into()
    })
}

/// A loss that ends above where it began, by more than a fifth: the learning rate is too high. Only where the loss is a
/// likelihood or a classification, which falls when a run goes well; a policy's loss hovers around 0.
fn loss_rises(metrics: &MetricsFile) -> Option<String> {
    if !metrics.series("reward").is_empty() {
        return None;
    }
    let (first, last) = ends(&metrics.series("loss"))?;
    (first > 0.0 && last > 1.2 * first).then(|| {
        format!("the loss rose from {first:.4} to {last:.4}: the learning rate may be too high (--learning_rate)")
    })
}

/// A held-out loss that ends a tenth above its least.
fn overfits(metrics: &MetricsFile) -> Option<String> {
    let held_out = metrics.series("eval_loss");
    let (_, last) = ends(&held_out)?;
    let (step, least) = *held_out.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    (least > 0.0 && last > 1.1 * least).then(|| {
        format!(
            "the held-out loss was {least:.4} at step {step} and is {last:.4} at the end: it learns its rows by heart; \
             train for fewer steps, or on more rows"
        )
    })
}

/// Preferences that are no better told than by a coin.
fn prefers_nothing(metrics: &MetricsFile) -> Option<String> {
    let accuracies = ["rewards/accuracies", "accuracy"].map(|name| metrics.series(name));
    let series = accuracies.iter().find(|series| !series.is_empty())?;
    let late = late_mean(series).filter(|late| series.len() > 1 && *late <= 0.5)?;
    Some(format!(
        "the better answer had the higher reward in {:.0} % of the pairs of the run's second half: no better than a coin. \
         Train longer, raise the learning rate, or look whether chosen and rejected are the right way round",
        100.0 * late
    ))
}

/// Groups whose completions all have the same reward teach nothing.
fn reward_without_spread(metrics: &MetricsFile) -> Option<String> {
    let late = late_mean(&metrics.series("frac_reward_zero_std")).filter(|late| *late >= 0.8)?;
    Some(format!(
        "{:.0} % of the groups had equal rewards in the run's second half and taught nothing: the prompts are too easy or \
         too hard, or the reward is too coarse",
        100.0 * late
    ))
}

/// Rewards that judge few completions.
fn unjudged(metrics: &MetricsFile) -> Option<String> {
    let names = metrics.names();
    let (name, late) = names
        .iter()
        .filter(|name| name.starts_with("rewards/") && name.ends_with("/unjudged"))
        .filter_map(|name| Some((name, late_mean(&metrics.series(name))?)))
        .find(|(_, late)| *late >= 0.5)?;
    let name = name.trim_start_matches("rewards/").trim_end_matches("/unjudged");
    Some(format!("the reward {name} had no opinion on {:.0} % of the completions", 100.0 * late))
}

/// Completions that never come to an end.
fn all_cut(metrics: &MetricsFile) -> Option<String> {
    let late = late_mean(&metrics.series("completions/clipped_ratio")).filter(|late| *late >= 0.95)?;
    Some(format!(
        "{:.0} % of the completions were cut at max_completion_length: raise it, or reward coming to an end",
        100.0 * late
    ))
}

/// Answers that become longer and longer while more and more of them are cut.
fn lengths_grow(metrics: &MetricsFile) -> Option<String> {
    let (first, last) = ends(&metrics.series("completions/mean_length"))?;
    let (cut_first, cut_last) = ends(&metrics.series("completions/clipped_ratio"))?;
    (last > 1.5 * first && cut_last > cut_first && cut_last > 0.3).then(|| {
        format!(
            "completions grew from {first:.0} to {last:.0} tokens, and {:.0} % are cut: the reward may pay for length",
            100.0 * cut_last
        )
    })
}

/// A policy that has left its reference: half a nat a token, or fifty a completion.
fn kl_runs_off(metrics: &MetricsFile) -> Option<String> {
    let (a_token, a_completion) = (metrics.series("kl"), metrics.series("objective/kl"));
    let is_policy = !metrics.series("reward").is_empty();
    let late = |series: &Series, limit: f64| late_mean(series).filter(|late| is_policy && *late > limit);
    let (kl, of) = match (late(&a_token, 0.5), late(&a_completion, 50.0)) {
        (Some(kl), _) => (kl, "token"),
        (None, Some(kl)) => (kl, "completion"),
        (None, None) => return None,
    };
    Some(format!(
        "the policy is {kl:.2} nats a {of} away from the reference: raise --beta (--kl_coef), lower the learning rate, or \
         give a --kl_budget"
    ))
}

/// A policy that says the same every time: its entropy is below a tenth of what it was.
fn entropy_collapses(metrics: &MetricsFile) -> Option<String> {
    if metrics.series("reward").is_empty() {
        return None;
    }
    let entropies = ["entropy", "policy/entropy_avg", "objective/entropy"].map(|name| metrics.series(name));
    let (first, last) = ends(entropies.iter().find(|series| !series.is_empty())?)?;
    (first > 0.02 && last < 0.1 * first).then(|| {
        format!(
            "the entropy fell from {first:.4} to {last:.4}: completions are all alike now and nothing new is tried; lower \
             the learning rate or the number of steps"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run with these curves, of the same length.
    fn metrics(curves: &[(&str, &[f64])]) -> MetricsFile {
        let dir = tempfile::tempdir().unwrap();
        let line = |step: usize| {
            let values = curves.iter().map(|(name, values)| format!(", \"{name}\": {:?}", values[step]));
            format!("{{\"step\": {}{}}}\n", step + 1, values.collect::<String>())
        };
        let text: String = (0..curves[0].1.len()).map(line).collect();
        std::fs::write(dir.path().join("metrics.jsonl"), text).unwrap();
        MetricsFile::open(dir.path()).unwrap()
    }

    /// Each sign, by a run that shows it and by one that just does not.
    #[test]
    fn signs_of_trouble() {
        let reward = ("reward", &[0.5, 0.5, 0.5, 0.5][..]);
        type Case<'a> = (&'a str, Vec<(&'a str, &'a [f64])>, Vec<(&'a str, &'a [f64])>);
        let cases: &[Case] = &[
            ("gradient was 0", vec![("grad_norm", &[0.0, 0.0])], vec![("grad_norm", &[0.0, 0.1])]),
            ("loss rose", vec![("loss", &[1.0, 1.3])], vec![("loss", &[1.0, 1.1])]),
            ("by heart", vec![("eval_loss", &[2.0, 1.0, 1.2])], vec![("eval_loss", &[2.0, 1.0, 1.05])]),
            ("than a coin", vec![("rewards/accuracies", &[0.0, 0.5])], vec![("rewards/accuracies", &[0.0, 0.6])]),
            ("than a coin", vec![("accuracy", &[0.4, 0.4])], vec![("accuracy", &[0.4, 0.9])]),
            (
                "equal rewards",
                vec![("frac_reward_zero_std", &[0.0, 0.0, 0.9, 0.9])],
                vec![("frac_reward_zero_std", &[1.0, 1.0, 0.7, 0.7])],
            ),
            ("reward f had no", vec![("rewards/f/unjudged", &[0.0, 0.9])], vec![("rewards/f/unjudged", &[0.9, 0.1])]),
            (
                "cut at max",
                vec![("completions/clipped_ratio", &[0.0, 1.0])],
                vec![("completions/clipped_ratio", &[1.0, 0.5])],
            ),
            (
                "grew from 10 to 40",
                vec![("completions/mean_length", &[10.0, 40.0]), ("completions/clipped_ratio", &[0.0, 0.5])],
                vec![("completions/mean_length", &[10.0, 40.0]), ("completions/clipped_ratio", &[0.0, 0.1])],
            ),
            ("nats a token", vec![reward, ("kl", &[0.0, 0.1, 0.6, 0.8])], vec![reward, ("kl", &[0.0, 0.1, 0.2, 0.3])]),
            (
                "nats a completion",
                vec![reward, ("objective/kl", &[0.0, 0.1, 60.0, 80.0])],
                vec![("objective/kl", &[0.0, 0.1, 60.0, 80.0])],
            ),
            (
                "entropy fell",
                vec![reward, ("entropy", &[1.0, 0.5, 0.1, 0.05])],
                vec![reward, ("entropy", &[1.0, 0.5, 0.3, 0.2])],
            ),
        ];
        for (said, ill, well) in cases {
            let found = warnings(&metrics(ill));
            assert!(found.len() == 1 && found[0].contains(said), "{said}: {found:?}");
            assert_eq!(warnings(&metrics(well)), Vec::<String>::new(), "{said}");
        }
    }
}
