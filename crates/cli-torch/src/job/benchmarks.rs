//! `[benchmarks]` of a recipe: tasks of `eval` that are scored before and after training.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use llama_pro_cli::output;
use llama_pro_eval::{
    Catalog, CodeRunner, DataRoot, Journal, Options, Selection, TaskSpec, TokenizerCodec, evaluate, report,
};
use llama_pro_model::{Llama, Path as Blocks, Scorer};
use llama_pro_run::RunFolder;
use llama_pro_sandbox::{Config, Sandbox};
use llama_pro_text::Tokenizer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::eval::{Bar, adds_bos, texts};

/// Tasks and where their data lie.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Benchmarks {
    /// Tasks, groups or task files as `eval --tasks` takes them; NAME:N asks for N examples.
    pub(crate) tasks: Vec<String>,
    /// Folder with the benchmarks' files. Default data/eval.
    #[serde(default = "data_folder")]
    pub(crate) data: String,
    /// The first N documents of each task only. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
}

fn data_folder() -> String {
    "data/eval".to_owned()
}

/// What is ready to be scored: names and data are known to be there.
pub(crate) struct Ready {
    selection: Selection,
    data: DataRoot,
    options: Options,
    sandbox: Option<Sandbox>,
    codec: TokenizerCodec,
    model: String,
}

impl Benchmarks {
    /// Refuses names and data that cannot be used, before a run begins; `folder` is where its relative paths start.
    pub(crate) fn check(&self, folder: &Path) -> Result<()> {
        ensure!(!self.tasks.is_empty(), "benchmarks.tasks: expected the name of a task at least, found none");
        ensure!(self.limit != Some(0), "benchmarks.limit: expected at least 1, found 0");
        let (selection, data, options) = self.open(folder)?;
        Ok(llama_pro_eval::check(&selection, &data, &options)?)
    }

    fn open(&self, folder: &Path) -> Result<(Selection, DataRoot, Options)> {
        let mut catalog = Catalog::builtin()?;
        texts::add_tasks(&mut catalog)?;
        let selection = catalog.select(self.tasks.iter().map(String::as_str)).context("benchmarks.tasks")?;
        let data = data(folder.join(&self.data), &selection)?;
        Ok((selection, data, Options { limit: self.limit, ..Options::default() }))
    }
}

impl Ready {
    /// Opens the tasks and what runs programs; `model` has the tokenizer.
    pub(crate) fn new(benchmarks: &Benchmarks, folder: &Path, model: &Path) -> Result<Self> {
        let (selection, data, options) = benchmarks.open(folder)?;
        let has_code = |(task, _): &(Arc<TaskSpec>, _)| task.code.is_some();
        let sandbox = match selection.tasks.iter().any(has_code) {
            true => Some(Sandbox::open(&Config::default()).context("benchmarks.tasks")?),
            false => None,
        };
        let codec = TokenizerCodec::new(Tokenizer::from_dir(model)?, adds_bos(model)?);
        Ok(Self { selection, data, options, sandbox, codec, model: model.display().to_string() })
    }

    /// Scores a model, or reads what an earlier part of the same run wrote to `eval/NAME.json`.
    pub(crate) fn score_once(&mut self, run: &RunFolder, name: &str, model: &Llama) -> Result<Value> {
        let file = run.eval().join(format!("{name}.json"));
        if file.exists() {
            let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
            return serde_json::from_slice(&text).with_context(|| file.display().to_string());
        }
        let mut bar = Bar::new();
        let mut scorer = Scorer::new(model, Blocks::Grown);
        let runner = self.sandbox.as_mut().map(|sandbox| sandbox as &mut dyn CodeRunner);
        let (selection, data, options) = (&self.selection, &self.data, &self.options);
        let mut journal = Journal::in_memory();
        let found =
            evaluate(&mut scorer, &self.codec, selection, data, options, runner, &mut journal, &mut bar);
        bar.finish();
        let about = report::About {
            model: self.model.clone(),
            max_length: Some(model.config().max_position_embeddings),
            ..report::About::default()
        };
        let record = report::record(&found?, options, &about, true);
        run.write_eval(name, &record)?;
        Ok(record)
    }
}

/// Folder of the files, and the documents that are made here.
pub(crate) fn data(folder: std::path::PathBuf, selection: &Selection) -> Result<DataRoot> {
    let mut data = DataRoot { folder, ..DataRoot::default() };
    for (task, _) in &selection.tasks {
        if let Some(name) = task.data.embedded.as_deref()
            && let Some(docs) = texts::documents(name)?
        {
            data.sets.insert(name.to_owned(), docs);
        }
    }
    Ok(data)
}

/// Prints what has changed, document by document.
pub(crate) fn show(before: &Value, after: &Value) -> Result<()> {
    let changes = report::changes(before, after).map_err(anyhow::Error::msg)?;
    let headers = ["benchmark", "metric", "before", "after", "change", "stderr", "verdict"];
    println!("{}", output::table(&headers, changes.iter().map(report::Change::cells)));
    Ok(())
}
