//! Reads a TOML document into types that derive `Deserialize`. What is wrong is said in one line: file, line, column,
//! the key, what it is and what it must be. This file knows no key.
//!
//! toml's own `Deserializer` would do for the good files. But its errors are finished sentences without a key, it
//! sorts the keys of a table, so that the first fault told is not the first in the file, and it accepts an array of
//! the values for a table.

use super::ConfigError;
use crate::text::misleads;
use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use std::fmt;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// What to say of keys, to those who wrote them.
pub struct KeyAdvice {
    /// Where a key belongs that was found in a wrong table.
    pub belongs: fn(&str) -> Option<&'static str>,
    /// The name here of a key that other programs have.
    pub renamed: fn(&str) -> Option<&'static str>,
    /// What the value of a key is that must be there.
    pub meaning: fn(&str) -> &'static str,
}

/// A config file's text. It turns byte offsets into lines and columns.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    file: &'a Path,
    pub text: &'a str,
    pub advice: &'static KeyAdvice,
}

impl<'a> Source<'a> {
    pub fn new(file: &'a Path, text: &'a str, advice: &'static KeyAdvice) -> Self {
        Self { file, text, advice }
    }

    /// The error `what` at byte offset `place`. It is always one line, and short enough for every log.
    pub fn error(&self, place: usize, what: String) -> ConfigError {
        ConfigError::at(self.file, self.text, place, &shortened(&what))
    }

    /// The whole document as a value.
    pub fn document(&self) -> Result<Spanned<DeValue<'a>>, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|error| self.not_toml(&error))?;
        Ok(Spanned::new(table.span(), DeValue::Table(table.into_inner())))
    }
}

/// A value of the document, and the key that it stands at.
///
/// serde reads it. What one value says of another is checked later, and the places for that are found here too.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    source: Source<'a>,
    key: &'a str,
    value: &'a Spanned<DeValue<'a>>,
    /// What the value must be, if that is not for its type to say.
    expected: Option<&'static str>,
}

impl<'a> Node<'a> {
    /// The whole document.
    pub fn of_document(source: Source<'a>, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { source, key: "", value, expected: None }
    }

    /// Reads the value.
    ///
    /// # Errors
    /// The first value in the file that cannot be by itself, or key that is not known.
    pub fn read<T: Deserialize<'a>>(self) -> Result<T, ConfigError> {
        T::deserialize(self).map_err(|error| self.placed(error))
    }

    /// The value at `key` in this table.
    pub fn get(&self, key: &str) -> Option<Self> {
        let (key, value) = self.value.get_ref().as_table()?.get_key_value(key)?;
        Some(Self { source: self.source, key: key.get_ref(), value, expected: None })
    }

    /// The value at `key`; where there is none, this table, to be blamed for it.
    pub fn at(&self, key: &str) -> Self {
        self.get(key).unwrap_or(*self)
    }

    /// The items of this array; of something else, none.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let items = self.value.get_ref().as_array().into_iter().flatten();
        items.map(move |value| Self { value, ..self })
    }

    /// The byte offset at which it stands.
    pub fn place(&self) -> usize {
        self.value.span().start
    }

    /// The line on which it stands, counted from 1.
    pub fn line(&self) -> usize {
        self.error(String::new()).line
    }

    /// The error `what` at this place.
    pub fn error(&self, what: String) -> ConfigError {
        self.source.error(self.place(), what)
    }

    /// The same, behind the key and the value, which is a string.
    pub fn complaint(&self, complaint: &str) -> ConfigError {
        let text = self.value.get_ref().as_str().unwrap_or_default();
        let shown = cut(&format!("{text:?}"), 200, 200);
        self.error(format!("{} {shown} {complaint}", self.key))
    }

    /// The error `what` behind the last line.
    pub fn error_at_end(&self, what: String) -> ConfigError {
        self.source.error(self.source.text.len(), what)
    }

    fn placed(&self, error: ReadError) -> ConfigError {
        match error {
            ReadError::Placed(error) => error,
            ReadError::Value(complaint) => self.complaint(&complaint),
            ReadError::Type(expected) => self.wrong_type(self.expected.unwrap_or(&expected)),
            // The table that they are about has placed both already.
            ReadError::UnknownKey(_) | ReadError::MissingKey(_) => self.error(error.to_string()),
        }
    }

    /// That the value is not what was `expected`.
    fn wrong_type(&self, expected: &str) -> ConfigError {
        let (key, found) = (self.key, self.value.get_ref());
        let expected = in_words(expected);
        let mut what = format!("{key} must be {expected}, not ");
        match found {
            DeValue::String(_) => what.push_str("a string"),
            DeValue::Integer(n) => what.push_str(&format!("the integer {n}")),
            DeValue::Float(_) => what.push_str("a float"),
            DeValue::Boolean(_) => what.push_str("a boolean"),
            DeValue::Datetime(_) => what.push_str("a date"),
            DeValue::Array(_) => what.push_str("an array"),
            DeValue::Table(_) => what.push_str("a table"),
        }
        match (found, expected) {
            (DeValue::Integer(n), STRING | SPAN) => {
                let digits = n.to_string();
                let digits = digits.strip_prefix("0o").unwrap_or(&digits);
                let unit = if expected == SPAN { "s" } else { "" };
                what.push_str(&format!(": write {key} = \"{digits}{unit}\""));
            }
            (DeValue::String(_), TRUTH | PORT) => what.push_str(": write it without quotes"),
            (DeValue::String(text), STRINGS) => {
                what.push_str(&format!(": write {key} = [\"{text}\"]"));
            }
            (DeValue::Array(_), STRING) => what.push_str(": write one string in quotes"),
            (DeValue::Table(_), _) if expected.contains("[[") => {
                what.push_str(&format!(": write [[{key}]], with two brackets on each side"));
            }
            (DeValue::Array(_), _) if expected.starts_with("the table") => {
                what.push_str(&format!(": write [{key}], with one bracket on each side"));
            }
            _ => {}
        }
        self.error(what)
    }
}

