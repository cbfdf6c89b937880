//! Eight optimiser steps of reward-ranked fine-tuning in plain PyTorch (tests/golden/generator/raft.py) on fixed
//! completions against `lapidary raft`: loss, gradient norm and rewards of each step, and the weights at the end.
#[macro_use]
mod common;

use common::{Expected, Trajectory};
use std::path::Path;

/// The norm of every tensor after the last step.
fn check_final_norms(expected: &Trajectory, out: &Path, name: &str) {
    let saved = Expected::read(&out.join("model.safetensors"));
    let found = expected.final_l2.iter().filter(|(tensor, _)| saved.names().contains(tensor));
    let mut compared = 0;
    for (tensor, wanted) in found {
        let norm = saved.f32(tensor).1.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        assert!((norm - wanted).abs() <= 1e-3 * wanted, "{name}: norm of {tensor} is {norm}, {wanted} in PyTorch");
        compared += 1;
    }
    assert!(compared + 1 >= expected.final_l2.len(), "{name}: {compared} tensors compared");
}

fn compare(name: &str, device: &str) {
    let Some(expected) = Trajectory::named(name) else { return };
    let metrics = expected.run("raft", device, |out| check_final_norms(&expected, out, name));
    let steps = expected.value["steps"].as_object().expect("steps");
    assert_eq!((metrics.len(), steps.len()), (8, 5), "{name}");
    for (metric, series) in steps {
        for (step, wanted) in series.as_array().expect("a series").iter().enumerate() {
            let (found, wanted) =
                (metrics[step][metric].as_f64().unwrap_or(f64::NAN), wanted.as_f64().expect("a number"));
            let tolerance = match (metric.as_str(), step < 3) {
                ("loss" | "grad_norm", true) => 1e-3,
                ("loss" | "grad_norm", false) => 5e-3,
                _ => 1e-6,
            };
            assert!(
                (found - wanted).abs() <= tolerance * wanted.abs(),
                "{name} on {device}: step {}: {metric} is {found}, {wanted} in PyTorch",
                step + 1
            );
        }
    }
}

trajectories!(|name| name.starts_with("raft"); raft, raft_accumulate, raft_qwen3);
