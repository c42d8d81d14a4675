//! Bad input through the program: exit code 2, one line that says what and where, nothing on stdout, nothing left behind.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{
    Ran, assert_unchanged, copy, edit_json, fixture, open_tensors, program, run, run_list, tree, workplace, write_tensors,
};
use serde_json::{Value, json};

/// A working folder with the fixture as `m`.
fn place(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(name), &dir.path().join("m"));
    dir
}

/// Runs what must be refused, and holds the program to leaving everything as it was.
#[track_caller]
fn refused(dir: &Path, args: &str, words: &[&str]) {
    let before = tree(dir);
    run(dir, args).refused(words);
    assert_unchanged(&before, dir);
}

/// Every command that opens a model folder.
fn commands() -> [String; 6] {
    let ids = fixture("llama2/expected.safetensors");
    let tokens = fixture("llama2-train-added/curve.safetensors");
    let (ids, tokens) = (ids.display(), tokens.display());
    [
        "inspect m".to_owned(),
        "expand m out --blocks 1".to_owned(),
        "verify m --logits".to_owned(),
        "strip m out".to_owned(),
        format!("debug logits m --ids {ids} --out out"),
        format!("debug train m --tokens {tokens} --train all --out out"),
    ]
}

/// Breaks a fresh copy of a fixture and holds every command to the same words.
#[track_caller]
fn every_command(name: &str, words: &[&str], break_it: impl Fn(&Path)) {
    let dir = place(name);
    break_it(&dir.path().join("m"));
    for command in commands() {
        refused(dir.path(), &command, words);
    }
}

