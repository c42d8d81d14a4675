//! A model folder as what benchmarks need: something that scores, its tokenizer, and what a record says about both.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_eval::http::{HttpModel, HttpOptions};
use llama_pro_eval::report::About;
use llama_pro_eval::{Codec, LanguageModel, TokenizerCodec};
use llama_pro_expand::Expansion;
use llama_pro_model::{Llama, LoadOptions, Path as Blocks, Scorer, choose_device, describe};
use llama_pro_text::Tokenizer;
use serde_json::Value;
use tch::Kind;

/// A model with its tokenizer.
pub(super) struct Loaded {
    model: Answers,
    codec: TokenizerCodec,
    pub(super) about: About,
}

/// What answers: weights in this process, or a server.
enum Answers {
    Local(Llama),
    Served(HttpModel),
}

/// Opens tokenizer and weights. The tokenizer comes first: it is what small mistakes are about.
pub(super) fn load(dir: &Path, device: &str, dtype: Option<&str>) -> Result<Loaded> {
    let checkpoint = Checkpoint::open(dir)?;
    let tokenizer = Tokenizer::from_dir(dir)?;
    let adds_bos = adds_bos(dir)?;
    let kind = match dtype {
        None => None,
        Some("f32") => Some(Kind::Float),
        Some("bf16") => Some(Kind::BFloat16),
        Some("f16") => Some(Kind::Half),
        Some(other) => bail!("there is no dtype \"{other}\""),
    };
    let device = choose_device(device)?;
    let added = Expansion::read(dir)?.as_ref().map(Expansion::new_blocks).unwrap_or_default();
    let model = Llama::load(&checkpoint, &LoadOptions { device, kind, added, ..LoadOptions::default() })?;
    let dtype = format!("{:?}", llama_pro_model::dtype_of(model.kind())?).to_lowercase();
    let digest = fingerprint(dir, &[tokenizer.digest(), &dtype])?;
    let about = About {
        model: dir.display().to_string(),
        parameters: Some(model.parameters().iter().map(|p| p.tensor.numel() as u64).sum()),
        dtype: Some(dtype),
        device: Some(describe(device)),
        digest: Some(digest),
        max_length: Some(model.config().max_position_embeddings),
        date: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .ok()
            .map(|d| d.as_secs_f64()),
    };
    Ok(Loaded { model: Answers::Local(model), codec: TokenizerCodec::new(tokenizer, adds_bos), about })
}

/// The model of a server, with the tokenizer of a folder and, where there is one, the length in its `config.json`.
pub(super) fn served(dir: &Path, url: &str, name: Option<&str>, timeout: Option<f64>) -> Result<Loaded> {
    let codec =
        || -> Result<TokenizerCodec> { Ok(TokenizerCodec::new(Tokenizer::from_dir(dir)?, adds_bos(dir)?)) };
    let folder = || dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.map(str::to_owned).or_else(folder).context("expected --served-as NAME")?;
    let config = dir.join("config.json");
    let max_length = match std::fs::read_to_string(&config) {
        Ok(text) => {
            let value: Value =
                serde_json::from_str(&text).with_context(|| format!("{}: not JSON", config.display()))?;
            value["max_position_embeddings"].as_u64().map(|length| length as usize)
        }
        Err(_) => None,
    };
    let mut options = HttpOptions { max_length, ..HttpOptions::new(url, &name) };
    if let Some(seconds) = timeout {
        let fits = (0.001..=86_400.0).contains(&seconds);
        ensure!(fits, "--timeout: expected seconds between 0.001 and 86400, found {seconds}");
        options.timeout = Duration::from_secs_f64(seconds);
    }
    let model = HttpModel::new(&options, Some(Box::new(codec()?)))?;
    let digest =
        llama_pro_run::digest(format!("{url}|{name}|{}", Tokenizer::from_dir(dir)?.digest()).as_bytes());
    let date =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok().map(|d| d.as_secs_f64());
    let about = About {
        model: name,
        device: Some(url.to_owned()),
        digest: Some(digest),
        max_length,
        date,
        ..About::default()
    };
    Ok(Loaded { model: Answers::Served(model), codec: codec()?, about })
}

impl Loaded {
    pub(super) fn score<T>(&mut self, work: impl FnOnce(&mut dyn LanguageModel, &dyn Codec) -> T) -> T {
        match &mut self.model {
            Answers::Local(model) => work(&mut Scorer::new(model, Blocks::Grown), &self.codec),
            Answers::Served(model) => work(model, &self.codec),
        }
    }
}

/// Whether the tokenizer puts BOS in front of a text: what `tokenizer_config.json` says, else the template of
/// `tokenizer.json`.
pub(crate) fn adds_bos(dir: &Path) -> Result<bool> {
    let read = |name: &str| -> Result<Option<Value>> {
        let path = dir.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{}: cannot read", path.display()))?;
        let value = serde_json::from_str(&text).with_context(|| format!("{}: not JSON", path.display()))?;
        Ok(Some(value))
    };
    if let Some(said) = read("tokenizer_config.json")?.and_then(|config| config["add_bos_token"].as_bool()) {
        return Ok(said);
    }
    let Some(tokenizer) = read("tokenizer.json")? else { return Ok(false) };
    let post = &tokenizer["post_processor"];
    let one = std::slice::from_ref(post);
    let steps = post["processors"].as_array().map_or(one, Vec::as_slice);
    Ok(steps
        .iter()
        .any(|step| step["type"] == "TemplateProcessing" && !step["single"][0]["SpecialToken"].is_null()))
}

/// What answers depend on: names, sizes and times of the weights, the configuration, and what else is given. Reading
/// every weight would take longer than many a benchmark.
fn fingerprint(dir: &Path, more: &[&str]) -> Result<String> {
    let mut text = more.join("|");
    let mut names: Vec<_> = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    for path in names {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".safetensors") {
            let meta = std::fs::metadata(&path)?;
            let time = meta.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            text.push_str(&format!("|{name} {} {}", meta.len(), time.as_nanos()));
        } else if name == "config.json" {
            text.push_str(&format!("|{}", llama_pro_run::digest_file(&path)?));
        }
    }
    Ok(llama_pro_run::digest(text.as_bytes()))
}
