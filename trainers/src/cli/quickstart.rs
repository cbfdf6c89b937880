//! `lapidary quickstart`: a small model and a task made on the spot, shown examples, then left to try by itself, and
//! heard before, between and after.
//!
//! It goes the way of any user: files on disk, the `sft` and `grpo` commands' own options and loops, the engine's
//! generation. Only the model (random weights), its tokenizer (letters) and the task (sort digits) are made here.
use super::place::Place;
use super::{carry_out, read};
use crate::device;
use crate::error::{Error, Result};
use crate::job::setup;
use crate::options::QuickstartOptions;
use crate::small_model::{self, Shape};
use engine::backend::Device;
use engine::dtype::DType;
use engine::generate::{Sampling, generate};
use engine::model::decoder::Decoder;
use engine::random::Stream;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// A line on standard output; one that takes nothing more ends the tour with an error.
macro_rules! print_line {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($text)*).map_err(Error::output)?
    }};
}

const DIGITS: u64 = 6;
const TRAIN_ROWS: usize = 12_000;
const HELD_OUT_ROWS: usize = 200;

/// A question of the task and its answer.
struct SortingQuestion {
    prompt: String,
    answer: String,
}

/// Makes model and task, trains, and prints what the model answers to held-out questions before and after.
pub fn run(options: &QuickstartOptions) -> Result<()> {
    let began = Instant::now();
    let device = device::open(options.device.device, options.device.threads)?;
    let mut place = Place::new("quickstart", options.tour.output_dir.as_deref())?;
    let toured = tour(options, &place.path, &device, began);
    // What a stopped training says about going on must be true.
    place.temporary &= !matches!(toured, Err(Error::Stopped(_)));
    toured
}

/// The tour itself, in directory `place`.
fn tour(options: &QuickstartOptions, place: &Path, device: &Device, began: Instant) -> Result<()> {
    let seed = options.tour.seed;
    let (train, held_out) = questions(seed);
    write_rows(&place.join("train.jsonl"), &train)?;
    write_rows(&place.join("held-out.jsonl"), &held_out)?;
    small_model::make(&place.join("model"), Shape::LARGER, device, seed)?;

    print_line!(
        "The task: sort {DIGITS} digits. A model with random weights sees {TRAIN_ROWS} examples in part, then tries by"
    );
    print_line!(
        "itself and hears only whether it was right. It is asked {HELD_OUT_ROWS} questions that are not among them.\n"
    );
    let before = ask(&place.join("model"), &held_out, device)?;
    type_in(options, place, "sft", "model", "shown", SFT)?;
    let shown_some = ask(&place.join("shown"), &held_out, device)?;
    type_in(options, place, "grpo", "shown", "trained", GRPO)?;
    let after = ask(&place.join("trained"), &held_out, device)?;

    print_line!("question           before       after sft    after grpo");
    for i in 0..5 {
        let (was, then, is) = (shown(&before[i]), shown(&shown_some[i]), shown(&after[i]));
        print_line!("{:<18} {was:<12} {then:<12} {is}", held_out[i].prompt);
    }
    let right = |answers: &[String]| answers.iter().zip(&held_out).filter(|(a, q)| **a == q.answer).count();
    let percent = |answers: &[String]| 100.0 * right(answers) as f64 / HELD_OUT_ROWS as f64;
    print_line!(
        "\nright answers on held-out questions: {:.1} % before, {:.1} % after examples, {:.1} % after reward ({:.0} s)",
        percent(&before),
        percent(&shown_some),
        percent(&after),
        began.elapsed().as_secs_f64()
    );
    if let Some(dir) = &options.tour.output_dir {
        print_line!("everything is in {}: model/, train.jsonl, held-out.jsonl, shown/, trained/", dir.display());
    }
    Ok(())
}

/// An answer on one line, cut to a column.
fn shown(answer: &str) -> String {
    let line: String = answer.chars().take(10).collect();
    if line.is_empty() { "(nothing)".into() } else { line }
}

/// Training and held-out questions, without repetition: no held-out question is trained on.
fn questions(seed: u64) -> (Vec<SortingQuestion>, Vec<SortingQuestion>) {
    let n = 10u64.pow(DIGITS as u32);
    let order = Stream::new(seed, 0x7175_6963).permutation(n as usize);
    let question = |&number: &usize| {
        let digits = format!("{number:0width$}", width = DIGITS as usize);
        let mut sorted: Vec<char> = digits.chars().collect();
        sorted.sort_unstable();
        SortingQuestion { prompt: format!("sort {digits}: "), answer: sorted.into_iter().collect() }
    };
    let held_out = order[..HELD_OUT_ROWS].iter().map(question).collect();
    (order[HELD_OUT_ROWS..HELD_OUT_ROWS + TRAIN_ROWS].iter().map(question).collect(), held_out)
}

fn write_rows(path: &Path, questions: &[SortingQuestion]) -> Result<()> {
    let rows: String = questions
        .iter()
        .map(|q| format!("{}\n", json!({"prompt": q.prompt, "completion": q.answer, "answer": q.answer})))
        .collect();
    fs::write(path, rows).map_err(|e| Error::file(path, e))
}

/// Examples: enough of them to be right more often than not, on most of the digits.
const SFT: &str = "--learning_rate 3e-3 --lr_scheduler_type cosine --warmup_steps 20 --per_device_train_batch_size 48 \
                   --num_train_epochs 0.25 --logging_steps 25";
/// Reward: 1 for the right answer. 16 questions a step, 8 tries each.
const GRPO: &str = "--reward_funcs exact --learning_rate 2e-4 --per_device_train_batch_size 128 --num_generations 8 \
                    --max_completion_length 8 --max_steps 120 --logging_steps 20";

/// Says and carries out the command that a person would type.
fn type_in(options: &QuickstartOptions, dir: &Path, command: &str, from: &str, to: &str, settings: &str) -> Result<()> {
    let path = |name: &str| dir.join(name).display().to_string();
    let mut words: Vec<String> = [command, "--model_name_or_path"].map(String::from).to_vec();
    words.extend([path(from), "--dataset_name".into(), path("train.jsonl"), "--output_dir".into(), path(to)]);
    let fixed = "--save_strategy no --overwrite_output_dir --gradient_checkpointing false";
    words.extend(settings.split_whitespace().chain(fixed.split_whitespace()).map(String::from));
    words.extend(["--seed".into(), options.tour.seed.to_string()]);
    words.extend(["--device".into(), options.device.device.to_string()]);
    if let Some(threads) = options.device.threads {
        words.extend(["--threads".into(), threads.to_string()]);
    }
    print_line!("$ lapidary {}\n", words.join(" "));
    carry_out(read(std::iter::once("lapidary".to_string()).chain(words).map(Into::into))?)
}

/// What the model in `dir` answers to each question, greedily.
fn ask(dir: &Path, questions: &[SortingQuestion], device: &Device) -> Result<Vec<String>> {
    let source = setup::open_source(&dir.display().to_string())?;
    let model = Decoder::load(&source.files, device, DType::F32)?;
    let prompts = questions.iter().map(|q| source.tokenizer.encode(&q.prompt)).collect::<Result<Vec<_>>>()?;
    let sampling = Sampling { max_new_tokens: 12, temperature: 0.0, stop_tokens: vec![0], ..Default::default() };
    let completions = generate(&model, &prompts, 1, &sampling, |_, _| true)?;
    completions.iter().map(|c| Ok(source.tokenizer.decode_plain(&c.tokens)?.trim().to_string())).collect()
}
