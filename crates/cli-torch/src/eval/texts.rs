//! The held-out texts of the miniature as perplexity tasks: what `cargo xtask pretrain` keeps back, one document at a time.

use std::path::PathBuf;

use anyhow::{Context, Result};
use llama_pro_cli::sources::environment;
use llama_pro_corpus::{SourceKind, documents as stream, is_validation};
use llama_pro_eval::Catalog;
use llama_pro_eval::tasks::Doc;
use serde_json::Value;

use crate::recipe;

/// Documents of each text, and the bytes of the longest that is taken: enough for an error of a few per cent.
const DOCUMENTS: usize = 48;
const BYTES: std::ops::RangeInclusive<usize> = 256..=16 << 10;

/// Task names, and the texts of the recipe that they score.
const TASKS: [(&str, &str); 3] =
    [("miniature_prose", "prose"), ("miniature_code", "code"), ("miniature_math", "math")];

/// Adds the tasks.
pub(crate) fn add_tasks(catalog: &mut Catalog) -> Result<()> {
    for (task, _) in TASKS {
        let text = format!(
            "task = \"{task}\"\nversion = 1.0\noutput_type = \"loglikelihood_rolling\"\ntest_split = \"test\"\n\
             doc_to_target = \"{{{{page}}}}\"\nmetrics = [\"byte_perplexity\", \"bits_per_byte\"]\n\
             [data]\nembedded = \"{task}\"\n"
        );
        catalog.add(&PathBuf::from(format!("{task}.toml")), &text)?;
    }
    Ok(())
}

/// The documents of a text of the miniature; `None` for any other name.
pub(crate) fn documents(name: &str) -> Result<Option<Vec<Doc>>> {
    let Some((_, text)) = TASKS.iter().find(|(task, _)| *task == name) else { return Ok(None) };
    let recipe = recipe::load(None, &[])?;
    let keep = recipe.keep.as_ref().filter(|keep| keep.name == *text).map(|keep| &keep.source);
    let source = keep.or_else(|| recipe.data.sources.iter().find(|s| s.name == *text).map(|s| &s.source));
    let source: &SourceKind = source.with_context(|| format!("the miniature has no text \"{text}\""))?;
    let environment = environment(recipe.folder());
    let mut docs = Vec::new();
    for document in stream(source, &environment)? {
        let text = document?.text;
        if BYTES.contains(&text.len()) && is_validation(&text, recipe.data.validation, recipe.data.split_seed)
        {
            docs.push(Doc::from_iter([("page".to_owned(), Value::from(text))]));
            if docs.len() == DOCUMENTS {
                break;
            }
        }
    }
    Ok(Some(docs))
}
