//! Which characters of a rendered conversation the model is to write itself.
//!
//! A template with `{% generation %}` says it. For the others a conversation is rendered up to each message of the
//! assistant, as a text: what comes after that is the message. This compares characters, not tokens, and where a prefix
//! of the conversation is not a prefix of the text (a template that rewrites earlier turns), that is an error.

use std::ops::Range;

use super::error::{ChatError, ChatResult, Fault};
use super::message::{Conversation, Message};
use super::template::{ChatTemplate, Rendered};

/// A rendered conversation and what of it is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans {
    /// What the model reads.
    pub text: String,
    /// Bytes of `text` that are learned, in order, none empty.
    pub trained: Vec<Range<usize>>,
}

impl Spans {
    /// Renders a conversation and finds its answers.
    ///
    /// # Errors
    /// A conversation that fails [`Conversation::check`], a template that refuses it or drops a message, and spans that
    /// cannot be told or hold nothing.
    pub fn new(template: &ChatTemplate, conversation: &Conversation) -> ChatResult<Self> {
        conversation.check()?;
        let whole = template.render(conversation, false)?;
        check_nothing_dropped(template, conversation, &whole.text)?;
        let answers = match template.has_generation_blocks() {
            true => marked(template, conversation, &whole)?,
            false => between_prefixes(template, conversation, &whole.text)?,
        };
        let trained: Vec<Range<usize>> = answers.into_iter().filter(|span| !span.is_empty()).collect();
        if trained.is_empty() {
            let line =
                format!("chat template {}: no character of the conversation is learned", template.name());
            return Err(ChatError::conversation(Fault::Mask, line));
        }
        Ok(Self { text: whole.text, trained })
    }
}

/// The generation blocks, those of messages with the weight 0 left out.
fn marked(
    template: &ChatTemplate,
    conversation: &Conversation,
    whole: &Rendered,
) -> ChatResult<Vec<Range<usize>>> {
    let answers: Vec<&Message> = conversation.messages.iter().filter(|m| m.role() == "assistant").collect();
    if answers.iter().all(|m| m.trained) {
        return Ok(whole.generated.clone());
    }
    if answers.len() != whole.generated.len() {
        let line = format!(
            "chat template {}: {} generation blocks for {} messages of the assistant, some with the weight 0: \
             cannot tell which block is whose",
            template.name(),
            whole.generated.len(),
            answers.len()
        );
        return Err(ChatError::conversation(Fault::Mask, line));
    }
    let pairs = answers.iter().zip(&whole.generated);
    Ok(pairs.filter(|(message, _)| message.trained).map(|(_, span)| span.clone()).collect())
}

/// From the end of the prompt for a message to the end of the message.
fn between_prefixes(
    template: &ChatTemplate,
    conversation: &Conversation,
    text: &str,
) -> ChatResult<Vec<Range<usize>>> {
    let prefix = |until: usize, prompt: bool| -> ChatResult<usize> {
        let messages = &conversation.messages[..until];
        let part = template.render_messages(messages, conversation.tools.as_ref(), prompt)?.text;
        if text.starts_with(&part) {
            return Ok(part.len());
        }
        let what = if prompt { "the prompt for message" } else { "the conversation up to message" };
        let line = format!(
            "chat template {}: {what} {} does not begin the whole conversation, so its answer cannot be told apart; \
             mark answers with {{% generation %}} in the template",
            template.name(),
            until + usize::from(prompt)
        );
        Err(ChatError::conversation(Fault::Mask, line))
    };
    let trained = (0..conversation.messages.len()).filter(|&i| conversation.messages[i].trained);
    trained.map(|i| Ok(prefix(i, true)?..prefix(i + 1, false)?)).collect()
}

/// Every text of the conversation must stand somewhere in the rendered one.
fn check_nothing_dropped(template: &ChatTemplate, conversation: &Conversation, text: &str) -> ChatResult<()> {
    for (number, message) in (1..).zip(&conversation.messages) {
        let field = |name: &str| message.fields().get(name).and_then(serde_json::Value::as_str);
        // A format may write an instruction and its input apart.
        let apart = field("instruction").is_some_and(|i| text.contains(i.trim()))
            && field("input").is_none_or(|i| text.contains(i.trim()));
        let there = apart || text.contains(message.content().trim());
        if !there || !message.calls().all(|name| text.contains(name)) {
            let line = format!(
                "chat template {}: drops message {number}, of `{}`, or changes its text",
                template.name(),
                message.role()
            );
            return Err(ChatError::conversation(Fault::Dropped, line));
        }
    }
    Ok(())
}
