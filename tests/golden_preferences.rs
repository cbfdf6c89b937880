//! Eight optimiser steps of TRL's preference trainers against lapidary's commands with the same options, on each device.
//!
//! Loss and gradient norm of each step must agree within 1e-3 for the first three steps, 5e-3 after; so must rewards,
//! margins and log-probabilities, and accuracies exactly.
#[macro_use]
mod common;

use common::Trajectory;

/// Metrics of either sign.
const SIGNED: &[&str] = &[
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "nll_loss",
    "log_odds_ratio",
    "log_odds_chosen",
    "kl",
    "margin",
    "min_reward",
    "mean_reward",
    "max_reward",
];

/// Runs a trajectory's options on `device` and compares every step.
fn compare(name: &str, device: &str) {
    let Some(expected) = Trajectory::named(name) else { return };
    let metrics = expected.run(expected.command(), device, |_| ());
    let about = format!("{name} on {device}");
    expected.check_steps(&metrics, &about);
    expected.check_rewards(&metrics, &about, SIGNED, 0.02);
    expected.check_rewards(&metrics, &about, &["rewards/accuracies", "accuracy"], 0.0);
    expected.check_evaluations(&metrics, &about, 0.1);
    if !["orpo", "cpo"].contains(&expected.command()) {
        // Those two take the mean over padding too.
        expected.check_rewards(&metrics, &about, &["logits/chosen", "logits/rejected"], 0.1);
    }
}

trajectories!(
    |name| {
        let family = name.split('_').next().unwrap_or_default();
        ["dpo", "kto", "orpo", "cpo", "simpo", "alphapo", "reward"].contains(&family)
    };
    alphapo,
    cpo,
    cpo_hinge,
    cpo_ipo,
    cpo_smoothed,
    dpo_accumulate,
    dpo_alpha,
    dpo_aot,
    dpo_aot_smoothed,
    dpo_aot_unpaired,
    dpo_apo_down,
    dpo_apo_zero,
    dpo_bco_pair,
    dpo_beta_half,
    dpo_discopop,
    dpo_dpop,
    dpo_dpop_qwen2,
    dpo_evaluate,
    dpo_exo_pair,
    dpo_forward_kl,
    dpo_hinge,
    dpo_implicit,
    dpo_ipo,
    dpo_js,
    dpo_keep_end,
    dpo_ld,
    dpo_lora,
    dpo_mistral,
    dpo_mixed,
    dpo_nca_pair,
    dpo_precompute,
    dpo_qwen2,
    dpo_robust,
    dpo_sigmoid,
    dpo_sigmoid_norm,
    dpo_sppo_hard,
    dpo_sync,
    dpo_truncated,
    dpo_wpo,
    kto,
    kto_apo_zero,
    kto_pairs,
    kto_weights,
    orpo,
    orpo_implicit,
    reward_bt,
    reward_centered,
    reward_evaluate,
    reward_filtered,
    reward_margin,
    simpo,
);
