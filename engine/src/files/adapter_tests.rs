//! PEFT's adapters, read, checked and written back.
use super::adapter::Adapter;
use super::adapter_config::{AdapterConfig, TargetModules, TokenIndices};
use super::adapter_targets::Target;
use super::{ModelFiles, read_json_object};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(path)
}
fn parse(value: Value) -> crate::Result<AdapterConfig> {
    let Value::Object(map) = value else { panic!("an object") };
    AdapterConfig::from_json(map, Path::new("some/adapter_config.json"))
}

#[test]
fn adapters_of_peft_load_fit_and_are_written_back() {
    let model = ModelFiles::open(golden("models/llama")).unwrap().config;
    let of_lora =
        ["sft_lora", "sft_lora-final", "sft_rslora", "sft_rslora-final"].map(|name| format!("adapters/{name}"));
    // DoRA's is one that PEFT made of the golden llama (tests/data/make_dora.py).
    for name in of_lora.iter().map(String::as_str).chain(["../data/dora"]) {
        let source = golden(name);
        let adapter = Adapter::load(&source).unwrap();
        adapter.check_fits(&model, &source).unwrap();
        let (per_module, n) = if adapter.config.use_dora { (3, 4) } else { (2, adapter.modules().len()) };
        assert_eq!(adapter.tensors.len(), per_module * n, "{name}");
        let mut modules: Vec<String> =
            adapter.config.targets(&model).unwrap().into_iter().map(|t| t.module.path).collect();
        modules.sort();
        assert_eq!(modules, adapter.modules(), "{name}");
        let dir = tempfile::tempdir().unwrap();
        adapter.save(dir.path()).unwrap();
        let mut again = Adapter::load(dir.path()).unwrap();
        assert_eq!(again.tensors, adapter.tensors);
        let written = read_json_object(&dir.path().join("adapter_config.json")).unwrap();
        let read = read_json_object(&source.join("adapter_config.json")).unwrap();
        assert_eq!(Value::Object(written), Value::Object(read), "{name}");
        again.config.raw = adapter.config.raw.clone();
        assert_eq!(again, adapter);
    }
}

#[test]
fn the_smallest_config_has_pefts_defaults() {
    let config = parse(json!({"peft_type": "LORA", "target_modules": ["q_proj", "v_proj"]})).unwrap();
    assert_eq!((config.r, config.lora_alpha, config.lora_dropout), (8, 8.0, 0.0));
    let model = ModelFiles::open(golden("models/llama")).unwrap().config;
    let scale = |config: &AdapterConfig| config.targets(&model).unwrap()[0].scale;
    assert_eq!(scale(&config), 1.0);
    let targets = TargetModules::List(vec!["q_proj".to_string(), "v_proj".to_string()]);
    assert_eq!((config.use_rslora, config.use_dora, &config.target_modules), (false, false, &targets));
    let scaled = AdapterConfig { r: 16, lora_alpha: 32.0, use_rslora: true, ..config };
    assert_eq!(scale(&scaled), 8.0);
    let written = AdapterConfig { raw: Map::new(), ..scaled }.to_json();
    assert_eq!((&written["lora_alpha"], &written["peft_type"]), (&json!(32), &json!("LORA")));
}

#[test]
fn targets_of_a_model() {
    let model = ModelFiles::open(golden("models/llama")).unwrap().config;
    let targets = |target_modules: Value| {
        let config = parse(json!({"peft_type": "LORA", "target_modules": target_modules})).unwrap();
        let plain = |t: Target| (t.module.path, t.module.n_out, t.module.n_in);
        config.targets(&model).map(|targets| targets.into_iter().map(plain).collect::<Vec<_>>())
    };
    assert_eq!(targets(json!("all-linear")).unwrap().len(), 14);
    let two = targets(json!(["self_attn.v_proj"])).unwrap();
    assert_eq!(two, [0, 1].map(|l| (format!("model.layers.{l}.self_attn.v_proj"), 24, 48)));
    assert_eq!(targets(json!(["lm_head"])).unwrap(), [("lm_head".to_string(), 512, 48)]);
    assert!(targets(json!(["proj"])).unwrap_err().to_string().contains("q_proj"));
    assert_eq!(targets(json!(".*_proj")).unwrap().len(), 14);
}

