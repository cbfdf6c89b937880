//! Logits and every gradient of the model families against transformers (tests/golden/models), on each device.
mod common;

use common::{Expected, devices, golden, relative_error};
use engine::backend::Device;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::forest::Forest;
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::tape::Tape;
use engine::tensor::Tensor;

/// Families of the tiny reference models.
const FAMILIES: [&str; 7] = ["llama", "llama3", "mistral", "qwen2", "qwen3", "granite", "olmo2"];

/// The rows of `input_ids` without their padding.
fn sequences(expected: &Expected) -> Vec<Vec<u32>> {
    let (shape, ids) = expected.i32("input_ids");
    let (_, mask) = expected.i32("attention_mask");
    let columns = shape[1];
    (0..shape[0])
        .map(|r| (0..columns).filter(|c| mask[r * columns + c] == 1).map(|c| ids[r * columns + c] as u32).collect())
        .collect()
}

fn compare(family: &str, device: &Device, tolerance: f64, pass: Pass) {
    let dir = golden(&format!("models/{family}"));
    let expected = Expected::read(&dir.join("expected.safetensors"));
    let model = Decoder::load(&ModelFiles::open(&dir).unwrap(), device, DType::F32).unwrap();
    let sequences = sequences(&expected);
    let forest = Forest::from_sequences(&sequences).unwrap();

    let tape = Tape::new();
    let watched = model.watch(&tape);
    let hidden = watched.hidden(&forest, pass).unwrap();
    let all: Vec<u32> = (0..forest.n_tokens() as u32).collect();
    let logits = watched.logits(&hidden.detach(), &all).unwrap().to_vec().unwrap();
    let (shape, padded) = expected.f32("logits");
    let (columns, v) = (shape[1], shape[2]);
    let unpadded: Vec<f32> =
        sequences.iter().enumerate().flat_map(|(r, s)| padded[r * columns * v..][..s.len() * v].to_vec()).collect();
    let error = relative_error(&logits, &unpadded);
    assert!(error < tolerance, "{family} logits: relative error {error:.2e} on {}", device.name());

    let (mut rows, mut targets) = (vec![], vec![]);
    for (segment, ids) in forest.segments.iter().zip(&sequences) {
        rows.extend((0..ids.len() - 1).map(|i| (segment.start + i) as u32));
        targets.extend(&ids[1..]);
    }
    let scored = watched.score(&hidden, &rows, &targets, 1.0).unwrap();
    let loss = ops::scale(&ops::sum(&scored.logp).unwrap(), -1.0 / rows.len() as f32).unwrap();
    let (_, expected_loss) = expected.f32("loss");
    let error = relative_error(&loss.to_vec().unwrap(), &expected_loss);
    assert!(error < tolerance, "{family} loss: relative error {error:.2e} on {}", device.name());

    let one = Tensor::scalar(device, 1.0).unwrap();
    let mut gradients = tape.backward([(&loss, one)]).unwrap();
    let mut compared = 0;
    for leaf in watched.parameters() {
        let name = leaf.path();
        let gradient =
            gradients.take(leaf).unwrap_or_else(|| panic!("{family}: no gradient of {name}")).to_vec().unwrap();
        let error = relative_error(&gradient, &expected.f32(&format!("grad.{name}")).1);
        assert!(error < tolerance, "{family} gradient of {name}: relative error {error:.2e} on {}", device.name());
        compared += 1;
    }
    assert_eq!(
        compared,
        expected.names().iter().filter(|n| n.starts_with("grad.")).count(),
        "{family}: gradients compared"
    );
}

#[test]
fn logits_and_gradients_equal_transformers() {
    for (device, tolerance) in devices() {
        for family in FAMILIES {
            compare(family, &device, tolerance, Pass::default());
        }
    }
}

#[test]
fn checkpointed_gradients_too() {
    for (device, tolerance) in devices() {
        for family in ["qwen2", "granite", "olmo2"] {
            compare(family, &device, tolerance, Pass { checkpointing: true, ..Pass::default() });
        }
    }
}
