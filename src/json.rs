//! Reads and writes JSON (RFC 8259) by serde_json. The rest of the program uses this file, not serde_json. [`read`] and
//! [`object`] make a value of a type, [`written`] makes text of one. [`Document`] is a tree that knows where each value
//! stands, so that an edit leaves every other byte as it is. Nothing here knows a key.

mod document;
mod syntax;

use crate::text::misleads;
pub use document::{Document, Member, Node, Value};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::Serialize;
use std::fmt;
use std::io;
use std::marker::PhantomData;
pub use syntax::SyntaxError;

/// Reads a value from all of `bytes`. A struct that derives `Deserialize` also reads an array of its fields' values:
/// use [`object`] or [`Object`] for those.
///
/// # Errors
/// What serde_json says. It may quote the text: do not show it where that holds secrets.
pub fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes)
}

/// Reads a value that is written as an object, from all of `bytes`.
///
/// # Errors
/// As for [`read`].
pub fn object<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> serde_json::Result<T> {
    read(bytes).map(|Object(value)| value)
}

/// A value within a larger one that is written as an object, not as an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// `value` as JSON in one line, fit for a terminal.
pub fn written(value: &(impl Serialize + ?Sized)) -> String {
    let mut bytes = Vec::new();
    // This does not fail: memory takes all of it, and every key of these types is text.
    let _ = write(&mut bytes, value);
    String::from_utf8(bytes).unwrap_or_default()
}

/// Writes `value` in one line. Unlike [`written`], it leaves no copies behind, so it may write secrets.
///
/// # Errors
/// What `output` says, for example that it is full.
pub fn write(output: impl io::Write, value: &(impl Serialize + ?Sized)) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(output, OneLine))
}

/// `text` as a JSON string, in quotes.
pub fn quoted(text: &str) -> String {
    written(text)
}

/// Puts blanks behind commas and colons, and escapes what a terminal would act on.
struct OneLine;

impl serde_json::ser::Formatter for OneLine {
    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        output: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        output.write_all(if is_first { b"" } else { b", " })
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        output: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        self.begin_array_value(output, is_first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, output: &mut W) -> io::Result<()> {
        output.write_all(b": ")
    }

    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        output: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for piece in fragment.split_inclusive(misleads) {
            let plain = piece.trim_end_matches(misleads);
            output.write_all(plain.as_bytes())?;

            for c in piece.chars().skip(plain.chars().count()) {
                write!(output, "\\u{:04x}", u32::from(c))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[test]
    fn a_struct_is_read_from_an_object_alone() {
        #[derive(Debug, Deserialize)]
        struct Inner {
            n: u32,
        }
        #[derive(Debug, Deserialize)]
        struct Outer {
            inner: Object<Inner>,
        }
        let read = |text: &str| object::<Outer>(text.as_bytes()).map(|outer| outer.inner.0.n);
        assert_eq!(read(" {\"inner\": {\"n\": 1}}\n").unwrap(), 1);
        for text in ["[{\"n\": 1}]", "{\"inner\": [1]}", "{\"inner\": {\"n\": 1}} x", "1", ""] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_one_line_that_a_terminal_does_not_act_on() {
        assert_eq!(written(&[Some(1), None]), "[1, null]");
        let object = std::collections::BTreeMap::from([("a", true), ("b", false)]);
        assert_eq!(written(&object), "{\"a\": true, \"b\": false}");
        assert_eq!(quoted("\u{9b}ä\u{202e}\u{7f}\u{1}"), r#""\u009bä\u202e\u007f\u0001""#);
        for text in ["", "\"\\/\r\n\t", "\u{0}ä\u{2028}😀"] {
            assert_eq!(read::<String>(quoted(text).as_bytes()).unwrap(), text);
        }
        let mut room = [0; 4];
        assert!(write(&mut room[..], "12345").is_err());
    }
}
