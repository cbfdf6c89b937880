//! The tours of ARCHITECTURE.md lead from a loop to a kernel: every place on them exists, and names the one after it.
//!
//! A tour is a list under a heading of "Tours"; a hop is a line `1. `path`: `item`, `item` …`, a file and what it declares.
use std::path::Path;

/// A file, and what to look at in it.
#[derive(Debug, PartialEq)]
struct Hop {
    path: String,
    items: Vec<String>,
}

/// The words in backticks before the first dash; None for a line that is no hop.
fn hop(line: &str) -> Option<Hop> {
    let (number, rest) = line.split_once(". ")?;
    number.parse::<usize>().ok()?;
    let (shown, _) = rest.split_once(" — ")?;
    let mut words = shown.split('`').skip(1).step_by(2).map(String::from);
    Some(Hop { path: words.next()?, items: words.collect() })
}

/// Every tour with its hops, in order.
fn tours(page: &str) -> Vec<(String, Vec<Hop>)> {
    let mut found: Vec<(String, Vec<Hop>)> = Vec::new();
    let after = page.lines().skip_while(|line| *line != "## Tours").skip(1);
    for line in after.take_while(|line| !line.starts_with("## ")) {
        match (line.strip_prefix("### "), hop(line), found.last_mut()) {
            (Some(name), ..) => found.push((name.to_string(), vec![])),
            (None, Some(hop), Some((_, hops))) => hops.push(hop),
            _ => {}
        }
    }
    found
}

/// Whether a text has this word, not as a part of a longer one.
fn names(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside))
}

/// Whether a file declares an item: a function, a type, a variant of a table of functions, an entry of a shader.
fn declares(text: &str, item: &str) -> bool {
    let kinds = ["fn", "struct", "enum", "trait", "type", "const"];
    kinds.iter().any(|kind| names(text, &format!("{kind} {item}"))) || text.contains(&format!("\n    {item} ("))
}

/// Whether a file names what is to be seen at the next hop, or that file (`losses/sft.rs`, `unary.wgsl`), or what it takes
/// from it (`losses::sft::…`). A word that is only spelt like the file (`sft`) leads nowhere.
fn leads_to(source: &str, next: &Hop) -> bool {
    let path = Path::new(&next.path);
    let word = |part: Option<&std::ffi::OsStr>| part.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let (file, stem) = (word(path.file_name()), word(path.file_stem()));
    let folder = word(path.parent().and_then(Path::file_name));
    let item = next.items.iter().any(|item| item != "main" && names(source, item));
    item || names(source, &file) || source.contains(&format!("{folder}::{stem}::"))
}

fn mistakes(name: &str, hops: &[Hop], text: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    if !(4..=6).contains(&hops.len()) {
        wrong.push(format!("{name}: {} hops; a loop is at most six away from its kernels", hops.len()));
    }
    for (i, hop) in hops.iter().enumerate() {
        let Some(source) = text(&hop.path) else {
            wrong.push(format!("{name}: {} does not exist", hop.path));
            continue;
        };
        let missing = hop.items.iter().filter(|item| !declares(&source, item));
        wrong.extend(missing.map(|item| format!("{name}: {} declares no {item}", hop.path)));
        if hop.items.is_empty() {
            wrong.push(format!("{name}: {}: what is to be seen there?", hop.path));
        }
        let Some(next) = hops.get(i + 1) else { continue };
        if !leads_to(&source, next) {
            wrong.push(format!("{name}: {} names neither {} nor anything shown there", hop.path, next.path));
        }
    }
    wrong
}

#[test]
fn the_tours_lead_from_a_loop_to_its_kernels() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let tours = tours(&text("ARCHITECTURE.md").expect("ARCHITECTURE.md"));
    let all: Vec<&str> = tours.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(all, ["SFT", "DPO", "GRPO", "Attention"]);
    let mut wrong = Vec::new();
    for (name, hops) in &tours {
        wrong.extend(mistakes(name, hops, text));
        let ends = hops.last().is_some_and(|hop| hop.path.ends_with(".wgsl"));
        wrong.extend((!ends).then(|| format!("{name}: the last hop is no WGSL kernel")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(text("README.md").expect("README.md").contains("ARCHITECTURE.md#tours"), "README.md leads to the tours");
}

/// The loops that the tours begin with fit on a screen.
#[test]
fn a_loop_fits_on_a_screen() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("trainers/src");
    for file in [
        "sft/mod.rs",
        "preferences/mod.rs",
        "policy_gradients/grpo.rs",
        "policy_gradients/rloo.rs",
        "policy_gradients/raft.rs",
        "policy_gradients/reinforce.rs",
        "policy_gradients/online_dpo.rs",
        "policy_gradients/ppo.rs",
    ] {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        let lines = text.lines().skip_while(|line| !line.starts_with("pub fn train"));
        let n = lines.take_while(|line| *line != "}").count() + 1;
        assert!((10..=60).contains(&n), "{file}: train has {n} lines");
    }
    // What a step measures is the other half of the loop of preferences.
    for file in [
        "preferences/dpo.rs",
        "preferences/kto.rs",
        "preferences/cpo.rs",
        "preferences/orpo.rs",
        "preferences/reward_trainer.rs",
    ] {
        let text = std::fs::read_to_string(root.join(file)).expect(file);
        let lines = text.lines().skip_while(|line| !line.trim_start().starts_with("fn measure("));
        let n = lines.take_while(|line| *line != "    }").count() + 1;
        assert!((5..=60).contains(&n), "{file}: measure has {n} lines");
    }
}

#[test]
fn mistakes_are_seen() {
    let page =
        "## Tours\n### A\n1. `a.rs`: `f` — the loop\n2. `b.rs`: `g`, `H` — the loss\ntext\n## Other\n3. `c`: `x` — no";
    let found = tours(page);
    assert_eq!(found.len(), 1);
    let hops = &found[0].1;
    assert_eq!((hops.len(), hops[1].items.as_slice()), (2, &["g".to_string(), "H".to_string()][..]));
    let text = |path: &str| match path {
        "a.rs" => Some("fn f() { gg(b) }".to_string()),
        _ => Some("fn g() {}".to_string()),
    };
    let told = mistakes("A", hops, text).join("\n");
    for words in ["2 hops", "b.rs declares no H", "a.rs names neither b.rs nor"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}
