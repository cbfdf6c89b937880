//! Text to token ids and back, from a Hugging Face directory or from a GGUF file's metadata, as transformers does it.
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use engine::files::vocabulary::Vocabulary;
use serde_json::{Map, Value as Json};
use tokenizers::{AddedToken, Encoding};

use super::chat_template::ChatTemplates;
use super::gguf_tokenizer;
use crate::error::{Error, Result};

/// Names of the special tokens that transformers gives a meaning to.
const SPECIAL: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Files of a Hugging Face directory that belong to its tokenizer.
const FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];
const TEMPLATE_DIRECTORY: &str = "additional_chat_templates";

/// A tokenizer with its special tokens, its chat templates and the files it came from.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    n_vocab: usize,
    /// (name, text) of the special tokens, as templates see them.
    special: Vec<(String, String)>,
    /// (name, source)
    templates: Vec<(String, String)>,
    clean_up: bool,
    files: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.n_vocab)
            .field("special", &self.special)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// From a directory with `tokenizer.json` and, as far as they are there, `tokenizer_config.json`,
    /// `special_tokens_map.json`, `chat_template.jinja`, `additional_chat_templates/*.jinja`.
    ///
    /// Errors name the file that is missing or broken and what to do.
    pub fn from_directory(directory: &Path) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        if !path.is_file() {
            let remedy = "not found. A model directory needs its tokenizer: copy tokenizer.json from the model's repository, \
                          or write it with transformers: AutoTokenizer.from_pretrained(model).save_pretrained(directory)";
            return Err(Error::file(path, remedy));
        }
        let mut files = Vec::new();
        for name in FILES {
            let path = directory.join(name);
            if path.is_file() {
                let bytes = fs::read(&path).map_err(|e| Error::file(&path, e))?;
                if bytes.starts_with(engine::files::LFS_BEGINNING) {
                    return Err(Error::file(path, engine::files::LFS_POINTER));
                }
                files.push((name.to_string(), bytes));
            }
        }
        files.extend(extra_templates(directory)?);
        let inner =
            tokenizers::Tokenizer::from_bytes(bytes_of(&files, "tokenizer.json").unwrap_or_default()).map_err(|e| {
                Error::file(
                    &path,
                    format!("not a readable tokenizer ({}). It may be cut off; fetch it again", in_words(&*e)),
                )
            })?;
        Self::assemble(inner, files, directory)
    }

    /// From the vocabulary a GGUF file carries. `origin` names the file in errors.
    pub fn from_vocabulary(vocabulary: &Vocabulary, origin: &Path) -> Result<Self> {
        let in_file = |e: Error| Error::file(origin, e);
        let json = serde_json::to_vec_pretty(&gguf_tokenizer::tokenizer_json(vocabulary).map_err(in_file)?)
            .map_err(Error::internal)?;
        let inner = tokenizers::Tokenizer::from_bytes(&json).map_err(|e| {
            let e = in_words(&*e);
            Error::file(origin, format!("its vocabulary makes no tokenizer ({e}); convert the model again"))
        })?;
        let config =
            serde_json::to_vec_pretty(&gguf_tokenizer::tokenizer_config(vocabulary)).map_err(Error::internal)?;
        let mut files = vec![("tokenizer.json".to_string(), json), ("tokenizer_config.json".to_string(), config)];
        if let Some(template) = &vocabulary.chat_template {
            files.push(("chat_template.jinja".into(), template.clone().into_bytes()));
        }
        for (name, template) in &vocabulary.named_templates {
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
                let detail = format!("a chat template is named {name:?}; letters, digits, _ and - are allowed");
                return Err(Error::file(origin, detail));
            }
            files.push((format!("{TEMPLATE_DIRECTORY}/{name}.jinja"), template.clone().into_bytes()));
        }
        let mut tokenizer = Self::assemble(inner, files, origin)?;
        tokenizer.n_vocab = tokenizer.n_vocab.max(vocabulary.tokens.len());
        Ok(tokenizer)
    }

    fn assemble(mut inner: tokenizers::Tokenizer, files: Vec<(String, Vec<u8>)>, directory: &Path) -> Result<Self> {
        inner.with_truncation(None).map_err(Error::internal)?;
        inner.with_padding(None);
        let config = object_of(&files, "tokenizer_config.json", directory)?;
        let map = object_of(&files, "special_tokens_map.json", directory)?;
        let special = add_special_tokens(&mut inner, &config, &map)
            .map_err(|detail| Error::file(directory.join("tokenizer_config.json"), detail))?;
        let templates = templates_of(&files, &config, directory)?;
        let bpe = matches!(inner.get_model(), tokenizers::ModelWrapper::BPE(_));
        let clean_up = !bpe && config.get("clean_up_tokenization_spaces").and_then(Json::as_bool).unwrap_or(false);
        let n_vocab = inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
        Ok(Tokenizer { inner, n_vocab, special, templates, clean_up, files })
    }

    /// Ids of a text with the special tokens that the post-processor adds: transformers' `tok(text)["input_ids"]`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding =
            self.inner.encode_fast(text, true).map_err(|e| Error::input(format!("cannot tokenize a text: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of a rendered chat, which brings its own special tokens: nothing is added.
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>> {
        let encoding =
            self.inner.encode_fast(text, false).map_err(|e| Error::input(format!("cannot tokenize a text: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// As [`encode_rendered`](Self::encode_rendered), with the offsets of each token in characters.
    pub(super) fn encode_with_offsets(&self, text: &str) -> Result<Encoding> {
        self.inner.encode_char_offsets(text, false).map_err(|e| Error::input(format!("cannot tokenize a text: {e}")))
    }

    /// Text of ids, special tokens included: transformers' `tok.decode(ids)`.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode_with(ids, false)
    }

    /// Text of ids without the special tokens.
    pub fn decode_plain(&self, ids: &[u32]) -> Result<String> {
        self.decode_with(ids, true)
    }

    fn decode_with(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let text =
            self.inner.decode(ids, skip_special).map_err(|e| Error::input(format!("cannot decode tokens: {e}")))?;
        Ok(if self.clean_up { clean_up(&text) } else { text })
    }

    /// One more than the largest token id: the rows that an embedding needs at least.
    pub fn vocab_size(&self) -> usize {
        self.n_vocab
    }

    /// A token as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token as the vocabulary spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether a token is a special one (control tokens, not text).
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(|t| t.special)
    }

    /// The token that ends a sequence; None where the model names none, or one that its vocabulary lacks.
    pub fn eos_id(&self) -> Option<u32> {
        self.special_token("eos_token").and_then(|t| self.id(t))
    }

    /// The token that begins a sequence; None where the model names none, or one that its vocabulary lacks.
    pub fn bos_id(&self) -> Option<u32> {
        self.special_token("bos_token").and_then(|t| self.id(t))
    }

    /// The token that fills batches up; None where the model names none, or one that its vocabulary lacks.
    pub fn pad_id(&self) -> Option<u32> {
        self.special_token("pad_token").and_then(|t| self.id(t))
    }

    /// The text of a special token by its name, for instance "eos_token".
    pub fn special_token(&self, name: &str) -> Option<&str> {
        self.special.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str())
    }

    /// Whether the model brings a chat template.
    pub fn has_chat_template(&self) -> bool {
        !self.templates.is_empty()
    }

    /// Whether its chat templates are those of another tokenizer.
    pub fn has_templates_of(&self, other: &Tokenizer) -> bool {
        self.templates == other.templates
    }

    /// Whether this is the name of a file, or of the directory of files, that the tokenizer was read from.
    pub fn is_file_of(&self, name: &str) -> bool {
        name == TEMPLATE_DIRECTORY || self.files.iter().any(|(known, _)| known == name)
    }

    /// tokenizer.json as it was read.
    pub(super) fn json(&self) -> Result<Json> {
        serde_json::from_slice(bytes_of(&self.files, "tokenizer.json").unwrap_or_default()).map_err(Error::internal)
    }

    /// The tokens that are matched whole in a text, by id: whether they are special.
    pub(super) fn added_tokens(&self) -> HashMap<u32, bool> {
        self.inner.get_added_tokens_decoder().into_iter().map(|(id, token)| (id, token.special)).collect()
    }

    /// Chat templates as (name, source).
    pub(super) fn templates(&self) -> &[(String, String)] {
        &self.templates
    }

    /// Whether a chat template, if there is one, has this word in it: `tool_calls`, if it shows calls of functions.
    pub fn template_mentions(&self, word: &str) -> bool {
        self.templates.iter().any(|(_, source)| source.contains(word))
    }

    /// Compiles the chat templates. `now` is what `strftime_now` tells, in seconds since 1970 (UTC).
    ///
    /// Errors: the model has none, or one that does not compile.
    pub fn chat_templates(&self, now: i64) -> Result<ChatTemplates> {
        if self.templates.is_empty() {
            let remedy = "put a chat_template.jinja into its directory, or use a data set of plain text or prompt and completion";
            return Err(Error::input(format!("the model has no chat template, which messages need; {remedy}")));
        }
        ChatTemplates::new(&self.templates, self.special.clone(), now)
    }

    /// Replaces the chat templates by one, for instance from a file the user names; it is saved with the tokenizer.
    pub fn set_chat_template(&mut self, source: &str) {
        self.templates = vec![("default".into(), source.into())];
        self.files.retain(|(name, _)| name != "chat_template.jinja" && !name.starts_with(TEMPLATE_DIRECTORY));
        self.files.push(("chat_template.jinja".into(), source.as_bytes().to_vec()));
    }

    /// Makes another token of the vocabulary the one that ends a sequence.
    pub fn set_eos(&mut self, token: &str) -> Result<()> {
        if self.id(token).is_none() {
            return Err(Error::input(format!("eos_token {token:?} is not in the model's vocabulary")));
        }
        self.special.retain(|(name, _)| name != "eos_token");
        self.special.push(("eos_token".into(), token.into()));
        Ok(())
    }

    /// Writes the tokenizer's files into `directory` (which exists) for transformers' `AutoTokenizer`: those of a Hugging Face
    /// directory byte for byte, for a GGUF file the ones made from it.
    pub fn save(&self, directory: &Path) -> Result<()> {
        for (name, bytes) in &self.files {
            let path = directory.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|e| Error::file(parent, e))?;
            }
            fs::write(&path, bytes).map_err(|e| Error::file(&path, e))?;
            engine::files::atomic::mark_changed();
        }
        Ok(())
    }
}

/// The tokenizers crate's message, without the names of its types.
fn in_words(error: &dyn std::error::Error) -> String {
    let text = error.to_string().replace('\n', " ");
    if text.contains("untagged enum") { "a part of it is of a kind that is not known".into() } else { text }
}

fn bytes_of<'a>(files: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    files.iter().find(|(n, _)| n == name).map(|(_, bytes)| bytes.as_slice())
}

