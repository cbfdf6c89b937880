//! A tokenizer as the metadata of a GGUF file: the inverse of `gguf_tokenizer.rs`, and like it checked against ids.
//!
//! llama.cpp knows a pre-tokenizer by a name; which one it is follows from `tokenizer.json` itself. What was made is read
//! back and must cut a number of texts as the tokenizer does.
use super::Tokenizer;
use super::gguf_tokenizer::{self, CONTROL, UNKNOWN, USER_DEFINED};
use crate::error::{Error, Result};
use engine::files::vocabulary::Vocabulary;
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::path::Path;

const NORMAL: i32 = 1;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Texts in which tokenizers differ: contractions, digits, blanks, line ends, scripts, signs, code.
const PROBES: [&str; 12] = [
    "Hello, world! It's what they'll say: I'M here, you'RE there.",
    "1234567890 3.14159 1,000,000 x2y22z222",
    "a  b   c    d\t\te\n\nf\r\n  g \n h",
    " leading and trailing ",
    "Größe, naïve, œuvre, Ελληνικά, кириллица, עברית, العربية",
    "中文字符 日本語テキスト 한국어 ไทย हिन्दी",
    "🙂🚀👩‍👩‍👧 ½ ² № ™ … “quoted” – dash",
    "fn main() { let x = [1, 2]; if x[0] >= 2 && !done { return; } } // end",
    "https://example.org/a_b?c=d&e=f#g user@example.org",
    "e\u{301} a\u{308} \u{a0} \u{200b} \u{feff}",
    "UPPER lower CamelCase snake_case SCREAMING_CASE",
    "=====  ----- ''' \"\"\" ((())) \\n {{x}} <tag/>",
];

/// The metadata, and a sentence about each thing that it cannot say. `n_rows`: rows of the model's embedding, as many as
/// there will be tokens; `ends`: the ids that end what is generated.
///
/// Errors: a kind of tokenizer that GGUF has no place for, or a pre-tokenizer that llama.cpp has no name for here.
pub fn vocabulary_of(tokenizer: &Tokenizer, n_rows: usize, ends: &[u32]) -> Result<(Vocabulary, Vec<String>)> {
    let json = tokenizer.json()?;
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(Error::input(format!(
            "its tokenizer is of type {}; only BPE (byte-level, or SentencePiece's) can be written into a GGUF file",
            model["type"]
        )));
    }
    let byte_level = steps(&json["pre_tokenizer"]).iter().any(|step| step["type"] == "ByteLevel");
    let mut v = Vocabulary { model: "gpt2".into(), ..Default::default() };
    let mut notes = ids(&mut v, tokenizer, ends);
    v.unknown_id = tokenizer
        .special_token("unk_token")
        .or(model["unk_token"].as_str())
        .and_then(|token| tokenizer.id(token))
        .filter(|_| !byte_level);
    tokens(&mut v, tokenizer, n_rows, byte_level);
    templates(&mut v, tokenizer);
    let merges = merges(model)?;
    if byte_level {
        v.merges = merges.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
        (v.add_bos, v.add_eos) = added_ends(&mut v, tokenizer)?;
        v.pre = pre_tokenizer(&json, &v, tokenizer)?;
    } else {
        (v.model, v.pre) = ("llama".into(), "default".into());
        v.add_space_prefix = prepends_blank(&json);
        v.scores = scores(&v, &merges);
        (v.add_bos, v.add_eos) = added_ends(&mut v, tokenizer)?;
        if let Some(text) = first_difference(&v, tokenizer, &PROBES)? {
            return Err(Error::input(format!(
                "its tokenizer cannot be written into a GGUF file: {text:?} would be cut otherwise"
            )));
        }
    }
    notes.extend(around_special_tokens(&v, tokenizer)?);
    Ok((v, notes))
}

/// As many tokens as the embedding has rows, which llama.cpp asks for.
pub fn fill_up(v: &mut Vocabulary, n_rows: usize) {
    for id in v.tokens.len()..n_rows {
        v.tokens.push(format!("[PAD{id}]"));
        if !v.token_types.is_empty() {
            v.token_types.push(UNUSED);
        }
        if !v.scores.is_empty() {
            v.scores.push(0.0);
        }
    }
}

