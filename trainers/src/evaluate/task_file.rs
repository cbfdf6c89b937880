//! A task file of lm-evaluation-harness 0.4: YAML that says where rows come from, what is asked of each, and what is counted.
//!
//! Python in it (`!function`, `process_docs` …) is never run: such a task is refused by the name of the key.
use super::answer_filters::FilterPipeline;
use super::scores::MetricKind;
use crate::data::read::read_file;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What is asked of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// log p of each choice.
    MultipleChoice,
    /// log p of one target.
    LogLikelihood,
    /// log p of a whole text.
    LogLikelihoodRolling,
    /// An answer.
    GenerateUntil,
}

/// How an answer is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerRules {
    /// Texts at which it ends; they are cut off.
    pub until: Vec<String>,
    /// Most tokens.
    pub max_tokens: usize,
    /// 0 takes the likeliest token.
    pub temperature: f64,
    /// Share of probability that is drawn from.
    pub top_p: f64,
}

/// How examples for a prompt are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExampleSampler {
    /// Drawn anew for each row, by Python's generator with seed 1234.
    Random,
    /// The first of them.
    FirstN,
}

/// A metric of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricEntry {
    /// As the file calls it.
    pub name: String,
    /// What it counts.
    pub kind: MetricKind,
    /// What exact_match ignores.
    pub ignores: Ignored,
}

/// What two answers may differ in and still be equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ignored {
    /// Regular expressions whose matches are taken out.
    pub regexes: Vec<String>,
    /// Upper and lower case.
    pub case: bool,
    /// ASCII punctuation.
    pub punctuation: bool,
    /// Digits.
    pub numbers: bool,
}

