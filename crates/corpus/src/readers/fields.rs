//! Which fields of a record are a document's text and which tell what is known of it.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::template::Template;
use crate::document::Meta;

/// Names of fields that are kept as metadata. A name with dots leads into objects: `"meta.lang"`. A record without
/// the field is not at fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Fields {
    /// Holds the path of the file, a text.
    pub path: Option<String>,
    /// Holds the licence, a text or a list of them.
    pub license: Option<String>,
    /// Holds the language, a text.
    pub language: Option<String>,
    /// Holds the stars of the repository, a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stars: Option<String>,
}

impl Fields {
    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        [&self.path, &self.license, &self.language, &self.stars].into_iter().flatten().map(String::as_str)
    }

    /// What a record says.
    pub(crate) fn meta(&self, object: &Map<String, Value>) -> Meta {
        let find = |name: &Option<String>| name.as_deref().and_then(|name| lookup(object, name));
        let text = |name: &Option<String>| find(name).and_then(Value::as_str).map(str::to_owned);
        let license = match find(&self.license) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        Meta {
            path: text(&self.path),
            license,
            language: text(&self.language).map(|l| l.to_lowercase()),
            // The Stack's parquet files have it as a floating-point number.
            stars: find(&self.stars)
                .and_then(|stars| stars.as_u64().or_else(|| stars.as_f64().map(|stars| stars as u64))),
        }
    }
}

/// A field by its name, or by the path that a name with dots is.
pub(crate) fn lookup<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = object.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    lookup(object.get(first)?.as_object()?, rest)
}

/// How a record becomes a document.
pub(crate) struct Selection {
    template: Template,
    fields: Fields,
    /// Top-level names that are read; the others are passed over.
    wanted: Vec<String>,
}

impl Selection {
    pub(crate) fn new(template: Template, fields: Fields) -> Self {
        let mut wanted = Vec::new();
        for name in template.names().chain(fields.names()) {
            wanted.push(name.to_owned());
            wanted.extend(name.split_once('.').map(|(first, _)| first.to_owned()));
        }
        wanted.sort_unstable();
        wanted.dedup();
        Self { template, fields, wanted }
    }

    /// The wanted top-level names.
    pub(crate) fn wanted(&self) -> &[String] {
        &self.wanted
    }

    /// The wanted fields of a JSON object.
    pub(crate) fn parse(&self, line: &str) -> Result<Map<String, Value>, String> {
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let object = Wanted(&self.wanted).deserialize(&mut deserializer);
        let object = object.map_err(|error| format!("not a JSON object: {error}"))?;
        deserializer.end().map_err(|error| format!("not a JSON object: {error}"))?;
        Ok(object)
    }

    /// Text and metadata.
    pub(crate) fn document(&self, object: &Map<String, Value>) -> Result<(String, Meta), String> {
        Ok((self.template.render(object)?, self.fields.meta(object)))
    }
}

/// Reads an object and keeps some of its fields.
struct Wanted<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if self.0.iter().any(|name| *name == key) {
                object.insert(key.into_owned(), map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(object)
    }
}
