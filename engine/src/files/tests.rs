//! Models in every form: golden directories, files of the gguf package, saved and read again.
use super::*;
use crate::config::{FAMILIES, RopeScaling, Slot};
use crate::dtype::Quant;
use half::{bf16, f16};

fn golden(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models").join(family)
}
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}
fn f32s(weights: &Weights, name: &str) -> Vec<f32> {
    match weights.load(name, DType::F32).unwrap() {
        Host::F32(values) => values,
        other => panic!("{name}: {other:?}"),
    }
}
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
/// Every tensor of a model as f32, as saving takes them.
fn all(files: &ModelFiles) -> Vec<(String, Vec<usize>, Host)> {
    let load = |Slot { path: name, shape, .. }: Slot| {
        let host = files.weights.load(&name, DType::F32).unwrap();
        (name, shape, host)
    };
    files.config.slots().into_iter().map(load).collect()
}

#[test]
fn golden_models_open() {
    for family in FAMILIES.iter().map(|family| family.name).chain(["llama3"]) {
        let files = ModelFiles::open(golden(family)).unwrap();
        assert_eq!((files.config.n_layers, files.config.hidden_size, files.config.vocab_size), (2, 48, 512));
        let bytes = std::fs::read(golden(family).join("model.safetensors")).unwrap();
        let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), files.config.slots().len(), "{family}");
        for Slot { path: name, shape, .. } in files.config.slots() {
            let want = file.tensor(&name).unwrap();
            assert_eq!(files.weights.shape(&name).unwrap(), shape);
            assert_eq!(files.weights.dtype(&name).unwrap(), DType::F32);
            let got: Vec<u8> = f32s(&files.weights, &name).iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(got, want.data(), "{family} {name}");
        }
    }
    let config = |family| ModelFiles::open(golden(family)).unwrap().config;
    assert_eq!(config("mistral").layer_windows, [Some(16); 2]);
    assert_eq!((config("qwen3").head_size, config("qwen3").qk_norm), (16, crate::config::family::QkNorm::Head));
    assert!(matches!(config("llama3").rope.scaling, RopeScaling::Llama3 { original_max_position_embeddings: 32, .. }));
    assert_eq!((config("llama").bos_id, config("llama").eos_ids, config("llama").pad_id), (Some(0), vec![2], Some(3)));
}

#[test]
fn saved_and_opened_again_is_the_same() {
    for (family, max_shard_bytes) in [("llama", u64::MAX), ("qwen3", 100_000), ("mistral", 1), ("granite", u64::MAX)] {
        let files = ModelFiles::open(golden(family)).unwrap();
        let tensors = all(&files);
        let dir = tempfile::tempdir().unwrap();
        // What an earlier save left behind must not be read.
        save_model(dir.path(), &files.config, &tensors, 50_000).unwrap();
        save_model(dir.path(), &files.config, &tensors, max_shard_bytes).unwrap();
        let again = ModelFiles::open(dir.path()).unwrap();
        // The ids of config.json stand in generation_config.json too.
        assert_eq!(again.config.end_ids(), files.config.end_ids());
        let generation = files.config.generation.clone();
        assert_eq!(ModelConfig { generation, ..again.config.clone() }, files.config);
        for (name, ..) in &tensors {
            assert_eq!(bits(&f32s(&again.weights, name)), bits(&f32s(&files.weights, name)), "{name}");
        }
        let names: Vec<String> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        let shards = names.iter().filter(|n| n.ends_with(".safetensors")).count();
        match max_shard_bytes {
            u64::MAX => assert_eq!((shards, names.len()), (1, 3), "{names:?}"),
            1 => assert_eq!((shards, names.len()), (tensors.len(), tensors.len() + 3)),
            _ => assert!(shards > 2 && names.len() == shards + 3, "{names:?}"),
        }
    }
}

