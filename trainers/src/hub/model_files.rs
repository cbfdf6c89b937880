//! Which files of a repository make a model: configuration, tokenizer and safetensors, or one GGUF file.
//!
//! Never fetched: pickled weights (`.bin`, `.pt`), code (`.py`), copies in other formats in directories below.
use serde_json::Value;
use std::collections::BTreeSet;

/// Everything that is read of a model besides its weights. Some thousands of bytes to some megabytes.
const SMALL: [&str; 13] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    INDEX,
    ADAPTER_CONFIG,
    ADAPTER,
];
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER: &str = "adapter_model.safetensors";

/// What a repository of models holds, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A directory in Hugging Face layout: a model or an adapter.
    Directory,
    /// One GGUF file, by its path (its first part, where it was split).
    Gguf(String),
}

/// What is to be opened of a repository with these files. Errors: nothing that is read, or several GGUF files, to choose from.
pub fn holds<'a>(files: impl Iterator<Item = &'a str> + Clone) -> Result<Holds, String> {
    let has = |name: &str| files.clone().any(|file| file == name);
    let adapter = has(ADAPTER_CONFIG) && !has("config.json");
    if (adapter && has(ADAPTER)) || (has("config.json") && (has(SINGLE) || has(INDEX))) {
        return Ok(Holds::Directory);
    }
    let is_gguf =
        |file: &&str| file.to_ascii_lowercase().ends_with(".gguf") && part_of(file).is_none_or(|(_, i, _)| i == 1);
    // A projector reads pictures; it is no language model.
    let is_model = |file: &&str| !file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase().starts_with("mmproj");
    let gguf: Vec<&str> = files.clone().filter(is_gguf).filter(is_model).collect();
    match gguf[..] {
        [only] => return Ok(Holds::Gguf(only.to_string())),
        [_, ..] => return Err(format!("has several GGUF files; name one of them: {}", gguf.join(", "))),
        [] => {}
    }
    let pickled = files.clone().find(|file| [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| file.ends_with(end)));
    Err(match (pickled, adapter || has("config.json")) {
        (Some(file), _) => format!(
            "has its weights only as {file}: Python objects, which are never opened here; write them as safetensors (in Python: \
             model.save_pretrained(path)), or look for a revision that has them (org/name@refs/pr/N)"
        ),
        (None, true) => "has no weights as safetensors or GGUF".into(),
        (None, false) => {
            "holds no model that is read here: neither config.json with safetensors nor a .gguf file".into()
        }
    })
}

/// The files of a directory that are fetched first.
pub fn small<'a>(files: impl Iterator<Item = &'a str>) -> Vec<String> {
    let is_template = |file: &str| {
        let name = file.strip_prefix("additional_chat_templates/");
        name.is_some_and(|name| name.ends_with(".jinja") && !name.contains('/'))
    };
    files.filter(|file| SMALL.contains(file) || is_template(file)).map(str::to_string).collect()
}

/// The files that hold a directory's weights; `index`: the text of its `model.safetensors.index.json`, where there is one.
pub fn weights<'a>(files: impl Iterator<Item = &'a str> + Clone, index: Option<&str>) -> Vec<String> {
    if files.clone().any(|file| file == SINGLE) {
        return vec![SINGLE.into()];
    }
    let index: Value = index.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let shards = index["weight_map"].as_object().into_iter().flat_map(|map| map.values().filter_map(Value::as_str));
    let named: BTreeSet<&str> = shards.collect();
    // What the index names and the repository does not have is told when the model is opened.
    files.filter(|file| named.contains(file)).map(str::to_string).collect()
}

/// All parts of the GGUF file at `first`; itself where it was not split.
pub fn gguf_parts<'a>(files: impl Iterator<Item = &'a str>, first: &str) -> Vec<String> {
    let Some((stem, _, n)) = part_of(first) else { return vec![first.to_string()] };
    files.filter(|file| part_of(file).is_some_and(|(s, _, m)| s == stem && m == n)).map(str::to_string).collect()
}

/// (stem, number, parts) of `stem-00001-of-00003.gguf`.
fn part_of(file: &str) -> Option<(&str, u32, u32)> {
    let (stem, n) = file.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, i) = stem.rsplit_once('-')?;
    Some((stem, i.parse().ok()?, n.parse().ok()?))
}

/// The name of a directory's index.
pub fn index_name() -> &'static str {
    INDEX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(files: &[&str]) -> Result<Holds, String> {
        holds(files.iter().copied())
    }

    #[test]
    fn what_a_repository_holds() {
        assert_eq!(held(&["config.json", "model.safetensors", "pytorch_model.bin", "a.gguf"]), Ok(Holds::Directory));
        assert_eq!(held(&["config.json", INDEX, "model-00001-of-00002.safetensors"]), Ok(Holds::Directory));
        assert_eq!(held(&[ADAPTER_CONFIG, ADAPTER]), Ok(Holds::Directory));
        assert_eq!(held(&["README.md", "m.Q4_1.gguf", "mmproj-m.gguf"]), Ok(Holds::Gguf("m.Q4_1.gguf".into())));
        let split = ["q/m-00001-of-00002.gguf", "q/m-00002-of-00002.gguf"];
        assert_eq!(held(&split), Ok(Holds::Gguf(split[0].into())));
        assert_eq!(gguf_parts(split.into_iter(), split[0]), split);
        for (files, said) in [
            (&["a.gguf", "b.gguf"][..], "a.gguf, b.gguf"),
            (&["config.json", "pytorch_model.bin"], "only as pytorch_model.bin"),
            (&["config.json"], "no weights"),
            (&["README.md"], "neither config.json"),
            (&[ADAPTER_CONFIG, "adapter_model.bin"], "only as adapter_model.bin"),
        ] {
            let told = held(files).unwrap_err();
            assert!(told.contains(said), "{told}");
        }
    }

    #[test]
    fn what_is_fetched() {
        let all = [
            "README.md",
            "additional_chat_templates/tool_use.jinja",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model-00003-of-00003.safetensors",
            INDEX,
            "modeling_x.py",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let first = small(all.into_iter());
        assert_eq!(first, ["additional_chat_templates/tool_use.jinja", "config.json", INDEX, "tokenizer.json"]);
        let index = r#"{"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors", "c": "../x"}}"#;
        let shards = weights(all.into_iter(), Some(index));
        assert_eq!(shards, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
        assert_eq!(weights(["model.safetensors", INDEX].into_iter(), Some(index)), ["model.safetensors"]);
    }
}
