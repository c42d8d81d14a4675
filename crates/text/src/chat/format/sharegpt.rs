//! ShareGPT: turns of `from` and `value`, under the names that its many descendants gave to the speakers.

use serde_json::{Map, Value};

use super::{call, kind, optional, tools, weight, wrong};
use crate::chat::error::ChatResult;
use crate::chat::message::{Conversation, Message};

/// Reads `conversations`.
pub(super) fn read(record: &Map<String, Value>) -> ChatResult<Conversation> {
    let names = ["conversations", "conversation", "messages"];
    let turns =
        names.iter().find_map(|name| record.get(*name)).ok_or_else(|| wrong("`conversations` is missing"))?;
    let turns = turns
        .as_array()
        .ok_or_else(|| wrong(format!("`conversations`: expected a list, found {}", kind(turns))))?;
    let mut messages = Vec::new();
    if let Some(system) = optional(record, "system")? {
        messages.push(Message::new("system", system));
    }
    for (number, turn) in (1..).zip(turns) {
        let turn = turn.as_object().ok_or_else(|| wrong(format!("message {number} is no object")))?;
        let field = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| turn.get(*name));
            let found = found.ok_or_else(|| wrong(format!("message {number} has no `{}`", names[0])))?;
            found.as_str().ok_or_else(|| {
                wrong(format!("message {number}: `{}`: expected a text, found {}", names[0], kind(found)))
            })
        };
        let (speaker, value) = (field(["from", "role"])?, field(["value", "content"])?);
        let mut message = match speaker {
            "system" => Message::new("system", value),
            "human" | "user" => Message::new("user", value),
            "gpt" | "chatgpt" | "bing" | "bard" | "assistant" | "model" => Message::new("assistant", value),
            "observation" | "tool" | "tool_response" | "function_response" | "function" => {
                Message::new("tool", value)
            }
            "function_call" | "tool_call" => function_calls(value, number)?,
            other => {
                return Err(wrong(format!(
                    "message {number} is from `{other}`: expected human, user, gpt, chatgpt, bing, bard, assistant, \
                     model, system, tool, observation, function_response, tool_response, function_call or tool_call"
                )));
            }
        };
        if let Some(trained) = weight(turn, message.role(), number)? {
            message.trained = trained;
        }
        messages.push(message);
    }
    Ok(Conversation { messages, tools: tools(record)? })
}

/// A turn that is the JSON of one call or of several.
fn function_calls(value: &str, number: usize) -> ChatResult<Message> {
    let parsed: Value = serde_json::from_str(value)
        .map_err(|e| wrong(format!("message {number}: a function call that is no JSON: {e}")))?;
    let list = match parsed {
        Value::Array(list) => list,
        one => vec![one],
    };
    let calls = list.iter().map(|item| {
        let name = item.get("name").and_then(Value::as_str);
        let name =
            name.ok_or_else(|| wrong(format!("message {number}: a function call without a `name`")))?;
        Ok(call(name, item.get("arguments").unwrap_or(&Value::Object(Map::new())), None))
    });
    let calls: Vec<Value> = calls.collect::<ChatResult<_>>()?;
    Ok(Message::new("assistant", "").with("tool_calls", calls))
}
