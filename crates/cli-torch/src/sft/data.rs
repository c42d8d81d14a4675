//! Sets of instructions to tokenized conversations; every one that is left out is counted by its reason.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use llama_pro_corpus::{is_validation, training_instructions};
use llama_pro_eval::TokenRow;
use llama_pro_text::chat::{
    BUILTIN_TEMPLATES, ChatTemplate, ChatTokenizer, Conversation, Fault, Format, Message, Records, Sample,
    SampleMaker, SpecialTokens, conversation_files,
};
use llama_pro_train::{Conversation as Tokens, ConversationBatches};

use super::recipe::{InstructionSet, OverLong, Recipe, Unusable};

/// What a run learns from and is asked with.
pub(super) struct Data {
    pub(super) batches: ConversationBatches,
    /// Held-out conversations as rows.
    pub(super) held_out: Vec<TokenRow>,
    pub(super) maker: SampleMaker,
    pub(super) sets: Vec<SetCounts>,
}

/// What became of the records of one set.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(super) struct SetCounts {
    pub(super) name: String,
    pub(super) conversations: usize,
    pub(super) kept: usize,
    pub(super) held_out: usize,
    pub(super) truncated: usize,
    /// Left out, by reason.
    pub(super) dropped: BTreeMap<String, usize>,
    pub(super) tokens: usize,
    pub(super) trained_tokens: usize,
}

/// The template of a recipe and the tokenizer of a model, which fit each other and the model.
pub(super) fn maker(recipe: &Recipe, model: &Path, vocabulary: usize) -> Result<SampleMaker> {
    let tokenizer = ChatTokenizer::from_dir(model)?;
    let n = tokenizer.vocab_size();
    ensure!(
        n <= vocabulary,
        "{}: its tokenizer has {n} tokens, the model only {vocabulary}",
        model.display()
    );
    let tokens = SpecialTokens::from_dir(model, |token| tokenizer.id(token).is_some())?;
    let own = || ChatTemplate::from_dir(model, &tokens);
    let template = match recipe.template.as_deref() {
        None => match own()? {
            Some(template) => template,
            None => ChatTemplate::builtin(BUILTIN_TEMPLATES[0], &tokens)?,
        },
        Some("own") => {
            own()?.with_context(|| format!("template = \"own\": {} has no chat template", model.display()))?
        }
        Some(file) if file.ends_with(".jinja") => {
            let path = recipe.resolve(file);
            let source = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            ChatTemplate::new(&path.display().to_string(), &source, tokens)?
        }
        Some(name) => ChatTemplate::builtin(name, &tokens).context("template")?,
    };
    let template = match recipe.now {
        Some(now) => template.at(now),
        None => template,
    };
    Ok(SampleMaker::new(template, tokenizer)?)
}

/// Reads and tokenizes every set.
pub(super) fn prepare(recipe: &Recipe, model: &Path, vocabulary: usize) -> Result<Data> {
    let maker = maker(recipe, model, vocabulary)?;
    let (mut train, mut held_out, mut sets) = (Vec::new(), Vec::new(), Vec::new());
    for set in &recipe.data.sets {
        let mut reader = SetReader {
            recipe,
            set,
            maker: &maker,
            counts: SetCounts::default(),
            kept: Vec::new(),
            held_out: &mut held_out,
        };
        reader.counts.name.clone_from(&set.name);
        reader.read()?;
        let (counts, kept) = (reader.counts, reader.kept);
        ensure!(
            !kept.is_empty(),
            "data.sets.{}: none of its {} conversations can be learned from: {}",
            set.name,
            counts.conversations,
            reasons(&counts.dropped)
        );
        tracing::info!(
            "{}: {} conversations, {} tokens, {:.0} % of them learned{}{}",
            set.name,
            counts.kept,
            llama_pro_cli::output::count(counts.tokens as u64),
            100.0 * counts.trained_tokens as f64 / counts.tokens.max(1) as f64,
            if counts.truncated > 0 { format!(", {} cut", counts.truncated) } else { String::new() },
            if counts.dropped.is_empty() {
                String::new()
            } else {
                format!(", left out: {}", reasons(&counts.dropped))
            },
        );
        train.extend(weighted(kept, set.weight, recipe.seed));
        sets.push(counts);
    }
    held_out.truncate(recipe.eval.rows);
    let (rows, micro) = (recipe.train.rows_per_step - recipe.kept_rows(), recipe.train.micro_rows());
    let length = recipe.data.sequence_length;
    let batches = ConversationBatches::new(train, length, recipe.data.packing, rows, micro, recipe.seed)?;
    Ok(Data { batches, held_out, maker, sets })
}

/// Reasons and their numbers in one line.
pub(super) fn reasons(dropped: &BTreeMap<String, usize>) -> String {
    let parts: Vec<String> = dropped.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    parts.join(", ")
}

