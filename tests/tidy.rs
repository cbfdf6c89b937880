//! What can be checked of the house by reading it: order of modules, first lines, names, documentation, worked examples.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const LIBRARIES: [&str; 2] = ["engine", "trainers"];

fn report(found: Vec<String>) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Files whose arithmetic is told by a small example in numbers, which a test in the same file computes.
const WORKED_EXAMPLES: [&str; 10] = [
    "engine/src/cpu/attention.rs",
    "engine/src/cpu/attention/forward.rs",
    "engine/src/cpu/attention/backward.rs",
    "engine/src/cpu/attention/products.rs",
    "engine/src/cpu/matmul.rs",
    "engine/src/cpu/matmul/pack.rs",
    "engine/src/cpu/matmul/packed.rs",
    "engine/src/cpu/panels.rs",
    "shaders/attention.wgsl",
    "shaders/sample.wgsl",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` with this extension, in the order of names.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The lines of a file that are code of the product: no comments, and no item that is compiled for tests only.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?;
            if line == "#![cfg(test)]" {
                return None;
            }
            let bare = line.trim_start();
            if !bare.starts_with("#[cfg(test)]") && !bare.starts_with("#[cfg(all(test,") {
                return Some(line);
            }
            // The item behind it ends in its first line, or with the brace below its first letter.
            let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#["))?;
            let close = format!("{}}}", &line[..line.len() - bare.len()]);
            if !item.trim_end().ends_with(';') && !item.trim_end().ends_with('}') {
                lines.by_ref().find(|line| line.trim_end() == close);
            }
        }
    })
}

/// The name of the type that a line declares for its module; what a function declares for itself is its own affair, what
/// a macro declares (`macro_name! {`, one step in) is not.
fn declared_type(line: &str, in_macro: bool) -> Option<&str> {
    let line = if in_macro { line.strip_prefix("    ")? } else { line };
    let bare = ["pub ", "pub(super) ", "pub(crate) "].iter().find_map(|p| line.strip_prefix(p)).unwrap_or(line);
    let rest = ["struct ", "enum ", "trait ", "type ", "union "].iter().find_map(|kind| bare.strip_prefix(kind))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (end > 0).then_some(&rest[..end])
}

/// The types that a file declares for its module.
fn types(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_macro = false;
    for line in code(source) {
        if !line.starts_with([' ', '}']) && !line.is_empty() {
            in_macro = line.trim_end().ends_with("! {") && !line.starts_with("macro_rules!");
        }
        found.extend(declared_type(line, in_macro));
    }
    found
}

/// Files that are compiled for tests only: a `#[cfg(test)] mod name;` names them (or `#[cfg(all(test, …))]`).
fn only_for_tests(library: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for path in files(library, "rs") {
        let all = text(&path);
        let lines: Vec<&str> = all.lines().map(str::trim).collect();
        let test = |line: &str| line == "#[cfg(test)]" || line.starts_with("#[cfg(all(test,");
        for pair in lines.windows(2).filter(|pair| test(pair[0])) {
            let Some(name) = pair[1].trim_start_matches("pub ").strip_prefix("mod ").and_then(|m| m.strip_suffix(';'))
            else {
                continue;
            };
            let inside = match path.file_stem().and_then(|s| s.to_str()) {
                Some("mod" | "lib") => path.with_file_name(""),
                _ => path.with_extension(""),
            };
            found.insert(inside.join(format!("{name}.rs")));
            found.extend(inside.join(name).is_dir().then(|| files(&inside.join(name), "rs")).into_iter().flatten());
        }
    }
    found
}

/// The modules of a library in the order in which its lib.rs lists them.
fn modules(library: &Path) -> Vec<String> {
    let name = |line: &str| Some(line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')?.to_string());
    text(&library.join("lib.rs")).lines().filter_map(name).collect()
}

/// The modules of its own crate that a file names: the words after `crate::`, also in groups `crate::{a, b::c}`.
fn named_modules(source: &str) -> BTreeSet<String> {
    let all: String = code(source).flat_map(|line| [line, "\n"]).collect();
    let mut found = BTreeSet::new();
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, _) in all.match_indices("crate::") {
        let rest = &all[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => {
                found.insert(word(rest));
            }
            Some(group) => {
                let (mut depth, mut start) = (0, true);
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphabetic() => {
                            found.insert(word(&group[i..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

/// The one pair that knows each other, as engine/src/lib.rs says: a tensor may have a place on a tape.
#[test]
fn a_module_uses_only_those_before_it() {
    let mut wrong = Vec::new();
    for library in LIBRARIES.map(|l| root().join(l).join("src")) {
        let order = modules(&library);
        let place: BTreeMap<&str, usize> = order.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        let tests = only_for_tests(&library);
        for path in files(&library, "rs").into_iter().filter(|path| !tests.contains(path)) {
            let below = path.strip_prefix(&library).expect("a file of the library");
            let first = below.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
            let Some(&own) = place.get(first.trim_end_matches(".rs")) else { continue };
            for used in named_modules(&text(&path)) {
                let together = first == "tensor.rs" && used == "tape";
                if place.get(used.as_str()).is_some_and(|&at| at > own) && !together {
                    wrong.push(format!("{} uses crate::{used}, which comes after it in lib.rs", shown(&path)));
                }
            }
        }
    }
    report(wrong);
}

#[test]
fn a_file_says_its_job_in_its_first_line() {
    let mut silent = Vec::new();
    for (dir, extension, mark) in [
        ("engine", "rs", "//! "),
        ("trainers", "rs", "//! "),
        ("tests", "rs", "//! "),
        ("benches", "rs", "//! "),
        ("examples", "rs", "//! "),
        ("shaders/src", "rs", "//! "),
        ("shaders", "wgsl", "// "),
    ] {
        let all = files(&root().join(dir), extension);
        assert!(!all.is_empty(), "{dir} has no .{extension}");
        for path in all.into_iter().filter(|path| !path.components().any(|c| c.as_os_str() == "target")) {
            let first = text(&path).lines().next().unwrap_or_default().to_string();
            if !first.starts_with(mark) || first.len() < 20 {
                silent.push(format!("{}: {first}", shown(&path)));
            }
        }
    }
    report(silent);
}

/// One op has one name: its files in these folders share it, and that is how a reader finds them.
/// So has an algorithm: its loss is called as its loop is.
const OP_FOLDERS: [&str; 7] = ["backend", "ops", "reference", "cpu", "gpu", "verify", "losses"];

#[test]
fn no_two_files_of_a_crate_have_one_name() {
    let mut twice = Vec::new();
    for library in LIBRARIES.map(|l| root().join(l).join("src")) {
        let tests = only_for_tests(&library);
        let mut by_name: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for path in files(&library, "rs").into_iter().filter(|path| !tests.contains(path)) {
            let below = path.strip_prefix(&library).expect("a file of the library");
            let folder = below.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            // The same name once in each of the folders of an op is the rule, not the exception.
            let key = if OP_FOLDERS.contains(&folder.as_str()) { format!("{folder}/{name}") } else { name.clone() };
            if name != "mod" {
                by_name.entry(key).or_default().push(path);
            }
        }
        for (name, paths) in by_name.iter().filter(|(_, paths)| paths.len() > 1) {
            twice.push(format!("{name}: {}", paths.iter().map(|p| shown(p)).collect::<Vec<_>>().join(", ")));
        }
    }
    report(twice);
}

#[test]
fn no_two_types_of_a_crate_have_one_name() {
    let mut twice = Vec::new();
    for library in LIBRARIES.map(|l| root().join(l).join("src")) {
        let tests = only_for_tests(&library);
        let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in files(&library, "rs").into_iter().filter(|path| !tests.contains(path)) {
            for name in types(&text(&path)) {
                by_name.entry(name.to_string()).or_default().push(shown(&path));
            }
        }
        twice.extend(by_name.iter().filter(|(_, p)| p.len() > 1).map(|(name, p)| format!("{name}: {}", p.join(", "))));
    }
    report(twice);
}

#[test]
fn public_items_are_documented() {
    let mut found = Vec::new();
    for library in LIBRARIES {
        let lib = text(&root().join(library).join("src/lib.rs"));
        let warns = lib.lines().any(|line| line == "#![warn(missing_docs)]");
        if !warns {
            found.push(format!("{library}/src/lib.rs does not switch missing_docs on; clippy makes it an error"));
        }
        for path in files(&root().join(library).join("src"), "rs") {
            if text(&path).contains("allow(missing_docs)") {
                found.push(format!("{} switches it off", shown(&path)));
            }
        }
    }
    report(found);
}

#[test]
fn worked_examples_are_there_and_computed() {
    let mut found = Vec::new();
    for file in WORKED_EXAMPLES {
        let source = text(&root().join(file));
        if !source.contains("Worked example") {
            found.push(format!("{file} promises a worked example"));
            continue;
        }
        // Beside Rust code stands the test that computes it; for a kernel it is in the engine, and names the file.
        let test = |path: &Path| {
            let all = text(path);
            all.contains("worked_example") && (file.ends_with(".rs") || all.contains(&file.replace("shaders/", "")))
        };
        let near = if file.ends_with(".rs") { vec![root().join(file)] } else { files(&root().join("engine"), "rs") };
        if !near.iter().any(|path| test(path)) {
            found.push(format!("{file}: no test computes its worked example"));
        }
    }
    report(found);
}

/// The checks see what they are for.
#[test]
fn the_checks_see_mistakes() {
    let found = named_modules(
        "use crate::{a, b::{c, d}, e as f};\nlet x = crate::g::h();\n// crate::i\n#[cfg(test)]\nuse crate::j;",
    );
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "e", "g"]);
    let source = "a\n // b\n#[cfg(test)]\nmod tests;\nc\n#[cfg(test)]\nmod more {\n    d\n}\ne\n    #[cfg(test)]\n    fn f() {\n    }\ng";
    assert_eq!(code(source).collect::<Vec<_>>(), ["a", "c", "e", "g"]);
    let source = "pub struct A;\nnamed! {\n    /// B\n    pub enum B {\n        C,\n    }\n}\nfn f() {\n    struct D;\n}\npub(super) type E = A;";
    assert_eq!(types(source), ["A", "B", "E"]);
}
