//! What PEFT makes of each option of its LoraConfig: the same logits, loss and gradients, on each device; folded in, switched
//! off, and written back as it was read.
mod common;

use common::{Expected, devices, golden, relative_error};
use engine::backend::Device;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::files::adapter::Adapter;
use engine::forest::Forest;
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::path::PathBuf;

const CASES: [&str; 36] = [
    "list",
    "regex",
    "exclude",
    "exclude_regex",
    "layers",
    "layers_pattern",
    "patterns",
    "patterns_rslora",
    "head",
    "tied_head",
    "embedding",
    "tied_embedding",
    "save_head",
    "save_tied_head",
    "save_embedding",
    "save_linear",
    "bias_all",
    "bias_lora_only",
    "lora_bias",
    "dora",
    "dora_bias",
    "tokens",
    "tokens_tied",
    "tokens_both",
    "tokens_parted",
    "tokens_same",
    "tokens_head",
    "tokens_head_lora",
    "tokens_save_embedding",
    "tokens_granite",
    "lora_bias_head",
    "lora_bias_tied_head",
    "dora_head",
    "dora_tied_head",
    "dora_embedding",
    "dora_tied_embedding",
];

fn directory(case: &str) -> PathBuf {
    golden(&format!("adapters/peft_{case}"))
}

fn base(adapter: &Adapter) -> ModelFiles {
    let base = adapter.config.base_model_name_or_path.as_deref().expect("the base is named");
    ModelFiles::open(golden(base)).expect("the base opens")
}

/// Logits of all rows, and loss and gradients of the mean next-token loss.
fn logits(model: &Decoder, ids: &[u32]) -> Vec<f32> {
    let forest = Forest::from_sequences(&[ids]).unwrap();
    let hidden = model.hidden(&forest, Pass::default()).unwrap();
    let rows: Vec<u32> = (0..ids.len() as u32).collect();
    let all = model.logits(&hidden, &rows).unwrap().to_vec().unwrap();
    // What sampling reads is the same.
    let sampled = model.logits_at(&hidden, &rows, 1.0).unwrap().to_vec().unwrap();
    assert!(relative_error(&sampled, &all) < 1e-6);
    all
}

fn loss_and_gradients(model: &Decoder, ids: &[u32], checkpointing: bool) -> (f32, Decoder) {
    let tape = Tape::new();
    let watched = model.watch(&tape);
    let forest = Forest::from_sequences(&[ids]).unwrap();
    let hidden = watched.hidden(&forest, Pass { checkpointing, ..Pass::default() }).unwrap();
    let rows: Vec<u32> = (0..ids.len() as u32 - 1).collect();
    let scored = watched.score(&hidden, &rows, &ids[1..], 1.0).unwrap();
    let loss = ops::scale(&ops::sum(&scored.logp).unwrap(), -1.0 / rows.len() as f32).unwrap();
    let one = Tensor::scalar(loss.device(), 1.0).unwrap();
    let mut gradients = tape.backward([(&loss, one)]).unwrap();
    let mut result = model.clone();
    for (parameter, leaf) in result.trained_mut().into_iter().zip(watched.trained()) {
        let zeros = || Tensor::zeros(leaf.device(), leaf.shape()).unwrap();
        parameter.tensor = gradients.take(leaf).unwrap_or_else(zeros);
    }
    (loss.item().unwrap(), result)
}

