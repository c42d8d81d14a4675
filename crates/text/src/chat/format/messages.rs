//! OpenAI's chat messages: content in parts, tools, calls and their results, a weight per message. Also the schema that
//! LLaMA-Factory calls v1, whose parts have a `value` and whose weight is named `loss_weight`.

use serde_json::{Map, Value};

use super::{call, kind, tools, weight, wrong};
use crate::chat::error::ChatResult;
use crate::chat::message::{Conversation, Message};

/// Reads `messages`.
pub(super) fn read(record: &Map<String, Value>) -> ChatResult<Conversation> {
    let names = ["messages", "conversations", "conversation"];
    let list =
        names.iter().find_map(|name| record.get(*name)).ok_or_else(|| wrong("`messages` is missing"))?;
    let list =
        list.as_array().ok_or_else(|| wrong(format!("`messages`: expected a list, found {}", kind(list))))?;
    Ok(Conversation { messages: turns(list)?, tools: tools(record)? })
}

/// A list of messages.
pub(super) fn turns(list: &[Value]) -> ChatResult<Vec<Message>> {
    (1..).zip(list).map(|(number, turn)| message(turn, number)).collect()
}

fn message(turn: &Value, number: usize) -> ChatResult<Message> {
    let turn = turn.as_object().ok_or_else(|| wrong(format!("message {number} is no object")))?;
    let role = turn.get("role").and_then(Value::as_str);
    let role = match role.ok_or_else(|| wrong(format!("message {number} has no `role`")))? {
        "system" | "developer" => "system",
        "user" => "user",
        "assistant" => "assistant",
        "tool" | "function" => "tool",
        other => {
            return Err(wrong(format!(
                "message {number} is of `{other}`: expected system, developer, user, assistant, tool or function"
            )));
        }
    };
    let (mut content, mut calls, mut thoughts) = (String::new(), Vec::new(), String::new());
    match turn.get("content") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => content.push_str(text),
        Some(Value::Array(parts)) => {
            for part in parts {
                add_part(part, number, &mut content, &mut calls, &mut thoughts)?;
            }
        }
        Some(other) => {
            return Err(wrong(format!(
                "message {number}: `content`: expected a text or a list of parts, found {}",
                kind(other)
            )));
        }
    }
    for given in turn.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        let function = given.get("function").unwrap_or(given);
        let name = function.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| wrong(format!("message {number}: a tool call without a name")))?;
        let arguments = function.get("arguments").cloned().unwrap_or_else(|| Value::Object(Map::new()));
        calls.push(call(name, &arguments, given.get("id")));
    }
    let mut message = Message::new(role, content);
    if !calls.is_empty() {
        message = message.with("tool_calls", calls);
    }
    if !thoughts.is_empty() {
        message = message.with("reasoning_content", thoughts);
    }
    for name in ["name", "tool_call_id", "reasoning_content", "thinking", "reasoning"] {
        if let Some(value) = turn.get(name).filter(|value| !value.is_null()) {
            message = message.with(name, value.clone());
        }
    }
    if let Some(trained) = weight(turn, role, number)? {
        message.trained = trained;
    }
    Ok(message)
}

fn add_part(
    part: &Value,
    number: usize,
    content: &mut String,
    calls: &mut Vec<Value>,
    thoughts: &mut String,
) -> ChatResult<()> {
    if let Some(text) = part.as_str() {
        content.push_str(text);
        return Ok(());
    }
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("without a type");
    let value = [kind, "text", "value"].iter().find_map(|name| part.get(*name)).and_then(Value::as_str);
    let need = |what| value.ok_or_else(|| wrong(format!("message {number}: a {what} part without a text")));
    match kind {
        "text" | "input_text" | "output_text" => content.push_str(need("text")?),
        "reasoning" => thoughts.push_str(need("reasoning")?),
        "tool_call" => {
            let parsed: Value = serde_json::from_str(need("tool_call")?)
                .map_err(|e| wrong(format!("message {number}: a tool call that is no JSON: {e}")))?;
            let name = parsed.get("name").and_then(Value::as_str);
            let name = name.ok_or_else(|| wrong(format!("message {number}: a tool call without a name")))?;
            calls.push(call(name, parsed.get("arguments").unwrap_or(&Value::Null), None));
        }
        other => {
            return Err(wrong(format!("message {number}: a content part {other}: expected parts of text")));
        }
    }
    Ok(())
}
