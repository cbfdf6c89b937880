//! The tokenizer and chat template in SmolLM2's GGUF file against transformers' ids in tests/golden/smollm2.
//!
//! The model comes from tests/fetch-smollm2.sh; without it in $LAPIDARY_MODELS (or target/models) the test says so and passes.
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use trainers::text::{RenderInput, Tokenizer};

const NAME: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn model() -> Option<PathBuf> {
    let directory = std::env::var_os("LAPIDARY_MODELS").map_or_else(|| root().join("target/models"), PathBuf::from);
    let path = directory.join(NAME);
    if !path.is_file() {
        eprintln!("skipped: no {NAME} in {}; run tests/fetch-smollm2.sh target/models", directory.display());
        return None;
    }
    Some(path)
}

fn ids(value: &Json) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn check(tokenizer: &Tokenizer) {
    let golden: Json =
        serde_json::from_slice(&std::fs::read(root().join("tests/golden/smollm2/inference.json")).unwrap()).unwrap();
    let templates = tokenizer.chat_templates(0).unwrap();
    for case in golden["greedy"].as_array().unwrap() {
        let messages = case["messages"].as_array().unwrap();
        let input = RenderInput { messages, add_generation_prompt: true, ..Default::default() };
        let text = templates.render(&input).unwrap().text;
        assert_eq!(tokenizer.encode_rendered(&text).unwrap(), ids(&case["prompt_ids"]), "{text}");
        assert_eq!(tokenizer.decode(&ids(&case["completion_ids"])).unwrap(), case["text"].as_str().unwrap());
    }
    for case in golden["texts"].as_array().unwrap() {
        assert_eq!(tokenizer.encode(case["text"].as_str().unwrap()).unwrap(), ids(&case["ids"]));
    }
    assert_eq!(
        (tokenizer.vocab_size(), tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()),
        (49152, Some(1), Some(2), Some(2))
    );
}

fn from_gguf(path: &Path) -> Tokenizer {
    let vocabulary = engine::files::gguf::Gguf::open(path).unwrap().vocabulary().unwrap();
    Tokenizer::from_vocabulary(&vocabulary, path).unwrap()
}

#[test]
fn prompts_and_texts_have_transformers_ids() {
    let Some(path) = model() else { return };
    let tokenizer = from_gguf(&path);
    check(&tokenizer);
    // SmolLM2 takes each digit alone, also after two spaces.
    let spaced: Vec<String> = tokenizer.encode("  17").unwrap().iter().filter_map(|id| tokenizer.token(*id)).collect();
    assert_eq!(spaced, ["ĠĠ", "1", "7"]);
    // Written out as a Hugging Face directory and read again it is the same tokenizer.
    let directory = tempfile::tempdir().unwrap();
    tokenizer.save(directory.path()).unwrap();
    check(&Tokenizer::from_directory(directory.path()).unwrap());
}
