//! What a config.json means, and that it survives being written.
use crate::config::{ModelConfig, RopeScaling};
use crate::error::Error;
use serde_json::{Map, Value, json};
use std::path::Path;

fn parse(value: Value) -> crate::Result<ModelConfig> {
    let Value::Object(map) = value else { panic!("an object") };
    ModelConfig::from_json(map, Path::new("some/config.json"))
}

/// A small valid config.json with `changes` on top; null removes.
fn with(changes: Value) -> Value {
    let mut base = json!({
        "model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 144, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "hidden_act": "silu",
    });
    let (Value::Object(map), Value::Object(changes)) = (&mut base, changes) else { panic!("objects") };
    for (key, value) in changes {
        if value == json!("(absent)") {
            map.remove(&key);
        } else {
            map.insert(key, value);
        }
    }
    base
}

fn refused(changes: Value) -> String {
    parse(with(changes)).unwrap_err().to_string()
}

#[test]
fn both_spellings_of_rope_parse_alike() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 64});
    let four = parse(with(json!({"rope_theta": 500000.0, "rope_scaling": llama3, "torch_dtype": "bfloat16"}))).unwrap();
    let mut five = llama3.clone();
    five["rope_theta"] = json!(500000.0);
    let five = parse(with(json!({"rope_parameters": five, "dtype": "bfloat16"}))).unwrap();
    assert_eq!(four.rope, five.rope);
    assert_eq!(four.rope.theta, 500000.0);
    let want = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    assert_eq!(four.rope.scaling, want);
    let linear = parse(with(json!({"rope_scaling": {"type": "linear", "factor": 2}}))).unwrap();
    assert_eq!((linear.rope.scaling, linear.rope.theta), (RopeScaling::Linear { factor: 2.0 }, 10000.0));
    let plain = parse(with(json!({"rope_scaling": null, "rope_theta": 1e6}))).unwrap();
    assert_eq!((plain.rope.scaling, plain.rope.theta), (RopeScaling::None, 1e6));
}

#[test]
fn absent_keys_have_the_defaults_of_the_configuration_classes() {
    let llama = parse(with(json!({"num_key_value_heads": "(absent)"}))).unwrap();
    assert_eq!((llama.n_kv_heads, llama.head_size, llama.tie_word_embeddings), (4, 16, false));
    assert_eq!((llama.rms_norm_eps, llama.bos_id, &llama.eos_ids[..]), (1e-6, Some(1), &[2][..]));
    let no_ids = parse(with(json!({"bos_token_id": null, "eos_token_id": null}))).unwrap();
    assert_eq!((no_ids.bos_id, &no_ids.eos_ids[..]), (None, &[][..]));
    let heads = json!({"model_type": "mistral", "num_attention_heads": 16, "num_key_value_heads": "(absent)"});
    let mistral = parse(with(heads)).unwrap();
    assert_eq!((mistral.n_kv_heads, &mistral.layer_windows[..]), (8, &[Some(4096); 3][..]));
    let qwen3 = parse(with(json!({"model_type": "qwen3", "attention_bias": true}))).unwrap();
    assert_eq!((qwen3.head_size, qwen3.qk_norm, qwen3.qkv_bias, qwen3.o_bias), (128, true, true, true));
    let granite = parse(with(json!({"model_type": "granite", "residual_multiplier": 0.22}))).unwrap().scales;
    assert_eq!((granite.embedding, granite.attention, granite.residual, granite.logits), (1.0, Some(1.0), 0.22, 1.0));
    let llama = parse(with(json!({"residual_multiplier": 0.22}))).unwrap().scales;
    assert_eq!((llama.attention, llama.residual), (None, 1.0));
    let qwen2 = parse(with(json!({"model_type": "qwen2", "eos_token_id": [7, 9], "pad_token_id": -1}))).unwrap();
    assert_eq!((qwen2.qk_norm, qwen2.qkv_bias, qwen2.o_bias), (false, true, false));
    assert_eq!((&qwen2.eos_ids[..], qwen2.pad_id), (&[7, 9][..], None));
}

