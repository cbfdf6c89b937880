//! How `generate` and `revise` draw answers: the options, over what the model's makers say in generation_config.json.
use super::spec::option_group;
use super::value::{above, at_least, between, share_above_zero};
use engine::config::GenerationConfig;
use engine::generate::Sampling;

option_group! {
    /// How answers are drawn. What is not given is as the model's generation_config.json has it.
    pub struct DrawingOptions "Drawing" {
        /// Most tokens to generate; none for what generation_config.json says, else 256.
        max_new_tokens: Option<usize> = none, Lapidary, at_least(1.0);
        /// Divides the logits before sampling; 0 always takes the likeliest token. none for what generation_config.json
        /// says (its do_sample false is 0), else 1.
        temperature: Option<f64> = none, Transformers, at_least(0.0);
        /// Sample from this many likeliest tokens, 0 for all; none for what generation_config.json says, else all.
        top_k: Option<usize> = none, Transformers, at_least(0.0);
        /// Sample from the likeliest tokens whose probabilities add up to this; none for what generation_config.json says,
        /// else 1.
        top_p: Option<f64> = none, Transformers, share_above_zero();
        /// Sample from tokens at least this share as likely as the likeliest, 0 for all; none for what
        /// generation_config.json says, else all.
        min_p: Option<f64> = none, Transformers, between(0.0, 1.0);
        /// Divides positive logits (multiplies negative ones) of tokens that occurred already, 1 for none; none for what
        /// generation_config.json says, else 1.
        repetition_penalty: Option<f64> = none, Transformers, above(0.0);
        /// Seed of the sampling.
        seed: u64 = "42", Trl;
    }
}

impl DrawingOptions {
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
        let said = (!taken.is_empty()).then(|| format!("drawn as generation_config.json says: {}", taken.join(", ")));
        (sampling, said)
    }
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
