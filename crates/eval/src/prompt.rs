//! The documents of a task with their prompts: examples drawn and joined as the harness does it.

use serde_json::Value;

use crate::data::{DataFile, DataRoot, Documents};
use crate::python::{self, PythonRandom};
use crate::tasks::{Doc, Field, OutputType, Sampler, TaskSpec, Templates};
use crate::{Error, Protocol, Result};

/// One document with everything that is asked about it.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Number of the document in what is evaluated.
    pub(crate) id: usize,
    pub(crate) doc: Doc,
    /// Contexts and continuations; of text to generate and text to score whole, one with an empty continuation.
    pub(crate) requests: Vec<(String, String)>,
    /// The right answer, as the task has it.
    pub(crate) target: Value,
    /// Choices as they count for lengths.
    pub(crate) choices: Vec<String>,
    /// Indexes of the right choices.
    pub(crate) gold: Vec<usize>,
    /// For a share of probability: which choices are true.
    pub(crate) labels: Vec<bool>,
    /// Words and bytes for perplexities.
    pub(crate) counts: (usize, usize),
}

/// A task with its documents read and its prompts written.
pub(crate) struct Prepared {
    pub(crate) questions: Vec<Question>,
    pub(crate) shots: usize,
    /// Documents before a limit.
    pub(crate) original: usize,
    pub(crate) templates: Templates,
    /// The files that were read, those of examples last.
    pub(crate) files: Vec<DataFile>,
}

/// Reads the documents of a task and writes its prompts.
pub(crate) fn prepare(
    spec: &TaskSpec,
    data: &DataRoot,
    protocol: Protocol,
    shots: Option<usize>,
    limit: Option<usize>,
) -> Result<Prepared> {
    let templates = Templates::new(spec)?;
    let fail = |message: String| Error::Task { task: spec.task.clone(), message };
    let split = spec.eval_split().ok_or_else(|| fail("no split to evaluate".to_owned()))?;
    let documents = data.load(spec, &templates, split)?;
    // A task that says 0 has its examples in its prompt, or none.
    let never = spec.num_fewshot == Some(0) || spec.output_type == OutputType::LoglikelihoodRolling;
    let shots = if never { 0 } else { shots.or(spec.num_fewshot).unwrap_or(0) };
    let mut order: Vec<usize> = (0..documents.docs.len()).collect();
    let mut random = PythonRandom::new(protocol.seed());
    if protocol == Protocol::Leaderboard {
        random.shuffle(&mut order);
    }
    let original = order.len();
    order.truncate(limit.unwrap_or(usize::MAX));
    let pool = if shots == 0 { None } else { Some(Pool::new(spec, data, &templates, protocol, split)?) };
    let mut questions = Vec::with_capacity(order.len());
    for (id, row) in order.into_iter().enumerate() {
        let doc = documents.docs[row].clone();
        let mut context = spec.description.clone();
        if let Some(pool) = &pool {
            for shot in pool.draw(&mut random, shots, &doc).map_err(fail)? {
                context.push_str(&pool.text(spec, &templates, shot)?);
            }
        }
        let question = Question::new(spec, &templates, id, doc, &context);
        questions.push(question.map_err(|message| documents.fail(row, message))?);
    }
    let mut files = documents.files;
    let examples = pool.and_then(|pool| pool.documents).map(|documents| documents.files);
    files.extend(examples.into_iter().flatten().filter(|file| !files.contains(file)).collect::<Vec<_>>());
    Ok(Prepared { questions, shots, original, templates, files })
}

/// What examples are drawn from.
struct Pool {
    documents: Option<Documents>,
    fixed: Vec<Doc>,
    /// Whether the document itself must not be among its examples; one more is drawn then.
    excludes: bool,
    first: bool,
    /// Whether a draw that comes out short, because rows are there twice, is made up for.
    again: bool,
}

