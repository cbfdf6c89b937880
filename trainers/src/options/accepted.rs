//! Options of TRL and transformers that are not ours: those without meaning here are accepted with a note, those that
//! would change the run must have the value that changes nothing.
use super::value::{ANY, OptionValue, Raw};

/// Why an option has no effect. Names that end in `*` stand for all that begin so.
const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    (
        "arithmetic is float32 (the type of frozen weights is dtype)",
        &["bf16", "bf16_full_eval", "fp16_full_eval", "tf32", "half_precision_backend", "fp16_opt_level"],
    ),
    (
        "there is one way to compute attention and the rest of the model",
        &[
            "attn_implementation",
            "use_flash_attention_2",
            "use_liger_kernel",
            "liger_kernel_config",
            "torch_compile*",
            "use_cache",
            "jit_mode_eval",
            "use_ipex",
            "pad_to_multiple_of",
            "padding_free",
            "pad_token",
            "gradient_checkpointing_kwargs",
            "activation_checkpointing_kwargs",
            "activation_offloading",
            "length_column_name",
        ],
    ),
    (
        "one process trains on one device",
        &[
            "ddp_*",
            "fsdp*",
            "deepspeed",
            "local_rank",
            "accelerator_config",
            "parallelism_config",
            "use_vllm",
            "vllm_*",
            "average_tokens_across_devices",
            "log_on_each_node",
            "save_on_each_node",
            "ignore_bias_buffers",
            "accelerate_config",
            "dispatch_batches",
            "split_batches",
            "tpu_*",
            "no_cuda",
            "use_mps_device",
            "ray_scope",
            "sagemaker*",
        ],
    ),
    (
        "rows are read and tokenised once, before training",
        &[
            "dataloader_*",
            "dataset_num_proc",
            "preprocessing_num_workers",
            "dataset_batch_size",
            "remove_unused_columns",
            "label_names",
        ],
    ),
    (
        "metrics are in output_dir/metrics.jsonl",
        &[
            "run_name",
            "project",
            "trackio_*",
            "logging_dir",
            "log_level*",
            "disable_tqdm",
            "include_num_input_tokens_seen",
            "include_tokens_per_second",
            "include_for_metrics",
            "logging_nan_inf_filter",
            "skip_memory_metrics",
            "debug",
            "prediction_loss_only",
            "batch_eval_metrics",
            "eval_do_concat_batches",
            "eval_use_gather_object",
            "eval_accumulation_steps",
        ],
    ),
    (
        "completions and rewards are in output_dir/samples.jsonl",
        &[
            "log_completions",
            "log_completions_hub_repo",
            "num_completions_to_print",
            "log_unique_prompts",
            "log_multimodal",
        ],
    ),
    (
        "completions are drawn by the one generation engine",
        &[
            "use_transformers_paged",
            "use_transformers_continuous_batching",
            "transformers_continuous_batching_config",
            "ds3_gather_for_generation",
            "cache_implementation",
            "cast_lm_head_to_fp32",
        ],
    ),
    ("no tools are called in rollouts", &["max_tool_calling_iterations"]),
    (
        "they steer use_adaptive_entropy, which is off",
        &["entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"],
    ),
    ("whether a run fits into memory is checked before its first step", &["auto_find_batch_size"]),
    ("each push is awaited", &["hub_always_push"]),
    ("no code from a model repository is ever run", &["trust_remote_code"]),
    ("a run is always reproducible", &["full_determinism", "use_deterministic_algorithms"]),
    ("checkpoints and weights are safetensors", &["save_safetensors", "enable_jit_checkpoint"]),
    ("it is decided by the command", &["do_train", "do_eval", "do_predict", "lora_task_type"]),
    (
        "it concerns PyTorch only",
        &[
            "torch_empty_cache_steps",
            "restore_callback_states_from_checkpoint",
            "bnb_4bit_*",
            "use_bnb_nested_quant",
            "env",
            "past_index",
            "padding_value",
            "label_pad_token_id",
        ],
    ),
];

