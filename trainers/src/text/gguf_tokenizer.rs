//! The tokenizer of a GGUF file, written out as the `tokenizer.json` and `tokenizer_config.json` of its Hugging Face twin.
//!
//! A GGUF carries tokens, merges or scores, and the name of a pre-tokenizer. The names are llama.cpp's; the regular expressions
//! behind them are those of the models' own `tokenizer.json`.
use std::collections::{HashMap, HashSet};

use engine::files::vocabulary::Vocabulary;
use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};

/// GGUF's token types that matter here.
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is cut before the merges apply.
enum Pre {
    /// GPT-2's expression, built into the ByteLevel pre-tokenizer.
    Gpt2,
    /// Each digit alone, then GPT-2's expression.
    DigitsGpt2,
    Split(&'static str),
}

/// Pre-tokenizer, whether a word that is a token is taken whole, whether text is composed (NFC) first.
fn family(pre: &str) -> Option<(Pre, bool, bool)> {
    Some(match pre {
        "" | "default" | "gpt-2" | "gpt2" | "olmo" | "phi-2" | "mpt" | "jais" | "roberta-bpe" => {
            (Pre::Gpt2, false, false)
        }
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            (Pre::DigitsGpt2, false, false)
        }
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2" => {
            (Pre::Split(LLAMA3), true, false)
        }
        "dbrx" | "smaug-bpe" => (Pre::Split(LLAMA3), false, false),
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "stablelm2" => (Pre::Split(QWEN2), false, true),
        "qwen35" => (Pre::Split(QWEN35), false, true),
        "tekken" => (Pre::Split(TEKKEN), true, false),
        "gpt-4o" | "llama4" => (Pre::Split(GPT4O), false, false),
        _ => return None,
    })
}

/// The names that are written, one for each way to cut: llama.cpp's best known.
pub(super) const WRITTEN: [&str; 8] = ["gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "qwen35", "tekken", "gpt-4o"];

/// The `pre_tokenizer` of tokenizer.json behind one of llama.cpp's names.
pub(super) fn pre_tokenizer(pre: &str) -> Option<Json> {
    Some(cut(family(pre)?.0))
}

const FAMILIES: &str = "gpt-2 (default), smollm, starcoder, refact, command-r, llama-bpe, falcon3, lfm2, dbrx, smaug-bpe, qwen2, qwen35, stablelm2, tekken, gpt-4o, llama4";

/// `tokenizer.json` of a vocabulary.
///
/// Errors: a vocabulary type or pre-tokenizer that is not known here, token ids out of range, lists of unequal length.
pub fn tokenizer_json(v: &Vocabulary) -> Result<Json> {
    check(v)?;
    let (model, normalizer, pre_tokenizer, decoder) = match v.model.as_str() {
        "gpt2" => byte_level(v)?,
        "llama" => sentence_piece(v)?,
        other => {
            let known = "\"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece BPE)";
            return Err(Error::input(format!("the GGUF file's tokenizer is of type {other:?}; supported are {known}")));
        }
    };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added_tokens(v),
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor(v), "decoder": decoder, "model": model,
    }))
}

/// `tokenizer_config.json` of a vocabulary: its special tokens by name.
pub fn tokenizer_config(v: &Vocabulary) -> Json {
    let mut config = Map::new();
    for (name, id) in
        [("bos_token", v.bos_id), ("eos_token", v.eos_id), ("pad_token", v.pad_id), ("unk_token", v.unknown_id)]
    {
        if let Some(token) = id.and_then(|id| v.tokens.get(id as usize)) {
            config.insert(name.into(), token.clone().into());
        }
    }
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    Json::Object(config)
}

fn check(v: &Vocabulary) -> Result<()> {
    let n = v.tokens.len();
    if n == 0 {
        return Err(Error::input(
            "the GGUF file carries no tokens (tokenizer.ggml.tokens); use one converted with its tokenizer",
        ));
    }
    for (name, length) in [("scores", v.scores.len()), ("token_type", v.token_types.len())] {
        if length != 0 && length != n {
            return Err(Error::input(format!(
                "the GGUF file has {n} tokens but {length} entries in tokenizer.ggml.{name}"
            )));
        }
    }
    for (name, id) in [("bos", v.bos_id), ("eos", v.eos_id), ("padding", v.pad_id), ("unknown", v.unknown_id)] {
        if let Some(id) = id.filter(|id| *id as usize >= n) {
            return Err(Error::input(format!("the GGUF file's {name} token has id {id}, but there are {n} tokens")));
        }
    }
    Ok(())
}

/// Each token with its id; of tokens spelled alike the first counts.
fn ids(v: &Vocabulary) -> HashMap<&str, u32> {
    let mut ids = HashMap::with_capacity(v.tokens.len());
    for (id, token) in v.tokens.iter().enumerate() {
        ids.entry(token.as_str()).or_insert(id as u32);
    }
    ids
}

fn vocab_json(v: &Vocabulary) -> Json {
    let mut vocab = Map::with_capacity(v.tokens.len());
    for (id, token) in v.tokens.iter().enumerate() {
        vocab.entry(token.clone()).or_insert_with(|| id.into());
    }
    Json::Object(vocab)
}

/// Tokens that are matched whole in the text before anything else: control and unknown (special), user-defined (not special).
fn added_tokens(v: &Vocabulary) -> Json {
    let mut seen = HashSet::new();
    let special_ids: Vec<u32> = [v.bos_id, v.eos_id, v.pad_id].into_iter().flatten().collect();
    let mut tokens = Vec::new();
    for (id, token) in v.tokens.iter().enumerate() {
        let kind = v.token_types.get(id).copied().unwrap_or(1);
        let special = matches!(kind, CONTROL | UNKNOWN) || special_ids.contains(&(id as u32));
        if !(special || kind == USER_DEFINED) || token.is_empty() || !seen.insert(token.as_str()) {
            continue;
        }
        tokens.push(json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special,
        }));
    }
    Json::Array(tokens)
}

