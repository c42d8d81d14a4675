//! `generate MODEL --chat`: a conversation in the terminal. Questions come line by line from stdin, answers go to stdout
//! as they are written, everything else to stderr, so that a script can hold a conversation too.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use llama_pro_model::{Sampling, Session};
use llama_pro_text::chat::{
    BUILTIN_TEMPLATES, ChatTemplate, ChatTokenizer, Conversation, Message, SampleMaker, SpecialTokens,
};
use signal_hook::consts::SIGINT;

use super::source::Source;
use super::stream::TextStream;

/// How the conversation is held.
pub(super) struct Settings<'a> {
    pub(super) system: Option<&'a str>,
    pub(super) template: Option<&'a str>,
    pub(super) sampling: Sampling,
    pub(super) stops: Vec<String>,
    pub(super) max_new_tokens: usize,
}

/// Holds a conversation until stdin ends.
pub(super) fn run(folder: &Path, source: &Source, settings: Settings) -> Result<()> {
    let maker = maker(folder, settings.template)?;
    let Settings { system, sampling, mut stops, max_new_tokens, .. } = settings;
    let mut ends = source.ends.clone();
    match end_of_turn(&maker)? {
        End::Token(id) => ends.push(i64::from(id)),
        End::Text(text) => stops.push(text),
        End::Unmarked => {}
    }
    let mut chat = Chat {
        source,
        maker,
        session: Session::new(&source.model, source.path),
        conversation: Conversation::default(),
        system: system.map(str::to_owned),
        sampling,
        stops,
        ends,
        max_new_tokens,
        answers: 0,
    };
    chat.start_anew();
    let (idle, stop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    // At the prompt Ctrl-C ends the program, in an answer it ends the answer.
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&idle))?;
    signal_hook::flag::register(SIGINT, Arc::clone(&stop))?;
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        chat.say("/new starts anew, /system TEXT too and with another system prompt, Ctrl-C ends an answer, Ctrl-D the program");
    }
    for line in Lines(terminal) {
        let line = line?;
        let text = line.trim();
        idle.store(false, Ordering::SeqCst);
        stop.store(false, Ordering::SeqCst);
        match text.split_once(' ').unwrap_or((text, "")) {
            ("", _) => {}
            ("/new", _) => chat.start_anew(),
            ("/system", system) => {
                chat.system = Some(system.trim().to_owned()).filter(|text| !text.is_empty());
                chat.start_anew();
            }
            (word, _)
                if word.starts_with('/') && word.len() > 1 && word[1..].chars().all(char::is_alphabetic) =>
            {
                chat.say(&format!("no command {word}: expected /new or /system TEXT"));
            }
            _ => chat.answer(text, &stop)?,
        }
        idle.store(true, Ordering::SeqCst);
    }
    Ok(())
}

/// The lines of stdin; in a terminal each is asked for.
struct Lines(bool);

impl Iterator for Lines {
    type Item = std::io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0 {
            let _ = write!(std::io::stderr(), "> "); // nothing is lost where stderr is gone
        }
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// What follows an answer in the template.
enum End {
    Token(u32),
    Text(String),
    Unmarked,
}

struct Chat<'a> {
    source: &'a Source,
    maker: SampleMaker,
    session: Session<'a>,
    conversation: Conversation,
    system: Option<String>,
    sampling: Sampling,
    stops: Vec<String>,
    ends: Vec<i64>,
    max_new_tokens: usize,
    answers: u64,
}

