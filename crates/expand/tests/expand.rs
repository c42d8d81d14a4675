//! `expand` against a model that PyTorch expanded, against the base's own bytes, and on what must be refused.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::cell::Cell;
use std::fs;
use std::path::Path;

use common::{
    LLAMA, blocks, expected, files, fixture, grow, json_file, llama_config, make, make_named, tensors,
};
use llama_pro_expand::{ExpandOptions, Expansion, Placement, State, expand, verify};
use serde_json::{Value, json};

fn error(base: &Path, out: &Path, placement: &Placement) -> String {
    let message = expand(base, out, placement, &ExpandOptions::default()).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn equals_the_model_that_pytorch_expanded() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let report = grow(&fixture("llama2"), &out, &blocks(2, 1));
    let reference = fixture("llama2-train-added/expanded");
    assert_eq!(tensors(&out), tensors(&reference));
    assert_eq!(json_file(&out.join("config.json")), json_file(&reference.join("config.json")));
    let generation = fs::read(out.join("generation_config.json")).unwrap();
    assert_eq!(generation, fs::read(fixture("llama2/generation_config.json")).unwrap());
    assert_eq!(report.plan.new_blocks(), [2, 5]);
    assert_eq!(report.tensors, tensors(&reference).len());
    assert!(report.written);
    let sum: usize = tensors(&reference).values().map(|tensor| tensor.2.len()).sum();
    assert_eq!(report.bytes, sum as u64);
    let record = Expansion::read(&out).unwrap().unwrap();
    assert_eq!(record.new_blocks(), [2, 5]);
    assert_eq!(record.trained_names().len(), 18);
    assert!(
        record
            .trained_names()
            .iter()
            .all(|n| n.starts_with("model.layers.2.") || n.starts_with("model.layers.5."))
    );
    assert_eq!(
        record.zeroed_names(),
        [
            "model.layers.2.mlp.down_proj.weight",
            "model.layers.2.self_attn.o_proj.weight",
            "model.layers.5.mlp.down_proj.weight",
            "model.layers.5.self_attn.o_proj.weight"
        ]
    );
    for (name, (_, _, bytes)) in tensors(&out) {
        assert_eq!(record.digest(&name), Some(llama_pro_checkpoint::digest(&bytes).as_str()), "{name}");
    }
}