#[test]
fn half_precision_rounds_to_nearest_even() {
    let files = ModelFiles::open(golden("llama")).unwrap();
    let name = "model.layers.1.mlp.down_proj.weight";
    let exact = f32s(&files.weights, name);
    let Host::Half(DType::BF16, b) = files.weights.load(name, DType::BF16).unwrap() else { panic!() };
    let Host::Half(DType::F16, h) = files.weights.load(name, DType::F16).unwrap() else { panic!() };
    for (i, x) in exact.iter().enumerate() {
        assert_eq!((b[i], h[i]), (bf16::from_f32(*x).to_bits(), f16::from_f32(*x).to_bits()));
    }
    // A directory in half precision: the same bits back, and the numbers they stand for.
    let dir = tempfile::tempdir().unwrap();
    let mut tensors = all(&files);
    for (name, _, host) in &mut tensors {
        *host = files.weights.load(name, DType::BF16).unwrap();
    }
    save_model(dir.path(), &files.config, &tensors, u64::MAX).unwrap();
    let again = ModelFiles::open(dir.path()).unwrap();
    assert_eq!(again.config.raw["dtype"], "bfloat16");
    assert_eq!(again.weights.dtype(name).unwrap(), DType::BF16);
    let Host::Half(_, stored) = again.weights.load_stored(name).unwrap() else { panic!() };
    assert_eq!(stored, b);
    assert_eq!(f32s(&again.weights, name), b.iter().map(|x| bf16::from_bits(*x).to_f32()).collect::<Vec<_>>());
}

#[test]
fn numbers_too_large_for_float16_are_not_made_infinite() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let tensors = [
        ("fits".to_string(), vec![2], Host::F32(vec![65504.0, -65519.0])),
        ("large".to_string(), vec![2], Host::F32(vec![1.0, 7e4])),
        ("empty".to_string(), vec![0, 5], Host::F32(vec![])),
        ("scalar".to_string(), vec![], Host::U32(vec![7])),
    ];
    safetensors::write(&path, &tensors).unwrap();
    let weights = safetensors::open(&path).unwrap();
    assert!(weights.load("fits", DType::F16).is_ok());
    let error = weights.load("large", DType::F16).unwrap_err().to_string();
    assert!(error.contains("large") && error.contains("float16"), "{error}");
    assert!(weights.load("large", DType::BF16).is_ok());
    assert!(f32s(&weights, "empty").is_empty());
    assert!(matches!(weights.load_stored("scalar").unwrap(), Host::U32(v) if v == [7]));
    assert!(weights.load("fits", DType::Quant(Quant::Q8_0)).is_err());
    assert!(weights.load("absent", DType::F32).unwrap_err().to_string().contains("absent"));
    let blocks = Host::Blocks(DType::Quant(Quant::Q8_0), vec![0; 34]);
    assert!(safetensors::write(&path, &[("q".to_string(), vec![32], blocks)]).is_err());
    assert!(safetensors::write(&path, &[("q".to_string(), vec![3], Host::F32(vec![0.0]))]).is_err());
    assert_eq!(safetensors::open(&path).unwrap().names().count(), 4);
}

/// The GGUF files that the gguf package wrote (tests/data/make_gguf.py), and the models it made them of.
#[test]
fn gguf_gives_the_model_it_was_made_of() {
    for family in ["llama", "qwen3", "granite"] {
        let from_gguf = ModelFiles::open(data(&format!("{family}.gguf"))).unwrap();
        let original = ModelFiles::open(data("models").join(family)).unwrap();
        let plain = |c: &ModelConfig| ModelConfig { raw: Map::new(), ..c.clone() };
        assert_eq!(plain(&from_gguf.config), plain(&original.config));
        let decoded = safetensors::open(&data(&format!("{family}.gguf.safetensors"))).unwrap();
        let mut kinds = std::collections::BTreeSet::new();
        for Slot { path: name, .. } in original.config.slots() {
            let source = if decoded.contains(&name) { &decoded } else { &original.weights };
            assert_eq!(bits(&f32s(&from_gguf.weights, &name)), bits(&f32s(source, &name)), "{family} {name}");
            let dtype = from_gguf.weights.dtype(&name).unwrap();
            kinds.insert(dtype.name());
            if let (DType::Quant(q), Host::Blocks(_, blocks)) = (dtype, from_gguf.weights.load_stored(&name).unwrap()) {
                let mut values = vec![0.0; blocks.len() / q.block_bytes() * q.block_len()];
                crate::quant::decode_row(q, &blocks, &mut values).unwrap();
                assert_eq!(bits(&values), bits(&f32s(source, &name)), "{family} {name}: blocks");
            }
        }
        assert_eq!(kinds.len(), 8, "{kinds:?}");
    }
}

