//! `extends`: one recipe laid over another.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::{SourceMap, line_and_column, shift_table};
use crate::{Error, Result};

const EXTENDS: &str = "extends";

/// One file of a chain.
pub(super) struct Source {
    path: PathBuf,
    text: String,
}

/// The recipe and the files it extends, the deepest base first.
pub(super) fn collect(path: &Path, text: &str) -> Result<Vec<Source>> {
    let mut files = vec![Source { path: path.to_path_buf(), text: text.to_owned() }];
    let mut seen = vec![identity(path)];
    while let Some(base) = files.last().map(base_of).transpose()?.flatten() {
        let id = identity(&base.path);
        if seen.contains(&id) {
            let mut names: Vec<_> = files.iter().map(|f| f.path.display().to_string()).collect();
            names.push(base.path.display().to_string());
            let message = format!("`{EXTENDS}` goes round in a circle: {}", names.join(" extends "));
            return Err(Error::Recipe { place: base.said_at, message });
        }
        seen.push(id);
        let text = std::fs::read_to_string(&base.path).map_err(|e| Error::Recipe {
            place: base.said_at,
            message: format!("`{EXTENDS}`: cannot read {}: {e}", base.path.display()),
        })?;
        files.push(Source { path: base.path, text });
    }
    files.reverse();
    Ok(files)
}

/// Parses the files and lays each over those before it.
pub(super) fn merge<'i>(sources: &mut SourceMap<'i>, files: &'i [Source]) -> Result<Spanned<DeTable<'i>>> {
    let mut merged = Spanned::new(0..0, DeTable::new());
    for file in files {
        let start = sources.file(&file.path, &file.text);
        let top = parse(file)?;
        let span = top.span();
        let mut top = shift_table(top.into_inner(), start);
        top.remove(EXTENDS);
        let mut table = merged.into_inner();
        lay_over(&mut table, top);
        merged = Spanned::new(span.start + start..span.end + start, table);
    }
    Ok(merged)
}

fn lay_over<'i>(base: &mut DeTable<'i>, top: DeTable<'i>) {
    for (key, value) in top {
        // The key is replaced along with the value, so that errors point into the file that was asked for.
        let below = base.remove_entry(key.get_ref().as_ref()).map(|(_, v)| v.into_inner());
        let span = value.span();
        let value = match (below, value.into_inner()) {
            (Some(DeValue::Table(mut below)), DeValue::Table(above)) => {
                lay_over(&mut below, above);
                DeValue::Table(below)
            }
            (_, above) => above,
        };
        base.insert(key, Spanned::new(span, value));
    }
}

struct Base {
    path: PathBuf,
    said_at: String,
}

fn base_of(file: &Source) -> Result<Option<Base>> {
    let table = parse(file)?;
    let Some(value) = table.get_ref().get(EXTENDS) else { return Ok(None) };
    let said_at = place(file, value.span().start);
    match value.get_ref().as_str() {
        Some(name) => Ok(Some(Base { path: crate::atomic::folder_of(&file.path).join(name), said_at })),
        None => Err(Error::Recipe {
            place: said_at,
            message: format!(
                "`{EXTENDS}`: expected the path of a recipe, found a value of type {}",
                value.get_ref().type_str()
            ),
        }),
    }
}

fn parse(file: &Source) -> Result<Spanned<DeTable<'_>>> {
    DeTable::parse(&file.text).map_err(|e| Error::Recipe {
        place: e.span().map_or_else(|| file.path.display().to_string(), |s| place(file, s.start)),
        message: format!("not TOML: {}", super::message::one_line(e.message())),
    })
}

fn place(file: &Source, at: usize) -> String {
    format!("{}:{}", file.path.display(), line_and_column(&file.text, at))
}

/// What two paths of one file have in common. The first file need not exist: its text was handed in.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}
