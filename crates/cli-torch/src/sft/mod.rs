//! `sft`: conversations, a question round, training, the same questions again, and a table that says what happened.
//!
//! The loop is that of `pretrain`; only the batches differ. Conversations are read and tokenized before anything is
//! written: a record that cannot be used leaves no run folder.

mod data;
pub(crate) mod mask;
mod questions;
mod recipe;
mod summary;
mod texts;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use llama_pro_checkpoint::{Checkpoint, Weights};
use llama_pro_cli::progress;
use llama_pro_eval::EvalTable;
use llama_pro_expand::{Expansion, model_digest};
use llama_pro_model::{Llama, LoadOptions, LoraOptions, Trained, choose_device, describe};
use llama_pro_run::RunFolder;
use llama_pro_train::{Batches, Dtype, Fit, Outcome, Parameters, Trainer, WithKept, fit, rows_per_pass};
use tch::{Device, Kind};

use data::Data;
use questions::Answers;
use recipe::{LAST_PRETRAIN, Recipe};

use crate::job::benchmarks::Ready;
use crate::job::closing;
use crate::job::origin;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A recipe [default: the embedded miniature].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key of the recipe, as train.steps=100 or model=path/to/model.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run folder [default: runs/sft-DATE-TIME].
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Go on with the run in --run, or with the last one. --set then takes keys that do not change the result.
    #[arg(long, conflicts_with = "config")]
    resume: bool,
}

/// Where runs go when nothing else is said.
const RUNS: &str = "runs";
const STEM: &str = "sft";

pub(crate) fn run(args: &Args, threads: Option<u32>) -> Result<()> {
    if args.resume {
        let dir = match &args.run {
            Some(dir) => dir.clone(),
            None => RunFolder::latest(Path::new(RUNS), STEM)?
                .with_context(|| format!("{RUNS}: no run to go on with; name one with --run"))?,
        };
        let run = RunFolder::resume(&dir)?;
        let begun = run.read_recipe()?;
        origin::check_command(&run, &begun, "sft")?;
        let text = toml::to_string(&begun)?;
        let begun = recipe::read(&run.recipe(), &text, &[])?;
        let mut recipe = recipe::read(&run.recipe(), &text, &args.set)?;
        origin::warn_of_changes(&begun.train, &recipe.train, choose_device(&recipe.device)?);
        let data = open(&mut recipe)?;
        let stop = progress::interrupted()?;
        return Job { run: &run, recipe: &recipe, data: &data, threads, resumed: true, stop: &stop }.work();
    }
    let mut recipe = recipe::load(args.config.as_deref(), &args.set)?;
    choose_device(&recipe.device)?;
    if recipe.model == LAST_PRETRAIN {
        recipe.model = last_pretrain(threads)?.display().to_string();
    }
    let data = open(&mut recipe)?;
    let dir = args.run.clone().unwrap_or_else(|| RunFolder::fresh_name(Path::new(RUNS), STEM));
    let run = RunFolder::create(&dir, &toml::Table::try_from(&recipe)?)?;
    let stop = progress::interrupted()?;
    Job { run: &run, recipe: &recipe, data: &data, threads, resumed: false, stop: &stop }.work()
}

/// The model of the newest run of `pretrain` that has one; without any, the miniature is run first.
fn last_pretrain(threads: Option<u32>) -> Result<PathBuf> {
    let newest = || -> Result<Option<PathBuf>> {
        let Some(run) = RunFolder::latest(Path::new(RUNS), "pretrain")? else { return Ok(None) };
        let there = |name: &str| Some(run.join(name)).filter(|model| model.join("config.json").exists());
        let model = there("model");
        if let (None, Some(delta)) = (&model, there("delta")) {
            bail!(
                "{}: new blocks without their base; `expand BASE OUT --delta` makes the model, then --set model=OUT",
                delta.display()
            );
        }
        Ok(model)
    };
    if let Some(model) = newest()? {
        return Ok(model);
    }
    tracing::info!("{RUNS} has no finished pretrain run: the miniature is run first");
    crate::pretrain::run(&crate::pretrain::Args::default(), threads)?;
    newest()?
        .with_context(|| format!("{RUNS}: the pretrain run was not finished, so there is no model to tune"))
}