#[test]
fn other_fixtures_keep_every_byte() {
    for (name, placement, layers) in [
        ("mistral-window", blocks(1, 1), vec![(0, false), (1, false), (2, false), (3, false), (3, true)]),
        (
            "llama3-gqa-tied-bf16-sharded",
            Placement::At(vec![3, 2, 6]),
            vec![(0, false), (1, false), (1, true), (1, true), (2, false), (3, false), (3, true)],
        ),
        (
            "llama3-gqa-tied-bf16-sharded",
            blocks(4, 2),
            [0, 1]
                .iter()
                .flat_map(|g| [(0, false), (1, false), (0, true), (1, true)].map(|(b, n)| (2 * g + b, n)))
                .collect(),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let options = ExpandOptions { max_shard_bytes: Some(100_000), ..Default::default() };
        expand(&fixture(name), &out, &placement, &options).unwrap();
        assert_eq!(tensors(&out), expected(&tensors(&fixture(name)), &layers), "{name}");
        let proof = verify(&out, Some(&fixture(name))).unwrap();
        assert!(proof.is_ok(), "{:?}", proof.failures().collect::<Vec<_>>());
        assert!(proof.checks.iter().all(|check| check.checked > 0), "{:?}", proof.checks);
    }
}

#[test]
fn block_three_is_not_block_thirty() {
    let dir = tempfile::tempdir().unwrap();
    let (base, out) = (dir.path().join("base"), dir.path().join("out"));
    make(&base, &llama_config(33), 33, &LLAMA);
    grow(&base, &out, &Placement::At(vec![3]));
    let record = Expansion::read(&out).unwrap().unwrap();
    assert_eq!(record.new_blocks(), [3]);
    assert_eq!(record.trained_names().len(), LLAMA.len());
    assert!(record.trained_names().iter().all(|name| name.starts_with("model.layers.3.")));
    let layers: Vec<_> = [(0, false), (1, false), (2, false), (2, true)]
        .into_iter()
        .chain((3..33).map(|block| (block, false)))
        .collect();
    assert_eq!(tensors(&out), expected(&tensors(&base), &layers));
}

#[test]
fn biases_are_zeroed_and_per_layer_lists_follow() {
    let dir = tempfile::tempdir().unwrap();
    let (base, out) = (dir.path().join("base"), dir.path().join("out"));
    let config = json!({
        "model_type": "qwen2", "num_hidden_layers": 4, "use_sliding_window": true, "sliding_window": 16,
        "max_window_layers": 2, "layer_types": ["full", "full", "slide", "slide"], "no_rope_layers": [1, 0, 1, 0],
        "eos_token_id": [1, 2, 3, 4], "num_layers": 4
    });
    let mut within = LLAMA.to_vec();
    within.extend([
        "self_attn.o_proj.bias",
        "mlp.down_proj.bias",
        "self_attn.q_proj.bias",
        "self_attn.q_norm.weight",
    ]);
    make(&base, &config, 4, &within);
    let report = grow(&base, &out, &blocks(3, 1));
    // Groups end after round(4/3) = 1, round(8/3) = 3 and 4 blocks.
    let layers = [(0, false), (0, true), (1, false), (2, false), (2, true), (3, false), (3, true)];
    assert_eq!(tensors(&out), expected(&tensors(&base), &layers));
    let written = json_file(&out.join("config.json"));
    assert_eq!(written["num_hidden_layers"], 7);
    assert_eq!(written["num_layers"], 7);
    assert_eq!(written["layer_types"], json!(["full", "full", "full", "slide", "slide", "slide", "slide"]));
    assert_eq!(written["no_rope_layers"], json!([1, 1, 0, 1, 1, 0, 0]));
    assert_eq!(written["max_window_layers"], 3);
    assert_eq!(written["eos_token_id"], json!([1, 2, 3, 4]));
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&written), keys(&config));
    let record = Expansion::read(&out).unwrap().unwrap();
    assert_eq!(record.zeroed_names().len(), 3 * 4);
    assert!(verify(&out, Some(&base)).unwrap().is_ok());
    // 13 tensors per block: 5 of 6 bytes and 8 of 12, and new blocks are as large as old ones.
    let rows: Vec<_> = report.plan.rows().collect();
    assert!(rows.iter().all(|row| row.bytes == rows[0].bytes && row.bytes.is_some()));
    assert!(report.plan.to_string().contains("new"));
}

#[test]
fn a_window_threshold_inside_a_copied_unit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let mut config = llama_config(4);
    config["use_sliding_window"] = json!(true);
    config["sliding_window"] = json!(16);
    config["max_window_layers"] = json!(3);
    make(&base, &config, 4, &LLAMA);
    let message = error(&base, &dir.path().join("out"), &blocks(2, 2));
    assert!(message.contains("max_window_layers is 3"), "{message}");
    grow(&base, &dir.path().join("single"), &blocks(4, 1));
    assert_eq!(json_file(&dir.path().join("single/config.json"))["max_window_layers"], 6);
}

