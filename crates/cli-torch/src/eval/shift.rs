//! How far a model has moved from its base on a text: shares of shifted tokens and the divergence.
#![allow(clippy::print_stdout, reason = "the program speaks")]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_cli::{output, progress};
use llama_pro_eval::shift::Shift;
use llama_pro_expand::Expansion;
use llama_pro_model::{Inputs, Llama, LoadOptions, Path as Blocks, choose_device};
use llama_pro_text::Tokenizer;
use serde_json::json;
use tch::{Kind, Tensor};

/// Tokens that are read together.
const WINDOW: usize = 512;

/// The part of the arguments that this is about.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compares the next-token distributions of MODEL and its base at every position of this text.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tasks", "compare", "stages"])]
    pub(super) shift: Option<PathBuf>,
    /// The base to compare with [default: the new blocks of MODEL skipped].
    #[arg(long, value_name = "DIR", requires = "shift")]
    base: Option<PathBuf>,
}

/// `limit` is the most windows of 512 tokens.
pub(super) fn run(
    args: &Args,
    text: &Path,
    folder: &Path,
    device: &str,
    limit: Option<u32>,
    json: bool,
) -> Result<()> {
    let tokenizer = Tokenizer::from_dir(folder)?;
    let content =
        std::fs::read_to_string(text).with_context(|| format!("{}: cannot read", text.display()))?;
    let ids = tokenizer.encode(&content)?;
    ensure!(ids.len() > 1, "{}: expected some text, found {} tokens", text.display(), ids.len());
    let device = choose_device(device)?;
    let open = |folder: &Path| -> Result<Llama> {
        let added = Expansion::read(folder)?.as_ref().map(Expansion::new_blocks).unwrap_or_default();
        let options = LoadOptions { device, added, ..LoadOptions::default() };
        Ok(Llama::load(&Checkpoint::open(folder)?, &options)?)
    };
    let model = open(folder)?;
    let other = args.base.as_deref().map(open).transpose()?;
    ensure!(
        other.is_some() || model.added().contains(&true),
        "{}: has no new blocks, so there is no base in it; expected --base DIR",
        folder.display()
    );
    let (base, path) = other.as_ref().map_or((&model, Blocks::Base), |other| (other, Blocks::Grown));
    let window =
        WINDOW.min(model.config().max_position_embeddings).min(base.config().max_position_embeddings);
    let windows: Vec<Vec<i64>> =
        ids.chunks(window).map(|ids| ids.iter().map(|id| i64::from(*id)).collect()).collect();
    let count = limit.map_or(windows.len(), |most| windows.len().min(most as usize));
    let bar = progress::steps(count as u64);
    let mut found = Shift::default();
    for window in &windows[..count] {
        let ids = Tensor::from_slice(window).unsqueeze(0).to_device(device);
        let rows = |model: &Llama, path: Blocks| -> Result<Vec<Vec<f32>>> {
            let _guard = tch::no_grad_guard();
            let logits = model.logits(&Inputs::tokens(&ids), path)?.squeeze_dim(0);
            Ok(Vec::<Vec<f32>>::try_from(&logits.to_kind(Kind::Float).to_device(tch::Device::Cpu))?)
        };
        for (base, tuned) in rows(base, path)?.iter().zip(&rows(&model, Blocks::Grown)?) {
            found.add(base, tuned)?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let [unshifted, marginal, shifted] = found.shares().unwrap_or_default();
    let divergence = found.mean_divergence().unwrap_or_default();
    if json {
        let record = json!({
            "positions": found.positions, "unshifted": unshifted, "marginal": marginal, "shifted": shifted,
            "kl_tuned_base": divergence,
        });
        println!("{record}");
        return Ok(());
    }
    let share = |share: f64| format!("{:.1} %", 100.0 * share);
    let rows = [
        ["positions".to_owned(), found.positions.to_string(), "tokens of the text that were read".to_owned()],
        ["unshifted".to_owned(), share(unshifted), "the likeliest token is the base's".to_owned()],
        ["marginal".to_owned(), share(marginal), "it is the base's second or third".to_owned()],
        ["shifted".to_owned(), share(shifted), "it is farther down".to_owned()],
        ["divergence".to_owned(), format!("{divergence:.5}"), "KL(model || base), nats per token".to_owned()],
    ];
    println!("{}", output::table(&["number", "value", "meaning"], rows));
    Ok(())
}