impl Pool {
    fn new(
        spec: &TaskSpec,
        data: &DataRoot,
        templates: &Templates,
        protocol: Protocol,
        eval_split: &str,
    ) -> Result<Self> {
        let first = spec.sampler == Sampler::FirstN;
        let fixed: Vec<Doc> = spec.fewshot_samples.iter().filter_map(|v| v.as_object().cloned()).collect();
        // The harness compares the two keys of the task file: a task with neither has "the same" split.
        let same = spec.fewshot_split == spec.test_split;
        let excludes = match protocol {
            Protocol::Current | Protocol::V040 => same,
            Protocol::Leaderboard => spec.training_split.is_none() && !first,
        };
        let again = protocol == Protocol::Current;
        if !fixed.is_empty() {
            return Ok(Self { documents: None, fixed, excludes, first, again });
        }
        let split = spec.shots_split().unwrap_or(eval_split);
        Ok(Self { documents: Some(data.load(spec, templates, split)?), fixed, excludes, first, again })
    }

    fn docs(&self) -> &[Doc] {
        self.documents.as_ref().map_or(&self.fixed, |documents| &documents.docs)
    }

    fn draw(&self, random: &mut PythonRandom, n: usize, doc: &Doc) -> Result<Vec<usize>, String> {
        let docs = self.docs();
        let too_many = || format!("{n} examples in a prompt, but there are {} to take them from", docs.len());
        let others = || (0..docs.len()).filter(|i| !self.excludes || docs[*i] != *doc);
        if self.first {
            let first: Vec<usize> = others().take(n).collect();
            return if first.len() == n { Ok(first) } else { Err(too_many()) };
        }
        if !self.excludes {
            return random.sample(docs.len(), n).ok_or_else(too_many);
        }
        let mut drawn = random.sample(docs.len(), n + 1).ok_or_else(too_many)?;
        drawn.retain(|i| docs[*i] != *doc);
        drawn.truncate(n);
        if drawn.len() < n && self.again {
            // From the rows that differ. Older harnesses asked with fewer examples.
            let pool: Vec<usize> = others().collect();
            let places = random.sample(pool.len(), n).ok_or_else(too_many)?;
            drawn = places.into_iter().map(|place| pool[place]).collect();
        }
        Ok(drawn)
    }

    /// An example with its answer and the delimiters.
    fn text(&self, spec: &TaskSpec, templates: &Templates, row: usize) -> Result<String> {
        let doc = &self.docs()[row];
        let fail = |message: String| match &self.documents {
            Some(documents) => documents.fail(row, message),
            None => Error::Task { task: spec.task.clone(), message: format!("fewshot_samples: {message}") },
        };
        let prompt = if spec.multiple_inputs {
            let gold = index(&templates.get(Field::Text, doc).map_err(fail)?).map_err(fail)?;
            let choices = strings(&templates.get(Field::Choice, doc).map_err(fail)?).map_err(fail)?;
            choices.get(gold).cloned().ok_or_else(|| fail(outside(gold, choices.len())))?
        } else {
            templates.text(Field::Text, doc).map_err(fail)?
        };
        let own = !self.fixed.is_empty() && templates.has(Field::ShotTarget);
        let target = templates.get(if own { Field::ShotTarget } else { Field::Target }, doc).map_err(fail)?;
        let answer = if spec.doc_to_choice.is_some() && !spec.multiple_inputs {
            let choices = strings(&templates.get(Field::Choice, doc).map_err(fail)?).map_err(fail)?;
            let gold = right(&target, &choices).map_err(fail)?;
            choices[gold[0]].clone()
        } else {
            python::text(&target)
        };
        if answer.is_empty() {
            return Ok(prompt);
        }
        Ok(format!("{prompt}{}{answer}{}", spec.target_delimiter, spec.fewshot_delimiter))
    }
}