const ENTROPY: &str = "the entropy of tokens is measured, but no gradient flows through it";
const SETTLED: &str = "a model is opened as its files say and as dtype says";
const ONE_SEED: &str = "one seed decides all that is random: give seed";
const SIZES: &str = "BCO here has no classifier of prompts, whose density ratios this is about";

const RECIPES: &str = "it is of the alignment handbook's scripts; TRL's datasets is a list of path, name, split, columns, fraction, \
                       with test_split_size beside it";

const RENAMED_HUB: &str = "transformers has it no longer: give org/name as hub_model_id, and hub_token or HF_TOKEN";

/// Options that would change the run: the values that do not (null is always one), and why others are refused.
const NOT_SUPPORTED: &[(&str, &[&str], &str)] = &[
    ("label_smoothing_factor", &["0", "0.0"], "the loss of a token is that of its target alone"),
    ("optim_args", &[], "it is for optimisers that are not here; adam_beta1, adam_beta2, adam_epsilon are options"),
    ("optim_target_modules", &[], "it is for GaLore and APOLLO, which are not here"),
    ("data_seed", &[], ONE_SEED),
    ("router_aux_loss_coef", &["0", "0.0", "0.001"], "it is for mixtures of experts, which are not here"),
    ("model_init_kwargs", &["{}"], SETTLED),
    ("hub_revision", &["main"], "a push makes a commit on the branch main"),
    ("push_to_hub_model_id", &[], RENAMED_HUB),
    ("push_to_hub_organization", &[], RENAMED_HUB),
    ("push_to_hub_token", &[], RENAMED_HUB),
    ("dataset_kwargs", &["{}", "{\"skip_prepare_dataset\":false}"], "rows are prepared in one way"),
    ("lora_target_parameters", &[], "adapters are for whole linear layers: name them in lora_target_modules"),
    ("load_in_8bit", &["false"], "weights are not held in 8 bits; --dtype bfloat16 halves the frozen ones"),
    ("dataloader_drop_last", &["false"], "the last batch of an epoch may be smaller, and all rows are trained on"),
    (
        "group_by_length",
        &["false"],
        "it would put rows of one length together to save padding, and there is no padding here",
    ),
    ("ignore_data_skip", &["false"], "a resumed run goes on with the rows that it had not seen, to the same bits"),
    (
        "save_only_model",
        &["false"],
        "a checkpoint is what an interrupted run goes on from; save_strategy no writes none",
    ),
    ("generation_kwargs", &["{}"], "each parameter of sampling that there is has an option of its own"),
    ("entropy_coef", &["0", "0.0"], ENTROPY),
    ("use_adaptive_entropy", &["false"], ENTROPY),
    (
        "off_policy_mask_threshold",
        &[],
        "sequences are not masked by their KL; delta bounds the ratios of single tokens",
    ),
    (
        "chat_template_kwargs",
        &["{}"],
        "templates are given messages and tools only; chat_template_path takes a changed one",
    ),
    ("chat_template", &[], "write the template to a file, and give that as chat_template_path"),
    ("dataset_mixture", &[], RECIPES),
    ("dataset_mixer", &[], RECIPES),
    ("dataset_splits", &[], RECIPES),
    ("eval_delay", &["0", "0.0"], "evaluations begin with the first that is due"),
    ("generate_during_eval", &["false"], "evaluations of pairs draw no answers; lapidary generate does"),
    ("is_encoder_decoder", &["false"], "models here are decoders"),
    ("max_prompt_length", &[], "TRL 1.16 has it no longer: max_length is the limit of prompt and answer together"),
    ("ref_model_init_kwargs", &["{}"], SETTLED),
    ("base_model_attribute_name", &["model"], "models here are built in one way"),
    ("force_use_ref_model", &["false"], "with an adapter the reference is the model without it"),
    ("reference_free", &["false"], "a loss without a reference is orpo's and cpo's"),
    ("rpo_alpha", &[], "TRL 1.16 has it no longer: loss_type [sigmoid, sft] with loss_weights [1, α] is the same"),
    ("prompt_sample_size", &["1024"], SIZES),
    ("min_density_ratio", &["0.5"], SIZES),
    ("max_density_ratio", &["10.0", "10"], SIZES),
];

