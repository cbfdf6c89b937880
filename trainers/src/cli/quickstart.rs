//! `lapidary quickstart`: a small model and a task made on the spot, shown examples, then left to try by itself, heard before,
//! between and after, and judged by a reward model that was trained in between. It ends with the report of the three runs.
//!
//! It goes the way of any user: files on disk, the options and loops of `sft`, `reward` and `grpo`, the engine's generation. Only
//! the model (random weights), its tokenizer (letters) and the task (sort digits) are made here.
use super::place::WorkPlace;
use super::{carry_out, read};
use crate::data::Sequence;
use crate::device;
use crate::error::{Error, Result};
use crate::job::setup;
use crate::judges::reward_model::RewardModel;
use crate::options::QuickstartOptions;
use crate::report::{open_all, page};
use crate::run::REPORT;
use crate::run::durable::write_file;
use crate::small_model::{self, Shape};
use engine::backend::Device;
use engine::dtype::DType;
use engine::generate::{Sampling, generate};
use engine::model::decoder::Decoder;
use engine::random::Stream;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
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
/// Right answers beside wrong ones, for the reward model.
const PAIRS: usize = 4_000;

/// A question of the task and its answer.
struct SortingQuestion {
    prompt: String,
    answer: String,
}

/// Makes model and task, trains, and prints what the model answers to held-out questions before and after.
pub fn run(options: &QuickstartOptions) -> Result<()> {
    let began = Instant::now();
    let device = device::open(options.device.device, options.device.threads)?;
    let mut place = WorkPlace::new("quickstart", options.tour.output_dir.as_deref())?;
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
    write_pairs(&place.join("pairs.jsonl"), &train[..PAIRS], seed)?;
    small_model::make(&place.join("model"), Shape::LARGER, device, seed)?;

    print_line!(
        "The task: sort {DIGITS} digits. A model with random weights sees {TRAIN_ROWS} examples in part, then tries by"
    );
    print_line!(
        "itself and hears only whether it was right. It is asked {HELD_OUT_ROWS} questions that are not among them.\n"
    );
    let before = ask(&place.join("model"), &held_out, device)?;
    type_in(options, place, "sft", ("model", "train.jsonl"), "shown", SFT)?;
    let shown_some = ask(&place.join("shown"), &held_out, device)?;
    type_in(options, place, "reward", ("shown", "pairs.jsonl"), "judge", REWARD)?;
    type_in(options, place, "grpo", ("shown", "train.jsonl"), "trained", GRPO)?;
    let after = ask(&place.join("trained"), &held_out, device)?;

    print_line!("question           before       after sft    after grpo");
    for ((question, was), (then, is)) in held_out.iter().zip(&before).zip(shown_some.iter().zip(&after)).take(5) {
        print_line!("{:<18} {:<12} {:<12} {}", question.prompt, shown(was), shown(then), shown(is));
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
    let judge = TourJudge::open(place, device)?;
    print_line!(
        "the reward model prefers the right answer in {:.1} % of held-out pairs; it gives the answers {:.1} before, {:.1} after \
         examples, {:.1} after reward",
        judge.prefers(&held_out, seed)?,
        judge.mean(&held_out, &before)?,
        judge.mean(&held_out, &shown_some)?,
        judge.mean(&held_out, &after)?
    );
    print_line!("report of the three runs: {}", report(options, place)?.display());
    if let Some(dir) = &options.tour.output_dir {
        print_line!(
            "everything is in {}: model/, train.jsonl, pairs.jsonl, held-out.jsonl, shown/, judge/, trained/",
            dir.display()
        );
    }
    Ok(())
}

/// Writes the page of the three runs: into the directory that is kept, or beside the temporary one.
fn report(options: &QuickstartOptions, place: &Path) -> Result<PathBuf> {
    let runs = open_all(&["shown", "judge", "trained"].map(|name| place.join(name)))?;
    let path = match &options.tour.output_dir {
        Some(kept) => kept.join(REPORT),
        None => std::env::temp_dir().join(format!("lapidary-quickstart-{}.html", std::process::id())),
    };
    write_file(&path, page::of(&runs, None)?.as_bytes())?;
    Ok(path)
}

/// The tour's reward model: what it makes of answers.
struct TourJudge(RewardModel);

impl TourJudge {
    fn open(place: &Path, device: &Device) -> Result<TourJudge> {
        Ok(TourJudge(RewardModel::open(&place.join("judge").display().to_string(), None, device, None)?))
    }

    /// The reward of each answer to its question.
    fn rewards<'a>(&self, asked: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Vec<f64>> {
        let sequence = |(prompt, answer): (&str, &str)| -> Result<Sequence> {
            let ids = self.0.tokenizer.encode(&format!("{prompt}{answer}"))?;
            Ok(Sequence { ids, start: 0 })
        };
        let all = asked.into_iter().map(sequence).collect::<Result<Vec<_>>>()?;
        let rewards = self.0.score(&all.iter().collect::<Vec<_>>())?;
        Ok(rewards.into_iter().map(f64::from).collect())
    }

    fn mean(&self, questions: &[SortingQuestion], answers: &[String]) -> Result<f64> {
        let asked = questions.iter().map(|q| q.prompt.as_str()).zip(answers.iter().map(String::as_str));
        Ok(crate::statistics::mean(&self.rewards(asked)?))
    }

    /// In how many of a hundred questions the right answer has a higher reward than a wrong one.
    fn prefers(&self, questions: &[SortingQuestion], seed: u64) -> Result<f64> {
        let right = self.rewards(questions.iter().map(|q| (q.prompt.as_str(), q.answer.as_str())))?;
        let wrong: Vec<String> = questions.iter().enumerate().map(|(i, q)| spoiled(&q.answer, seed ^ 1, i)).collect();
        let wrong = self.rewards(questions.iter().zip(&wrong).map(|(q, wrong)| (q.prompt.as_str(), wrong.as_str())))?;
        let preferred = right.iter().zip(&wrong).filter(|(right, wrong)| right > wrong).count();
        Ok(100.0 * preferred as f64 / questions.len() as f64)
    }
}

