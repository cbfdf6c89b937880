//! Attention windows by layer: what config.json says of them, and writing it back.
use super::ModelConfig;
use super::family::{Family, Windows};
use super::fields::Fields;
use crate::error::Result;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The window of each of `n_layers` layers; None sees all.
pub(super) fn parse(family: &Family, n_layers: usize, fields: &Fields) -> Result<Vec<Option<usize>>> {
    let off = match family.windows {
        Windows::None => true,
        Windows::All => false,
        Windows::Switched => !fields.is_on("use_sliding_window"),
    };
    if off {
        refuse_windowed_layers(fields)?;
        return Ok(vec![None; n_layers]);
    }
    // MistralConfig, Qwen2Config and Qwen3Config: sliding_window is 4096 where it is absent, and off where it is null.
    let window = match fields.count("sliding_window")? {
        None if !fields.has("sliding_window") => Some(4096),
        Some(0) => return Err(fields.error("`sliding_window` is 0; null turns it off")),
        window => window,
    };
    if family.windows == Windows::All {
        return Ok(vec![window; n_layers]);
    }
    match fields.texts("layer_types")? {
        None => {
            let first = fields.count("max_window_layers")?.unwrap_or(28);
            Ok((0..n_layers).map(|layer| window.filter(|_| layer >= first)).collect())
        }
        Some(types) if types.len() != n_layers => {
            Err(fields.error(format!("`layer_types` names {} layers, `num_hidden_layers` is {n_layers}", types.len())))
        }
        Some(types) => types.iter().map(|t| layer_window(t, window, fields)).collect(),
    }
}

/// Windows are off: no layer may ask for one.
fn refuse_windowed_layers(fields: &Fields) -> Result<()> {
    for kind in fields.texts("layer_types")?.unwrap_or_default() {
        layer_window(kind, None, fields)?;
    }
    Ok(())
}

fn layer_window(kind: &str, window: Option<usize>, fields: &Fields) -> Result<Option<usize>> {
    match kind {
        "full_attention" => Ok(None),
        "sliding_attention" if window.is_some() => Ok(window),
        "sliding_attention" => Err(fields.error("layer_types has \"sliding_attention\", but sliding_window is off")),
        other => Err(fields.unsupported(format!(
            "layer type \"{other}\" is not supported; supported are full_attention, sliding_attention"
        ))),
    }
}

/// Writes the windows of `config`, unless `out` says the same already.
pub(super) fn to_json(config: &ModelConfig, out: &mut Map<String, Value>) {
    let unchanged = parse(config.family, config.n_layers, &Fields::new(out, Path::new("")));
    if unchanged.is_ok_and(|windows| windows == config.layer_windows) {
        return;
    }
    let window = config.layer_windows.iter().flatten().max();
    if config.family.windows != Windows::None {
        out.insert("sliding_window".to_string(), json!(window));
    }
    if config.family.windows == Windows::Switched {
        out.insert("use_sliding_window".to_string(), json!(window.is_some()));
        let kind = |w: &Option<usize>| if w.is_some() { "sliding_attention" } else { "full_attention" };
        out.insert("layer_types".to_string(), config.layer_windows.iter().map(kind).collect());
    }
}
