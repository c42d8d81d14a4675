//! Results as a record in lm-evaluation-harness' schema, as rows of a table, and two records compared.

use serde_json::{Map, Value, json};

use crate::bench::Counts;
use crate::{DataFile, Evaluation, Options, Score, TaskResult};

/// The version of the harness whose prompts, filters and metrics the tasks have.
pub const HARNESS: &str = "0.4.13";

/// Headings of [`rows`].
pub const HEADERS: [&str; 7] = ["task", "version", "shots", "filter", "metric", "value", "stderr"];

/// Headings of [`Change::cells`].
pub const CHANGE_HEADERS: [&str; 7] = ["task", "metric", "A", "B", "B - A", "stderr", "verdict"];

/// What a record says about the model.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The model folder, or its name.
    pub model: String,
    /// Parameters.
    pub parameters: Option<u64>,
    /// In which type it computed.
    pub dtype: Option<String>,
    /// What it ran on.
    pub device: Option<String>,
    /// Digest of weights and tokenizer.
    pub digest: Option<String>,
    /// The most tokens it reads.
    pub max_length: Option<usize>,
    /// Seconds since 1970.
    pub date: Option<f64>,
}

/// The record of a run. `samples` says whether every document is in it.
pub fn record(evaluation: &Evaluation, options: &Options, about: &About, samples: bool) -> Value {
    let mut sections: [(&str, Map<String, Value>); 10] = [
        ("results", Map::new()),
        ("groups", Map::new()),
        ("group_subtasks", Map::new()),
        ("configs", Map::new()),
        ("versions", Map::new()),
        ("n-shot", Map::new()),
        ("higher_is_better", Map::new()),
        ("n-samples", Map::new()),
        ("task_hashes", Map::new()),
        ("data_files", Map::new()),
    ];
    let mut put = |section: &str, name: &str, value: Value| {
        if let Some((_, map)) = sections.iter_mut().find(|(s, _)| *s == section) {
            map.insert(name.to_owned(), value);
        }
    };
    let mut counts = Map::new();
    for task in &evaluation.tasks {
        let name = &task.spec.task;
        put("results", name, scores(name, task.spec.alias(), task.effective, &task.scores));
        put("configs", name, config(task));
        put("versions", name, json!(task.spec.version));
        put("n-shot", name, json!(task.shots));
        let better = task.spec.metrics.iter().map(|m| (m.name().to_owned(), m.higher_is_better().into()));
        put("higher_is_better", name, Value::Object(better.collect()));
        put("n-samples", name, json!({ "original": task.original, "effective": task.effective }));
        put("task_hashes", name, json!(task.hash));
        let file = |f: &DataFile| json!({ "file": f.name, "sha256": f.sha256, "rows": f.rows });
        put("data_files", name, task.files.iter().map(file).collect());
        let Counts { requests, cut, unsplit, .. } = task.counts;
        counts.insert(
            name.clone(),
            json!({ "requests": requests, "left_truncated": cut, "context_tokens_not_a_prefix": unsplit }),
        );
    }
    for group in &evaluation.groups {
        let name = &group.group.name;
        let row = scores(name, &group.group.alias, group.documents, &group.scores);
        put("results", name, row.clone());
        put("groups", name, row);
        put("group_subtasks", name, json!(group.group.members));
        put("versions", name, json!(group.group.version));
        let shots = evaluation.tasks.iter().find(|t| group.tasks.contains(&t.spec.task)).map(|t| t.shots);
        put("n-shot", name, json!(shots));
    }
    let mut record = Map::new();
    for (name, map) in sections {
        record.insert(name.to_owned(), Value::Object(map));
    }
    record.insert("request_counts".into(), counts.into());
    record.insert(
        "config".into(),
        json!({
            "model": "llama-pro", "model_args": { "pretrained": about.model }, "protocol": options.protocol.name(),
            "add_bos_token": evaluation.has_bos, "model_num_parameters": about.parameters, "model_dtype": about.dtype,
            "model_sha": about.digest, "device": about.device, "limit": options.limit, "num_fewshot": options.shots,
            "gen_kwargs": { "max_gen_toks": options.max_gen_toks, "until": options.until },
            "predict_only": options.predict_only,
            "bootstrap_iters": if options.no_bootstrap { 0 } else { 100_000 },
            "fewshot_seed": options.protocol.seed(),
        }),
    );
    record.insert("model_name".into(), about.model.clone().into());
    record.insert("max_length".into(), json!(about.max_length));
    record.insert("lm_eval_version".into(), HARNESS.into());
    record.insert("llama_pro_version".into(), env!("CARGO_PKG_VERSION").into());
    record.insert("date".into(), json!(about.date));
    record
        .insert("total_evaluation_time_seconds".into(), evaluation.elapsed.as_secs_f64().to_string().into());
    if samples {
        let all = evaluation.tasks.iter().map(|task| {
            let of: Vec<Value> = task.samples.iter().map(|s| Value::Object(s.record.clone())).collect();
            (task.spec.task.clone(), Value::Array(of))
        });
        record.insert("samples".into(), Value::Object(all.collect()));
    }
    Value::Object(record)
}

