//! Reading folders: the fixtures against the safetensors crate, and every damaged input.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use llama_pro_checkpoint::{Checkpoint, Dtype, Error, TensorFile, digest};
use safetensors::SafeTensors;
use support::{WITH_WEIGHTS, expect_error, fixture, folder, raw_file, refused};

#[test]
fn every_tensor_is_what_the_safetensors_crate_reads() {
    for name in WITH_WEIGHTS {
        let dir = fixture(name);
        let checkpoint = Checkpoint::open(&dir).unwrap();
        assert_eq!(checkpoint.dir(), dir);
        assert_eq!(checkpoint.metadata().get("format").map(String::as_str), Some("pt"));
        let mut seen = 0;
        for shard in checkpoint.shards() {
            let bytes = std::fs::read(shard.path()).unwrap();
            assert_eq!(shard.size(), bytes.len() as u64);
            assert_eq!(shard.path(), dir.join(shard.name()));
            for (tensor, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
                let info = checkpoint.info(&tensor).unwrap();
                assert_eq!((info.dtype, info.shape.as_slice()), (view.dtype(), view.shape()));
                assert_eq!(checkpoint.bytes(&tensor).unwrap(), view.data());
                let (map, range) = checkpoint.mapped(&tensor).unwrap();
                assert_eq!(range, info.offset as usize..(info.offset + info.len) as usize);
                assert_eq!(&map[range], view.data());
                seen += 1;
            }
        }
        assert_eq!(checkpoint.names().count(), seen);
    }
    let file = TensorFile::open(&fixture("llama2/expected.safetensors")).unwrap();
    let bytes = std::fs::read(fixture("llama2/expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names().count(), expected.len());
    for name in file.names() {
        assert_eq!(file.bytes(name).unwrap(), expected.tensor(name).unwrap().data());
    }
}

#[test]
fn digests_are_blake3() {
    // The published test vector of the empty input.
    let empty = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(digest(b""), empty);
}

#[test]
fn names_that_are_not_there_are_named() {
    let checkpoint = Checkpoint::open(&fixture("llama2")).unwrap();
    expect_error(checkpoint.info("lm_head.bias"), &["llama2", "\"lm_head.bias\"", "not in this checkpoint"]);
    expect_error(checkpoint.bytes("a\nb"), &["\"a\\nb\""]);
}

const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

#[test]
fn damaged_files_are_refused() {
    let single = |header: &str, data: usize| vec![("model.safetensors", raw_file(header, &vec![1; data]))];
    assert!(Checkpoint::open(folder(&single(ONE, 8)).path()).is_ok());
    let file = "model.safetensors";
    refused(&[(file, vec![1; 7])], &[file, "7 bytes"]);
    refused(&[(file, (1u64 << 63).to_le_bytes().to_vec())], &[file, "9223372036854775808", "100000000"]);
    refused(&[(file, 100_000_001u64.to_le_bytes().to_vec())], &[file, "100000001"]);
    refused(&[(file, 5000u64.to_le_bytes().to_vec())], &[file, "5000", "truncated"]);
    refused(&single(ONE, 7), &[file, "\"a\"", "truncated", "8", "7"]);
    refused(&single(ONE, 9), &[file, "8 bytes, but 9 follow"]);
    refused(&single("not json", 0), &[file, "brace"]);
    refused(&single("{\"a\":", 0), &[file, "damaged", "line 1, column 5"]);
    refused(&single(r#"{"a":{"dtype":"F32","shape":[2]}}"#, 8), &[file, "\"a\"", "data_offsets"]);
    refused(&single(r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8), &[file, "\"a\"", "-2"]);
    refused(
        &single(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}"#, 8),
        &[file, "\"a\"", "`x`"],
    );
    refused(&single(r#"{"a":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]}}"#, 8), &[file, "\"a\"", "Q4"]);
    refused(
        &single(r#"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#, 2),
        &[file, "\"a\"", "F4", "[3]"],
    );
    refused(
        &single(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
        &[file, "\"a\"", "12 bytes", "has 8"],
    );
    refused(
        &single(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
        &[file, "\"a\"", "8..0"],
    );
    // The product wraps to 4 in 64 bits (an example of the safetensors audit).
    let wraps = r#"{"a":{"dtype":"F32","shape":[4194305,4194305,211106198978564],"data_offsets":[0,16]}}"#;
    refused(&single(wraps, 16), &[file, "\"a\"", "no countable"]);
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{a}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{b}}}}}"#
        )
    };
    refused(&single(&two("[0,4]", "[2,6]"), 6), &[file, "\"b\"", "overlaps", "\"a\""]);
    refused(&single(&two("[0,4]", "[0,4]"), 4), &[file, "\"b\"", "overlaps"]);
    refused(&single(&two("[0,4]", "[6,10]"), 10), &[file, "\"b\"", "gap"]);
    refused(&single(&two("[1,5]", "[5,9]"), 9), &[file, "\"a\"", "gap"]);
    refused(&single(&two("[0,4]", "[4,8]").replace("\"b\"", "\"a\""), 8), &[file, "\"a\"", "twice"]);
    refused(&single(r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0), &[file, "\"a\"", "twice", "__metadata__"]);
    refused(&single(r#"{"__metadata__":{"a":1}}"#, 0), &[file, "string"]);
    let mut bad = raw_file(ONE, &[1; 8]);
    bad[10] = 0xff;
    refused(&[(file, bad)], &[file, "UTF-8"]);
    let dir = folder(&[]);
    std::fs::create_dir(dir.path().join(file)).unwrap();
    expect_error(Checkpoint::open(dir.path()), &[file, "regular file"]);
}

fn index(entries: &[(&str, &str)]) -> (&'static str, Vec<u8>) {
    let map: BTreeMap<_, _> = entries.iter().copied().collect();
    let text = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    ("model.safetensors.index.json", text.into_bytes())
}

#[test]
fn an_index_that_disagrees_with_its_shards_is_refused() {
    let (one, two) = ("one.safetensors", "two.safetensors");
    let a = raw_file(ONE, &[1; 8]);
    let b = raw_file(&ONE.replace("\"a\"", "\"b\""), &[2; 8]);
    let good = [index(&[("a", one), ("b", two)]), (one, a.clone()), (two, b.clone())];
    let dir = folder(&good);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.bytes("b").unwrap(), [2; 8]);
    assert_eq!(checkpoint.info("b").unwrap().shard, 1);

    let name = "model.safetensors.index.json";
    refused(&good[..2], &[two, "not there", name]);
    refused(&[good[0].clone(), (one, a.clone()), (two, b[..b.len() - 1].to_vec())], &[two, "truncated"]);
    refused(
        &[index(&[("a", one), ("b", two), ("c", two)]), good[1].clone(), good[2].clone()],
        &[name, "\"c\"", "is not in two.safetensors"],
    );
    refused(
        &[index(&[("a", two), ("b", one)]), good[1].clone(), good[2].clone()],
        &[name, "\"a\"", "is in one.safetensors, not in two.safetensors"],
    );
    let both = raw_file(
        r#"{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"c":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
        &[0; 2],
    );
    refused(&[good[0].clone(), good[1].clone(), (two, both)], &[two, "\"c\"", "not listed"]);
    refused(
        &[good[0].clone(), good[1].clone(), (two, a.clone())],
        &[two, "\"a\"", "also in one.safetensors"],
    );

    for path in
        ["../one.safetensors", "/etc/one.safetensors", "x/one.safetensors", "..", "", "c:\\one.safetensors"]
    {
        refused(&[index(&[("a", path)])], &[name, "\"a\"", "no plain file name"]);
    }
    refused(&[index(&[("a", "pytorch_model.bin")])], &[name, "\"a\"", "pytorch_model.bin", ".safetensors"]);
    let text = |text: &str| vec![(name, text.as_bytes().to_vec())];
    refused(&text("{\"weight_map\": {\"a\": \"x"), &[name, "line 1", "cut short"]);
    refused(&text("{\"metadata\": {}}"), &[name, "weight_map"]);
    refused(&text("{\"weight_map\": {}}"), &[name, "no tensor"]);
    refused(&text("{\"weight_map\": [1]}"), &[name, "a list"]);
    refused(&text("{\"weight_map\": {\"a\": 1}}"), &[name, "\"a\"", "found 1"]);
    refused(
        &text("{\"weight_map\": {\"a\": \"one.safetensors\", \"a\": \"two.safetensors\"}}"),
        &[name, "\"a\"", "twice"],
    );
}

#[test]
fn the_single_file_is_preferred_as_in_transformers() {
    let dir = folder(&[("model.safetensors", raw_file(ONE, &[1; 8])), index(&[("z", "gone.safetensors")])]);
    assert_eq!(Checkpoint::open(dir.path()).unwrap().names().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn folders_without_safetensors_say_what_is_there() {
    refused(&[], &["no model.safetensors"]);
    refused(&[("adapter_model.safetensors", vec![])], &["no model.safetensors", "adapter_model.safetensors"]);
    for name in ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth", "model.pt"] {
        let dir = folder(&[(name, vec![1])]);
        let parts = [name, "pickle", "any code", "save_pretrained", dir.path().to_str().unwrap()];
        let error = expect_error(Checkpoint::open(dir.path()), &parts);
        assert!(matches!(error, Error::Pickle { .. }));
    }
    expect_error(Checkpoint::open(Path::new("/nowhere/at/all")), &["/nowhere/at/all is not there"]);
    expect_error(Checkpoint::open(&fixture("llama2/config.json")), &["config.json is not a folder"]);
    let dir = folder(&[]);
    std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
    std::os::unix::fs::symlink("loop", dir.path().join("model.safetensors")).unwrap();
    expect_error(Checkpoint::open(dir.path()), &["model.safetensors"]);
}

#[test]
fn every_dtype_is_kept() {
    use Dtype::*;
    let all = [
        BOOL,
        F4,
        F6_E2M3,
        F6_E3M2,
        U8,
        I8,
        F8_E5M2,
        F8_E4M3,
        F8_E8M0,
        F8_E4M3FNUZ,
        F8_E5M2FNUZ,
        I16,
        U16,
        F16,
        BF16,
        I32,
        U32,
        F32,
        C64,
        F64,
        I64,
        U64,
    ];
    for dtype in all {
        let len = dtype.bitsize();
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[2,4],"data_offsets":[0,{len}]}}}}"#);
        let data: Vec<u8> = (0..len as u8).collect();
        let dir = folder(&[("model.safetensors", raw_file(&header, &data))]);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.info("a").unwrap().dtype, dtype);
        assert_eq!(checkpoint.bytes("a").unwrap(), data);
    }
}

