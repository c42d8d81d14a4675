//! Model folders that are broken in one way each, and the words that must say so.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{copy, edit_json, fixture, open_tensors, write_tensors};

/// One broken folder.
pub(crate) struct Broken {
    /// The fixture that is broken.
    fixture: &'static str,
    /// What the one line must say.
    pub(crate) words: Vec<String>,
    break_it: Box<dyn Fn(&Path)>,
    /// Who can see it.
    pub(crate) level: Level,
}

/// How much of a folder must be understood to see that it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Its files: every command looks at these first.
    Files,
    /// The number of blocks.
    Depth,
    /// Everything: the tensors are sound, but no model.
    Model,
    /// Nothing, but a feature is asked for that is not computed.
    Feature,
}

impl Broken {
    /// A working folder with the broken model as `m`.
    pub(crate) fn place(&self) -> tempfile::TempDir {
        let dir = place(self.fixture);
        (self.break_it)(&dir.path().join("m"));
        dir
    }

    /// The words as the checks take them.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }
}

/// A working folder with the fixture as `m`.
pub(crate) fn place(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(name), &dir.path().join("m"));
    dir
}

#[derive(Default)]
struct List(Vec<Broken>);

impl List {
    fn every(&mut self, fixture: &'static str, words: &[&str], break_it: impl Fn(&Path) + 'static) {
        let words = words.iter().map(|&w| w.to_owned()).collect();
        self.0.push(Broken { fixture, words, break_it: Box::new(break_it), level: Level::Files });
    }

    fn depth(&mut self, fixture: &'static str, words: &[&str], break_it: impl Fn(&Path) + 'static) {
        self.every(fixture, words, break_it);
        self.0.last_mut().unwrap().level = Level::Depth;
    }

    /// A sound folder with a feature that is not computed: it can be looked at and grown, not run.
    fn feature(&mut self, fixture: &'static str, words: &[&str], break_it: impl Fn(&Path) + 'static) {
        self.every(fixture, words, break_it);
        self.0.last_mut().unwrap().level = Level::Feature;
    }

