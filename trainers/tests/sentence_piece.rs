//! SentencePiece vocabularies of GGUF files give the ids of the model's own tokenizer.json: `tests/golden/sentence_piece.json`, made by
//! `tests/golden/generator/sentence_piece.py`. With LAPIDARY_GGML_VOCABS (the folder models of llama.cpp) its vocabularies, too.
use std::path::Path;

use engine::files::gguf::Gguf;
use engine::files::vocabulary::Vocabulary;
use serde_json::Value as Json;
use trainers::text::Tokenizer;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/sentence_piece.json");

fn vocabulary(json: &Json) -> Vocabulary {
    let list = |name: &str| json[name].as_array().unwrap();
    let id = |name: &str| Some(json[name].as_u64().unwrap() as u32);
    Vocabulary {
        model: "llama".into(),
        pre: "default".into(),
        tokens: list("tokens").iter().map(|t| t.as_str().unwrap().to_string()).collect(),
        scores: list("scores").iter().map(|s| s.as_f64().unwrap() as f32).collect(),
        token_types: list("token_types").iter().map(|t| t.as_i64().unwrap() as i32).collect(),
        bos_id: id("bos_id"),
        eos_id: id("eos_id"),
        unknown_id: id("unknown_id"),
        add_bos: json["add_bos"].as_bool().unwrap(),
        add_space_prefix: json["add_space_prefix"].as_bool().unwrap(),
        ..Default::default()
    }
}

fn ids(json: &Json) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Texts that begin with blanks, blanks behind special tokens, bytes, user-defined tokens: the same ids, and the same text back.
#[test]
fn one_model_has_one_tokenisation() {
    let golden: Json = serde_json::from_str(&std::fs::read_to_string(GOLDEN).unwrap()).unwrap();
    let mut n = 0;
    for (i, json) in golden["vocabularies"].as_array().unwrap().iter().enumerate() {
        let vocabulary = vocabulary(json);
        let tokenizer = Tokenizer::from_vocabulary(&vocabulary, Path::new("m.gguf")).unwrap();
        for case in json["cases"].as_array().unwrap() {
            let (text, wanted) = (case[0].as_str().unwrap(), ids(&case[1]));
            assert_eq!(tokenizer.encode_rendered(text).unwrap(), wanted, "vocabulary {i}: {text:?}");
            assert_eq!(tokenizer.decode(&wanted).unwrap(), case[2].as_str().unwrap(), "vocabulary {i}: {text:?}");
            let with_bos: Vec<u32> = vocabulary.bos_id.into_iter().chain(wanted).collect();
            assert_eq!(tokenizer.encode(text).unwrap(), with_bos, "vocabulary {i}: {text:?}");
            n += 1;
        }
    }
    assert!(n >= 150, "{n}");
}

/// llama.cpp keeps texts (`.inp`) and their ids (`.out`) beside its vocabularies.
#[test]
fn llama_cpps_vocabularies_give_its_ids() {
    let Ok(folder) = std::env::var("LAPIDARY_GGML_VOCABS") else {
        println!("LAPIDARY_GGML_VOCABS is not set: llama.cpp's vocabularies are not compared");
        return;
    };
    for name in ["llama-spm", "phi-3"] {
        let file = Path::new(&folder).join(format!("ggml-vocab-{name}.gguf"));
        let vocabulary = Gguf::open(&file).unwrap().vocabulary().unwrap();
        let tokenizer = Tokenizer::from_vocabulary(&vocabulary, &file).unwrap();
        let read = |end: &str| std::fs::read_to_string(format!("{}.{end}", file.display())).unwrap();
        let (texts, wanted) = (read("inp"), read("out"));
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        let mut n = 0;
        for (text, line) in texts.iter().zip(wanted.lines()) {
            let wanted: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(tokenizer.encode_rendered(text).unwrap(), wanted, "{name}: {text:?}");
            n += 1;
        }
        println!("{name}: {n} texts");
        assert!(n > 30, "{name}: {n}");
    }
}
