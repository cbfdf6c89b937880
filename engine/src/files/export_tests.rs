//! GGUF files that were written, read again: the same configuration, weights and logits; quantised as they say.
use super::gguf_export::GgufExport;
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

/// The model written as `dtype` and opened again.
fn written(files: &ModelFiles, dtype: DType) -> (tempfile::TempDir, ModelFiles) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let export = GgufExport::new(&files.config, files.vocabulary.as_ref(), "a name", dtype).unwrap();
    export.save(&path, |slot| Ok(f32s(&files.weights, &slot.path))).unwrap();
    let again = ModelFiles::open(&path).unwrap();
    assert_eq!(again.notes, Vec::<String>::new());
    (dir, again)
}

fn logits(files: &ModelFiles) -> Vec<u32> {
    let device: crate::backend::Device = crate::cpu::Cpu::new(Some(1)).unwrap();
    let forest = crate::forest::Forest::from_sequences(&[(5..40).collect::<Vec<u32>>()]).unwrap();
    let model = crate::model::decoder::Decoder::load(files, &device, DType::F32).unwrap();
    let hidden = model.hidden(&forest, Default::default()).unwrap();
    bits(&model.logits(&hidden, &(0..35).collect::<Vec<u32>>()).unwrap().to_vec().unwrap())
}

#[test]
fn every_family_in_float32_is_the_same_model() {
    for family in FAMILIES.iter().map(|family| family.name).chain(["llama3"]) {
        let files = ModelFiles::open(golden(family)).unwrap();
        let (_dir, again) = written(&files, DType::F32);
        let plain = |c: &ModelConfig| ModelConfig {
            raw: Map::new(),
            generation: Default::default(),
            // Ids are the tokenizer's affair, and there is none here.
            bos_id: None,
            eos_ids: vec![],
            pad_id: None,
            ..c.clone()
        };
        assert_eq!(plain(&again.config), plain(&files.config), "{family}");
        for Slot { path: name, .. } in files.config.slots() {
            assert_eq!(bits(&f32s(&again.weights, &name)), bits(&f32s(&files.weights, &name)), "{family} {name}");
        }
        assert_eq!(logits(&again), logits(&files), "{family}");
    }
}

#[test]
fn narrow_types_hold_what_they_say() {
    for family in ["llama", "qwen3", "granite"] {
        let files = ModelFiles::open(data("models").join(family)).unwrap();
        for dtype in [DType::F16, DType::BF16, DType::Quant(Quant::Q8_0)] {
            let (_dir, again) = written(&files, dtype);
            for Slot { path: name, role, shape, .. } in files.config.slots() {
                let exact = f32s(&files.weights, &name);
                let round = |x: &f32| match dtype {
                    DType::BF16 => bf16::from_f32(*x).to_f32(),
                    _ => f16::from_f32(*x).to_f32(),
                };
                // 144 columns are no blocks of 32: float16, as llama.cpp's converter has it.
                let narrow = dtype == DType::Quant(Quant::Q8_0) && shape.last() != Some(&144);
                let (want, kind): (Vec<f32>, DType) = match (role.is_matrix(), narrow) {
                    (false, _) => (exact.clone(), DType::F32),
                    (true, true) => {
                        let blocks = crate::quant::encode_q8_0(&exact).unwrap();
                        let mut values = vec![0.0; exact.len()];
                        crate::quant::decode_row(Quant::Q8_0, &blocks, &mut values).unwrap();
                        (values, dtype)
                    }
                    (true, false) if dtype == DType::BF16 => (exact.iter().map(round).collect(), DType::BF16),
                    (true, false) => (exact.iter().map(round).collect(), DType::F16),
                };
                assert_eq!(again.weights.dtype(&name).unwrap(), kind, "{name}");
                assert_eq!(bits(&f32s(&again.weights, &name)), bits(&want), "{family} {name}");
            }
        }
    }
}

/// A file of the gguf package, tokenizer and all, written again: what it says is what it said.
#[test]
fn a_tokenizer_stays_what_it_was() {
    let files = ModelFiles::open(data("llama.gguf")).unwrap();
    let (dir, again) = written(&files, DType::F32);
    let plain = |c: &ModelConfig| ModelConfig { raw: Map::new(), ..c.clone() };
    assert_eq!(plain(&again.config), plain(&files.config));
    assert_eq!(format!("{:?}", again.vocabulary), format!("{:?}", files.vocabulary));
    let gguf = gguf::Gguf::open(&dir.path().join("model.gguf")).unwrap();
    assert_eq!(
        (gguf.text("general.name").unwrap(), gguf.count("general.file_type").unwrap()),
        (Some("a name"), Some(0))
    );
    assert!(gguf.tensors.iter().all(|tensor| tensor.start % 32 == 0));
}

#[test]
fn linear_scaling_and_more_ends_are_kept() {
    let mut files = ModelFiles::open(data("llama.gguf")).unwrap();
    files.config.rope.scaling = RopeScaling::Linear { factor: 2.5 };
    let vocabulary = files.vocabulary.as_mut().unwrap();
    (vocabulary.eot_id, vocabulary.eom_id) = (Some(0), Some(7));
    vocabulary.named_templates = vec![("tool_use".into(), "{{ tools }}".into())];
    let (_dir, again) = written(&files, DType::F16);
    assert_eq!(again.config.rope, files.config.rope);
    assert_eq!(again.config.eos_ids, [2, 0, 7]);
    assert_eq!(again.vocabulary.unwrap().named_templates, files.vocabulary.unwrap().named_templates);
}

#[test]
fn what_gguf_cannot_hold_is_refused() {
    let files = ModelFiles::open(golden("llama")).unwrap();
    let told = |config: &ModelConfig, dtype| GgufExport::new(config, None, "m", dtype).unwrap_err().to_string();
    let reward = ModelFiles::open(golden("llama-reward")).unwrap().config;
    assert!(told(&reward, DType::F16).contains("reward model"));
    assert!(told(&files.config, DType::Quant(Quant::Q4_0)).contains("Q4_0 is not written"));
    let mut windowed = ModelFiles::open(golden("qwen2")).unwrap().config;
    windowed.layer_windows[1] = Some(8);
    assert!(told(&windowed, DType::F16).contains("attention windows of single layers"));
    let mistral = ModelFiles::open(golden("mistral")).unwrap().config;
    assert!(GgufExport::new(&mistral, None, "m", DType::F16).unwrap().notes()[0].contains("within 16 tokens"));

    // A failure in the middle leaves no file.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let export = GgufExport::new(&files.config, None, "m", DType::F16).unwrap();
    for (value, words) in [(1e6, "float16 cannot hold"), (f32::NAN, "the model is broken")] {
        let error = export.save(&path, |slot| Ok(vec![value; slot.n()])).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("model.embed_tokens.weight"), "{error}");
    }
    assert!(export.save(&path, |_| Ok(vec![0.0; 3])).unwrap_err().to_string().contains("token_embd.weight is"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