#[test]
fn windows_by_layer() {
    let windows = |changes: Value| parse(with(changes)).map(|c| c.layer_windows);
    assert_eq!(windows(json!({"model_type": "mistral", "sliding_window": null})).unwrap(), [None; 3]);
    assert_eq!(windows(json!({"model_type": "mistral", "sliding_window": 16})).unwrap(), [Some(16); 3]);
    assert_eq!(windows(json!({"model_type": "llama", "sliding_window": 16})).unwrap(), [None; 3]);
    let qwen = |more: Value| {
        let mut changes = json!({"model_type": "qwen2", "sliding_window": 16});
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        windows(changes)
    };
    assert_eq!(qwen(json!({})).unwrap(), [None; 3]);
    assert_eq!(qwen(json!({"use_sliding_window": true})).unwrap(), [None; 3]);
    let some = qwen(json!({"use_sliding_window": true, "max_window_layers": 1})).unwrap();
    assert_eq!(some, [None, Some(16), Some(16)]);
    let types =
        json!({"use_sliding_window": true, "layer_types": ["sliding_attention", "full_attention", "full_attention"]});
    assert_eq!(qwen(types).unwrap(), [Some(16), None, None]);
    let off = qwen(json!({"layer_types": ["sliding_attention", "full_attention", "full_attention"]}));
    assert!(off.unwrap_err().to_string().contains("sliding_window is off"));
    assert!(qwen(json!({"use_sliding_window": true, "layer_types": ["full_attention"]})).is_err());
}

#[test]
fn what_is_not_supported_is_named_with_what_is() {
    let family = parse(with(json!({"model_type": "gemma3"}))).unwrap_err();
    assert!(matches!(family, Error::Unsupported(_)));
    let text = family.to_string();
    assert!(text.contains("\"gemma3\"") && text.contains("llama, mistral, qwen2, qwen3"), "{text}");
    let cases = [
        (json!({"hidden_act": "gelu"}), "gelu", "silu"),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), "yarn", "llama3"),
        (json!({"partial_rotary_factor": 0.5}), "0.5", "1"),
        (json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}), "RoPE", "layers"),
        (json!({"quantization_config": {"quant_method": "gptq"}}), "gptq", "GGUF"),
    ];
    for (changes, named, instead) in cases {
        let text = refused(changes);
        assert!(text.contains(named) && text.contains(instead) && text.contains("config.json"), "{text}");
    }
}

#[test]
fn impossible_numbers_are_refused() {
    let cases = [
        (json!({"model_type": "(absent)"}), "model_type"),
        (json!({"hidden_size": "(absent)"}), "`hidden_size` is missing"),
        (json!({"hidden_size": "64"}), "`hidden_size` is \"64\""),
        (json!({"hidden_size": -64}), "hidden_size"),
        (json!({"hidden_size": 64.5}), "hidden_size"),
        (json!({"num_hidden_layers": 0}), "num_hidden_layers"),
        (json!({"num_hidden_layers": 1e12}), "num_hidden_layers"),
        (json!({"num_attention_heads": 0}), "num_attention_heads"),
        (json!({"vocab_size": 18446744073709551615u64}), "vocab_size"),
        (json!({"num_key_value_heads": 3}), "does not divide"),
        (json!({"num_attention_heads": 64, "head_dim": 1}), "odd"),
        (json!({"num_attention_heads": 67108864, "head_dim": 67108864}), "plausible"),
        (json!({"hidden_size": 2, "num_attention_heads": 4}), "head_dim is 0"),
        (json!({"rms_norm_eps": -1}), "rms_norm_eps"),
        (json!({"rope_theta": 0}), "rope_theta"),
        (json!({"rope_scaling": {"rope_type": "linear"}}), "`factor` is missing"),
        (json!({"rope_scaling": {"rope_type": "linear", "factor": 0}}), "factor"),
        (json!({"rope_scaling": "linear"}), "rope_scaling"),
        (json!({"tie_word_embeddings": 1}), "tie_word_embeddings"),
        (json!({"eos_token_id": "</s>"}), "eos_token_id"),
        (json!({"model_type": "mistral", "sliding_window": 0}), "sliding_window"),
        (json!({"model_type": "granite", "logits_scaling": 0}), "logits_scaling is 0"),
        (json!({"model_type": "granite", "residual_multiplier": "1"}), "residual_multiplier"),
    ];
    for (changes, named) in cases {
        let text = refused(changes.clone());
        assert!(text.contains(named), "{changes}: {text}");
    }
}