#[test]
fn gguf_vocabulary_is_the_tokenizer_it_was_made_of() {
    let vocabulary = ModelFiles::open(data("llama.gguf")).unwrap().vocabulary.unwrap();
    let tokenizer = read_json_object(&data("models/llama").join("tokenizer.json")).unwrap();
    assert_eq!((vocabulary.model.as_str(), vocabulary.pre.as_str()), ("gpt2", "gpt-2"));
    assert_eq!((vocabulary.tokens.len(), vocabulary.token_types.len(), vocabulary.scores.len()), (512, 512, 0));
    for (token, id) in tokenizer["model"]["vocab"].as_object().unwrap() {
        assert_eq!(&vocabulary.tokens[id.as_u64().unwrap() as usize], token);
    }
    assert_eq!(vocabulary.merges.len(), tokenizer["model"]["merges"].as_array().unwrap().len());
    assert_eq!((vocabulary.bos_id, vocabulary.eos_id, vocabulary.pad_id), (Some(0), Some(2), Some(3)));
    assert!(!vocabulary.add_bos && !vocabulary.add_eos && !vocabulary.add_space_prefix);
    let template = std::fs::read_to_string(data("models/llama").join("chat_template.jinja")).unwrap();
    assert_eq!(vocabulary.chat_template.unwrap(), template);
}