/// Each rule by itself; tests/golden_adapters.rs has what PEFT makes of them.
#[test]
fn targets_by_pattern_layer_and_exclusion() {
    let model = ModelFiles::open(golden("models/llama")).unwrap().config;
    let targets = |options: Value| {
        let mut config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]});
        config.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let short = |t: Target| (t.module.path.trim_start_matches("model.layers.").to_string(), t.r, t.scale);
        parse(config).unwrap().targets(&model).map(|targets| targets.into_iter().map(short).collect::<Vec<_>>())
    };
    let paths = |options: Value| targets(options).unwrap().into_iter().map(|(path, ..)| path).collect::<Vec<_>>();
    assert_eq!(
        paths(json!({"target_modules": r".*1\.self_attn\.[qk]_proj"})),
        ["1.self_attn.q_proj", "1.self_attn.k_proj"]
    );
    assert_eq!(paths(json!({"layers_to_transform": 1})), ["1.self_attn.q_proj", "1.self_attn.v_proj"]);
    assert_eq!(
        paths(json!({"layers_to_transform": [0], "layers_pattern": "layers"})),
        ["0.self_attn.q_proj", "0.self_attn.v_proj"]
    );
    assert!(targets(json!({"layers_to_transform": [0], "layers_pattern": "h"})).is_err());
    assert_eq!(paths(json!({"exclude_modules": ["v_proj", "0.self_attn.q_proj"]})), ["1.self_attn.q_proj"]);
    assert_eq!(paths(json!({"exclude_modules": ".*q_proj"})), ["0.self_attn.v_proj", "1.self_attn.v_proj"]);
    assert_eq!(paths(json!({"modules_to_save": ["v_proj"]})), ["0.self_attn.q_proj", "1.self_attn.q_proj"]);
    let patterned = targets(
        json!({"rank_pattern": {"q_proj": 2, ".*": 16}, "alpha_pattern": {r"layers\.1\.self_attn\.v_proj": 32}}),
    );
    let patterned: Vec<_> = patterned.unwrap().into_iter().map(|(_, r, scale)| (r, scale)).collect();
    assert_eq!(patterned, [(2, 4.0), (16, 0.5), (2, 4.0), (16, 2.0)]);
    let wrong = targets(json!({"target_modules": "(q_proj"})).unwrap_err().to_string();
    assert!(wrong.contains("target_modules") && wrong.contains("no regular expression"), "{wrong}");
}