impl Chat<'_> {
    fn say(&self, line: &str) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    fn start_anew(&mut self) {
        self.conversation.messages.clear();
        self.conversation.messages.extend(self.system.as_deref().map(|text| Message::new("system", text)));
    }

    fn answer(&mut self, question: &str, stop: &AtomicBool) -> Result<()> {
        if let Some(token) = self.maker.tokenizer().control_in(question) {
            self.say(&format!("`{token}` would be read as the special token: write it another way"));
            return Ok(());
        }
        self.conversation.messages.push(Message::new("user", question));
        let prompt = match self.prompt() {
            Ok(prompt) => prompt,
            Err(error) => {
                // The template refuses a role or the question is too long: the conversation stands as before.
                self.conversation.messages.pop();
                self.say(&format!("{error:#}"));
                return Ok(());
            }
        };
        let ids: Vec<i64> = prompt.iter().copied().map(i64::from).collect();
        let mut stream = TextStream::new(&self.source.tokenizer, &prompt, &self.stops);
        let mut out = std::io::stdout().lock();
        let mut failure = None;
        let mut hear = |new: &[i64]| -> Result<bool> {
            let last = new[new.len() - 1];
            if self.ends.contains(&last) || stop.load(Ordering::SeqCst) {
                return Ok(true);
            }
            out.write_all(stream.push(last as u32)?.as_bytes())?;
            out.flush()?;
            Ok(stream.stopped())
        };
        self.session.generate(&ids, self.max_new_tokens, &self.sampling, self.answers, &mut |new| {
            hear(new).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                true
            })
        })?;
        failure.map_or(Ok(()), Err)?;
        writeln!(out, "{}", stream.finish()?)?;
        self.answers += 1;
        self.conversation.messages.push(Message::new("assistant", stream.text()));
        Ok(())
    }

    /// The conversation up to the answer. Where it is longer than the model reads, the oldest exchanges are left out.
    fn prompt(&mut self) -> Result<Vec<u32>> {
        let first = self.conversation.messages.iter().position(|m| m.role() != "system").unwrap_or(0);
        let most = self.source.model.config().max_position_embeddings;
        // Half of it at most is kept free for the answer.
        let room = most - self.max_new_tokens.min(most / 2);
        let mut left_out = 0;
        loop {
            let prompt = self.maker.prompt(&self.conversation)?;
            if prompt.len() <= room {
                if left_out > 0 {
                    self.say(&format!(
                        "the model reads {most} tokens: the {left_out} oldest messages are forgotten"
                    ));
                }
                return Ok(prompt);
            }
            ensure!(
                self.conversation.messages.len() > first + 2,
                "{} tokens with the template, the model reads {most} with its answer",
                prompt.len()
            );
            self.conversation.messages.drain(first..first + 2);
            left_out += 2;
        }
    }
}

fn maker(folder: &Path, name: Option<&str>) -> Result<SampleMaker> {
    let tokenizer = ChatTokenizer::from_dir(folder)?;
    let tokens = SpecialTokens::from_dir(folder, |token| tokenizer.id(token).is_some())?;
    let template = match name {
        Some(name) => ChatTemplate::builtin(name, &tokens)?,
        None => match ChatTemplate::from_dir(folder, &tokens)? {
            Some(template) => template,
            None => bail!(
                "{}: has no chat template: --template names one of {}",
                folder.display(),
                BUILTIN_TEMPLATES.join(", ")
            ),
        },
    };
    SampleMaker::new(template, tokenizer).context("--chat")
}

/// What the template writes after an answer: a special token, or else the text before the next question.
fn end_of_turn(maker: &SampleMaker) -> Result<End> {
    const ANSWER: &str = "6f1a09d2answer";
    const QUESTION: &str = "6f1a09d2question";
    let messages = [("user", "?"), ("assistant", ANSWER), ("user", QUESTION)];
    let messages = messages.map(|(role, text)| Message::new(role, text)).to_vec();
    let text = match maker.template().render(&Conversation { messages, tools: None }, false) {
        Ok(rendered) => rendered.text,
        Err(_) => return Ok(End::Unmarked), // a template may refuse a conversation that ends with a question
    };
    let after = text.split_once(ANSWER).map_or("", |(_, rest)| rest);
    let between = after.split_once(QUESTION).map_or(after, |(between, _)| between);
    if let Some(token) = maker.tokenizer().control_in(between)
        && let Some(id) = maker.tokenizer().id(token)
    {
        return Ok(End::Token(id));
    }
    Ok(match between.trim() {
        "" => End::Unmarked,
        _ => End::Text(between.trim_end().to_owned()),
    })
}
