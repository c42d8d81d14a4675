//! Configurations: both spellings, every default, every refusal.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use llama_pro_checkpoint::{Architecture, ConfigFile, Dtype, LlamaConfig, Result, Rope, RopeScaling};
use serde_json::{Value, json};
use support::{expect_error, fixture};

fn parse(value: &Value) -> Result<LlamaConfig> {
    ConfigFile::from_json(Path::new("dir/config.json"), &value.to_string())?.llama()
}

/// The smallest complete configuration, with keys replaced (null removes one).
fn with(changes: &Value) -> Value {
    let mut config = json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 4,
        "num_attention_heads": 4, "vocab_size": 320, "max_position_embeddings": 256
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[track_caller]
fn refused(changes: Value, parts: &[&str]) {
    let mut parts = parts.to_vec();
    parts.push("dir/config.json");
    expect_error(parse(&with(&changes)), &parts);
}

fn llama2() -> LlamaConfig {
    LlamaConfig {
        architecture: Architecture::Llama,
        hidden_size: 64,
        intermediate_size: 176,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 16,
        vocab_size: 320,
        max_position_embeddings: 256,
        rms_norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
        tie_word_embeddings: false,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        sliding_window: vec![None; 4],
        dtype: Some(Dtype::F32),
        bos_token_id: Some(1),
        eos_token_ids: vec![2],
    }
}

#[test]
fn fixtures_say_what_their_files_say() {
    let read = |name| ConfigFile::read(&fixture(name)).unwrap().llama().unwrap();
    assert_eq!(read("llama2"), llama2());
    assert_eq!(read("llama2-legacy-config"), llama2(), "the old spelling means the same");
    assert_eq!(
        read("llama2-train-added/expanded"),
        LlamaConfig { num_hidden_layers: 6, sliding_window: vec![None; 6], ..llama2() }
    );
    assert_eq!(
        read("mistral-window"),
        LlamaConfig {
            architecture: Architecture::Mistral,
            num_attention_heads: 8,
            head_dim: 8,
            sliding_window: vec![Some(16); 4],
            ..llama2()
        }
    );
    assert_eq!(
        read("llama3-gqa-tied-bf16-sharded"),
        LlamaConfig {
            num_attention_heads: 8,
            num_key_value_heads: 2,
            head_dim: 8,
            tie_word_embeddings: true,
            dtype: Some(Dtype::BF16),
            rope: Rope {
                theta: 500_000.0,
                scaling: RopeScaling::Llama3 {
                    factor: 8.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_max_position_embeddings: 64,
                },
            },
            ..llama2()
        }
    );
}

#[test]
fn absent_keys_mean_what_transformers_says() {
    let llama = parse(&with(&json!({}))).unwrap();
    assert_eq!(llama, LlamaConfig { rms_norm_eps: 1e-6, dtype: None, ..llama2() });
    let bare = with(&json!({"max_position_embeddings": null}));
    assert_eq!(parse(&bare).unwrap().max_position_embeddings, 2048);

    let mistral = parse(&with(&json!({"model_type": "mistral", "num_attention_heads": 16,
        "max_position_embeddings": null})))
    .unwrap();
    assert_eq!((mistral.num_key_value_heads, mistral.max_position_embeddings), (8, 131_072));
    assert_eq!(mistral.sliding_window, vec![Some(4096); 4]);
    let mistral = parse(&with(&json!({"model_type": "mistral", "num_key_value_heads": null,
        "sliding_window": null})))
    .unwrap();
    assert_eq!((mistral.num_key_value_heads, mistral.sliding_window), (4, vec![None; 4]));

    let qwen = json!({"model_type": "qwen2", "num_key_value_heads": 2});
    let qwen2 = parse(&with(&qwen)).unwrap();
    assert!(qwen2.qkv_bias && !qwen2.o_bias && !qwen2.mlp_bias);
    assert_eq!((qwen2.bos_token_id, qwen2.eos_token_ids), (None, vec![]));
    assert_eq!(qwen2.sliding_window, vec![None; 4]);
}

#[test]
fn qwen2_windows_are_on_the_upper_layers() {
    let with_window = |extra: Value| {
        let mut value = with(&json!({"model_type": "qwen2", "num_key_value_heads": 2, "sliding_window": 32}));
        for (key, entry) in extra.as_object().unwrap() {
            value[key] = entry.clone();
        }
        parse(&value).unwrap().sliding_window
    };
    assert_eq!(with_window(json!({"max_window_layers": 1})), vec![None; 4], "off unless use_sliding_window");
    let on = json!({"use_sliding_window": true, "max_window_layers": 3});
    assert_eq!(with_window(on), vec![None, None, None, Some(32)]);
    assert_eq!(with_window(json!({"use_sliding_window": true})), vec![None; 4], "max_window_layers is 28");
    let types = json!({"use_sliding_window": true, "layer_types":
        ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]});
    assert_eq!(with_window(types), vec![None, Some(32), None, Some(32)]);
}

