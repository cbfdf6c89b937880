//! Templates print what jinja2 prints: `tests/golden/jinja.json`, made by `tests/golden/generator/jinja.py`. Another file of such cases
//! can be named by LAPIDARY_JINJA.
use serde_json::Value as Json;
use trainers::text::exact_json;
use trainers::text::jinja::{LocalTime, Template};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/jinja.json");

/// What a case should come to, and what it comes to here.
fn outcomes(document: &Json) -> Vec<(String, Option<String>, Result<String, String>)> {
    let clock = LocalTime { seconds: document["now"].as_i64().unwrap_or(0), offset: 0 };
    let variables = document["variables"].as_object().unwrap();
    let of = |case: &Json| {
        let source = case["template"].as_str().unwrap();
        let names = variables.iter().map(|(name, value)| (name.as_str(), value));
        let names = names.chain([("messages", &document["messages"])]);
        let printed = Template::chat(source).and_then(|t| t.render(names, clock, false));
        let wanted = case.get("text").and_then(Json::as_str).map(String::from);
        (source.to_string(), wanted, printed.map(|p| p.text).map_err(|e| e.message))
    };
    document["cases"].as_array().unwrap().iter().map(of).collect()
}

/// Equal, or refused with what is not supported; never something else.
#[test]
fn templates_print_what_jinja2_prints() {
    let path = std::env::var("LAPIDARY_JINJA").unwrap_or(GOLDEN.into());
    let document = exact_json::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let outcomes = outcomes(&document);
    let (mut equal, mut refused, mut different) = (0, Vec::new(), Vec::new());
    for (source, wanted, found) in &outcomes {
        match (wanted, found) {
            (Some(wanted), Ok(found)) if wanted == found => equal += 1,
            (None, Err(_)) => equal += 1,
            (Some(_), Err(e)) => refused.push(format!("{source}: {e}")),
            (wanted, found) => different.push(format!("{source}\n  wanted {wanted:?}\n  found  {found:?}")),
        }
    }
    println!("{equal} equal, {} refused, {} different", refused.len(), different.len());
    println!("{}", refused.join("\n"));
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(outcomes.len() >= 1000, "{} cases", outcomes.len());
    assert!(refused.len() * 100 <= outcomes.len(), "{}", refused.join("\n"));
}

/// Fields of every kind from a row's JSON keep their digits.
#[test]
fn whole_numbers_of_any_size_reach_the_template() {
    let row =
        exact_json::parse(r#"{"a": {"id": 123456789012345678901, "x": [-18446744073709551616, 1e400, -0, 1.10]}}"#)
            .unwrap();
    let print = |source: &str| {
        let names = [("a", &row["a"])];
        Template::chat(source).unwrap().render(names, LocalTime::default(), false).unwrap().text
    };
    assert_eq!(
        print("{{ a | tojson }}"),
        r#"{"id": 123456789012345678901, "x": [-18446744073709551616, Infinity, 0, 1.1]}"#
    );
    assert_eq!(
        print("{{ a.id + 1 }} {{ a.id // 10 ** 18 }} {{ a.x }}"),
        "123456789012345678902 123 [-18446744073709551616, inf, 0, 1.1]"
    );
}
