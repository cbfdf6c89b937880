//! The decoder's walk is the layout's list; what is trained, checkpointed and drawn follows from it.
use super::decoder::{Decoder, Pass};
use super::linear::DropoutKey;
use crate::backend::Device;
use crate::config::{FAMILIES, Head, ModelConfig, Role};
use crate::cpu::Cpu;
use crate::dtype::DType;
use crate::files::ModelFiles;
use crate::files::adapter_config::{AdapterConfig, TargetModules, TokenIndices};
use crate::forest::Forest;
use crate::generate::{Sampling, generate};
use crate::random::Stream;
use crate::tape::Tape;
use crate::tensor::Tensor;
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

/// A model with its adapter folded in says what it said with the adapter beside it; α / r is not 1.
#[test]
fn a_merged_adapter_says_what_it_said_beside_the_base() {
    let target_modules = TargetModules::List(["q_proj", "down_proj"].map(String::from).to_vec());
    let mut model = moved(&AdapterConfig { target_modules, r: 3, lora_alpha: 5.0, ..AdapterConfig::default() });
    let said = |model: &Decoder| scored(model, Pass::default()).to_vec().unwrap();
    let (base, beside) = (said(&model.without_adapter()), said(&model));
    model.merge_adapter().unwrap();
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let merged = said(&model);
    assert!(apart(&base, &beside) > 1e-2, "the adapter says something");
    assert!(apart(&merged, &beside) < 1e-4, "{merged:?} merged, {beside:?} beside");
}

/// Adapters of the output layer: plain, with a bias, DoRA; with rows of the embedding trained by themselves where that can be.
fn head_adapters() -> Vec<AdapterConfig> {
    let target_modules = TargetModules::List(vec!["lm_head".into()]);
    let plain = AdapterConfig { target_modules, r: 3, lora_alpha: 5.0, lora_dropout: 0.4, ..AdapterConfig::default() };
    let rows = Some(TokenIndices::OfEmbedding(vec![7, 9, 6]));
    vec![
        AdapterConfig { trainable_token_indices: rows, ..plain.clone() },
        AdapterConfig { lora_bias: true, ..plain.clone() },
        AdapterConfig { use_dora: true, ..plain },
    ]
}

/// The model with every trained tensor moved a little from where it starts.
fn moved(config: &AdapterConfig) -> Decoder {
    let mut model = loaded("llama");
    model.add_lora(config, 1).unwrap();
    for (parameter, seed) in model.trained_mut().into_iter().zip(50..) {
        let stream = Stream::new(seed, 0);
        let values = parameter.to_vec().unwrap().into_iter().zip(0..).map(|(x, i)| x + 0.1 * stream.normal(i));
        parameter.tensor =
            Tensor::from_f32(&parameter.device().clone(), values.collect(), &parameter.slot.shape).unwrap();
    }
    model
}

fn scored(model: &Decoder, pass: Pass) -> Tensor {
    let ids = [5, 9, 17, 7, 300, 6];
    let hidden = model.hidden(&Forest::from_sequences(&[ids.to_vec()]).unwrap(), pass).unwrap();
    model.score_in(pass, &hidden, &[0, 1, 2, 3, 4], &ids[1..], 0.8).unwrap().logp
}

fn dropping(pass: u64) -> Pass {
    Pass { checkpointing: false, dropout: Some(DropoutKey { seed: 3, pass }), noise: None }
}

/// What is dropped before an adapter of the output layer depends on the pass alone, and with everything dropped the base is left.
#[test]
fn inputs_of_an_adapter_of_the_output_layer_are_dropped() {
    let bits = |t: Tensor| t.to_vec().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    for config in head_adapters() {
        let mut model = moved(&config);
        let (first, second) = (bits(scored(&model, dropping(0))), bits(scored(&model, dropping(1))));
        assert_eq!(first, bits(scored(&model, dropping(0))));
        assert_ne!(first, second);
        assert_ne!(first, bits(scored(&model, Pass::default())));
        if let Some(lora) = &mut model.head_lora {
            (lora.dropout, lora.b_bias) = (1.0 - f32::EPSILON / 2.0, None);
        }
        let nothing = scored(&model, dropping(0)).to_vec().unwrap();
        (model.head_lora, model.embed_lora) = (None, None);
        let base = scored(&model, Pass::default()).to_vec().unwrap();
        assert!(nothing.iter().zip(&base).all(|(a, b)| (a - b).abs() < 1e-5), "{nothing:?} {base:?}");
    }
}

