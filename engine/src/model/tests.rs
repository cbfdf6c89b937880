//! The decoder's walk is the layout's list; what is trained, checkpointed and drawn follows from it.
use super::decoder::{Decoder, Pass};
use crate::backend::Device;
use crate::config::{FAMILIES, Head, ModelConfig, Role};
use crate::cpu::Cpu;
use crate::dtype::DType;
use crate::files::ModelFiles;
use crate::files::adapter_config::{AdapterConfig, TargetModules};
use crate::forest::Forest;
use crate::generate::{Sampling, generate};
use crate::random::Stream;
use crate::tape::Tape;
use std::path::{Path, PathBuf};

fn golden(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models").join(family)
}
fn cpu() -> Device {
    Cpu::new(Some(1)).unwrap()
}
fn loaded(family: &str) -> Decoder {
    Decoder::load(&ModelFiles::open(golden(family)).unwrap(), &cpu(), DType::F32).unwrap()
}
fn adapted(target_modules: &[&str]) -> Decoder {
    let mut model = loaded("llama");
    let target_modules = TargetModules::List(target_modules.iter().map(|s| s.to_string()).collect());
    model.add_lora(&AdapterConfig { target_modules, ..AdapterConfig::default() }, 1).unwrap();
    model
}

#[test]
fn the_decoder_walks_as_the_layout_lists() {
    for family in FAMILIES.iter().map(|family| family.name) {
        for head in [Head::LanguageModel, Head::Score] {
            let files = ModelFiles::open(golden(family)).unwrap();
            let config = ModelConfig { head, ..files.config.clone() };
            let slots = config.slots();
            let model = Decoder::load_as(&files, config, &cpu(), DType::F32).unwrap();
            let walked: Vec<_> = model.parameters().iter().map(|p| (*p.slot).clone()).collect();
            assert_eq!(walked, slots, "{family}");
            assert!(model.parameters().iter().all(|p| p.trained && p.shape() == p.slot.shape));
        }
    }
}

#[test]
fn an_adapter_stands_behind_its_layer_and_is_all_that_is_trained() {
    let model = adapted(&["v_proj", "down_proj"]);
    let trained: Vec<&str> = model.trained().iter().map(|p| p.path()).collect();
    assert_eq!(trained.len(), 8);
    let v = "model.layers.0.self_attn.v_proj";
    assert_eq!(trained[..2], [format!("{v}.lora_A.weight"), format!("{v}.lora_B.weight")]);
    let all: Vec<&str> = model.parameters().iter().map(|p| p.path()).collect();
    let at = all.iter().position(|path| *path == format!("{v}.weight")).unwrap();
    assert_eq!(all[at + 1..at + 3], trained[..2]);
    assert!(model.parameters().iter().all(|p| p.trained == matches!(p.slot.role, Role::LoraA | Role::LoraB)));
    assert!(model.without_adapter().parameters().iter().all(|p| p.trained));
}

/// Whatever layer is adapted, every block keeps its input alone: one entry on the tape for each.
#[test]
fn every_block_with_an_adapter_is_checkpointed() {
    let forest = Forest::from_sequences(&[vec![5, 6, 7, 8]]).unwrap();
    for target in ["q_proj", "v_proj", "down_proj"] {
        let (tape, model) = (Tape::new(), adapted(&[target]));
        let watched = model.watch(&tape);
        let leaves = tape.len();
        assert_eq!(leaves, 4, "{target}");
        watched.hidden(&forest, Pass { checkpointing: true, ..Pass::default() }).unwrap();
        assert_eq!(tape.len() - leaves, model.blocks.len(), "{target}");
    }
}

/// Matrix i draws from stream i, counted as [`Decoder::random`] says: models made with a seed stay what they were.
#[test]
fn a_random_model_draws_as_ever() {
    let config = ModelFiles::open(golden("qwen3")).unwrap().config;
    let model = Decoder::random(config, &cpu(), 0.5, 9).unwrap();
    // Two blocks of 7 matrices, 2 norms of heads and 2 of the stream; then embedding and norm.
    let numbers = [("model.embed_tokens.weight", 23), ("model.layers.0.self_attn.q_proj.weight", 1)];
    let more = [("model.layers.1.mlp.down_proj.weight", 18), ("model.layers.1.self_attn.q_proj.weight", 12)];
    for (path, number) in numbers.into_iter().chain(more) {
        let parameter = model.parameters().into_iter().find(|p| p.path() == path).unwrap();
        let stream = Stream::new(9, number);
        let want: Vec<f32> = (0..parameter.len() as u64).map(|i| 0.5 * stream.normal(i)).collect();
        assert_eq!(parameter.to_vec().unwrap(), want, "{path}");
    }
    assert!(model.norm.to_vec().unwrap().iter().all(|x| *x == 1.0));
}

/// A token that is drawn with a cache has the log-probability, bit for bit, that the whole text gives it: for every family.
#[test]
fn a_drawn_token_is_scored_as_it_was_drawn() {
    for family in FAMILIES.iter().map(|family| family.name) {
        let model = loaded(family);
        let prompt = vec![5, 9, 17];
        let sampling = Sampling { max_new_tokens: 8, temperature: 0.7, ..Sampling::default() };
        for completion in generate(&model, std::slice::from_ref(&prompt), 3, &sampling, |_, _| true).unwrap() {
            let ids: Vec<u32> = prompt.iter().chain(&completion.tokens).copied().collect();
            let forest = Forest::from_sequences(&[ids[..ids.len() - 1].to_vec()]).unwrap();
            let hidden = model.hidden(&forest, Pass::default()).unwrap();
            let rows: Vec<u32> = (prompt.len() as u32 - 1..forest.n_tokens() as u32).collect();
            let scored = model.score(&hidden, &rows, &completion.tokens, 0.7).unwrap().logp.to_vec().unwrap();
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&scored), bits(&completion.logps), "{family}");
            let logits = model.logits(&hidden, &rows).unwrap().to_vec().unwrap();
            let mean = logits[..512].iter().map(|z| f64::from(*z)).sum::<f64>() / 512.0;
            let told = f64::from(model.mean_logits(&hidden, &rows).unwrap().to_vec().unwrap()[0]);
            assert!((mean - told).abs() < 1e-5, "{family}: {mean} {told}");
        }
    }
}
