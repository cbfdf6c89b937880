//! `lapidary revise`: constitutional revision. A model answers, criticises its answer by a constitution and writes a
//! better one; prompt and revision are rows for `sft`. Y. Bai et al., "Constitutional AI", 2022, §3.
use crate::data::{Calls, Row, load};
use crate::device;
use crate::error::{Error, Result};
use crate::judges::constitutional::{fill, open_template, read_constitution, readable};
use crate::judges::speaker::Speaker;
use crate::options::ReviseOptions;
use crate::plural::counted;
use crate::run::durable::write_file;
use crate::text::{exact_json, jinja::Template};
use engine::generate::Sampling;
use serde_json::{Map, Value, json};

/// What is asked for a critique. It sees `constitution`, `prompt` and `completion`.
const CRITIQUE: &str = "\
{{ constitution }}

Prompt:
{{ prompt }}

Answer:
{{ completion }}

Say in a few words where this answer goes against the principles above.";

/// What is asked for a better answer. It sees `critique` besides.
const REVISION: &str = "\
{{ constitution }}

Prompt:
{{ prompt }}

Answer:
{{ completion }}

Critique:
{{ critique }}

Write a better answer to the prompt, one that follows the principles above. Write the answer alone.";

/// An answer on its way.
struct Draft<'a> {
    row: &'a Row,
    first: String,
    critiques: Vec<String>,
    answer: String,
}

/// Answers, criticises and rewrites every row, then writes them all.
pub fn run(options: &ReviseOptions) -> Result<()> {
    let asked = &options.revision;
    if asked.output_file.exists() && !asked.overwrite_output_file {
        return Err(Error::file(&asked.output_file, "is there already; --overwrite_output_file writes over it"));
    }
    let loaded = load(options.split.of(&asked.dataset_name), Calls::AsCalls)?;
    loaded.notes.iter().for_each(|note| tell!("note: {note}"));
    let rows = loaded.rows;
    let (constitution, hash) = read_constitution(&asked.constitution)?;
    let sees = |critique: &str| json!({"constitution": constitution, "prompt": "\u{1}0", "completion": "\u{1}1", "critique": critique});
    let critique = open_template(asked.critique_template.as_deref(), CRITIQUE, &[sees("")])?;
    let revision = open_template(asked.revision_template.as_deref(), REVISION, &[sees("\u{1}2")])?;
    let prompts = rows.iter().map(prompt_of).collect::<Result<Vec<&Value>>>()?;
    let device = device::open(options.device.device, options.device.threads)?;
    let path = &options.model.model_name_or_path;
    let mut speaker = Speaker::open(path, asked.adapter_name_or_path.as_deref(), options.model.dtype, &device)?;
    let sampling = speaker.sampling(&options.drawing);
    let mut speech = Speech { speaker, sampling, round: 0, too_long: 0 };

    let first = first_answers(&mut speech, &rows, &prompts)?;
    let mut drafts: Vec<Draft> = rows
        .iter()
        .zip(first)
        .filter_map(|(row, first)| first.map(|first| Draft { row, answer: first.clone(), first, critiques: vec![] }))
        .collect();
    for _ in 0..asked.num_revisions {
        let critiques = speech.ask(&questions(&critique, &constitution, &drafts)?)?;
        drafts = keep(drafts, critiques, |draft, critique| draft.critiques.push(critique));
        let revisions = speech.ask(&questions(&revision, &constitution, &drafts)?)?;
        drafts = keep(drafts, revisions, |draft, answer| draft.answer = answer);
    }
    let (empty, same) = (drafts.iter().filter(|d| d.answer.trim().is_empty()).count(), |d: &Draft| d.answer == d.first);
    drafts.retain(|d| !d.answer.trim().is_empty());
    if drafts.is_empty() {
        return Err(Error::Input(format!(
            "{}: nothing is left of {} rows: {} questions are longer than the model's context (with max_new_tokens {}), \
             {empty} revisions are empty",
            asked.dataset_name,
            rows.len(),
            speech.too_long,
            speech.sampling.max_new_tokens
        )));
    }
    let about = json!({"model": **path, "constitution_sha256": hash});
    let text: String =
        drafts.iter().map(|draft| exact_json::to_text(&Value::Object(row_of(draft, &about))) + "\n").collect();
    write_file(&asked.output_file, text.as_bytes())?;
    tell!(
        "{} of {} revised ({} left as before); left out: {} with a question longer than the model's context, {empty} with an empty \
         revision",
        drafts.len(),
        counted(rows.len(), "row"),
        drafts.iter().filter(|d| same(d)).count(),
        speech.too_long
    );
    Ok(())
}