/// Gradients of adapters of the output layer with inputs dropped, against differences of the loss.
#[test]
fn gradients_through_dropped_inputs_of_the_output_layer() {
    for config in head_adapters() {
        let (tape, model) = (Tape::new(), moved(&config));
        let watched = model.watch(&tape);
        let logp = scored(&watched, dropping(2));
        let ones = Tensor::from_f32(&model.device, vec![1.0; 5], &[5]).unwrap();
        let mut gradients = tape.backward([(&logp, ones)]).unwrap();
        for (n, leaf) in watched.trained().into_iter().enumerate() {
            // Along a direction drawn at random: (f(x + h d) − f(x − h d)) / 2h = ∇f · d. DoRA's ‖V‖ is a constant to
            // the gradient, so A and B are left out there.
            if config.use_dora && leaf.slot.role != Role::Magnitude {
                continue;
            }
            let gradient = gradients.take(leaf).unwrap().to_vec().unwrap();
            let direction: Vec<f32> = (0..leaf.len() as u64).map(|i| Stream::new(8, n as u64).normal(i)).collect();
            let at = |h: f32| {
                let mut model = model.clone();
                let parameter = model.trained_mut().into_iter().nth(n).unwrap();
                let values = parameter.to_vec().unwrap().into_iter().zip(&direction).map(|(x, d)| x + h * d).collect();
                parameter.tensor =
                    Tensor::from_f32(&parameter.device().clone(), values, &parameter.slot.shape).unwrap();
                scored(&model, dropping(2)).to_vec().unwrap().into_iter().map(f64::from).sum::<f64>()
            };
            let difference = (at(2e-3) - at(-2e-3)) / 4e-3;
            let told: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(g * d)).sum();
            assert!((told - difference).abs() < 2e-3 * (1.0 + told.abs()), "{}: {told} {difference}", leaf.path());
        }
    }
}

/// As it starts, an adapter of any place changes nothing.
#[test]
fn a_fresh_adapter_outside_the_blocks_says_what_the_base_says() {
    let both = TargetModules::List(vec!["embed_tokens".into(), "lm_head".into()]);
    let mut all = head_adapters();
    all.push(AdapterConfig { target_modules: both, use_dora: true, ..AdapterConfig::default() });
    // This family's output layer is its own, without a row of zeros.
    let base = scored(&loaded("llama3"), Pass::default()).to_vec().unwrap();
    for config in all {
        let mut model = loaded("llama3");
        model.add_lora(&config, 1).unwrap();
        let fresh = scored(&model, Pass::default()).to_vec().unwrap();
        assert!(fresh.iter().zip(&base).all(|(a, b)| (a - b).abs() < 1e-5), "{config:?}: {fresh:?} {base:?}");
    }
}

/// Beside a row of zeros, as that of a token that never occurs, DoRA's factor is 0 and no NaN.
#[test]
fn a_row_of_zeros_is_no_nan_in_dora() {
    let mut model = loaded("llama3");
    let mut values = model.head.as_ref().unwrap().to_vec().unwrap();
    values[..48].fill(0.0);
    if let Some(head) = &mut model.head {
        head.tensor = Tensor::from_f32(&head.device().clone(), values, &head.slot.shape).unwrap();
    }
    model.add_lora(&head_adapters()[2], 1).unwrap();
    assert!(scored(&model, Pass::default()).to_vec().unwrap().iter().all(|p| p.is_finite()));
}

/// What is drawn with adapters of every place has the log-probability that the whole text gives it.
#[test]
fn a_drawn_token_is_scored_as_it_was_drawn_with_an_adapter() {
    let embedding = TargetModules::List(vec!["embed_tokens".into(), "v_proj".into()]);
    let mut all = head_adapters();
    all.push(AdapterConfig { target_modules: embedding, use_dora: true, ..AdapterConfig::default() });
    for config in all {
        let model = moved(&config);
        let sampling = Sampling { max_new_tokens: 6, ..Sampling::default() };
        let prompt = vec![5, 9, 17];
        for completion in generate(&model, std::slice::from_ref(&prompt), 2, &sampling, |_, _| true).unwrap() {
            let ids: Vec<u32> = prompt.iter().chain(&completion.tokens).copied().collect();
            let forest = Forest::from_sequences(&[ids[..ids.len() - 1].to_vec()]).unwrap();
            let hidden = model.hidden(&forest, Pass::default()).unwrap();
            let rows: Vec<u32> = (prompt.len() as u32 - 1..forest.n_tokens() as u32).collect();
            let logp = model.score(&hidden, &rows, &completion.tokens, 1.0).unwrap().logp.to_vec().unwrap();
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&logp), bits(&completion.logps), "{config:?}");
            let logits = model.logits(&hidden, &rows).unwrap().to_vec().unwrap();
            let mean = logits[..512].iter().map(|z| f64::from(*z)).sum::<f64>() / 512.0;
            let told = f64::from(model.mean_logits(&hidden, &rows).unwrap().to_vec().unwrap()[0]);
            assert!((mean - told).abs() < 1e-4, "{config:?}: {mean} {told}");
        }
    }
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
