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
            "use_liger_kernel",
            "liger_kernel_config",
            "torch_compile*",
            "use_cache",
            "jit_mode_eval",
            "use_ipex",
            "pad_to_multiple_of",
            "padding_free",
            "pad_token",
            "neftune_post_forward_hook",
            "gradient_checkpointing_kwargs",
            "activation_checkpointing_kwargs",
            "activation_offloading",
            "group_by_length",
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
            "dataset_batch_size",
            "remove_unused_columns",
            "label_names",
            "dataset_streaming",
        ],
    ),
    (
        "metrics are in output_dir/metrics.jsonl",
        &[
            "report_to",
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
    ("nothing is uploaded", &["push_to_hub*", "hub_*"]),
    ("no code from a model repository is ever run", &["trust_remote_code"]),
    ("files are local", &["model_revision"]),
    ("a run is always reproducible", &["full_determinism", "use_deterministic_algorithms"]),
    ("checkpoints and weights are safetensors", &["save_safetensors", "enable_jit_checkpoint"]),
    ("it is decided by the command", &["do_train", "do_eval", "do_predict", "lora_task_type"]),
    (
        "it concerns PyTorch only",
        &[
            "torch_empty_cache_steps",
            "ignore_data_skip",
            "restore_callback_states_from_checkpoint",
            "bnb_4bit_*",
            "use_bnb_nested_quant",
            "env",
            "metric_for_best_model",
            "greater_is_better",
            "auto_find_batch_size",
            "past_index",
            "padding_value",
            "label_pad_token_id",
        ],
    ),
];

/// Options that would change the run, and the values that do not; null is always one.
const NOT_SUPPORTED: &[(&str, &[&str])] = &[
    ("label_smoothing_factor", &["0", "0.0"]),
    ("neftune_noise_alpha", &[]),
    ("optim_args", &[]),
    ("optim_target_modules", &[]),
    ("data_seed", &[]),
    ("router_aux_loss_coef", &[]),
    ("model_init_kwargs", &["{}"]),
    ("dataset_kwargs", &["{}"]),
    ("datasets", &["[]"]),
    ("lora_target_parameters", &[]),
    ("load_in_8bit", &["false"]),
    ("dataloader_drop_last", &["false"]),
    ("save_only_model", &["false"]),
    ("load_best_model_at_end", &["false"]),
    ("generation_kwargs", &["{}"]),
    ("entropy_coef", &["0", "0.0"]),
    ("use_adaptive_entropy", &["false"]),
    ("off_policy_mask_threshold", &[]),
    ("chat_template_kwargs", &["{}"]),
    ("eval_delay", &["0", "0.0"]),
    ("generate_during_eval", &["false"]),
    ("is_encoder_decoder", &["false"]),
    ("max_prompt_length", &[]),
    ("ref_model_init_kwargs", &["{}"]),
    ("base_model_attribute_name", &["model"]),
    ("force_use_ref_model", &["false"]),
    ("reference_free", &["false"]),
    ("rpo_alpha", &[]),
    ("prompt_sample_size", &["1024"]),
    ("min_density_ratio", &["0.5"]),
    ("max_density_ratio", &["10.0", "10"]),
];

/// What becomes of an option of TRL that is not declared here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Accepted; the text says why it has no effect.
    WithoutEffect(&'static str),
    /// Only these values are accepted.
    NotSupported(&'static [&'static str]),
}

/// What is known about an option of TRL that is not declared here.
pub fn foreign(name: &str) -> Option<Foreign> {
    let is_called = |known: &str| known.strip_suffix('*').map_or(known == name, |prefix| name.starts_with(prefix));
    if let Some((_, neutral)) = NOT_SUPPORTED.iter().find(|(known, _)| *known == name) {
        return Some(Foreign::NotSupported(neutral));
    }
    let reason = WITHOUT_EFFECT.iter().find(|(_, names)| names.iter().any(|known| is_called(known)));
    reason.map(|(reason, _)| Foreign::WithoutEffect(reason))
}

impl Foreign {
    /// Why the option has no effect, nothing to say, or what is wrong with it.
    pub fn judge(self, raw: &Raw) -> Result<Option<&'static str>, String> {
        match self {
            Foreign::WithoutEffect(reason) => Ok(Some(reason).filter(|_| !is_off(raw))),
            Foreign::NotSupported(neutral) => {
                let is_neutral = match raw {
                    Raw::Null => true,
                    Raw::Text(text) => {
                        let is_off = neutral.contains(&"false") && bool::parse(raw, ANY) == Some(false);
                        is_off || neutral.contains(&text.as_str()) || matches!(text.as_str(), "" | "none" | "None")
                    }
                    Raw::List(items) => items.is_empty() && neutral.contains(&"[]"),
                    Raw::Other(text) => neutral.contains(&text.as_str()),
                };
                if is_neutral { Ok(None) } else { Err(format!("{} is not supported yet; leave it out", raw.show())) }
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
        assert!(matches!(foreign("neftune_noise_alpha"), Some(Foreign::NotSupported(_))));
        assert_eq!(foreign("learning_rat"), None);
        assert_eq!(foreign("bf"), None);
    }

    #[test]
    fn neutral_values() {
        for (name, raw, fine) in [
            ("label_smoothing_factor", Raw::Text("0.0".into()), true),
            ("label_smoothing_factor", Raw::Text("0.1".into()), false),
            ("neftune_noise_alpha", Raw::Null, true),
            ("neftune_noise_alpha", Raw::Text("5".into()), false),
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
