//! What is generated with: the model, its tokenizer, and the tokens that begin and end a text.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_expand::Expansion;
use llama_pro_model::{Llama, LoadOptions, Path as Blocks, choose_device, describe};
use llama_pro_text::Tokenizer;
use serde_json::Value;
use tch::Kind;

/// How the model is loaded.
pub(crate) struct Load<'a> {
    pub(crate) kind: Option<Kind>,
    pub(crate) device: &'a str,
    pub(crate) base_path: bool,
}

/// A model with what turns text into its tokens and back.
pub(crate) struct Source {
    pub(crate) model: Llama,
    pub(crate) path: Blocks,
    pub(crate) tokenizer: Tokenizer,
    /// The token before a text, where the tokenizer adds one.
    bos: Option<u32>,
    /// Tokens that end a text.
    pub(crate) ends: Vec<i64>,
}

impl Source {
    pub(crate) fn open(folder: &Path, load: &Load) -> Result<Self> {
        let checkpoint = Checkpoint::open(folder)?;
        // Cheap things first: a folder without a tokenizer is refused before its weights are read.
        let tokenizer = Tokenizer::from_dir(folder)?;
        let config = checkpoint.config().llama()?;
        ensure!(
            tokenizer.vocab_size() <= config.vocab_size,
            "{}: tokenizer.json has ids up to {}, the model has {} rows for them: the two do not belong together",
            folder.display(),
            tokenizer.vocab_size() - 1,
            config.vocab_size
        );
        if tokenizer.vocab_size() * 10 < config.vocab_size * 9 {
            tracing::warn!(
                "{}: tokenizer.json has {} tokens, the model {}: tokens without text are passed over",
                folder.display(),
                tokenizer.vocab_size(),
                config.vocab_size
            );
        }
        let record = Expansion::read(folder)?;
        let added = record.map(|r| r.new_blocks()).unwrap_or_default();
        ensure!(
            !load.base_path || !added.is_empty(),
            "{}: not expanded, so there is no base path in it",
            folder.display()
        );
        let device = choose_device(load.device)?;
        let options = LoadOptions { device, kind: load.kind, added, ..LoadOptions::default() };
        let model = Llama::load(&checkpoint, &options)?;
        tracing::debug!("computing on {}", describe(device));
        let bos = if adds_bos(folder, &tokenizer)? { tokenizer.bos() } else { None };
        let mut ends =
            ends(folder)?.unwrap_or_else(|| config.eos_token_ids.iter().copied().map(i64::from).collect());
        if ends.is_empty() {
            ends.extend(tokenizer.eos().map(i64::from));
        }
        let path = if load.base_path { Blocks::Base } else { Blocks::Grown };
        Ok(Self { model, path, tokenizer, bos, ends })
    }

    /// The tokens of a prompt, with the token that the tokenizer puts before a text.
    pub(crate) fn prompt(&self, text: &str) -> Result<Vec<i64>> {
        let ids = self.tokenizer.encode(text)?;
        let ids: Vec<i64> = self.bos.iter().chain(&ids).copied().map(i64::from).collect();
        ensure!(
            !ids.is_empty(),
            "the prompt is empty, and this model's texts begin with no token of their own"
        );
        Ok(ids)
    }
}

/// Whether the tokenizer puts BOS before a text: `add_bos_token` where tokenizer_config.json has it, else what the
/// post-processor of tokenizer.json adds.
fn adds_bos(folder: &Path, tokenizer: &Tokenizer) -> Result<bool> {
    let Some(bos) = tokenizer.bos() else { return Ok(false) };
    let config = json(&folder.join("tokenizer_config.json"))?;
    if let Some(Value::Bool(adds)) = config.as_ref().and_then(|c| c.get("add_bos_token")) {
        return Ok(*adds);
    }
    let file = json(&folder.join("tokenizer.json"))?.unwrap_or_default();
    let processors = match &file["post_processor"] {
        Value::Object(one) if one.get("type") == Some(&Value::from("Sequence")) => {
            one.get("processors").and_then(Value::as_array).cloned().unwrap_or_default()
        }
        one => vec![one.clone()],
    };
    let names = |processor: &Value| {
        let special = processor["special_tokens"].as_object().cloned().unwrap_or_default();
        let first = processor["single"]
            .get(0)
            .and_then(|piece| piece["SpecialToken"]["id"].as_str().map(str::to_owned));
        first.and_then(|name| special.get(&name).map(|token| token["ids"] == Value::from(vec![bos])))
            == Some(true)
    };
    Ok(processors.iter().any(names))
}

/// `eos_token_id` of generation_config.json.
fn ends(folder: &Path) -> Result<Option<Vec<i64>>> {
    let path = folder.join("generation_config.json");
    let Some(config) = json(&path)? else { return Ok(None) };
    let wrong = |value: &Value| {
        format!("{}: eos_token_id is {value}: expected a token id or a list of them", path.display())
    };
    match config.get("eos_token_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => {
            let ids = list.iter().map(|id| id.as_i64().with_context(|| wrong(id)));
            Ok(Some(ids.collect::<Result<_>>()?))
        }
        Some(value) => match value.as_i64() {
            Some(id) => Ok(Some(vec![id])),
            None => bail!(wrong(value)),
        },
    }
}

fn json(path: &Path) -> Result<Option<Value>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    serde_json::from_slice(&bytes).map(Some).with_context(|| format!("{}: not JSON", path.display()))
}
