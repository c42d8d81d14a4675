//! Folders of files, a small tokenizer, and short ways to read a source.

use std::path::Path;

use llama_pro_corpus::{Counts, Document, Environment, Error, SourceKind, documents};
use llama_pro_text::{Tokenizer, train_byte_bpe};

/// Writes files (relative path, content) under a new folder.
pub(crate) fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        write(dir.path(), name, content);
    }
    dir
}

pub(crate) fn write(dir: &Path, name: &str, content: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

pub(crate) fn environment(dir: &Path) -> Environment {
    Environment { base_dir: dir.to_owned(), ..Environment::default() }
}

/// A source as a recipe writes it.
pub(crate) fn source(toml: &str) -> SourceKind {
    toml::from_str(toml).unwrap()
}

/// All documents and the counts, or the first error.
pub(crate) fn read(toml: &str, dir: &Path) -> Result<(Vec<Document>, Counts), Error> {
    let mut stream = documents(&source(toml), &environment(dir))?;
    let all = stream.by_ref().collect::<Result<Vec<_>, _>>()?;
    let counts = stream.counts().clone();
    assert_eq!(counts.seen, counts.accounted());
    assert_eq!(counts.kept as usize, all.len());
    Ok((all, counts))
}

pub(crate) fn ids(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|document| document.id.as_str()).collect()
}

pub(crate) fn texts(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|document| document.text.as_str()).collect()
}

/// A byte-level tokenizer with `<s>` and `</s>`.
pub(crate) fn tokenizer(vocab_size: usize) -> Tokenizer {
    let text = "the quick brown fox jumps over the lazy dog; problem solution answer fn let ".repeat(20);
    let trained = train_byte_bpe(std::iter::once(text), vocab_size).unwrap();
    Tokenizer::from_bytes(Path::new("tokenizer.json"), &trained.tokenizer_json).unwrap()
}
