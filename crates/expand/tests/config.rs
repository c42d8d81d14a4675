//! Configurations: what follows the blocks, what stays, what is refused by name.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::path::Path;

use llama_pro_checkpoint::ConfigFile;
use llama_pro_expand::{Placement, plan};
use proptest::prelude::*;
use serde_json::{Value, json};

const TWO: Placement = Placement::Blocks { blocks: 2, per_group: 1 };

fn planned(config: &Value) -> Result<(), String> {
    let config = ConfigFile::from_json(Path::new("m/config.json"), &config.to_string()).unwrap();
    plan(&config, &TWO).map(|_| ()).map_err(|error| error.to_string())
}

fn with(key: &str, value: Value) -> Value {
    let mut config = json!({"model_type": "llama", "num_hidden_layers": 4});
    config[key] = value;
    config
}

#[test]
fn what_says_nothing_about_blocks_is_kept() {
    for (key, value) in [
        ("eos_token_id", json!([1, 2, 3, 4])),
        ("architectures", json!(["a", "b", "c", "d"])),
        ("some_list", json!([1, 2, 3])),
        ("layer_norm_eps", json!(1e-5)),
        ("use_qk_layernorm", json!(true)),
        ("mlp_only_layers", json!([])),
        ("layerdrop", json!(0.0)),
        ("vision_config", json!(null)),
        ("num_layers", json!(4)),
        ("max_window_layers", json!(28)),
        ("rope_scaling", json!({"short_factor": [1, 1, 1, 1]})),
    ] {
        assert_eq!(planned(&with(key, value)), Ok(()), "{key}");
    }
}

#[test]
fn what_may_depend_on_the_blocks_is_refused_by_name() {
    for (key, value, part) in [
        ("num_hidden_layers", json!(0), "from 1"),
        ("num_hidden_layers", json!(-4), "found -4"),
        ("num_hidden_layers", json!(4.5), "found 4.5"),
        ("num_hidden_layers", json!("4"), "found \"4\""),
        ("num_hidden_layers", json!(1u64 << 60), "from 1 to 65536"),
        ("num_layers", json!(5), "num_hidden_layers is 4"),
        ("layer_types", json!(["full_attention"]), "one entry per block, 4, found 1"),
        ("some_scale", json!([1, 2, 3, 4]), "may be one entry per block"),
        ("sliding_window_pattern", json!(2), "no layer_types"),
        ("no_rope_layer_interval", json!(4), "no no_rope_layers"),
        ("mlp_only_layers", json!([1]), "not known"),
        ("num_kv_shared_layers", json!(2), "not known"),
        ("scale_depth", json!(1.4), "scaled by the depth"),
        ("vision_config", json!({"depth": 2}), "vision tower"),
        ("text_config", json!({"num_hidden_layers": 4}), "nested"),
        ("quantization_config", json!({"bits": 4}), "quantised"),
        ("model_type", json!("gemma2"), "model_type gemma2: a norm follows"),
        ("model_type", json!("gemma3_text"), "model_type gemma3_text"),
        ("model_type", json!("olmo2"), "model_type olmo2"),
    ] {
        let error = planned(&with(key, value)).unwrap_err();
        assert!(
            error.contains(key) && error.contains(part) && error.contains("m/config.json"),
            "{key}: {error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
    assert!(planned(&json!({})).unwrap_err().contains("no such key"));
}

#[test]
fn a_period_is_void_beside_its_list() {
    let mut config = with("sliding_window_pattern", json!(2));
    config["layer_types"] = json!(["a", "b", "a", "b"]);
    assert_eq!(planned(&config), Ok(()));
}

proptest! {
    /// Every block keeps the list entries and the side of the threshold of its source, whatever the placement.
    #[test]
    fn every_block_keeps_the_settings_of_its_source(
        (layers, groups, per_group) in (1usize..30)
            .prop_flat_map(|layers| (Just(layers), 1..=layers))
            .prop_flat_map(|(layers, groups)| (Just(layers), Just(groups), 1..=layers / groups)),
        limit in 0usize..40,
        active: bool,
    ) {
        let types: Vec<String> = (0..layers).map(|block| format!("type-{block}")).collect();
        let config = json!({
            "num_hidden_layers": layers, "layer_types": types, "max_window_layers": limit,
            "use_sliding_window": active, "sliding_window": 8, "hidden_size": 64,
        });
        let config = ConfigFile::from_json(Path::new("config.json"), &config.to_string()).unwrap();
        let Ok(plan) = plan(&config, &Placement::Blocks { blocks: groups * per_group, per_group }) else {
            // Only a threshold inside a unit of several blocks has no answer.
            prop_assert!(active && per_group > 1 && limit < layers);
            return Ok(());
        };
        let expanded = plan.config(&config).unwrap();
        let list = expanded.raw()["layer_types"].as_array().unwrap();
        prop_assert_eq!(list.len(), plan.layers().len());
        let new_limit = expanded.raw()["max_window_layers"].as_u64().unwrap() as usize;
        for layer in plan.layers() {
            prop_assert_eq!(list[layer.index].as_str().unwrap(), format!("type-{}", layer.source));
            if active {
                prop_assert_eq!(layer.index < new_limit, layer.source < limit);
            }
        }
        prop_assert_eq!(&expanded.raw()["hidden_size"], &json!(64));
        prop_assert_eq!(expanded.num_hidden_layers().unwrap(), layers + groups * per_group);
    }
}
