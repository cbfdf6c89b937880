//! `lapidary eval`: a table of metrics with their standard errors, and files with every answer.
use crate::device;
use crate::error::{Error, Result};
use crate::evaluate::requests::Model;
use crate::evaluate::scores::Aggregated;
use crate::evaluate::task_file::EvalTask;
use crate::evaluate::{Evaluated, evaluate};
use crate::job::setup;
use crate::options::EvalOptions;
use crate::run::durable::write_file;
use crate::text::exact_json;
use engine::config::Head;
use engine::model::decoder::Decoder;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// The file of results in output_dir.
const RESULTS: &str = "results.json";

/// Evaluates every task, then prints and writes.
pub fn run(options: &EvalOptions) -> Result<()> {
    let asked = &options.evaluated;
    if let Some(dir) =
        asked.output_dir.as_deref().filter(|dir| dir.join(RESULTS).exists() && !asked.overwrite_output_dir)
    {
        return Err(Error::file(dir.join(RESULTS), "is there already; --overwrite_output_dir writes over it"));
    }
    // All that is wrong with task files comes before the model is loaded.
    let tasks = asked.tasks.0.iter().map(|path| EvalTask::open(path, asked.num_fewshot)).collect::<Result<Vec<_>>>()?;
    let model = open(options)?;
    let mut all = Vec::new();
    for task in &tasks {
        let found = evaluate(task, &model, asked.limit)?;
        print(&table(task, &found.metrics))?;
        all.push(found);
    }
    match &asked.output_dir {
        Some(dir) => write(dir, options, &tasks, &all),
        None => Ok(()),
    }
}

fn open(options: &EvalOptions) -> Result<Model> {
    let asked = &options.evaluated;
    let source = setup::open_with(&options.model.model_name_or_path, asked.adapter_name_or_path.as_deref())?;
    let head = source.files.config.head;
    if head == Head::Score {
        let path = &options.model.model_name_or_path;
        return Err(Error::Input(format!("{path}: a reward model, which says nothing; give a language model")));
    }
    let adapter = asked.adapter_name_or_path.as_deref().map(|path| setup::load_adapter(path, head)).transpose()?;
    let device = device::open(options.device.device, options.device.threads)?;
    let mut decoder = Decoder::load(&source.files, &device, options.model.dtype.dtype())?;
    if let Some(adapter) = &adapter {
        decoder.load_adapter(adapter)?;
    }
    Model::new(decoder, source, asked.batch_size, asked.seed)
}

/// lm-eval's table, a line a metric.
fn table(task: &EvalTask, metrics: &[Aggregated]) -> String {
    let mut text = String::new();
    for metric in metrics {
        let error = metric.stderr.map_or("   N/A".to_string(), |stderr| format!("{stderr:.4}"));
        text += &format!(
            "{:<24} {:<16} {:>2}-shot  {:<16} {:.4} ± {error}\n",
            task.name, metric.filter, task.num_fewshot, metric.metric, metric.value
        );
    }
    text
}

fn print(text: &str) -> Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::output)
}

/// `results.json` with lm-eval's keys (`acc,none`, `acc_stderr,none`), and every row with what was asked and answered.
fn write(dir: &Path, options: &EvalOptions, tasks: &[EvalTask], all: &[Evaluated]) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| Error::file(dir, e))?;
    let (mut results, mut shots, mut versions, mut samples) = (Map::new(), Map::new(), Map::new(), Map::new());
    for (task, found) in tasks.iter().zip(all) {
        let mut of = Map::from_iter([("alias".to_string(), json!(task.name))]);
        for metric in &found.metrics {
            of.insert(format!("{},{}", metric.metric, metric.filter), json!(metric.value));
            let error = metric.stderr.map_or(json!("N/A"), |stderr| json!(stderr));
            of.insert(format!("{}_stderr,{}", metric.metric, metric.filter), error);
        }
        results.insert(task.name.clone(), Value::Object(of));
        shots.insert(task.name.clone(), json!(task.num_fewshot));
        versions.insert(task.name.clone(), task.version.clone());
        samples.insert(task.name.clone(), json!(task.rows.len()));
        let lines: String = found.samples.iter().map(|line| exact_json::to_text(line) + "\n").collect();
        write_file(&dir.join(format!("samples_{}.jsonl", safe(&task.name))), lines.as_bytes())?;
    }
    let text = json!({
        "results": results,
        "n-shot": shots,
        "versions": versions,
        "n-samples": samples,
        "model": options.model.model_name_or_path.to_string(),
        "lapidary": env!("CARGO_PKG_VERSION"),
    });
    let text = serde_json::to_vec_pretty(&text).map_err(|e| Error::Internal(e.to_string()))?;
    write_file(&dir.join(RESULTS), &text)?;
    tell!("written: {}", dir.display());
    Ok(())
}

/// A task's name as part of a file's.
fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}