#[test]
fn empty_tensors_and_scalars_are_read() {
    let header = r#"{"e":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]},"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"f":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}"#;
    let dir = folder(&[("model.safetensors", raw_file(header, &[1, 2, 3, 4]))]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.bytes("e").unwrap(), b"");
    assert_eq!(checkpoint.bytes("s").unwrap(), [1, 2, 3, 4]);
}

/// Weights against the configuration: the fixture with one thing changed in its header at a time.
#[test]
fn tensors_that_the_configuration_does_not_demand_are_refused() {
    let text = |dtype: &str, head: &str, extra: &str| {
        // A model of one layer, two wide, whose head and extras are given.
        let mut at = 0;
        let mut out = Vec::new();
        let mut add = |name: &str, shape: &str, elements: usize, dtype: &str| {
            let len = elements * if dtype == "F32" { 4 } else { 8 };
            out.push(format!(
                r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{at},{}]}}"#,
                at + len
            ));
            at += len;
        };
        add("model.embed_tokens.weight", "[2,2]", 4, "F32");
        for name in [
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        ] {
            add(&format!("model.layers.0.{name}.weight"), "[2,2]", 4, dtype);
        }
        add("model.layers.0.input_layernorm.weight", "[2]", 2, "F32");
        add("model.layers.0.post_attention_layernorm.weight", "[2]", 2, "F32");
        add("model.norm.weight", "[2]", 2, "F32");
        if !head.is_empty() {
            add("lm_head.weight", head, 4, "F32");
        }
        if !extra.is_empty() {
            add(extra, "[1]", 1, "F32");
        }
        (format!("{{{}}}", out.join(",")), at)
    };
    let check = |dtype: &str, head: &str, extra: &str, tied: bool, head_byte: u8| {
        let (header, len) = text(dtype, head, extra);
        let mut data = vec![0; len];
        if !head.is_empty() {
            let end = len - if extra.is_empty() { 0 } else { 4 };
            data[end - 1] = head_byte;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("model.safetensors"), raw_file(&header, &data)).unwrap();
        let config = serde_json::json!({"model_type": "llama", "hidden_size": 2, "intermediate_size": 2,
            "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 2, "tie_word_embeddings": tied});
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        checkpoint.check_parameters(&checkpoint.config().llama().unwrap())
    };
    check("F32", "[2,2]", "", false, 0).unwrap();
    check("F32", "", "", true, 0).unwrap();
    check("F32", "[2,2]", "", true, 0).unwrap();
    check("F32", "[2,2]", "model.layers.0.self_attn.rotary_emb.inv_freq", false, 0).unwrap();
    expect_error(check("F32", "[2,2]", "", true, 9), &["lm_head.weight", "differs", "tie_word_embeddings"]);
    expect_error(check("F32", "", "", false, 0), &["lm_head.weight", "missing"]);
    expect_error(check("F32", "[4,1]", "", false, 0), &["lm_head.weight", "[4, 1]", "[2, 2]"]);
    expect_error(check("I64", "[2,2]", "", false, 0), &["I64", "F32, BF16 or F16"]);
    let stray = "model.layers.1.mlp.up_proj.weight";
    expect_error(check("F32", "[2,2]", stray, false, 0), &["model.safetensors", stray, "does not demand"]);
}