/// Adds BOS and EOS where the file says so.
fn post_processor(v: &Vocabulary) -> Json {
    let token = |on: bool, id: Option<u32>| id.filter(|_| on).and_then(|id| v.tokens.get(id as usize).map(|t| (t, id)));
    let (bos, eos) = (token(v.add_bos, v.bos_id), token(v.add_eos, v.eos_id));
    let sequence = |name: &str, type_id: u32| {
        let mut parts = Vec::new();
        parts.extend(bos.map(|(t, _)| json!({"SpecialToken": {"id": t, "type_id": type_id}})));
        parts.push(json!({"Sequence": {"id": name, "type_id": type_id}}));
        parts.extend(eos.map(|(t, _)| json!({"SpecialToken": {"id": t, "type_id": type_id}})));
        parts
    };
    let pair: Vec<Json> = sequence("A", 0).into_iter().chain(sequence("B", 1)).collect();
    let mut special = Map::new();
    for (t, id) in [bos, eos].into_iter().flatten() {
        special.insert(t.clone(), json!({"id": t, "ids": [id], "tokens": [t]}));
    }
    json!({"type": "TemplateProcessing", "single": sequence("A", 0), "pair": pair, "special_tokens": special})
}

type Parts = (Json, Json, Json, Json);

fn byte_level(v: &Vocabulary) -> Result<Parts> {
    let Some((pre, ignore_merges, compose)) = family(&v.pre) else {
        let detail = format!("the GGUF file's pre-tokenizer {:?} is not known here; known are {FAMILIES}. ", v.pre);
        return Err(Error::input(detail + "Use the model's Hugging Face directory, whose tokenizer.json says it all"));
    };
    let mut merges = Vec::with_capacity(v.merges.len());
    for (rank, merge) in v.merges.iter().enumerate() {
        match merge.split_once(' ') {
            Some((left, right)) if !left.is_empty() && !right.is_empty() => merges.push(json!([left, right])),
            _ => {
                return Err(Error::input(format!(
                    "the GGUF file's merge {rank} is {merge:?}, not two tokens with a space between"
                )));
            }
        }
    }
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges, "vocab": vocab_json(v), "merges": merges,
    });
    let normalizer = if compose { json!({"type": "NFC"}) } else { Json::Null };
    Ok((model, normalizer, cut(pre), bytes(true)))
}

fn bytes(use_regex: bool) -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

fn cut(pre: Pre) -> Json {
    match pre {
        Pre::Gpt2 => bytes(true),
        Pre::DigitsGpt2 => {
            json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes(true)]})
        }
        Pre::Split(regex) => {
            let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
            json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]})
        }
    }
}

/// SentencePiece BPE: a space is `▁`, what is not in the vocabulary falls back to its bytes.
fn sentence_piece(v: &Vocabulary) -> Result<Parts> {
    let merges = if v.merges.is_empty() { merges_of_scores(v)? } else { given_merges(v)? };
    let unknown = v.unknown_id.and_then(|id| v.tokens.get(id as usize));
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocab_json(v), "merges": merges,
    });
    // As Llama's own tokenizer.json and llama.cpp: each piece of text between tokens that are matched whole gets a ▁ in front, even
    // where it begins with a blank.
    let blank = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let normalizers =
        if v.add_space_prefix { vec![json!({"type": "Prepend", "prepend": "▁"}), blank] } else { vec![blank] };
    let normalizer = json!({"type": "Sequence", "normalizers": normalizers});
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if v.add_space_prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok((model, normalizer, Json::Null, json!({"type": "Sequence", "decoders": decoders})))
}

fn given_merges(v: &Vocabulary) -> Result<Vec<Json>> {
    let pair = |(rank, merge): (usize, &String)| {
        let (left, right) = merge.split_once(' ').ok_or_else(|| {
            Error::input(format!("the GGUF file's merge {rank} is {merge:?}, not two tokens with a space between"))
        })?;
        Ok(json!([left, right]))
    };
    v.merges.iter().enumerate().map(pair).collect()
}

/// SentencePiece merges the neighbours whose union has the best score, so a merge's rank is the rank of its result's score:
/// every way to cut a token into two tokens is a merge, best score first; of equal scores the longer left part, then the longer right part first.
fn merges_of_scores(v: &Vocabulary) -> Result<Vec<Json>> {
    if v.scores.is_empty() {
        return Err(Error::input(
            "the GGUF file's SentencePiece vocabulary has neither merges nor scores; convert the model again",
        ));
    }
    let ids = ids(v);
    let mut merges: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
    for (token, score) in v.tokens.iter().zip(&v.scores) {
        let mut cuts: Vec<(u32, u32, &str, &str)> = token
            .char_indices()
            .skip(1)
            .map(|(at, _)| token.split_at(at))
            .filter_map(|(l, r)| Some((*ids.get(l)?, *ids.get(r)?, l, r)))
            .collect();
        cuts.sort();
        merges.extend(cuts.iter().map(|(_, _, l, r)| (*score, l.chars().count(), r.chars().count(), *l, *r)));
    }
    // A stable sort, best first.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
    Ok(merges.into_iter().map(|(_, _, _, l, r)| json!([l, r])).collect())
}
