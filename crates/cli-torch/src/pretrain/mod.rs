//! `pretrain`: base, new blocks, data, score, train, score again, and a table that says what happened.
//!
//! Every stage leaves its result in the run folder and is not done again by `--resume`, which first makes sure that all
//! it was made from is still the same.

mod base;
mod data;
mod evaluate;
mod preflight;
mod summary;
mod undo;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use llama_pro_checkpoint::{Checkpoint, Weights};
use llama_pro_cli::{output, progress};
use llama_pro_eval::EvalTable;
use llama_pro_expand::{Expansion, model_digest};
use llama_pro_model::{Llama, LoadOptions, Path as Blocks, Trained, choose_device, describe};
use llama_pro_run::RunFolder;
use llama_pro_shards::Packing;
use llama_pro_train::{Dtype, Fit, Outcome, Parameters, SampledRows, Trainer, fit, rows_per_pass};
use tch::{Device, Kind};

use crate::job::benchmarks::Ready;
use crate::job::closing;
use crate::job::origin;
use crate::recipe::{self, Recipe};

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// A recipe [default: the embedded miniature].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key of the recipe, as train.steps=100 or data.sources.code.weight=0.3.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run folder [default: runs/pretrain-DATE-TIME, with --control runs/control-full-DATE-TIME].
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Go on with the run in --run, or with the last one. --set then takes keys that do not change the result.
    #[arg(long, conflicts_with_all = ["config", "control"])]
    resume: bool,
    /// The same batches for comparison: `full` trains every weight of the unexpanded base.
    #[arg(long, value_enum)]
    control: Option<ControlKind>,
    /// Writes the new blocks alone (delta/, see `expand --delta`) in place of the whole model, as --set delta=true.
    #[arg(long)]
    delta: bool,
}