pub const STRING: &str = "a string";
pub const STRINGS: &str = "an array of strings";
pub const SPAN: &str = "a span of time in quotes";
const TRUTH: &str = "true or false";
const PORT: &str = "a whole number from 1 to 65535";

/// What serde expects, in the words of TOML rather than of Rust.
fn in_words(expected: &str) -> &str {
    match expected {
        "a boolean" => TRUTH,
        "a nonzero u16" => PORT,
        words => words,
    }
}

/// Why serde could not read a value. serde knows neither places nor the keys of values: they are put to it on its way
/// up.
#[derive(Debug, thiserror::Error)]
#[error("cannot be read")]
pub enum ReadError {
    /// It cannot be; what is said behind it.
    Value(String),
    /// It is something else than this.
    Type(String),
    /// A table may have these keys alone.
    UnknownKey(&'static [&'static str]),
    /// A table lacks this key.
    MissingKey(&'static str),
    /// Any of them, with its place.
    Placed(ConfigError),
}

impl Error for ReadError {
    fn custom<T: fmt::Display>(complaint: T) -> Self {
        Self::Value(complaint.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type(expected.to_string())
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownKey(known)
    }

    fn missing_field(key: &'static str) -> Self {
        Self::MissingKey(key)
    }
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let read = match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Boolean(boolean) => visitor.visit_bool(*boolean),
            DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(Error::invalid_value(Unexpected::Other("number"), &visitor)),
            },
            DeValue::Array(_) => visitor.visit_seq(SeqDeserializer::new(self.items())),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
                Err(Error::invalid_type(Unexpected::Other("value"), &visitor))
            }
        };
        read.map_err(|error| ReadError::Placed(self.placed(error)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    /// The name of the type is what the value must be.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(Self { expected: Some(name), ..self })
    }

    /// The name of the type is that of the table, as people write it. An array is none.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let DeValue::Table(table) = self.value.get_ref() else {
            let error = ReadError::Type(format!("the table {name}"));
            return Err(ReadError::Placed(self.placed(error)));
        };

        // In the order of the file, so that the first fault is told.
        let mut pairs: Vec<_> = table.iter().collect();
        pairs.sort_by_key(|(key, _)| key.span().start);

        let keys =
            TableKeys { source: self.source, table: name, rest: pairs.into_iter(), value: None };
        visitor.visit_map(keys).map_err(|error| match error {
            ReadError::MissingKey(key) => {
                let meaning = (self.source.advice.meaning)(key);
                let what = format!("{name} has no {key}: add {key} = \"…\", {meaning}");
                ReadError::Placed(self.error(what))
            }
            error => error,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl<'a> IntoDeserializer<'a, ReadError> for Node<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The keys of a table and their values, in the order of the file.
struct TableKeys<'a> {
    source: Source<'a>,
    /// What the table is called.
    table: &'static str,
    rest: std::vec::IntoIter<(&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)>,
    /// The value of the key that was read last.
    value: Option<Node<'a>>,
}

impl TableKeys<'_> {
    fn unknown(&self, key: &Spanned<DeString<'_>>, known: &[&str]) -> ConfigError {
        let (word, table, advice) = (key.get_ref(), self.table, self.source.advice);
        let what = match ((advice.belongs)(word), (advice.renamed)(word)) {
            (Some(place), _) => format!("key {word:?} does not belong in {table}, but {place}"),
            (None, Some(ours)) => format!("unknown key {word:?} in {table}: here it is {ours}"),
            (None, None) => format!("unknown key {word:?} in {table}; {}", hint(word, known)),
        };
        self.source.error(key.span().start, what)
    }
}

