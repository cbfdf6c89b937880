//! Tokenizer files as people have them: special tokens in every form, templates by name, files missing or broken.
use std::fs;
use std::path::{Path, PathBuf};

use engine::files::vocabulary::Vocabulary;
use serde_json::{Value as Json, json};
use trainers::text::generation::assistant_mask;
use trainers::text::{RenderInput, Rendered, Tokenizer};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizer")
}

/// A directory with the golden tokenizer.json and the given configuration.
fn directory(config: &Json) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(golden().join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    dir
}

#[test]
fn special_tokens_as_strings_objects_or_in_their_own_file() {
    let object = json!({"content": "<|im_end|>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "__type": "AddedToken"});
    let dir = directory(
        &json!({"eos_token": object, "pad_token": "<|pad|>", "image_token": "<|im_start|>", "bos_token": null}),
    );
    let tokenizer = Tokenizer::from_directory(dir.path()).unwrap();
    assert_eq!((tokenizer.eos_id(), tokenizer.pad_id(), tokenizer.bos_id()), (Some(2), Some(3), None));
    assert_eq!(tokenizer.special_token("image_token"), Some("<|im_start|>"));
    let dir = directory(&json!({}));
    fs::write(dir.path().join("special_tokens_map.json"), json!({"eos_token": object}).to_string()).unwrap();
    assert_eq!(Tokenizer::from_directory(dir.path()).unwrap().eos_id(), Some(2));
}

#[test]
fn tokens_that_are_new_get_ids_behind_the_vocabulary() {
    let dir =
        directory(&json!({"eos_token": "<|im_end|>", "pad_token": "[PAD]", "additional_special_tokens": ["<x>"]}));
    let tokenizer = Tokenizer::from_directory(dir.path()).unwrap();
    assert_eq!((tokenizer.pad_id(), tokenizer.id("<x>"), tokenizer.vocab_size()), (Some(512), Some(513), 514));
    assert_eq!(tokenizer.encode("a<x>").unwrap(), [68, 513]);
}

#[test]
fn templates_by_name_and_the_file_that_wins() {
    let messages = [json!({"role": "user", "content": "x"})];
    let render = |dir: &Path| {
        let templates = Tokenizer::from_directory(dir).unwrap().chat_templates(0).unwrap();
        templates.render(&RenderInput { messages: &messages, ..Default::default() }).unwrap().text
    };
    let list = json!({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]});
    let dir = directory(&list);
    assert_eq!(render(dir.path()), "d");
    fs::write(dir.path().join("chat_template.jinja"), "file").unwrap();
    assert_eq!(render(dir.path()), "file");
    assert_eq!(
        render(directory(&json!({"chat_template": "{{ eos_token }}!", "eos_token": "<|im_end|>"})).path()),
        "<|im_end|>!"
    );
    let none = Tokenizer::from_directory(directory(&json!({})).path()).unwrap();
    assert!(none.chat_templates(0).unwrap_err().to_string().contains("no chat template"));
}

#[test]
fn files_of_a_directory_are_saved_byte_for_byte() {
    let tokenizer = Tokenizer::from_directory(&golden()).unwrap();
    let out = tempfile::tempdir().unwrap();
    tokenizer.save(out.path()).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        assert_eq!(fs::read(out.path().join(name)).unwrap(), fs::read(golden().join(name)).unwrap());
    }
}

#[test]
fn missing_and_broken_files_are_named_with_a_remedy() {
    let error = |dir: &Path| Tokenizer::from_directory(dir).unwrap_err().to_string();
    let dir = tempfile::tempdir().unwrap();
    assert!(error(dir.path()).contains("tokenizer.json: not found") && error(dir.path()).contains("save_pretrained"));
    fs::write(dir.path().join("tokenizer.json"), "version https://git-lfs.github.com/spec/v1").unwrap();
    assert!(error(dir.path()).contains("is a pointer of Git LFS"));
    fs::write(dir.path().join("tokenizer.json"), "{\"version\": \"1.0\"").unwrap();
    assert!(error(dir.path()).contains("not a readable tokenizer") && error(dir.path()).contains("fetch it again"));
    let dir = directory(&json!({}));
    fs::write(dir.path().join("tokenizer_config.json"), "{\"eos_token\":").unwrap();
    assert!(error(dir.path()).contains("tokenizer_config.json: not valid JSON"));
    assert!(error(directory(&json!({"eos_token": 7})).path()).contains("eos_token must be a string or an object"));
    assert!(error(directory(&json!({"chat_template": 7})).path()).contains("chat_template must be a string"));
}

fn vocabulary(model: &str, pre: &str, tokens: &[&str], merges: &[&str]) -> Vocabulary {
    Vocabulary {
        model: model.into(),
        pre: pre.into(),
        tokens: tokens.iter().map(|t| t.to_string()).collect(),
        merges: merges.iter().map(|m| m.to_string()).collect(),
        ..Default::default()
    }
}

fn encode(v: &Vocabulary, text: &str) -> Vec<u32> {
    Tokenizer::from_vocabulary(v, Path::new("m.gguf")).unwrap().encode(text).unwrap()
}

