//! The exercises: every bug has its place in the sources, a test that sees it, hints and a chapter; the command copies, hints and
//! checks. The last test plants all bugs in turn, which takes a build each: `cargo test --test exercises -- --ignored`.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use trainers::exercises::clone::{Attempt, copy_sources, usual_directory};
use trainers::exercises::seen_by::{TestVerdict, target_directory};
use trainers::exercises::{Exercise, all};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn exercises() -> Vec<Exercise> {
    all(root()).expect("exercises")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files in which a target's tests are.
fn sources_of(target: &str) -> Vec<PathBuf> {
    let one = |dir: &str| root().join(dir).join(format!("tests/{target}.rs"));
    let mut open: Vec<PathBuf> = match target {
        "engine" | "trainers" => vec![root().join(target).join("src")],
        _ => [one("engine"), one("trainers")].into_iter().filter(|path| path.exists()).collect(),
    };
    let mut files = Vec::new();
    while let Some(path) = open.pop() {
        match fs::read_dir(&path) {
            Ok(entries) => open.extend(entries.map(|e| e.expect("an entry").path())),
            Err(_) => files.push(path),
        }
    }
    files
}

/// Every bug can be planted, is code that differs, and is seen by a test that exists.
#[test]
fn every_exercise_has_its_place_and_its_test() {
    let all = exercises();
    assert!(all.len() >= 14);
    for (exercise, number) in all.iter().zip(1..) {
        let name = exercise.name();
        assert_eq!(exercise.number, number, "the numbers have no gap");
        let text = read(&root().join(&exercise.file));
        assert_eq!(text.matches(&exercise.right).count(), 1, "exercise {name}: places in {}", exercise.file.display());
        assert_eq!(text.matches(&exercise.wrong).count(), 0, "exercise {name}: the bug is there already");
        assert!(
            text.find("#[cfg(test)]").is_none_or(|tests| text.find(&exercise.right) < Some(tests)),
            "{name}: in a test"
        );
        assert!(exercise.file.starts_with("engine/src") || exercise.file.starts_with("trainers/src"), "{name}");
        assert!(exercise.hints.len() >= 3 && !exercise.symptom.is_empty() && !exercise.answer.is_empty(), "{name}");
        let function = exercise.test.name.rsplit("::").next().expect("a name");
        let declared = format!("fn {function}(");
        let found = sources_of(&exercise.test.target).iter().any(|path| read(path).contains(&declared));
        assert!(found, "exercise {name}: {} has no test {function}", exercise.test.target);
        // The file's own name in a symptom or the first hint would give it away.
        let stem = exercise.file.display().to_string();
        assert!(![&exercise.symptom, &exercise.hints[0]].iter().any(|text| text.contains(&stem)), "{name}");
    }
}

/// Each stands in one chapter of the book, which names it, and at least twelve chapters have one.
#[test]
fn every_exercise_has_its_chapter() {
    let mut chapters: BTreeMap<String, usize> = BTreeMap::new();
    for exercise in exercises() {
        let command = format!("lapidary exercise {}", exercise.name());
        for entry in fs::read_dir(root().join("book/src")).expect("the book") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.extension().is_some_and(|e| e == "md") && name != "exercises.md" {
                assert_eq!(read(&path).contains(&command), name == exercise.chapter, "{command} in {name}");
            }
        }
        *chapters.entry(exercise.chapter).or_default() += 1;
    }
    assert!(chapters.len() >= 12, "{chapters:?}");
}

/// A clone with the exercises and a stand-in for every other part of the sources.
fn small_clone() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |path: &Path, text: &str| {
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    };
    write(&dir.path().join("engine/src/lib.rs"), "");
    for exercise in exercises() {
        write(&dir.path().join(&exercise.file), &read(&root().join(&exercise.file)));
        let own = fs::read_dir(root().join("exercises")).expect("exercises").map(|e| e.expect("an entry").path());
        let own = own.into_iter().find(|path| {
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{}-", exercise.name())))
        });
        let own = own.expect("its directory").join("exercise.yaml");
        write(&dir.path().join(own.strip_prefix(root()).expect("below")), &read(&own));
    }
    dir
}

fn lapidary(place: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lapidary"));
    command
        .args(line.split_whitespace())
        .current_dir(place)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("the program runs")
}

