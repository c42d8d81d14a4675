//! The keys of a task file. Their names are those of lm-evaluation-harness' YAML where it has the thing.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CodeSpec;
use crate::python::Pattern;
use crate::{Error, Result};

/// One benchmark task, as its file says.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Its name, which results are filed under.
    pub task: String,
    /// What tables call it; the name where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Version of the definition: results of different versions are not comparable.
    pub version: f64,
    /// What is asked of the model.
    pub output_type: OutputType,
    /// Split with examples for few-shot prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_split: Option<String>,
    /// Split that is evaluated where there is no test split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_split: Option<String>,
    /// Split that is evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_split: Option<String>,
    /// Split that examples are taken from, where it is not the training split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fewshot_split: Option<String>,
    /// Template of the prompt; with `multiple_inputs`, the expression that gives the index of the right input.
    #[serde(default)]
    pub doc_to_text: String,
    /// Template of the answer, or the expression for the index of the right choice.
    pub doc_to_target: String,
    /// Expression that gives the list of choices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc_to_choice: Option<String>,
    /// The choices are contexts, and the target is what follows each of them.
    #[serde(default)]
    pub multiple_inputs: bool,
    /// Expression for a list of 0 and 1 over the choices: `acc` is then the share of probability on the ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub true_choices: Option<String>,
    /// Template of the text whose words and bytes perplexities are counted in; the target where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_text: Option<String>,
    /// Columns to add to each document before anything else, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub process_docs: Vec<Column>,
    /// Text before everything else.
    #[serde(default)]
    pub description: String,
    /// Text between prompt and answer.
    #[serde(default = "space")]
    pub target_delimiter: String,
    /// Text after an example.
    #[serde(default = "blank_line")]
    pub fewshot_delimiter: String,
    /// Examples in a prompt where nothing else is asked for; 0 here means that there never are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_fewshot: Option<usize>,
    /// How examples are drawn.
    #[serde(default)]
    pub sampler: Sampler,
    /// Fixed examples: documents with the columns that the templates read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fewshot_samples: Vec<Value>,
    /// Templates of fixed examples, where they differ from those of documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fewshot_doc_to_target: Option<String>,
    /// How text is generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<GenerationSpec>,
    /// How an answer is found in generated text; the text itself where there are none.
    #[serde(default, rename = "filter", skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterSpec>,
    /// What is measured.
    pub metrics: Vec<Metric>,
    /// How `exact_match` compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<ExactMatch>,
    /// The program that decides whether generated code is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeSpec>,
    /// What the first leaderboard's harness did differently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaderboard: Option<Leaderboard>,
    /// Where its documents lie.
    pub data: DataSpec,
    /// The names that the file stands for, where it stands for many tasks.
    #[serde(default, skip_serializing)]
    pub family: Option<Family>,
}

/// A file that stands for many tasks: `{name}` and `{title}` in it are replaced.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Name of the group of all of them.
    pub group: String,
    /// Version of the groups.
    pub version: f64,
    /// The groups inside.
    pub groups: Vec<FamilyGroup>,
}

/// Some of the tasks of a family.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyGroup {
    /// Name of the group.
    pub group: String,
    /// What tables call it.
    pub alias: String,
    /// What `{name}` is replaced by.
    pub names: Vec<String>,
}

/// What is asked of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// The likelihood of each of several continuations.
    MultipleChoice,
    /// The likelihood of one continuation.
    Loglikelihood,
    /// The likelihood of a whole text, in windows.
    LoglikelihoodRolling,
    /// A greedy continuation.
    GenerateUntil,
}

/// A column to add to documents.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub column: String,
    /// Expression for its value.
    pub value: String,
}

/// How examples are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// At random, as Python's `random.sample` does from one generator per task.
    #[default]
    Default,
    /// The first ones.
    FirstN,
}

/// How text is generated.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationSpec {
    /// Strings that end the text; they are cut off.
    pub until: Vec<String>,
    /// The most tokens.
    #[serde(default = "default_tokens")]
    pub max_gen_toks: usize,
}

/// A way to find the answer in a text.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FilterSpec {
    /// Its name: results are filed under metric and filter.
    pub name: String,
    /// The answer is a match of this pattern; with groups, the first group of it that is not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex_pattern: Option<String>,
    /// Which match: 0 is the first, -1 the last.
    #[serde(default)]
    pub group_select: i64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of documents whose likeliest choice, or whose likeliest tokens, are right.
    Acc,
    /// The same, likelihoods divided by characters.
    AccNorm,
    /// The same, likelihoods divided by bytes.
    AccBytes,
    /// The same, likelihoods divided by tokens.
    AccTokens,
    /// Share of documents whose answer is the reference.
    ExactMatch,
    /// Perplexity of the target.
    Perplexity,
    /// Perplexity per word.
    WordPerplexity,
    /// Perplexity per byte.
    BytePerplexity,
    /// Bits per byte.
    BitsPerByte,
    /// Share of documents whose program passes.
    #[serde(rename = "pass@1")]
    PassAt1,
    /// The same under the name it has in the harness' MBPP.
    #[serde(rename = "pass_at_1")]
    PassAt1Mbpp,
}

