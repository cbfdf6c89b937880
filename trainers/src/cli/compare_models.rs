//! `lapidary compare`: two models answer the same prompts; what they said and how they differ.
use crate::comparison::candidate::Candidate;
use crate::comparison::{compare, comparison_page, side_by_side};
use crate::data::{Calls, load};
use crate::device;
use crate::error::{Error, Result};
use crate::judges::constitutional::Judge;
use crate::judges::reward_model::RewardModel;
use crate::options::CompareOptions;
use crate::run::durable::write_file;
use crate::text::exact_json;
use serde_json::Value;
use std::io::Write;

/// Columns of the answers, where no terminal says how many it has.
const WIDTH: usize = 100;

/// Everything is opened and checked before anything is drawn; files are written at the end.
pub fn run(options: &CompareOptions) -> Result<()> {
    let (contest, arbiter) = (&options.contest, &options.arbiter);
    for path in [&contest.output_file, &contest.out].into_iter().flatten() {
        if path.exists() && !contest.overwrite_output_file {
            return Err(Error::file(path, "is there already; --overwrite_output_file writes over it"));
        }
    }
    let loaded = load(options.split.of(&contest.prompts), Calls::AsCalls)?;
    loaded.notes.iter().for_each(|note| tell!("note: {note}"));
    let mut rows = loaded.rows;
    rows.truncate(contest.num_prompts.unwrap_or(usize::MAX));
    let device = device::open(options.device.device, options.device.threads)?;
    let dtype = options.held.dtype;
    let judge = match (&arbiter.judge, &arbiter.judge_constitution) {
        (Some(path), Some(constitution)) => {
            let template = arbiter.judge_template.as_deref();
            Some(Judge::open(path, None, constitution, template, arbiter.judge_verdict, (&device, dtype))?)
        }
        _ => None,
    };
    let reward = arbiter.reward_model_name_or_path.as_ref();
    let reward = reward.map(|path| RewardModel::open(path, None, &device, dtype.dtype())).transpose()?;
    let [a, b] = contest.models.0.as_slice() else { return Err(Error::internal("not two models")) };
    let open = |path| Candidate::open(path, contest.model_name_or_path.as_deref(), dtype, &device);
    let mut models = [open(a)?, open(b)?];
    if models[0].label == models[1].label {
        models[0].label = a.display().to_string();
        models[1].label = b.display().to_string();
    }
    let at_once = contest.per_device_eval_batch_size;
    let mut found = compare(&mut models, &rows, &options.drawing, at_once)?;
    if let Some(judge) = &judge {
        found.judge(judge, at_once)?;
    }
    if let Some(reward) = &reward {
        found.reward(reward, at_once)?;
    }
    let text = side_by_side::text(&found, contest.rows, WIDTH);
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::output)?;
    if let Some(path) = &contest.output_file {
        let lines: String =
            found.to_rows().into_iter().map(|row| exact_json::to_text(&Value::Object(row)) + "\n").collect();
        write_file(path, lines.as_bytes())?;
        tell!("written: {}", path.display());
    }
    if let Some(path) = &contest.out {
        write_file(path, comparison_page::page(&found).as_bytes())?;
        tell!("written: {}", path.display());
    }
    Ok(())
}