/// A task, with its rows.
#[derive(Clone, Debug)]
pub struct EvalTask {
    /// Its name.
    pub name: String,
    /// What is asked.
    pub output_type: OutputType,
    /// The question: a column, or a template.
    pub doc_to_text: Value,
    /// The right answer: a column, a template, a number, a list.
    pub doc_to_target: Value,
    /// The choices: a column, a template, a list.
    pub doc_to_choice: Option<Value>,
    /// Before everything: a template.
    pub description: String,
    /// Between question and answer.
    pub target_delimiter: String,
    /// Between examples.
    pub fewshot_delimiter: String,
    /// What an answer begins with: a template.
    pub gen_prefix: Option<String>,
    /// Examples in a prompt.
    pub num_fewshot: usize,
    /// How they are chosen.
    pub sampler: ExampleSampler,
    /// The rows they are chosen from.
    pub examples: Vec<Map<String, Value>>,
    /// Whether a row is never its own example: they come from the split that is asked.
    pub excludes_itself: bool,
    /// Answers of each row.
    pub repeats: usize,
    /// How they are drawn.
    pub answers: AnswerRules,
    /// What is counted.
    pub metrics: Vec<MetricEntry>,
    /// What becomes of answers before they are counted.
    pub filters: Vec<FilterPipeline>,
    /// The rows that are asked.
    pub rows: Vec<Map<String, Value>>,
    /// `metadata.version`, if there is one.
    pub version: Value,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Keys that would run Python, or another library's code.
const PYTHON: [&str; 7] =
    ["custom_dataset", "process_docs", "process_results", "use_prompt", "doc_to_image", "doc_to_audio", "class"];
/// Keys that are read.
const KNOWN: [&str; 27] = [
    "task",
    "task_alias",
    "tag",
    "group",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "fewshot_config",
    "num_fewshot",
    "metric_list",
    "output_type",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "gen_prefix",
    "metadata",
    "include",
];
/// Keys that have no effect on numbers.
const NO_EFFECT: [&str; 3] = ["should_decontaminate", "doc_to_decontamination_query", "unsafe_code"];

impl EvalTask {
    /// Reads a task file and its rows. `num_fewshot` stands over the file's own.
    pub fn open(path: &Path, num_fewshot: Option<usize>) -> Result<EvalTask> {
        let mut files = Vec::new();
        let map = merged(path, &mut files, 0)?;
        let wrong = |detail: String| Error::file(path, detail);
        if let Some(key) = PYTHON.iter().find(|key| map.get(**key).is_some_and(|value| !value.is_null())) {
            return Err(wrong(format!("{key} is Python code, which is never run here; the task cannot be evaluated")));
        }
        let unknown = |key: &&String| {
            !KNOWN.contains(&key.as_str()) && !NO_EFFECT.contains(&key.as_str()) && !PYTHON.contains(&key.as_str())
        };
        if let Some(key) = map.keys().find(unknown) {
            return Err(wrong(format!("{key} is no key of a task file that is read here")));
        }
        let of = Keys { path, map: &map };
        let output_type = match of.text("output_type", "generate_until")?.as_str() {
            "multiple_choice" => OutputType::MultipleChoice,
            "loglikelihood" => OutputType::LogLikelihood,
            "loglikelihood_rolling" => OutputType::LogLikelihoodRolling,
            "generate_until" => OutputType::GenerateUntil,
            other => {
                return Err(wrong(format!(
                    "output_type {other} is none of multiple_choice, loglikelihood, loglikelihood_rolling, generate_until"
                )));
            }
        };
        let fewshot_delimiter = of.text("fewshot_delimiter", "\n\n")?;
        let metrics = metrics(&of, output_type)?;
        let config = map.get("fewshot_config").and_then(Value::as_object).cloned().unwrap_or_default();
        let sampler = match config.get("sampler").and_then(Value::as_str).unwrap_or("default") {
            "default" => ExampleSampler::Random,
            "first_n" => ExampleSampler::FirstN,
            other => return Err(wrong(format!("fewshot_config.sampler {other} is none of default, first_n"))),
        };
        let stated = |name: &str| map.get(name).and_then(Value::as_str);
        let asked = stated("test_split").or(stated("validation_split"));
        let asked = asked.ok_or_else(|| wrong("names neither a test_split nor a validation_split".into()))?;
        let source = DataFiles::of(&of)?;
        let rows = source.rows(asked, &mut files)?;
        let n = num_fewshot.or(map.get("num_fewshot").and_then(Value::as_u64).map(|n| n as usize)).unwrap_or(0);
        let own = config.get("split").and_then(Value::as_str).or(stated("fewshot_split"));
        let examples = match (n, own, config.get("samples")) {
            (0, ..) => Vec::new(),
            (_, Some(split), _) => source.rows(split, &mut files)?,
            (_, None, Some(Value::Array(samples))) => samples.iter().filter_map(Value::as_object).cloned().collect(),
            (_, None, Some(_)) => return Err(wrong("fewshot_config.samples is no list of rows".into())),
            (_, None, None) => {
                let split = stated("training_split").or(stated("validation_split")).unwrap_or(asked);
                source.rows(split, &mut files)?
            }
        };
        Ok(EvalTask {
            name: of.text("task", &path.file_stem().unwrap_or_default().to_string_lossy())?,
            output_type,
            doc_to_text: map.get("doc_to_text").cloned().unwrap_or(Value::from("")),
            doc_to_target: map.get("doc_to_target").cloned().ok_or_else(|| wrong("has no doc_to_target".into()))?,
            doc_to_choice: map.get("doc_to_choice").filter(|value| !value.is_null()).cloned(),
            description: of.text("description", "")?,
            target_delimiter: of.text("target_delimiter", " ")?,
            answers: answer_rules(&of, &fewshot_delimiter)?,
            fewshot_delimiter,
            gen_prefix: stated("gen_prefix").map(String::from),
            num_fewshot: n,
            sampler,
            examples,
            excludes_itself: own.is_some() && own == stated("test_split"),
            repeats: map.get("repeats").and_then(Value::as_u64).unwrap_or(1).max(1) as usize,
            metrics,
            filters: FilterPipeline::all(path, map.get("filter_list"))?,
            rows,
            version: map.get("metadata").and_then(|m| m.get("version")).cloned().unwrap_or(Value::Null),
            files,
        })
    }
}

/// A task file with the one that it includes below it.
fn merged(path: &Path, files: &mut Vec<PathBuf>, depth: usize) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
    if let Some(line) = text.lines().position(|line| line.contains("!function")) {
        let detail = "!function names Python code, which is never run here; the task cannot be evaluated";
        return Err(Error::data(path, line + 1, detail));
    }
    let map: Map<String, Value> = serde_saphyr::from_str(&text)
        .map_err(|e| Error::file(path, format!("is no task file: {}", first_line(&e.to_string()))))?;
    files.push(path.to_path_buf());
    let Some(name) = map.get("include").and_then(Value::as_str) else { return Ok(map) };
    if depth > 8 {
        return Err(Error::file(path, "includes other files without end"));
    }
    let mut below = merged(&path.with_file_name(name), files, depth + 1)?;
    below.extend(map.into_iter().filter(|(key, _)| key != "include"));
    Ok(below)
}

/// A message without the picture of the text below it.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

/// The keys of a file, with their types.
struct Keys<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn text(&self, name: &str, default: &str) -> Result<String> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(default.into()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(Error::file(self.path, format!("{name} is {other}, and must be a text"))),
        }
    }
}

/// A data set by lm-eval's `dataset_path: json` (csv, parquet) and its files.
struct DataFiles<'a> {
    path: &'a Path,
    files: Value,
}

