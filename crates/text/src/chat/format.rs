//! The usual formats of instruction records, found by their fields or named, each turned into conversations.

mod messages;
mod pairs;
mod sharegpt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{ChatError, ChatResult, Fault};
use super::message::Conversation;

/// What the records of a file look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `instruction`, `input`, `output`; also `system`, `history`, and the `instances` of self-instruct.
    Alpaca,
    /// `conversations` of `from` and `value`, with `system` and `tools` beside them.
    Sharegpt,
    /// OpenAI's `messages` of `role` and `content`, with `tools` beside them.
    Messages,
    /// `prompt` and `completion`: texts, or lists of messages.
    PromptCompletion,
    /// MetaMathQA's `query` and `response`.
    QueryResponse,
}

impl Format {
    /// The format that has the fields of this record.
    ///
    /// # Errors
    /// A record that is no object or has the fields of none.
    pub fn detect(record: &Value) -> ChatResult<Self> {
        let record = object(record)?;
        let has = |name: &str| record.contains_key(name);
        let turns = ["messages", "conversations", "conversation"].iter().find_map(|name| record.get(*name));
        if let Some(turns) = turns {
            let first = turns.as_array().and_then(|turns| turns.first());
            let by_role = first.is_some_and(|turn| turn.get("role").is_some());
            return Ok(if by_role || (first.is_none() && has("messages")) {
                Self::Messages
            } else {
                Self::Sharegpt
            });
        }
        if has("instruction") && (has("output") || has("instances")) {
            Ok(Self::Alpaca)
        } else if has("prompt") && has("completion") {
            Ok(Self::PromptCompletion)
        } else if has("query") && has("response") {
            Ok(Self::QueryResponse)
        } else {
            let fields: Vec<&str> = record.keys().map(String::as_str).collect();
            Err(wrong(format!(
                "its fields ({}) are of no known format: expected those of alpaca, sharegpt, messages, \
                 prompt-completion or query-response",
                fields.join(", ")
            )))
        }
    }

    /// The conversations of a record: one, but for the instances of self-instruct. Their roles are not checked yet.
    ///
    /// # Errors
    /// A field that is missing or of another type, an unknown role, or a content that is no text.
    pub fn conversations(self, record: &Value) -> ChatResult<Vec<Conversation>> {
        let record = object(record)?;
        match self {
            Self::Alpaca => pairs::alpaca(record),
            Self::Sharegpt => sharegpt::read(record).map(|c| vec![c]),
            Self::Messages => messages::read(record).map(|c| vec![c]),
            Self::PromptCompletion => pairs::prompt_completion(record).map(|c| vec![c]),
            Self::QueryResponse => pairs::query_response(record).map(|c| vec![c]),
        }
    }
}

fn wrong(line: impl Into<String>) -> ChatError {
    ChatError::conversation(Fault::Format, line)
}

fn object(record: &Value) -> ChatResult<&Map<String, Value>> {
    record.as_object().ok_or_else(|| wrong(format!("expected a JSON object, found {}", kind(record))))
}

/// A text that must be there.
fn text<'a>(record: &'a Map<String, Value>, name: &str) -> ChatResult<&'a str> {
    let found = record.get(name).ok_or_else(|| wrong(format!("`{name}` is missing")))?;
    found.as_str().ok_or_else(|| wrong(format!("`{name}`: expected a text, found {}", kind(found))))
}

/// A text that may be missing, null or empty.
fn optional<'a>(record: &'a Map<String, Value>, name: &str) -> ChatResult<Option<&'a str>> {
    match record.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => Ok(Some(text(record, name)?).filter(|text| !text.trim().is_empty())),
    }
}

/// Schemas of functions: a list, or a text that holds one; an empty one is none.
fn tools(record: &Map<String, Value>) -> ChatResult<Option<Value>> {
    let parsed;
    let value = match record.get("tools") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => {
            parsed = serde_json::from_str(text)
                .map_err(|e| wrong(format!("`tools` is a text but no JSON: {e}")))?;
            &parsed
        }
        Some(value) => value,
    };
    match value {
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(_) => Ok(Some(value.clone())),
        other => Err(wrong(format!("`tools`: expected a list, found {}", kind(other)))),
    }
}

/// A call as templates read it: `{"type": "function", "function": {"name", "arguments"}}`, the arguments as an object.
fn call(name: &str, arguments: &Value, id: Option<&Value>) -> Value {
    // Most data sets, like OpenAI, keep the arguments as a text of JSON; templates write objects.
    let parsed = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let arguments = parsed.filter(Value::is_object).unwrap_or_else(|| arguments.clone());
    let mut call = Map::new();
    if let Some(id) = id {
        call.insert("id".to_owned(), id.clone());
    }
    call.insert("type".to_owned(), Value::from("function"));
    call.insert("function".to_owned(), serde_json::json!({ "name": name, "arguments": arguments }));
    Value::Object(call)
}

/// What a JSON value is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Whether a turn is learned, from a weight of 0 or 1 beside it.
fn weight(turn: &Map<String, Value>, role: &str, number: usize) -> ChatResult<Option<bool>> {
    let Some((name, value)) = ["weight", "loss_weight"].iter().find_map(|n| turn.get(*n).map(|v| (n, v)))
    else {
        return Ok(None);
    };
    let trained = match value {
        Value::Null => return Ok(None),
        value => match value.as_f64() {
            Some(0.0) => false,
            Some(1.0) => true,
            _ => return Err(wrong(format!("message {number}: {name} is {value}: expected 0 or 1"))),
        },
    };
    if trained && role != "assistant" {
        let line =
            format!("message {number}: {name} is 1 for `{role}`, but only the assistant is learned from");
        return Err(wrong(line));
    }
    Ok(Some(trained))
}
