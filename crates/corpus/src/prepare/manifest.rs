//! `<name>.json`: what the shards were made from, what became of the documents, and the digests of the files.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use llama_pro_shards::ShardInfo;
use serde::{Deserialize, Serialize};

use super::{PrepareOptions, fingerprint};
use crate::document::Counts;
use crate::error::{Error, Result};
use crate::source::SourceKind;

/// Changes whenever the same inputs give other bytes, so that old outputs are made anew.
pub(super) const FORMAT: &str = "llama-pro corpus 1";

/// The record beside two shards. No time and no absolute path of the machine is in it, unless the recipe has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// Version of the format and of the way documents are made.
    pub format: String,
    /// The source's name in the recipe.
    pub name: String,
    /// Hash over the content of the inputs, the source's keys, the options and the tokenizer.
    pub fingerprint: String,
    /// The source as the recipe has it.
    pub source: SourceKind,
    /// Digest of tokenizer.json.
    pub tokenizer: String,
    /// Largest token id + 1.
    pub vocab_size: usize,
    /// The options of the run.
    pub options: PrepareOptions,
    /// What came in and what became of it, both sides together.
    pub documents: Counts,
    /// The training shard.
    pub train: Side,
    /// The validation shard, unless the fraction is 0.
    pub validation: Option<Side>,
}

/// One shard of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Side {
    /// Documents in the shard.
    pub documents: u64,
    /// Documents of this side that a limit on tokens left out.
    pub left_out: u64,
    /// Bytes of text in the shard's documents.
    pub bytes: u64,
    /// Tokens, with BOS and EOS.
    pub tokens: u64,
    /// `bytes / tokens`.
    pub bytes_per_token: f64,
    /// The `.bin` file.
    pub bin: OutputFile,
    /// The `.idx` file.
    pub idx: OutputFile,
}

/// A file beside the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// File name.
    pub file: String,
    /// Size.
    pub bytes: u64,
    /// `blake3:` and the hash of the content.
    pub digest: String,
}

impl Side {
    pub(super) fn new(info: ShardInfo, bytes: u64, left_out: u64) -> Self {
        let stem = info.prefix.file_name().unwrap_or_default().to_string_lossy();
        Self {
            documents: info.documents,
            left_out,
            bytes,
            tokens: info.tokens,
            bytes_per_token: bytes as f64 / info.tokens.max(1) as f64,
            bin: OutputFile { file: format!("{stem}.bin"), bytes: info.bin_bytes, digest: info.bin_digest },
            idx: OutputFile { file: format!("{stem}.idx"), bytes: info.idx_bytes, digest: info.idx_digest },
        }
    }
}

impl Manifest {
    /// Puts the manifest in place, after the shards: what it names is there.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|source| Error::Json { what: "the manifest", source })?;
        text.push('\n');
        let folder = path.parent().unwrap_or(Path::new("."));
        let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
        let io = || Error::io("write", path);
        let mut file =
            tempfile::Builder::new().prefix(&prefix).suffix(".partial").tempfile_in(folder).map_err(io())?;
        file.write_all(text.as_bytes()).map_err(io())?;
        file.as_file().set_permissions(Permissions::from_mode(0o644)).map_err(io())?;
        file.as_file().sync_all().map_err(io())?;
        file.persist(path).map_err(|error| io()(error.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io())
    }

    fn files(&self) -> impl Iterator<Item = &OutputFile> {
        [Some(&self.train), self.validation.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|side| [&side.bin, &side.idx])
    }
}

/// The manifest at `path`, when it was made from the same things and its files are what it says.
pub(super) fn reusable(path: &Path, fingerprint: &str) -> Option<Manifest> {
    let bytes = std::fs::read(path).ok()?;
    let manifest: Manifest = match serde_json::from_slice(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "not a manifest of this program; made anew");
            return None;
        }
    };
    if manifest.fingerprint != fingerprint {
        tracing::info!(path = %path.display(), "inputs or parameters have changed; made anew");
        return None;
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    for file in manifest.files() {
        if !is_intact(&folder.join(&file.file), file) {
            tracing::warn!(file = file.file, "missing or changed since it was written; made anew");
            return None;
        }
    }
    Some(manifest)
}

fn is_intact(path: &Path, file: &OutputFile) -> bool {
    let right_size = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == file.bytes);
    right_size
        && fingerprint::file_digest(path).is_ok_and(|digest| {
            format!("blake3:{}", blake3::Hash::from_bytes(digest).to_hex()) == file.digest
        })
}