/// A wrong answer: one digit is another, is missing, or has changed places with its neighbour.
fn spoiled(answer: &str, seed: u64, index: usize) -> String {
    let draw = |i: u64, n: u64| Stream::new(seed, 0x7370_6f69).below(3 * index as u64 + i, n);
    let mut digits: Vec<char> = answer.chars().collect();
    let at = draw(0, DIGITS - 1) as usize;
    match draw(1, 3) {
        0 if digits[at] != digits[at + 1] => digits.swap(at, at + 1),
        1 => {
            digits.remove(at);
        }
        _ => {
            let digit = digits[at].to_digit(10).unwrap_or(0);
            digits[at] = char::from_digit((digit + 1 + draw(2, 9) as u32) % 10, 10).unwrap_or('0');
        }
    }
    digits.into_iter().collect()
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

fn write_pairs(path: &Path, questions: &[SortingQuestion], seed: u64) -> Result<()> {
    let row = |(i, q): (usize, &SortingQuestion)| {
        format!("{}\n", json!({"prompt": q.prompt, "chosen": q.answer, "rejected": spoiled(&q.answer, seed, i)}))
    };
    let rows: String = questions.iter().enumerate().map(row).collect();
    fs::write(path, rows).map_err(|e| Error::file(path, e))
}

/// Examples: enough of them to be right more often than not, on most of the digits.
const SFT: &str = "--learning_rate 3e-3 --lr_scheduler_type cosine --warmup_steps 20 --per_device_train_batch_size 48 \
                   --num_train_epochs 0.25 --logging_steps 25";
/// What a right and a wrong answer look like.
const REWARD: &str = "--learning_rate 1e-3 --lr_scheduler_type cosine --per_device_train_batch_size 32 --num_train_epochs 1 \
                      --logging_steps 25";
/// Reward: 1 for the right answer. 16 questions a step, 8 tries each.
const GRPO: &str = "--reward_funcs exact --learning_rate 2e-4 --per_device_train_batch_size 128 --num_generations 8 \
                    --max_completion_length 8 --max_steps 120 --logging_steps 20";

/// Says and carries out the command that a person would type.
fn type_in(
    options: &QuickstartOptions,
    dir: &Path,
    command: &str,
    (from, data): (&str, &str),
    to: &str,
    settings: &str,
) -> Result<()> {
    let path = |name: &str| dir.join(name).display().to_string();
    let mut words: Vec<String> = [command, "--model_name_or_path"].map(String::from).to_vec();
    words.extend([path(from), "--dataset_name".into(), path(data), "--output_dir".into(), path(to)]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spoiled_answer_is_wrong() {
        let (questions, _) = questions(1);
        let mut lengths = [0; 8];
        for (i, question) in questions.iter().take(500).enumerate() {
            let wrong = spoiled(&question.answer, 7, i);
            assert_ne!(wrong, question.answer);
            lengths[wrong.len()] += 1;
        }
        // One in three lacks a digit.
        assert!(lengths[5] > 120 && lengths[6] > 250, "{lengths:?}");
    }
}
