//! Families of chat templates without generation marks: how the assistant's turns begin and end in what they print.
//!
//! A template is of a family by what it does. TRL has training versions (with marks) of some thirty templates; a template that
//! prints what one of theirs prints for the probes of `family_probes.json` gets the spans of that training version. Any other is
//! known by the signs in its source.
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::jinja::{LocalTime, Template};

/// How the assistant's turns stand in the text of a family of templates.
#[derive(Debug)]
pub(super) struct Family {
    pub name: &'static str,
    /// One of these begins a turn.
    pub headers: &'static [&'static str],
    /// The header is what the model writes, too.
    pub header_is_said: bool,
    /// The first of these that follows ends the turn; with `true` the model writes it.
    pub ends: &'static [(&'static str, bool)],
    /// A turn may end where the text does.
    pub ends_with_text: bool,
    /// An end-of-sequence token at the end of the text belongs to the last turn.
    pub takes_eos: bool,
    /// What stands between these two is not the model's, although it lies in its turn.
    pub without: Option<(&'static str, &'static str)>,
    /// A message may come to several turns (thoughts, calls and the answer apart).
    pub several: bool,
}

const PLAIN: Family = Family {
    name: "",
    headers: &[],
    header_is_said: false,
    ends: &[],
    ends_with_text: false,
    takes_eos: false,
    without: None,
    several: false,
};

const CHATML_LINES: Family = Family {
    name: "ChatML with line ends",
    headers: &["<|im_start|>assistant\n"],
    ends: &[("<|im_end|>\n", true)],
    ..PLAIN
};
const QWEN2_5: Family =
    Family { name: "Qwen2.5", headers: &["<|im_start|>assistant"], ends: &[("<|im_end|>\n", true)], ..PLAIN };
const CHATML: Family =
    Family { name: "ChatML", headers: &["<|im_start|>assistant\n"], ends: &[("<|im_end|>", true)], ..PLAIN };
const LLAMA3: Family = Family {
    name: "Llama 3",
    headers: &["<|start_header_id|>assistant<|end_header_id|>\n\n"],
    ends: &[("<|eot_id|>", true), ("<|eom_id|>", true)],
    ..PLAIN
};
const PHI3: Family =
    Family { name: "Phi-3", headers: &["<|assistant|>\n"], ends: &[("<|end|>\n", true)], takes_eos: true, ..PLAIN };
const PHI4: Family =
    Family { name: "Phi-4", headers: &["assistant<|im_sep|>"], ends: &[("<|im_end|>", true)], ..PLAIN };
const GEMMA: Family =
    Family { name: "Gemma", headers: &["<start_of_turn>model\n"], ends: &[("<end_of_turn>\n", true)], ..PLAIN };
const ZEPHYR: Family = Family { name: "Zephyr", headers: &["<|assistant|>\n"], ends: &[("</s>", true)], ..PLAIN };
const MISTRAL: Family = Family { name: "Mistral", headers: &["[/INST]"], ends: &[("</s>", true)], ..PLAIN };
const COHERE: Family = Family {
    name: "Cohere",
    headers: &["<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"],
    ends: &[("<|END_OF_TURN_TOKEN|>", true)],
    ..PLAIN
};
const COHERE2: Family = Family {
    name: "Cohere 2",
    headers: &["<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>"],
    ends: &[("<|END_OF_TURN_TOKEN|>", true)],
    ..PLAIN
};
const DEEPSEEK: Family = Family {
    name: "DeepSeek",
    headers: &["<｜Assistant｜>", "<｜tool▁outputs▁end｜>"],
    header_is_said: true,
    ends: &[("<｜end▁of▁sentence｜>", true)],
    ..PLAIN
};
const DIFFUSION_GEMMA: Family = Family {
    name: "Diffusion Gemma",
    headers: &["<|turn>model\n"],
    ends: &[("<turn|>\n", true), ("<|turn>", false)],
    without: Some(("<|tool_response>", "<tool_response|>")),
    ..PLAIN
};
const GLM4: Family = Family {
    name: "GLM-4",
    headers: &["<|assistant|>"],
    ends: &[("<|user|>", true), ("<|observation|>", true)],
    ends_with_text: true,
    ..PLAIN
};
const GPT_OSS: Family = Family {
    name: "gpt-oss",
    headers: &["<|start|>assistant"],
    header_is_said: true,
    ends: &[("<|end|>", true), ("<|return|>", true), ("<|call|>", true)],
    several: true,
    ..PLAIN
};
const UTTERANCES: Family =
    Family { name: "Idefics", headers: &["\nAssistant:"], ends: &[("<end_of_utterance>\n", true)], ..PLAIN };
const LLAVA_NEXT: Family = Family { name: "LLaVA-NeXT", headers: &["[/INST]"], ends: &[("</s>", true)], ..PLAIN };
const MUSE: Family = Family {
    name: "Muse",
    headers: &["<|start|>assistant"],
    header_is_said: true,
    ends: &[("<|eot|>", true), ("<|eom|>", true)],
    several: true,
    ..PLAIN
};