#[test]
fn llama_biases_follow_their_keys() {
    let config = parse(&with(&json!({"attention_bias": true}))).unwrap();
    assert!(config.qkv_bias && config.o_bias && !config.mlp_bias);
    let config = parse(&with(&json!({"mlp_bias": true}))).unwrap();
    assert!(!config.qkv_bias && !config.o_bias && config.mlp_bias);
}

#[test]
fn disagreements_of_the_spellings_are_refused() {
    let two = json!({"rope_scaling": {"type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "linear", "factor": 3.0}});
    refused(two, &["rope_scaling", "rope_parameters", "2.0", "3.0"]);
    let theta = json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}});
    refused(theta, &["rope_parameters.rope_theta", "1000000", "10000"]);
    refused(
        json!({"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2.0}}),
        &["linear", "yarn"],
    );
    refused(json!({"torch_dtype": "float32", "dtype": "bfloat16"}), &["torch_dtype", "F32", "BF16"]);
    let agree = with(&json!({"torch_dtype": "float16", "dtype": "float16"}));
    assert_eq!(parse(&agree).unwrap().dtype, Some(Dtype::F16));
}

#[test]
fn what_would_change_the_numbers_is_refused_by_name() {
    for (changes, parts) in [
        (json!({"hidden_act": "gelu"}), ["hidden_act", "gelu"]),
        (json!({"partial_rotary_factor": 0.5}), ["partial_rotary_factor", "0.5"]),
        (
            json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
            ["rope_parameters.partial_rotary_factor", "0.5"],
        ),
        (json!({"attention_dropout": 0.1}), ["attention_dropout", "0.1"]),
        (json!({"model_type": "gemma2"}), ["model_type", "gemma2"]),
        (json!({"architectures": ["LlamaModel"]}), ["architectures", "LlamaModel"]),
        (json!({"architectures": ["MistralForCausalLM"]}), ["architectures", "MistralForCausalLM"]),
        (json!({"rope_scaling": {"type": "longrope", "factor": 2.0}}), ["rope_scaling.type", "longrope"]),
        (json!({"rope_scaling": {"type": "su"}}), ["rope_scaling.type", "su"]),
        (
            json!({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 2]}}),
            ["mrope_section", "[1,2]"],
        ),
        (
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}),
            ["full_attention", "per layer type"],
        ),
        (json!({"quantization_config": {"quant_method": "gptq"}}), ["quantization_config", "gptq"]),
        (json!({"residual_multiplier": 0.22}), ["residual_multiplier", "0.22"]),
        (json!({"logits_scaling": 8.0}), ["logits_scaling", "8"]),
        (json!({"logit_scale": 0.0625}), ["logit_scale", "0.0625"]),
        (json!({"num_local_experts": 8}), ["num_local_experts", "8"]),
        (json!({"clip_qkv": 8.0}), ["clip_qkv", "8"]),
        (json!({"use_qk_norm": true}), ["use_qk_norm", "true"]),
        (json!({"final_logit_softcapping": 30.0}), ["final_logit_softcapping", "30"]),
        (json!({"sliding_window": 64}), ["sliding_window", "64"]),
        (
            json!({"layer_types": ["linear_attention", "full_attention", "full_attention", "full_attention"]}),
            ["layer_types", "linear_attention"],
        ),
        (
            json!({"layer_types": ["full_attention", "full_attention", "sliding_attention", "full_attention"]}),
            ["layer_types", "entry 2"],
        ),
        (json!({"layer_types": ["full_attention"]}), ["layer_types", "1 entries"]),
        (
            json!({"model_type": "mistral", "num_key_value_heads": 4, "mlp_bias": true}),
            ["mlp_bias", "mistral"],
        ),
        (json!({"torch_dtype": "float8_e4m3fn"}), ["torch_dtype", "float8_e4m3fn"]),
    ] {
        refused(changes, &parts);
    }
}