/// The steps of a normalizer or pre-tokenizer, those of sequences one by one.
fn steps(json: &Json) -> Vec<&Json> {
    match json["type"].as_str() {
        Some("Sequence") => {
            let inner = json["pretokenizers"].as_array().or(json["normalizers"].as_array());
            inner.into_iter().flatten().flat_map(steps).collect()
        }
        Some(_) => vec![json],
        None => vec![],
    }
}

fn ids(v: &mut Vocabulary, tokenizer: &Tokenizer, ends: &[u32]) -> Vec<String> {
    (v.bos_id, v.pad_id) = (tokenizer.bos_id(), tokenizer.pad_id());
    v.eos_id = tokenizer.eos_id().or(ends.first().copied());
    let mut others = ends.iter().copied().filter(|id| Some(*id) != v.eos_id);
    (v.eot_id, v.eom_id) = (others.next(), others.next());
    let rest: Vec<String> = others.filter_map(|id| tokenizer.token(id)).collect();
    match rest.is_empty() {
        true => vec![],
        false => vec![format!("ends beyond three cannot be told in a GGUF file: {}", rest.join(", "))],
    }
}

/// Texts and kinds of all ids; a row of the embedding that is no token gets one that no text has.
fn tokens(v: &mut Vocabulary, tokenizer: &Tokenizer, n_rows: usize, byte_level: bool) {
    let added = tokenizer.added_tokens();
    for id in 0..n_rows as u32 {
        let text = tokenizer.token(id);
        let kind = match (&text, added.get(&id)) {
            (None, _) => UNUSED,
            _ if v.unknown_id == Some(id) => UNKNOWN,
            (_, Some(true)) => CONTROL,
            (_, Some(false)) => USER_DEFINED,
            (Some(text), None) if !byte_level && is_byte(text) => BYTE,
            _ => NORMAL,
        };
        v.tokens.push(text.unwrap_or_else(|| format!("[PAD{id}]")));
        v.token_types.push(kind);
    }
}

/// Whether this is SentencePiece's token of one byte, `<0x0A>`.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

fn templates(v: &mut Vocabulary, tokenizer: &Tokenizer) {
    for (name, source) in tokenizer.templates() {
        match name.as_str() {
            "default" => v.chat_template = Some(source.clone()),
            _ => v.named_templates.push((name.clone(), source.clone())),
        }
    }
    v.named_templates.sort();
}

