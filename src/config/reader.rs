//! A config file's text and the values in it, with their places. What is wrong is said in one line: file, line, column,
//! the key, what it is and what it must be. This file knows no key. How serde reads a value is in [`deserializer`].
//!
//! [`deserializer`]: super::deserializer

use super::ConfigError;
use super::near::hint;
use crate::text::misleads;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeString, DeValue};

const STRING: &str = "a string";
const STRINGS: &str = "an array of strings";
const SPAN: &str = "a span of time in quotes";
const TRUTH: &str = "true or false";
const PORT: &str = "a whole number from 1 to 65535";

/// What errors say about keys.
pub struct KeyAdvice {
    /// Where a key belongs that was found in a wrong table.
    pub belongs: fn(&str) -> Option<&'static str>,
    /// What to write for a key that only other programs have.
    pub renamed: fn(&str) -> Option<&'static str>,
    /// Whether a key belongs to a table of which there may be several.
    pub may_repeat: fn(&str) -> bool,
    /// What a required key is for.
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

    /// The error that `table` has no `key`, but only the `known` ones.
    pub fn unknown_key(
        &self,
        key: &Spanned<DeString<'_>>,
        table: &str,
        known: &[&str],
    ) -> ConfigError {
        let word = key.get_ref();
        let what = match ((self.advice.belongs)(word), (self.advice.renamed)(word)) {
            (Some(place), _) => format!("key {word:?} does not belong in {table}, but {place}"),
            (None, Some(ours)) => format!("unknown key {word:?} in {table}: here it is {ours}"),
            (None, None) => format!("unknown key {word:?} in {table}; {}", hint(word, known)),
        };
        self.error(key.span().start, what)
    }
}

/// A value of the document, and the key that it stands at.
///
/// serde reads it. The places for what is checked later, between values, are found here too.
#[derive(Clone, Copy)]
pub struct TomlNode<'a> {
    pub source: Source<'a>,
    pub key: &'a str,
    pub value: &'a Spanned<DeValue<'a>>,
    /// What the value must be, unless its type says that.
    pub expected: Option<&'static str>,
}

impl<'a> TomlNode<'a> {
    /// The `value` at `key`. The document itself stands at an empty key.
    pub fn new(source: Source<'a>, key: &'a str, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { source, key, value, expected: None }
    }

    /// The value at `key` in this table.
    pub fn get(&self, key: &str) -> Option<Self> {
        let (key, value) = self.value.get_ref().as_table()?.get_key_value(key)?;
        Some(Self::new(self.source, key.get_ref(), value))
    }

    /// The value at `key`. If there is none, this table is to blame.
    pub fn at(&self, key: &str) -> Self {
        self.get(key).unwrap_or(*self)
    }

    /// The items of this array. Other values have none.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let items = self.value.get_ref().as_array().into_iter().flatten();
        items.map(move |value| Self { value, ..self })
    }

    /// The byte offset at which it stands.
    pub fn offset(&self) -> usize {
        self.value.span().start
    }

    /// The line on which it stands, counted from 1.
    pub fn line(&self) -> usize {
        self.error(String::new()).line
    }

    /// The error `what` at this place.
    pub fn error(&self, what: String) -> ConfigError {
        self.source.error(self.offset(), what)
    }

    /// An error that puts the `complaint` behind the key and the string at this place.
    pub fn complaint(&self, complaint: &str) -> ConfigError {
        let text = self.value.get_ref().as_str().unwrap_or_default();
        let shown = cut(&format!("{text:?}"), 200, 200);
        self.error(format!("{} {shown} {complaint}", self.key))
    }

    /// The error `what` behind the last line.
    pub fn error_at_end(&self, what: String) -> ConfigError {
        self.source.error(self.source.text.len(), what)
    }

    /// The error that the table, which people call `name`, lacks a key.
    pub fn missing_key(&self, key: &str, name: &str) -> ConfigError {
        let meaning = (self.source.advice.meaning)(key);
        self.error(format!("{name} has no {key}: add {key} = \"…\", {meaning}"))
    }

    /// The error that the value is not what was `expected`.
    pub fn wrong_type(&self, expected: &str) -> ConfigError {
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

/// What serde expects, in the words of TOML rather than of Rust.
fn in_words(expected: &str) -> &str {
    match expected {
        "a boolean" => TRUTH,
        "a nonzero u16" => PORT,
        words => words,
    }
}

/// An error, without its middle if it is long. At its start is what it is about, at its end what is allowed. Between
/// them is what the file holds.
fn shortened(what: &str) -> String {
    // There is room for all that is wrong with a list of options.
    cut(what, 200, 1800)
}

/// `text` as one line. Of a long one, about `start` characters and the last `end` ones are left.
fn cut(text: &str, start: usize, end: usize) -> String {
    let chars: Vec<char> = text.chars().map(|c| if misleads(c) { ' ' } else { c }).collect();
    match chars.len().checked_sub(end) {
        Some(end) if end > start => {
            chars.iter().take(start).chain(&['…']).chain(chars.iter().skip(end)).collect()
        }
        _ => chars.into_iter().collect(),
    }
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
