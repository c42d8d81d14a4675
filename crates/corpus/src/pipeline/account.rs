//! The account: sums over parts, duplicates and shards that must agree to the last document.

use std::collections::BTreeMap;

use llama_pro_shards::SourceRecord;

use super::Context;
use super::finish::Joined;
use super::hashes::look_up;
use super::parts::Part;
use super::read::{CONTAMINATED, EXAMPLES, Example, NAMED_FILES, PartRecord};
use crate::dedup::{EXACT, Groups, NEAR};
use crate::error::{Error, Result};
use crate::report::{
    ClusterSize, CorpusReport, DuplicateExample, Duplicates, RuleReport, SideReport, SourceReport,
};

/// Names under which duplicates are counted.
const EXACT_RULE: &str = "duplicate";
const NEAR_RULE: &str = "near-duplicate";
const OVER_RULE: &str = "over-max-tokens";
const LINES_RULE: &str = "only-repeated-lines";

/// The report in the making.
pub(super) struct Account<'a> {
    context: &'a Context<'a>,
    report: CorpusReport,
    records: Vec<SourceRecord>,
}

impl<'a> Account<'a> {
    /// Sums over parts and duplicates.
    pub(super) fn new(
        context: &'a Context<'a>,
        parts: &[Part],
        done: &[PartRecord],
        groups: &Groups,
    ) -> Result<Self> {
        let mut report = CorpusReport::default();
        let mut records = Vec::new();
        for (index, source) in context.recipe.sources.iter().enumerate() {
            let mut sum =
                SourceReport { name: source.name.clone(), weight: source.weight, ..SourceReport::default() };
            let mut record = SourceRecord { name: source.name.clone(), ..SourceRecord::default() };
            let mut examples: BTreeMap<String, Vec<Example>> = BTreeMap::new();
            let mut keys = blake3::Hasher::new();
            let mut first = 0;
            for (part, done) in parts.iter().zip(done) {
                let documents = done.counts.kept as usize;
                let fates = &groups.fates[first..first + documents];
                first += documents;
                if part.source != index {
                    continue;
                }
                keys.update(done.key.as_bytes());
                record.inputs.extend(done.inputs.iter().cloned());
                sum.files += done.files;
                sum.input_bytes += done.input_bytes;
                sum.text_bytes += done.counts.bytes;
                sum.documents.add(&done.counts);
                sum.pii.add(&done.pii);
                for (fate, rule) in [(EXACT, EXACT_RULE), (NEAR, NEAR_RULE)] {
                    let n = fates.iter().filter(|&&f| f == fate).count() as u64;
                    sum.documents.drop_kept(rule, n);
                }
                for (rule, those) in &done.examples {
                    let all = examples.entry(rule.clone()).or_default();
                    all.extend(those.iter().take(EXAMPLES - all.len()).cloned());
                }
                report.contaminated += done.counts.dropped.get(CONTAMINATED).copied().unwrap_or(0);
                report.contaminations.extend(done.contaminated.iter().cloned());
            }
            if record.inputs.len() as u64 != sum.files || sum.files > NAMED_FILES as u64 {
                record.inputs.clear();
            }
            record.digest = format!("blake3:{}", keys.finalize().to_hex());
            sum.rules = examples
                .into_iter()
                .map(|(rule, examples)| RuleReport { rule, examples, ..RuleReport::default() })
                .collect();
            report.sources.push(sum);
            records.push(record);
        }
        let texts = look_up(done, groups)?;
        let text = |number: &u32| texts.get(number).cloned().unwrap_or_default();
        let examples = groups.examples.iter().map(|(dropped, kept, fate)| {
            let ((dropped, dropped_excerpt), (kept, kept_excerpt)) = (text(dropped), text(kept));
            DuplicateExample { dropped, kept, near: *fate == NEAR, dropped_excerpt, kept_excerpt }
        });
        report.duplicates = Duplicates {
            exact: groups.fates.iter().filter(|&&fate| fate == EXACT).count() as u64,
            near: groups.fates.iter().filter(|&&fate| fate == NEAR).count() as u64,
            clusters: groups
                .sizes
                .iter()
                .map(|(&documents, &clusters)| ClusterSize { documents, clusters })
                .collect(),
            examples: examples.collect(),
        };
        Ok(Self { context, report, records })
    }

