//! A chat template: from a model folder, built in, or from a string; rendered as transformers renders it.

use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use minijinja::Environment;
use minijinja::value::Serde;
use serde_json::{Map, Value};

use super::builtin;
use super::encode::ChatTokenizer;
use super::environment::{FUEL, RAISED, environment};
use super::error::{ChatError, ChatResult, Fault};
use super::generation;
use super::message::{Conversation, Message};
use super::special_tokens::{SpecialTokens, read_object};

/// The name under which the environment knows the template.
const NAME: &str = "chat_template";

/// How long one rendering may take. Fuel stops nearly everything long before; lists that are added to themselves are
/// the exception, since minijinja joins them lazily.
const LONGEST: Duration = Duration::from_secs(10);

/// A compiled template and the special tokens that it writes.
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    name: String,
    source: String,
    tokens: SpecialTokens,
    marks: bool,
    /// Whether fuel may not be enough to stop it.
    clocked: bool,
    /// Control tokens that must be in the vocabulary: those of a built-in format.
    control: &'static [&'static str],
}

/// A conversation as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// What the model reads.
    pub text: String,
    /// Bytes of `text` that stood in `{% generation %}` blocks.
    pub generated: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// The template of a model folder: `chat_template.jinja`, or `chat_template` in `tokenizer_config.json`; of several
    /// named ones the one called `default`. `None` when the folder has none.
    ///
    /// # Errors
    /// A file that cannot be read, or a template that does not parse.
    pub fn from_dir(dir: &Path, tokens: &SpecialTokens) -> ChatResult<Option<Self>> {
        let file = dir.join("chat_template.jinja");
        match fs::read_to_string(&file) {
            Ok(source) => return Self::new(&file.display().to_string(), &source, tokens.clone()).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(ChatError::Read { path: file, source }),
        }
        let file = dir.join("tokenizer_config.json");
        let Some(config) = read_object(&file)? else { return Ok(None) };
        let source = match config.get("chat_template") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(source)) => source.as_str(),
            Some(Value::Array(list)) => {
                let named = |t: &&Value| t.get("name").and_then(Value::as_str) == Some("default");
                let default = list.iter().find(named).and_then(|t| t.get("template")).and_then(Value::as_str);
                default.ok_or_else(|| ChatError::Malformed {
                    path: file.clone(),
                    expected: "a chat_template with the name `default`".to_owned(),
                    found: "a list without one".to_owned(),
                })?
            }
            Some(_) => {
                return Err(ChatError::Malformed {
                    path: file,
                    expected: "chat_template to be a string or a list of named ones".to_owned(),
                    found: "another value".to_owned(),
                });
            }
        };
        Self::new(&format!("of {}", file.display()), source, tokens.clone()).map(Some)
    }

    /// A built-in one: see [`super::BUILTIN_TEMPLATES`].
    ///
    /// # Errors
    /// A name that is none of them.
    pub fn builtin(name: &str, tokens: &SpecialTokens) -> ChatResult<Self> {
        let Some(format) = builtin::find(name) else {
            let reason = format!("not a built-in one: expected {}", builtin::BUILTIN_TEMPLATES.join(", "));
            return Err(ChatError::Template { template: format!("`{name}`"), reason });
        };
        let mut template = Self::new(&format!("`{name}`"), format.source, tokens.clone())?;
        template.control = format.control;
        Ok(template)
    }

    /// A template from its source. `name` is what errors call it.
    ///
    /// # Errors
    /// Where it does not parse.
    pub fn new(name: &str, source: &str, tokens: SpecialTokens) -> ChatResult<Self> {
        // Python's lexer reads every line end as \n.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let (rewritten, marks) = generation::rewrite(&source);
        let failed = |error: minijinja::Error| ChatError::Template {
            template: name.to_owned(),
            reason: format!("does not parse: {}", one_line(&error)),
        };
        let mut environment = environment(None).map_err(failed)?;
        environment.add_template_owned(NAME, rewritten).map_err(failed)?;
        let environment = Arc::new(environment);
        let clocked = may_double(&source);
        Ok(Self { environment, name: name.to_owned(), source, tokens, marks, clocked, control: &[] })
    }

    /// The same, with `strftime_now` telling the given moment (seconds since 1970, UTC): the same text on every day.
    #[must_use]
    pub fn at(mut self, seconds: i64) -> Self {
        Arc::make_mut(&mut self.environment)
            .add_function("strftime_now", move |format: String| super::python::strftime(seconds, &format));
        self
    }

    /// Renders a conversation; with `add_generation_prompt`, up to where the assistant begins to write.
    ///
    /// # Errors
    /// What the template raised, or that it ran or allocated without end.
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> ChatResult<Rendered> {
        self.render_messages(&conversation.messages, conversation.tools.as_ref(), add_generation_prompt)
    }

    pub(super) fn render_messages(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        add_generation_prompt: bool,
    ) -> ChatResult<Rendered> {
        let mut context = Map::new();
        for (name, text) in &self.tokens.0 {
            context.insert(name.clone(), Value::from(text.as_str()));
        }
        context
            .insert("messages".into(), messages.iter().map(|m| Value::Object(aliased(m.fields()))).collect());
        context.insert("tools".into(), tools.cloned().unwrap_or(Value::Null));
        context.insert("documents".into(), Value::Null);
        context.insert("add_generation_prompt".into(), Value::Bool(add_generation_prompt));
        let rendered = self.within_bounds(minijinja::Value::from(Serde(&context)))?;
        if !self.marks {
            return Ok(Rendered { text: rendered, generated: Vec::new() });
        }
        let (text, generated) = generation::collect(&rendered).ok_or_else(|| {
            let line =
                "generation blocks that lie in one another, or a text with the noncharacter U+FDD0 or U+FDD1";
            ChatError::conversation(Fault::Template, format!("chat template {}: {line}", self.name))
        })?;
        Ok(Rendered { text, generated })
    }

    /// Renders; in a thread of its own, which is left behind where it does not come back, if fuel may not be enough.
    fn within_bounds(&self, context: minijinja::Value) -> ChatResult<String> {
        if !self.clocked {
            let rendered = self.environment.get_template(NAME).and_then(|template| template.render(context));
            return rendered.map_err(|error| self.failed(&error));
        }
        let (send, receive) = mpsc::sync_channel(1);
        let environment = Arc::clone(&self.environment);
        let work = move || {
            let _ = send.send(environment.get_template(NAME).and_then(|template| template.render(context)));
        };
        let fail = |reason: String| {
            ChatError::conversation(Fault::Template, format!("chat template {}: {reason}", self.name))
        };
        let builder = thread::Builder::new().name("chat template".to_owned()).stack_size(16 << 20);
        builder.spawn(work).map_err(|error| fail(format!("no thread to render it in: {error}")))?;
        match receive.recv_timeout(LONGEST) {
            Ok(result) => result.map_err(|error| self.failed(&error)),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(fail(format!("works or allocates without end: not done after {} s", LONGEST.as_secs())))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(fail("fails: its thread panicked".to_owned())),
        }
    }

    /// Whether it says itself what the assistant writes.
    pub fn has_generation_blocks(&self) -> bool {
        self.marks
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text, as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The special tokens that it may write.
    pub fn tokens(&self) -> &SpecialTokens {
        &self.tokens
    }

    /// Refuses a tokenizer without the special tokens that the template writes.
    ///
    /// # Errors
    /// The first token that is missing.
    pub fn check_tokenizer(&self, tokenizer: &ChatTokenizer) -> ChatResult<()> {
        let fail = |reason: String| Err(ChatError::Template { template: self.name.clone(), reason });
        let template = self.environment.get_template(NAME).map_err(|error| self.failed(&error))?;
        let unknown = template.undeclared_variables(false);
        for name in ["bos_token", "eos_token"] {
            let optional = self.source.contains(&format!("{name} is defined"));
            if !optional && unknown.contains(name) && self.tokens.get(name).is_none() {
                return fail(format!("writes {name}, and the tokenizer has none"));
            }
        }
        let written = self.tokens.0.iter().filter(|(name, _)| unknown.contains(name.as_str()));
        let needed = self.control.iter().copied().chain(written.map(|(_, token)| token.as_str()));
        for token in needed {
            if !tokenizer.is_control(token) {
                return fail(format!(
                    "writes the special token `{token}`, which the tokenizer does not have"
                ));
            }
        }
        Ok(())
    }

    fn failed(&self, error: &minijinja::Error) -> ChatError {
        let reason = if out_of_fuel(error) {
            format!(
                "works or allocates without end: stopped after {FUEL} steps of 64 bytes or one instruction"
            )
        } else if let Some(message) = raised(error) {
            format!("refuses the conversation: {message}")
        } else {
            format!("fails: {}", one_line(error))
        };
        ChatError::conversation(Fault::Template, format!("chat template {}: {reason}", self.name))
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("name", &self.name)
            .field("marks", &self.marks)
            .finish_non_exhaustive()
    }
}