#[test]
fn pre_tokenizers_cut_digits_their_own_way() {
    let tokens = ["1", "11", "111", "1111", "Ġ", "a", "Ġa"];
    let merges = ["1 1", "11 1", "11 11", "Ġ a"];
    let of = |pre: &str| encode(&vocabulary("gpt2", pre, &tokens, &merges), "1111 a");
    assert_eq!(of("gpt-2"), [3, 6]);
    assert_eq!(of("smollm"), [0, 0, 0, 0, 6]);
    assert_eq!(of("qwen2"), [0, 0, 0, 0, 6]);
    assert_eq!(of("tekken"), [0, 0, 0, 0, 6]);
    assert_eq!(of("llama-bpe"), [2, 0, 6]);
}

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    let tokens = ["<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", "▁", "a", "b", "ab", "▁ab", "▁a"];
    let mut v = vocabulary("llama", "default", &tokens, &[]);
    v.scores = vec![0.0, 0.0, 0.0, 0.0, 0.0, -5.0, -6.0, -7.0, -1.0, -2.0, -3.0];
    v.token_types = vec![2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1];
    (v.bos_id, v.eos_id, v.unknown_id) = (Some(1), Some(2), Some(0));
    (v.add_bos, v.add_space_prefix) = (true, true);
    assert_eq!(encode(&v, "ab"), [1, 9]);
    assert_eq!(encode(&v, "é ab</s>"), [1, 5, 3, 4, 9, 2]);
    let tokenizer = Tokenizer::from_vocabulary(&v, Path::new("m.gguf")).unwrap();
    assert_eq!(tokenizer.decode(&[9, 3, 4, 10]).unwrap(), "abé a");
    v.add_space_prefix = false;
    assert_eq!(encode(&v, "ab"), [1, 8]);
}

/// `tokenizer.chat_template.tool_use` of a GGUF file is what additional_chat_templates/tool_use.jinja is to a directory, and is saved as that.
#[test]
fn named_templates_of_a_vocabulary_are_those_of_its_directory() {
    let mut v = vocabulary("gpt2", "gpt-2", &["a", "b"], &[]);
    v.chat_template = Some("plain".into());
    v.named_templates = vec![("rag".into(), "documents".into()), ("tool_use".into(), "tools".into())];
    let tokenizer = Tokenizer::from_vocabulary(&v, Path::new("m.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    tokenizer.save(dir.path()).unwrap();
    for tokenizer in [tokenizer, Tokenizer::from_directory(dir.path()).unwrap()] {
        let templates = tokenizer.chat_templates(0).unwrap();
        assert_eq!(templates.select(true).unwrap().source(), "tools");
        assert_eq!(templates.select(false).unwrap().source(), "plain");
    }
    assert_eq!(fs::read_to_string(dir.path().join("additional_chat_templates/rag.jinja")).unwrap(), "documents");
    v.named_templates = vec![("../x".into(), "t".into())];
    let error = Tokenizer::from_vocabulary(&v, Path::new("m.gguf")).unwrap_err().to_string();
    assert!(error.contains("named \"../x\""), "{error}");
}

/// A span trains every token that overlaps it: all bytes of a character of several tokens, and the spans behind one that no token begins in.
#[test]
fn masks_are_by_overlap_of_characters_and_tokens() {
    // 😀 is four bytes, each a token of its own; the blank belongs to the token behind it, which is in both spans.
    let v = vocabulary("gpt2", "gpt-2", &["a", "b", "ð", "Ł", "ĺ", "Ģ", "Ġ", "Ġb"], &["Ġ b"]);
    let tokenizer = Tokenizer::from_vocabulary(&v, Path::new("m.gguf")).unwrap();
    let mask = |text: &str, spans: &[std::ops::Range<usize>]| {
        let rendered = Rendered { text: text.into(), generation: spans.to_vec(), misplaced: None };
        assistant_mask(&tokenizer, &rendered).unwrap()
    };
    assert_eq!(
        mask("a😀b", std::slice::from_ref(&(1..5))),
        (vec![0, 2, 3, 4, 5, 1], vec![false, true, true, true, true, false])
    );
    assert_eq!(mask("a😀b", &[0..1, 5..6]).1, [true, false, false, false, false, true]);
    let (ids, masked) = mask("a ba", &[1..2, 3..4]);
    assert_eq!((ids, masked), (vec![0, 7, 0], vec![false, true, true]));
    assert_eq!(mask("ab", &[1..1, 1..2]).1, [false, true]);
}

#[test]
fn vocabularies_that_cannot_be_used_say_why() {
    let error = |v: &Vocabulary| Tokenizer::from_vocabulary(v, Path::new("m.gguf")).unwrap_err().to_string();
    let unknown = error(&vocabulary("gpt2", "martian", &["a"], &[]));
    assert!(
        unknown.starts_with("m.gguf: ") && unknown.contains("\"martian\"") && unknown.contains("qwen2"),
        "{unknown}"
    );
    assert!(error(&vocabulary("bert", "", &["a"], &[])).contains("type \"bert\""));
    assert!(error(&vocabulary("gpt2", "gpt-2", &[], &[])).contains("no tokens"));
    assert!(error(&vocabulary("gpt2", "gpt-2", &["a"], &["a"])).contains("merge 0"));
    assert!(error(&vocabulary("gpt2", "gpt-2", &["a"], &["a b"])).contains("convert the model again"));
    assert!(error(&vocabulary("llama", "", &["a"], &[])).contains("neither merges nor scores"));
    let mut v = vocabulary("gpt2", "gpt-2", &["a"], &[]);
    v.eos_id = Some(9);
    assert!(error(&v).contains("eos token has id 9"));
}