#[test]
fn twice_expanded_tells_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let (base, one, two) = (fixture("llama2"), dir.path().join("one"), dir.path().join("two"));
    grow(&base, &one, &blocks(2, 1));
    // 0 1 1' 2 3 3' in groups of three: copies of 1' and 3' on top of each.
    grow(&one, &two, &blocks(2, 1));
    let record = Expansion::read(&two).unwrap().unwrap();
    assert_eq!(record.new_blocks(), [2, 3, 6, 7]);
    assert_eq!(record.layers(), 8);
    assert_eq!(record.base_layers(), 4);
    assert_eq!(record.generations().len(), 2);
    assert_eq!(record.base_digest(), Expansion::read(&one).unwrap().unwrap().base_digest());
    assert_ne!(record.generations()[1].source_digest(), record.base_digest());
    let origins: Vec<_> = record.origins().iter().map(|o| (o.base, o.generation, o.copy_of)).collect();
    let (old, first, second) = (None, Some(1), Some(2));
    assert_eq!(
        origins,
        [
            (0, old, None),
            (1, old, None),
            (1, first, Some(1)),
            (1, second, Some(2)),
            (2, old, None),
            (3, old, None),
            (3, first, Some(5)),
            (3, second, Some(6))
        ]
    );
    let layers = [(0, false), (1, false), (1, true), (1, true), (2, false), (3, false), (3, true), (3, true)];
    assert_eq!(tensors(&two), expected(&tensors(&base), &layers));
    assert_eq!(record.zeroed_names().len(), 8);
    for earlier in [&base, &one] {
        let proof = verify(&two, Some(earlier)).unwrap();
        assert!(proof.is_ok(), "{:?}", proof.failures().collect::<Vec<_>>());
    }
    // Trained together, then expanded again: the new generation alone is untrained.
    let trained = record.mark_trained(&Default::default()).unwrap();
    fs::write(two.join("expansion.json"), trained.to_json()).unwrap();
    let three = dir.path().join("three");
    grow(&two, &three, &Placement::At(vec![1]));
    let record = Expansion::read(&three).unwrap().unwrap();
    assert_eq!(record.new_blocks(), [1, 3, 4, 7, 8]);
    let states: Vec<_> = record.generations().iter().map(|generation| generation.state()).collect();
    assert_eq!(states, [State::Trained, State::Trained, State::Untrained]);
    assert!(verify(&three, Some(&base)).unwrap().is_ok());
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, copy) = (dir.path().join("a"), dir.path().join("deep/b"), dir.path().join("copy"));
    fs::create_dir_all(dir.path().join("deep")).unwrap();
    fs::create_dir_all(&copy).unwrap();
    for (name, bytes) in files(&fixture("llama2")) {
        fs::write(copy.join(name), bytes).unwrap();
    }
    grow(&fixture("llama2"), &a, &Placement::At(vec![4, 2]));
    grow(&copy, &b, &Placement::At(vec![2, 4]));
    assert_eq!(files(&a), files(&b));
    // A partial folder of a killed run, with damaged files in it, is taken up and nothing of the damage stays.
    let partial = dir.path().join(".c.partial");
    fs::create_dir_all(&partial).unwrap();
    for (name, mut bytes) in files(&a) {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(partial.join(name), bytes).unwrap();
    }
    fs::write(partial.join("stray.json"), "{}").unwrap();
    grow(&copy, &dir.path().join("c"), &Placement::At(vec![2, 4]));
    assert_eq!(files(&a), files(&dir.path().join("c")));
    assert!(!partial.exists());
}

#[test]
fn a_dry_run_writes_nothing_and_plans_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let dry = ExpandOptions { dry_run: true, ..Default::default() };
    let planned = expand(&fixture("llama2"), &out, &blocks(2, 1), &dry).unwrap();
    assert!(!planned.written);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let done = Cell::new((0, 0));
    let progress = |bytes, total| {
        assert!(bytes >= done.get().0 && bytes <= total);
        done.set((bytes, total));
    };
    let options = ExpandOptions { progress: Some(&progress), ..Default::default() };
    let written = expand(&fixture("llama2"), &out, &blocks(2, 1), &options).unwrap();
    assert_eq!(written.plan, planned.plan);
    assert_eq!((written.tensors, written.bytes), (planned.tensors, planned.bytes));
    assert_eq!(done.get(), (written.bytes, written.bytes));
}

#[test]
fn outputs_that_would_harm_the_input_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let parent = dir.path().join("parent");
    let base = parent.join("base");
    make(&base, &llama_config(2), 2, &LLAMA);
    fs::write(parent.join("config.json"), "{}").unwrap();
    let before = files(&base);
    let force = ExpandOptions { force: true, ..Default::default() };
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&base, &link).unwrap();
    for (out, part) in [
        (base.clone(), "is the input"),
        (link.clone(), "is the input"),
        (base.join("../base"), "is the input"),
        (base.join("inner"), "inside the input"),
        (link.join("inner"), "inside the input"),
        (base.join("no/../such"), "inside the input"),
        (parent.clone(), "contains the input"),
    ] {
        let message = expand(&base, &out, &blocks(1, 1), &force).unwrap_err().to_string();
        assert!(message.contains(part), "{}: {message}", out.display());
        assert_eq!(files(&base), before);
    }
    let out = dir.path().join("out");
    grow(&base, &out, &blocks(1, 1));
    assert!(error(&base, &out, &blocks(2, 1)).contains("exists"));
    expand(&base, &out, &blocks(2, 1), &force).unwrap();
    assert_eq!(Expansion::read(&out).unwrap().unwrap().new_blocks(), [1, 3]);
}