/// The JSON object in a file; empty where there is no such file.
fn object_of(files: &[(String, Vec<u8>)], name: &str, directory: &Path) -> Result<Map<String, Json>> {
    let Some(bytes) = bytes_of(files, name) else { return Ok(Map::new()) };
    match serde_json::from_slice(bytes) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(_) => Err(Error::file(directory.join(name), "must be a JSON object; fetch the file again")),
        Err(e) => Err(Error::file(directory.join(name), format!("not valid JSON ({e}); fetch the file again"))),
    }
}

/// The further templates of a directory, in order of their names.
fn extra_templates(directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = directory.join(TEMPLATE_DIRECTORY);
    let mut files = Vec::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    for entry in fs::read_dir(&folder).map_err(|e| Error::file(&folder, e))? {
        let path = entry.map_err(|e| Error::file(&folder, e))?.path();
        if let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|n| n.ends_with(".jinja")) {
            files.push((format!("{TEMPLATE_DIRECTORY}/{name}"), fs::read(&path).map_err(|e| Error::file(&path, e))?));
        }
    }
    files.sort();
    Ok(files)
}

/// Templates as (name, source). Files win over `tokenizer_config.json`, as in transformers.
fn templates_of(
    files: &[(String, Vec<u8>)],
    config: &Map<String, Json>,
    directory: &Path,
) -> Result<Vec<(String, String)>> {
    let mut templates = Vec::new();
    for (name, bytes) in files {
        let Some(stem) = name.strip_suffix(".jinja") else { continue };
        let stem = if stem == "chat_template" { "default" } else { stem.rsplit('/').next().unwrap_or(stem) };
        let text =
            String::from_utf8(bytes.clone()).map_err(|_| Error::file(directory.join(name), "is not UTF-8 text"))?;
        templates.push((stem.to_string(), text));
    }
    if !templates.is_empty() {
        return Ok(templates);
    }
    let wrong = || {
        let detail = "chat_template must be a string or a list of {\"name\", \"template\"}; fetch the file again";
        Error::file(directory.join("tokenizer_config.json"), detail)
    };
    match config.get("chat_template") {
        None | Some(Json::Null) => {}
        Some(Json::String(source)) => templates.push(("default".into(), source.clone())),
        Some(Json::Array(list)) => {
            for entry in list {
                let text = |key: &str| entry.get(key).and_then(Json::as_str).map(String::from).ok_or_else(wrong);
                templates.push((text("name")?, text("template")?));
            }
        }
        Some(Json::Object(map)) => {
            for (name, source) in map {
                templates.push((name.clone(), source.as_str().map(String::from).ok_or_else(wrong)?));
            }
        }
        Some(_) => return Err(wrong()),
    }
    Ok(templates)
}

