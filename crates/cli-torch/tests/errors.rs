//! What `debug`, `verify --logits` and `pretrain` refuse: exit code 2, one line, nothing on stdout, nothing left behind.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it skips")]

#[path = "../../cli/tests/common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;

use common::broken::{Level, folders, place, records};
use common::{
    assert_unchanged, copy, disk, edit_json, fixture, refused, run, run_list, tree, workplace, write_tensors,
};
use llama_pro_expand::{ExpandOptions, Placement};
use serde_json::json;

/// Every command that runs a model.
fn commands() -> [String; 3] {
    let ids = fixture("llama2/expected.safetensors");
    let tokens = fixture("llama2-train-added/curve.safetensors");
    let (ids, tokens) = (ids.display(), tokens.display());
    [
        "verify m --logits".to_owned(),
        format!("debug logits m --ids {ids} --out out"),
        format!("debug train m --tokens {tokens} --train all --out out"),
    ]
}

/// The other program does this; here its library must do.
fn expand(base: &Path, out: &Path, blocks: usize) {
    let placement = Placement::Blocks { blocks, per_group: 1 };
    llama_pro_expand::expand(base, out, &placement, &ExpandOptions::default()).unwrap();
}

#[test]
fn broken_folders() {
    for (i, broken) in folders().into_iter().enumerate() {
        let dir = broken.place();
        // In turn: they open a folder the same way. verify misses the record before it looks closer.
        let first = usize::from(broken.level != Level::Files);
        let command = &commands()[first + i % (3 - first)];
        refused(dir.path(), command, &broken.words());
    }
}

#[test]
fn a_broken_base_leaves_no_run() {
    let dir = workplace();
    let dir = dir.path();
    fs::remove_dir_all(dir.join("runs")).unwrap();
    for broken in folders() {
        let there = broken.place();
        let _ = fs::remove_dir_all(dir.join("m"));
        let _ = fs::remove_file(dir.join("m"));
        let m = there.path().join("m");
        match m.is_dir() {
            true => copy(&m, &dir.join("m")),
            false => _ = fs::copy(&m, dir.join("m")),
        }
        refused(dir, "pretrain --config grow.toml --run new/bad --set base.model=m", &broken.words());
    }
}

#[test]
fn records_that_do_not_fit() {
    let dir = place("llama2");
    let dir = dir.path();
    expand(&dir.join("m"), &dir.join("two"), 2);
    expand(&dir.join("m"), &dir.join("one"), 1);
    fs::remove_dir_all(dir.join("m")).unwrap();
    copy(&dir.join("two"), &dir.join("m"));
    let read = |folder: &str| fs::read_to_string(dir.join(folder).join("expansion.json")).unwrap();
    for (text, words) in records(&read("two"), &read("one")) {
        fs::write(dir.join("m/expansion.json"), text).unwrap();
        for command in commands() {
            refused(dir, &command.replace("--train all", "--train added"), &words);
        }
    }
}

#[test]
fn inputs_of_debug() {
    let dir = place("llama2");
    let dir = dir.path();
    let ids = fixture("llama2/expected.safetensors");
    let tokens = fixture("llama2-train-added/curve.safetensors");
    let file = |name: &str, dtype: &str, shape: &[usize], values: &[i64]| {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [0, data.len()] });
        write_tensors(&dir.join(name), &json!({ "input_ids": entry, }).to_string(), &data);
    };
    file("high", "I64", &[1, 2], &[1, 320]);
    file("negative", "I64", &[1, 2], &[1, -5]);
    file("unsigned", "U64", &[1, 2], &[1, 5]);
    file("flat", "I64", &[2], &[1, 5]);
    file("empty", "I64", &[0, 2], &[]);
    fs::write(dir.join("text"), "not safetensors at all").unwrap();
    for (name, words) in [
        ("nope", ["nope: No such file", ""]),
        ("text", ["text: not safetensors", ""]),
        ("m/model.safetensors", ["m/model.safetensors: no tensor `input_ids`", ""]),
        ("high", ["320", "vocabulary"]),
        ("negative", ["-5", "vocabulary"]),
        ("unsigned", ["unsigned: `input_ids` is U64 [1, 2]", "expected int64 with 2 dimensions"]),
        ("flat", ["flat: `input_ids` is I64 [2]", "expected int64 with 2 dimensions"]),
        ("empty", ["empty: `input_ids` is I64 [0, 2]", "nothing empty"]),
    ] {
        refused(dir, &format!("debug logits m --ids {name} --out out"), &words);
    }
    let (ids, tokens) = (ids.display(), tokens.display());
    refused(dir, &format!("debug logits m --ids {ids} --out no/out"), &["no/out: cannot write"]);
    refused(dir, &format!("debug logits m --ids {ids} --out m"), &["m: cannot write", "directory"]);
    refused(dir, &format!("debug logits m --ids {ids} --out out --base-path"), &["m: not expanded"]);
    refused(
        dir,
        &format!("debug logits m --ids {ids} --out out --device tpu"),
        &["`tpu`", "auto, cpu, cuda"],
    );
    refused(dir, &format!("debug train m --tokens {ids} --train all --out out"), &["no tensor `tokens`"]);
    let rate = "--learning-rate=-1 --train all --out out";
    refused(
        dir,
        &format!("debug train m --tokens {tokens} {rate}"),
        &["train.learning-rate = -1", "positive"],
    );
    for (command, words) in [
        ("debug make-checkpoint m", ["m exists already", ""]),
        ("debug make-checkpoint out --hidden 32", ["num_attention_heads", "found 0"]),
        ("debug make-checkpoint out --vocab 0", ["vocab_size", "found 0"]),
        ("debug make-checkpoint out --dtype f16", ["--dtype f16", "expected f32 or bf16"]),
        ("debug make-checkpoint no/out", ["no", "is not there"]),
    ] {
        refused(dir, command, &words);
    }
}

