//! The kinds of sources, as a recipe writes them, and where they are looked for.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cargo::CargoSource;
use crate::document::{Documents, OnError, Raw};
use crate::error::{Error, Result};
use crate::math::{self, MathSource};
use crate::prepared::PreparedSource;
use crate::readers::{
    FilesSource, JsonlSource, Listing, ParquetSource, TextSource, files, jsonl, parquet, text,
};

/// Where documents come from: `kind = "…"` in a recipe, with the keys of that kind beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SourceKind {
    /// `kind = "files"`: a folder of source files, one document each.
    Files(FilesSource),
    /// `kind = "text"`: text files, cut into documents.
    Text(TextSource),
    /// `kind = "jsonl"`: one JSON object per line, plain or compressed.
    Jsonl(JsonlSource),
    /// `kind = "parquet"`: columns of parquet files.
    Parquet(ParquetSource),
    /// `kind = "cargo-code"`: Rust code of pinned dependencies, without their doc comments.
    CargoCode(CargoSource),
    /// `kind = "cargo-prose"`: README, CHANGELOG and doc comments of pinned dependencies, without code.
    CargoProse(CargoSource),
    /// `kind = "math"`: worked problems made by a seeded generator.
    Math(MathSource),
    /// `kind = "prepared"`: token shards that `prepare` has made. For training only: it has no documents.
    Prepared(PreparedSource),
}

/// What a source may look at besides its own keys. Libraries read no environment: the program fills this in.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Relative paths of a source start here: the recipe's folder or the working folder.
    pub base_dir: PathBuf,
    /// `$CARGO_HOME`, usually `~/.cargo`; crates are looked for in its `registry/src`.
    pub cargo_home: Option<PathBuf>,
    /// Pins the crates.
    pub lockfile: Option<Lockfile>,
    /// A folder made by `cargo vendor`; looked in before `cargo_home`.
    pub vendor: Option<PathBuf>,
}

/// A Cargo.lock.
#[derive(Clone, Debug)]
pub struct Lockfile {
    /// How errors name it.
    pub path: PathBuf,
    /// What is in it.
    pub text: Cow<'static, str>,
}

impl Lockfile {
    /// From a file.
    ///
    /// # Errors
    /// Where it cannot be read as UTF-8.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Ok(Self { path: path.to_owned(), text: text.into() })
    }

    /// One that a program holds. Nothing is written for it, so that nothing of it can be left behind.
    pub fn embedded(text: &'static str) -> Self {
        Self { path: PathBuf::from("the embedded Cargo.lock"), text: text.into() }
    }
}

impl Environment {
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.base_dir.join(path)
    }
}

/// The documents of a source, in the same order on every machine.
///
/// # Errors
/// At once for a key with an impossible value, a folder, file or crate that is not there; later, in the stream,
/// for a file that cannot be read or is damaged.
pub fn documents(source: &SourceKind, environment: &Environment) -> Result<Documents> {
    source.check()?;
    let inputs = source.inputs(environment, OnError::Stop)?;
    Ok(Documents::new(source.open(&inputs, OnError::Stop)?))
}

impl SourceKind {
    /// The files that this source reads. A generated source has none.
    pub(crate) fn inputs(&self, environment: &Environment, on_error: OnError) -> Result<Listing> {
        match self {
            Self::Files(source) => source.list(environment, on_error),
            Self::Text(source) => source.list(environment, on_error),
            Self::Jsonl(source) => source.list(environment, on_error),
            Self::Parquet(source) => source.list(environment, on_error),
            Self::CargoCode(source) => source.list_code(environment),
            Self::CargoProse(source) => source.list_prose(environment),
            Self::Math(source) => Ok(Listing::none(format!("the math generator (seed {})", source.seed))),
            Self::Prepared(_) => Err(not_documents()),
        }
    }

    /// Reads the files of `inputs`; the order of documents is the order of the listing.
    pub(crate) fn open(&self, inputs: &Listing, on_error: OnError) -> Result<Raw> {
        let raw = match self {
            Self::Files(source) => files::read(inputs, source.max_file_bytes, files::whole),
            Self::Text(source) => text::read(inputs, source),
            Self::Jsonl(source) => jsonl::read(inputs, source)?,
            Self::Parquet(source) => parquet::read(inputs, source)?,
            Self::CargoCode(source) => source.read_code(inputs),
            Self::CargoProse(source) => source.read_prose(inputs),
            Self::Math(source) => math::read(source, inputs),
            Self::Prepared(_) => return Err(not_documents()),
        };
        Ok(if on_error == OnError::Skip { raw.lenient(inputs.names()) } else { raw })
    }

    /// Refuses values that no file could satisfy.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Files(source) => source.check(),
            Self::Text(source) => source.check(),
            Self::Jsonl(source) => source.check(),
            Self::Parquet(source) => source.check(),
            Self::CargoCode(source) | Self::CargoProse(source) => source.check(),
            Self::Math(source) => source.check(),
            Self::Prepared(_) => Ok(()),
        }
    }

    /// Whether a file can be read without those before it: a cleaner that remembers what it has seen cannot.
    pub(crate) fn is_divisible(&self) -> bool {
        matches!(
            self,
            Self::Files(_) | Self::Text(_) | Self::Jsonl(_) | Self::Parquet(_) | Self::CargoCode(_)
        )
    }
}

fn not_documents() -> Error {
    let message =
        "\"prepared\" has tokens and no documents: it can be trained on, not read or scored as text";
    Error::Setting { key: "kind", message: message.to_owned() }
}