fn prompt_of(row: &Row) -> Result<&Value> {
    match row.fields.get("prompt") {
        Some(prompt @ (Value::String(_) | Value::Array(_))) => Ok(prompt),
        Some(_) => Err(row.error("the field \"prompt\" must be a text or a list of messages")),
        None => Err(row.error(format!(
            "the field \"prompt\" is missing (the row has {:?})",
            row.fields.keys().collect::<Vec<_>>()
        ))),
    }
}

/// A model that is asked round after round, each with random numbers of its own.
struct Speech {
    speaker: Speaker,
    sampling: Sampling,
    round: u64,
    too_long: usize,
}

impl Speech {
    /// One answer to each question; None where a question is too long.
    fn ask_tokens(&mut self, questions: &[Vec<u32>]) -> Result<Vec<Option<String>>> {
        let sampling = Sampling { first_stream: self.round << 32, ..self.sampling.clone() };
        self.round += 1;
        let answers = self.speaker.answer(questions, 1, &sampling)?;
        self.too_long += answers.iter().filter(|a| a.is_empty()).count();
        Ok(answers.into_iter().map(|mut one| one.pop()).collect())
    }

    fn ask(&mut self, questions: &[String]) -> Result<Vec<Option<String>>> {
        let tokens: Vec<Vec<u32>> =
            questions.iter().map(|q| self.speaker.tokens(&Value::from(q.as_str()), true)).collect::<Result<_>>()?;
        let answers = self.ask_tokens(&tokens)?;
        Ok(answers.into_iter().map(|a| a.map(|a| a.trim().to_string())).collect())
    }
}

/// The rows' own completions, or what the model answers.
fn first_answers(speech: &mut Speech, rows: &[Row], prompts: &[&Value]) -> Result<Vec<Option<String>>> {
    let given = |row: &Row| row.fields.get("completion").filter(|c| !c.is_null()).map(readable);
    let open: Vec<usize> = (0..rows.len()).filter(|&i| given(&rows[i]).is_none()).collect();
    let tokens: Vec<Vec<u32>> =
        open.iter().map(|&i| speech.speaker.tokens(prompts[i], false)).collect::<Result<_>>()?;
    let mut all: Vec<Option<String>> = rows.iter().map(given).collect();
    for (i, answer) in open.into_iter().zip(speech.ask_tokens(&tokens)?) {
        all[i] = answer;
    }
    Ok(all)
}

fn questions(template: &Template, constitution: &str, drafts: &[Draft]) -> Result<Vec<String>> {
    let question = |draft: &Draft| {
        let prompt = readable(&draft.row.fields["prompt"]);
        let critique = draft.critiques.last().cloned().unwrap_or_default();
        fill(
            template,
            &json!({"constitution": constitution, "prompt": prompt, "completion": draft.answer, "critique": critique}),
        )
    };
    drafts.iter().map(question).collect()
}

/// The drafts that got an answer, with it.
fn keep<'a>(drafts: Vec<Draft<'a>>, answers: Vec<Option<String>>, put: impl Fn(&mut Draft, String)) -> Vec<Draft<'a>> {
    let with = |(mut draft, answer): (Draft<'a>, Option<String>)| {
        put(&mut draft, answer?);
        Some(draft)
    };
    drafts.into_iter().zip(answers).filter_map(with).collect()
}

/// What sft trains on (prompt and completion), and how it came about.
fn row_of(draft: &Draft, about: &Value) -> Map<String, Value> {
    let prompt = &draft.row.fields["prompt"];
    let completion = match prompt {
        Value::Array(_) => json!([{"role": "assistant", "content": draft.answer}]),
        _ => json!(draft.answer),
    };
    let critique = match &draft.critiques[..] {
        [one] => json!(one),
        several => json!(several),
    };
    Map::from_iter([
        ("prompt".to_string(), prompt.clone()),
        ("completion".into(), completion),
        ("first_answer".into(), json!(draft.first)),
        ("critique".into(), critique),
        ("revised_by".into(), about.clone()),
    ])
}