/// Thoughts under the names that templates read: transformers fills `thinking` and `reasoning_content` from whichever
/// of the three names a message has.
fn aliased(message: &Map<String, Value>) -> Map<String, Value> {
    let names = ["reasoning_content", "thinking", "reasoning"];
    let reasoning = names.iter().find_map(|name| message.get(*name).filter(|value| !value.is_null()));
    let Some(reasoning) = reasoning else { return message.clone() };
    let mut out = Map::new();
    out.insert("thinking".to_owned(), reasoning.clone());
    out.extend(message.clone());
    out.insert("reasoning_content".to_owned(), reasoning.clone());
    out
}

/// Whether a template could add a list to itself again and again, which fuel does not count: that takes a `+` in a
/// statement, or something that calls itself.
fn may_double(source: &str) -> bool {
    let mut statements = source.split("{%").skip(1).map(|rest| rest.split("%}").next().unwrap_or(rest));
    source.contains("macro")
        || source.contains("recursive")
        || statements.any(|statement| statement.trim_matches(['+', '-']).contains('+'))
}

fn chain(error: &minijinja::Error) -> impl Iterator<Item = &minijinja::Error> {
    std::iter::successors(Some(error), |error| {
        std::error::Error::source(*error).and_then(|source| source.downcast_ref::<minijinja::Error>())
    })
}

fn out_of_fuel(error: &minijinja::Error) -> bool {
    chain(error).any(|e| e.kind() == minijinja::ErrorKind::OutOfFuel)
}

fn raised(error: &minijinja::Error) -> Option<String> {
    let detail = chain(error).filter_map(minijinja::Error::detail).find_map(|d| d.strip_prefix(RAISED))?;
    Some(detail.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn one_line(error: &minijinja::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
