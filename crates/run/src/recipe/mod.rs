//! Recipes: TOML files with overrides, read into a struct whose errors a person can act on.
//!
//! The files of an `extends` chain and the overrides are laid end to end in one imaginary text (a
//! [`SourceMap`]), and every key and value keeps its place in it through merging and overriding. So the
//! parser's own positions lead back to `FILE:LINE:COLUMN` or to the override that is at fault, and serde
//! sees only the result.

mod chain;
mod message;
mod overrides;
mod source;

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use crate::{Error, Result};
use source::SourceMap;

/// Reads the recipe `text` of the file `path`, with overrides of the form `a.b=v`.
///
/// The right side of an override is a TOML value; what is not TOML is taken as a string. Elements of an
/// array are named by their number or by their `name` key: `data.source.code.weight=0.3`. Later overrides
/// win. A top-level `extends = "other.toml"`, relative to the folder of the file that says it, lays this
/// recipe over another: tables are merged key by key, everything else is replaced.
///
/// Returns the recipe and, as a table, what it was read from: the merged files with the overrides applied,
/// without `extends`. Loading that table again gives the same recipe.
///
/// # Errors
/// [`Error::Recipe`], one line with the place and the key: text that is not TOML, an unknown key (with the
/// nearest known one), a missing key, a wrong type, an override that cannot be applied, a loop of
/// `extends`. [`Error::Io`] when a file of the chain cannot be read.
pub fn load_recipe<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    overrides: &[String],
) -> Result<(T, toml::Table)> {
    let files = chain::collect(path, text)?;
    let mut sources = SourceMap::default();
    let mut root = chain::merge(&mut sources, &files)?;
    for assignment in overrides {
        overrides::apply(&mut sources, root.get_mut(), assignment)?;
    }
    Ok((read(&sources, &root)?, read(&sources, &root)?))
}

fn read<T: DeserializeOwned>(sources: &SourceMap<'_>, root: &Spanned<DeTable<'_>>) -> Result<T> {
    T::deserialize(Deserializer::from(root.clone())).map_err(|error| {
        let (span, message) = message::explain(root, &error);
        Error::Recipe { place: sources.place(span), message }
    })
}
