//! Tokenizers written into a GGUF file and read again: the same ids for every golden case.
use std::path::{Path, PathBuf};

use engine::config::ModelConfig;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::files::gguf_export::GgufExport;
use engine::files::vocabulary::Vocabulary;
use serde_json::{Value as Json, json};
use trainers::text::Tokenizer;
use trainers::text::go_template::go_template;
use trainers::text::tokenizer_as_gguf::vocabulary_of;

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(path)
}

fn read_json(path: &Path) -> Json {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(json: &Json) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// What a model file with this vocabulary, written and opened, reads.
fn through_a_file(vocabulary: &Vocabulary) -> Tokenizer {
    let n = vocabulary.tokens.len();
    let config = json!({
        "model_type": "llama", "vocab_size": n, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": true,
    });
    let config = ModelConfig::from_json(config.as_object().unwrap().clone(), Path::new("config.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let export = GgufExport::new(&config, Some(vocabulary), "m", DType::F16).unwrap();
    export.save(&path, |slot| Ok(vec![0.5; slot.n()])).unwrap();
    let files = ModelFiles::open(&path).unwrap();
    Tokenizer::from_vocabulary(&files.vocabulary.unwrap(), &path).unwrap()
}

#[test]
fn a_byte_level_tokenizer_gives_the_golden_ids() {
    let tokenizer = Tokenizer::from_directory(&golden("tokenizer")).unwrap();
    let (vocabulary, notes) = vocabulary_of(&tokenizer, 520, &[2, 0]).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!((vocabulary.model.as_str(), vocabulary.pre.as_str()), ("gpt2", "gpt-2"));
    assert_eq!((vocabulary.bos_id, vocabulary.eos_id, vocabulary.eot_id), (Some(0), Some(2), Some(0)));
    // Rows of the embedding that are no token have one that no text has.
    assert_eq!((vocabulary.tokens.len(), vocabulary.tokens[519].as_str()), (520, "[PAD519]"));
    assert_eq!((vocabulary.token_types[2], vocabulary.token_types[20], vocabulary.token_types[519]), (3, 1, 5));
    let again = through_a_file(&vocabulary);
    let cases = read_json(&golden("tokenizer/cases.json"));
    let strings = cases["strings"].as_array().unwrap();
    assert!(strings.len() > 10);
    for case in strings {
        let text = case["text"].as_str().unwrap();
        assert_eq!(again.encode(text).unwrap(), ids(&case["ids"]), "{text:?}");
        assert_eq!(again.decode(&ids(&case["ids"])).unwrap(), case["decoded"].as_str().unwrap(), "{text:?}");
    }
    assert!(again.has_chat_template());
    assert_eq!((again.eos_id(), again.bos_id(), again.pad_id()), (Some(2), Some(0), Some(3)));
}

/// SentencePiece's vocabularies, written out as tokenizer.json (merges, no scores) and back as scores.
#[test]
fn a_sentence_piece_tokenizer_gives_the_golden_ids() {
    let golden = read_json(&golden("sentence_piece.json"));
    for (i, json) in golden["vocabularies"].as_array().unwrap().iter().enumerate() {
        let list = |name: &str| json[name].as_array().unwrap();
        let id = |name: &str| Some(json[name].as_u64().unwrap() as u32);
        let given = Vocabulary {
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
        };
        let dir = tempfile::tempdir().unwrap();
        Tokenizer::from_vocabulary(&given, Path::new("m.gguf")).unwrap().save(dir.path()).unwrap();
        let tokenizer = Tokenizer::from_directory(dir.path()).unwrap();
        let (vocabulary, notes) = vocabulary_of(&tokenizer, given.tokens.len(), &[]).unwrap();
        assert_eq!(notes, Vec::<String>::new(), "vocabulary {i}");
        assert_eq!((vocabulary.add_bos, vocabulary.add_space_prefix), (given.add_bos, given.add_space_prefix));
        assert_eq!(vocabulary.token_types, given.token_types, "vocabulary {i}");
        let again = through_a_file(&vocabulary);
        for case in json["cases"].as_array().unwrap() {
            let (text, wanted) = (case[0].as_str().unwrap(), ids(&case[1]));
            assert_eq!(again.encode_rendered(text).unwrap(), wanted, "vocabulary {i}: {text:?}");
        }
    }
}

/// Each way to cut text that is written comes back under its name; one that llama.cpp does not know is refused.
#[test]
fn pre_tokenizers_are_told_by_what_they_do() {
    let source = Tokenizer::from_directory(&golden("tokenizer")).unwrap();
    let (vocabulary, _) = vocabulary_of(&source, 512, &[]).unwrap();
    for pre in ["gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "qwen35", "gpt-4o"] {
        let given = Vocabulary { pre: pre.into(), ..vocabulary.clone() };
        let tokenizer = Tokenizer::from_vocabulary(&given, Path::new("m.gguf")).unwrap();
        let found = vocabulary_of(&tokenizer, 512, &[]).unwrap().0.pre;
        // These differ in words of the vocabulary that no merges lead to, of which there is none here.
        let alike = ["llama-bpe", "dbrx"];
        assert!(found == pre || (alike.contains(&pre) && alike.contains(&found.as_str())), "{pre}: {found}");
    }
    let mut json = read_json(&golden("tokenizer/tokenizer.json"));
    json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    let error = vocabulary_of(&Tokenizer::from_directory(dir.path()).unwrap(), 512, &[]).unwrap_err().to_string();
    assert!(error.contains("llama.cpp has no name for") && error.contains("--output_dir"), "{error}");
}

#[test]
fn the_golden_chat_template_has_a_go_template() {
    let tokenizer = Tokenizer::from_directory(&golden("tokenizer")).unwrap();
    let go = go_template(&tokenizer, None).unwrap().unwrap();
    assert!(go.contains("<|im_start|>user"), "{go}");
}
