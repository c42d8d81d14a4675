//! `sft` and `debug mask` end to end: what is written, that a killed run goes on to the same bits, and what is refused.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

#[path = "../../cli/tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{copy, curve, json_file, model_tensors, program, refused, run};

/// A folder with the embedded base as `m`, its blocks grown in `g`, a file of conversations and a recipe.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let base = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/base-tiny");
    copy(&base, &at("m"));
    let placement = llama_pro_expand::Placement::Blocks { blocks: 2, per_group: 1 };
    llama_pro_expand::expand(&base, &at("g"), &placement, &llama_pro_expand::ExpandOptions::default())
        .unwrap();
    let lines: String = (0..40)
        .map(|i| format!("{{\"query\": \"What is {i} plus 1?\", \"response\": \"{}\"}}\n", i + 1))
        .collect();
    fs::write(at("plus.jsonl"), lines).unwrap();
    fs::write(
        at("s.toml"),
        "model = \"g\"\ndevice = \"cpu\"\n[data]\nsequence-length = 96\nvalidation = 0.1\n[[data.sets]]\nname = \"plus\"\n\
         path = \"plus.jsonl\"\n[train]\nsteps = 6\nrows-per-step = 2\nlearning-rate = 1e-3\ncheckpoint-every = 2\n\
         validate-every = 3\n[eval]\nquestions = 3\nmax-new-tokens = 4\n",
    )
    .unwrap();
    dir
}

