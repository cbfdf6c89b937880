//! The tokenizer in a GGUF file's metadata.
use crate::error::{Error, Result};
use crate::files::gguf::Gguf;
use crate::files::gguf_write::Meta;
use crate::files::vocabulary::Vocabulary;

impl Gguf {
    /// The tokenizer, from `tokenizer.ggml.*` and `tokenizer.chat_template`. Where a file is silent, llama.cpp's
    /// defaults hold: SentencePiece and Llama 3 vocabularies start a text with BOS, SentencePiece with a space.
    pub fn vocabulary(&self) -> Result<Vocabulary> {
        let missing = |key: &str| Error::file(self.path(), format!("metadata {key} is missing: it has no tokenizer"));
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let model = self.text(&key("model"))?.ok_or_else(|| missing("tokenizer.ggml.model"))?.to_string();
        let pre = self.text(&key("pre"))?.unwrap_or_default().to_string();
        let tokens = self.texts(&key("tokens"))?.ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        let scores = self.floats(&key("scores"))?.unwrap_or_default();
        let token_types = self.integers(&key("token_type"))?.unwrap_or_default();
        for (name, n) in [("scores", scores.len()), ("token_type", token_types.len())] {
            if n != 0 && n != tokens.len() {
                let detail = format!("it has {} tokens, but {} has {n} entries", tokens.len(), key(name));
                return Err(Error::file(self.path(), detail));
            }
        }
        let id = |name: &str| -> Result<Option<u32>> {
            let Some(id) = self.count(&key(name))? else { return Ok(None) };
            if id >= tokens.len() {
                let detail = format!("{} is {id}, but there are {} tokens", key(name), tokens.len());
                return Err(Error::file(self.path(), detail));
            }
            Ok(u32::try_from(id).ok())
        };
        let sentence_piece = model == "llama";
        let llama3 = matches!(pre.as_str(), "llama-bpe" | "llama3" | "llama-v3");
        Ok(Vocabulary {
            bos_id: id("bos_token_id")?,
            eos_id: id("eos_token_id")?,
            eot_id: id("eot_token_id")?,
            eom_id: id("eom_token_id")?,
            pad_id: id("padding_token_id")?,
            unknown_id: id("unknown_token_id")?,
            merges: self.texts(&key("merges"))?.unwrap_or_default(),
            add_bos: self.flag(&key("add_bos_token"))?.unwrap_or(sentence_piece || llama3),
            add_eos: self.flag(&key("add_eos_token"))?.unwrap_or(false),
            add_space_prefix: self.flag(&key("add_space_prefix"))?.unwrap_or(sentence_piece),
            chat_template: self.text("tokenizer.chat_template")?.map(str::to_string),
            named_templates: self.named_templates()?,
            model,
            pre,
            tokens,
            scores,
            token_types,
        })
    }

    /// The templates under `tokenizer.chat_template.NAME`, in the order of their names.
    fn named_templates(&self) -> Result<Vec<(String, String)>> {
        const PREFIX: &str = "tokenizer.chat_template.";
        let mut templates = Vec::new();
        for name in self.keys_below(PREFIX) {
            if let Some(source) = self.text(&format!("{PREFIX}{name}"))? {
                templates.push((name.to_string(), source.to_string()));
            }
        }
        Ok(templates)
    }
}

/// The metadata of a tokenizer: what [`Gguf::vocabulary`] reads.
pub(super) fn metadata(v: &Vocabulary) -> Vec<(String, Meta)> {
    let mut out = Vec::new();
    let mut put = |name: &str, value: Meta| out.push((format!("tokenizer.ggml.{name}"), value));
    put("model", Meta::Text(v.model.clone()));
    put("pre", Meta::Text(v.pre.clone()));
    put("tokens", Meta::Texts(v.tokens.clone()));
    if !v.scores.is_empty() {
        put("scores", Meta::Floats(v.scores.clone()));
    }
    if !v.token_types.is_empty() {
        put("token_type", Meta::Integers(v.token_types.clone()));
    }
    if !v.merges.is_empty() {
        put("merges", Meta::Texts(v.merges.clone()));
    }
    let ids = [("bos", v.bos_id), ("eos", v.eos_id), ("eot", v.eot_id), ("eom", v.eom_id)];
    for (name, id) in ids.into_iter().chain([("unknown", v.unknown_id), ("padding", v.pad_id)]) {
        if let Some(id) = id {
            put(&format!("{name}_token_id"), Meta::U32(id));
        }
    }
    put("add_bos_token", Meta::Bool(v.add_bos));
    put("add_eos_token", Meta::Bool(v.add_eos));
    put("add_space_prefix", Meta::Bool(v.add_space_prefix));
    if !v.named_templates.is_empty() {
        let names = v.named_templates.iter().map(|(name, _)| name.clone()).collect();
        out.push(("tokenizer.chat_templates".into(), Meta::Texts(names)));
        let named =
            |(name, source): &(String, String)| (format!("tokenizer.chat_template.{name}"), Meta::Text(source.clone()));
        out.extend(v.named_templates.iter().map(named));
    }
    out.extend(v.chat_template.iter().map(|source| ("tokenizer.chat_template".into(), Meta::Text(source.clone()))));
    out
}
