//! What a run leaves behind, loaded by transformers and PEFT (tests/interop.py): the same logits, the same tokens.
//!
//! LAPIDARY_PYTHON names a Python with torch, transformers and peft; without it the test says that it is skipped.
mod common;

use common::{golden, sft};
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::files::adapter::Adapter;
use engine::forest::Forest;
use engine::model::decoder::{Decoder, Pass};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use trainers::job::setup::open_source;

const TEXT: &str = "the old mill by the river";

/// Trains the tiny model of a family for three steps and has the other library repeat the last logits of a text.
fn compare(family: &str, more: &str) {
    let Some(python) = std::env::var_os("LAPIDARY_PYTHON") else {
        eprintln!("SKIPPED: LAPIDARY_PYTHON is not set");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (out, base) = (dir.path().join("run"), golden(&format!("models/{family}")));
    let flags = format!(
        "--model_name_or_path {} --dataset_name {} --output_dir {} --device cpu --max_steps 3 --max_length 64 \
         --per_device_train_batch_size 2 --learning_rate 1e-2 {more}",
        base.display(),
        golden("data/messages.jsonl").display(),
        out.display()
    );
    sft(&flags.split_whitespace().map(String::from).collect::<Vec<_>>(), &out);

    let is_adapter = out.join("adapter_config.json").exists();
    assert_eq!(is_adapter, more.contains("--use_peft"));
    let device: engine::backend::Device = engine::cpu::Cpu::new(Some(2)).unwrap();
    let weights = ModelFiles::open(if is_adapter { &base } else { &out }).unwrap();
    let mut model = Decoder::load(&weights, &device, DType::F32).unwrap();
    if is_adapter {
        model.load_adapter(&Adapter::load(&out).unwrap()).unwrap();
    }
    let ids = open_source(&base.display().to_string()).unwrap().tokenizer.encode(TEXT).unwrap();
    let forest = Forest::from_sequences(&[&ids]).unwrap();
    let hidden = model.hidden(&forest, Pass::default()).unwrap();
    let logits = model.logits(&hidden, &[ids.len() as u32 - 1]).unwrap().to_vec().unwrap();
    let expected = dir.path().join("expected.json");
    std::fs::write(&expected, json!({"ids": ids, "text": TEXT, "logits_last": logits}).to_string()).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop.py");
    let mut command = Command::new(python);
    command.arg(script).arg(&out).arg(&expected);
    if is_adapter {
        command.arg("--base").arg(&base);
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert_eq!(output.status.code(), Some(0), "{family} {more}: {said}");
}

#[test]
fn transformers_loads_a_trained_model() {
    for family in ["llama", "llama3", "mistral", "qwen2", "qwen3", "granite", "olmo2"] {
        compare(family, "");
    }
}

#[test]
fn peft_loads_an_adapter() {
    compare("llama", "--use_peft --lora_target_modules all-linear --lora_r 4");
    compare("qwen3", "--use_peft --use_rslora true --lora_r 8");
}

/// Exported files, read by llama.cpp's own Python package and by transformers (tests/gguf_reads.py).
#[test]
fn the_gguf_package_reads_what_is_exported() {
    let Some(python) = std::env::var_os("LAPIDARY_PYTHON") else {
        eprintln!("SKIPPED: LAPIDARY_PYTHON is not set");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let wide = |family: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models").join(family);
    let narrow = ["llama", "llama3", "mistral", "qwen2", "qwen3", "granite", "olmo2"];
    let models = narrow.iter().map(|family| (golden(&format!("models/{family}")), "f32"));
    let models = models.chain(["f16", "bf16", "q8_0"].map(|outtype| (wide("llama"), outtype)));
    for (model, outtype) in models {
        let file = dir.path().join(format!("m-{outtype}.gguf"));
        let words = ["lapidary", "export", "--overwrite_output_file", "--model_name_or_path"].map(String::from);
        let rest = [model.display().to_string(), "--output_file".into(), file.display().to_string()];
        let words = words.into_iter().chain(rest).chain(["--outtype".into(), outtype.into()]);
        trainers::cli::read(words.map(Into::into)).and_then(trainers::cli::carry_out).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf_reads.py");
        let output = Command::new(&python).arg(script).arg(&file).arg(&model).output().unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert_eq!(output.status.code(), Some(0), "{} {outtype}: {said}", model.display());
    }
}
