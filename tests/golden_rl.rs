//! Eight optimiser steps of TRL's GRPOTrainer and RLOOTrainer on fixed completions against `lapidary grpo` and `rloo`.
//!
//! Loss, gradient norm, KL, entropy and clip ratios of each step must agree within 1e-3 for the first three steps, 5e-3
//! after. Shares are counts of tokens: one token near the edge of the clip range may fall either way.
#[macro_use]
mod common;

use common::Trajectory;
use serde_json::Value;

/// What a number may differ by besides the relative tolerance: rounding of sums that cancel (a loss whose advantages sum
/// to 0; TRL's own is 10⁻⁸ there), and a token of a step's 60 for shares.
fn absolute(name: &str) -> f64 {
    match name {
        "loss" | "kl" => 1e-5,
        _ if name.starts_with("clip_ratio/") && name.ends_with("mean") => 0.02,
        _ if name.starts_with("clip_ratio/") => 0.15,
        "cispo_clip_ratio" => 0.02,
        _ => 1e-6,
    }
}

const EXACT: [&str; 12] = [
    "reward",
    "reward_std",
    "rewards/reward_fn/mean",
    "rewards/reward_fn/std",
    "frac_reward_zero_std",
    "num_tokens",
    "completions/mean_length",
    "completions/max_length",
    "completions/min_length",
    "completions/mean_terminated_length",
    "completions/clipped_ratio",
    "learning_rate",
];

fn compare(name: &str, device: &str) {
    let Some(expected) = Trajectory::named(name) else { return };
    let command = if name.starts_with("rloo") { "rloo" } else { "grpo" };
    let metrics = expected.run(command, device, |_| ());
    let steps = expected.value["steps"].as_object().expect("steps");
    assert_eq!(metrics.len(), steps["loss"].as_array().expect("losses").len(), "{name}: logged steps");
    let mut compared = 0;
    for (metric, series) in steps {
        let is_exact = EXACT.contains(&metric.as_str());
        let is_measured = ["loss", "grad_norm", "kl", "entropy", "cispo_clip_ratio", "vespo/phi_seq_mean"]
            .contains(&metric.as_str())
            || metric.starts_with("clip_ratio/");
        // TRL shuffles a generation over its micro-batches, so that a mean of their means is another; the step is not.
        if name.ends_with("_accumulate") && !is_exact && !["loss", "grad_norm"].contains(&metric.as_str()) {
            continue;
        }
        for (step, value) in series.as_array().expect("a series").iter().enumerate() {
            let Some(wanted) = value.as_f64().filter(|_| is_exact || is_measured) else { continue };
            let found = metrics[step].get(metric).and_then(Value::as_f64).unwrap_or(f64::NAN);
            let (relative, floor) = match (is_exact, step < 3) {
                (true, _) => (1e-5, 1e-7),
                // φ's slope in the log-ratio of a completion is k − λ w: rounding is multiplied by up to some fifty.
                (false, true) if name == "grpo_loss_vespo" => (3e-3, absolute(metric)),
                (false, true) => (1e-3, absolute(metric)),
                (false, false) => (5e-3, absolute(metric)),
            };
            let step = step + 1;
            assert!(
                (found - wanted).abs() <= relative * wanted.abs() + floor,
                "{name} on {device}: step {step}: {metric} is {found}, {wanted} in TRL"
            );
            compared += 1;
        }
    }
    assert!(compared >= 8 * 2, "{name}: only {compared} numbers compared");
}

trajectories!(
    |name| name.starts_with("grpo_") || name.starts_with("rloo_");
    grpo_accumulate,
    grpo_clip_higher,
    grpo_dapo,
    grpo_delta,
    grpo_gspo,
    grpo_kl,
    grpo_loss_bnpo,
    grpo_loss_cispo,
    grpo_loss_dapo,
    grpo_loss_dr_grpo,
    grpo_loss_grpo,
    grpo_loss_luspo,
    grpo_loss_sapo,
    grpo_loss_vespo,
    grpo_mask_truncated,
    grpo_qwen3,
    grpo_scale_batch,
    grpo_scale_none,
    grpo_top_entropy,
    rloo_accumulate,
    rloo_iterations,
    rloo_kl0,
);
