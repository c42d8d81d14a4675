//! `pretrain`: base, new blocks, data, score, train, score again, and a table that says what happened.
//!
//! Every stage leaves its result in the run folder and is not done again by `--resume`.

mod base;
mod data;
mod evaluate;
mod summary;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_eval::EvalTable;
use llama_pro_expand::Expansion;
use llama_pro_model::{Llama, LoadOptions, Path as Blocks, Trained, choose_device, describe};
use llama_pro_run::{Provenance, RunFolder};
use llama_pro_train::{Dtype, Fit, Outcome, Parameters, Trainer, export, fit, latest};
use tch::{Device, Kind};

use crate::recipe::{self, Loaded, Recipe};
use crate::{output, progress};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A recipe [default: the embedded miniature].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key of the recipe, as train.steps=100 or data.sources.code.weight=0.3.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run folder [default: runs/NAME-DATE-TIME].
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Go on with the run in --run, or with the last one.
    #[arg(long, conflicts_with_all = ["config", "set", "control"])]
    resume: bool,
    /// The same batches for comparison: `full` trains every weight of the unexpanded base.
    #[arg(long, value_enum)]
    control: Option<ControlKind>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ControlKind {
    Full,
}

/// Where runs go when nothing else is said.
const RUNS: &str = "runs";

pub(crate) fn run(args: &Args, threads: Option<u32>) -> Result<()> {
    let (run, recipe, base_dir) = open(args)?;
    let device = choose_device(&recipe.device)?;
    // More threads than cores would only get in each other's way, and results depend on the number in the last bit.
    let threads = threads.unwrap_or_else(|| tch::get_num_threads().max(1) as u32);
    tracing::info!("run {} on {}", run.dir().display(), describe(device));

    let base = base::folder(&recipe, &run, &base_dir)?;
    let model_dir = base::expanded(&recipe, &run, &base)?;
    let checkpoint = Checkpoint::open(&model_dir)?;
    let record = Expansion::read(&model_dir)?;
    if let Some(record) = &record {
        record.check(&checkpoint)?;
    }
    let data = data::prepare(&recipe, &model_dir, &checkpoint, &base_dir, Path::new(RUNS))?;

    let options = load_options(&recipe, record.as_ref(), device)?;
    let model = Llama::load(&checkpoint, &options)?;
    let reference = reference(&recipe, &model, &base, device)?;
    let before = score_once(&run, "before", &model, Blocks::Grown, &data, &recipe)?;

    let mut inputs = BTreeMap::from([
        ("recipe".to_owned(), recipe_digest(&recipe)),
        ("data".to_owned(), data.sampler.fingerprint()),
        ("model".to_owned(), llama_pro_expand::model_digest(&checkpoint)?),
    ]);
    inputs.insert("threads".to_owned(), if device == Device::Cpu { threads.to_string() } else { "gpu".to_owned() });
    provenance(&run, &inputs, args.resume)?;

    let mut trainer = Trainer::new(model, reference, &recipe.train, recipe.keep_weights())?;
    let stop = progress::interrupted()?;
    let resume = if args.resume { latest(&run)? } else { None };
    let mut watch = watch::Watch::new(&run, &recipe, &data)?;
    let setup = Fit {
        config: &recipe.train,
        sampler: &data.sampler,
        keep_sources: &data.keep_sources,
        run: &run,
        inputs,
        resume,
        stop: &stop,
    };
    let outcome = fit(&mut trainer, &setup, &mut watch);
    watch.close();
    let (tokens, seconds) = match outcome.with_context(|| format!("run {}", run.dir().display()))? {
        Outcome::Finished { tokens, seconds } => (tokens, seconds),
        Outcome::Stopped { step } => {
            println!("stopped after step {step} of {}; go on with", recipe.train.steps);
            println!("  cargo xtask pretrain --resume --run {}", run.dir().display());
            return Ok(());
        }
    };

    let after = score_once(&run, "after", trainer.model(), Blocks::Grown, &data, &recipe)?;
    let kept = record.is_some().then(|| {
        let again = evaluate::score(trainer.model(), Blocks::Base, &data, &recipe, "base path")?;
        Ok::<_, anyhow::Error>(same_rows(&before, &again))
    });
    let kept = kept.transpose()?;
    if run.model().read_dir().is_ok_and(|mut d| d.next().is_none()) {
        let _ = std::fs::remove_dir(run.model()); // made empty with the run folder; the export must find its place free
    }
    let exported = if run.model().exists() {
        Checkpoint::open(&run.model())?;
        None
    } else {
        Some(export(trainer.model(), &checkpoint, &run.model())?)
    };
    summary::finish(&summary::Facts {
        run: &run,
        recipe: &recipe,
        trainer: &trainer,
        before: &before,
        after: &after,
        frozen_checked: exported.map(|e| e.frozen_checked),
        base_path_identical: kept,
        new_blocks: record.as_ref().map(Expansion::new_blocks).unwrap_or_default(),
        tokens,
        seconds,
    })
}