#[test]
fn a_model_that_is_not_whole_is_refused_with_what_is_wrong() {
    let files = ModelFiles::open(golden("llama")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut tensors = all(&files);
    let extra = ("model.layers.0.self_attn.rotary_emb.inv_freq".to_string(), vec![1], Host::F32(vec![1.0]));
    tensors.push(extra);
    save_model(dir.path(), &files.config, &tensors, u64::MAX).unwrap();
    assert!(ModelFiles::open(dir.path()).unwrap().notes.is_empty());

    tensors.retain(|(name, ..)| name != "model.norm.weight");
    tensors[1] = (tensors[1].0.clone(), vec![32], Host::F32(vec![1.0; 32]));
    save_model(dir.path(), &files.config, &tensors, u64::MAX).unwrap();
    let error = ModelFiles::open(dir.path()).unwrap_err().to_string();
    for part in ["1 of 20 tensors are missing: model.norm.weight", "input_layernorm.weight is [32], [48] is needed"] {
        assert!(error.contains(part), "{error}");
    }
    let message = |path: &Path| ModelFiles::open(path).unwrap_err().to_string();
    assert!(message(Path::new("HuggingFaceTB/SmolLM2")).contains("not downloaded"));
    assert!(message(Path::new("/no/such/model.gguf")).contains("no such file or directory; a model is"));
    assert!(message(&golden("llama").join("config.json")).contains("GGUF"));
    assert!(message(&golden("../adapters/sft_lora")).contains("adapter"));
    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert!(message(dir.path()).contains("convert"));
    std::fs::write(dir.path().join("config.json"), "{").unwrap();
    assert!(message(dir.path()).contains("is not JSON"));
    std::fs::write(dir.path().join("config.json"), "[]").unwrap();
    assert!(message(dir.path()).contains("not an object"));
    std::fs::remove_file(dir.path().join("config.json")).unwrap();
    assert!(message(dir.path()).contains("no config.json"));
}

/// The golden llama, which ties its output layer, with `more` tensors in its file.
fn llama_with(more: Vec<(&str, Vec<usize>, Vec<f32>)>) -> (tempfile::TempDir, crate::Result<ModelFiles>) {
    let files = ModelFiles::open(golden("llama")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut tensors = all(&files);
    tensors.retain(|(name, ..)| !more.iter().any(|(new, ..)| *new == format!("not {name}")));
    let more = more.into_iter().filter(|(name, ..)| !name.starts_with("not "));
    tensors.extend(more.map(|(name, shape, values)| (name.to_string(), shape, Host::F32(values))));
    save_model(dir.path(), &files.config, &tensors, u64::MAX).unwrap();
    let opened = ModelFiles::open(dir.path());
    (dir, opened)
}

/// As transformers 5.24 decides: a head that differs is the model's own whatever config.json says, one that is the same is
/// not there, one that stands alone is the embedding as well.
#[test]
fn tied_with_its_own_head() {
    let (name, shape) = ("lm_head.weight", vec![512, 48]);
    let embedding = f32s(&ModelFiles::open(golden("llama")).unwrap().weights, "model.embed_tokens.weight");
    let doubled: Vec<f32> = embedding.iter().map(|x| 2.0 * x).collect();

    let (_dir, own) = llama_with(vec![(name, shape.clone(), doubled.clone())]);
    let own = own.unwrap();
    assert!(!own.config.tie_word_embeddings && own.notes.len() == 1 && own.notes[0].contains(name), "{:?}", own.notes);
    let (_dir, same) = llama_with(vec![(name, shape.clone(), embedding.clone())]);
    let same = same.unwrap();
    assert!(same.config.tie_word_embeddings && same.notes.is_empty());
    let (_dir, alone) = llama_with(vec![("not model.embed_tokens.weight", vec![], vec![]), (name, shape, doubled)]);
    let alone = alone.unwrap();
    assert!(alone.config.tie_word_embeddings && alone.notes.is_empty());

    // Twice the head, twice the logits: to the bit, since doubling is exact.
    let device: crate::backend::Device = crate::cpu::Cpu::new(Some(1)).unwrap();
    let forest = crate::forest::Forest::from_sequences(&[vec![5, 6, 7]]).unwrap();
    let logits = |files: &ModelFiles| {
        let model = crate::model::decoder::Decoder::load(files, &device, DType::F32).unwrap();
        let hidden = model.hidden(&forest, Default::default()).unwrap();
        model.logits(&hidden, &[0, 1, 2]).unwrap().to_vec().unwrap()
    };
    let twice: Vec<f32> = logits(&same).iter().map(|z| 2.0 * z).collect();
    assert_eq!(bits(&logits(&own)), bits(&twice));
    assert_ne!(bits(&logits(&alone)), bits(&twice));

    // What is saved says so, and a head of another shape is an error.
    assert_eq!(own.config.to_json()["tie_word_embeddings"], json!(false));
    let (_dir, wrong) = llama_with(vec![(name, vec![1], vec![1.0])]);
    assert!(wrong.unwrap_err().to_string().contains("lm_head.weight is [1], [512, 48] is needed"));
}

#[test]
fn tensors_that_are_not_read_are_named() {
    let (_dir, files) = llama_with(vec![
        ("v_head.summary.weight", vec![1, 48], vec![0.5; 48]),
        ("model.layers.2.mlp.up_proj.weight", vec![1], vec![1.0]),
    ]);
    let notes = files.unwrap().notes;
    assert_eq!(notes.len(), 1);
    for part in ["model.layers.2.mlp.up_proj.weight", "v_head.summary.weight", "2 in all"] {
        assert!(notes[0].contains(part), "{notes:?}");
    }
    assert!(ModelFiles::open(data("llama.gguf")).unwrap().notes.is_empty());
}