impl<'a> DataFiles<'a> {
    fn of(keys: &Keys<'a>) -> Result<Self> {
        let builder = keys.text("dataset_path", "")?;
        let files = keys.map.get("dataset_kwargs").and_then(|kwargs| kwargs.get("data_files")).cloned();
        match (builder.as_str(), files) {
            ("json" | "csv" | "parquet", Some(files)) => Ok(DataFiles { path: keys.path, files }),
            ("json" | "csv" | "parquet", None) => {
                Err(Error::file(keys.path, "dataset_kwargs.data_files is missing: which files have the rows?"))
            }
            (other, _) => Err(Error::file(
                keys.path,
                format!(
                    "dataset_path {other:?}: only files are read (dataset_path: json, csv or parquet, with dataset_kwargs.data_files)"
                ),
            )),
        }
    }

    /// The rows of a split. A file is looked for from where the program runs, then from where the task file lies.
    fn rows(&self, split: &str, read: &mut Vec<PathBuf>) -> Result<Vec<Map<String, Value>>> {
        let named = match &self.files {
            Value::Object(by_split) => by_split.get(split),
            all if split == "train" => Some(all),
            _ => None,
        };
        let names: Vec<&str> = match named {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => return Err(Error::file(self.path, format!("data_files names no files of the split {split}"))),
        };
        let mut rows = Vec::new();
        for name in names {
            let beside = self.path.with_file_name("").join(name);
            let file = if Path::new(name).exists() { PathBuf::from(name) } else { beside };
            read_file(&file, &mut rows)?;
            read.push(file);
        }
        match rows.is_empty() {
            true => Err(Error::file(self.path, format!("the split {split} has no rows"))),
            false => Ok(rows.into_iter().map(|row| row.fields).collect()),
        }
    }
}

fn metrics(keys: &Keys, output_type: OutputType) -> Result<Vec<MetricEntry>> {
    let wrong = |detail: String| Error::file(keys.path, detail);
    let defaults: &[&str] = match output_type {
        OutputType::MultipleChoice => &["acc", "acc_norm"],
        OutputType::LogLikelihood => &["perplexity", "acc"],
        OutputType::LogLikelihoodRolling => &["word_perplexity", "byte_perplexity", "bits_per_byte"],
        OutputType::GenerateUntil => &["exact_match"],
    };
    let listed = match keys.map.get("metric_list") {
        None | Some(Value::Null) => defaults.iter().map(|name| serde_json::json!({"metric": name})).collect(),
        Some(Value::Array(list)) => list.clone(),
        Some(_) => return Err(wrong("metric_list is no list".into())),
    };
    let entry = |value: &Value| {
        let name = value
            .get("metric")
            .and_then(Value::as_str)
            .ok_or_else(|| wrong("an entry of metric_list has no metric".into()))?;
        let kind = MetricKind::of(name, output_type).ok_or_else(|| {
            let known = MetricKind::names(output_type).join(", ");
            wrong(format!("the metric {name} is not computed for this output_type; there are {known}"))
        })?;
        let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
        let regexes = value.get("regexes_to_ignore").and_then(Value::as_array);
        let regexes = regexes.into_iter().flatten().filter_map(Value::as_str).map(String::from).collect();
        let ignores = Ignored {
            regexes,
            case: flag("ignore_case"),
            punctuation: flag("ignore_punctuation"),
            numbers: flag("ignore_numbers"),
        };
        Ok(MetricEntry { name: name.into(), kind, ignores })
    };
    listed.iter().map(entry).collect()
}

fn answer_rules(keys: &Keys, fewshot_delimiter: &str) -> Result<AnswerRules> {
    let given = keys.map.get("generation_kwargs").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut rules =
        AnswerRules { until: vec![fewshot_delimiter.into()], max_tokens: 256, temperature: 0.0, top_p: 1.0 };
    let number = |key: &str| given.get(key).and_then(Value::as_f64);
    match given.get("until") {
        Some(Value::String(text)) => rules.until = vec![text.clone()],
        Some(Value::Array(all)) => rules.until = all.iter().filter_map(Value::as_str).map(String::from).collect(),
        _ => {}
    }
    for key in ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"] {
        rules.max_tokens = number(key).map_or(rules.max_tokens, |n| n as usize);
    }
    let samples = given
        .get("do_sample")
        .and_then(Value::as_bool)
        .unwrap_or_else(|| number("temperature").is_some_and(|t| t > 0.0));
    if samples {
        rules.temperature = number("temperature").unwrap_or(1.0);
        rules.top_p = number("top_p").unwrap_or(1.0);
    }
    let known = [
        "until",
        "do_sample",
        "temperature",
        "top_p",
        "max_gen_toks",
        "max_new_tokens",
        "max_tokens",
        "max_completion_tokens",
    ];
    match given.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            Err(Error::file(keys.path, format!("generation_kwargs.{key} is not read; there are {}", known.join(", "))))
        }
        None => Ok(rules),
    }
}