/// The run folder and its recipe, new or to be gone on with.
fn open(args: &Args) -> Result<(RunFolder, Recipe, PathBuf)> {
    if args.resume {
        let dir = match &args.run {
            Some(dir) => dir.clone(),
            None => RunFolder::latest(Path::new(RUNS), "pretrain")?
                .with_context(|| format!("{RUNS}: no run to go on with; name one with --run"))?,
        };
        let run = RunFolder::resume(&dir)?;
        let text = toml::to_string(&run.read_recipe()?)?;
        let (recipe, _) = llama_pro_run::load_recipe::<Recipe>(&run.recipe(), &text, &[])?;
        recipe.check()?;
        return Ok((run, recipe, std::env::current_dir()?));
    }
    let Loaded { mut recipe, base_dir, .. } = recipe::load(args.config.as_deref(), &args.set)?;
    let mut stem = "pretrain";
    if let Some(ControlKind::Full) = args.control {
        recipe = recipe.into_control();
        stem = "control-full";
    }
    let dir = args.run.clone().unwrap_or_else(|| RunFolder::fresh_name(Path::new(RUNS), stem));
    let run = RunFolder::create(&dir, &toml::Table::try_from(&recipe)?)?;
    Ok((run, recipe, base_dir))
}

fn load_options(recipe: &Recipe, record: Option<&Expansion>, device: Device) -> Result<LoadOptions> {
    let trained = match (recipe.train.parameters, record) {
        (Parameters::All, _) => Trained::All,
        (Parameters::Added, Some(record)) => Trained::Names(record.trained_names()),
        (Parameters::Added, None) => bail!(
            "train.parameters = \"added\", but the base has no new blocks: add [expand] to the recipe, or set \
             train.parameters = \"all\""
        ),
    };
    let kind = match recipe.train.dtype {
        Dtype::F32 => Kind::Float,
        Dtype::Bf16 => Kind::BFloat16,
    };
    let added = record.map(Expansion::new_blocks).unwrap_or_default();
    Ok(LoadOptions { device, kind: Some(kind), trained, added })
}

/// The base for the KL term, where the trained model has none inside it.
fn reference(recipe: &Recipe, model: &Llama, base: &Path, device: Device) -> Result<Option<Llama>> {
    let wanted = recipe.keep_weights().kl > 0.0;
    // With every weight trained, skipping the new blocks no longer gives the base.
    if !wanted || (recipe.train.parameters == Parameters::Added && model.added().contains(&true)) {
        return Ok(None);
    }
    let options = LoadOptions { device, kind: Some(model.kind()), ..LoadOptions::default() };
    Ok(Some(Llama::load(&Checkpoint::open(base)?, &options)?))
}

/// Scores a model, or reads the scores that an earlier part of the same run wrote.
fn score_once(
    run: &RunFolder,
    name: &str,
    model: &Llama,
    path: Blocks,
    data: &data::Data,
    recipe: &Recipe,
) -> Result<EvalTable> {
    let file = run.eval().join(format!("{name}.json"));
    if file.exists() {
        return Ok(EvalTable::read(&file)?);
    }
    let table = evaluate::score(model, path, data, recipe, name)?;
    run.write_eval(name, &table)?;
    Ok(table)
}

/// Whether two scorings of the same texts agree to the last bit.
fn same_rows(a: &EvalTable, b: &EvalTable) -> bool {
    a.sets.len() == b.sets.len() && a.sets.iter().zip(&b.sets).all(|(a, b)| a.rows == b.rows)
}

/// The part of a recipe that decides the result of a run: a checkpoint of another is refused.
fn recipe_digest(recipe: &Recipe) -> String {
    let mut train = recipe.train.clone();
    (train.checkpoint_every, train.keep_checkpoints, train.validate_every) = (0, 1, 0);
    let text = format!("{train:?} {:?} {}", recipe.keep_weights(), recipe.seed);
    llama_pro_checkpoint::digest(text.as_bytes())
}

fn provenance(run: &RunFolder, inputs: &BTreeMap<String, String>, resumed: bool) -> Result<()> {
    let command: Vec<String> = std::env::args().collect();
    let path = run.provenance();
    let mut all = if resumed && path.exists() {
        let mut earlier = Provenance::read(&path)?;
        earlier.resumed.push(llama_pro_run::Invocation::now(command));
        earlier
    } else {
        let program = format!("llama-pro {}", env!("CARGO_PKG_VERSION"));
        Provenance::new(program, command, Some("2.11.0".to_owned()))
    };
    for (name, digest) in inputs {
        all.input(name, digest);
    }
    Ok(run.write_provenance(&all)?)
}

/// Refuses rows that the model cannot read.
fn check_length(recipe: &Recipe, checkpoint: &Checkpoint) -> Result<()> {
    let longest = checkpoint.config().llama()?.max_position_embeddings;
    let length = recipe.data.sequence_length;
    ensure!(
        length <= longest,
        "data.sequence-length = {length}: {} reads at most {longest} positions",
        checkpoint.dir().display()
    );
    Ok(())
}

/// A line for the log: what will be trained.
fn announce(recipe: &Recipe, data: &data::Data) {
    let train = &recipe.train;
    let tokens = train.steps * (train.rows_per_step * recipe.data.sequence_length) as u64;
    tracing::info!("{} steps, {} tokens, over {}", train.steps, output::count(tokens), data.describe());
}