impl Args {
    /// The keys that are set, the flags that stand for one among them.
    fn overrides(&self) -> Vec<String> {
        let delta = self.delta.then(|| "delta=true".to_owned());
        self.set.iter().cloned().chain(delta).collect()
    }
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ControlKind {
    Full,
}

/// Where runs go when nothing else is said.
const RUNS: &str = "runs";
const STEMS: [&str; 2] = ["pretrain", "control-full"];

pub(crate) fn run(args: &Args, threads: Option<u32>) -> Result<()> {
    let stop = progress::interrupted()?;
    if args.resume {
        let (run, recipe) = reopen(args)?;
        let job = Job { run: &run, recipe: &recipe, threads, resumed: true, stop: &stop };
        return job.work();
    }
    let mut recipe = recipe::load(args.config.as_deref(), &args.overrides())?;
    let mut stem = STEMS[0];
    if let Some(ControlKind::Full) = args.control {
        recipe = recipe.into_control();
        stem = STEMS[1];
    }
    preflight::check(&recipe, args.control.is_some())?;
    let dir = args.run.clone().unwrap_or_else(|| RunFolder::fresh_name(Path::new(RUNS), stem));
    let undo = undo::Undo::new(&dir, &cache());
    let run = RunFolder::create(&dir, &toml::Table::try_from(&recipe)?).inspect_err(|error| {
        if matches!(error, llama_pro_run::Error::Io { .. }) {
            undo.not_begun();
        }
    })?;
    let job = Job { run: &run, recipe: &recipe, threads, resumed: false, stop: &stop };
    let result = job.work();
    if result.is_err() && !run.metrics().exists() {
        undo.undo();
    }
    result
}

/// Token shards, shared by all runs: they are found again by what they were made of.
fn cache() -> PathBuf {
    Path::new(RUNS).join("data")
}

/// The run folder to go on with and its recipe.
fn reopen(args: &Args) -> Result<(RunFolder, Recipe)> {
    let dir = match &args.run {
        Some(dir) => dir.clone(),
        None => last_run()?.with_context(|| format!("{RUNS}: no run to go on with; name one with --run"))?,
    };
    let run = RunFolder::resume(&dir)?;
    let begun = run.read_recipe()?;
    origin::check_command(&run, &begun, "pretrain")?;
    let text = toml::to_string(&begun)?;
    let begun = recipe::read(&run.recipe(), &text, &[])?;
    let recipe = recipe::read(&run.recipe(), &text, &args.overrides())?;
    origin::warn_of_changes(&begun.train, &recipe.train, choose_device(&recipe.device)?);
    Ok((run, recipe))
}

/// The newest run of either kind: names end in the time they were made at.
fn last_run() -> Result<Option<PathBuf>> {
    let mut newest: Option<(String, PathBuf)> = None;
    for stem in STEMS {
        let Some(path) = RunFolder::latest(Path::new(RUNS), stem)? else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let time = name.trim_start_matches(stem).to_owned();
        if newest.as_ref().is_none_or(|(t, _)| *t < time) {
            newest = Some((time, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// One start of a run, new or resumed.
struct Job<'a> {
    run: &'a RunFolder,
    recipe: &'a Recipe,
    threads: Option<u32>,
    resumed: bool,
    stop: &'a Arc<AtomicBool>,
}

impl Job<'_> {
    /// Everything from the base to the closing table, or from wherever an earlier part of the run has come to.
    fn work(&self) -> Result<()> {
        let (run, recipe) = (self.run, self.recipe);
        let device = choose_device(&recipe.device)?;
        let threads = origin::set_threads(run, device, self.resumed, self.threads)?;
        tracing::info!("run {} on {}", run.dir().display(), describe(device));

        let base = base::folder(recipe, run)?;
        let model_dir = base::expanded(recipe, run, &base, self.stop)?;
        let checkpoint = Checkpoint::open(&model_dir)?;
        let record = Expansion::read(&model_dir)?;
        if let Some(record) = &record {
            record.check(&checkpoint)?;
        }
        self.go_on()?;
        let data = data::prepare(recipe, &checkpoint, &cache())?;
        let mut inputs = BTreeMap::from([
            ("held-out".to_owned(), data.held_out_digest(recipe)),
            ("model".to_owned(), model_digest(&checkpoint)?),
            ("base".to_owned(), model_digest(&Checkpoint::open(&base)?)?),
            ("threads".to_owned(), threads),
        ]);
        inputs.extend(recipe.identity());
        inputs.extend(data.inputs());
        origin::record(run, &inputs)?;
        self.go_on()?;

        let model = Llama::load(&checkpoint, &load_options(recipe, record.as_ref(), device)?)?;
        let reference = reference(recipe, &model, &base, device)?;
        let mut trainer = Trainer::new(model, reference, &recipe.train, recipe.keep_weights())?;
        origin::warn_of_slow_bfloat16(&recipe.train, device);
        // What a step takes is said, and refused where it is too much, before time goes into scores.
        let (rows, length) = (recipe.train.rows_per_step, recipe.data.sequence_length);
        let pass = rows_per_pass(rows, length, recipe.train.micro_rows(), device);
        let shape = (pass as i64, length as i64);
        let documents = recipe.data.mask_documents || recipe.data.packing == Packing::BestFit;
        trainer.expect(shape, pass < rows, documents, recipe.keep.is_some())?;
        let before = self.score_once("before", trainer.model(), Blocks::Grown, &data)?;
        // Until it is trained, the grown model is its base to the bit; one that was trained before is not.
        let base_before = match &record {
            Some(record) if record.is_trained() => {
                Some(self.score_once("before-base", trainer.model(), Blocks::Base, &data)?)
            }
            Some(_) => Some(before.clone()),
            None => None,
        };

        let ready = |benchmarks| Ready::new(benchmarks, &recipe.folder(), &model_dir);
        let mut benchmarks = recipe.benchmarks.as_ref().map(ready).transpose()?;
        let scored =
            benchmarks.as_mut().map(|ready| ready.score_once(run, "benchmarks-before", trainer.model()));
        let scored_before = scored.transpose()?;
        self.go_on()?;

        let mut watch = watch::Watch::new(run, recipe, &data);
        let batches = SampledRows::new(
            Arc::clone(&data.sampler),
            data.keep_sources.clone(),
            recipe.train.rows_per_step,
            recipe.train.micro_rows(),
        );
        let setup = Fit {
            config: &recipe.train,
            batches: &batches,
            run,
            inputs,
            resume: self.resumed,
            stop: self.stop,
        };
        let outcome = fit(&mut trainer, &setup, &mut watch);
        watch.close();
        let done = match outcome.with_context(|| format!("run {}", run.dir().display()))? {
            Outcome::Finished(done) => done,
            Outcome::Stopped { step } => return self.pause(step),
        };
        // All steps are done and saved; what is left is done by a resume.
        let stopped = || self.stop.load(Ordering::Relaxed);
        if stopped() {
            return self.pause(done.step);
        }

        let after = self.score_once("after", trainer.model(), Blocks::Grown, &data)?;
        let scored =
            benchmarks.as_mut().map(|ready| ready.score_once(run, "benchmarks-after", trainer.model()));
        let scored_after = scored.transpose()?;
        let base_path_identical = base_before
            .map(|before| {
                let again = evaluate::score(trainer.model(), Blocks::Base, &data, recipe, "base path")?;
                Ok::<_, anyhow::Error>(same_rows(&before, &again))
            })
            .transpose()?;
        if stopped() {
            return self.pause(done.step);
        }
        let bar = progress::bytes("writing the model");
        let (weights, out) = match recipe.delta {
            true => (Weights::NewBlocks, run.delta()),
            false => (Weights::Model, run.model()),
        };
        let cancel = Some(Arc::clone(self.stop));
        let frozen_checked = trainer.export(&checkpoint, &out, weights, cancel, &|more| bar.inc(more));
        bar.finish_and_clear();
        if frozen_checked.is_err() && stopped() {
            return self.pause(done.step);
        }
        summary::finish(&summary::Facts {
            run,
            recipe,
            trainer: &trainer,
            before: &before,
            after: &after,
            benchmarks: scored_before.as_ref().zip(scored_after.as_ref()),
            frozen_checked: frozen_checked?,
            base_path_identical,
            new_blocks: record.as_ref().map(Expansion::new_blocks).unwrap_or_default(),
            done,
        })
    }

    /// Stops between two stages when asked to.
    fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            match self.resumed {
                true => bail!("stopped before training went on; the run is as it was"),
                false => bail!("stopped before training began; nothing is lost but time"),
            }
        }
        Ok(())
    }

    /// Stopped with everything up to `step` saved: says how to go on.
    fn pause(&self, step: u64) -> Result<()> {
        closing::pause("pretrain", self.run, step, self.recipe.train.steps);
        Ok(())
    }

    /// Scores a model, or reads the scores that an earlier part of the same run wrote.
    fn score_once(&self, name: &str, model: &Llama, path: Blocks, data: &data::Data) -> Result<EvalTable> {
        let file = self.run.eval().join(format!("{name}.json"));
        if file.exists() {
            return Ok(EvalTable::read(&file)?);
        }
        let table = evaluate::score(model, path, data, self.recipe, name)?;
        self.run.write_eval(name, &table)?;
        Ok(table)
    }
}

fn load_options(recipe: &Recipe, record: Option<&Expansion>, device: Device) -> Result<LoadOptions> {
    let trained = match (recipe.train.parameters, record) {
        (Parameters::All, _) => Trained::All,
        (Parameters::Added, Some(record)) => Trained::Names(record.trained_names()),
        (Parameters::Added, None) => bail!(preflight::NOTHING_ADDED),
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

/// Whether two scorings of the same texts agree to the last bit.
fn same_rows(a: &EvalTable, b: &EvalTable) -> bool {
    a.sets.len() == b.sets.len() && a.sets.iter().zip(&b.sets).all(|(a, b)| a.rows == b.rows)
}

/// A line for the log: what will be trained.
fn announce(recipe: &Recipe, data: &data::Data) {
    let tokens = recipe.input_tokens();
    tracing::info!(
        "{} steps, {} tokens, over {}",
        recipe.train.steps,
        output::count(tokens),
        data.describe()
    );
}
