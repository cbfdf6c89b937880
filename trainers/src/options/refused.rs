//! Values that transformers and TRL know and that are refused, with the reason.

/// Another algorithm, so another run.
const OTHER_OPTIMISER: &str = "another algorithm; the optimisers here are adamw (decoupled weight decay) and sgd";

/// (option, its values, why); a value that ends in `*` stands for all that begin so.
const VALUES: &[(&str, &[&str], &str)] = &[
    (
        "lr_scheduler_type",
        &["reduce_lr_on_plateau", "greedy"],
        "it goes by what is measured during the run; the schedules here are functions of the step alone, so that a run can \
         be resumed to the same bits",
    ),
    (
        "optim",
        &[
            "adafactor",
            "adagrad",
            "ademamix*",
            "paged_ademamix*",
            "lion*",
            "paged_lion*",
            "rmsprop*",
            "galore*",
            "lomo",
            "adalomo",
            "grokadamw",
            "schedule_free*",
            "apollo*",
            "stable_adamw",
        ],
        OTHER_OPTIMISER,
    ),
    (
        "train_sampling_strategy",
        &["group_by_length", "batch_rebalance"],
        "it puts rows of one length together to save padding, and there is no padding here; random is the shuffled order",
    ),
    (
        "save_strategy",
        &["best"],
        "checkpoints are what an interrupted run goes on from, so they are written at fixed steps; load_best_model_at_end \
         keeps the best",
    ),
    (
        "hub_strategy",
        &["checkpoint", "all_checkpoints"],
        "a checkpoint is for going on with the run on this machine; every_save pushes its model",
    ),
];

/// Why a value of an option is refused, if transformers or TRL know it.
pub fn refused(option: &str, value: &str) -> Option<&'static str> {
    let is = |known: &str| known.strip_suffix('*').map_or(known == value, |prefix| value.starts_with(prefix));
    VALUES.iter().find(|(name, values, _)| *name == option && values.iter().any(|v| is(v))).map(|(_, _, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_have_a_reason() {
        assert_eq!(refused("optim", "lion_8bit"), Some(OTHER_OPTIMISER));
        assert!(refused("lr_scheduler_type", "greedy").is_some());
        assert_eq!((refused("optim", "adamw"), refused("lr_scheduler_type", "lion_8bit")), (None, None));
    }
}