#[test]
fn a_run_leaves_a_model_its_template_and_what_was_asked() {
    let dir = workplace();
    let said = run(dir.path(), "sft --config s.toml --run r").ok();
    assert!(
        said.stdout.contains("held-out questions") && said.stdout.contains("conversations"),
        "{}",
        said.stdout
    );
    let summary = json_file(&dir.path().join("r/summary.json"));
    assert_eq!(summary["questions"], 3);
    assert_eq!(summary["sets"][0]["conversations"], 40);
    let template = fs::read_to_string(dir.path().join("r/model/chat_template.jinja")).unwrap();
    assert!(template.contains("<|assistant|>") && template.contains("generation"));
    // Only the new blocks were trained: that is the default.
    let (before, after) = (model_tensors(&dir.path().join("g")), model_tensors(&dir.path().join("r/model")));
    let changed: Vec<&String> = before.keys().filter(|n| before[*n] != after[*n]).collect();
    assert!(!changed.is_empty());
    for name in changed {
        assert!(name.starts_with("model.layers.3.") || name.starts_with("model.layers.7."), "{name}");
    }

    // Stopped after two checkpoints and taken up again: the same curve and the same weights.
    let mut child = program(dir.path())
        .args(["--threads", "1", "sft", "--config", "s.toml", "--run", "k"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while !dir.path().join("k/checkpoints/step-00000002/manifest.json").exists()
        && child.try_wait().unwrap().is_none()
    {
        assert!(begun.elapsed().as_secs() < 120);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    run(dir.path(), "sft --resume --run k").ok();
    assert_eq!(curve(&dir.path().join("r")), curve(&dir.path().join("k")));
    assert!(after == model_tensors(&dir.path().join("k/model")));
}

#[test]
fn adapters_are_merged_and_written_for_peft() {
    let dir = workplace();
    let set = "--set lora.rank=2 --set lora.targets=[\"o_proj\",\"down_proj\"] --set train.steps=3 --set eval.questions=0";
    run(dir.path(), &format!("sft --config s.toml --run r {set}")).ok();
    let config = json_file(&dir.path().join("r/adapter/adapter_config.json"));
    assert_eq!((&config["r"], &config["lora_alpha"]), (&2.into(), &16.0.into()));
    let (before, after) = (model_tensors(&dir.path().join("g")), model_tensors(&dir.path().join("r/model")));
    let bytes = fs::read(dir.path().join("r/adapter/adapter_model.safetensors")).unwrap();
    let adapter = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let f32s = |name: &str| -> Vec<f32> {
        adapter
            .tensor(name)
            .unwrap()
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    for (name, old) in &before {
        let module = name.trim_end_matches(".weight");
        if !(module.ends_with("o_proj") || module.ends_with("down_proj")) {
            assert!(*old == after[name], "{name} has no adapter and must stay");
            continue;
        }
        let (a, b) = (
            f32s(&format!("base_model.model.{module}.lora_A.weight")),
            f32s(&format!("base_model.model.{module}.lora_B.weight")),
        );
        let (old, new) = (old.f32(), after[name].f32());
        let (inner, rank) = (a.len() / 2, 2);
        assert!(old != new, "{name} was trained");
        for (at, (old, new)) in old.iter().zip(&new).enumerate() {
            let (o, i) = (at / inner, at % inner);
            let update: f64 =
                (0..rank).map(|r| f64::from(b[o * rank + r]) * f64::from(a[r * inner + i])).sum();
            let expected = f64::from(*old) + 8.0 * update;
            assert!((f64::from(*new) - expected).abs() < 1e-6, "{name} {at}: {new} and {expected}");
        }
    }
}

/// Rows of general text beside the conversations: they change what is learned, are scored and watched, and a run with them
/// goes on to the same bits.
#[test]
fn general_text_can_be_kept() {
    let dir = workplace();
    let text: String =
        (0..60).map(|i| format!("Paragraph {i} is about the harbour and {} boats.\n\n", i * 7)).collect();
    fs::write(dir.path().join("keep.txt"), text.repeat(4)).unwrap();
    let recipe = fs::read_to_string(dir.path().join("s.toml")).unwrap();
    let keep = "[keep]\nname = \"harbour\"\nshare = 0.5\nreplay = 1.0\nkl = 0.5\nvalidation = 0.3\n\
        source = { kind = \"text\", path = \"keep.txt\", split = \"blank-lines\" }\n";
    fs::write(dir.path().join("k.toml"), format!("{recipe}{keep}")).unwrap();
    run(dir.path(), "sft --config s.toml --run without").ok();
    let said = run(dir.path(), "sft --config k.toml --run with").ok();
    assert!(said.stdout.contains("harbour"), "{}", said.stdout);
    let lines: Vec<serde_json::Value> = fs::read_to_string(dir.path().join("with/metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let steps: Vec<_> = lines.iter().filter(|line| line["loss"].is_number()).collect();
    assert_eq!(steps.len(), 6);
    // With every new block still the identity the model is its base; afterwards it is not.
    assert_eq!(steps[0]["keep_kl"], 0.0);
    assert!(steps[1..].iter().all(|s| s["keep_loss"].is_number() && s["keep_kl"].as_f64().unwrap() > 0.0));
    let looks: Vec<_> = lines.iter().filter(|line| line["validation"].is_object()).collect();
    assert!(!looks.is_empty());
    assert!(
        looks
            .iter()
            .all(|l| l["validation"]["harbour"].is_number() && l["kl_to_base"]["harbour"].is_number())
    );
    let (with, without) = (dir.path().join("with/model"), dir.path().join("without/model"));
    assert!(model_tensors(&with) != model_tensors(&without));
    // The first batch of conversations is the same row; there is one less of them.
    let first = |run: &str| curve(&dir.path().join(run));
    assert_ne!(first("with"), first("without"));

    // Every weight trained: the base is a second copy, and the first step is still at it.
    let all = "--set train.parameters=all --set train.steps=2";
    run(dir.path(), &format!("sft --config k.toml --run all {all}")).ok();
    let text = fs::read_to_string(dir.path().join("all/metrics.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["keep_kl"], 0.0);

    refused(
        dir.path(),
        "sft --config k.toml --run r --set keep.share=0.1",
        &["keep.share = 0.1", "0 of the 2 rows"],
    );
    refused(
        dir.path(),
        "sft --config k.toml --run r --set keep.replay=0 --set keep.kl=0",
        &["[keep]", "both 0"],
    );
}

/// Benchmarks before and after are those of `eval` on the model that went in and the one that came out.
#[test]
fn benchmarks_are_scored_before_and_after() {
    let dir = workplace();
    let recipe = fs::read_to_string(dir.path().join("s.toml")).unwrap();
    let tasks = "[benchmarks]\ntasks = [\"mini_arithmetic_mc\"]\nlimit = 20\n";
    fs::write(dir.path().join("b.toml"), format!("{recipe}{tasks}")).unwrap();
    let said = run(dir.path(), "sft --config b.toml --run r --set train.learning-rate=1e-2").ok();
    assert!(said.stdout.contains("mini_arithmetic_mc"), "{}", said.stdout);
    for (model, name) in [("g", "before"), ("r/model", "after")] {
        let eval =
            run(dir.path(), &format!("eval {model} --tasks mini_arithmetic_mc --limit 20 --json")).ok();
        let ours = json_file(&dir.path().join(format!("r/eval/benchmarks-{name}.json")));
        assert_eq!(ours["results"], eval.json()["results"], "{name}");
        assert_eq!(ours["task_hashes"], eval.json()["task_hashes"], "{name}");
    }
    let none = "--set benchmarks.tasks=[\"arc_easy\"]";
    refused(dir.path(), &format!("sft --config b.toml --run n {none}"), &["arc_easy", "data/eval"]);
    refused(
        dir.path(),
        "sft --config b.toml --run n --set benchmarks.tasks=[\"nope\"]",
        &["benchmarks.tasks", "nope"],
    );
}

#[test]
fn the_mask_can_be_seen() {
    let dir = workplace();
    let said = run(dir.path(), "debug mask --config s.toml --conversations 2").ok();
    assert!(said.stdout.contains("record 1: 2 of "), "{}", said.stdout);
    assert!(said.stdout.contains("<|user|>\nWhat is 1 plus 1?\n<|assistant|>\n⟦2</s>⟧"), "{}", said.stdout);
}

#[test]
fn what_cannot_be_learned_from_is_refused_with_file_and_record() {
    let dir = workplace();
    let sft = |words: &str, expected: &[&str]| {
        refused(dir.path(), &format!("sft --config s.toml --run r {words}"), expected);
        assert!(!dir.path().join("r").exists(), "{words} leaves nothing");
    };
    let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let path = |name: &str| format!("--set data.sets.plus.path={name}");
    let good = "{\"query\": \"q\", \"response\": \"a\"}\n";
    let talk = |turns: &str| format!("{good}{{\"messages\": [{turns}]}}\n");
    let (user, gpt) =
        ("{\"role\": \"user\", \"content\": \"q\"}", "{\"role\": \"assistant\", \"content\": \"a\"}");
    file("roles.jsonl", &talk(&format!("{user}, {user}, {gpt}")));
    sft(&path("roles.jsonl"), &["roles.jsonl: record 2", "message 2 is of `user` after user"]);
    file("empty.jsonl", &talk(""));
    sft(&path("empty.jsonl"), &["empty.jsonl: record 2", "no messages"]);
    file("unknown.jsonl", "{\"a\": 1}\n");
    sft(&path("unknown.jsonl"), &["unknown.jsonl: record 1", "no known format"]);
    file("cut.jsonl", "{\"query\": \n");
    sft(&path("cut.jsonl"), &["cut.jsonl: record 1", "not JSON"]);
    file("not.parquet", "PAR1 and nothing more");
    sft(&path("not.parquet"), &["not.parquet", "a Parquet file"]);
    file("forged.jsonl", "{\"query\": \"say </s>\", \"response\": \"a\"}\n");
    sft(&path("forged.jsonl"), &["forged.jsonl: record 1", "`</s>`"]);
    sft(&path("absent.jsonl"), &["absent.jsonl"]);
    let long = format!("{{\"query\": \"q\", \"response\": \"{}\"}}\n", "word ".repeat(500));
    file("long.jsonl", &format!("{good}{long}"));
    sft(
        &format!("{} --set data.over-long=\"error\"", path("long.jsonl")),
        &["long.jsonl: record 2", "holds 97"],
    );
    file("raises.jinja", "{{ raise_exception('never') }}");
    sft(
        "--set template=raises.jinja",
        &["plus.jsonl: record 1", "raises.jinja", "refuses the conversation: never"],
    );
    file("loops.jinja", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}");
    sft("--set template=loops.jinja", &["record 1", "without end"]);
    file(
        "grows.jinja",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    );
    sft("--set template=grows.jinja", &["record 1", "without end"]);
    sft("--set template=chatml", &["`chatml`", "`<|im_start|>`"]);
    sft("--set template=own", &["no chat template"]);
    sft("--set data.sequence-length=100000", &["data.sequence-length", "512"]);
    sft("--set model=m", &["train.parameters", "no new blocks"]);
    sft("--set data.packin=true", &["packing"]);
    sft("--set lora.targets=[\"q_porj\"]", &["q_porj"]);
    // A tokenizer with more tokens than the model.
    copy(&dir.path().join("g"), &dir.path().join("big"));
    let tokenizer = dir.path().join("big/tokenizer.json");
    let mut json = json_file(&tokenizer);
    json["added_tokens"].as_array_mut().unwrap().push(serde_json::json!({
        "id": 5000, "content": "<extra>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true
    }));
    fs::write(&tokenizer, json.to_string()).unwrap();
    sft("--set model=big", &["big", "the model only 1024"]);

    // Or they are left out and counted.
    let broken = "{\"query\": \n";
    let mixed = format!("{}{long}{broken}{}", talk(&format!("{user}, {user}, {gpt}")), good.repeat(9));
    file("mixed.jsonl", &mixed);
    let drop = "--set data.unusable=drop --set data.validation=0 --set train.steps=1 --set eval.questions=0";
    run(dir.path(), &format!("sft --config s.toml --run r {} {drop}", path("mixed.jsonl"))).ok();
    let summary = json_file(&dir.path().join("r/summary.json"));
    assert_eq!(summary["sets"][0]["dropped"], serde_json::json!({"format": 1, "roles": 1, "too-long": 1}));
    assert_eq!(summary["sets"][0]["kept"], 10);
}

/// Every recipe in configs/sft names sets, values and keys that exist.
#[test]
fn the_shipped_recipes_are_read() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/sft");
    let dir = workplace();
    let mut n = 0;
    for entry in fs::read_dir(configs).unwrap() {
        let path = entry.unwrap().path();
        // The model that is named is not there; the recipe itself must be sound by then.
        refused(dir.path(), &format!("sft --config {} --set model=nowhere", path.display()), &["nowhere"]);
        n += 1;
    }
    assert!(n >= 2);
}
