//! One document of a result: what was asked, what was answered, and the hashes that prove that both sides asked the same.

use serde_json::{Map, Value, json};

use super::aggregate::Item;
use crate::prompt::Question;
use crate::python::{dumps, sha256, text};
use crate::tasks::Metric;

/// One document under one filter.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Number of the document.
    pub id: usize,
    /// How the answer was found.
    pub filter: String,
    /// Its values, one for each metric that the filter has.
    pub values: Vec<(Metric, (f64, f64))>,
    /// SHA-256 of the document.
    pub doc_hash: String,
    /// SHA-256 of the first context.
    pub prompt_hash: String,
    /// SHA-256 of the target.
    pub target_hash: String,
    /// Everything, in the harness' keys.
    pub record: Map<String, Value>,
}

/// What was answered.
pub(super) struct Answered {
    pub(super) resps: Value,
    pub(super) filtered: Value,
    /// Generation settings, which stand where a continuation would.
    pub(super) settings: Option<Value>,
    /// Further facts for people: why a program failed.
    pub(super) more: Map<String, Value>,
}

impl Sample {
    pub(super) fn new(
        question: &Question,
        filter: &str,
        values: Vec<(Metric, Item)>,
        rolling: bool,
        answered: Answered,
    ) -> Self {
        let doc = Value::Object(question.doc.clone());
        let target = text(&question.target);
        let doc_hash = sha256(&dumps(&doc));
        let prompt_hash = sha256(question.requests.first().map_or("", |(ctx, _)| ctx));
        let target_hash = sha256(&target);
        let mut arguments = Map::new();
        for (i, (ctx, cont)) in question.requests.iter().enumerate() {
            let second = answered.settings.clone().unwrap_or_else(|| Value::from(cont.clone()));
            let one =
                if rolling { json!({ "arg_0": ctx }) } else { json!({ "arg_0": ctx, "arg_1": second }) };
            arguments.insert(format!("gen_args_{i}"), one);
        }
        let mut record = Map::new();
        record.insert("doc_id".into(), question.id.into());
        record.insert("doc".into(), doc);
        record.insert("target".into(), question.target.clone());
        record.insert("arguments".into(), arguments.into());
        record.insert("resps".into(), answered.resps);
        record.insert("filtered_resps".into(), answered.filtered);
        record.insert("filter".into(), filter.into());
        let names: Vec<&str> = values.iter().map(|(metric, _)| metric.name()).collect();
        record.insert("metrics".into(), names.into());
        record.insert("doc_hash".into(), doc_hash.clone().into());
        record.insert("prompt_hash".into(), prompt_hash.clone().into());
        record.insert("target_hash".into(), target_hash.clone().into());
        for (metric, (value, count)) in &values {
            let pair =
                matches!(metric, Metric::WordPerplexity | Metric::BytePerplexity | Metric::BitsPerByte);
            let value = if pair { json!([value, count]) } else { json!(value) };
            record.insert(metric.name().to_owned(), value);
        }
        record.extend(answered.more);
        Self {
            id: question.id,
            filter: filter.to_owned(),
            values,
            doc_hash,
            prompt_hash,
            target_hash,
            record,
        }
    }
}

/// SHA-256 over the hashes of all samples in order: equal to another's only if documents, prompts and targets are.
pub(super) fn task_hash(samples: &[Sample]) -> String {
    let hashes = |s: &Sample| format!("{}{}{}", s.doc_hash, s.prompt_hash, s.target_hash);
    sha256(&samples.iter().map(hashes).collect::<String>())
}
