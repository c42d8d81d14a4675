//! What the tests of this crate share: fixture folders, small hand-made safetensors files, error texts.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llama_pro_checkpoint::{Checkpoint, Error, FolderWriter, Result, Source, Tensor, WriteOptions, Written};

/// A fixture of the workspace.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// Every fixture folder that holds weights.
pub(crate) const WITH_WEIGHTS: &[&str] = &[
    "llama2",
    "mistral-window",
    "llama3-gqa-tied-bf16-sharded",
    "llama2-train-added/expanded",
    "llama2-train-full/expanded",
];

/// A safetensors file from the text of its header and its data, with no help from the crate under test.
pub(crate) fn raw_file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

/// A folder with the configuration of the llama2 fixture and the given files.
pub(crate) fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("llama2/config.json"), dir.path().join("config.json")).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// The error's text, which must be one line and hold every given part.
#[track_caller]
pub(crate) fn expect_error<T>(result: Result<T>, parts: &[&str]) -> Error {
    let error = match result {
        Ok(_) => panic!("no error; expected one that says {parts:?}"),
        Err(error) => error,
    };
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    error
}

/// Opens a folder that must be refused with these words.
#[track_caller]
pub(crate) fn refused(files: &[(&str, Vec<u8>)], parts: &[&str]) {
    let dir = folder(files);
    expect_error(Checkpoint::open(dir.path()), parts);
}

/// Every tensor of a checkpoint, to be copied as it is.
pub(crate) fn copies(checkpoint: &Checkpoint) -> Vec<Tensor<'_>> {
    let one = |name: &str| {
        let info = checkpoint.info(name).unwrap();
        let source = Source::Copy { checkpoint, name: name.to_owned() };
        Tensor { name: name.to_owned(), dtype: info.dtype, shape: info.shape.clone(), source }
    };
    checkpoint.names().map(one).collect()
}

/// Options with shards of this size.
pub(crate) fn options(max_shard_bytes: u64) -> WriteOptions {
    WriteOptions { max_shard_bytes, ..WriteOptions::default() }
}

/// Writes a folder with the configuration and the side files of a checkpoint.
pub(crate) fn write(
    out: &Path,
    options: WriteOptions,
    checkpoint: &Checkpoint,
    tensors: Vec<Tensor<'_>>,
) -> Result<Written> {
    let mut writer = FolderWriter::new(out, options)?;
    writer.config(checkpoint.config())?;
    writer.carry(checkpoint.dir())?;
    writer.tensors(tensors, &|_| {})?;
    writer.finish()
}

/// Every file of a folder with its bytes.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (PathBuf::from(entry.file_name()), std::fs::read(entry.path()).unwrap())
    });
    files.collect()
}

/// The names in a folder, hidden ones too, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
