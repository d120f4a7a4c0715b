//! A JSON text as a tree that knows where each value stands. Which keys there are is not known here.

use super::{SyntaxError, read};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// How deep arrays and objects may be nested: the tree is built recursively.
const DEEPEST: usize = 128;
const BOM: char = '\u{feff}';

/// A JSON text and its tree.
#[derive(Debug)]
pub struct Document<'t> {
    /// The whole text, with a byte-order mark if it has one.
    pub text: &'t str,
    /// The outermost value.
    pub root: Node,
}

/// A value and where it stands, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// From its first byte to behind its last.
    pub span: Range<usize>,
    pub value: Value,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Boolean(bool),
    /// A number: its digits are in the text.
    Number,
    /// A string, its escapes resolved. One with half a surrogate pair in it stays as it is written.
    String(String),
    Array(Vec<Node>),
    /// An object; a key may be there twice.
    Object(Vec<Member>),
}

impl Value {
    /// The kind of value in words: "a string".
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "true or false",
            Self::Number => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// A key and its value.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// The key, its escapes resolved.
    pub key: String,
    /// Where the key stands, with its quotes.
    pub key_span: Range<usize>,
    pub value: Node,
}

impl<'t> Document<'t> {
    /// Reads `text`, which may begin with a byte-order mark.
    ///
    /// # Errors
    /// The first place that is not JSON.
    pub fn parse(text: &'t str) -> Result<Self, SyntaxError> {
        let bare = text.strip_prefix(BOM).unwrap_or(text);
        let start = text.len() - bare.len();
        let syntax_error = |e: serde_json::Error| SyntaxError::new(text, start, &e);

        let root: Result<&RawValue, _> = read(bare.as_bytes()).map_err(syntax_error);
        let end_of_json = root.as_ref().map_or_else(|e| e.place, |_| text.len());
        if let Some(place) = too_deep(text.get(..end_of_json).unwrap_or("")) {
            return Err(SyntaxError { place, what: format!("nested more than {DEEPEST} deep") });
        }

        let root = node(text, root?).map_err(syntax_error)?;
        Ok(Self { text, root })
    }

    /// The text of `span`, which must be one of this document's.
    pub fn slice(&self, span: Range<usize>) -> &'t str {
        self.text.get(span).unwrap_or("")
    }
}

/// The first place in `json`, the beginning of a text or all of it, that is nested too deep.
fn too_deep(json: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (place, byte) in json.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string && depth == DEEPEST => return Some(place),
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The tree of `raw`, a piece of `text`.
fn node(text: &str, raw: &RawValue) -> serde_json::Result<Node> {
    let json = raw.get();
    let value = match json.bytes().next() {
        Some(b'{') => {
            let Members(members) = read(json.as_bytes())?;
            let members = members.into_iter().map(|(key, value)| {
                Ok(Member {
                    key: string(key),
                    key_span: span(text, key),
                    value: node(text, value)?,
                })
            });
            Value::Object(members.collect::<Result<_, _>>()?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = read(json.as_bytes())?;
            let items = items.into_iter().map(|item| node(text, item));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::String(string(raw)),
        Some(b'n') => Value::Null,
        Some(b't' | b'f') => Value::Boolean(json == "true"),
        _ => Value::Number,
    };
    Ok(Node { span: span(text, raw), value })
}

/// Where `raw`, a piece of `text`, stands in it.
fn span(text: &str, raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + raw.get().len()
}

/// A string, its escapes resolved. serde_json accepts half a surrogate pair in JSON, but makes no `String` of it. Then
/// the text stays as it is written.
fn string(raw: &RawValue) -> String {
    read(raw.get().as_bytes()).unwrap_or_else(|_| raw.get().to_owned())
}

/// The members of an object in their order, with those that are there twice.
struct Members<'t>(Vec<(&'t RawValue, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Self)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        std::iter::from_fn(|| map.next_entry().transpose()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::quoted;

    #[test]
    fn every_value_knows_where_it_stands() {
        let text =
            "\u{feff} {\"a\" : [1.50e+1, \"\\u0041\\ud83d\\ude00\\/\"],\r\n\"\\u0061\":null}\n";
        let document = Document::parse(text).unwrap();
        let Value::Object(members) = &document.root.value else { panic!("an object") };
        let [first, second] = &members[..] else { panic!("two members") };
        assert_eq!((first.key.as_str(), second.key.as_str()), ("a", "a"));
        assert_eq!(document.slice(second.key_span.clone()), "\"\\u0061\"");
        assert_eq!(document.slice(second.value.span.clone()), "null");
        let Value::Array(items) = &first.value.value else { panic!("an array") };
        assert_eq!(document.slice(items[0].span.clone()), "1.50e+1");
        assert_eq!(items[1].value, Value::String("A😀/".into()));
        assert_eq!(document.root.span, 4..text.len() - 1);
    }

    #[test]
    fn deep_nesting_is_refused_and_costs_no_stack() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Document::parse(&nested(DEEPEST)).is_ok());
        let deeper = SyntaxError { place: DEEPEST, what: "nested more than 128 deep".into() };
        for text in [nested(DEEPEST + 1), "[".repeat(100_000)] {
            assert_eq!(Document::parse(&text).unwrap_err(), deeper);
        }
        assert!(Document::parse(&"{\"a\":".repeat(100_000)).is_err());
    }

    #[test]
    fn serde_json_reads_the_same_strings_and_accepts_the_same_texts() {
        let texts = [
            r#""""#,
            r#""\"\\\/\b\f\n\r\t\u00e9\uD834\uDD1E""#,
            r#""ä\u0000 ""#,
            "\"\u{7f}\"",
            "0",
            "-0",
            "-0.0",
            "1e5",
            "1E-05",
            "120",
            "00",
            "-a",
            "1.e1",
            "[]",
            "[ ]",
            "{}",
            "[,]",
            "{,}",
            "[1,,2]",
            "nul",
            "truefalse",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u+123\"",
            "\u{b}1",
            "\u{a0}1",
            "1 ",
            "\t\r\n1",
            "{\"a\":1,\"a\":2}",
            "{\"a\":}",
            "{1:2}",
            "[1}",
            "{\"a\"]",
            "\"",
            "\\",
            "\"\\",
            "\"\\u",
            "-",
        ];
        for text in texts {
            let ours = Document::parse(text);
            let theirs = serde_json::from_str::<serde_json::Value>(text);
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{text}");
            if let (
                Ok(Document { root: Node { value: Value::String(ours), .. }, .. }),
                Ok(theirs),
            ) = (ours, theirs)
            {
                assert_eq!(Some(ours.as_str()), theirs.as_str());
                assert_eq!(serde_json::from_str::<String>(&quoted(&ours)).unwrap(), ours);
            }
        }
    }
}