fn scores(name: &str, alias: &str, documents: usize, scores: &[Score]) -> Value {
    let mut row = Map::new();
    row.insert("name".into(), name.into());
    row.insert("alias".into(), alias.into());
    row.insert("sample_len".into(), documents.into());
    for score in scores {
        let (metric, filter) = (score.metric.name(), &score.filter);
        row.insert(format!("{metric},{filter}"), json!(score.value));
        row.insert(
            format!("{metric}_stderr,{filter}"),
            score.stderr.map_or_else(|| json!("N/A"), |e| json!(e)),
        );
    }
    Value::Object(row)
}

fn config(task: &TaskResult) -> Value {
    let mut config = serde_json::to_value(&*task.spec).unwrap_or_default();
    if let Some(map) = config.as_object_mut() {
        map.insert("num_fewshot".into(), task.shots.into());
        if let Some(generation) = &task.generation {
            map.insert("generation_kwargs".into(), generation.clone());
        }
    }
    config
}

/// The rows of a printed table under [`HEADERS`].
pub fn rows(evaluation: &Evaluation) -> Vec<[String; 7]> {
    let mut rows = Vec::new();
    let mut add = |name: &str, version: f64, shots: usize, scores: &[Score]| {
        for (i, score) in scores.iter().enumerate() {
            let once = |text: String| if i == 0 { text } else { String::new() };
            rows.push([
                once(name.to_owned()),
                once(format!("{version}")),
                once(shots.to_string()),
                score.filter.clone(),
                score.metric.name().to_owned(),
                format!("{:.4}", score.value),
                score.stderr.map_or_else(|| "N/A".to_owned(), |e| format!("{e:.4}")),
            ]);
        }
    };
    for group in &evaluation.groups {
        let shots =
            evaluation.tasks.iter().find(|t| group.tasks.contains(&t.spec.task)).map_or(0, |t| t.shots);
        add(&group.group.name, group.group.version, shots, &group.scores);
    }
    for task in &evaluation.tasks {
        add(&task.spec.task, task.spec.version, task.shots, &task.scores);
    }
    rows
}

/// One metric in two records.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Task or group.
    pub task: String,
    /// Metric and filter.
    pub metric: String,
    /// In the first record.
    pub a: f64,
    /// In the second.
    pub b: f64,
    /// Standard error of the difference: over pairs of documents where both records have the same, else from the two.
    pub stderr: Option<f64>,
    /// Whether documents were compared pairwise.
    pub paired: bool,
    /// How likely chance alone is to give a difference as large: exact where pairs of right and wrong were compared.
    pub p: Option<f64>,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// Compares what two records have in common, in the order of the first.