/// What becomes of an option of TRL that is not declared here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Accepted; the text says why it has no effect.
    WithoutEffect(&'static str),
    /// Only these values are accepted; the text says why.
    NotSupported(&'static [&'static str], &'static str),
}

/// What is known about an option of TRL that is not declared here.
pub fn foreign(name: &str) -> Option<Foreign> {
    let is_called = |known: &str| known.strip_suffix('*').map_or(known == name, |prefix| name.starts_with(prefix));
    if let Some((_, neutral, why)) = NOT_SUPPORTED.iter().find(|(known, ..)| *known == name) {
        return Some(Foreign::NotSupported(neutral, why));
    }
    let reason = WITHOUT_EFFECT.iter().find(|(_, names)| names.iter().any(|known| is_called(known)));
    reason.map(|(reason, _)| Foreign::WithoutEffect(reason))
}

impl Foreign {
    /// Why the option has no effect, nothing to say, or what is wrong with it.
    pub fn judge(self, raw: &Raw) -> Result<Option<&'static str>, String> {
        match self {
            Foreign::WithoutEffect(reason) => Ok(Some(reason).filter(|_| !is_off(raw))),
            Foreign::NotSupported(neutral, why) => {
                let is_neutral = match raw {
                    Raw::Null => true,
                    Raw::Text(text) => {
                        let is_off = neutral.contains(&"false") && bool::parse(raw, ANY) == Some(false);
                        is_off || neutral.contains(&text.as_str()) || matches!(text.as_str(), "" | "none" | "None")
                    }
                    Raw::List(items) => items.is_empty() && neutral.contains(&"[]"),
                    Raw::Other(text) => neutral.contains(&text.as_str()),
                };
                if is_neutral { Ok(None) } else { Err(format!("{} is refused: {why}", raw.show())) }
            }
        }
    }
}

/// Switched off: without effect wherever it is written.
fn is_off(raw: &Raw) -> bool {
    match raw {
        Raw::Null => true,
        Raw::Text(text) => matches!(text.to_ascii_lowercase().as_str(), "" | "none" | "false" | "no"),
        Raw::List(items) => items.is_empty(),
        Raw::Other(_) => false,
    }
}

/// Options without effect, gathered by the reason: one note for each.
#[derive(Debug, Default)]
pub struct WithoutEffect(Vec<(&'static str, Vec<String>)>);

impl WithoutEffect {
    /// Notes that `name` was given; the same name counts once.
    pub fn add(&mut self, name: &str, reason: &'static str) {
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) if names.iter().any(|known| known == name) => {}
            Some((_, names)) => names.push(name.into()),
            None => self.0.push((reason, vec![name.into()])),
        }
    }
    /// A line for each reason, with the names of all options it is true of.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(reason, names)| {
            let verb = if names.len() == 1 { "has" } else { "have" };
            format!("{} {verb} no effect: {reason}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown() {
        assert!(matches!(foreign("bf16"), Some(Foreign::WithoutEffect(_))));
        assert!(matches!(foreign("dataloader_num_workers"), Some(Foreign::WithoutEffect(_))));
        assert!(matches!(foreign("fsdp"), Some(Foreign::WithoutEffect(_))));
        assert!(matches!(foreign("label_smoothing_factor"), Some(Foreign::NotSupported(..))));
        assert_eq!(foreign("learning_rat"), None);
        assert_eq!(foreign("bf"), None);
    }

    #[test]
    fn neutral_values() {
        for (name, raw, fine) in [
            ("label_smoothing_factor", Raw::Text("0.0".into()), true),
            ("label_smoothing_factor", Raw::Text("0.1".into()), false),
            ("optim_args", Raw::Null, true),
            ("optim_args", Raw::Text("rank=5".into()), false),
            ("load_in_8bit", Raw::Text("False".into()), true),
            ("load_in_8bit", Raw::Text("true".into()), false),
            ("lora_target_parameters", Raw::List(vec!["mlp.experts.up_proj".into()]), false),
            ("model_init_kwargs", Raw::Other("{}".into()), true),
        ] {
            let known = foreign(name).expect("known");
            assert_eq!(known.judge(&raw).is_ok(), fine, "{name} {raw:?}");
        }
    }
}