    fn computing(&mut self, fixture: &'static str, words: &[&str], break_it: impl Fn(&Path) + 'static) {
        self.every(fixture, words, break_it);
        self.0.last_mut().unwrap().level = Level::Model;
    }
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

/// Every way.
pub(crate) fn folders() -> Vec<Broken> {
    let mut all = List::default();
    not_models(&mut all);
    configurations(&mut all);
    impossible(&mut all);
    weights(&mut all);
    shards(&mut all);
    all.0
}

fn not_models(all: &mut List) {
    all.every("llama2", &["m is not there"], |m| fs::remove_dir_all(m).unwrap());
    all.every("llama2", &["m is not a folder"], |m| {
        fs::remove_dir_all(m).unwrap();
        fs::write(m, "text").unwrap();
    });
    all.every("llama2", &["m/config.json is not there"], |m| fs::remove_file(m.join("config.json")).unwrap());
    all.every("llama2", &["m: no model.safetensors and no model.safetensors.index.json"], |m| {
        fs::remove_file(m.join("model.safetensors")).unwrap();
    });
    all.every("llama2", &["m/pytorch_model.bin is a pickle file", "save_pretrained"], |m| {
        fs::rename(m.join("model.safetensors"), m.join("pytorch_model.bin")).unwrap();
    });
}

fn configurations(all: &mut List) {
    all.every("llama2", &["m/config.json: line", "cut short"], |m| {
        let text = fs::read(m.join("config.json")).unwrap();
        fs::write(m.join("config.json"), &text[..text.len() / 2]).unwrap();
    });
    all.every("llama2", &["m/config.json", "\"hidden_size\" stands twice"], |m| {
        let text = fs::read_to_string(m.join("config.json")).unwrap();
        fs::write(m.join("config.json"), text.replacen('{', "{\"hidden_size\": 64,", 1)).unwrap();
    });
    all.every("llama2", &["m/config.json", "expected an object"], |m| {
        fs::write(m.join("config.json"), "[1]").unwrap();
    });
}

fn impossible(all: &mut List) {
    let blocks = |value: Value| move |m: &Path| config(m, "num_hidden_layers", value.clone());
    for (value, found) in [(json!(0), "found 0"), (json!(-3), "found -3"), (json!("four"), "found \"four\"")]
    {
        all.depth(
            "llama2",
            &["m/config.json: num_hidden_layers: expected a whole number", found],
            blocks(value),
        );
    }
    all.depth("llama2", &["m/config.json: num_hidden_layers: ", "key"], move |m| {
        edit_json(&m.join("config.json"), |map| {
            map.remove("num_hidden_layers");
        });
    });
    // Blocks that are there and not in the configuration, and the other way round.
    all.computing("llama2", &["model.layers.3.", "config.json does not demand it"], blocks(json!(3)));
    all.computing("llama2", &["model.layers.4.", "is missing, but config.json demands it"], blocks(json!(5)));
    all.feature("llama2", &["m/config.json: final_logit_softcapping: ", "not supported (found 30.0)"], |m| {
        config(m, "final_logit_softcapping", json!(30.0))
    });
    let keys: [(&str, Value, &str); 8] = [
        ("hidden_size", json!(-1), "expected a whole number from 1 to 2147483647, found -1"),
        ("hidden_size", json!(1e300), "expected a whole number"),
        ("vocab_size", json!(0), "found 0"),
        ("num_attention_heads", json!("many"), "found \"many\""),
        ("num_key_value_heads", json!(3), "3 does not divide num_attention_heads 4"),
        ("rms_norm_eps", json!(-1e-5), "expected a number"),
        ("max_position_embeddings", json!([1]), "found [1]"),
        ("tie_word_embeddings", json!("yes"), "expected true or false, found \"yes\""),
    ];
    for (key, value, found) in keys {
        all.computing("llama2", &[&format!("m/config.json: {key}: "), found], move |m| {
            config(m, key, value.clone())
        });
    }
    for key in ["hidden_size", "vocab_size", "num_attention_heads", "intermediate_size"] {
        all.computing("llama2", &[&format!("m/config.json: {key}: the key is missing")], move |m| {
            edit_json(&m.join("config.json"), |map| {
                map.remove(key);
            });
        });
    }
}

fn weights(all: &mut List) {
    let file = "m/model.safetensors";
    all.every("llama2", &[file, "truncated"], move |m| {
        let bytes = fs::read(m.join("model.safetensors")).unwrap();
        fs::write(m.join("model.safetensors"), &bytes[..bytes.len() - 1000]).unwrap();
    });
    all.every("llama2", &[file], move |m| fs::write(m.join("model.safetensors"), [1, 2, 3]).unwrap());
    for length in [1 << 63, u64::MAX, 1 << 40] {
        all.every("llama2", &[file, "header", &length.to_string()], move |m| {
            let mut bytes = fs::read(m.join("model.safetensors")).unwrap();
            bytes[..8].copy_from_slice(&u64::to_le_bytes(length));
            fs::write(m.join("model.safetensors"), bytes).unwrap();
        });
    }
    let norm = "\"model.norm.weight\"";
    let second = "\"model.layers.0.input_layernorm.weight\"";
    all.every("llama2", &[file, "its bytes", "overlaps"], move |m| {
        header(m, |h| {
            // 256 bytes earlier: where the tensor before it ends.
            let at = h["model.layers.0.input_layernorm.weight"]["data_offsets"][0].as_u64().unwrap();
            h["model.layers.0.input_layernorm.weight"]["data_offsets"] = json!([at - 256, at]);
        });
    });
    all.every("llama2", &[file, norm, "shape [65] of F32 takes 260 bytes, but it has 256"], move |m| {
        header(m, |h| h["model.norm.weight"]["shape"] = json!([65]));
    });
    all.every("llama2", &[file, norm, "unknown dtype \"F33\""], move |m| {
        header(m, |h| h["model.norm.weight"]["dtype"] = json!("F33"));
    });
    all.every("llama2", &[file, norm, "no countable number of bytes"], move |m| {
        header(m, |h| h["model.norm.weight"]["shape"] = json!([u32::MAX, u32::MAX, u32::MAX]));
    });
    all.every("llama2", &[file, "\"model.norm.weight\" stands twice"], move |m| {
        let (header, data) = open_tensors(&m.join("model.safetensors"));
        let text = Value::Object(header.clone()).to_string();
        let again = format!("{{\"model.norm.weight\":{},", header["model.norm.weight"]);
        write_tensors(&m.join("model.safetensors"), &text.replacen('{', &again, 1), &data);
    });
    all.every("llama2", &[file, "header"], move |m| {
        let (_, data) = open_tensors(&m.join("model.safetensors"));
        write_tensors(&m.join("model.safetensors"), "{\"a\":", &data);
    });
    // Sound files that are not this model.
    all.computing("llama2", &[file, norm, "has dtype I32, expected F32, BF16 or F16"], move |m| {
        header(m, |h| h["model.norm.weight"]["dtype"] = json!("I32"));
    });
    all.computing("llama2", &[file, second, "has shape [8, 8], but config.json demands [64]"], move |m| {
        header(m, |h| h["model.layers.0.input_layernorm.weight"]["shape"] = json!([8, 8]));
    });
}

fn shards(all: &mut List) {
    let shard = format!("m/{SHARD}");
    let index = format!("m/{INDEX}");
    all.every(SHARDED, &[&shard, "is not there", INDEX], move |m| fs::remove_file(m.join(SHARD)).unwrap());
    all.every(SHARDED, &[&shard, "truncated"], move |m| {
        let bytes = fs::read(m.join(SHARD)).unwrap();
        fs::write(m.join(SHARD), &bytes[..bytes.len() / 2]).unwrap();
    });
    all.every(SHARDED, &[&index, "\"model.layers.9.no.weight\"", "is not in", SHARD], move |m| {
        edit_json(&m.join(INDEX), |map| map["weight_map"]["model.layers.9.no.weight"] = json!(SHARD));
    });
    all.every(SHARDED, &[&index, "\"model.norm.weight\"", "no plain file name"], move |m| {
        edit_json(&m.join(INDEX), |map| map["weight_map"]["model.norm.weight"] = json!("../x.safetensors"));
    });
    all.every(SHARDED, &["\"model.norm.weight\"", "is not listed in", INDEX], move |m| {
        edit_json(&m.join(INDEX), |map| {
            map["weight_map"].as_object_mut().unwrap().remove("model.norm.weight");
        });
    });
    all.every(SHARDED, &[&index, "weight_map is missing"], move |m| {
        edit_json(&m.join(INDEX), |map| {
            map.remove("weight_map");
        });
    });
    all.every(SHARDED, &[&index, "line", "cut short"], move |m| {
        let text = fs::read(m.join(INDEX)).unwrap();
        fs::write(m.join(INDEX), &text[..text.len() / 2]).unwrap();
    });
    // One tensor in two files.
    all.every(
        SHARDED,
        &["\"model.embed_tokens.weight\"", "is also in model-00001-of-00004.safetensors"],
        move |m| {
            let (mut header, mut data) = open_tensors(&m.join(SHARD));
            let begin = data.len();
            data.extend([0; 320 * 64 * 2]);
            let entry = json!({ "dtype": "BF16", "shape": [320, 64], "data_offsets": [begin, data.len()] });
            header.insert("model.embed_tokens.weight".to_owned(), entry);
            write_tensors(&m.join(SHARD), &Value::Object(header).to_string(), &data);
        },
    );
}

/// Texts of expansion.json, each with what must be said of it, made from the record `good` of the fixture with two new
/// blocks and the record `other` of the same with one.
pub(crate) fn records(good: &str, other: &str) -> Vec<(String, Vec<&'static str>)> {
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(good).unwrap();
        edit(&mut value);
        value.to_string()
    };
    let tensor =
        |key: &str, value: Value| edited(&|v| v["tensors"]["model.norm.weight"][key] = value.clone());
    let invalid = "m/expansion.json: not a valid expansion record: ";
    let disagrees = "m/expansion.json: the record disagrees with the folder: ";
    vec![
        (good[..good.len() / 2].to_owned(), vec![invalid, "EOF"]),
        ("{}".to_owned(), vec![invalid, "format"]),
        (edited(&|v| v["format"] = json!("llama-pro-expansion/9")), vec![invalid, "llama-pro-expansion/9"]),
        (edited(&|v| v["new_blocks"] = json!([1, 5])), vec![invalid, "new_blocks"]),
        (edited(&|v| v["new_blocks"] = json!([2, 99])), vec![invalid, "new_blocks"]),
        (edited(&|v| v["generations"][0]["zeroed"] = json!([])), vec![invalid, "zero"]),
        (edited(&|v| v["surprise"] = json!(1)), vec![invalid, "surprise"]),
        (tensor("digest", json!("blake3:1234")), vec![invalid, "model.norm.weight", "is not a digest"]),
        (other.to_owned(), vec![disagrees, "config.json has 6 blocks, the record 5"]),
        (tensor("shape", json!([7])), vec![disagrees, "model.norm.weight", "F32 [64]", "F32 [7]"]),
        (tensor("dtype", json!("BF16")), vec![disagrees, "model.norm.weight", "BF16 [64]"]),
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
    ]
}
