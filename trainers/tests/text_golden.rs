//! Tokenizer and chat templates against transformers' results in tests/golden/tokenizer.
use std::path::PathBuf;

use serde_json::Value as Json;
use trainers::text::generation::{assistant_mask, render_with_generation};
use trainers::text::{RenderInput, Tokenizer};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn json(name: &str) -> Json {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

fn ids(value: &Json) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

#[test]
fn strings_have_transformers_ids_and_text() {
    let tokenizer = Tokenizer::from_directory(&golden("tokenizer")).unwrap();
    let cases = json("tokenizer/cases.json");
    let strings = cases["strings"].as_array().unwrap();
    assert!(strings.len() > 10);
    for case in strings {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&ids(&case["ids"])).unwrap(), case["decoded"].as_str().unwrap(), "{text:?}");
    }
    assert_eq!(tokenizer.vocab_size(), 512);
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()), (Some(0), Some(2), Some(3)));
    assert_eq!(tokenizer.token(2).as_deref(), Some("<|im_end|>"));
    assert!(tokenizer.is_special(2) && !tokenizer.is_special(100));
}

#[test]
fn chats_render_and_mask_as_transformers_does() {
    let tokenizer = Tokenizer::from_directory(&golden("tokenizer")).unwrap();
    let templates = tokenizer.chat_templates(0).unwrap();
    let cases = json("tokenizer/cases.json");
    let chats = cases["chats"].as_array().unwrap();
    assert!(chats.len() > 3);
    for case in chats {
        let input = RenderInput {
            messages: case["messages"].as_array().unwrap(),
            add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
            ..Default::default()
        };
        let rendered = render_with_generation(&templates, &input).unwrap();
        assert_eq!(rendered.text, case["text"].as_str().unwrap());
        let (found, mask) = assistant_mask(&tokenizer, &rendered).unwrap();
        assert_eq!(found, ids(&case["input_ids"]));
        assert_eq!(mask.iter().map(|m| u32::from(*m)).collect::<Vec<_>>(), ids(&case["assistant_mask"]));
        assert_eq!(tokenizer.encode_rendered(&rendered.text).unwrap(), found);
    }
}