fn merges(model: &Json) -> Result<Vec<(String, String)>> {
    let wrong = |merge: &Json| Error::input(format!("its tokenizer.json has the merge {merge}, not two tokens"));
    let pair = |merge: &Json| match merge {
        Json::String(text) => text.split_once(' ').map(|(a, b)| (a.to_string(), b.to_string())),
        Json::Array(two) => match &two[..] {
            [Json::String(a), Json::String(b)] => Some((a.clone(), b.clone())),
            _ => None,
        },
        _ => None,
    };
    let all = model["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|merge| pair(merge).ok_or_else(|| wrong(merge))).collect()
}

/// Scores from which SentencePiece's merges follow again: 0 for the result of the first merge, −1 for that of the next …
fn scores(v: &Vocabulary, merges: &[(String, String)]) -> Vec<f32> {
    let mut ranks: HashMap<String, f32> = HashMap::new();
    for (left, right) in merges {
        let next = -(ranks.len() as f32);
        ranks.entry(format!("{left}{right}")).or_insert(next);
    }
    let least = -(ranks.len() as f32);
    let score = |(token, kind): (&String, &i32)| match *kind {
        NORMAL => ranks.get(token).copied().unwrap_or(least),
        _ => 0.0,
    };
    v.tokens.iter().zip(&v.token_types).map(score).collect()
}

/// Whether a text is read as if a blank stood before it.
fn prepends_blank(json: &Json) -> bool {
    let (normalizers, cuts) = (steps(&json["normalizer"]), steps(&json["pre_tokenizer"]));
    let prepend = normalizers.iter().any(|step| step["type"] == "Prepend");
    prepend || cuts.iter().any(|step| step["type"] == "Metaspace" && step["prepend_scheme"] != "never")
}

/// Whether an encoded text gets BOS in front and EOS behind; which tokens these are.
fn added_ends(v: &mut Vocabulary, tokenizer: &Tokenizer) -> Result<(bool, bool)> {
    let (all, plain) = (tokenizer.encode("a")?, tokenizer.encode_rendered("a")?);
    let at = all.windows(plain.len().max(1)).position(|part| part == plain);
    let sides = at.map(|at| (&all[..at], &all[at + plain.len()..]));
    match sides {
        Some(([], [])) => Ok((false, false)),
        Some((before, behind)) if before.len() < 2 && behind.len() < 2 => {
            v.bos_id = before.first().copied().or(v.bos_id);
            if behind.first().is_some_and(|id| Some(*id) != v.eos_id) {
                return Err(Error::input(
                    "its tokenizer adds a token behind a text that is not its EOS; GGUF cannot say that",
                ));
            }
            Ok((!before.is_empty(), !behind.is_empty()))
        }
        _ => Err(Error::input(format!(
            "its tokenizer makes {all:?} of \"a\"; GGUF can add one BOS and one EOS to a text, no more"
        ))),
    }
}

/// The name under which llama.cpp knows how the text is cut: that of the same expression whose vocabulary gives the same ids.
fn pre_tokenizer(json: &Json, v: &Vocabulary, tokenizer: &Tokenizer) -> Result<String> {
    let wanted = comparable(&json["pre_tokenizer"]);
    let mut difference = None;
    for name in gguf_tokenizer::WRITTEN {
        if gguf_tokenizer::pre_tokenizer(name).map(|json| comparable(&json)) != Some(wanted.clone()) {
            continue;
        }
        let candidate = Vocabulary { pre: name.into(), ..v.clone() };
        match first_difference(&candidate, tokenizer, &PROBES)? {
            None => return Ok(name.into()),
            Some(text) => difference = Some((name, text)),
        }
    }
    Err(Error::input(match difference {
        Some((name, text)) => {
            format!("llama.cpp's pre-tokenizer {name} is not quite the tokenizer's: it cuts {text:?} otherwise")
        }
        None => {
            "its tokenizer cuts texts in a way that llama.cpp has no name for here; convert_hf_to_gguf.py of llama.cpp \
                 may know it: write a directory with --output_dir and convert that"
                .into()
        }
    }))
}

/// The steps of a pre-tokenizer without what changes no token.
fn comparable(json: &Json) -> Vec<Json> {
    let step = |step: &Json| {
        let mut step = step.clone();
        if let Some(fields) = step.as_object_mut() {
            fields.remove("trim_offsets");
            if fields.get("type") == Some(&json!("ByteLevel")) {
                fields.entry("use_regex").or_insert(json!(true));
            }
        }
        step
    };
    steps(json).into_iter().map(step).collect()
}

/// The first text of which the vocabulary makes other ids than the tokenizer.
fn first_difference(v: &Vocabulary, tokenizer: &Tokenizer, texts: &[&str]) -> Result<Option<String>> {
    let back = Tokenizer::from_vocabulary(v, Path::new("the tokenizer as it would be written"))?;
    for text in texts {
        if back.encode_rendered(text)? != tokenizer.encode_rendered(text)?
            || back.encode(text)? != tokenizer.encode(text)?
        {
            return Ok(Some(text.to_string()));
        }
    }
    Ok(None)
}

/// A note where a text with a token that is matched whole is cut otherwise: blanks that the token takes, a blank put behind it.
fn around_special_tokens(v: &Vocabulary, tokenizer: &Tokenizer) -> Result<Option<String>> {
    let mut ids: Vec<u32> = tokenizer.added_tokens().into_keys().collect();
    ids.sort_unstable();
    let named = ids.into_iter().take(200).filter_map(|id| tokenizer.token(id));
    let texts: Vec<String> = named.flat_map(|token| [format!("a{token}b"), format!("a {token} b")]).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let note = |text| {
        format!("llama.cpp cuts {text:?} otherwise than the model's own tokenizer: blanks beside special tokens")
    };
    Ok(first_difference(v, tokenizer, &texts)?.map(note))
}
