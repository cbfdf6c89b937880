//! `lapidary diff`: what two runs were made from and with, and the first number of theirs that differs.
use super::verify::{manifest_of, println};
use crate::error::{Error, Result};
use crate::options::DiffOptions;
use crate::run::durable::io_error;
use crate::run::parting::{Compared, Parting, compare};
use crate::run::{CONFIG, FileHash, Manifest, MetricsFile};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Prints a line a difference.
pub fn run(options: &DiffOptions) -> Result<()> {
    let [first, second] = &options.differ.run_dirs.0[..] else {
        return Err(Error::input("run_dirs are two directories"));
    };
    let (a, b) = (manifest_of(first)?, manifest_of(second)?);
    let mut lines = about(&a, &b);
    lines.extend(options_apart(&config_of(first)?, &config_of(second)?));
    let found = compare(&MetricsFile::open(first)?, &MetricsFile::open(second)?, u64::MAX, options.differ.tolerance);
    lines.push(said(&found));
    lines.extend(weights(&a, &b));
    lines.iter().try_for_each(|line| println(line))
}

/// What the manifests say about program, device, seed and inputs, where they differ.
pub fn about(a: &Manifest, b: &Manifest) -> Vec<String> {
    let mut lines = Vec::new();
    let seeds = (a.seed.to_string(), b.seed.to_string());
    for (what, one, other) in [
        ("command", &a.command, &b.command),
        ("version", &a.lapidary, &b.lapidary),
        ("build", &a.build, &b.build),
        ("device", &a.device, &b.device),
        ("seed", &seeds.0, &seeds.1),
    ] {
        if one != other {
            lines.push(format!("{what}: {one} and {other}"));
        }
    }
    let nothing = BTreeMap::new();
    let roles = a.inputs.keys().chain(b.inputs.keys().filter(|role| !a.inputs.contains_key(*role)));
    for role in roles {
        let (one, other) = (a.inputs.get(role).unwrap_or(&nothing), b.inputs.get(role).unwrap_or(&nothing));
        lines.extend(files_apart(one, other).into_iter().map(|line| format!("{role}: {line}")));
    }
    lines
}

/// Files that one of the two lacks, or that have another content.
fn files_apart(one: &BTreeMap<String, FileHash>, other: &BTreeMap<String, FileHash>) -> Vec<String> {
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    let line = |name: &String| match (one.get(name), other.get(name)) {
        (Some(a), Some(b)) if a == b => None,
        (Some(_), Some(_)) => Some(format!("{name} has another content")),
        (Some(_), None) => Some(format!("{name} is the first run's alone")),
        _ => Some(format!("{name} is the second run's alone")),
    };
    names.filter_map(line).collect()
}

fn config_of(run: &Path) -> Result<Map<String, Value>> {
    let path = run.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|e| io_error(&path, "read", e))?;
    serde_saphyr::from_str(&text).map_err(|e| Error::file(&path, format!("is no YAML: {e}")))
}

/// Options of different value. Where the two runs were written to is no difference between them.
fn options_apart(a: &Map<String, Value>, b: &Map<String, Value>) -> Vec<String> {
    let show = |value: Option<&Value>| value.map_or("absent".to_string(), Value::to_string);
    let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
    let differ = names.filter(|name| *name != "output_dir" && a.get(*name) != b.get(*name));
    differ.map(|name| format!("{name}: {} and {}", show(a.get(name)), show(b.get(name)))).collect()
}

/// A comparison of numbers in one line.
pub fn said(found: &Compared) -> String {
    let show = |value: &Option<Value>| value.as_ref().map_or("nothing".to_string(), Value::to_string);
    match (&found.parting, found.last_step) {
        (None, None) => "neither run has logged a number".into(),
        (None, Some(step)) => format!("all {} numbers up to step {step} are the same", found.n_numbers),
        (Some(Parting { step, metric, first, second }), _) => format!(
            "the numbers part at step {step}: {metric} is {} and {} ({} numbers before it are the same)",
            show(first),
            show(second),
            found.n_numbers
        ),
    }
}

/// Whether two finished runs have made the same files.
pub fn weights(a: &Manifest, b: &Manifest) -> Vec<String> {
    let weights = |m: &Manifest| -> BTreeMap<String, FileHash> {
        m.outputs
            .iter()
            .filter(|(name, _)| name.ends_with(".safetensors"))
            .map(|(n, h)| (n.clone(), h.clone()))
            .collect()
    };
    let (one, other) = (weights(a), weights(b));
    match (one.is_empty() || other.is_empty(), files_apart(&one, &other)) {
        (true, _) => vec![],
        (false, apart) if apart.is_empty() => vec!["the finished weights have the same bits".into()],
        (false, apart) => apart.into_iter().map(|line| format!("finished weights: {line}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_and_files_that_differ() {
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        let a = map(json!({"learning_rate": 0.1, "output_dir": "a", "seed": 1, "old": 3}));
        let b = map(json!({"learning_rate": 0.2, "output_dir": "b", "seed": 1, "new": null}));
        assert_eq!(options_apart(&a, &b), ["learning_rate: 0.1 and 0.2", "old: 3 and absent", "new: absent and null"]);
        let files = |names: &[(&str, &str)]| -> BTreeMap<String, FileHash> {
            let hash = |text: &str| FileHash { bytes: 1, sha256: text.into() };
            names.iter().map(|(name, text)| (name.to_string(), hash(text))).collect()
        };
        let apart =
            files_apart(&files(&[("a", "1"), ("b", "2"), ("c", "3")]), &files(&[("a", "1"), ("b", "x"), ("d", "4")]));
        assert_eq!(apart, ["b has another content", "c is the first run's alone", "d is the second run's alone"]);
    }
}