fn compare(case: &str, device: &Device, tolerance: f64) {
    let dir = directory(case);
    let expected = Expected::read(&dir.join("expected.safetensors"));
    let ids: Vec<u32> = expected.i32("input_ids").1.into_iter().map(|id| id as u32).collect();
    let adapter = Adapter::load(&dir).unwrap();
    let files = base(&adapter);
    adapter.check_fits(&files.config, &dir).unwrap();
    let plain = Decoder::load(&files, device, DType::F32).unwrap();
    let mut model = plain.clone();
    model.load_adapter(&adapter).unwrap();
    let wanted = expected.f32("logits").1;
    let close = |found: &[f32], about: &str| {
        let error = relative_error(found, &wanted);
        assert!(error < tolerance, "{case}: logits {about}: {error}");
    };
    close(&logits(&model, &ids), "as PEFT's");
    close(&logits(&model.for_generation().unwrap(), &ids), "for generation");
    for checkpointing in [false, true] {
        let (loss, gradients) = loss_and_gradients(&model, &ids, checkpointing);
        let wanted = expected.f32("loss").1[0];
        assert!((loss - wanted).abs() < tolerance as f32 * wanted, "{case}: loss {loss}, {wanted} in PEFT");
        // Under the names of the file, as the adapter itself.
        let found = gradients.adapter(adapter.config.clone()).unwrap().tensors;
        let names: Vec<String> = expected.names().into_iter().filter(|n| n.starts_with("grad.")).collect();
        assert_eq!(names.len(), found.len(), "{case}: {:?}", found.keys());
        for name in names {
            let (shape, values) = expected.f32(&name);
            let short = name.trim_start_matches("grad.base_model.model.");
            let (found_shape, gradient) = found.get(short).unwrap_or_else(|| panic!("{case}: no gradient {short}"));
            assert_eq!(*found_shape, shape, "{case}: {short}");
            let error = relative_error(gradient, &values);
            assert!(error < 10.0 * tolerance, "{case}: {name}: {error}");
        }
    }
    // Switched off it is the base, to the bit.
    assert_eq!(logits(&model.without_adapter(), &ids), logits(&plain, &ids), "{case}");
    written_back(case, &adapter, &model);
    match model.merge_adapter() {
        Ok(()) => close(&logits(&model, &ids), "folded in"),
        Err(error) => {
            assert!(case.starts_with("lora_bias") && error.to_string().contains("no bias"), "{case}: {error}")
        }
    }
}

/// Saved and read again it is the same, in the words of the file that it came from.
fn written_back(case: &str, adapter: &Adapter, model: &Decoder) {
    let dir = tempfile::tempdir().unwrap();
    model.adapter(adapter.config.clone()).unwrap().save(dir.path()).unwrap();
    let again = Adapter::load(dir.path()).unwrap();
    // PEFT adds the base's own embedding or head, which loads without.
    let own = |a: &Adapter| {
        a.tensors.clone().into_iter().filter(|(name, _)| !name.contains("base_layer.weight")).collect::<Vec<_>>()
    };
    assert_eq!(own(&again), own(adapter), "{case}");
    let json = |dir: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(dir.join("adapter_config.json")).unwrap()).unwrap()
    };
    assert_eq!(json(dir.path()), json(&directory(case)), "{case}");
}

#[test]
fn every_option_as_in_peft() {
    for (device, tolerance) in devices() {
        for case in CASES {
            compare(case, &device, tolerance);
        }
    }
}

/// A model whose output layer is tied gets one of its own where the adapter parts them.
#[test]
fn folding_parts_what_an_adapter_parts() {
    let (device, _) = devices().remove(0);
    let parted = ["tied_head", "tied_embedding", "save_tied_head", "tokens_parted", "tokens_head", "tokens_head_lora"];
    let tied = ["list", "tokens_tied", "tokens_same"];
    for (case, parted) in parted.map(|case| (case, true)).into_iter().chain(tied.map(|case| (case, false))) {
        let adapter = Adapter::load(directory(case)).unwrap();
        let mut model = Decoder::load(&base(&adapter), &device, DType::F32).unwrap();
        model.load_adapter(&adapter).unwrap();
        model.merge_adapter().unwrap();
        let dir = tempfile::tempdir().unwrap();
        model.save(dir.path(), DType::F32).unwrap();
        let saved = ModelFiles::open(dir.path()).unwrap();
        assert_eq!(saved.config.tie_word_embeddings, !parted, "{case}");
        let again = Decoder::load(&saved, &device, DType::F32).unwrap();
        assert_eq!(logits(&again, &[9, 40, 7]), logits(&model, &[9, 40, 7]), "{case}");
    }
}
