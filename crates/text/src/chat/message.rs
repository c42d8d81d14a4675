//! A conversation as templates see it: messages that are JSON objects, in an order that makes sense.

use serde_json::{Map, Value};

use super::error::{ChatError, ChatResult, Fault};

/// Who speaks in what order, and what is learned from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The messages, the system prompt first if there is one.
    pub messages: Vec<Message>,
    /// JSON schemas of the functions that may be called.
    pub tools: Option<Value>,
}

/// One message: `role`, `content` and whatever else the template may read.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    fields: Map<String, Value>,
    /// Whether it is learned from. Only messages of the assistant can be.
    pub trained: bool,
}

impl Message {
    /// A message of plain text. Those of the role `assistant` are learned from.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("role".to_owned(), Value::from(role));
        fields.insert("content".to_owned(), Value::from(content.into()));
        Self { fields, trained: role == "assistant" }
    }

    /// A message from all its fields, as a template is to see it.
    pub fn from_fields(fields: Map<String, Value>) -> Self {
        let trained = fields.get("role").and_then(Value::as_str) == Some("assistant");
        Self { fields, trained }
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
        self
    }

    /// `system`, `user`, `assistant` or `tool`.
    pub fn role(&self) -> &str {
        self.fields.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// The text; empty where there is none.
    pub fn content(&self) -> &str {
        self.fields.get("content").and_then(Value::as_str).unwrap_or_default()
    }

    /// All of it, as the template gets it.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Names of the functions that this message calls.
    pub(super) fn calls(&self) -> impl Iterator<Item = &str> {
        let calls = self.fields.get("tool_calls").and_then(Value::as_array);
        calls.into_iter().flatten().filter_map(|call| call.pointer("/function/name").and_then(Value::as_str))
    }

    fn says_something(&self) -> bool {
        !self.content().trim().is_empty() || self.calls().next().is_some()
    }
}

impl Conversation {
    /// Refuses an order of roles that no conversation has, an empty answer, and one with nothing to learn from.
    ///
    /// The system prompt comes first or not at all; the user and the assistant take turns; results of tools follow a
    /// message of the assistant, which goes on after them.
    ///
    /// # Errors
    /// The first message that is out of order or empty, counted from 1.
    pub fn check(&self) -> ChatResult<()> {
        let roles = |line: String| Err(ChatError::conversation(Fault::Roles, line));
        if self.messages.is_empty() {
            return Err(ChatError::conversation(Fault::Empty, "the conversation has no messages"));
        }
        let mut before = "the beginning";
        for (number, message) in (1..).zip(&self.messages) {
            let role = message.role();
            let expected: &[&str] = match before {
                "the beginning" => &["system", "user"],
                "system" => &["user"],
                "user" => &["assistant"],
                "assistant" => &["user", "tool"],
                _ => &["tool", "assistant"],
            };
            if !expected.contains(&role) {
                let expected = expected.join(" or ");
                return roles(format!("message {number} is of `{role}` after {before}: expected {expected}"));
            }
            if role == "assistant" && !message.says_something() {
                let line = format!("message {number}, of the assistant, is empty");
                return Err(ChatError::conversation(Fault::Empty, line));
            }
            before = match role {
                "system" => "system",
                "user" => "user",
                "assistant" => "assistant",
                _ => "tool",
            };
        }
        if !self.messages.iter().any(|m| m.role() == "assistant") {
            return roles("no message is of the assistant".to_owned());
        }
        if !self.messages.iter().any(|m| m.trained) {
            return Err(ChatError::conversation(
                Fault::Mask,
                "every message of the assistant has the weight 0: nothing to learn from",
            ));
        }
        Ok(())
    }
}
