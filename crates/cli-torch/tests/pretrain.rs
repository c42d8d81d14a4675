//! `llama-pro pretrain` from a recipe to a finished run folder, in miniature: a base from nothing, then its growth with
//! replay and KL, and the control that trains everything.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

#[path = "../../cli/tests/common/mod.rs"]
mod common;

use std::path::Path;

use common::{
    BASE_RECIPE, STEPS, curve, json_file, metrics, model_tensors, outcome, run, run_list, tensors_of, tree,
    workplace,
};
use llama_pro_expand::{DeltaOptions, Placement, apply};
use serde_json::{Value, json};

/// Names in a folder, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What the design promises of every finished run folder.
fn whole(run: &Path, steps: u64) {
    for file in ["recipe.toml", "provenance.json", "metrics.jsonl", "summary.json", "report.html"] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    let events = names(run).into_iter().filter(|n| n.starts_with("events.out.tfevents.")).count();
    assert_eq!(events, 1, "TensorBoard files");
    assert_eq!(names(&run.join("eval")), ["after.json", "before.json", "changes.json"]);
    assert!(
        tree(run).keys().all(|n| !n.to_string_lossy().ends_with(".partial")),
        "something half-written is left"
    );
    let steps_seen: Vec<u64> = curve(run).iter().map(|c| c.0).collect();
    assert_eq!(steps_seen, (1..=steps).collect::<Vec<_>>(), "the steps in metrics.jsonl");
    let last = run.join(format!("checkpoints/step-{steps:08}"));
    assert_eq!(names(&last), ["manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors"]);
    let manifest = json_file(&last.join("manifest.json"));
    for (name, entry) in manifest.as_object().unwrap() {
        assert_eq!(entry["bytes"], std::fs::metadata(last.join(name)).unwrap().len(), "{name}");
    }
    assert_eq!(manifest.as_object().unwrap().len(), 3);
    assert_eq!(json_file(&last.join("state.json"))["step"], steps);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(
        page.contains("<svg") && !page.contains("http://") && !page.contains("src="),
        "not self-contained"
    );
}

#[test]
fn a_base_from_nothing_learns() {
    let dir = workplace();
    let base = dir.path().join("base");
    whole(&base, 12);
    assert_eq!(
        names(&base.join("model")),
        ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    );
    let config = json_file(&base.join("model/config.json"));
    assert_eq!((&config["num_hidden_layers"], &config["hidden_size"]), (&json!(2), &json!(32)));
    let lines = metrics(&base);
    let loss = |line: &Value| line["loss"].as_f64().unwrap();
    // A uniform guess costs ln(300) nats; training gets below it, by a lot even in twelve steps.
    assert!((loss(&lines[0]) - 300f64.ln()).abs() < 0.1, "{}", lines[0]);
    assert!(loss(&lines[11]) < loss(&lines[0]) - 0.3, "{}", lines[11]);
    // Trained from the initial weights, which stay beside it.
    let (before, after) = (model_tensors(&base.join("base")), model_tensors(&base.join("model")));
    assert!(before.iter().all(|(name, tensor)| after[name] != *tensor), "a tensor did not move");
    let summary = json_file(&base.join("summary.json"));
    assert_eq!(summary["trained_parameters"], summary["parameters"]);
    // A second one from the same recipe is the same to the byte, tokenizer and all.
    run(dir.path(), "pretrain --config base.toml --run again").ok();
    assert!(tree(&dir.path().join("again/model")) == tree(&base.join("model")), "two bases differ");
    assert!(BASE_RECIPE.contains("steps = 12"));
}

