//! Inverse frequencies of the rotary embedding, with the scalings of long-context models.
use crate::config::{ModelConfig, RopeScaling};
use crate::portable::power;
use std::f64::consts::TAU;

/// f_i = θ^(−2i/r) for i < r/2, then scaled: [r/2]. Rounded to f32 where transformers rounds.
pub fn inverse_frequencies(config: &ModelConfig) -> Vec<f32> {
    let r = config.head_size;
    let plain = (0..r / 2).map(|i| {
        let exponent = (2 * i) as f32 / r as f32;
        1.0 / (power(config.rope.theta, f64::from(exponent)) as f32)
    });
    match &config.rope.scaling {
        RopeScaling::None => plain.collect(),
        RopeScaling::Linear { factor } => plain.map(|f| f / *factor as f32).collect(),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let original = *original_max_position_embeddings as f64;
            plain.map(|f| llama3(f64::from(f), *factor, *low_freq_factor, *high_freq_factor, original) as f32).collect()
        }
    }
}

/// Llama 3.1: long waves (λ > L/low) are slowed by `factor`, short ones (λ < L/high) kept, between them a blend:
/// f' = (1 − s)·f/factor + s·f, s = (L/λ − low)/(high − low), λ = 2π/f, L the original context length.
fn llama3(f: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let wavelength = TAU / f;
    if wavelength < original / high {
        f
    } else if wavelength > original / low {
        f / factor
    } else {
        let s = (original / wavelength - low) / (high - low);
        (1.0 - s) * f / factor + s * f
    }
}
