//! Training steps of SmolLM2-135M on the CPU: seconds, tokens/s, peak memory; PyTorch beside it where it is installed.
//!
//! `cargo bench --bench steps` runs every job (`-- dpo`: those whose name begins so) in a process of its own (peaks are
//! then right), each first comparing the CPU's loss with the reference backend's. `LAPIDARY_MODELS` is the directory with the model's GGUF file
//! (`tests/fetch-smollm2.sh DIR` puts it there); `LAPIDARY_PYTHON` a Python with torch, transformers and peft.
use engine::backend::Device;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::files::adapter_config::{AdapterConfig, TargetModules};
use engine::forest::Forest;
use engine::generate::{Completion, Sampling, generate};
use engine::model::decoder::{Decoder, Pass};
use engine::ops;
use engine::optim::AdamW;
use engine::random::Stream;
use engine::tape::Tape;
use engine::tensor::Tensor;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use trainers::advantages::scaled_by_group;
use trainers::data::Sequence;
use trainers::job::batch::Batch;
use trainers::job::learner::{Learner, Optimizer, loss_device};
use trainers::losses::policy::{Constants, Sequences, Terms, clipped, token_ratio};
use trainers::losses::sequences::{pick, sum_of_tokens};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// 4 sequences of 256 tokens.
const BATCH: (usize, usize) = (4, 256);
const STEPS: usize = 4;
/// Of DPO: 4 pairs, prompts of 128 tokens, two answers of 64 each.
const PAIRS: usize = 4;
const PROMPT: usize = 128;
const ANSWER: usize = 64;
/// Jobs, each with its name in benches/peers.py: to share prompts is what PyTorch cannot do.
const JOBS: [(&str, &str); 10] = [
    ("sft", "sft"),
    ("lora", "lora"),
    ("dpo", "dpo"),
    ("dpo_unshared", "dpo"),
    ("rollout", "rollout"),
    ("grpo", "grpo"),
    ("grpo_unshared", "grpo"),
    ("decode", "decode"),
    ("decode8", "decode8"),
    ("decode_4bit", "decode"),
];
/// Of rollouts and GRPO: 4 prompts, 8 completions of each.
const GROUPS: usize = 4;
const GROUP: usize = 8;
/// Tokens of a prompt and of a completion: drawing alone, and a whole GRPO step.
const ROLLOUT: (usize, usize) = (48, 64);
const GRPO: (usize, usize) = (43, 32);
/// Greedy decoding: tokens of a prompt, tokens after it. `decode_4bit` keeps the file's quantised weights.
const DECODE: (usize, usize) = (32, 64);
/// Times that a job and its peer take turns.
const ROUNDS: usize = 3;

fn main() -> Outcome<()> {
    let models = PathBuf::from(std::env::var_os("LAPIDARY_MODELS").unwrap_or("target/models".into()));
    let path = models.join(MODEL);
    if !path.exists() {
        println!(
            "steps: skipped, no {}; tests/fetch-smollm2.sh DIR fetches it, LAPIDARY_MODELS=DIR names it",
            path.display()
        );
        return Ok(());
    }
    match std::env::var("LAPIDARY_BENCH_JOB").ok().as_deref() {
        Some(job) => run(job, &path),
        None => compare(&path),
    }
}