    /// Adds what a source's shards hold.
    pub(super) fn joined(&mut self, index: usize, joined: &Joined) -> Result<()> {
        let source = &mut self.report.sources[index];
        source.documents.drop_kept(OVER_RULE, joined.over_max_tokens);
        source.documents.drop_kept(LINES_RULE, joined.lines.emptied);
        if !joined.emptied.is_empty() {
            let (rule, examples) = (LINES_RULE.to_owned(), joined.emptied.clone());
            source.rules.push(RuleReport { rule, examples, ..RuleReport::default() });
        }
        let line_dedup = self.context.recipe.sources[index].line_dedup.is_on();
        source.lines = line_dedup.then(|| joined.lines.clone());
        let written: u64 = joined.shards.iter().map(|shard| shard.documents).sum();
        let place = source.name.clone();
        if written != source.documents.kept || source.documents.seen != source.documents.accounted() {
            let (seen, accounted) =
                (source.documents.seen, source.documents.accounted() - source.documents.kept + written);
            return Err(Error::Tally { place, seen, accounted });
        }
        source.documents.bytes = joined.shards.iter().map(|shard| shard.text_bytes).sum();
        let mut sides = joined.shards.iter().map(|shard| SideReport {
            documents: shard.documents,
            bytes: shard.text_bytes,
            tokens: shard.tokens,
        });
        source.train = sides.next().unwrap_or_default();
        source.validation = sides.next();
        source.fim = self.context.fim(index).map(|_| joined.fim);
        let documents = [source.train.documents, source.validation.map_or(0, |side| side.documents)];
        self.has_both_sides(index, documents)
    }

    /// Refuses a source of which nothing is left, or nothing on one side of the split: `documents` of training and of
    /// validation.
    pub(super) fn has_both_sides(&self, index: usize, documents: [u64; 2]) -> Result<()> {
        let source = &self.report.sources[index];
        let (name, place) = (source.name.clone(), source.name.clone());
        let fraction = self.context.recipe.split.validation;
        if documents == [0, 0] {
            return Err(Error::Empty { name, place, counts: source.documents.to_string() });
        }
        let side = match documents {
            [0, _] => "training",
            [_, 0] if fraction > 0.0 => "validation",
            _ => return Ok(()),
        };
        Err(Error::EmptySide { name, place, side, documents: documents.iter().sum(), fraction })
    }

    /// The finished report and the records of the sources.
    pub(super) fn close(mut self, fingerprint: &str) -> Result<(CorpusReport, Vec<SourceRecord>)> {
        fingerprint.clone_into(&mut self.report.fingerprint);
        let training = self.context.recipe.training.as_ref();
        self.report.training_tokens = training.map(super::Training::tokens);
        let weights: f64 = self.report.sources.iter().map(|source| source.weight).sum();
        for (source, record) in self.report.sources.iter_mut().zip(&mut self.records) {
            let counts = &source.documents;
            record.documents = counts.seen;
            record.kept = counts.kept;
            record.dropped.clone_from(&counts.dropped);
            record.failed.clone_from(&counts.failed);
            for (map, failed) in [(&counts.dropped, false), (&counts.failed, true)] {
                for (rule, &documents) in map {
                    match source.rules.iter_mut().find(|report| report.rule == *rule) {
                        Some(report) => (report.documents, report.failed) = (documents, failed),
                        None => source.rules.push(RuleReport {
                            rule: rule.clone(),
                            documents,
                            failed,
                            examples: Vec::new(),
                        }),
                    }
                }
            }
            source.bytes_per_token = source.train.bytes as f64 / source.train.tokens.max(1) as f64;
            if let (Some(training), true) = (training, weights > 0.0) {
                let share = source.weight / weights;
                source.epochs = Some(training.tokens() as f64 * share / source.train.tokens.max(1) as f64);
            }
        }
        Ok((self.report, self.records))
    }
}