/// The same for the commands that compute.
#[track_caller]
fn computing_commands(name: &str, words: &[&str], break_it: impl Fn(&Path)) {
    let dir = place(name);
    break_it(&dir.path().join("m"));
    for command in &commands()[4..] {
        refused(dir.path(), command, words);
    }
    // inspect still shows what can be shown, and says the same.
    let said = run(dir.path(), "inspect m --json").ok().json()["supported"].as_str().unwrap_or_default().to_owned();
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

fn config(dir: &Path, key: &str, value: Value) {
    edit_json(&dir.join("config.json"), |map| {
        map.insert(key.to_owned(), value);
    });
}

/// Edits the header of the single weight file.
fn header(dir: &Path, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let path = dir.join("model.safetensors");
    let (mut header, data) = open_tensors(&path);
    edit(&mut header);
    write_tensors(&path, &Value::Object(header).to_string(), &data);
}

const SHARDED: &str = "llama3-gqa-tied-bf16-sharded";
const INDEX: &str = "model.safetensors.index.json";
const SHARD: &str = "model-00002-of-00004.safetensors";

#[test]
fn folders_that_are_not_models() {
    every_command("llama2", &["m is not there"], |m| fs::remove_dir_all(m).unwrap());
    every_command("llama2", &["m is not a folder"], |m| {
        fs::remove_dir_all(m).unwrap();
        fs::write(m, "text").unwrap();
    });
    every_command("llama2", &["m/config.json is not there"], |m| fs::remove_file(m.join("config.json")).unwrap());
    every_command("llama2", &["m: no model.safetensors and no model.safetensors.index.json"], |m| {
        fs::remove_file(m.join("model.safetensors")).unwrap();
    });
    every_command("llama2", &["m/pytorch_model.bin is a pickle file", "save_pretrained"], |m| {
        fs::rename(m.join("model.safetensors"), m.join("pytorch_model.bin")).unwrap();
    });
}

#[test]
fn files_that_may_not_be_read() {
    let dir = place("llama2");
    let m = dir.path().join("m");
    let deny = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    deny(&m.join("model.safetensors"), 0);
    if fs::read(m.join("model.safetensors")).is_ok() {
        println!("skipped: this user may read everything");
        return;
    }
    for command in commands() {
        run(dir.path(), &command).refused(&["m/model.safetensors", "ermission denied"]);
    }
    deny(&m, 0);
    for command in commands() {
        run(dir.path(), &command).refused(&["m/config.json", "ermission denied"]);
    }
    deny(&m, 0o755);
    deny(&m.join("model.safetensors"), 0o644);
    // A folder that nothing may be written into.
    fs::create_dir(dir.path().join("closed")).unwrap();
    deny(&dir.path().join("closed"), 0o555);
    refused(dir.path(), "expand m closed/out --blocks 1", &["closed", "ermission denied"]);
    deny(&dir.path().join("closed"), 0o755);
}

#[test]
fn damaged_configurations() {
    every_command("llama2", &["m/config.json: line", "cut short"], |m| {
        let text = fs::read(m.join("config.json")).unwrap();
        fs::write(m.join("config.json"), &text[..text.len() / 2]).unwrap();
    });
    every_command("llama2", &["m/config.json", "\"hidden_size\" stands twice"], |m| {
        let text = fs::read_to_string(m.join("config.json")).unwrap();
        fs::write(m.join("config.json"), text.replacen('{', "{\"hidden_size\": 64,", 1)).unwrap();
    });
    every_command("llama2", &["m/config.json", "expected an object"], |m| {
        fs::write(m.join("config.json"), "[1]").unwrap();
    });
}

#[test]
fn impossible_configurations() {
    let blocks = |value: Value| move |m: &Path| config(m, "num_hidden_layers", value.clone());
    for (value, found) in [(json!(0), "found 0"), (json!(-3), "found -3"), (json!("four"), "found \"four\"")] {
        let dir = place("llama2");
        blocks(value)(&dir.path().join("m"));
        for command in &commands()[..2] {
            refused(dir.path(), command, &["m/config.json: num_hidden_layers: expected a whole number", found]);
        }
        for command in &commands()[4..] {
            refused(dir.path(), command, &["m/config.json: num_hidden_layers: expected a whole number", found]);
        }
    }
    // Blocks that are there and not in the configuration, and the other way round.
    let dir = place("llama2");
    blocks(json!(3))(&dir.path().join("m"));
    refused(dir.path(), "expand m out --blocks 1", &["tensor model.layers.3.", "3 blocks of config.json"]);
    computing_commands("llama2", &["\"model.layers.3.", "config.json does not demand it"], blocks(json!(3)));
    blocks(json!(5))(&dir.path().join("m"));
    refused(dir.path(), "expand m out --blocks 1", &["m: ", "5 blocks"]);
    computing_commands("llama2", &["\"model.layers.4.", "is missing, but config.json demands it"], blocks(json!(5)));

    let keys: [(&str, Value, &str); 9] = [
        ("hidden_size", json!(-1), "expected a whole number from 1 to 2147483647, found -1"),
        ("hidden_size", json!(1e300), "expected a whole number"),
        ("vocab_size", json!(0), "found 0"),
        ("num_attention_heads", json!("many"), "found \"many\""),
        ("num_key_value_heads", json!(3), "3 does not divide num_attention_heads 4"),
        ("rms_norm_eps", json!(-1e-5), "expected a number"),
        ("max_position_embeddings", json!([1]), "found [1]"),
        ("tie_word_embeddings", json!("yes"), "expected true or false, found \"yes\""),
        ("final_logit_softcapping", json!(30.0), "not supported (found 30.0)"),
    ];
    for (key, value, found) in keys {
        computing_commands("llama2", &[&format!("m/config.json: {key}: "), found], |m| config(m, key, value.clone()));
    }
    for key in ["hidden_size", "vocab_size", "num_attention_heads", "intermediate_size"] {
        computing_commands("llama2", &[&format!("m/config.json: {key}: the key is missing")], |m| {
            edit_json(&m.join("config.json"), |map| {
                map.remove(key);
            });
        });
    }
    let dir = place("llama2");
    edit_json(&dir.path().join("m/config.json"), |map| {
        map.remove("num_hidden_layers");
    });
    refused(dir.path(), "inspect m", &["m/config.json: num_hidden_layers: the key is missing"]);
    refused(dir.path(), "expand m out --blocks 1", &["m/config.json", "num_hidden_layers", "missing"]);
    // Blocks whose zeroed outputs would not be an identity.
    config(&dir.path().join("m"), "num_hidden_layers", json!(4));
    config(&dir.path().join("m"), "model_type", json!("gemma2"));
    refused(dir.path(), "expand m out --blocks 1", &["m/config.json: cannot be expanded", "gemma2"]);
}

#[test]
fn damaged_weights() {
    let file = "m/model.safetensors";
    every_command("llama2", &[file, "truncated"], |m| {
        let bytes = fs::read(m.join("model.safetensors")).unwrap();
        fs::write(m.join("model.safetensors"), &bytes[..bytes.len() - 1000]).unwrap();
    });
    every_command("llama2", &[file], |m| fs::write(m.join("model.safetensors"), [1, 2, 3]).unwrap());
    for length in [1 << 63, u64::MAX, 1 << 40] {
        every_command("llama2", &[file, "header", &length.to_string()], |m| {
            let mut bytes = fs::read(m.join("model.safetensors")).unwrap();
            bytes[..8].copy_from_slice(&u64::to_le_bytes(length));
            fs::write(m.join("model.safetensors"), bytes).unwrap();
        });
    }
    let norm = "\"model.norm.weight\"";
    let second = "\"model.layers.0.input_layernorm.weight\"";
    every_command("llama2", &[file, "its bytes", "overlaps"], |m| {
        header(m, |h| {
            let at = h["model.norm.weight"]["data_offsets"].clone();
            h["model.layers.0.input_layernorm.weight"]["data_offsets"] = at;
        });
    });
    every_command("llama2", &[file, norm, "shape [65] of F32 takes 260 bytes, but it has 256"], |m| {
        header(m, |h| h["model.norm.weight"]["shape"] = json!([65]));
    });
    every_command("llama2", &[file, norm, "unknown dtype \"F33\""], |m| {
        header(m, |h| h["model.norm.weight"]["dtype"] = json!("F33"));
    });
    every_command("llama2", &[file, norm, "no countable number of bytes"], |m| {
        header(m, |h| h["model.norm.weight"]["shape"] = json!([u32::MAX, u32::MAX, u32::MAX]));
    });
    every_command("llama2", &[file, "\"model.norm.weight\" stands twice"], |m| {
        let (header, data) = open_tensors(&m.join("model.safetensors"));
        let text = Value::Object(header.clone()).to_string();
        let again = format!("{{\"model.norm.weight\":{},", header["model.norm.weight"]);
        write_tensors(&m.join("model.safetensors"), &text.replacen('{', &again, 1), &data);
    });
    every_command("llama2", &[file, "header"], |m| {
        let (_, data) = open_tensors(&m.join("model.safetensors"));
        write_tensors(&m.join("model.safetensors"), "{\"a\":", &data);
    });
    // Sound files that are not this model.
    computing_commands("llama2", &[file, norm, "has dtype I32, expected F32, BF16 or F16"], |m| {
        header(m, |h| h["model.norm.weight"]["dtype"] = json!("I32"));
    });
    computing_commands("llama2", &[file, second, "has shape [8, 8], but config.json demands [64]"], |m| {
        header(m, |h| h["model.layers.0.input_layernorm.weight"]["shape"] = json!([8, 8]));
    });
}

#[test]
fn damaged_shards_and_indices() {
    let shard = format!("m/{SHARD}");
    let index = format!("m/{INDEX}");
    every_command(SHARDED, &[&shard, "is not there", INDEX], |m| fs::remove_file(m.join(SHARD)).unwrap());
    every_command(SHARDED, &[&shard, "truncated"], |m| {
        let bytes = fs::read(m.join(SHARD)).unwrap();
        fs::write(m.join(SHARD), &bytes[..bytes.len() / 2]).unwrap();
    });
    every_command(SHARDED, &[&index, "\"model.layers.9.no.weight\"", "is not in", SHARD], |m| {
        edit_json(&m.join(INDEX), |map| map["weight_map"]["model.layers.9.no.weight"] = json!(SHARD));
    });
    every_command(SHARDED, &[&index, "\"model.norm.weight\"", "no plain file name"], |m| {
        edit_json(&m.join(INDEX), |map| map["weight_map"]["model.norm.weight"] = json!("../x.safetensors"));
    });
    every_command(SHARDED, &["\"model.norm.weight\"", "is not listed in", INDEX], |m| {
        edit_json(&m.join(INDEX), |map| {
            map["weight_map"].as_object_mut().unwrap().remove("model.norm.weight");
        });
    });
    every_command(SHARDED, &[&index, "weight_map is missing"], |m| {
        edit_json(&m.join(INDEX), |map| {
            map.remove("weight_map");
        });
    });
    every_command(SHARDED, &[&index, "line", "cut short"], |m| {
        let text = fs::read(m.join(INDEX)).unwrap();
        fs::write(m.join(INDEX), &text[..text.len() / 2]).unwrap();
    });
    // One tensor in two files.
    every_command(SHARDED, &["\"model.embed_tokens.weight\"", "is also in model-00001-of-00004.safetensors"], |m| {
        let (mut header, mut data) = open_tensors(&m.join(SHARD));
        let begin = data.len();
        data.extend([0; 320 * 64 * 2]);
        let entry = json!({ "dtype": "BF16", "shape": [320, 64], "data_offsets": [begin, data.len()] });
        header.insert("model.embed_tokens.weight".to_owned(), entry);
        write_tensors(&m.join(SHARD), &Value::Object(header).to_string(), &data);
    });
}

#[test]
fn records_that_do_not_fit() {
    let dir = place("llama2");
    let dir = dir.path();
    run(dir, "expand m two --blocks 2").ok();
    run(dir, "expand m one --blocks 1").ok();
    fs::remove_dir_all(dir.join("m")).unwrap();
    copy(&dir.join("two"), &dir.join("m"));
    let good = fs::read_to_string(dir.join("two/expansion.json")).unwrap();
    let other = fs::read_to_string(dir.join("one/expansion.json")).unwrap();
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&good).unwrap();
        edit(&mut value);
        value.to_string()
    };
    let norm = |key: &str, value: Value| edited(&|v| v["tensors"]["model.norm.weight"][key] = value.clone());
    let invalid = "m/expansion.json: not a valid expansion record: ";
    let disagrees = "m/expansion.json: the record disagrees with the folder: ";
    let cases: Vec<(String, Vec<&str>)> = vec![
        (good[..good.len() / 2].to_owned(), vec![invalid, "EOF"]),
        ("{}".to_owned(), vec![invalid, "format"]),
        (edited(&|v| v["format"] = json!("llama-pro-expansion/9")), vec![invalid, "llama-pro-expansion/9"]),
        (edited(&|v| v["new_blocks"] = json!([1, 5])), vec![invalid, "new_blocks"]),
        (edited(&|v| v["new_blocks"] = json!([2, 99])), vec![invalid, "new_blocks"]),
        (edited(&|v| v["generations"][0]["zeroed"] = json!([])), vec![invalid, "zero"]),
        (edited(&|v| v["surprise"] = json!(1)), vec![invalid, "surprise"]),
        (norm("digest", json!("blake3:1234")), vec![invalid, "model.norm.weight", "is not a digest"]),
        (other, vec![disagrees, "config.json has 6 blocks, the record 5"]),
        (norm("shape", json!([7])), vec![disagrees, "model.norm.weight", "F32 [64]", "F32 [7]"]),
        (norm("dtype", json!("BF16")), vec![disagrees, "model.norm.weight", "BF16 [64]"]),
        (
            edited(&|v| {
                v["tensors"].as_object_mut().unwrap().remove("model.norm.weight");
            }),
            vec![disagrees, "model.norm.weight is in the folder and not in the record"],
        ),
        (
            edited(&|v| v["tensors"]["model.more.weight"] = v["tensors"]["model.norm.weight"].clone()),
            vec![disagrees, "model.more.weight is in the record and not in the folder"],
        ),
    ];
    for (text, words) in cases {
        fs::write(dir.join("m/expansion.json"), text).unwrap();
        for command in commands() {
            let command = command.replace("--train all", "--train added");
            refused(dir, &command, &words);
        }
    }
    // A record beside a model that was never expanded.
    fs::remove_dir_all(dir.join("m")).unwrap();
    copy(&fixture("llama2"), &dir.join("m"));
    fs::write(dir.join("m/expansion.json"), &good).unwrap();
    for command in commands() {
        refused(dir, &command, &[disagrees, "config.json has 4 blocks, the record 6"]);
    }
    // And what needs one, without.
    fs::remove_file(dir.join("m/expansion.json")).unwrap();
    refused(dir, "verify m", &["m: not an expanded model: expansion.json is not there"]);
    refused(dir, "strip m out", &["m: not an expanded model"]);
    refused(dir, "verify two --base one", &["two/expansion.json", "one has 5 blocks", "[4]"]);
    refused(dir, "verify two --base nope", &["nope is not there"]);
}