#[test]
fn models_that_zeroing_does_not_make_the_identity_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let without = |left_out: &str| LLAMA.into_iter().filter(|name| *name != left_out).collect::<Vec<_>>();
    let and = |more: &'static str| LLAMA.into_iter().chain([more]).collect::<Vec<_>>();
    for (number, (within, part)) in [
        (and("post_feedforward_layernorm.weight"), "post_feedforward_layernorm.weight: a norm follows"),
        (and("mlp.experts.0.down_proj.weight"), "mlp.experts.0.down_proj.weight: a mixture of experts"),
        (and("self_attn.kv_b_proj.weight"), "self_attn.kv_b_proj.weight: the tensor is not known"),
        (without("self_attn.o_proj.weight"), "model.layers.0.self_attn.o_proj.weight is not there"),
        (without("mlp.down_proj.weight"), "model.layers.0.mlp.down_proj.weight is not there"),
    ]
    .into_iter()
    .enumerate()
    {
        let base = dir.path().join(number.to_string());
        make(&base, &llama_config(2), 2, &within);
        let message = error(&base, &out, &blocks(1, 1));
        assert!(message.contains(part), "{message}");
        assert!(!out.exists());
    }
    for (number, (name, part)) in [
        ("model.layers.2.input_layernorm.weight", "beyond the 2 blocks"),
        ("model.layers.02.input_layernorm.weight", "expected model.layers.NUMBER.NAME"),
    ]
    .into_iter()
    .enumerate()
    {
        let base = dir.path().join(format!("name-{number}"));
        let mut names: Vec<String> =
            (0..2).flat_map(|block| LLAMA.map(|within| format!("model.layers.{block}.{within}"))).collect();
        names.push(name.to_owned());
        make_named(&base, &llama_config(2), &names);
        let message = error(&base, &out, &blocks(1, 1));
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn other_architectures_of_the_same_kind_are_expanded() {
    let phi3 = [
        "input_layernorm.weight",
        "self_attn.qkv_proj.weight",
        "self_attn.o_proj.weight",
        "post_attention_layernorm.weight",
        "mlp.gate_up_proj.weight",
        "mlp.down_proj.weight",
    ];
    let qwen3: Vec<&str> =
        LLAMA.into_iter().chain(["self_attn.q_norm.weight", "self_attn.k_norm.weight"]).collect();
    let old_llama: Vec<&str> = LLAMA.into_iter().chain(["self_attn.rotary_emb.inv_freq"]).collect();
    for (kind, within) in [("phi3", &phi3[..]), ("qwen3", &qwen3), ("llama", &old_llama)] {
        let dir = tempfile::tempdir().unwrap();
        let (base, out) = (dir.path().join("base"), dir.path().join("out"));
        let mut config = llama_config(2);
        config["model_type"] = json!(kind);
        make(&base, &config, 2, within);
        grow(&base, &out, &blocks(2, 1));
        let layers = [(0, false), (0, true), (1, false), (1, true)];
        assert_eq!(tensors(&out), expected(&tensors(&base), &layers), "{kind}");
        assert!(verify(&out, Some(&base)).unwrap().is_ok());
    }
}

#[test]
fn tensors_outside_the_blocks_are_carried_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let (base, out) = (dir.path().join("base"), dir.path().join("out"));
    let mut names: Vec<String> =
        (0..2).flat_map(|block| LLAMA.map(|within| format!("model.layers.{block}.{within}"))).collect();
    names.push("projector.layers.1.mlp.down_proj.weight".to_owned());
    make_named(&base, &llama_config(2), &names);
    grow(&base, &out, &blocks(2, 1));
    let name = "projector.layers.1.mlp.down_proj.weight";
    assert_eq!(tensors(&out)[name], tensors(&base)[name]);
    assert_eq!(tensors(&out).len(), 4 * LLAMA.len() + 1);
}

#[test]
fn a_base_that_is_not_what_its_record_says_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    grow(&fixture("llama2"), &one, &blocks(2, 1));
    common::poke(&one, "model.layers.3.mlp.up_proj.weight", 77, |byte| byte ^ 4);
    let message = error(&one, &two, &blocks(2, 1));
    assert!(
        message.contains("disagrees") && message.contains("model.layers.3.mlp.up_proj.weight"),
        "{message}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
