//! How completions are drawn: the options of rollouts, and those of `generate` and `revise`, which stand over what the model's
//! makers say in generation_config.json. The parameters of sampling are declared once for both.
use super::given::Given;
use super::rl_values::Texts;
use super::spec::option_group;
use super::value::{ANY, above, at_least, between, share_above_zero};
use crate::text::StopStrings;
use engine::config::GenerationConfig;
use engine::generate::Sampling;
use serde_json::Value;
use std::path::PathBuf;

/// Declares two groups of options that share the parameters of sampling, which stand between the groups' own options:
/// ```text
/// name: type {
///     /// What it does in rollouts.
///     rollouts Type = "default", range;
///     /// What it does elsewhere, where generation_config.json has the default.
///     drawn range;
/// }
/// ```
macro_rules! sampling_parameters {
    (
        $(#[$about:meta])* pub struct $rollouts:ident $heading:literal {$($first:tt)*} {$($last:tt)*}
        $(#[$drawn_about:meta])* pub struct $drawn:ident $drawn_heading:literal {$($drawn_first:tt)*} {$($drawn_last:tt)*}
        $($name:ident: $type:ty {
            $(#[doc = $doc:literal])+
            rollouts $rollouts_type:ty = $default:tt, $range:expr;
            $(#[doc = $drawn_doc:literal])+
            drawn $drawn_range:expr;
        })*
    ) => {
        option_group! {
            $(#[$about])*
            pub struct $rollouts $heading {
                $($first)*
                $( $(#[doc = $doc])+ $name: $rollouts_type = $default, Trl, $range; )*
                $($last)*
            }
        }

        option_group! {
            $(#[$drawn_about])*
            pub struct $drawn $drawn_heading {
                $($drawn_first)*
                $( $(#[doc = $drawn_doc])+ $name: Option<$type> = none, Transformers, $drawn_range; )*
                $($drawn_last)*
            }
        }
    };
}

sampling_parameters! {
    /// How completions are drawn, and how they become optimiser steps.
    pub struct RolloutOptions "Rollouts" {
        /// Completions drawn of each prompt: a group.
        num_generations: usize = "8", Trl, at_least(1.0);
        /// Completions drawn of each prompt of eval_dataset; none for num_generations.
        num_generations_eval: Option<usize> = none, Trl, at_least(1.0), free;
        /// Most tokens of a completion; none for as many as the model's context leaves beside the longest prompt.
        max_completion_length | response_length | max_new_tokens: Option<usize> = "512", Trl, at_least(1.0);
        /// Completions drawn at once; none for as many as one optimiser step takes.
        generation_batch_size: Option<usize> = none, Trl, at_least(1.0);
        /// Batches of per_device_train_batch_size completions that are drawn at once; none for
        /// gradient_accumulation_steps.
        steps_per_generation: Option<usize> = none, Trl, at_least(1.0);
    } {
        /// Texts that end a completion as the end-of-sequence token does, each as it is written: blanks count.
        stop_strings: Texts = none, Transformers;
        /// Temperature of the completions that are evaluated, 0 for the likeliest tokens; none for temperature.
        eval_temperature: Option<f64> = none, Lapidary, at_least(0.0), free;
        /// A JSON file of prompts with completions (completion_ids) and their rewards, which are taken instead of
        /// drawing and judging.
        completions_file: Option<PathBuf> = none, Lapidary, ANY, free;
        /// Completions without an end are not trained on.
        mask_truncated_completions: bool = "false", Trl;
        /// A Jinja file to use as chat template instead of the model's.
        chat_template_path: Option<PathBuf> = none, Trl;
    }

    /// How answers are drawn. What is not given is as the model's generation_config.json has it.
    pub struct DrawingOptions "Drawing" {
        /// Most tokens to generate; none for what generation_config.json says, else 256.
        max_new_tokens: Option<usize> = none, Lapidary, at_least(1.0);
    } {
        /// Texts that end a completion as the end-of-sequence token does, each as it is written: blanks count. The completion ends
        /// with the token that completes one; none for those that generation_config.json names.
        stop_strings: Texts = none, Transformers;
        /// Seed of the sampling.
        seed: u64 = "42", Trl;
    }

    temperature: f64 {
        /// Divides the logits, in sampling and in the loss.
        rollouts f64 = "1", above(0.0);
        /// Divides the logits before sampling; 0 always takes the likeliest token. none for what generation_config.json
        /// says (its do_sample false is 0), else 1.
        drawn at_least(0.0);
    }
    top_k: usize {
        /// Sample from this many likeliest tokens; 0 for all.
        rollouts usize = "0", at_least(0.0);
        /// Sample from this many likeliest tokens, 0 for all; none for what generation_config.json says, else all.
        drawn at_least(0.0);
    }
    top_p: f64 {
        /// Sample from the likeliest tokens whose probabilities add up to this.
        rollouts f64 = "1", share_above_zero();
        /// Sample from the likeliest tokens whose probabilities add up to this; none for what generation_config.json says,
        /// else 1.
        drawn share_above_zero();
    }
    min_p: f64 {
        /// Sample from tokens at least this share as likely as the likeliest; none for all.
        rollouts Option<f64> = none, between(0.0, 1.0);
        /// Sample from tokens at least this share as likely as the likeliest, 0 for all; none for what
        /// generation_config.json says, else all.
        drawn between(0.0, 1.0);
    }
    repetition_penalty: f64 {
        /// Divides positive logits (multiplies negative ones) of tokens that occurred already; 1 for none.
        rollouts f64 = "1", above(0.0);
        /// Divides positive logits (multiplies negative ones) of tokens that occurred already, 1 for none; none for what
        /// generation_config.json says, else 1.
        drawn above(0.0);
    }
}

impl DrawingOptions {
    /// A line about each option that is given and changes nothing.
    pub(super) fn without_effect(&self, given: &Given) -> Vec<String> {
        if self.temperature != Some(0.0) {
            return Vec::new();
        }
        let names = ["top_k", "top_p", "min_p", "seed"].into_iter().filter(|name| given.differs(name));
        names.map(|name| format!("{name} has no effect: temperature 0 always takes the likeliest token")).collect()
    }

    /// The sampling of a model, without the tokens that end it, and one line that says what its own file decided.
    pub fn sampling(&self, model: &GenerationConfig) -> (Sampling, Option<String>) {
        let mut taken: Vec<String> = Vec::new();
        let mut of = |name: &str, given: Option<f64>, own: Option<f64>, neutral: f64| match (given, own) {
            (Some(given), _) => given,
            (None, Some(own)) => {
                if own != neutral {
                    taken.push(format!("{name} {own}"));
                }
                own
            }
            (None, None) => neutral,
        };
        let count = |n: Option<usize>| n.map(|n| n as f64);
        let likeliest = (model.do_sample == Some(false)).then_some(0.0);
        let temperature = of("temperature", self.temperature, likeliest.or(model.temperature), 1.0);
        let sampling = Sampling {
            temperature: temperature as f32,
            top_k: of("top_k", count(self.top_k), count(model.top_k), 0.0) as usize,
            top_p: of("top_p", self.top_p, model.top_p, 1.0) as f32,
            min_p: of("min_p", self.min_p, model.min_p, 0.0) as f32,
            repetition_penalty: of("repetition_penalty", self.repetition_penalty, model.repetition_penalty, 1.0) as f32,
            max_new_tokens: of("max_new_tokens", count(self.max_new_tokens), count(model.max_new_tokens), 256.0)
                as usize,
            seed: self.seed,
            ..Sampling::default()
        };
        let stops = if self.stop_strings.0.is_empty() { own_stop_strings(model) } else { Vec::new() };
        if !stops.is_empty() {
            taken.push(format!("stop_strings {stops:?}"));
        }
        let said = (!taken.is_empty()).then(|| format!("drawn as generation_config.json says: {}", taken.join(", ")));
        (sampling, said)
    }

    /// The texts that end a completion: those that are given, else those of the model's own file.
    pub fn stop_strings(&self, model: &GenerationConfig) -> StopStrings {
        let given = &self.stop_strings.0;
        StopStrings(if given.is_empty() { own_stop_strings(model) } else { given.clone() })
    }
}

/// `stop_strings` of a generation_config.json: a text, or a list of texts.
pub fn own_stop_strings(model: &GenerationConfig) -> Vec<String> {
    match model.raw.get("stop_strings") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(|text| text.as_str().map(String::from)).collect(),
        _ => Vec::new(),
    }
    .into_iter()
    .filter(|text| !text.is_empty())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(temperature: Option<f64>, top_k: Option<usize>) -> DrawingOptions {
        DrawingOptions {
            max_new_tokens: None,
            temperature,
            top_k,
            top_p: None,
            min_p: None,
            repetition_penalty: None,
            stop_strings: Texts::default(),
            seed: 1,
        }
    }

    #[test]
    fn a_models_own_sampling_holds_unless_an_option_says_otherwise() {
        let model =
            GenerationConfig { temperature: Some(0.6), top_k: Some(20), max_new_tokens: Some(9), ..Default::default() };
        let (own, said) = given(None, None).sampling(&model);
        assert_eq!((own.temperature, own.top_k, own.top_p, own.max_new_tokens), (0.6, 20, 1.0, 9));
        assert_eq!(
            said.as_deref(),
            Some("drawn as generation_config.json says: temperature 0.6, top_k 20, max_new_tokens 9")
        );
        let raw = serde_json::Map::from_iter([("stop_strings".to_string(), serde_json::json!(["\n", ""]))]);
        let stopping = GenerationConfig { raw, ..Default::default() };
        let (_, said) = given(None, None).sampling(&stopping);
        assert_eq!(said.as_deref(), Some("drawn as generation_config.json says: stop_strings [\"\\n\"]"));
        assert_eq!(given(None, None).stop_strings(&stopping).0, ["\n"]);
        let own = DrawingOptions { stop_strings: Texts(vec!["x".into()]), ..given(None, None) };
        assert_eq!(own.stop_strings(&stopping).0, ["x"]);
        assert_eq!(own.sampling(&stopping).1, None);
        let (asked, _) = given(Some(1.5), Some(0)).sampling(&model);
        assert_eq!((asked.temperature, asked.top_k), (1.5, 0));
        let greedy = GenerationConfig { do_sample: Some(false), ..model };
        assert_eq!(given(None, None).sampling(&greedy).0.temperature, 0.0);
        assert_eq!(given(Some(0.7), None).sampling(&greedy).0.temperature, 0.7);
        assert_eq!(
            given(None, None).sampling(&GenerationConfig::default()),
            (Sampling { seed: 1, ..Sampling::default() }, None)
        );
    }
}
