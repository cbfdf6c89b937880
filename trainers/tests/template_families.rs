//! The assistant's part of what chat templates without generation marks print: `tests/golden/template_masks.json`, made by
//! `tests/golden/generator/template_masks.py` from the training templates of TRL.
//!
//! The templates are TRL's and not kept here. `LAPIDARY_TRL` names a folder with them, as tests/fetch-templates.sh makes it
//! and a trl package has it (chat_templates); without it this test has nothing to render, which in CI is a failure.
use std::path::Path;

use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use trainers::text::generation::render_with_generation;
use trainers::text::{ChatTemplates, RenderInput, exact_json};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/template_masks.json");

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Spans in characters; those that touch are one, empty ones none.
fn characters(text: &str, spans: &[std::ops::Range<usize>]) -> Vec<(u64, u64)> {
    let at = |byte: usize| text[..byte].chars().count() as u64;
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (start, end) in spans.iter().map(|s| (at(s.start), at(s.end))).filter(|(start, end)| start < end) {
        match out.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => out.push((start, end)),
        }
    }
    out
}

/// For every template that TRL has a training version of: the same text as the original, and the training version's spans.
#[test]
fn masks_are_those_of_trls_training_templates() {
    let Ok(folder) = std::env::var("LAPIDARY_TRL") else {
        assert!(std::env::var_os("CI").is_none(), "CI needs LAPIDARY_TRL: tests/fetch-templates.sh");
        println!("LAPIDARY_TRL is not set: TRL's templates are not compared");
        return;
    };
    let golden = exact_json::parse(&std::fs::read_to_string(GOLDEN).unwrap()).unwrap();
    let special = golden["special"].as_object().unwrap();
    let special: Vec<(String, String)> =
        special.iter().map(|(name, token)| (name.clone(), token.as_str().unwrap().to_string())).collect();
    let (mut equal, mut refused, mut different) = (0, 0, Vec::new());
    for case in golden["templates"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let source = std::fs::read_to_string(Path::new(&folder).join(format!("{name}.jinja"))).unwrap();
        let templates =
            ChatTemplates::new(&[("default".into(), source)], special.clone(), golden["now"].as_i64().unwrap())
                .unwrap();
        let expected = case["expected"].as_array().unwrap();
        for (i, (conversation, wanted)) in golden["conversations"].as_array().unwrap().iter().zip(expected).enumerate()
        {
            if wanted.is_null() {
                continue;
            }
            let messages = conversation["messages"].as_array().unwrap();
            let input = RenderInput { messages, tools: conversation.get("tools"), ..Default::default() };
            match render_with_generation(&templates, &input) {
                Ok(found) => {
                    let span = |s: &Json| (s[0].as_u64().unwrap(), s[1].as_u64().unwrap());
                    let spans: Vec<(u64, u64)> = wanted["spans"].as_array().unwrap().iter().map(span).collect();
                    if wanted["text"] == hash(&found.text).as_str()
                        && characters(&found.text, &found.generation) == spans
                    {
                        equal += 1;
                    } else {
                        different.push(format!("{name} {i}: {:?}, wanted {spans:?}\n{}", found.generation, found.text));
                    }
                }
                // Some print no content that is a plain text: then there is nothing of the assistant's to train on.
                Err(e) if matches!(name, "idefics3" | "smolvlm") => {
                    assert!(e.to_string().contains("are not the"), "{name} {i}: {e}");
                    refused += 1;
                }
                Err(e) => panic!("{name} {i}: {e}"),
            }
        }
    }
    println!("{equal} equal, {refused} refused, {} different", different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(equal >= 250, "{equal}");
}
