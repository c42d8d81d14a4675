//! A rule that is off, on with its defaults (`true`), or on with some of them changed (a table).

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toggle<T>(Option<T>);

impl<T> Toggle<T> {
    /// The rule's parameters, if it is on.
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// Whether it is off.
    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

impl<T: Serialize> Serialize for Toggle<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            None => serializer.serialize_bool(false),
            Some(rule) => rule.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Toggle<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BoolOrTable(PhantomData))
    }
}

struct BoolOrTable<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for BoolOrTable<T> {
    type Value = Toggle<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or a table of parameters")
    }

    fn visit_bool<E>(self, on: bool) -> Result<Self::Value, E> {
        Ok(Toggle(on.then(T::default)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|rule| Toggle(Some(rule)))
    }
}
