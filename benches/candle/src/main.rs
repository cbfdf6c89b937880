//! Greedy decoding of SmolLM2-135M beside candle's, in turns in one process: one stream, float32 and the file's 4-bit weights.
//!
//! `LAPIDARY_MODELS=DIR cargo run --release --manifest-path benches/candle/Cargo.toml`; THREADS sets the threads of both
//! (default: all). Rows: weights, tokens/s of ours and of candle's (medians of 7 rounds in turns, prompt included), their
//! ratio. In float32 both must write the same tokens, or nothing is timed; in 4 bits candle rounds activations to 8 bits, so
//! that only the first tokens are compared.
//!
//! Training cannot be compared: the fused norm and rotary embedding of candle's llama have no gradient.
use candle_core::quantized::gguf_file;
use candle_core::{DType as CandleType, Device as CandleDevice, IndexOp, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Llama, LlamaConfig};
use candle_transformers::models::quantized_llama::ModelWeights;
use engine::backend::Device;
use engine::dtype::DType;
use engine::files::ModelFiles;
use engine::generate::{Sampling, generate};
use engine::model::decoder::Decoder;
use std::path::{Path, PathBuf};
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
type Write<'a> = Box<dyn FnMut(&[u32]) -> Outcome<Vec<u32>> + 'a>;

const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// Greedy decoding: tokens of the prompt, tokens after it.
const PROMPT: usize = 32;
const NEW: usize = 64;
const ROUNDS: usize = 7;

fn main() -> Outcome<()> {
    let threads = std::env::var("THREADS").ok().and_then(|t| t.parse().ok());
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    // A thread of its own: the CPU backend makes the thread that opens it one of its own.
    std::thread::spawn(move || compare(threads).map_err(|e| e.to_string())).join().map_err(|_| "a panic")??;
    Ok(())
}

fn compare(threads: usize) -> Outcome<()> {
    let path = PathBuf::from(std::env::var_os("LAPIDARY_MODELS").unwrap_or("target/models".into())).join(MODEL);
    let device: Device = engine::cpu::Cpu::new(Some(threads))?;
    let files = ModelFiles::open(&path).map_err(|e| format!("{e} (tests/fetch-smollm2.sh DIR fetches the model)"))?;
    let dir = tempfile::tempdir()?;
    Decoder::load(&files, &device, DType::F32)?.save(dir.path(), DType::F32)?;
    // "The" and what the model goes on with: text, so that the likeliest token is clear of the next.
    let prompt = ours(&files, &device, Some(DType::F32), PROMPT - 1)?(&[504])?;
    let prompt = [&[504], &prompt[..]].concat();

    println!("{}, candle 0.11\n\n| weights | lapidary | candle | ratio |\n|---|---|---|---|", device.name());
    row("float32", &prompt, NEW, ours(&files, &device, Some(DType::F32), NEW)?, float32(dir.path())?)?;
    row("4 bits", &prompt, 4, ours(&files, &device, None, NEW)?, four_bits(&path)?)?;
    Ok(())
}

/// One line of the table, after the first `n_equal` tokens were found equal.
fn row(name: &str, prompt: &[u32], n_equal: usize, mut ours: Write, mut theirs: Write) -> Outcome<()> {
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let start = Instant::now();
        let found = ours(prompt)?;
        our_times.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let expected = theirs(prompt)?;
        their_times.push(start.elapsed().as_secs_f64());
        if round == 0 && (found.len() != NEW || found[..n_equal] != expected[..n_equal]) {
            return Err(format!("{name}: not timed, the tokens differ: {found:?}, candle {expected:?}").into());
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (ours, theirs) = (median(&mut our_times), median(&mut their_times));
    let rate = |seconds: f64| NEW as f64 / seconds;
    println!("| {name} | {:.1} | {:.1} | {:.2} |", rate(ours), rate(theirs), theirs / ours);
    Ok(())
}

fn ours(files: &ModelFiles, device: &Device, dtype: Option<DType>, n: usize) -> Outcome<Write<'static>> {
    let model = Decoder::load(files, device, dtype)?.for_generation()?;
    let sampling = Sampling { temperature: 0.0, max_new_tokens: n, ..Sampling::default() };
    Ok(Box::new(move |prompt| {
        let mut all = generate(&model, &[prompt.to_vec()], 1, &sampling, |_, _| true)?;
        Ok(all.remove(0).tokens)
    }))
}

fn float32(dir: &Path) -> Outcome<Write<'static>> {
    let device = CandleDevice::Cpu;
    let config: LlamaConfig = serde_json::from_slice(&std::fs::read(dir.join("config.json"))?)?;
    let config = config.into_config(false);
    // SAFETY: the file was written by this process and nobody else changes it.
    let vars = unsafe {
        VarBuilder::from_mmaped_safetensors(&[dir.join("model.safetensors")], CandleType::F32, &device)?
    };
    let model = Llama::load(vars, &config)?;
    Ok(Box::new(move |prompt| {
        let mut cache = Cache::new(true, CandleType::F32, &config, &device)?;
        greedy(prompt, &device, |ids, position| model.forward(ids, position, &mut cache))
    }))
}

fn four_bits(path: &Path) -> Outcome<Write<'static>> {
    let device = CandleDevice::Cpu;
    let mut file = std::fs::File::open(path)?;
    let content = gguf_file::Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &device)?;
    Ok(Box::new(move |prompt| greedy(prompt, &device, |ids, position| model.forward(ids, position))))
}

/// NEW tokens, each the likeliest; `forward` gives the logits after the last of some tokens that begin at a position.
fn greedy(
    prompt: &[u32],
    device: &CandleDevice,
    mut forward: impl FnMut(&Tensor, usize) -> candle_core::Result<Tensor>,
) -> Outcome<Vec<u32>> {
    let (mut ids, mut position, mut all) = (prompt.to_vec(), 0, Vec::new());
    while all.len() < NEW {
        let logits = forward(&Tensor::new(&ids[..], device)?.unsqueeze(0)?, position)?;
        position += ids.len();
        let next = logits.i(0)?.argmax(0)?.to_scalar::<u32>()?;
        all.push(next);
        ids = vec![next];
    }
    Ok(all)
}
