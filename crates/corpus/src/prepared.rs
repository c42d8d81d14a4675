//! `kind = "prepared"`: the shards of one source of a `prepare` run, for training.

use std::path::PathBuf;

use llama_pro_shards::{RECORD_NAME, ShardRecord, ShardsRecord};
use llama_pro_text::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::document::Counts;
use crate::error::{Error, Result};
use crate::prepare::{Manifest, OutputFile, PrepareOptions, Prepared, Side};
use crate::source::{Environment, SourceKind};

/// Shards that are there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PreparedSource {
    /// The folder that `prepare` wrote, with its shards.json.
    pub path: PathBuf,
    /// The source's name in the recipe of that run.
    pub name: String,
}

impl PreparedSource {
    /// The shards, after every file of the folder was compared with its record.
    pub(crate) fn open(
        &self,
        name: &str,
        environment: &Environment,
        tokenizer: &Tokenizer,
        options: &PrepareOptions,
    ) -> Result<Prepared> {
        let dir = environment.resolve(&self.path);
        let refuse = |message: String| Error::Setting { key: "source", message };
        let Some(record) = ShardsRecord::read(&dir)? else {
            return Err(refuse(format!(
                "{}: not there; `prepare` makes it",
                dir.join(RECORD_NAME).display()
            )));
        };
        let place = dir.display();
        let Some(source) = record.sources.iter().find(|source| source.name == self.name) else {
            let names: Vec<_> = record.sources.iter().map(|source| source.name.as_str()).collect();
            return Err(refuse(format!("{place}: no source `{}`; it has {}", self.name, names.join(", "))));
        };
        if record.tokenizer != tokenizer.digest() {
            return Err(refuse(format!(
                "{place}: made with tokenizer {}, but the model has {}; prepare again with the model's",
                record.tokenizer,
                tokenizer.digest()
            )));
        }
        let marks = |wanted: bool, token| if wanted { token } else { None };
        let (bos, eos) = (marks(options.bos, tokenizer.bos()), marks(options.eos, tokenizer.eos()));
        let found = (record.boundaries.bos, record.boundaries.eos);
        if found != (bos, eos) {
            return Err(refuse(format!(
                "{place}: documents begin and end with {found:?} there, expected {:?}; set bos and eos alike",
                (bos, eos)
            )));
        }
        if options.max_tokens.is_some() || options.max_validation_tokens.is_some() {
            return Err(refuse(format!("{place}: set max-tokens where the shards are prepared, not here")));
        }
        let seed = record.parameters.get("split-seed").and_then(serde_json::Value::as_u64);
        if options.validation > 0.0 && seed != Some(options.split_seed) {
            return Err(refuse(format!(
                "{place}: split with seed {}, expected {}; other documents would be held out",
                seed.map_or_else(|| "unknown".to_owned(), |seed| seed.to_string()),
                options.split_seed
            )));
        }
        record.verify(&dir)?;
        let side = |side: &str| {
            let name = format!("{}-{side}", self.name);
            record.shards.iter().find(|shard| shard.name == name)
        };
        let Some(train) = side("train") else {
            return Err(refuse(format!("{place}: source `{}` has no training shard", self.name)));
        };
        let validation = side("validation").filter(|_| options.validation > 0.0);
        if options.validation > 0.0 && validation.is_none() {
            return Err(refuse(format!("{place}: source `{}` was prepared without validation", self.name)));
        }
        let manifest = Manifest {
            format: record.format.clone(),
            name: name.to_owned(),
            fingerprint: source.digest.clone(),
            source: SourceKind::Prepared(self.clone()),
            tokenizer: record.tokenizer.clone(),
            vocab_size: record.vocab_size,
            options: options.clone(),
            documents: Counts {
                seen: source.documents,
                kept: source.kept,
                dropped: source.dropped.clone(),
                failed: source.failed.clone(),
                bytes: train.text_bytes + validation.map_or(0, |shard| shard.text_bytes),
                nuls_removed: 0,
            },
            train: to_side(train),
            validation: validation.map(to_side),
        };
        Ok(Prepared {
            train: dir.join(&train.name),
            validation: validation.map(|shard| dir.join(&shard.name)),
            manifest,
            reused: true,
        })
    }
}

fn to_side(shard: &ShardRecord) -> Side {
    let file = |extension: &str, record: &llama_pro_shards::FileRecord| OutputFile {
        file: format!("{}.{extension}", shard.name),
        bytes: record.bytes,
        digest: record.digest.clone(),
    };
    Side {
        documents: shard.documents,
        left_out: 0,
        bytes: shard.text_bytes,
        tokens: shard.tokens,
        bytes_per_token: shard.text_bytes as f64 / shard.tokens.max(1) as f64,
        bin: file("bin", &shard.bin),
        idx: file("idx", &shard.idx),
    }
}