/// How `exact_match` compares.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExactMatch {
    /// Upper and lower case are the same.
    #[serde(default)]
    pub ignore_case: bool,
    /// ASCII punctuation does not count.
    #[serde(default)]
    pub ignore_punctuation: bool,
    /// What matches these patterns is taken out of both sides, one pattern after the other.
    #[serde(default)]
    pub regexes_to_ignore: Vec<String>,
}

/// What the harness of the first Open LLM Leaderboard did differently.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Leaderboard {
    /// Its stop strings.
    pub until: Vec<String>,
    /// How it compared answers, where it differed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_match: Option<ExactMatch>,
}

/// Where the documents of a task lie, and where they come from.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Folders or file stems under the data folder that may hold it, the first that is there counts.
    #[serde(default)]
    pub places: Vec<String>,
    /// A set that is made or compiled in, and needs no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<String>,
    /// Dataset, configuration and address of the origin, for people.
    #[serde(default)]
    pub origin: String,
    /// Columns that are text in a table without types, even where they hold nothing but digits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<String>,
    /// Where one file holds the rows of all splits: the expression that is true for those to evaluate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_filter: Option<String>,
}

impl TaskSpec {
    /// Reads the text of a task file; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::File`] with the line, for a key that is unknown, missing or of the wrong kind, or keys that contradict.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let fail = |message: String| Error::File { path: path.to_path_buf(), message };
        let spec: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            fail(format!("line {line}: {}", e.message().replace('\n', " ")))
        })?;
        spec.check().map_err(fail)?;
        Ok(spec)
    }

    /// The split that is evaluated.
    pub fn eval_split(&self) -> Option<&str> {
        self.test_split.as_deref().or(self.validation_split.as_deref())
    }

    /// The split that examples come from, as the harness chooses it.
    pub fn shots_split(&self) -> Option<&str> {
        let or = [&self.fewshot_split, &self.training_split, &self.validation_split, &self.test_split];
        or.into_iter().flatten().next().map(String::as_str)
    }

    /// What tables call it.
    pub fn alias(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.task)
    }

    fn check(&self) -> Result<(), String> {
        use OutputType as O;
        let name = &self.task;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
            return Err(format!("task: expected a name of letters, digits, _ - and ., found \"{name}\""));
        }
        if self.eval_split().is_none() {
            return Err("expected test_split or validation_split: nothing says what to evaluate".to_owned());
        }
        if self.output_type == O::MultipleChoice && self.doc_to_choice.is_none() {
            return Err("a multiple_choice task needs doc_to_choice".to_owned());
        }
        if self.output_type == O::GenerateUntil && self.generation.is_none() {
            return Err("a generate_until task needs a table [generation]".to_owned());
        }
        if self.output_type == O::LoglikelihoodRolling && self.num_fewshot.is_some_and(|n| n > 0) {
            return Err("a loglikelihood_rolling task has no examples: num_fewshot must be 0".to_owned());
        }
        if self.metrics.is_empty() {
            return Err("metrics: expected at least one".to_owned());
        }
        for metric in &self.metrics {
            let fits = match metric {
                Metric::Acc => matches!(self.output_type, O::MultipleChoice | O::Loglikelihood),
                Metric::AccNorm | Metric::AccBytes | Metric::AccTokens => {
                    self.output_type == O::MultipleChoice
                }
                Metric::ExactMatch => matches!(self.output_type, O::MultipleChoice | O::GenerateUntil),
                Metric::Perplexity => self.output_type == O::Loglikelihood,
                Metric::WordPerplexity | Metric::BytePerplexity | Metric::BitsPerByte => {
                    self.output_type == O::LoglikelihoodRolling
                }
                Metric::PassAt1 | Metric::PassAt1Mbpp => self.code.is_some(),
            };
            if !fits {
                return Err(format!("metrics: \"{}\" does not fit this task", metric.name()));
            }
        }
        for filter in &self.filters {
            if let Some(pattern) = &filter.regex_pattern {
                Pattern::new(pattern).map_err(|e| format!("filter \"{}\": {e}", filter.name))?;
            }
        }
        let first = self.leaderboard.as_ref().and_then(|first| first.exact_match.as_ref());
        for pattern in self.exact_match.iter().chain(first).flat_map(|spec| &spec.regexes_to_ignore) {
            Pattern::new(pattern).map_err(|e| format!("regexes_to_ignore: {e}"))?;
        }
        if self.data.places.is_empty() && self.data.embedded.is_none() {
            return Err("data: expected places or embedded".to_owned());
        }
        self.code.as_ref().map_or(Ok(()), CodeSpec::check)
    }
}

impl Metric {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
            Self::AccTokens => "acc_tokens",
            Self::ExactMatch => "exact_match",
            Self::Perplexity => "perplexity",
            Self::WordPerplexity => "word_perplexity",
            Self::BytePerplexity => "byte_perplexity",
            Self::BitsPerByte => "bits_per_byte",
            Self::PassAt1 => "pass@1",
            Self::PassAt1Mbpp => "pass_at_1",
        }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::Perplexity | Self::WordPerplexity | Self::BytePerplexity | Self::BitsPerByte)
    }
}

fn space() -> String {
    " ".to_owned()
}

fn blank_line() -> String {
    "\n\n".to_owned()
}

fn default_tokens() -> usize {
    256
}
