//! Which files of a directory are read: its configuration and its split, by the rules of the datasets library 5.2.
//!
//! - `README.md` may list configurations with their files (`configs:` at its head)
//! - else files in `data/` called `train-00000-of-00002.parquet` say their split
//! - else directories, else files, whose names have one of the words of a split (`train`, `validation`, `test` …) in them
//! - else all files are `train`
//!
//! Of a data set from the hub the files are those of its commit, fetched or not.
use super::read::FileKind;
use crate::error::{Error, Result};
use crate::hub::Hub;
use glob::{MatchOptions, Pattern};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of one split, and what a person should know about the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitFiles {
    /// What is read, in order.
    pub files: Vec<PathBuf>,
    /// One line that says what was taken and what was not.
    pub notes: Vec<String>,
}

/// The split of training rows, and the only one where files do not say theirs.
pub const TRAIN: &str = "train";
/// The words that tell a split in the name of a file or directory (`datasets.data_files.SPLIT_KEYWORDS`).
const WORDS: [(&str, &[&str]); 3] = [
    (TRAIN, &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];
/// What may stand beside such a word, as a class of a glob pattern.
const BESIDE: &str = "[-._ 0-9]";
/// Files about a data set, not of it.
const ABOUT: [&str; 6] =
    ["README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];

/// The files at `path` that hold the rows of this split of this configuration. A single file is all there is.
///
/// Errors: nothing there, no file that can be read, no such configuration or split (naming those there are).
pub fn files_of(path: &Path, config: Option<&str>, split: &str) -> Result<SplitFiles> {
    if !path.exists() && !is_directory(path) && !Hub::of_environment().lists(path) {
        return Err(Error::file(
            path,
            "no such file or directory; a data set is a file of rows (.jsonl, .json, .csv, .tsv, .parquet), a directory \
             of them, or a name of two parts on the Hugging Face hub, org/name",
        ));
    }
    if !is_directory(path) {
        if let Some(config) = config {
            return Err(Error::file(
                path,
                format!("is a file: it has no configuration {config:?}; leave out dataset_config"),
            ));
        }
        return Ok(SplitFiles { files: vec![path.to_path_buf()], notes: Vec::new() });
    }
    let (base, named) = configuration(path, config)?;
    let all = files_below(&base)?;
    let splits = match named {
        Some(named) => named_splits(&base, &named, &all)?,
        None => found_splits(&all),
    };
    let splits = of_one_kind(splits);
    if splits.is_empty() {
        let others: Vec<&str> = all.iter().map(String::as_str).take(5).collect();
        let has = if others.is_empty() { "it is empty".into() } else { format!("it has {}", others.join(", ")) };
        let any = |end: &str| all.iter().any(|name| name.ends_with(end));
        let advice = match (any(".arrow"), any(".py")) {
            (true, _) => {
                ". Arrow files of save_to_disk are not read: write them as Parquet (in Python: dataset.to_parquet(path))"
            }
            (false, true) => {
                ". A program makes its rows, and no program of a data set is run; the hub keeps many such sets as Parquet, too: \
                 org/name@refs/convert/parquet"
            }
            (false, false) => "",
        };
        return Err(Error::file(
            &base,
            format!("the directory has no file of rows (.jsonl, .json, .csv, .tsv, .parquet); {has}{advice}"),
        ));
    }
    let Some(taken) = splits.get(split) else {
        let names: Vec<&str> = splits.keys().map(String::as_str).collect();
        return Err(Error::file(
            &base,
            format!(
                "has no split {split:?}; its splits are {} (dataset_train_split and dataset_test_split name them)",
                names.join(", ")
            ),
        ));
    };
    let mut said = format!("{}: split {split} is read: {}", base.display(), shown(taken));
    let rest: Vec<String> = splits
        .iter()
        .filter(|(name, _)| *name != split)
        .map(|(name, files)| format!("{name} ({})", shown(files)))
        .collect();
    if !rest.is_empty() {
        said += &format!("; not read: {}", rest.join(", "));
    }
    let in_a_split = |name: &&String| splits.values().any(|files| files.contains(name));
    let others: Vec<String> = all.iter().filter(|name| !in_a_split(name) && !is_about(name)).cloned().collect();
    if !others.is_empty() {
        said += &format!("; of no split: {}", shown(&others));
    }
    Ok(SplitFiles { files: taken.iter().map(|name| base.join(name)).collect(), notes: vec![said] })
}

/// The splits that `files_of` can take of a directory; none of a file.
pub fn splits_of(path: &Path, config: Option<&str>) -> Result<Vec<String>> {
    if !is_directory(path) {
        return Ok(Vec::new());
    }
    let (base, named) = configuration(path, config)?;
    let all = files_below(&base)?;
    let splits = match named {
        Some(named) => named_splits(&base, &named, &all)?,
        None => found_splits(&all),
    };
    Ok(of_one_kind(splits).into_keys().collect())
}

/// Whether there is a directory, or one of the hub's of which nothing has been fetched yet.
fn is_directory(path: &Path) -> bool {
    path.is_dir() || Hub::of_environment().files_below(path).is_some_and(|files| !files.is_empty())
}

/// Names of files, the first few of many.
fn shown(names: &[String]) -> String {
    match names {
        [first, .., last] if names.len() > 4 => format!("{first} … {last} ({} files)", names.len()),
        _ => names.join(", "),
    }
}

fn is_about(name: &str) -> bool {
    ABOUT.contains(&name.rsplit('/').next().unwrap_or(name))
}

/// Every file below a directory by its path from there, hidden ones and those in hidden or `__` directories left out.
fn files_below(base: &Path) -> Result<Vec<String>> {
    if let Some(mut all) = Hub::of_environment().files_below(base) {
        let is_left_out = |directory: &str| directory.starts_with('.') || directory.starts_with("__");
        all.retain(|name| {
            let (directories, file) = name.rsplit_once('/').unwrap_or(("", name));
            !file.starts_with('.') && !directories.split('/').any(is_left_out)
        });
        return Ok(all);
    }
    let (mut found, mut open) = (Vec::new(), vec![(base.to_path_buf(), String::new())]);
    while let Some((directory, prefix)) = open.pop() {
        for entry in fs::read_dir(&directory).map_err(|e| Error::file(&directory, e))? {
            let path = entry.map_err(|e| Error::file(&directory, e))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.starts_with('.') || (path.is_dir() && name.starts_with("__")) {
                continue;
            }
            let name = format!("{prefix}{name}");
            if path.is_dir() {
                open.push((path, format!("{name}/")));
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

type Splits = BTreeMap<String, Vec<String>>;

fn matches(pattern: &Pattern, name: &str) -> bool {
    let options =
        MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
    pattern.matches_with(name, options)
}

/// The splits that names tell.
fn found_splits(all: &[String]) -> Splits {
    let data = || all.iter().filter(|name| !is_about(name));
    let mut splits = Splits::new();
    let number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    for name in data() {
        // data/{split}-00000-of-00001*.*
        let Some((stem, _)) =
            name.strip_prefix("data/").filter(|rest| !rest.contains('/')).and_then(|rest| rest.split_once('.'))
        else {
            continue;
        };
        let Some((before, of)) = stem.rsplit_once("-of-") else { continue };
        let Some((split, part)) = before.rsplit_once('-') else { continue };
        if number(part) && of.get(..5).is_some_and(number) {
            splits.entry(split.to_string()).or_default().push(name.clone());
        }
    }
    let in_directory = |word: &str| {
        [
            format!("**/{word}/**"),
            format!("**/{word}{BESIDE}*/**"),
            format!("**/*{BESIDE}{word}/**"),
            format!("**/*{BESIDE}{word}{BESIDE}*/**"),
        ]
        .to_vec()
    };
    let in_file = |word: &str| [format!("**/{word}{BESIDE}*"), format!("**/*{BESIDE}{word}{BESIDE}*")].to_vec();
    for patterns in [&in_directory as &dyn Fn(&str) -> Vec<String>, &in_file] {
        if !splits.is_empty() {
            return splits;
        }
        for (split, words) in WORDS {
            let patterns = words.iter().flat_map(|word| patterns(word)).filter_map(|text| Pattern::new(&text).ok());
            let mut files: Vec<String> = Vec::new();
            for pattern in patterns {
                let more: Vec<&String> =
                    data().filter(|name| matches(&pattern, name) && !files.contains(name)).collect();
                files.extend(more.into_iter().cloned());
            }
            if files.iter().any(|name| FileKind::of(Path::new(name)).is_some()) {
                splits.insert(split.into(), files);
            }
        }
    }
    if splits.is_empty() {
        splits.insert(TRAIN.into(), data().cloned().collect());
    }
    splits
}

/// The files that are of the kind that most of all splits' are (Parquet, then JSON where as many are of another): a data
/// set often lies there in several.
fn of_one_kind(splits: Splits) -> Splits {
    let kind = |name: &String| FileKind::of(Path::new(name));
    let mut counts: BTreeMap<FileKind, usize> = BTreeMap::new();
    splits.values().flatten().filter_map(kind).for_each(|kind| *counts.entry(kind).or_default() += 1);
    let most = counts.into_iter().max_by_key(|(kind, n)| (*n, *kind)).map(|(kind, _)| kind);
    let only = |files: Vec<String>| files.into_iter().filter(|name| most.is_some() && kind(name) == most).collect();
    splits
        .into_iter()
        .map(|(split, files)| (split, only(files)))
        .filter(|(_, files): &(_, Vec<String>)| !files.is_empty())
        .collect()
}

/// Patterns of a configuration's files by split.
type Patterns = Vec<(String, Vec<String>)>;

/// Where the files of a configuration lie, and which they are where `README.md` says so.
fn configuration(path: &Path, wanted: Option<&str>) -> Result<(PathBuf, Option<Patterns>)> {
    let listed = listed(path)?;
    let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
    let config = match wanted {
        Some(wanted) => match listed.iter().find(|(name, _)| name == wanted) {
            Some((_, config)) => config,
            None if is_directory(&path.join(wanted)) => return Ok((path.join(wanted), None)),
            None => {
                let there =
                    if names.is_empty() { "it lists none".into() } else { format!("it lists {}", names.join(", ")) };
                return Err(Error::file(
                    path,
                    format!(
                        "dataset_config: README.md has no configuration {wanted:?} ({there}), and there is no such directory in it"
                    ),
                ));
            }
        },
        None if listed.is_empty() => return Ok((path.to_path_buf(), None)),
        None => {
            let is_default =
                |(name, config): &&(String, Json)| listed.len() == 1 || name == "default" || config["default"] == true;
            match listed.iter().find(is_default) {
                Some((_, config)) => config,
                None => {
                    return Err(Error::file(
                        path,
                        format!("has the configurations {}; give one of them as --dataset_config", names.join(", ")),
                    ));
                }
            }
        }
    };
    let base = config["data_dir"].as_str().map_or_else(|| path.to_path_buf(), |dir| path.join(dir));
    let texts = |value: &Json| -> Vec<String> {
        match value {
            Json::String(text) => vec![text.clone()],
            Json::Array(list) => list.iter().filter_map(Json::as_str).map(String::from).collect(),
            _ => Vec::new(),
        }
    };
    Ok((
        base,
        match &config["data_files"] {
            Json::Null => None,
            Json::Array(list) if list.iter().any(Json::is_object) => {
                let split =
                    |entry: &Json| (entry["split"].as_str().unwrap_or(TRAIN).to_string(), texts(&entry["path"]));
                Some(list.iter().map(split).collect())
            }
            files => Some(vec![(TRAIN.to_string(), texts(files))]),
        },
    ))
}

/// The configurations that the head of `README.md` lists, by name.
fn listed(path: &Path) -> Result<Vec<(String, Json)>> {
    let readme = path.join("README.md");
    let text = match fs::read(&readme) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => return Ok(Vec::new()),
    };
    let mut lines = text.lines();
    if lines.next() != Some("---") {
        return Ok(Vec::new());
    }
    let head: Vec<&str> = lines.by_ref().take_while(|line| *line != "---").collect();
    let head: Json = serde_saphyr::from_str(&head.join("\n")).map_err(|_| {
        Error::file(&readme, "the YAML at its head, which may list configurations, cannot be read; mend or remove it")
    })?;
    let Json::Array(configs) = &head["configs"] else { return Ok(Vec::new()) };
    let one = |config: &Json| {
        let name = match &config["config_name"] {
            Json::String(name) => Some(name.clone()),
            Json::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let name = name.ok_or_else(|| Error::file(&readme, "a configuration under configs has no config_name"))?;
        Ok((name, config.clone()))
    };
    configs.iter().map(one).collect()
}

fn named_splits(base: &Path, named: &Patterns, all: &[String]) -> Result<Splits> {
    let mut splits = Splits::new();
    for (split, patterns) in named {
        for text in patterns {
            let text = text.strip_prefix("./").unwrap_or(text);
            let pattern = Pattern::new(text).map_err(|_| {
                Error::file(
                    base.join("README.md"),
                    format!(
                        "{text:?} is no pattern of file names; * and ** stand for parts of names and for directories"
                    ),
                )
            })?;
            let files: Vec<&String> = all.iter().filter(|name| matches(&pattern, name)).collect();
            if files.is_empty() && !text.contains(['*', '?', '[']) {
                return Err(Error::file(base.join(text), "is not there, though README.md lists it"));
            }
            let known = splits.entry(split.clone()).or_default();
            for file in files {
                if !known.contains(file) {
                    known.push(file.clone());
                }
            }
        }
    }
    splits.retain(|_, files| !files.is_empty());
    Ok(splits)
}
