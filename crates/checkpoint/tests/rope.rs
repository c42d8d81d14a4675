//! Rotary settings in both spellings.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use llama_pro_checkpoint::{ConfigFile, Rope, RopeScaling};
use serde_json::{Value, json};

/// The rope of a small configuration with these keys.
#[track_caller]
fn rope(changes: Value) -> Rope {
    let mut config = json!({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 4,
        "num_attention_heads": 4, "vocab_size": 320, "max_position_embeddings": 256
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    ConfigFile::from_json(Path::new("c"), &config.to_string()).unwrap().llama().unwrap().rope
}

#[test]
fn ropes_of_both_spellings() {
    let linear = Rope { theta: 5e5, scaling: RopeScaling::Linear { factor: 2.0 } };
    let old = json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}});
    let new = json!({"rope_parameters": {"rope_type": "linear", "factor": 2, "rope_theta": 5e5}});
    let both = json!({"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}});
    for spelling in [old, new, both] {
        assert_eq!(rope(spelling), linear);
    }
    // transformers reads nothing but max_position_embeddings for a dynamic rope.
    let dynamic =
        json!({"rope_scaling": {"type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 8}});
    assert_eq!(
        rope(dynamic).scaling,
        RopeScaling::Dynamic { factor: 4.0, original_max_position_embeddings: 256 }
    );
    let llama3 = json!({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0}, "original_max_position_embeddings": 128});
    let RopeScaling::Llama3 { original_max_position_embeddings, .. } = rope(llama3).scaling else { panic!() };
    assert_eq!(original_max_position_embeddings, 128);
}

/// The numbers are Python's, from transformers' formula 0.1 m ln(s) + 1.
#[test]
fn yarn_resolves_its_attention_factor() {
    let yarn = |mut keys: Value| {
        keys["rope_type"] = json!("yarn");
        match rope(json!({"rope_parameters": keys})).scaling {
            RopeScaling::Yarn { factor, attention_factor, original_max_position_embeddings, .. } => {
                (factor, attention_factor, original_max_position_embeddings)
            }
            other => panic!("{other:?}"),
        }
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-14, "{a} {b}");
    let (factor, attention, original) = yarn(json!({"factor": 4.0}));
    assert_eq!((factor, original), (4.0, 256));
    close(attention, 1.138_629_436_111_989);
    close(yarn(json!({"factor": 0.5})).1, 1.0);
    close(yarn(json!({"factor": 4.0, "attention_factor": 0.75})).1, 0.75);
    close(yarn(json!({"factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.0})).1, 0.921_042_355_316_339_9);
    close(yarn(json!({"factor": 4.0, "mscale": 0.707})).1, 1.138_629_436_111_989);
    let (factor, attention, original) = yarn(json!({"factor": null, "original_max_position_embeddings": 64}));
    assert_eq!((factor, original), (4.0, 64));
    close(attention, 1.138_629_436_111_989);
    assert_eq!(
        rope(json!({"rope_scaling": {"type": "yarn", "factor": 2.0, "truncate": false, "beta_fast": 16,
        "beta_slow": null, "original_max_position_embeddings": 32, "finetuned": true}}))
        .scaling,
        RopeScaling::Yarn {
            factor: 2.0,
            beta_fast: 16.0,
            beta_slow: 1.0,
            attention_factor: 0.1 * 2.0_f64.ln() + 1.0,
            original_max_position_embeddings: 32,
            truncate: false,
        }
    );
}
