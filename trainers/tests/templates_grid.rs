//! Conversations of all shapes through many chat templates: equal to transformers, or refused. The repository's small grid is
//! `tests/golden/templates_grid.json`, made by `tests/golden/generator/templates_grid.py`, which says how to make a large one of other
//! templates; LAPIDARY_GRID names its file.
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use trainers::text::{ChatTemplates, RenderInput, exact_json};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/templates_grid.json");

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn conversations_render_as_transformers_renders_them() {
    let path = std::env::var("LAPIDARY_GRID").unwrap_or(GOLDEN.into());
    let grid = exact_json::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let special = grid["special"].as_object().unwrap();
    let special: Vec<(String, String)> =
        special.iter().map(|(name, token)| (name.clone(), token.as_str().unwrap().to_string())).collect();
    let (mut equal, mut rendered, mut refused, mut different) = (0, 0, Vec::new(), Vec::new());
    for template in grid["templates"].as_array().unwrap() {
        let (name, source) = (template["name"].as_str().unwrap(), template["source"].as_str().unwrap());
        let sources = [("default".to_string(), source.to_string())];
        let templates = ChatTemplates::new(&sources, special.clone(), grid["now"].as_i64().unwrap());
        let expected = template["expected"].as_array().unwrap();
        for (i, (conversation, wanted)) in grid["conversations"].as_array().unwrap().iter().zip(expected).enumerate() {
            let input = RenderInput {
                messages: conversation["messages"].as_array().unwrap(),
                tools: conversation.get("tools"),
                documents: conversation.get("documents"),
                add_generation_prompt: conversation["add_generation_prompt"].as_bool().unwrap_or(false),
                extra: conversation.get("kwargs").and_then(Json::as_object),
            };
            let found = templates.as_ref().map_err(ToString::to_string);
            let found = found.and_then(|t| t.render(&input).map_err(|e| e.to_string()));
            match (wanted.as_str(), found) {
                (Some(wanted), Ok(found)) if wanted == hash(&found.text) => {
                    (equal, rendered) = (equal + 1, rendered + 1)
                }
                (None, Err(_)) => equal += 1,
                (Some(_), Err(e)) => refused.push(format!("{name} {i}: {e}")),
                (_, found) => different.push(format!("{name} {i}: {found:?}\n{}", exact_json::to_text(conversation))),
            }
        }
    }
    println!("{equal} equal ({rendered} with a text), {} refused, {} different", refused.len(), different.len());
    println!("{}", refused.join("\n"));
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(rendered * 3 > equal && equal >= 200, "{equal} equal, {rendered} with a text");
    assert!(refused.len() * 100 <= equal, "{}", refused.join("\n"));
}