/// Whose rows are trained, and what PEFT does not let together.
#[test]
fn rows_of_tokens_by_pefts_rules() {
    let rows = |family: &str, options: Value| {
        let mut config = json!({"peft_type": "LORA", "target_modules": ["q_proj"]});
        config.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let model = ModelFiles::open(golden(&format!("models/{family}"))).unwrap().config;
        let found = parse(config).unwrap().token_targets(&model);
        found.map(|t| (t.embedding, t.output, t.shared)).map_err(|e| e.to_string())
    };
    let (tied, untied) = ("llama", "llama3");
    assert_eq!(rows(tied, json!({"trainable_token_indices": null})).unwrap(), (vec![], vec![], false));
    let list = json!({"trainable_token_indices": [9, 4]});
    assert_eq!(rows(tied, list.clone()).unwrap(), (vec![9, 4], vec![], true));
    assert_eq!(rows(untied, list).unwrap(), (vec![9, 4], vec![], false));
    let same = json!({"trainable_token_indices": {"embed_tokens": [9, 4], "lm_head": [9, 4]}});
    assert_eq!(rows(tied, same.clone()).unwrap(), (vec![9, 4], vec![], true));
    assert_eq!(rows(untied, same).unwrap(), (vec![9, 4], vec![9, 4], false));
    let other = json!({"trainable_token_indices": {"embed_tokens": [9, 4], "lm_head": [4, 9]}});
    assert_eq!(rows(tied, other.clone()).unwrap(), (vec![9, 4], vec![4, 9], false));
    assert_eq!(rows(tied, json!({"trainable_token_indices": {"lm_head": [4]}})).unwrap(), (vec![], vec![4], false));
    let mut ensured = other;
    ensured["ensure_weight_tying"] = json!(true);
    for (family, options, named) in [
        (tied, ensured, "ensure_weight_tying"),
        (tied, json!({"trainable_token_indices": []}), "no token"),
        (tied, json!({"trainable_token_indices": [3, 9, 3]}), "token 3 is there twice"),
        (tied, json!({"trainable_token_indices": [512]}), "vocabulary of 512"),
        (tied, json!({"trainable_token_indices": {"q_proj": [3]}}), "\"q_proj\""),
        (tied, json!({"trainable_token_indices": {"embed_tokens": [3], "model.embed_tokens": [4]}}), "twice"),
        (
            untied,
            json!({"trainable_token_indices": [3], "target_modules": ["embed_tokens"]}),
            "embed_tokens has an adapter",
        ),
        (
            untied,
            json!({"trainable_token_indices": {"lm_head": [3]}, "target_modules": ["lm_head"]}),
            "lm_head has an adapter",
        ),
        (tied, json!({"trainable_token_indices": [3], "modules_to_save": ["lm_head"]}), "lm_head"),
        (tied, json!({"trainable_token_indices": [3], "modules_to_save": ["embed_tokens"]}), "embed_tokens"),
        (tied, json!({"trainable_token_indices": [3], "target_modules": ["lm_head"], "use_dora": true}), "use_dora"),
    ] {
        let text = rows(family, options.clone()).unwrap_err();
        assert!(text.contains(named), "{options}: {text}");
    }
    rows(untied, json!({"trainable_token_indices": [3], "target_modules": ["lm_head"], "use_dora": true})).unwrap();
    let new = AdapterConfig {
        trainable_token_indices: Some(TokenIndices::OfEmbedding(vec![3, 9])),
        ..AdapterConfig::default()
    };
    assert_eq!(new.to_json()["trainable_token_indices"], json!([3, 9]));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let cases = [
        (json!({"peft_type": "IA3"}), "IA3"),
        (json!({"peft_type": null}), "peft_type"),
        (json!({"target_modules": null}), "target_modules"),
        (json!({"target_modules": [1]}), "target_modules"),
        (json!({"r": 0}), "`r` is 0"),
        (json!({"r": "8"}), "`r`"),
        (json!({"lora_dropout": 1.0}), "lora_dropout"),
        (json!({"rank_pattern": {"q_proj": 0}}), "rank_pattern"),
        (json!({"alpha_pattern": {"q_proj": "4"}}), "alpha_pattern"),
        (json!({"bias": "some"}), "bias"),
        (json!({"layers_to_transform": ["1"]}), "layers_to_transform"),
        (json!({"target_parameters": ["mlp.experts.up_proj"]}), "target_parameters"),
        (json!({"trainable_token_indices": [-3]}), "trainable_token_indices"),
        (json!({"trainable_token_indices": {"lm_head": 3}}), "trainable_token_indices"),
        (json!({"use_dora": true, "lora_bias": true}), "use_dora and lora_bias"),
        (json!({"alora_invocation_tokens": [3]}), "alora_invocation_tokens"),
        (json!({"fan_in_fan_out": true}), "fan_in_fan_out"),
        (json!({"an_option_of_next_year": 3}), "an_option_of_next_year"),
        (json!({"init_lora_weights": "pissa_niter_4"}), "pissa"),
        (json!({"use_bdlora": {"nblocks": 2}}), "use_bdlora"),
    ];
    for (changes, named) in cases {
        let mut config = json!({"peft_type": "LORA", "target_modules": ["q_proj"]});
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let text = parse(config).unwrap_err().to_string();
        assert!(text.contains(named), "{changes}: {text}");
    }
}

#[test]
fn tensors_that_do_not_belong_together_are_refused() {
    let adapter = Adapter::load(golden("../data/dora")).unwrap();
    let q = "model.layers.0.self_attn.q_proj";
    let refused = |change: &dyn Fn(&mut Adapter)| {
        let mut changed = adapter.clone();
        change(&mut changed);
        let dir = tempfile::tempdir().unwrap();
        let error = changed.save(dir.path()).unwrap_err().to_string();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        error
    };
    assert!(refused(&|a| drop(a.tensors.remove(&format!("{q}.lora_B.weight")))).contains("lora_B.weight is missing"));
    assert!(refused(&|a| drop(a.tensors.remove(&format!("{q}.lora_A.weight")))).contains("lora_A.weight is missing"));
    assert!(refused(&|a| drop(a.tensors.remove(&format!("{q}.lora_magnitude_vector")))).contains("use_dora"));
    assert!(refused(&|a| a.config.use_dora = false).contains("use_dora is off"));
    assert!(refused(&|a| a.config.r = 5).contains("[5, in]"));
    assert!(refused(&|a| a.tensors.clear()).contains("no tensors"));

    let llama = ModelFiles::open(golden("models/llama")).unwrap().config;
    let qwen3 = ModelFiles::open(golden("models/qwen3")).unwrap().config;
    adapter.check_fits(&llama, Path::new("a")).unwrap();
    let error = adapter.check_fits(&qwen3, Path::new("a")).unwrap_err().to_string();
    assert!(error.contains("does not fit the base model") && error.contains("[64, 48]"), "{error}");
    let message = |path: &str| Adapter::load(golden(path)).unwrap_err().to_string();
    assert!(message("adapters/none").contains("does not exist"));
    assert!(message("models/llama").contains("no adapter_config.json"));
}