#[test]
fn off_values_and_harmless_keys_are_accepted() {
    let plain = parse(&with(&json!({}))).unwrap();
    for changes in [
        json!({"attention_dropout": 0.0, "pretraining_tp": 4, "use_cache": true, "initializer_range": 0.5}),
        json!({"partial_rotary_factor": 1.0, "residual_multiplier": 1.0, "logit_scale": 1, "clip_qkv": null}),
        json!({"num_local_experts": 1, "pruned_heads": {}, "quantization_config": null, "is_causal": true}),
        json!({"rope_scaling": null, "_name_or_path": "x", "somebody's_key": [1, {"a": null}]}),
        json!({"sliding_window": 4096, "use_sliding_window": false, "hidden_act": "swish"}),
        json!({"layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"]}),
    ] {
        assert_eq!(parse(&with(&changes)).unwrap(), plain, "{changes}");
    }
}

#[test]
fn missing_and_impossible_numbers_are_refused_with_the_key() {
    for key in [
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
    ] {
        refused(json!({ key: null }), &[key, "missing"]);
    }
    for (key, value, found) in [
        ("num_hidden_layers", json!(0), "0"),
        ("num_hidden_layers", json!(-1), "-1"),
        ("num_hidden_layers", json!(4.0), "4.0"),
        ("num_hidden_layers", json!("4"), "\"4\""),
        ("num_hidden_layers", json!(70_000), "70000"),
        ("hidden_size", json!(66), "66"),
        ("hidden_size", json!(12), "3 dimensions"),
        ("head_dim", json!(7), "7"),
        ("num_key_value_heads", json!(3), "3"),
        ("num_key_value_heads", json!(8), "8"),
        ("vocab_size", json!(1u64 << 40), "1099511627776"),
        ("rms_norm_eps", json!(-1e-5), "-"),
        ("rms_norm_eps", json!("1e-5"), "1e-5"),
        ("rope_theta", json!(0), "0"),
        ("tie_word_embeddings", json!(1), "1"),
        ("bos_token_id", json!(-1), "-1"),
        ("eos_token_id", json!([2, 2.5]), "2.5"),
        ("rope_scaling", json!([1]), "[1]"),
        ("rope_scaling", json!({"type": "linear"}), "rope_scaling.factor"),
        ("rope_scaling", json!({"type": "linear", "factor": -2}), "-2"),
        ("rope_scaling", json!({"type": "yarn"}), "rope_scaling.factor"),
    ] {
        refused(json!({ key: value }), &[key, found]);
    }
    let llama3 = json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
        "high_freq_factor": 1.0}});
    refused(llama3, &["high_freq_factor", "low_freq_factor 4", "found 1"]);
    let big = 2_000_000_000_u64;
    refused(
        json!({"hidden_size": big, "intermediate_size": big, "num_attention_heads": 4}),
        &["hidden_size"],
    );
    refused(json!({"head_dim": big, "num_attention_heads": 1000}), &["head_dim"]);
    // A head that is not the quotient is fine when it stands there.
    assert_eq!(parse(&with(&json!({"head_dim": 6, "hidden_size": 66}))).unwrap().head_dim, 6);
}