/// A token given as its text or as an object; the object's settings where it has them.
fn added_token(value: &Json) -> Option<AddedToken> {
    match value {
        Json::String(text) => Some(AddedToken::from(text.clone(), true)),
        Json::Object(fields) => {
            let flag = |key: &str, default: bool| fields.get(key).and_then(Json::as_bool).unwrap_or(default);
            let special = flag("special", true);
            let token = AddedToken::from(fields.get("content")?.as_str()?.to_string(), special);
            Some(
                token
                    .single_word(flag("single_word", false))
                    .lstrip(flag("lstrip", false))
                    .rstrip(flag("rstrip", false))
                    .normalized(flag("normalized", !special)),
            )
        }
        _ => None,
    }
}

/// Makes the special tokens known to the backend as transformers does on loading, and returns them by name.
fn add_special_tokens(
    inner: &mut tokenizers::Tokenizer,
    config: &Map<String, Json>,
    map: &Map<String, Json>,
) -> std::result::Result<Vec<(String, String)>, String> {
    // Tokens that the configuration lists by id, in their order.
    if let Some(listed) = config.get("added_tokens_decoder").and_then(Json::as_object) {
        let mut tokens: Vec<(u32, AddedToken)> = Vec::new();
        for (id, value) in listed {
            let wrong = || format!("added_tokens_decoder has {id:?}: {value}, which is not an id and a token");
            let mut token = added_token(value).ok_or_else(wrong)?;
            token.special = value.get("special").and_then(Json::as_bool).unwrap_or(false);
            tokens.push((id.parse().map_err(|_| wrong())?, token));
        }
        tokens.sort_by_key(|(id, _)| *id);
        let known = inner.get_added_tokens_decoder();
        tokens.retain(|(id, token)| known.get(id) != Some(token));
        inner.add_tokens(tokens.into_iter().map(|(_, token)| token)).map_err(|e| e.to_string())?;
    }
    let use_map = !config.contains_key("added_tokens_decoder");
    let mut special: Vec<(String, String)> = Vec::new();
    let mut tokens: Vec<AddedToken> = Vec::new();
    let sources = config.iter().chain(map.iter().filter(|_| use_map));
    for (key, value) in sources
        .filter(|(k, v)| (SPECIAL.contains(&k.as_str()) || (k.ends_with("_token") && v.is_string())) && !v.is_null())
    {
        let token = added_token(value)
            .ok_or_else(|| format!("{key} must be a string or an object with content, found {value}"))?;
        special.retain(|(name, _)| name != key);
        special.push((key.clone(), token.content.clone()));
        tokens.push(token);
    }
    for key in ["additional_special_tokens", "extra_special_tokens"] {
        match config.get(key).or_else(|| map.get(key).filter(|_| use_map)) {
            Some(Json::Array(list)) => tokens.extend(list.iter().filter_map(added_token)),
            Some(Json::Object(named)) => {
                for (name, token) in named.iter().filter_map(|(name, v)| Some((name, added_token(v)?))) {
                    special.push((name.clone(), token.content.clone()));
                    tokens.push(token);
                }
            }
            _ => {}
        }
    }
    // What the backend already knows about a token stays, but it counts as special.
    let known = inner.get_added_tokens_decoder();
    let tokens = tokens.into_iter().map(|token| match known.values().find(|k| k.content == token.content) {
        Some(known) => known.clone().special(true),
        None => token.special(true),
    });
    inner.add_special_tokens(tokens.collect::<Vec<_>>()).map_err(|e| e.to_string())?;
    Ok(special)
}

/// The spaces that WordPiece-style vocabularies put before punctuation, taken out as transformers does.
fn clean_up(text: &str) -> String {
    let pairs = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    pairs.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}
