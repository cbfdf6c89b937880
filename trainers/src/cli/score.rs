//! `lapidary score`: the rewards of a file's answers, one JSON line a row.
use crate::data::answers::{AnswerEncoding, Rules, tokenize_labelled, tokenize_rankings};
use crate::data::piped::load_or_read;
use crate::data::preference_rows::{judged_rows, ranked_rows};
use crate::data::tokenize::TruncationMode;
use crate::data::{Calls, Row, Sequence};
use crate::device;
use crate::error::{Error, Result};
use crate::judges::reward_model::RewardModel;
use crate::options::ScoreOptions;
use crate::plural::counted;
use crate::text::{Tokenizer, exact_json};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// The answers of each row as tokens: several where the row compares them, else one.
fn answers(rows: &[Row], tokenizer: &Tokenizer) -> Result<Vec<Vec<Sequence>>> {
    let encoding = AnswerEncoding::new(Rules::Whole, None, TruncationMode::KeepStart);
    let compares =
        rows.first().is_some_and(|r| r.fields.contains_key("rejected") || r.fields.contains_key("completions"));
    if compares {
        let (rankings, _) = tokenize_rankings(&ranked_rows(rows, true)?.0, tokenizer, &encoding)?;
        return Ok(rankings.into_iter().map(|ranking| ranking.answers).collect());
    }
    // The label is not needed to score.
    let labelled: Vec<Row> = rows
        .iter()
        .map(|row| {
            let mut row = row.clone();
            row.fields.insert("label".into(), json!(true));
            row
        })
        .collect();
    let (single, _) = tokenize_labelled(&judged_rows(&labelled)?.0, tokenizer, &encoding)?;
    Ok(single.into_iter().map(|one| vec![one.sequence]).collect())
}

/// Scores every row, then writes them all with `reward` (one answer) or `rewards` (several, in the row's order).
pub fn run(options: &ScoreOptions) -> Result<()> {
    let scored = &options.scored;
    if let Some(path) = scored.output_file.as_deref().filter(|path| path.exists() && !scored.overwrite_output_file) {
        return Err(Error::file(path, "is there already; --overwrite_output_file writes over it"));
    }
    let loaded = load_or_read(options.split.of(&scored.dataset_name), None, Calls::AsCalls)?;
    loaded.notes.iter().for_each(|note| tell!("note: {note}"));
    let rows = loaded.rows;
    let device = device::open(options.device.device, options.device.threads)?;
    let path = &options.model.model_name_or_path;
    let model = RewardModel::open(path, scored.adapter_name_or_path.as_deref(), &device, options.model.dtype.dtype())?;
    let answers = answers(&rows, &model.tokenizer)?;
    if answers.len() != rows.len() {
        let n = rows.len() - answers.len();
        return Err(Error::input(format!(
            "{}: {n} of {} rows have an answer without tokens",
            scored.dataset_name,
            rows.len()
        )));
    }
    let (mut text, mut right, mut compared, mut sum, mut n) = (String::new(), 0, 0, 0.0, 0);
    for (rows, answers) in
        rows.chunks(scored.per_device_eval_batch_size).zip(answers.chunks(scored.per_device_eval_batch_size))
    {
        let sequences: Vec<&Sequence> = answers.iter().flatten().collect();
        let mut rewards = model.score(&sequences)?.into_iter();
        for (row, answers) in rows.iter().zip(answers) {
            let of_row: Vec<f32> = rewards.by_ref().take(answers.len()).collect();
            compared += of_row.len() - 1;
            right += of_row.windows(2).filter(|pair| pair[0] > pair[1]).count();
            sum += of_row.iter().map(|&r| f64::from(r)).sum::<f64>();
            n += of_row.len();
            let mut fields = row.fields.clone();
            match of_row[..] {
                [one] => fields.insert("reward".into(), json!(one)),
                _ => fields.insert("rewards".into(), json!(of_row)),
            };
            text += &(exact_json::to_text(&Value::Object(fields)) + "\n");
        }
    }
    write(scored.output_file.as_deref(), &text)?;
    let accuracy = if compared > 0 {
        format!("; {:.1} % of {} right", 100.0 * right as f64 / compared as f64, counted(compared, "comparison"))
    } else {
        String::new()
    };
    tell!("{}, mean reward {:.4}{accuracy}", counted(rows.len(), "row"), sum / n.max(1) as f64);
    Ok(())
}

fn write(path: Option<&Path>, text: &str) -> Result<()> {
    match path {
        Some(path) => crate::run::durable::write_file(path, text.as_bytes()),
        None => {
            let written = std::io::stdout().write_all(text.as_bytes());
            written.map_err(Error::output)
        }
    }
}
