//! Records of a question and an answer: Alpaca, prompt and completion, MetaMathQA.

use serde_json::{Map, Value};

use super::{messages, optional, text, wrong};
use crate::chat::error::ChatResult;
use crate::chat::message::{Conversation, Message};

/// Alpaca, its history of earlier rounds and its system prompt as LLaMA-Factory has them, and the `instances` of the
/// self-instruct seeds, each of which becomes a conversation.
pub(super) fn alpaca(record: &Map<String, Value>) -> ChatResult<Vec<Conversation>> {
    let instruction = text(record, "instruction")?;
    let mut before = Vec::new();
    if let Some(system) = optional(record, "system")? {
        before.push(Message::new("system", system));
    }
    if let Some(Value::Array(rounds)) = record.get("history") {
        for (number, round) in (1..).zip(rounds) {
            let [Value::String(question), Value::String(answer)] =
                round.as_array().map_or(&[][..], Vec::as_slice)
            else {
                return Err(wrong(format!("history: round {number} is no pair of texts")));
            };
            before.extend([
                Message::new("user", question.as_str()),
                Message::new("assistant", answer.as_str()),
            ]);
        }
    }
    let conversation = |input: Option<&str>, output: &str| Conversation {
        messages: [before.clone(), vec![question(instruction, input), Message::new("assistant", output)]]
            .concat(),
        tools: None,
    };
    if let Some(instances) = record.get("instances") {
        let instances = instances.as_array().ok_or_else(|| wrong("`instances`: expected a list"))?;
        let each = instances.iter().map(|instance| {
            let instance = super::object(instance)?;
            Ok(conversation(optional(instance, "input")?, text(instance, "output")?))
        });
        return each.collect();
    }
    Ok(vec![conversation(optional(record, "input")?, text(record, "output")?)])
}

/// The instruction, a blank line and the input; both also apart, for the format that writes them apart.
fn question(instruction: &str, input: Option<&str>) -> Message {
    match input {
        None => Message::new("user", instruction),
        Some(input) => Message::new("user", format!("{instruction}\n\n{input}"))
            .with("instruction", instruction)
            .with("input", input),
    }
}

/// A prompt and its completion.
pub(super) fn prompt_completion(record: &Map<String, Value>) -> ChatResult<Conversation> {
    if let (Some(Value::Array(prompt)), Some(Value::Array(completion))) =
        (record.get("prompt"), record.get("completion"))
    {
        let mut all = messages::turns(prompt)?;
        for message in &mut all {
            message.trained = false;
        }
        all.extend(messages::turns(completion)?);
        return Ok(Conversation { messages: all, tools: super::tools(record)? });
    }
    pair(text(record, "prompt")?, text(record, "completion")?)
}

/// A query and its response.
pub(super) fn query_response(record: &Map<String, Value>) -> ChatResult<Conversation> {
    pair(text(record, "query")?, text(record, "response")?)
}

fn pair(question: &str, answer: &str) -> ChatResult<Conversation> {
    Ok(Conversation {
        messages: vec![Message::new("user", question), Message::new("assistant", answer)],
        tools: None,
    })
}
