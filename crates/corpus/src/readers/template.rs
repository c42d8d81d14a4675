//! `"{question}\n{answer}"`: how the fields of a JSON object become a text.

use serde_json::{Map, Value};

use super::fields;

/// A parsed template. `{{` and `}}` stand for the braces themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(String),
}

impl Template {
    /// Refuses lone braces, empty names and templates without any field.
    pub(crate) fn parse(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut chars = template.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    literal.push(c);
                }
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some('{') | None => return Err(format!("`{{{name}` is not closed by `}}`")),
                            Some(other) => name.push(other),
                        }
                    }
                    if name.is_empty() {
                        return Err("`{}` names no field".to_owned());
                    }
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                    parts.push(Part::Field(name));
                }
                '}' => return Err("a `}` stands alone; write `}}` for the character".to_owned()),
                other => literal.push(other),
            }
        }
        if parts.is_empty() {
            return Err(format!("expected at least one {{field}}, found {template:?}"));
        }
        parts.push(Part::Literal(literal));
        Ok(Self(parts))
    }

    /// The names of the fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Field(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The text of one object; strings as they are, numbers and booleans as JSON writes them.
    pub(crate) fn render(&self, object: &Map<String, Value>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Field(name) => match fields::lookup(object, name) {
                    Some(Value::String(value)) => text.push_str(value),
                    Some(value @ (Value::Number(_) | Value::Bool(_))) => text.push_str(&value.to_string()),
                    Some(value) => {
                        return Err(format!("field `{name}`: expected a string, found {}", kind(value)));
                    }
                    None => {
                        let there: Vec<_> = object.keys().map(String::as_str).take(12).collect();
                        return Err(format!("no field `{name}`; the object has: {}", there.join(", ")));
                    }
                },
            }
        }
        Ok(text)
    }
}

/// What a JSON value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, json: &str) -> Result<String, String> {
        let Value::Object(object) = serde_json::from_str(json).unwrap() else { panic!("not an object") };
        Template::parse(template)?.render(&object)
    }

    #[test]
    fn fields_braces_and_scalars() {
        assert_eq!(render("{q}\n{a}", r#"{"q":"1+1?","a":2}"#).unwrap(), "1+1?\n2");
        assert_eq!(render("{{{q}}} {b}", r#"{"q":"x","b":true}"#).unwrap(), "{x} true");
    }

    #[test]
    fn mistakes_are_named() {
        for (template, json, message) in [
            ("{q", "{}", "not closed"),
            ("q}", "{\"q\":\"\"}", "stands alone"),
            ("{}", "{}", "names no field"),
            ("plain", "{}", "at least one {field}"),
            ("{q}", r#"{"a":"x","b":"y"}"#, "no field `q`; the object has: a, b"),
            ("{q}", r#"{"q":null}"#, "expected a string, found null"),
            ("{q}", r#"{"q":["x"]}"#, "expected a string, found an array"),
        ] {
            let error = render(template, json).unwrap_err();
            assert!(error.contains(message), "{template}: {error}");
        }
    }
}
