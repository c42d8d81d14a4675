//! The kinds of sources, as a recipe writes them, and where they are looked for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cargo::CargoSource;
use crate::document::Documents;
use crate::error::Result;
use crate::math::{self, MathSource};
use crate::readers::{FilesSource, JsonlSource, Listing, TextSource, files, jsonl, text};

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
    /// `kind = "cargo-code"`: Rust code of pinned dependencies, without their doc comments.
    CargoCode(CargoSource),
    /// `kind = "cargo-prose"`: README, CHANGELOG and doc comments of pinned dependencies, without code.
    CargoProse(CargoSource),
    /// `kind = "math"`: worked problems made by a seeded generator.
    Math(MathSource),
}

/// What a source may look at besides its own keys. Libraries read no environment: the program fills this in.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Relative paths of a source start here: the recipe's folder or the working folder.
    pub base_dir: PathBuf,
    /// `$CARGO_HOME`, usually `~/.cargo`; crates are looked for in its `registry/src`.
    pub cargo_home: Option<PathBuf>,
    /// The Cargo.lock that pins the crates.
    pub lockfile: Option<PathBuf>,
    /// A folder made by `cargo vendor`; looked in before `cargo_home`.
    pub vendor: Option<PathBuf>,
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
    let inputs = source.inputs(environment)?;
    source.read(&inputs)
}

impl SourceKind {
    /// The files that this source reads. A generated source has none.
    pub(crate) fn inputs(&self, environment: &Environment) -> Result<Listing> {
        match self {
            Self::Files(source) => source.list(environment),
            Self::Text(source) => source.list(environment),
            Self::Jsonl(source) => source.list(environment),
            Self::CargoCode(source) => source.list_code(environment),
            Self::CargoProse(source) => source.list_prose(environment),
            Self::Math(source) => Ok(Listing::none(format!("the math generator (seed {})", source.seed))),
        }
    }

    /// Reads the files of `inputs`; the order of documents is the order of the listing.
    pub(crate) fn read(&self, inputs: &Listing) -> Result<Documents> {
        Ok(match self {
            Self::Files(source) => files::read(inputs, source.max_file_bytes, files::whole),
            Self::Text(source) => text::read(inputs, source),
            Self::Jsonl(source) => jsonl::read(inputs, source)?,
            Self::CargoCode(source) => source.read_code(inputs),
            Self::CargoProse(source) => source.read_prose(inputs),
            Self::Math(source) => math::read(source, inputs),
        })
    }

    /// Refuses values that no file could satisfy.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Files(source) => source.check(),
            Self::Text(source) => source.check(),
            Self::Jsonl(source) => source.check(),
            Self::CargoCode(source) | Self::CargoProse(source) => source.check(),
            Self::Math(source) => source.check(),
        }
    }
}