/// Every job in a process of its own; where PyTorch is installed, it takes turns with ours, and the ratio is of medians.
fn compare(path: &std::path::Path) -> Outcome<()> {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let python = std::env::var_os("LAPIDARY_PYTHON");
    let dir = std::env::temp_dir().join(format!("lapidary-bench-{}", std::process::id()));
    if python.is_some() {
        let device: Device = engine::cpu::Cpu::new(None)?;
        let source = trainers::job::setup::open_source(&path.to_string_lossy())?;
        Decoder::load(&source.files, &device, DType::F32)?.save(&dir, DType::F32)?;
        source.tokenizer.save(&dir)?;
    } else {
        println!("steps: PyTorch not timed, LAPIDARY_PYTHON is not set");
    }
    for (job, peer) in JOBS.into_iter().filter(|(job, _)| only.as_deref().is_none_or(|only| job.starts_with(only))) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..if python.is_some() { ROUNDS } else { 1 } {
            ours.push(one(Command::new(std::env::current_exe()?).env("LAPIDARY_BENCH_JOB", job))?);
            if let Some(python) = &python {
                theirs.push(one(Command::new(python).arg("benches/peers.py").arg(&dir).arg(peer))?);
            }
        }
        let ratio = |key: &str| Some(median(&theirs, key)? / median(&ours, key)?);
        if let (Some(time), Some(memory)) = (ratio("seconds"), ratio("peak_gb")) {
            println!("{job}: {time:.2} x PyTorch's speed, PyTorch takes {memory:.2} x the memory");
        }
    }
    if python.is_some() {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// Runs a job and shows its line; an error if it fails.
fn one(command: &mut Command) -> Outcome<serde_json::Value> {
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{text}");
    if !output.status.success() {
        return Err(format!("{command:?} failed").into());
    }
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

/// The middle of one figure over the rounds.
fn median(runs: &[serde_json::Value], key: &str) -> Option<f64> {
    let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(key)?.as_f64()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn run(job: &str, path: &std::path::Path) -> Outcome<()> {
    let threads = std::env::var("THREADS").ok().and_then(|t| t.parse().ok());
    let device: Device = engine::cpu::Cpu::new(threads)?;
    let files = ModelFiles::open(path)?;
    let stored = if job == "decode_4bit" { None } else { Some(DType::F32) };
    let mut model = Decoder::load(&files, &device, stored)?;
    if std::env::var_os("LAPIDARY_BENCH_TRUST").is_none() {
        verify(&files, &model)?;
    }
    if job == "lora" {
        let config =
            AdapterConfig { r: 16, lora_alpha: 32.0, target_modules: TargetModules::AllLinear, ..Default::default() };
        model.add_lora(&config, 1)?;
    }
    let mut learner = Learner::new(model, Optimizer::AdamW(AdamW::new(0.9, 0.999, 1e-8)), 0.0, 1.0);
    let (mut seconds, tokens) = match job {
        "dpo" | "dpo_unshared" => {
            let (pairs, reference) = (pairs(), learner.model.clone());
            let share = job == "dpo";
            (time(|| dpo_step(&mut learner, &reference, &pairs, share))?, PAIRS * 2 * (PROMPT + ANSWER))
        }
        "rollout" => {
            let prompts = random_ids(GROUPS, ROLLOUT.0, 3);
            let work = || draw(&learner.model, &prompts, ROLLOUT.1).map(|c| c.len() as f64);
            (time(work)?, GROUPS * GROUP * ROLLOUT.1)
        }
        "decode" | "decode8" | "decode_4bit" => {
            let n = if job == "decode8" { 8 } else { 1 };
            let prompts = random_ids(n, DECODE.0, 5);
            let sampling = Sampling { temperature: 0.0, max_new_tokens: DECODE.1, ..Sampling::default() };
            let model = learner.model.for_generation()?;
            let work = || generate(&model, &prompts, 1, &sampling, |_, _| true).map(|c| c.len() as f64);
            (time(work)?, n * DECODE.1)
        }
        "grpo" | "grpo_unshared" => {
            let (prompts, share) = (random_ids(GROUPS, GRPO.0, 4), job == "grpo");
            (time(|| grpo_step(&mut learner, &prompts, share))?, GROUPS * GROUP * GRPO.1)
        }
        _ => {
            let ids = random_ids(BATCH.0, BATCH.1, 0);
            (time(|| step(&mut learner, &ids))?, BATCH.0 * BATCH.1)
        }
    };
    // The first step warms up.
    let counted = &mut seconds[1..];
    counted.sort_by(f64::total_cmp);
    let (median, tokens) = (counted[counted.len() / 2], tokens as f64);
    let line = serde_json::json!({
        "job": job, "device": device.name(), "seconds": (median * 1e4).round() / 1e4,
        "tokens_per_s": (tokens / median * 10.0).round() / 10.0, "peak_gb": peak_gb(),
    });
    println!("{line}");
    Ok(())
}

/// Seconds of each run of `work`, the first one to warm up.
fn time(mut work: impl FnMut() -> engine::Result<f64>) -> engine::Result<Vec<f64>> {
    (0..=STEPS)
        .map(|_| {
            let start = Instant::now();
            work()?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect()
}

fn random_ids(n: usize, length: usize, stream: u64) -> Vec<Vec<u32>> {
    let stream = Stream::new(0, stream);
    (0..n).map(|s| (0..length).map(|i| stream.below((s * length + i) as u64, 49152) as u32).collect()).collect()
}

/// Four prompts with two answers each: chosen, rejected.
fn pairs() -> Vec<Sequence> {
    let (prompts, answers) = (random_ids(PAIRS, PROMPT, 1), random_ids(2 * PAIRS, ANSWER, 2));
    let whole =
        |(i, answer): (usize, &Vec<u32>)| Sequence { ids: [&prompts[i / 2][..], answer].concat(), start: PROMPT };
    answers.iter().enumerate().map(whole).collect()
}

/// One step of DPO, the reference's pass included; with `share` each prompt is computed once in either model.
fn dpo_step(learner: &mut Learner, reference: &Decoder, pairs: &[Sequence], share: bool) -> engine::Result<f64> {
    let batch = Batch::from_answers(&pairs.iter().collect::<Vec<_>>(), share, false)?;
    let logps = |model: &Decoder| -> engine::Result<Tensor> {
        let hidden = model.hidden(&batch.forest, Pass::default())?;
        let logp = ops::to_device(&model.score(&hidden, &batch.rows, &batch.targets, 1.0)?.logp, &loss_device())?;
        sum_of_tokens(&logp, None, &batch.sequences, pairs.len())
    };
    let logp_ref = logps(reference)?;
    let tape = Tape::new();
    let watched = learner.model.watch(&tape);
    let ratio = ops::sub(&logps(&watched)?, &logp_ref)?;
    let side = |first: usize| pick(&ratio, (0..PAIRS).map(|p| 2 * p + first));
    let ahead = ops::sub(&side(0)?, &side(1)?)?;
    let loss = ops::scale(&ops::sum(&ops::log_sigmoid(&ops::scale(&ahead, 0.1)?)?)?, -1.0 / PAIRS as f32)?;
    learner.accumulate(&tape, watched, &loss)?;
    learner.step(1e-6)
}

/// `n` tokens of each completion; no token ends one.
fn draw(model: &Decoder, prompts: &[Vec<u32>], n: usize) -> engine::Result<Vec<Completion>> {
    let sampling = Sampling { max_new_tokens: n, ..Sampling::default() };
    generate(model, prompts, GROUP, &sampling, |_, _| true)
}

/// One step of GRPO: completions drawn, judged, and learnt from; with `share` each prompt is computed once in the update.
fn grpo_step(learner: &mut Learner, prompts: &[Vec<u32>], share: bool) -> engine::Result<f64> {
    let drawn = draw(&learner.model, prompts, GRPO.1)?;
    let rewards: Vec<f64> = drawn.iter().map(|c| f64::from(c.tokens.iter().sum::<u32>() % 7)).collect();
    let advantages = scaled_by_group(&rewards, GROUP).values;
    let sequence = |c: &Completion| Sequence { ids: [&prompts[c.prompt][..], &c.tokens].concat(), start: GRPO.0 };
    let sequences: Vec<Sequence> = drawn.iter().map(sequence).collect();
    let batch = Batch::from_answers(&sequences.iter().collect::<Vec<_>>(), share, false)?;
    let tape = Tape::new();
    let watched = learner.model.watch(&tape);
    let hidden = watched.hidden(&batch.forest, Pass::default())?;
    let logp = ops::to_device(&watched.score(&hidden, &batch.rows, &batch.targets, 1.0)?.logp, &loss_device())?;
    let of_token: Vec<f32> = batch.sequences.iter().map(|&s| advantages[s as usize] as f32).collect();
    let n = of_token.len();
    let advantages = Tensor::from_f32(logp.device(), of_token, &[n])?;
    let sequences = Sequences::new(&batch.sequences, drawn.len())?;
    let log_ratio = ops::sub(&logp, &logp.detach())?;
    let ratio = token_ratio(&log_ratio, &sequences)?;
    let terms =
        Terms { logp: &logp, log_ratio: &log_ratio, ratio: &ratio, advantages: &advantages, sequences: &sequences };
    let loss = ops::scale(&ops::sum(&clipped(&terms, &Constants::default())?)?, 1.0 / n as f32)?;
    learner.accumulate(&tape, watched, &loss)?;
    learner.step(1e-6)
}

/// One training step without activation checkpointing, as PyTorch's is.
fn step(learner: &mut Learner, ids: &[Vec<u32>]) -> engine::Result<f64> {
    let tape = Tape::new();
    let watched = learner.model.watch(&tape);
    let loss = loss(&watched, ids)?;
    learner.accumulate(&tape, watched, &loss)?;
    learner.step(1e-5)
}

fn loss(model: &Decoder, ids: &[Vec<u32>]) -> engine::Result<Tensor> {
    let forest = Forest::from_sequences(ids)?;
    let (mut rows, mut targets) = (vec![], vec![]);
    for (segment, ids) in forest.segments.iter().zip(ids) {
        rows.extend((0..ids.len() as u32 - 1).map(|i| segment.start as u32 + i));
        targets.extend(&ids[1..]);
    }
    let hidden = model.hidden(&forest, Pass::default())?;
    let scored = model.score(&hidden, &rows, &targets, 1.0)?;
    ops::scale(&ops::sum(&scored.logp)?, -1.0 / rows.len() as f32)
}

/// The CPU's loss on a few tokens is the reference backend's.
fn verify(files: &ModelFiles, model: &Decoder) -> Outcome<()> {
    let ids = vec![vec![504u32, 2365, 6354, 16438]];
    let reference: Device = Arc::new(engine::reference::Reference);
    let expected = loss(&Decoder::load(files, &reference, DType::F32)?, &ids)?.item()?;
    let found = loss(model, &ids)?.item()?;
    if (found - expected).abs() > 1e-4 * expected.abs() {
        return Err(format!("the CPU's loss is {found}, the reference's {expected}: not timed").into());
    }
    Ok(())
}

/// Largest resident memory of this process so far, in GB.
fn peak_gb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    (kib.unwrap_or(0.0) * 1024.0 / 1e7).round() / 100.0
}