struct SetReader<'a> {
    recipe: &'a Recipe,
    set: &'a InstructionSet,
    maker: &'a SampleMaker,
    counts: SetCounts,
    kept: Vec<Tokens>,
    held_out: &'a mut Vec<TokenRow>,
}

impl SetReader<'_> {
    fn read(&mut self) -> Result<()> {
        if let Some(generated) = &self.set.generated {
            for (i, instruction) in
                training_instructions(generated.seed, generated.conversations).iter().enumerate()
            {
                let messages = vec![
                    Message::new("user", &instruction.question),
                    Message::new("assistant", &instruction.answer),
                ];
                self.add(&Conversation { messages, tools: None }, Path::new(&self.set.name), i + 1)?;
            }
        }
        let Some(path) = &self.set.path else { return Ok(()) };
        for file in conversation_files(&self.recipe.resolve(path))? {
            for record in Records::open(&file)? {
                let (number, record) = match record {
                    Ok(record) => record,
                    Err(error) => {
                        self.counts.conversations += usize::from(error.fault().is_some());
                        self.refuse(error)?;
                        continue;
                    }
                };
                let conversations = match self.set.format {
                    Some(format) => format.conversations(&record),
                    None => Format::detect(&record).and_then(|format| format.conversations(&record)),
                };
                match conversations {
                    Ok(conversations) => {
                        for conversation in &conversations {
                            self.add(conversation, &file, number)?;
                        }
                    }
                    Err(error) => {
                        self.counts.conversations += 1;
                        self.refuse(error.at(&file, number))?;
                    }
                }
                if self.set.max_conversations.is_some_and(|most| self.counts.conversations >= most) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, conversation: &Conversation, file: &Path, number: usize) -> Result<()> {
        self.counts.conversations += 1;
        let mut sample = match self.maker.sample(conversation) {
            Ok(sample) => sample,
            Err(error) => return self.refuse(error.at(file, number)),
        };
        let most = self.recipe.data.sequence_length + 1;
        if sample.ids.len() > most {
            let n = sample.ids.len();
            match self.recipe.data.over_long {
                OverLong::Error => anyhow::bail!(
                    "{}: record {number}: {n} tokens, and a row of data.sequence-length = {} holds {most}",
                    file.display(),
                    most - 1
                ),
                OverLong::Drop => return self.drop_as(Fault::TooLong),
                OverLong::Truncate => {
                    sample.ids.truncate(most);
                    sample.trained.truncate(most);
                    if sample.trained.iter().skip(1).all(|t| !t) {
                        return self.drop_as(Fault::TooLong);
                    }
                    self.counts.truncated += 1;
                }
            }
        }
        let said: String = conversation.messages.iter().map(|m| m.content()).collect::<Vec<_>>().join("\n");
        if is_validation(&said, self.recipe.data.validation, 0) {
            self.counts.held_out += 1;
            self.held_out.push(row(&sample));
        } else {
            self.counts.kept += 1;
            self.counts.tokens += sample.ids.len();
            self.counts.trained_tokens += sample.n_trained();
            self.kept.push(Tokens { ids: sample.ids, trained: sample.trained });
        }
        Ok(())
    }

    /// The first fault of each kind is named in the log; the rest are counted.
    fn refuse(&mut self, error: llama_pro_text::chat::ChatError) -> Result<()> {
        match error.fault() {
            Some(fault) if self.recipe.data.unusable == Unusable::Drop => {
                if !self.counts.dropped.contains_key(fault.name()) {
                    tracing::warn!("left out, the first of its kind: {error}");
                }
                self.drop_as(fault)
            }
            _ => Err(error.into()),
        }
    }

    fn drop_as(&mut self, fault: Fault) -> Result<()> {
        *self.counts.dropped.entry(fault.name().to_owned()).or_default() += 1;
        Ok(())
    }
}

/// A conversation as a row that is scored.
fn row(sample: &Sample) -> TokenRow {
    let ids: Vec<i64> = sample.ids.iter().map(|&id| i64::from(id)).collect();
    let mut row = TokenRow::document(&ids);
    for (target, trained) in row.targets.iter_mut().zip(&sample.trained[1..]) {
        if !trained {
            *target = llama_pro_eval::IGNORED;
        }
    }
    row
}

/// Each conversation as often as the weight says; of a fraction, those that a permutation of the seed puts first.
fn weighted(kept: Vec<Tokens>, weight: f64, seed: u64) -> Vec<Tokens> {
    if weight == 1.0 {
        return kept;
    }
    let n = kept.len() as u64;
    let order = llama_pro_shards::Permutation::new(n, seed);
    let total = ((n as f64 * weight).round() as u64).max(1);
    (0..total).map(|i| kept[order.at(i % n) as usize].clone()).collect()
}