///
/// # Errors
/// A record that has no `results`, or records that share no task, in one line.
pub fn changes(a: &Value, b: &Value) -> Result<Vec<Change>, String> {
    let results = |record: &Value, name: &str| {
        record["results"]
            .as_object()
            .cloned()
            .ok_or_else(|| format!("{name} is no result file: it has no \"results\""))
    };
    let (left, right) = (results(a, "A")?, results(b, "B")?);
    let mut changes = Vec::new();
    for (task, row) in &left {
        for (metric, value) in row.as_object().into_iter().flatten() {
            let (Some(x), Some(y)) = (value.as_f64(), right.get(task).and_then(|r| r[metric].as_f64()))
            else {
                continue;
            };
            let Some((name, filter)) = metric.split_once(',').filter(|(name, _)| !name.ends_with("_stderr"))
            else {
                continue;
            };
            let of = |row: &Value| row[format!("{name}_stderr,{filter}")].as_f64();
            let pairs = paired(&a["samples"][task], &b["samples"][task], name, filter);
            let differences: Option<Vec<f64>> = pairs.map(|p| p.iter().map(|(x, y)| y - x).collect());
            let paired = differences.is_some();
            let exact = differences.as_deref().and_then(crate::significance::exact);
            let stderr = match differences {
                Some(differences) => crate::mean_stderr(&differences),
                None => of(row).zip(of(&right[task])).map(|(x, y)| x.hypot(y)),
            };
            let higher_is_better = !name.ends_with("perplexity") && name != "bits_per_byte";
            let mut change = Change {
                task: task.clone(),
                metric: metric.clone(),
                a: x,
                b: y,
                stderr,
                paired,
                p: exact,
                higher_is_better,
            };
            change.p = change.p.or_else(|| change.z().map(crate::significance::normal));
            changes.push(change);
        }
    }
    if changes.is_empty() { Err("the two records have no score in common".to_owned()) } else { Ok(changes) }
}

/// The values of the same documents, where both records have them all.
fn paired(a: &Value, b: &Value, metric: &str, filter: &str) -> Option<Vec<(f64, f64)>> {
    let of = |samples: &Value| -> Option<Vec<(String, f64)>> {
        let samples = samples.as_array()?.iter().filter(|s| s["filter"] == filter);
        let one = |s: &Value| Some((s["doc_hash"].as_str()?.to_owned(), s[metric].as_f64()?));
        samples.map(one).collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
    };
    let (a, b) = (of(a)?, of(b)?);
    let same = a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| x.0 == y.0);
    same.then(|| a.into_iter().zip(b).map(|(x, y)| (x.1, y.1)).collect())
}

impl Change {
    /// How many standard errors apart.
    pub fn z(&self) -> Option<f64> {
        let difference = self.b - self.a;
        match self.stderr {
            Some(e) if e > 0.0 => Some(difference / e),
            Some(_) if difference == 0.0 => Some(0.0),
            _ => None,
        }
    }

    /// Whether it is more than chance alone does once in twenty times.
    pub fn verdict(&self) -> &'static str {
        match self.p {
            None => "no standard error",
            Some(p) if p >= 0.05 => "no difference seen",
            Some(_) if (self.b > self.a) == self.higher_is_better => "better",
            Some(_) => "worse",
        }
    }

    /// The row of a printed table under [`CHANGE_HEADERS`].
    pub fn cells(&self) -> [String; 7] {
        let paired = if self.paired { " paired" } else { "" };
        [
            self.task.clone(),
            self.metric.clone(),
            format!("{:.4}", self.a),
            format!("{:.4}", self.b),
            format!("{:+.4}", self.b - self.a),
            self.stderr.map_or_else(|| "N/A".to_owned(), |e| format!("{e:.4}{paired}")),
            self.p.map_or_else(|| self.verdict().to_owned(), |p| format!("{} (p {p:.3})", self.verdict())),
        ]
    }
}