/// What is written parses to the same model, from any spelling, and from a configuration made in code.
#[test]
fn written_and_read_again_is_the_same() {
    let sources = [
        with(json!({"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}, "torch_dtype": "float16"})),
        with(json!({"model_type": "mistral", "sliding_window": 7, "own_key": {"kept": true}})),
        with(json!({"model_type": "qwen2", "use_sliding_window": true, "max_window_layers": 2, "sliding_window": 5})),
        with(
            json!({"model_type": "granite", "embedding_multiplier": 12, "attention_multiplier": 0.0625, "logits_scaling": 8.0}),
        ),
        with(json!({"model_type": "qwen3", "rms_norm_eps": 1e-5, "eos_token_id": [1, 2], "pad_token_id": 3})),
    ];
    for source in sources {
        let config = parse(source.clone()).unwrap();
        let written = config.to_json();
        for (key, value) in source.as_object().unwrap() {
            assert_eq!(written.get(key), Some(value), "{key} was not kept");
        }
        let again = parse(Value::Object(written.clone())).unwrap();
        assert_eq!(ModelConfig { raw: Map::new(), ..again.clone() }, ModelConfig { raw: Map::new(), ..config.clone() });
        assert_eq!(again.to_json(), written);
        let from_code = ModelConfig { raw: Map::new(), ..config.clone() };
        let read = parse(Value::Object(from_code.to_json())).unwrap();
        assert_eq!(ModelConfig { raw: Map::new(), ..read }, from_code);
    }
}

#[test]
fn a_changed_model_is_written_changed() {
    let mut config = parse(with(json!({"model_type": "qwen2", "rope_theta": 1e6}))).unwrap();
    config.vocab_size = 600;
    config.rope.theta = 2e6;
    config.pad_id = Some(4);
    config.layer_windows = vec![Some(8), None, Some(8)];
    let read = parse(Value::Object(config.to_json())).unwrap();
    assert_eq!(ModelConfig { raw: Map::new(), ..read }, ModelConfig { raw: Map::new(), ..config });
}

#[test]
fn tensors_of_each_family() {
    let names = |changes: Value| {
        let config = parse(with(changes)).unwrap();
        let slots: Vec<(String, Vec<usize>)> = config.slots().into_iter().map(|s| (s.path, s.shape)).collect();
        (slots, config.count_parameters().0)
    };
    let (llama, n) = names(json!({"num_hidden_layers": 1, "tie_word_embeddings": true}));
    // 512·64 + (64·64 + 2·32·64 + 64·64) + 3·144·64 + 3·64
    assert_eq!((llama.len(), n), (11, 32768 + 12288 + 27648 + 192));
    let (untied, _) = names(json!({"num_hidden_layers": 1}));
    assert_eq!(untied.last().unwrap(), &("lm_head.weight".to_string(), vec![512, 64]));
    let (biased, _) = names(json!({"num_hidden_layers": 1, "attention_bias": true, "mlp_bias": true}));
    assert_eq!(biased.len(), 12 + 7);
    let (qwen2, _) = names(json!({"num_hidden_layers": 1, "model_type": "qwen2"}));
    assert_eq!(qwen2.len(), 12 + 3);
    let (qwen3, _) = names(json!({"num_hidden_layers": 1, "model_type": "qwen3", "head_dim": 32}));
    assert!(qwen3.contains(&("model.layers.0.self_attn.q_norm.weight".to_string(), vec![32])));
    assert!(qwen3.contains(&("model.layers.0.self_attn.q_proj.weight".to_string(), vec![128, 64])));
    assert!(qwen3.contains(&("model.layers.0.self_attn.o_proj.weight".to_string(), vec![64, 128])));
}

#[test]
fn dropouts_that_are_not_done_are_known() {
    let config =
        parse(with(json!({"attention_dropout": 0.1, "resid_pdrop": 0.0, "hidden_dropout": 0.2, "own": 1}))).unwrap();
    assert_eq!(config.dropouts(), [("attention_dropout", 0.1), ("hidden_dropout", 0.2)]);
    assert_eq!(config.to_json()["attention_dropout"], json!(0.1));
}