fn says(place: &Path, line: &str) -> String {
    let output = lapidary(place, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn refuses(place: &Path, line: &str, code: i32) -> String {
    let output = lapidary(place, line);
    assert_eq!(output.status.code(), Some(code), "{line}");
    String::from_utf8(output.stderr).expect("text")
}

/// A text without its line ends.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_copy_is_begun_hinted_at_kept_and_begun_anew() {
    let (clone, first) = (small_clone(), exercises().remove(0));
    let place = clone.path();
    assert!(says(place, "exercise").contains(&format!("01  {}", first.title)));
    assert!(refuses(place, "exercise 01 --hint", 2).contains("was not begun"));
    assert!(refuses(place, "exercise 99", 2).contains("they are 01 to"));

    let told = says(&place.join("engine"), "exercise 1");
    let copy = place.join("exercises/work/01");
    assert!(told.contains("--check") && told.contains(&copy.display().to_string()), "{told}");
    let file = copy.join(&first.file);
    let planted = read(&file);
    assert_eq!(planted, read(&place.join(&first.file)).replace(&first.right, &first.wrong));
    assert!(!copy.join("exercises").exists(), "nothing in the copy points to the bug");
    assert!(says(place, "exercise").contains("begun in"));

    for (i, hint) in first.hints.iter().enumerate() {
        let told = says(place, "exercise 01 --hint");
        assert!(
            told.contains(&format!("Hint {} of {}", i + 1, first.hints.len())) && flat(&told).contains(&flat(hint)),
            "{told}"
        );
    }
    assert!(says(place, "exercise 01 --hint").contains("no more hints"));

    fs::write(&file, "mine").expect("written");
    assert!(says(place, "exercise 01").contains("with what you have changed"));
    assert_eq!(read(&file), "mine");
    says(place, "exercise 01 --overwrite");
    assert_eq!(read(&file), planted);
    let answer = says(place, "exercise 01 --answer");
    assert!(
        answer.contains("\n- ") && answer.contains("\n+ ") && flat(&answer).contains(&flat(&first.answer)),
        "{answer}"
    );
}

#[test]
fn a_directory_of_ones_own() {
    let (clone, second) = (small_clone(), exercises().remove(1));
    let place = clone.path();
    fs::create_dir(place.join("mine")).expect("made");
    fs::write(place.join("mine/notes.txt"), "mine").expect("written");
    assert!(refuses(place, "exercise 02 --output_dir mine", 2).contains("not empty"));
    says(place, "exercise 02 --output_dir yours");
    assert!(read(&place.join("yours").join(&second.file)).contains(&second.wrong));
    let begun = Attempt::find(place, &second).expect("readable").expect("begun");
    assert_eq!((begun.directory.file_name().expect("a name").to_str(), begun.hints), (Some("yours"), 0));
    let elsewhere = tempfile::tempdir().expect("a directory");
    assert!(refuses(elsewhere.path(), "exercise 02", 2).contains("clone it with git"));
}

/// In a clone whose one test looks for the right text, so that nothing large is built: not yet, found, and no test any more.
#[test]
fn a_check_runs_the_test_of_the_copy() {
    let (clone, first) = (small_clone(), exercises().remove(0));
    let place = clone.path();
    let package = "[package]\nname = \"small\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let package = format!("{package}[lib]\npath = \"engine/src/lib.rs\"\n[workspace]\n");
    fs::write(place.join("Cargo.toml"), package).expect("written");
    fs::create_dir(place.join("tests")).expect("made");
    let look = format!("std::fs::read_to_string({:?}).unwrap().contains({:?})", first.file, first.right);
    let test = format!("#[test]\nfn {}() {{\n    assert!({look});\n}}\n", first.test.name);
    fs::write(place.join(format!("tests/{}.rs", first.test.target)), &test).expect("written");

    says(place, "exercise 01");
    let told = refuses(place, "exercise 01 --check", 2);
    assert!(told.contains("not yet") && told.contains(&first.test.command()), "{told}");
    let copy = place.join("exercises/work/01");
    first.mend(&copy).expect("mended");
    let told = says(place, "exercise 01 --check");
    assert!(told.contains("1 passed") && told.contains("Exercise 01: found"), "{told}");
    assert!(place.join("target").is_dir() && !copy.join("target").exists(), "what is built is shared with the clone");
    let other = test.replace(&first.test.name, "another");
    fs::write(copy.join(format!("tests/{}.rs", first.test.target)), other).expect("written");
    assert!(refuses(place, "exercise 01 --check", 2).contains("has no test"));
}

/// The test of each exercise passes without its bug and fails with it. All bugs are planted in turn in one copy, which shares what
/// is built with this repository, so that dependencies are not built again and each bug costs the crates above it.
#[test]
#[ignore = "builds the engine or the trainers once an exercise"]
fn every_bug_is_seen_by_its_test() {
    let all = exercises();
    let copy = usual_directory(root(), &all[0]).with_file_name("every");
    copy_sources(root(), &copy).expect("a copy");
    let run = |exercise: &Exercise| {
        let outcome = exercise.test.run(&copy, &target_directory(root()), |_| Ok(())).expect("cargo runs");
        println!("exercise {} {:?}: {}", exercise.name(), outcome, exercise.test.command());
        outcome
    };
    let chosen = std::env::var("LAPIDARY_EXERCISES").unwrap_or_default();
    let chosen = |e: &&Exercise| chosen.is_empty() || chosen.split(',').any(|number| number == e.name());
    let mut order: Vec<&Exercise> = all.iter().filter(chosen).collect();
    // Bugs of the engine first: the trainers are then built on an engine that stays as it is.
    order.sort_by_key(|e| (e.file.starts_with("trainers"), e.test.target.clone(), e.number));
    let mut wrong: Vec<String> = Vec::new();
    for exercise in &order {
        if run(exercise) != TestVerdict::Passed {
            wrong.push(format!("exercise {}: {} does not pass without the bug", exercise.name(), exercise.test.name));
        }
    }
    for exercise in &order {
        exercise.plant(&copy).expect("planted");
        if run(exercise) != TestVerdict::Failed {
            wrong.push(format!("exercise {}: {} does not see the bug", exercise.name(), exercise.test.name));
        }
        exercise.mend(&copy).expect("mended");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