/// Reads the data, and turns epochs into steps.
fn open(recipe: &mut Recipe) -> Result<Data> {
    let dir = recipe.resolve(&recipe.model);
    let checkpoint = Checkpoint::open(&dir)?;
    let config = checkpoint.config().llama()?;
    checkpoint.check_parameters(&config)?;
    let (length, longest) = (recipe.data.sequence_length, config.max_position_embeddings);
    ensure!(
        length <= longest,
        "data.sequence-length = {length}: {} reads at most {longest} positions",
        dir.display()
    );
    if let Some(benchmarks) = &recipe.benchmarks {
        benchmarks.check(&recipe.folder())?;
    }
    let added = recipe.lora.is_none() && recipe.train.parameters == Parameters::Added;
    ensure!(!added || Expansion::read(&dir)?.is_some(), nothing_added(&dir));
    let data = data::prepare(recipe, &dir, config.vocab_size)?;
    if let Some(epochs) = recipe.data.epochs {
        let rows = recipe.train.rows_per_step.max(1) as f64;
        recipe.train.steps = ((epochs * data.batches.n_rows() as f64 / rows).ceil() as u64).max(1);
    }
    recipe.train.check()?;
    tracing::info!(
        "{} rows of {length} tokens, {:.0} % full; {} steps of {} rows",
        data.batches.n_rows(),
        100.0 * data.batches.filled(),
        recipe.train.steps,
        recipe.train.rows_per_step
    );
    Ok(data)
}

fn nothing_added(dir: &Path) -> String {
    format!(
        "train.parameters = \"added\", but {} has no new blocks: set train.parameters = \"all\", or give a model that \
         `expand` has made",
        dir.display()
    )
}

/// One start of a run, new or resumed.
struct Job<'a> {
    run: &'a RunFolder,
    recipe: &'a Recipe,
    data: &'a Data,
    threads: Option<u32>,
    resumed: bool,
    stop: &'a Arc<AtomicBool>,
}