#[test]
fn damaged_text_is_refused_with_line_and_column() {
    let path = Path::new("dir/config.json");
    let parse = |text: &str| ConfigFile::from_json(path, text);
    expect_error(parse("{\n \"a\": 1,\n \"b\""), &["dir/config.json", "line 3, column 4", "cut short"]);
    expect_error(parse(""), &["line 1, column 0", "cut short"]);
    expect_error(parse("{\n \"a\": 1,\n \"a\": 2}"), &["line 3", "\"a\"", "twice"]);
    expect_error(parse("[1]"), &["a list"]);
    expect_error(parse("{} x"), &["line 1, column 4"]);
    expect_error(parse("{\"a\": NaN}"), &["line 1"]);
    let dir = tempfile::tempdir().unwrap();
    expect_error(ConfigFile::read(&dir.path().join("no")), &["no is not there"]);
    expect_error(ConfigFile::read(dir.path()), &["config.json is not there"]);
    std::fs::create_dir(dir.path().join("config.json")).unwrap();
    expect_error(ConfigFile::read(dir.path()), &["config.json is not a regular file"]);
    expect_error(ConfigFile::read(&fixture("llama2/config.json")), &["is not a folder"]);
}

#[test]
fn writing_keeps_every_key_in_its_order_and_every_number() {
    let text = std::fs::read_to_string(fixture("llama2-legacy-config/config.json")).unwrap();
    let mut file = ConfigFile::from_json(Path::new("c"), &text).unwrap();
    assert_eq!(file.num_hidden_layers().unwrap(), 4);
    assert_eq!(file.model_type().unwrap(), "llama");
    file.raw_mut()["num_hidden_layers"] = json!(6);
    // A number that the fast but inexact parser of serde_json gets wrong in the last bit.
    file.raw_mut()
        .insert("odd".to_owned(), serde_json::from_str("[1.2079441541679836, 9007199254740993]").unwrap());
    let written = file.to_json();
    assert!(written.ends_with("}\n") && written.starts_with("{\n  \"architectures\": [\n"));
    let again = ConfigFile::from_json(Path::new("c"), &written).unwrap();
    let keys: Vec<_> = again.raw().keys().cloned().collect();
    let mut expected: Vec<_> =
        serde_json::from_str::<serde_json::Map<String, Value>>(&text).unwrap().keys().cloned().collect();
    expected.push("odd".to_owned());
    assert_eq!(keys, expected);
    assert_eq!(again.raw()["num_hidden_layers"], 6);
    assert_eq!(
        again.raw()["odd"][0].as_f64().unwrap().to_bits(),
        "1.2079441541679836".parse::<f64>().unwrap().to_bits()
    );
    assert_eq!(again.raw()["odd"][1], json!(9_007_199_254_740_993_u64));
    assert_eq!(again.to_json(), written);
}

#[test]
fn parameters_are_those_of_the_fixtures() {
    for name in support::WITH_WEIGHTS {
        let checkpoint = llama_pro_checkpoint::Checkpoint::open(&fixture(name)).unwrap();
        let config = checkpoint.config().llama().unwrap();
        checkpoint.check_parameters(&config).unwrap();
        let parameters = config.parameters();
        let mut demanded: Vec<_> = parameters.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(demanded[0], "model.embed_tokens.weight");
        assert_eq!(demanded[1], "model.layers.0.input_layernorm.weight");
        demanded.sort_unstable();
        assert_eq!(demanded, checkpoint.names().collect::<Vec<_>>(), "{name}");
        let elements = checkpoint.total_bytes() / if name.contains("bf16") { 2 } else { 4 };
        assert_eq!(config.parameter_count(), elements);
    }
    let biased =
        parse(&with(&json!({"attention_bias": true, "mlp_bias": true, "num_hidden_layers": 1}))).unwrap();
    let names: Vec<_> = biased.parameters().into_iter().map(|spec| spec.name).collect();
    assert_eq!(names.iter().filter(|name| name.ends_with(".bias")).count(), 7);
    let qwen =
        parse(&with(&json!({"model_type": "qwen2", "num_key_value_heads": 2, "num_hidden_layers": 1})))
            .unwrap();
    let biases: Vec<_> = qwen.parameters().into_iter().filter(|spec| spec.name.ends_with(".bias")).collect();
    assert_eq!(biases.iter().map(|spec| spec.shape[0]).collect::<Vec<_>>(), [64, 32, 32]);
}