#[test]
fn arguments_that_clap_refuses() {
    let dir = place("llama2");
    let before = tree(dir.path());
    for args in [
        "",
        "nonsense",
        "pretrain --resume --set train.steps=1",
        "pretrain --resume --config x.toml",
        "pretrain --resume --control full",
        "pretrain --control half",
        "debug",
        "debug train m --tokens t --train some --out out",
        "verify m --unknown",
        "debug make-checkpoint out --layers many",
        "eval m --shift t.txt --out o.json",
        "eval m --shift t.txt --dtype bf16",
        "eval --compare a.json b.json --out o.json",
        "eval --list --out o.json",
    ] {
        let ran = run(dir.path(), args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:#?}");
        assert!(!ran.stderr.is_empty() && !ran.stderr.contains("panicked"), "{ran:#?}");
    }
    for n in ["0", "4097", "-1", "many"] {
        let output = common::program(dir.path()).args(["--threads", n, "verify", "m"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "--threads {n}");
    }
    run(dir.path(), "generate m").refused(&["--prompt TEXT, --prompts FILE or --chat"]);
    run(dir.path(), "generate m --prompt a --system b").refused(&["--system: expected --chat"]);
    run(dir.path(), "generate m --prompt a --template tulu").refused(&["--template: expected --chat"]);
    let names = run(dir.path(), "eval --list --json").ok().json();
    assert!(names.as_array().unwrap().iter().any(|name| name == "hellaswag"), "{names}");
    assert_unchanged(&before, dir.path());
}

/// `pretrain` with one change to a recipe that works.
#[track_caller]
fn pretrain(dir: &Path, set: &str, words: &[&str]) {
    let before = tree(dir);
    let args = ["pretrain", "--config", "grow.toml", "--run", "new/bad", "--set", set];
    run_list(dir, &args).refused(words);
    assert_unchanged(&before, dir);
}

#[test]
fn recipes_that_say_what_cannot_be() {
    let dir = workplace();
    let dir = dir.path();
    // Where nothing was ever prepared, nothing is there afterwards.
    fs::remove_dir_all(dir.join("runs")).unwrap();
    pretrain(dir, "keep.source.path=nope.txt", &["nope.txt", "No such file"]);
    pretrain(dir, "keep.source.template=x", &["unknown key `template`"]);
    for (set, words) in [
        ("train.stepss=4", ["unknown key `stepss` in [train]", "did you mean `steps`?"]),
        ("data.sources.math.source.seeds=1", ["unknown key `seeds`", "did you mean `seed`?"]),
        ("trian.steps=4", ["unknown key `trian`", "did you mean `train`?"]),
        ("train.steps=many", ["`train.steps`: expected a whole number", "\"many\""]),
        ("train.steps=1.5", ["`train.steps`: expected a whole number", "1.5"]),
        ("seed=-1", ["`seed`: expected a whole number of 0 or more", "-1"]),
        ("train.parameters=some", ["unknown value `some`", "`added`, `all`"]),
        ("train.betas=[0.9]", ["`train.betas`", ""]),
        ("train", ["--set train", "KEY=VALUE"]),
        ("data.sources.code.weight=1", ["no element with the name `code`", "`math`"]),
        ("train.steps=0", ["train.steps = 0", "expected 1 to"]),
        ("train.rows-per-step=0", ["train.rows-per-step = 0", "expected 1 to"]),
        ("train.micro-rows=3", ["train.micro-rows = 3", "divisor"]),
        ("train.learning-rate=-1", ["train.learning-rate = -1", "positive"]),
        ("train.learning-rate=nan", ["train.learning-rate = NaN", "positive"]),
        ("train.min-learning-rate=1", ["train.min-learning-rate = 1", "0 to train.learning-rate"]),
        ("train.warmup=1.0", ["train.warmup = 1", "below 1"]),
        ("train.keep-checkpoints=0", ["train.keep-checkpoints = 0", "at least 1"]),
        ("control.learning-rate=-1", ["control.learning-rate = -1", "positive"]),
        ("data.validation=1.5", ["data.validation = 1.5", "between 0 and 1"]),
        ("data.sequence-length=1", ["data.sequence-length = 1", "expected 2 to"]),
        ("data.sources=[]", ["[[data.sources]]", "at least one"]),
        ("data.sources.math.weight=-1", ["data.sources.math.weight = -1", "0 or more"]),
        ("data.sources.math.weight=0", ["[[data.sources]]", "every weight is 0"]),
        ("data.sources.math.weight=nan", ["data.sources.math.weight = NaN", "0 or more"]),
        ("keep.share=0", ["keep.share = 0", "between 0 and 1"]),
        ("keep.kl=-1", ["[keep]", "0 or more"]),
        ("keep.name=math", ["`math` is used twice", ""]),
        ("keep.name=a/b", ["`a/b`", "letters, digits"]),
        ("eval.rows=0", ["eval.rows = 0", "at least 1"]),
        ("eval.validation-rows=0", ["eval.validation-rows = 0", "at least 1"]),
        ("expand.at=[1]", ["[expand]", "`at` alone"]),
        ("base.scratch={}", ["[base.scratch]", "missing key"]),
        ("benchmarks={tasks=[]}", ["benchmarks.tasks", "found none"]),
        ("benchmarks={tasks=[\"mini_arithmetic\"],limit=0}", ["benchmarks.limit", "at least 1"]),
    ] {
        pretrain(dir, set, &words);
    }
    fs::write(dir.join("t.toml"), "[base\nmodel = 1").unwrap();
    refused(dir, "pretrain --config t.toml --run bad", &["t.toml:1:6: not TOML"]);
    fs::write(dir.join("t.toml"), "").unwrap();
    refused(dir, "pretrain --config t.toml --run bad", &["t.toml", "missing key `base`"]);
    let line = common::GROW_RECIPE.lines().position(|l| l.starts_with("steps")).unwrap() + 1;
    fs::write(dir.join("t.toml"), common::GROW_RECIPE.replace("\nsteps", "\nstepps")).unwrap();
    refused(
        dir,
        "pretrain --config t.toml --run bad",
        &[&format!("t.toml:{line}:1: "), "did you mean `steps`?"],
    );
    refused(dir, "pretrain --config nope.toml --run bad", &["nope.toml: No such file"]);
    refused(dir, "pretrain --config base --run bad", &["base: Is a directory"]);
}

#[test]
fn recipes_whose_inputs_do_not_do() {
    let dir = workplace();
    let dir = dir.path();
    // The recipe itself is good. Token shards that were finished stay for the next run, so now all are there.
    run(dir, "pretrain --config grow.toml --run good --set train.steps=2").ok();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::write(dir.join("x.jsonl"), "{\"q\": \"a\", \"b\": \"c\"}\n".repeat(5)).unwrap();
    fs::write(dir.join("y.jsonl"), "{\"q\": \"a\"}\n{\"q\":\n").unwrap();
    fs::write(dir.join("small.txt"), "one\n\ntwo").unwrap();
    // A model with fewer tokens than its tokenizer.
    copy(&dir.join("base/model"), &dir.join("few"));
    edit_json(&dir.join("few/tokenizer.json"), |map| {
        map["model"]["vocab"]["extra"] = json!(5000);
    });
    copy(&dir.join("base/model"), &dir.join("mute"));
    fs::remove_file(dir.join("mute/tokenizer.json")).unwrap();
    let source = |text: &str| format!("data.sources.math.source={{ {text} }}");
    for (set, words) in [
        ("base.model=nope".to_owned(), ["nope", "is not there"]),
        ("base.model=empty".to_owned(), ["empty/config.json", "is not there"]),
        ("base.model=few".to_owned(), ["tokenizer", "300"]),
        ("base.model=mute".to_owned(), ["tokenizer.json", ""]),
        ("data.sequence-length=65".to_owned(), ["data.sequence-length = 65", "at most 64"]),
        ("expand.blocks=3".to_owned(), ["3 groups do not fit 2 blocks", "at most 2"]),
        ("expand.blocks=0".to_owned(), ["1 to 2", "found 0"]),
        ("expand.per-group=0".to_owned(), ["per group", "found 0"]),
        ("device=tpu".to_owned(), ["`tpu`", "auto, cpu, cuda"]),
        (source("kind='files', path='empty', extensions=['py']"), ["`math`: no documents in", "empty"]),
        (source("kind='files', path='nope', extensions=['py']"), ["nope", "No such file"]),
        (
            source("kind='jsonl', path='x.jsonl', template='{q} {answer}'"),
            ["x.jsonl:1: no field `answer`", "q, b"],
        ),
        (source("kind='jsonl', path='y.jsonl', template='{q}'"), ["y.jsonl:2: not a JSON object", "EOF"]),
        (source("kind='jsonl', path='nope.jsonl', template='{q}'"), ["nope.jsonl", "No such file"]),
        (source("kind='text', path='small.txt', split='blank-lines'"), ["small.txt", "2 documents"]),
        (source("kind='maths', seed=1, documents=9"), ["unknown value `maths`", "did you mean `math`?"]),
        ("data.sources.math.source.documents=0".to_owned(), ["documents", "found 0"]),
        ("data.sources.math.max-tokens=0".to_owned(), ["max-tokens", "found 0"]),
    ] {
        pretrain(dir, &set, &words);
    }
    let without = common::GROW_RECIPE.replace("[expand]\nblocks = 2\n", "");
    fs::write(dir.join("t.toml"), without).unwrap();
    refused(dir, "pretrain --config t.toml --run bad", &["no new blocks", "[expand]", "train.parameters"]);
    // A folder that was there and empty stays, empty.
    refused(dir, "pretrain --config t.toml --run empty", &["no new blocks"]);
    // Where something lies already.
    refused(dir, "pretrain --config grow.toml --run base", &["base: cannot make a run here", "resume it"]);
    refused(dir, "pretrain --config grow.toml --run few", &["few: cannot make a run here", "not empty"]);
    refused(dir, "pretrain --config grow.toml --run keep.txt", &["keep.txt: cannot make a run here", "file"]);
    refused(dir, "pretrain --resume", &["runs: no run to go on with", "--run"]);
    refused(dir, "pretrain --resume --run nope", &["nope: not a run folder"]);
    refused(dir, "pretrain --resume --run empty", &["empty: not a run folder", "recipe.toml"]);
}

#[test]
fn a_full_disk() {
    let dir = workplace();
    let dir = dir.path();
    copy(&fixture("llama2"), &dir.join("m"));
    // The whole run, for comparison; its token shards are found again by the others.
    let recipe =
        "pretrain --config grow.toml --set train.checkpoint-every=2 --set train.keep-checkpoints=99 --run ";
    run(dir, &format!("{recipe} whole")).ok();
    let Some(small) = disk::Small::mount(&dir.join("small"), "1800k") else { return };
    fs::write(small.path().join("mine"), "stays").unwrap();
    let before = tree(small.path());
    disk::full(run(dir, "debug make-checkpoint small/out --layers 1"), &["small/out", "needed"]);
    assert_unchanged(&before, small.path());
    // Where not even a small file fits.
    let _ = fs::write(small.path().join("ballast"), vec![1; 2 << 20]);
    let before = tree(small.path());
    let ids = fixture("llama2/expected.safetensors");
    disk::full(run(dir, &format!("debug logits m --ids {} --out small/l", ids.display())), &["small/l"]);
    disk::full(run(dir, &format!("{recipe} small/run")), &["small/run"]);
    assert_unchanged(&before, small.path());
    fs::remove_file(small.path().join("ballast")).unwrap();
    // In the middle of a run: checkpoints that were whole stay, and with room again the run goes on.
    disk::full(run(dir, &format!("{recipe} small/run")), &["small/run"]);
    let left: Vec<_> = tree(&small.path().join("run/checkpoints")).into_keys().collect();
    assert!(!left.is_empty() && left.iter().all(|n| !n.to_string_lossy().contains("partial")), "{left:?}");
    small.resize("64m");
    run(dir, "pretrain --resume --run small/run").ok();
    assert_eq!(common::curve(&small.path().join("run")), common::curve(&dir.join("whole")));
    assert!(common::outcome(&small.path().join("run")) == common::outcome(&dir.join("whole")));
}