impl Job<'_> {
    /// Everything from the model to the closing table, or from wherever an earlier part of the run has come to.
    fn work(&self) -> Result<()> {
        let (run, recipe, data) = (self.run, self.recipe, self.data);
        let device = choose_device(&recipe.device)?;
        let threads = origin::set_threads(run, device, self.resumed, self.threads)?;
        tracing::info!("run {} on {}", run.dir().display(), describe(device));
        let dir = recipe.resolve(&recipe.model);
        let checkpoint = Checkpoint::open(&dir)?;
        let record = Expansion::read(&dir)?;
        let template = data.maker.template();
        let mut inputs = recipe.identity()?;
        inputs.insert("model".to_owned(), model_digest(&checkpoint)?);
        inputs.insert("threads".to_owned(), threads);
        let vocabulary = checkpoint.config().llama()?.vocab_size;
        let texts = texts::prepare(recipe, &dir, vocabulary, data, &Path::new(RUNS).join("data"))?;
        let with_kept = |kept: &texts::Kept| {
            let (rows, micro) = (recipe.kept_rows(), recipe.train.micro_rows());
            WithKept::new(&data.batches, Arc::clone(&kept.sampler), rows, micro)
        };
        let kept = texts.kept.as_ref().map(with_kept);
        let batches: &dyn Batches = kept.as_ref().map_or(&data.batches, |kept| kept);
        inputs.insert("data".to_owned(), batches.fingerprint());
        let written = llama_pro_checkpoint::digest(template.source().as_bytes());
        inputs.insert("template".to_owned(), written);
        origin::record(run, &inputs)?;

        origin::warn_of_slow_bfloat16(&recipe.train, device);
        let model = self.load(&checkpoint, record.as_ref(), device)?;
        let reference = self.reference(&checkpoint, &model)?;
        let mut trainer = Trainer::new(model, reference, &recipe.train, recipe.keep_weights())?;
        self.expect(&mut trainer)?;
        let before = self.score_once("before", trainer.model(), &texts.scored)?;
        let asked_before = self.ask_once("answers-before", trainer.model())?;
        let ready = |benchmarks| Ready::new(benchmarks, &recipe.folder(), &dir);
        let mut benchmarks = recipe.benchmarks.as_ref().map(ready).transpose()?;
        let scored =
            benchmarks.as_mut().map(|ready| ready.score_once(run, "benchmarks-before", trainer.model()));
        let scored_before = scored.transpose()?;
        let mut watch = watch::Watch::new(run, recipe, &texts);
        let setup =
            Fit { config: &recipe.train, batches, run, inputs, resume: self.resumed, stop: self.stop };
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
        let after = self.score_once("after", trainer.model(), &texts.scored)?;
        let scored =
            benchmarks.as_mut().map(|ready| ready.score_once(run, "benchmarks-after", trainer.model()));
        let scored_after = scored.transpose()?;
        let asked_after = self.ask_once("answers-after", trainer.model())?;
        if stopped() {
            return self.pause(done.step);
        }
        let bar = progress::bytes("writing the model");
        bar.set_length(checkpoint.total_bytes());
        let written =
            trainer.export(&checkpoint, &run.model(), Weights::Model, Some(Arc::clone(self.stop)), &|more| {
                bar.inc(more)
            });
        bar.finish_and_clear();
        if written.is_err() && stopped() {
            return self.pause(done.step);
        }
        written?;
        self.write_template()?;
        if recipe.lora.is_some() {
            trainer.export_adapter(&run.dir().join("adapter"), &dir)?;
        }
        summary::finish(&summary::Facts {
            run,
            recipe,
            data,
            trainer: &trainer,
            before: &before,
            after: &after,
            asked: (&asked_before, &asked_after),
            benchmarks: scored_before.as_ref().zip(scored_after.as_ref()),
            done,
        })
    }

    /// What a step takes is said, and refused where it is too much, before time goes into scores.
    fn expect(&self, trainer: &mut Trainer) -> Result<()> {
        let (train, device) = (&self.recipe.train, trainer.model().device());
        let mut plan = |rows: usize, length: usize, documents: bool, keeps: bool| {
            let pass = rows_per_pass(rows, length, train.micro_rows(), device);
            let shape = (pass as i64, length as i64);
            trainer.expect(shape, pass < train.rows_per_step, documents, keeps)
        };
        let kept = self.recipe.kept_rows();
        plan(train.rows_per_step - kept, self.data.batches.longest_row(), self.recipe.data.packing, false)?;
        if kept > 0 {
            plan(kept, self.recipe.data.sequence_length, true, true)?;
        }
        Ok(())
    }

    /// Stopped with everything up to `step` saved: says how to go on.
    fn pause(&self, step: u64) -> Result<()> {
        closing::pause("sft", self.run, step, self.recipe.train.steps);
        Ok(())
    }

    fn load(&self, checkpoint: &Checkpoint, record: Option<&Expansion>, device: Device) -> Result<Llama> {
        let recipe = self.recipe;
        let trained = match (&recipe.lora, recipe.train.parameters, record) {
            (Some(_), _, _) => Trained::Nothing,
            (None, Parameters::All, _) => Trained::All,
            (None, Parameters::Added, Some(record)) => Trained::Names(record.trained_names()),
            (None, Parameters::Added, None) => bail!(nothing_added(checkpoint.dir())),
        };
        let kind = match recipe.train.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
        };
        let added = record.map(Expansion::new_blocks).unwrap_or_default();
        let mut model = Llama::load(checkpoint, &LoadOptions { device, kind: Some(kind), trained, added })?;
        if let Some(lora) = &recipe.lora {
            let (rank, alpha, targets) = (lora.rank, lora.alpha, lora.targets.clone());
            model.add_lora(&LoraOptions { rank, alpha, targets, seed: recipe.seed })?;
        }
        Ok(model)
    }

    /// The model before it is tuned, for the KL term, where the base is not inside the trained one: its own weights are
    /// trained, or adapters change what they compute.
    fn reference(&self, checkpoint: &Checkpoint, model: &Llama) -> Result<Option<Llama>> {
        let added = self.recipe.lora.is_none() && self.recipe.train.parameters == Parameters::Added;
        if self.recipe.keep_weights().kl == 0.0 || added && model.added().contains(&true) {
            return Ok(None);
        }
        let options =
            LoadOptions { device: model.device(), kind: Some(model.kind()), ..LoadOptions::default() };
        Ok(Some(Llama::load(checkpoint, &options)?))
    }

    /// The template goes with the model that was trained on it, so that others ask it in the same words.
    fn write_template(&self) -> Result<()> {
        let path = self.run.model().join("chat_template.jinja");
        Ok(llama_pro_run::write_atomic(&path, self.data.maker.template().source().as_bytes())?)
    }

    fn score_once(&self, name: &str, model: &Llama, texts: &[texts::Scored]) -> Result<EvalTable> {
        let file = self.run.eval().join(format!("{name}.json"));
        if file.exists() {
            return Ok(EvalTable::read(&file)?);
        }
        // These are waited for: they are scores of the run, not looks at its way.
        let table = texts::score(model, texts, self.recipe, name, &AtomicBool::new(false))?;
        self.run.write_eval(name, &table)?;
        Ok(table)
    }

    fn ask_once(&self, name: &str, model: &Llama) -> Result<Answers> {
        let file = self.run.eval().join(format!("{name}.json"));
        if file.exists() {
            let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
            return serde_json::from_slice(&text).with_context(|| file.display().to_string());
        }
        let answers = questions::ask(model, &self.data.maker, &self.recipe.eval)?;
        self.run.write_eval(name, &answers)?;
        Ok(answers)
    }
}