#[test]
fn places_and_outputs() {
    let dir = place("llama2");
    let dir = dir.path();
    for (args, words) in [
        ("", ["--blocks N", "--at"]),
        ("--blocks 0", ["must be 1 to 4", "found 0"]),
        ("--blocks 5", ["5 groups do not fit 4 blocks", "at most 4"]),
        ("--blocks 99999999999", ["99999999999", "at most 4"]),
        ("--blocks 3 --per-group 2", ["3 new blocks", "multiple of 2 per group"]),
        ("--blocks 2 --per-group 0", ["at least 1", "found 0"]),
        ("--blocks 4 --per-group 4 --at 1", ["", ""]),
        ("--at 0", ["position 0", "start at 1"]),
        ("--at 99", ["position 99 is out of range", "1 to 4"]),
        ("--at 3,3", ["position 3", "twice"]),
    ] {
        if args.contains("--per-group 4") {
            continue; // clap's, below
        }
        refused(dir, &format!("expand m out {args}"), &words);
        refused(dir, &format!("expand m out --dry-run {args}"), &words);
    }
    fs::create_dir(dir.join("there")).unwrap();
    fs::write(dir.join("there/notes.txt"), "mine").unwrap();
    fs::write(dir.join("file"), "mine").unwrap();
    std::os::unix::fs::symlink("m", dir.join("link")).unwrap();
    run(dir, "expand m grown --blocks 1").ok();
    for (command, words) in [
        ("expand m there --blocks 1", ["there: ", "exists"]),
        ("expand m file --blocks 1", ["file: ", "exists"]),
        ("expand m there --blocks 1 --force", ["there", "no config.json"]),
        ("expand m file --blocks 1 --force", ["file", "no folder"]),
        ("expand m m --blocks 1", ["m: ", "is the input folder"]),
        ("expand m link --blocks 1 --force", ["link: ", "is the input folder"]),
        ("expand m m/out --blocks 1", ["m/out: ", "inside the input folder m"]),
        ("expand m link/out --blocks 1", ["link/out: ", "inside the input folder m"]),
        ("expand m . --blocks 1 --force", [".: ", "contains the input folder m"]),
        ("expand m no/out --blocks 1", ["no", "is not there"]),
        ("strip grown m", ["m: ", "exists"]),
        ("strip grown grown/out", ["grown/out: ", "inside the input folder"]),
        ("debug make-checkpoint m", ["m exists already", ""]),
        ("debug make-checkpoint out --hidden 32", ["num_attention_heads", "found 0"]),
        ("debug make-checkpoint out --vocab 0", ["vocab_size", "found 0"]),
        ("debug make-checkpoint out --dtype f16", ["--dtype f16", "expected f32 or bf16"]),
        ("report nope", ["nope", "no such run folder"]),
        ("report m", ["m: not a run folder", "recipe.toml"]),
    ] {
        refused(dir, command, &words);
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
    refused(dir, &format!("debug logits m --ids {ids} --out out --device tpu"), &["`tpu`", "auto, cpu, cuda"]);
    refused(dir, &format!("debug train m --tokens {ids} --train all --out out"), &["no tensor `tokens`"]);
    let rate = "--learning-rate=-1 --train all --out out";
    refused(dir, &format!("debug train m --tokens {tokens} {rate}"), &["train.learning-rate = -1", "positive"]);
    let output = program(dir).args(["inspect", "m", "--threads", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stderr, b"error: --threads 0: expected 1 to 4096\n");
}

#[test]
fn arguments_that_clap_refuses() {
    let dir = place("llama2");
    let before = tree(dir.path());
    for args in [
        "",
        "nonsense",
        "inspect",
        "inspect m more",
        "expand m",
        "expand m out --blocks many",
        "expand m out --blocks -1",
        "expand m out --blocks 1 --at 2",
        "expand m out --at 2 --per-group 1",
        "expand m out --at 1,x",
        "pretrain --resume --set train.steps=1",
        "pretrain --resume --config x.toml",
        "pretrain --resume --control full",
        "pretrain --control half",
        "debug train m --tokens t --train some --out out",
        "verify m --unknown",
    ] {
        let ran = run(dir.path(), args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:#?}");
        assert!(!ran.stderr.is_empty() && !ran.stderr.contains("panicked"), "{ran:#?}");
        assert_unchanged(&before, dir.path());
    }
}

/// `pretrain` with one change to a recipe that works.
#[track_caller]
fn pretrain(dir: &Path, set: &str, words: &[&str]) {
    let before = tree(dir);
    let args = ["pretrain", "--config", "grow.toml", "--run", "new/bad", "--set", set];
    run_list(dir, &args).refused(words);
    assert_unchanged(&before, dir);
}

/// The recipe does, which is what makes the refusals mean something; and a folder without `runs` in it.
fn recipes() -> tempfile::TempDir {
    let dir = workplace();
    fs::remove_dir_all(dir.path().join("runs")).unwrap();
    dir
}

#[test]
fn recipes_that_say_what_cannot_be() {
    let dir = recipes();
    let dir = dir.path();
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
        ("train.steps=0", ["train.steps = 0", "at least 1"]),
        ("train.rows-per-step=0", ["train.rows-per-step = 0", "at least 1"]),
        ("train.micro-rows=3", ["train.micro-rows = 3", "divisor"]),
        ("train.learning-rate=-1", ["train.learning-rate = -1", "positive"]),
        ("train.learning-rate=nan", ["train.learning-rate = NaN", "positive"]),
        ("train.min-learning-rate=1", ["train.min-learning-rate = 1", "0 to train.learning-rate"]),
        ("train.warmup=1.0", ["train.warmup = 1", "below 1"]),
        ("train.keep-checkpoints=0", ["train.keep-checkpoints = 0", "at least 1"]),
        ("control.learning-rate=-1", ["control.learning-rate = -1", "positive"]),
        ("data.validation=1.5", ["data.validation = 1.5", "between 0 and 1"]),
        ("data.sequence-length=1", ["data.sequence-length", "at least 2"]),
        ("data.sources=[]", ["[[data.sources]]", "at least one"]),
        ("data.sources.math.weight=-1", ["data.sources.math.weight = -1", "0 or more"]),
        ("data.sources.math.weight=0", ["[[data.sources]]", "every weight is 0"]),
        ("data.sources.math.weight=nan", ["data.sources.math.weight = NaN", "0 or more"]),
        ("keep.share=0", ["keep.share = 0", "between 0 and 1"]),
        ("keep.kl=-1", ["[keep]", "0 or more"]),
        ("keep.name=math", ["`math` is used twice", ""]),
        ("keep.name=a/b", ["`a/b`", "letters, digits"]),
        ("eval.rows=0", ["[eval]", "at least 1"]),
        ("eval.validation-rows=0", ["[eval]", "at least 1"]),
        ("expand.at=[1]", ["[expand]", "one of `blocks` and `at`"]),
        ("base.scratch={}", ["[base.scratch]", "missing key"]),
    ] {
        pretrain(dir, set, &words);
    }
    fs::write(dir.join("t.toml"), "[base\nmodel = 1").unwrap();
    refused(dir, "pretrain --config t.toml --run bad", &["t.toml:1:6: not TOML"]);
    fs::write(dir.join("t.toml"), "").unwrap();
    refused(dir, "pretrain --config t.toml --run bad", &["t.toml", "missing key `base`"]);
    let line = common::GROW_RECIPE.lines().position(|l| l.starts_with("steps")).unwrap() + 1;
    fs::write(dir.join("t.toml"), common::GROW_RECIPE.replace("\nsteps", "\nstepps")).unwrap();
    refused(dir, "pretrain --config t.toml --run bad", &[&format!("t.toml:{line}:1: "), "did you mean `steps`?"]);
    refused(dir, "pretrain --config nope.toml --run bad", &["nope.toml: No such file"]);
    refused(dir, "pretrain --config base --run bad", &["base: Is a directory"]);
}

#[test]
fn recipes_whose_inputs_do_not_do() {
    let dir = recipes();
    let dir = dir.path();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::write(dir.join("x.jsonl"), "{\"q\": \"a\", \"b\": \"c\"}\n".repeat(5)).unwrap();
    fs::write(dir.join("y.jsonl"), "{\"q\": \"a\"}\n{\"q\":\n").unwrap();
    fs::write(dir.join("small.txt"), "one\n\ntwo").unwrap();
    // A model with fewer tokens than its tokenizer.
    copy(&dir.join("base/model"), &dir.join("few"));
    let tokenizer = fs::read_to_string(dir.join("few/tokenizer.json")).unwrap();
    fs::write(dir.join("few/tokenizer.json"), tokenizer.replacen("\"model\"", "\"model\"", 1)).unwrap();
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
        (source("kind='jsonl', path='x.jsonl', template='{q} {answer}'"), ["x.jsonl:1: no field `answer`", "q, b"]),
        (source("kind='jsonl', path='y.jsonl', template='{q}'"), ["y.jsonl:2: not a JSON object", "EOF"]),
        (source("kind='jsonl', path='nope.jsonl', template='{q}'"), ["nope.jsonl", "No such file"]),
        (source("kind='text', path='small.txt', split='blank-lines'"), ["small.txt", "2 documents"]),
        (source("kind='maths', seed=1, documents=9"), ["unknown value `maths`", "did you mean `math`?"]),
        ("data.sources.math.source.documents=0".to_owned(), ["documents", "found 0"]),
        ("data.sources.math.max-tokens=0".to_owned(), ["max-tokens", "found 0"]),
        ("keep.source.path=nope.txt".to_owned(), ["nope.txt", "No such file"]),
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
    // The recipe itself is good.
    run(dir, "pretrain --config grow.toml --run new/good --set train.steps=2").ok();
}

/// A file system of its own, gone with the value.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at);
        let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if done.is_ok_and(|s| s.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("skipped: no tmpfs can be mounted here");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[track_caller]
fn disk_full(ran: Ran, words: &[&str]) {
    let code = ran.code.unwrap_or(-1);
    assert!(code == 1 || code == 2, "{ran:#?}");
    ran.failed(code, words);
}

#[test]
fn a_full_disk() {
    let dir = recipes();
    let dir = dir.path();
    copy(&fixture("llama2"), &dir.join("m"));
    run(dir, "expand m grown --blocks 2").ok();
    let Some(small) = Small::mount(&dir.join("small"), "600k") else { return };
    fs::write(small.0.join("mine"), "stays").unwrap();
    let before = tree(&small.0);
    let ids = fixture("llama2/expected.safetensors");
    disk_full(run(dir, "expand m small/out --blocks 2"), &["small/out", "needed"]);
    assert_unchanged(&before, &small.0);
    disk_full(run(dir, "strip grown small/out"), &["small/out", "needed"]);
    assert_unchanged(&before, &small.0);
    disk_full(run(dir, "debug make-checkpoint small/out --layers 1"), &["small/out", "needed"]);
    assert_unchanged(&before, &small.0);
    // A small file where nothing fits.
    fs::write(small.0.join("ballast"), vec![1; 590 << 10]).unwrap_or_default();
    let before = tree(&small.0);
    disk_full(run(dir, &format!("debug logits m --ids {} --out small/l", ids.display())), &["small/l"]);
    assert_unchanged(&before, &small.0);
    disk_full(run(dir, "pretrain --config grow.toml --run small/run"), &["small/run"]);
    assert_unchanged(&before, &small.0);
    fs::remove_file(small.0.join("ballast")).unwrap();
    // In the middle of a run: checkpoints that were whole stay, and with room again the run goes on.
    let recipe = "pretrain --config grow.toml --run small/run --set train.checkpoint-every=2 --set train.keep-checkpoints=99";
    let ran = run(dir, recipe);
    disk_full(ran, &["small/run"]);
    let left: Vec<_> = tree(&small.0.join("run/checkpoints")).into_keys().collect();
    assert!(!left.is_empty() && left.iter().all(|n| !n.to_string_lossy().contains("partial")), "{left:?}");
    let more = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&small.0).status().unwrap();
    assert!(more.success());
    run(dir, "pretrain --resume --run small/run").ok();
    run(dir, "pretrain --config grow.toml --run whole --set train.checkpoint-every=2 --set train.keep-checkpoints=99").ok();
    assert_eq!(common::curve(&small.0.join("run")), common::curve(&dir.join("whole")));
    assert!(common::outcome(&small.0.join("run")) == common::outcome(&dir.join("whole")));
}

#[test]
fn ctrl_c_while_expanding() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let shape = "--layers 12 --hidden 512 --intermediate 1536 --vocab 2000";
    run(dir, &format!("debug make-checkpoint big {shape}")).ok();
    run(dir, "expand big whole --blocks 12").ok();
    let whole = tree(&dir.join("whole"));
    let before = tree(dir);
    let mut stopped = 0;
    for (i, signal) in ["INT", "KILL", "TERM"].iter().cycle().take(12).enumerate() {
        let mut child = program(dir)
            .args(["expand", "big", "out", "--blocks", "12", "--threads", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // From the moment that something lies there, more and more of it.
        while !dir.join(".out.partial").exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(3 * (i as u64 / 3)));
        let line = format!("kill -{signal} {} 2>/dev/null", child.id());
        let _ = Command::new("sh").args(["-c", &line]).status();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => {
                assert!(tree(&dir.join("out")) == whole, "finished, and not whole");
                fs::remove_dir_all(dir.join("out")).unwrap();
            }
            Some(code) => {
                assert!(code == 2 && said.lines().count() == 1, "{code}: {said}");
                assert!(said.starts_with("error: ") && said.contains("out was stopped"), "{said}");
                stopped += 1;
            }
            None => {
                // SIGKILL cannot be heard: the next run takes up what lies there, and its result is whole.
                assert_eq!(*signal, "KILL", "{said}");
                assert!(!dir.join("out").exists());
                run(dir, "expand big out --blocks 12").ok();
                assert!(tree(&dir.join("out")) == whole, "taken up after a kill, and not the same");
                fs::remove_dir_all(dir.join("out")).unwrap();
                stopped += 1;
            }
        }
        assert_unchanged(&before, dir);
    }
    println!("stopped {stopped} of 12");
    assert!(stopped >= 3, "stopped only {stopped} of 12: this is no test");
}