#[test]
fn growth_keeps_every_frozen_byte() {
    let dir = workplace();
    let dir = dir.path();
    let ran = run(dir, "pretrain --config grow.toml --run a").ok();
    let a = dir.join("a");
    whole(&a, STEPS);
    // Two checkpoints are kept: the last regular one and the end.
    assert_eq!(names(&a.join("checkpoints")), ["step-00000045", "step-00000048"]);
    let validations: Vec<u64> = metrics(&a)
        .iter()
        .filter(|l| l.get("validation").is_some())
        .map(|l| {
            assert!(l["validation"]["math"].is_f64() && l["validation"]["text"].is_f64(), "{l}");
            l["step"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(validations, [7, 14, 21, 28, 35, 42]);
    let steps: Vec<Value> = metrics(&a).into_iter().filter(|l| l.get("loss").is_some()).collect();
    assert!(steps.iter().any(|l| l["keep_loss"].is_f64()) && steps.iter().any(|l| l["keep_kl"].is_f64()));
    // 6 % of 48 steps warm up, rounded up to 3.
    for (line, rate) in steps.iter().zip([1e-2 / 3.0, 2e-2 / 3.0, 1e-2]) {
        assert!((line["learning_rate"].as_f64().unwrap() - rate).abs() < 1e-12, "{line}");
    }

    // The new blocks alone, asked for afterwards, and put into their base: the same folder to the byte.
    run(dir, "pretrain --resume --run a --delta").ok();
    let at = |name: &str| dir.join(name);
    apply(&at("base/model"), &at("a/delta"), &at("whole"), &DeltaOptions::default()).unwrap();
    assert!(tree(&dir.join("whole")) == tree(&a.join("model")), "base and new blocks are not the model");
    run(dir, "pretrain --config grow.toml --control full --delta --run no")
        .refused(&["delta: new blocks alone"]);

    // The base is in the model to the byte, and exactly the new blocks were trained.
    run(dir, "verify a/model --base base/model --logits").ok();
    let (base, expanded, model) = (
        model_tensors(&dir.join("base/model")),
        model_tensors(&a.join("expanded")),
        model_tensors(&a.join("model")),
    );
    let is_new = |name: &str| ["model.layers.1.", "model.layers.3."].iter().any(|p| name.starts_with(p));
    let mut frozen = 0;
    for (name, tensor) in &model {
        if is_new(name) {
            assert_ne!(*tensor, expanded[name], "{name} was not trained");
            continue;
        }
        let in_base = name.replace("model.layers.2.", "model.layers.1.");
        assert_eq!(*tensor, base[&in_base], "{name}");
        frozen += 1;
    }
    assert_eq!(frozen, base.len());
    // What the checkpoint holds is the new blocks and nothing else, and it is what the model holds.
    let weights = tensors_of(&a.join("checkpoints/step-00000048/weights.safetensors"));
    let new: Vec<&String> = model.keys().filter(|n| is_new(n)).collect();
    assert_eq!(weights.keys().collect::<Vec<_>>(), new);
    assert!(weights.iter().all(|(name, tensor)| model[name] == *tensor));
    let moments = tensors_of(&a.join("checkpoints/step-00000048/optimizer.safetensors"));
    assert_eq!(moments.len(), 2 * new.len());

    let summary = json_file(&a.join("summary.json"));
    let count = |keep: &dyn Fn(&str) -> bool| {
        model.iter().filter(|(n, _)| keep(n)).map(|(_, t)| t.count()).sum::<u64>()
    };
    let trained = count(&|n| is_new(n));
    assert_eq!(summary["parameters"], count(&|_| true));
    assert_eq!(summary["trained_parameters"], trained);
    assert_eq!(summary["optimizer_bytes"], 8 * trained);
    assert_eq!(summary["gradient_bytes"], 4 * trained);
    assert_eq!(summary["new_blocks"], json!([1, 3]));
    assert_eq!(summary["frozen_tensors_checked"], frozen);
    assert_eq!(summary["base_path_identical"], true);
    assert_eq!(json_file(&a.join("model/expansion.json"))["generations"][0]["state"], "trained");

    // The table says the numbers that lie in eval/, and where everything is.
    for (file, column) in [("before", 0), ("after", 1)] {
        let table = json_file(&a.join(format!("eval/{file}.json")));
        for set in table["sets"].as_array().unwrap() {
            let name = set["name"].as_str().unwrap();
            let perplexity = set["nats_per_token"].as_f64().unwrap().exp();
            let row = ran.stdout.lines().find(|l| l.starts_with(&format!("│ {name} "))).unwrap();
            let cell = row.split('┆').nth(2 + column).unwrap().trim();
            assert!(
                (cell.parse::<f64>().unwrap() - perplexity).abs() < 0.006,
                "{name} {file}: {cell}, {perplexity}"
            );
        }
    }
    for word in ["math", "text", "to keep", "a/model", "a/report.html", "every score as before"] {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
    // The recipe in the folder, run again, is the same run.
    run(dir, "pretrain --config a/recipe.toml --run twin").ok();
    assert_eq!(curve(&dir.join("twin")), curve(&a), "losses of two equal runs");
    assert!(outcome(&dir.join("twin")) == outcome(&a), "weights of two equal runs");
    // Another seed is another run.
    run(dir, "pretrain --config grow.toml --run other --set seed=10 --set train.steps=3").ok();
    assert_ne!(curve(&dir.join("other"))[..3], curve(&a)[..3]);
}

#[test]
fn the_control_trains_the_base_on_the_same_batches() {
    let dir = workplace();
    let dir = dir.path();
    let set = ["--set", "train.steps=8", "--set", "control.learning-rate=1e-3", "--set", "keep.kl=0.25"];
    for (name, more) in [("grown", vec![]), ("full", vec!["--control", "full"])] {
        let args = [&["pretrain", "--config", "grow.toml", "--run", name][..], &set, &more].concat();
        run_list(dir, &args).ok();
        whole(&dir.join(name), 8);
    }
    let full = dir.join("full");
    assert!(!full.join("expanded").exists() && !full.join("model/expansion.json").exists());
    let (base, model) = (model_tensors(&dir.join("base/model")), model_tensors(&full.join("model")));
    assert_eq!(base.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
    assert!(base.iter().all(|(name, tensor)| model[name] != *tensor), "a tensor of the control did not move");
    // The first loss is the base's own on the same rows: an untrained grown model computes the same.
    let (a, b) = (curve(&dir.join("grown")), curve(&full));
    assert_eq!(a[0].1, b[0].1, "first losses");
    assert_ne!(a[0].2, b[0].2, "other weights, another gradient norm");
    let tokens = |run: &str| metrics(&dir.join(run)).iter().map(|l| l["tokens"].clone()).collect::<Vec<_>>();
    assert_eq!(tokens("grown"), tokens("full"), "not the same batches");
    assert_eq!(
        json_file(&dir.join("grown/eval/before.json"))["sets"],
        json_file(&full.join("eval/before.json"))["sets"]
    );
    let rate = |run: &str| metrics(&dir.join(run))[0]["learning_rate"].as_f64().unwrap();
    assert!((rate("full") - 1e-3).abs() < 1e-12 && (rate("grown") - 1e-2).abs() < 1e-12);
    assert_eq!(
        json_file(&full.join("summary.json"))["trained_parameters"],
        json_file(&full.join("summary.json"))["parameters"]
    );
}

#[test]
fn a_base_that_is_expanded_already_is_trained_as_it_is() {
    let dir = workplace();
    let dir = dir.path();
    let options = llama_pro_expand::ExpandOptions::default();
    llama_pro_expand::expand(&dir.join("base/model"), &dir.join("ready"), &Placement::At(vec![1]), &options)
        .unwrap();
    run(dir, "pretrain --config grow.toml --run a --set base.model=ready --set train.steps=4").ok();
    assert!(!dir.join("a/expanded").exists());
    assert_eq!(json_file(&dir.join("a/summary.json"))["new_blocks"], json!([1]));
    run(dir, "verify a/model --base base/model").ok();
}

#[test]
fn bfloat16_keeps_float32_masters() {
    let dir = workplace();
    let dir = dir.path();
    // Two forward passes a step: 2,048 places are 64 rows.
    let two = "--set train.rows-per-step=72 --set train.micro-rows=36";
    run(
        dir,
        &format!("pretrain --config grow.toml --run a --set train.steps=4 --set train.dtype=bf16 {two}"),
    )
    .ok();
    let weights = tensors_of(&dir.join("a/checkpoints/step-00000004/weights.safetensors"));
    assert!(weights.values().all(|t| t.dtype == "F32"));
    // Masters know what the sixteen bits of the model cannot say.
    assert!(weights.values().any(|t| t.f32().iter().any(|x| x.to_bits() & 0xffff != 0)));
    let summary = json_file(&dir.join("a/summary.json"));
    let trained = summary["trained_parameters"].as_u64().unwrap();
    // Two moments and a master in float32; gradients as the model computes them, and in float32 for the optimizer.
    assert_eq!(summary["optimizer_bytes"], 12 * trained);
    assert_eq!(summary["gradient_bytes"], 6 * trained);
    run(dir, "verify a/model --base base/model").ok();
}