/// The family of each of TRL's templates (trl 1.16, `trl/chat_templates`), by its name there.
fn family_of(name: &str) -> Option<&'static Family> {
    Some(match name {
        "cohere" => &COHERE,
        "cohere2" => &COHERE2,
        "deepseek_r1_distill" | "deepseekv3" => &DEEPSEEK,
        "diffusion_gemma" => &DIFFUSION_GEMMA,
        "gemma" | "gemma3" => &GEMMA,
        "glm4moe" => &GLM4,
        "gptoss" => &GPT_OSS,
        "idefics3" | "smolvlm" => &UTTERANCES,
        "lfm2" | "lfm2_v2" | "qwen2_5_vl" | "qwen3" | "qwen3_vl" | "qwen3_instruct_2507" => &CHATML_LINES,
        "qwen3_5_nothink" | "qwen3_5_think" | "qwen3_6" | "qwen3_8" => &CHATML_LINES,
        "nemotron_3_5_lightning" | "nemotron_3_nano" | "nemotron_3_super" | "nemotron_3_ultra" => &CHATML_LINES,
        "llama3" => &LLAMA3,
        "llava_next" => &LLAVA_NEXT,
        "muse_glimmer" => &MUSE,
        "phi3" | "phi3_5" => &PHI3,
        "qwen2_5" => &QWEN2_5,
        _ => return None,
    })
}

/// Signs in a template's source: all of the first must be there and none of the second. The first that fits counts.
const SIGNS: [(&Family, &[&str], &[&str]); 10] = [
    // Phi-4 also writes <|im_start|>; its separator tells it from ChatML.
    (&PHI4, &["<|im_sep|>", "<|im_end|>"], &[]),
    (&CHATML_LINES, &["<|im_start|>", "<think>"], &["<|im_sep|>"]),
    (&QWEN2_5, &["<|im_start|>", "You are Qwen, created by Alibaba Cloud"], &["<|im_sep|>"]),
    (&CHATML_LINES, &["<|im_start|>", "<tool_response>"], &["<|im_sep|>"]),
    (&CHATML, &["<|im_start|>", "<|im_end|>"], &["<|im_sep|>"]),
    (&LLAMA3, &["<|start_header_id|>", "<|eot_id|>"], &["<|im_sep|>"]),
    (&PHI3, &["<|assistant|>", "<|end|>"], &["<|im_sep|>"]),
    (&GEMMA, &["<start_of_turn>", "<end_of_turn>"], &["<|im_sep|>"]),
    (&ZEPHYR, &["<|assistant|>", "eos_token"], &["<|end|>", "<|im_sep|>"]),
    (&MISTRAL, &["[INST]", "[/INST]", "eos_token"], &["<|im_sep|>"]),
];

/// Names of the families that are known, for messages.
pub(super) fn known() -> String {
    let mut names: Vec<&str> = SIGNS.iter().map(|(family, ..)| family.name).collect();
    names.extend([
        COHERE.name,
        DEEPSEEK.name,
        DIFFUSION_GEMMA.name,
        GLM4.name,
        GPT_OSS.name,
        MUSE.name,
        UTTERANCES.name,
    ]);
    names.dedup();
    names.join(", ")
}

/// The family of a template: by what it prints, else by its source.
pub(super) fn recognise(template: &Template, source: &str) -> Option<&'static Family> {
    let print = fingerprint(template);
    let by_print = PRINTS.lines().filter_map(|line| line.split_once(' ')).find(|(hash, _)| *hash == print);
    if let Some(family) = by_print.and_then(|(_, name)| family_of(name)) {
        return Some(family);
    }
    let fits = |(_, with, without): &&(&Family, &[&str], &[&str])| {
        with.iter().all(|sign| source.contains(sign)) && !without.iter().any(|sign| source.contains(sign))
    };
    SIGNS.iter().find(fits).map(|(family, ..)| *family)
}

/// Hash and name of TRL's templates, written by `tests/golden/generator/template_families.py`.
const PRINTS: &str = include_str!("family_prints.txt");
const PROBES: &str = include_str!("family_probes.json");
const SPECIAL: [(&str, &str); 4] =
    [("bos_token", "<bos>"), ("eos_token", "<eos>"), ("pad_token", "<pad>"), ("unk_token", "<unk>")];

/// The hash of what a template prints for the probes, on the first of January 1970.
fn fingerprint(template: &Template) -> String {
    let probes: Vec<Json> = serde_json::from_str(PROBES).unwrap_or_default();
    let special: Vec<(&str, Json)> = SPECIAL.iter().map(|(name, token)| (*name, Json::from(*token))).collect();
    let shown = probes.iter().map(|probe| {
        let messages = super::chat_template::normalised(probe["messages"].as_array().map_or(&[][..], Vec::as_slice));
        let messages = Json::Array(messages.unwrap_or_default());
        let none = Json::Null;
        let prompt = Json::Bool(probe["add_generation_prompt"].as_bool().unwrap_or(false));
        let names = [
            ("messages", &messages),
            ("tools", &probe["tools"]),
            ("documents", &none),
            ("add_generation_prompt", &prompt),
        ];
        let names = names.into_iter().chain(special.iter().map(|(name, token)| (*name, token)));
        template.render(names, LocalTime::default(), false).map_or("refused".into(), |printed| printed.text)
    });
    let shown: Vec<String> = shown.collect();
    Sha256::digest(shown.join("\0").as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_print_has_a_family() {
        for line in PRINTS.lines() {
            let (hash, name) = line.split_once(' ').expect(line);
            assert_eq!(hash.len(), 64);
            assert!(family_of(name).is_some(), "{name}");
        }
    }
}
