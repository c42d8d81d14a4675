//! Writing folders: round trips, determinism, alignment, side files, and plans that are refused.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

use llama_pro_checkpoint::{
    Checkpoint, Dtype, FolderWriter, Source, Tensor, TensorFile, WriteOptions, digest, write_tensor_file,
};
use safetensors::SafeTensors;
use support::{contents, copies, expect_error, fixture, folder, names, options, raw_file, write};

#[test]
fn copies_are_equal_and_deterministic() {
    for (name, max_shard_bytes, shards) in [
        ("llama2", u64::MAX, 1),
        ("llama3-gqa-tied-bf16-sharded", 100_000, 5),
        ("mistral-window", 300_000, 4),
    ] {
        let base = Checkpoint::open(&fixture(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let done = AtomicU64::new(0);
        let mut writer = FolderWriter::new(&one, options(max_shard_bytes)).unwrap();
        writer.config(base.config()).unwrap();
        assert_eq!(writer.carry(base.dir()).unwrap(), ["generation_config.json"]);
        writer
            .tensors(copies(&base), &|n| {
                done.fetch_add(n, Ordering::Relaxed);
            })
            .unwrap();
        let written = writer.finish().unwrap();
        assert_eq!(done.into_inner(), base.total_bytes());
        assert_eq!(written, write(&two, options(max_shard_bytes), &base, copies(&base)).unwrap());
        assert_eq!(contents(&one), contents(&two));
        assert_eq!(names(dir.path()), ["one", "two"]);
        assert_eq!(written.bytes, contents(&one).values().map(|bytes| bytes.len() as u64).sum::<u64>());

        let copy = Checkpoint::open(&one).unwrap();
        assert_eq!(copy.shards().len(), shards, "{name}");
        assert_eq!(copy.metadata(), &BTreeMap::from([("format".to_owned(), "pt".to_owned())]));
        assert_eq!(copy.config().raw(), base.config().raw());
        assert!(copy.names().eq(base.names()));
        for tensor in base.names() {
            let (a, b) = (base.info(tensor).unwrap(), copy.info(tensor).unwrap());
            assert_eq!((a.dtype, &a.shape), (b.dtype, &b.shape));
            assert_eq!(base.bytes(tensor).unwrap(), copy.bytes(tensor).unwrap());
            assert_eq!(written.digests[tensor], digest(base.bytes(tensor).unwrap()));
        }
        for shard in copy.shards() {
            // The reference implementation reads it, and the data begins at a multiple of 64.
            let bytes = std::fs::read(shard.path()).unwrap();
            SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(shard.file().data_begin() % 64, 0);
            let data = shard.size() - shard.file().data_begin();
            assert!(data <= max_shard_bytes || shard.file().tensors().len() == 1);
        }
        for file in names(&one) {
            let mode = std::fs::metadata(one.join(&file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o644, "{file}");
        }
        if shards > 1 {
            let text = std::fs::read_to_string(one.join("model.safetensors.index.json")).unwrap();
            let index: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(index["metadata"]["total_size"], base.total_bytes());
            let files: Vec<_> =
                index["weight_map"].as_object().unwrap().values().map(|v| v.as_str().unwrap()).collect();
            assert!(files.contains(&format!("model-00001-of-{shards:05}.safetensors").as_str()));
        }
    }
}

#[test]
fn every_source_and_dtype_is_written_and_aligned() {
    use Dtype::*;
    let base = Checkpoint::open(&fixture("llama2")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Longer than one block.
    let long: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
    let mut tensors = Vec::new();
    let mut expected = BTreeMap::new();
    let dtypes = [BOOL, F4, F6_E2M3, U8, F8_E4M3, I8, BF16, F16, I16, F32, I32, U64, F64, I64, C64];
    for (at, dtype) in dtypes.into_iter().enumerate() {
        // Odd sizes, so that a careless order would leave wide elements unaligned.
        let elements = if dtype.bitsize() < 8 { 12 } else { 3 };
        let bytes: Vec<u8> = (0..dtype.bitsize() * elements / 8).map(|n| (n + at) as u8).collect();
        expected.insert(format!("t{at}"), bytes.clone());
        let source = Source::Bytes(Cow::Owned(bytes));
        tensors.push(Tensor { name: format!("t{at}"), dtype, shape: vec![elements, 1], source });
    }
    for (name, source, bytes) in [
        ("lazy", Source::Lazy(Box::new(|| long.clone())), long.clone()),
        ("zeros", Source::Zeros, vec![0; 3_000_001]),
        ("zeros again", Source::Zeros, vec![0; 3_000_001]),
        ("empty", Source::Bytes(Cow::Borrowed(&[])), vec![]),
        ("", Source::Bytes(Cow::Borrowed(&[7])), vec![7]),
        ("quote\" and \u{1F999}", Source::Bytes(Cow::Borrowed(&[8])), vec![8]),
    ] {
        tensors.push(Tensor { name: name.to_owned(), dtype: U8, shape: vec![bytes.len()], source });
        expected.insert(name.to_owned(), bytes);
    }
    for (name, from) in [("copy", "model.norm.weight"), ("same copy", "model.norm.weight")] {
        let source = Source::Copy { checkpoint: &base, name: from.to_owned() };
        tensors.push(Tensor { name: name.to_owned(), dtype: F32, shape: vec![64], source });
        expected.insert(name.to_owned(), base.bytes(from).unwrap().to_vec());
    }
    let out = dir.path().join("out");
    let written = write(&out, WriteOptions::default(), &base, tensors).unwrap();
    let copy = Checkpoint::open(&out).unwrap();
    assert!(copy.names().eq(expected.keys().map(String::as_str)));
    let bytes = std::fs::read(out.join("model.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    for (name, bytes) in &expected {
        assert_eq!(copy.bytes(name).unwrap(), bytes, "{name}");
        assert_eq!(reference.tensor(name).unwrap().data(), bytes);
        assert_eq!(written.digests[name], digest(bytes), "{name}");
        let info = copy.info(name).unwrap();
        assert_eq!(info.offset % (info.dtype.bitsize() as u64 / 8).max(1), 0, "{name} is not aligned");
    }
}

#[test]
fn a_wrong_plan_is_refused_and_leaves_nothing() {
    let base = Checkpoint::open(&fixture("llama2")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let tensor = |name: &str, shape: &[usize], source| Tensor {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        source,
    };
    let copy = |name: &str| Source::Copy { checkpoint: &base, name: name.to_owned() };
    let run = |tensors| write(&out, WriteOptions::default(), &base, tensors);
    expect_error(run(vec![]), &["out", "needs a tensor"]);
    expect_error(
        run(vec![tensor("a", &[2], Source::Zeros), tensor("a", &[2], Source::Zeros)]),
        &["\"a\"", "taken"],
    );
    expect_error(run(vec![tensor("__metadata__", &[2], Source::Zeros)]), &["__metadata__"]);
    expect_error(run(vec![tensor("a", &[2], Source::Bytes(vec![0; 7].into()))]), &["\"a\"", "8 bytes", "7"]);
    expect_error(
        run(vec![tensor("a", &[2], Source::Lazy(Box::new(|| vec![0; 9])))]),
        &["\"a\"", "8 bytes", "9"],
    );
    expect_error(run(vec![tensor("a", &[usize::MAX, 8], Source::Zeros)]), &["\"a\"", "no countable"]);
    expect_error(run(vec![tensor("a", &[32], copy("model.norm.weight"))]), &["\"a\"", "[32]", "[64]"]);
    expect_error(run(vec![tensor("a", &[32], copy("nothing"))]), &["\"nothing\"", "llama2"]);
    expect_error(
        FolderWriter::new(&dir.path().join("no/out"), WriteOptions::default()).map(|_| ()),
        &["no is not there"],
    );
    let writer = FolderWriter::new(&out, WriteOptions::default()).unwrap();
    expect_error(writer.finish(), &["config.json and tensors"]);
    let mut writer = FolderWriter::new(&out, WriteOptions::default()).unwrap();
    for name in ["../x", "a/b", "", "x.safetensors"] {
        expect_error(writer.file(name, b""), &["out"]);
    }
    drop(writer);
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn the_right_files_are_carried() {
    let from = tempfile::tempdir().unwrap();
    let base = from.path();
    for name in ["config.json", "model.safetensors", "generation_config.json"] {
        std::fs::copy(fixture("llama2").join(name), base.join(name)).unwrap();
    }
    for name in [
        "tokenizer.json",
        "tokenizer.model",
        "merges.txt",
        "LICENSE",
        "README.md",
        "chat_template.jinja",
        "expansion.json",
        "pytorch_model.bin",
        "old.safetensors",
        "pytorch_model.bin.index.json",
        "x.PT",
        ".hidden",
    ] {
        std::fs::write(base.join(name), name).unwrap();
    }
    std::fs::create_dir(base.join("original")).unwrap();
    // A hub cache is made of links to files; a link in a circle leads nowhere.
    std::fs::rename(base.join("tokenizer.model"), base.join("original/blob")).unwrap();
    std::os::unix::fs::symlink("original/blob", base.join("tokenizer.model")).unwrap();
    std::os::unix::fs::symlink("circle", base.join("circle")).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let checkpoint = Checkpoint::open(base).unwrap();
    let mut writer = FolderWriter::new(&out, WriteOptions::default()).unwrap();
    writer.config(checkpoint.config()).unwrap();
    writer.file("README.md", b"mine").unwrap();
    let carried = writer.carry(base).unwrap();
    assert_eq!(
        carried,
        [
            "LICENSE",
            "chat_template.jinja",
            "generation_config.json",
            "merges.txt",
            "tokenizer.json",
            "tokenizer.model"
        ]
    );
    writer.file("LICENSE", b"mine too").unwrap();
    writer.tensors(copies(&checkpoint), &|_| {}).unwrap();
    writer.finish().unwrap();
    let mut expected = carried;
    expected.extend(["README.md", "config.json", "model.safetensors"].map(str::to_owned));
    expected.sort();
    assert_eq!(names(&out), expected);
    assert_eq!(std::fs::read(out.join("README.md")).unwrap(), b"mine");
    assert_eq!(std::fs::read(out.join("LICENSE")).unwrap(), b"mine too");
    assert_eq!(std::fs::read(out.join("tokenizer.model")).unwrap(), b"tokenizer.model");
    assert!(!out.join("tokenizer.model").is_symlink());
}

/// Tensors without bytes begin where the next one begins, and must not be taken for it.
#[test]
fn empty_tensors_are_copied_with_their_own_digests() {
    let dir = tempfile::tempdir().unwrap();
    let header = r#"{"e":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"s":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    let from = folder(&[("model.safetensors", raw_file(header, &[5, 6]))]);
    let base = Checkpoint::open(from.path()).unwrap();
    let written = write(&dir.path().join("out"), WriteOptions::default(), &base, copies(&base)).unwrap();
    assert_eq!(written.digests["e"], digest(&[]));
    assert_eq!(written.digests["s"], digest(&[5, 6]));
}

/// Readers are shared between threads.
#[test]
fn readers_are_send_and_sync() {
    fn shared<T: Send + Sync>() {}
    shared::<Checkpoint>();
    shared::<TensorFile>();
}

#[test]
fn single_files_of_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.safetensors");
    let metadata: BTreeMap<_, _> = (0..20).map(|n| (format!("k{n}"), "v\n\"".to_owned())).collect();
    let tensors = || {
        vec![Tensor {
            name: "t".to_owned(),
            dtype: Dtype::F32,
            shape: vec![],
            source: Source::Bytes(vec![1, 2, 3, 4].into()),
        }]
    };
    write_tensor_file(&path, &metadata, tensors()).unwrap();
    let first = std::fs::read(&path).unwrap();
    write_tensor_file(&path, &metadata, tensors()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    let file = TensorFile::open(&path).unwrap();
    assert_eq!((file.bytes("t").unwrap(), file.metadata()), (&[1, 2, 3, 4][..], &metadata));
    expect_error(file.bytes("u"), &["state.safetensors", "\"u\""]);
    write_tensor_file(&path, &BTreeMap::new(), vec![]).unwrap();
    assert_eq!(TensorFile::open(&path).unwrap().names().count(), 0);
    assert_eq!(names(dir.path()), ["state.safetensors"]);
}
