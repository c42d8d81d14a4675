//! `kind = "cargo-code"` and `"cargo-prose"`: text that every machine has which built this workspace.
//!
//! The sources of the pinned dependencies lie unpacked in cargo's registry. Their code is a code corpus; their
//! README, CHANGELOG and doc comments are general technical English. The two are disjoint: doc comments are
//! prose and are taken out of the code, fenced code is taken out of the prose. So a model can be measured on
//! one after it was trained on the other.

mod locate;
mod markdown;
mod prose;
mod rust_file;

use serde::{Deserialize, Serialize};

use crate::document::{Loss, OnError, Raw};
use crate::error::{Error, Result};
use crate::readers::{Listing, files, listing};
use crate::source::Environment;

/// Pinned dependencies whose sources are read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CargoSource {
    /// Names as in Cargo.lock; where several versions are pinned, the highest is taken unless `name@version`
    /// or `name@0.9` says otherwise.
    pub crates: Vec<String>,
    /// Larger files are dropped and counted: they are tables written by programs. Bytes; 256 KiB.
    #[serde(default = "default_max_file_bytes")]
    pub max_file_bytes: u64,
}

const fn default_max_file_bytes() -> u64 {
    256 << 10
}

impl CargoSource {
    pub(crate) fn check(&self) -> Result<()> {
        if self.crates.is_empty() {
            return Err(Error::Setting {
                key: "crates",
                message: "expected at least one crate of Cargo.lock, found none".to_owned(),
            });
        }
        Ok(())
    }

    pub(crate) fn list_code(&self, environment: &Environment) -> Result<Listing> {
        self.list(environment, rust_file::is_rust)
    }

    pub(crate) fn list_prose(&self, environment: &Environment) -> Result<Listing> {
        self.list(environment, |id| rust_file::is_rust(id) || prose::is_prose_file(id))
    }

    fn list(&self, environment: &Environment, wanted: impl Fn(&str) -> bool) -> Result<Listing> {
        let mut files = Vec::new();
        for located in locate::crates(&self.crates, environment)? {
            // A package's .gitignore tells what its author does not commit, not what was published.
            let label = format!("{}/", located.label);
            files.extend(listing::walk(&located.folder, &label, false, OnError::Stop, |_, id| wanted(id))?);
        }
        let mut listing = Listing { place: format!("the crates {}", self.crates.join(", ")), files };
        listing.drop_larger_than(self.max_file_bytes);
        Ok(listing)
    }

    pub(crate) fn read_code(&self, inputs: &Listing) -> Raw {
        files::read(inputs, self.max_file_bytes, |_, text| {
            if rust_file::is_generated(text) {
                return Err(Loss::Generated);
            }
            let code = rust_file::split(text).code;
            if code.len() < MIN_CODE_BYTES { Err(Loss::TooShort) } else { Ok(code) }
        })
    }

    pub(crate) fn read_prose(&self, inputs: &Listing) -> Raw {
        let mut cleaner = prose::Cleaner::default();
        files::read(inputs, self.max_file_bytes, move |id, text| cleaner.document(id, text))
    }
}

/// What is left of a file of module declarations teaches nothing.
const MIN_CODE_BYTES: usize = 100;
