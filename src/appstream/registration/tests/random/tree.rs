//! A JSON text as serde_json reads it, apart from the tree that the program uses.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// What serde_json reads, with the order of keys and the spelling of numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Text(String),
    /// A number, `true`, `false` or `null`, as it is spelt.
    Word(String),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let tree = match raw.as_bytes()[0] {
            b'{' => {
                serde_json::Deserializer::from_str(raw).deserialize_map(Members).map(Self::Object)
            }
            b'[' => serde_json::from_str(raw).map(Self::Array),
            b'"' => serde_json::from_str(raw).map(Self::Text),
            _ => Ok(Self::Word(raw.to_owned())),
        };
        tree.map_err(serde::de::Error::custom)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Tree)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        std::iter::from_fn(|| map.next_entry().transpose()).collect()
    }
}

impl Tree {
    pub fn object(&self) -> Option<&[(String, Tree)]> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    pub fn object_mut(&mut self) -> Option<&mut Vec<(String, Tree)>> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    pub fn array(&self) -> Option<&[Tree]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    pub fn array_mut(&mut self) -> Option<&mut Vec<Tree>> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub fn word(&self) -> Option<&str> {
        if let Self::Word(word) = self { Some(word) } else { None }
    }

    pub fn is_null(&self) -> bool {
        self.word() == Some("null")
    }
}

pub fn parsed(text: &str) -> Tree {
    serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .unwrap_or_else(|e| panic!("{e}: {text}"))
}
