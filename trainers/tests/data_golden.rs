//! Rows to tokens against TRL: the token counts of the golden trajectories.
use std::path::PathBuf;

use serde_json::Value as Json;
use trainers::data::{DataSet, TokenizeOptions, load, tokenize_sft};
use trainers::text::Tokenizer;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// `num_tokens` counts the tokens seen so far; a step has as many rows as the batch is large, in file order.
#[test]
fn token_counts_of_trajectories() {
    let tokenizer = Tokenizer::from_directory(&golden("tokenizer")).unwrap();
    for name in [
        "sft_text",
        "sft_prompt_completion",
        "sft_messages",
        "sft_assistant_only",
        "sft_accumulate",
        "sft_qwen3",
        "sft_lora",
    ] {
        let file = golden("trajectories").join(format!("{name}.json"));
        let run: Json = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let config = &run["config"];
        let options = TokenizeOptions {
            max_length: config["max_length"].as_u64().map(|n| n as usize).or(Some(1024)),
            assistant_only_loss: config["assistant_only_loss"].as_bool().unwrap_or(false),
            ..Default::default()
        };
        let file = golden(run["dataset"].as_str().unwrap());
        let rows = load(DataSet::of(&file), Default::default()).unwrap().rows;
        let (examples, stats) = tokenize_sft(&rows, &tokenizer, &options).unwrap();
        assert_eq!(stats.n_dropped, 0);
        let accumulate = config["gradient_accumulation_steps"].as_u64().unwrap_or(1);
        let batch = (config["per_device_train_batch_size"].as_u64().unwrap() * accumulate) as usize;
        let mut seen = 0;
        let counts = run["steps"]["num_tokens"].as_array().unwrap();
        assert_eq!(counts.len(), 8);
        for (step, count) in counts.iter().enumerate() {
            seen += (0..batch).map(|i| examples[(step * batch + i) % examples.len()].ids.len()).sum::<usize>();
            assert_eq!(seen as f64, count.as_f64().unwrap(), "{name}, step {}", step + 1);
        }
    }
}