impl<'a> MapAccess<'a> for TableKeys<'a> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(Node { source: self.source, key: key.get_ref(), value, expected: None });
        let read = seed.deserialize(StrDeserializer::new(key.get_ref()));
        read.map(Some).map_err(|error| match error {
            ReadError::UnknownKey(known) => ReadError::Placed(self.unknown(key, known)),
            error => error,
        })
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        match self.value.take() {
            Some(value) => seed.deserialize(value),
            None => Err(Error::custom("a value is read before its key")),
        }
    }
}

/// Reads a string with `read`, whose complaint is put behind the key and the string.
pub fn text<'de, D: Deserializer<'de>, T>(
    from: D,
    expected: &'static str,
    read: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct TextVisitor<T> {
        expected: &'static str,
        read: fn(&str) -> Result<T, String>,
    }

    impl<T> Visitor<'_> for TextVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expected)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.read)(text).map_err(E::custom)
        }
    }

    from.deserialize_str(TextVisitor { expected, read })
}

/// The keys that a table of the type `T` may have.
pub fn keys<T: Deserialize<'static>>() -> &'static [&'static str] {
    /// Reads nothing: it answers with the keys that it is asked for.
    struct KeyList;

    impl<'de> Deserializer<'de> for KeyList {
        type Error = ReadError;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ReadError> {
            Err(ReadError::UnknownKey(&[]))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            keys: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, ReadError> {
            Err(ReadError::UnknownKey(keys))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    match T::deserialize(KeyList) {
        Err(ReadError::UnknownKey(keys)) => keys,
        _ => &[],
    }
}

/// What is wrong, without the middle of a long one: at its start is what it is about, at its end
/// what is allowed, and between them whatever the file holds.
fn shortened(what: &str) -> String {
    // All that is wrong with a list of options has room.
    cut(what, 200, 1800)
}

fn cut(text: &str, start: usize, end: usize) -> String {
    let chars: Vec<char> = text.chars().map(|c| if misleads(c) { ' ' } else { c }).collect();
    match chars.len().checked_sub(end) {
        Some(end) if end > start => {
            chars.iter().take(start).chain(&['…']).chain(chars.iter().skip(end)).collect()
        }
        _ => chars.into_iter().collect(),
    }
}

/// "did you mean …" where one of `known` is near, else the whole list.
pub fn hint(word: &str, known: &[&str]) -> String {
    match near_miss(word, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("allowed are {}", known.join(", ")),
    }
}

/// The one of `known` that may be meant by `word`.
pub fn near_miss<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = nearest(word, known).filter(|(edits, known)| *edits <= 1 + known.len() / 4);
    near.map(|(_, known)| known)
}

/// How many edits the nearest of `known` is away, and which one that is.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<(usize, &'k str)> {
    // What is far too long is no near miss, and the distance would take its square in time.
    known.iter().filter(|_| word.len() <= 64).map(|k| (strsim::osa_distance(word, k), *k)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_without_control_characters_whatever_it_quotes() {
        assert_eq!(shortened("a\n\u{1b}[31mb"), "a  [31mb");
        assert_eq!(shortened(&"é".repeat(700)), "é".repeat(700));
        assert_eq!(
            shortened(&"é".repeat(9999)),
            format!("{}…{}", "é".repeat(200), "é".repeat(1800))
        );
    }
}
