//! `debug mask`: conversations of a recipe as the model reads them, what is learned in colour.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use llama_pro_checkpoint::Checkpoint;
use llama_pro_corpus::training_instructions;
use llama_pro_text::chat::{Conversation, Format, Message, Records, SampleMaker, Spans, conversation_files};

use super::recipe::{self, LAST_PRETRAIN, Recipe};
use super::{RUNS, data};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A recipe of `sft` [default: the embedded miniature].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key of the recipe.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Conversations of each set.
    #[arg(long, default_value_t = 3, value_name = "N")]
    conversations: usize,
    /// Marks what is learned with ⟦ and ⟧ in place of colour, as where stdout is no terminal.
    #[arg(long)]
    plain: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut recipe = recipe::load(args.config.as_deref(), &args.set)?;
    if recipe.model == LAST_PRETRAIN {
        match llama_pro_run::RunFolder::latest(Path::new(RUNS), "pretrain")? {
            Some(run) => recipe.model = run.join("model").display().to_string(),
            None => bail!("{RUNS}: no pretrain run; name a model with --set model=DIR"),
        }
    }
    let model = recipe.resolve(&recipe.model);
    let vocabulary = Checkpoint::open(&model)?.config().llama()?.vocab_size;
    let maker = data::maker(&recipe, &model, vocabulary)?;
    let colour = !args.plain && std::io::IsTerminal::is_terminal(&std::io::stdout());
    let mut out = std::io::stdout().lock();
    for set in &recipe.data.sets {
        for (place, conversation) in first(&recipe, set, args.conversations)? {
            match Spans::new(maker.template(), &conversation)
                .and_then(|s| Ok((maker.sample(&conversation)?, s)))
            {
                Ok((sample, spans)) => {
                    let (all, learned) = (sample.ids.len(), sample.n_trained());
                    writeln!(out, "── {place}: {learned} of {all} tokens are learned")?;
                    writeln!(out, "{}", shown(&maker, &spans, colour)?)?;
                }
                Err(error) => writeln!(out, "── {place}: cannot be learned from: {error}")?,
            }
        }
    }
    Ok(())
}

/// The first conversations of a set and where they stand.
fn first(recipe: &Recipe, set: &recipe::InstructionSet, n: usize) -> Result<Vec<(String, Conversation)>> {
    let mut all = Vec::new();
    if let Some(generated) = &set.generated {
        for (i, made) in training_instructions(generated.seed, n).into_iter().enumerate() {
            let messages = vec![Message::new("user", made.question), Message::new("assistant", made.answer)];
            all.push((format!("{} {}", set.name, i + 1), Conversation { messages, tools: None }));
        }
    }
    let Some(path) = &set.path else { return Ok(all) };
    for file in conversation_files(&recipe.resolve(path))? {
        for record in Records::open(&file)? {
            let (number, record) = record?;
            let read = match set.format {
                Some(format) => format.conversations(&record),
                None => Format::detect(&record).and_then(|format| format.conversations(&record)),
            };
            let place = format!("{} {}: record {number}", set.name, file.display());
            for conversation in read.map_err(|error| error.at(&file, number))? {
                all.push((place.clone(), conversation));
                if all.len() == n {
                    return Ok(all);
                }
            }
        }
    }
    Ok(all)
}

/// The text with what is learned in green, token by token as the flags say, or between ⟦ and ⟧.
fn shown(maker: &SampleMaker, spans: &Spans, colour: bool) -> Result<String> {
    let (begin, end) = if colour { ("\u{1b}[1;32m", "\u{1b}[0m") } else { ("⟦", "⟧") };
    let sample = maker.flag(spans)?;
    let tokens = maker.tokenizer().encode(&spans.text)?;
    let (mut text, mut at, mut inside) = (String::new(), 0, false);
    for ((_, bytes), trained) in tokens.iter().zip(&sample.trained) {
        // Several tokens can stand for the bytes of one character.
        if *trained != inside && bytes.start >= at {
            text.push_str(&spans.text[at..bytes.start]);
            text.push_str(if inside { end } else { begin });
            (at, inside) = (bytes.start, *trained);
        }
    }
    text.push_str(&spans.text[at..]);
    if inside {
        text.push_str(end);
    }
    Ok(text)
}