impl Question {
    fn new(
        spec: &TaskSpec,
        templates: &Templates,
        id: usize,
        doc: Doc,
        before: &str,
    ) -> Result<Self, String> {
        let mut target = templates.get(Field::Target, &doc)?;
        let mut question = Self {
            id,
            doc,
            requests: Vec::new(),
            target: Value::Null,
            choices: Vec::new(),
            gold: Vec::new(),
            labels: Vec::new(),
            counts: (0, 0),
        };
        let doc = &question.doc;
        let text = || templates.text(Field::Text, doc).map(|text| format!("{before}{text}"));
        match spec.output_type {
            OutputType::MultipleChoice => {
                let choices = strings(&templates.get(Field::Choice, doc)?)?;
                if let Some(empty) = choices.iter().position(String::is_empty) {
                    return Err(format!("choice {} is empty", empty + 1));
                }
                if choices.len() < 2 {
                    return Err(format!("expected at least two choices, found {}", choices.len()));
                }
                if spec.multiple_inputs {
                    let follows = format!("{}{}", spec.target_delimiter, python::text(&target));
                    question.gold = right(&templates.get(Field::Text, doc)?, &choices)?;
                    question.requests =
                        choices.iter().map(|c| (format!("{before}{c}"), follows.clone())).collect();
                } else {
                    question.gold = right(&target, &choices)?;
                    let context = text()?;
                    let follows = |choice: &String| format!("{}{choice}", spec.target_delimiter);
                    question.requests = choices.iter().map(|c| (context.clone(), follows(c))).collect();
                    if let Ok(gold) = index(&target) {
                        target = Value::from(gold);
                    }
                }
                if templates.has(Field::True) {
                    let labels = templates.get(Field::True, doc)?;
                    let labels = labels.as_array().map(Vec::as_slice).unwrap_or_default();
                    question.labels = labels.iter().map(|v| v.as_i64() == Some(1)).collect();
                    if question.labels.len() != choices.len() || !question.labels.contains(&true) {
                        let (n, m) = (labels.len(), choices.len());
                        return Err(format!("expected {m} labels with a 1 among them, found {n}"));
                    }
                }
                question.choices = choices;
            }
            OutputType::Loglikelihood => {
                question.requests.push((text()?, python::text(&target)));
            }
            OutputType::LoglikelihoodRolling => {
                let scored = python::text(&target);
                let counted = if templates.has(Field::Count) {
                    templates.text(Field::Count, doc)?
                } else {
                    scored.clone()
                };
                question.counts = (python::words(&counted), counted.len());
                question.requests.push((scored, String::new()));
            }
            OutputType::GenerateUntil => question.requests.push((text()?, String::new())),
        }
        question.target = target;
        Ok(question)
    }
}

/// The indexes of the right choices: a number, a number in digits, the choice itself, or a list of numbers.
fn right(target: &Value, choices: &[String]) -> Result<Vec<usize>, String> {
    let gold = match target {
        Value::Array(items) => items.iter().map(index).collect::<Result<Vec<_>, _>>()?,
        Value::String(text) if index(target).is_err() => {
            let at = choices.iter().position(|choice| choice == text);
            vec![at.ok_or_else(|| format!("the answer \"{text}\" is none of the {} choices", choices.len()))?]
        }
        other => vec![index(other)?],
    };
    match gold.iter().find(|i| **i >= choices.len()) {
        Some(bad) => Err(outside(*bad, choices.len())),
        None if gold.is_empty() => Err("no answer is right".to_owned()),
        None => Ok(gold),
    }
}

fn outside(found: usize, choices: usize) -> String {
    format!("the answer key {found} is out of range: expected 0 to {}", choices.saturating_sub(1))
}

fn index(value: &Value) -> Result<usize, String> {
    let number = match value {
        Value::Number(n) => n.as_i64(),
        Value::String(s) if s.bytes().all(|b| b.is_ascii_digit()) => s.parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| format!("expected the number of a choice, found {value}"))?;
    usize::try_from(number)
        .map_err(|_| format!("the answer key {number} is out of range: expected 0 or more"))
}

fn strings(value: &Value) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or_else(|| format!("expected a list of choices, found {value}"))?;
    Ok(items.iter().map(python::text).collect())
}
