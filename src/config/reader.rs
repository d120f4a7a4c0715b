//! Walks a TOML document key by key and says what is wrong in one line: file,
//! line, column, the key, what it is and what it must be. Knows no key of ours.
//!
//! serde would read the same tables in fewer lines, but its errors name Rust
//! types and cannot point at the value that a later check refuses.

use super::ConfigError;
use crate::text::misleads;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A config file's text, for turning byte offsets into lines and columns.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    /// Where a key belongs that was found in a wrong table.
    belongs: fn(&str) -> Option<&'static str>,
    /// What stands here for a key that others have.
    renamed: fn(&str) -> Option<&'static str>,
}

impl<'a> Source<'a> {
    pub fn new(
        file: &'a Path,
        text: &'a str,
        belongs: fn(&str) -> Option<&'static str>,
        renamed: fn(&str) -> Option<&'static str>,
    ) -> Self {
        Self { file, text, belongs, renamed }
    }

    /// The error `what` at byte offset `place`. Always one line, short enough for every log.
    pub fn error(&self, place: usize, what: String) -> ConfigError {
        ConfigError::at(self.file, self.text, place, &shortened(&what))
    }

    /// The line of byte offset `place`, counted from 1.
    pub fn line(&self, place: usize) -> usize {
        ConfigError::at(self.file, self.text, place, "").line
    }

    /// The whole document as a table that may hold `keys`.
    pub fn document(
        self,
        name: &'static str,
        keys: &'static [&'static str],
    ) -> Result<Table<'a>, ConfigError> {
        match DeTable::parse(self.text) {
            Ok(table) => Table::new(self, name, keys, table.span().start, table.into_inner()),
            Err(e) => {
                let place = e.span().map_or(0, |span| span.start);
                Err(self.slip(place).unwrap_or_else(|| {
                    let message = e.message();
                    let what = match message.strip_prefix("duplicate key") {
                        Some(_) => self.twice(place),
                        None => format!("not TOML: {message}"),
                    };
                    self.error(place, what)
                }))
            }
        }
    }

    /// What is said of the second of two keys or tables of one name.
    fn twice(self, place: usize) -> String {
        let end = |c: char| c.is_whitespace() || "=]\"'.".contains(c);
        let rest = self.text.get(place..).unwrap_or_default().trim_start_matches(['"', '\'', '[']);
        let name = rest.split(end).next().unwrap_or_default();
        let before = self.text.get(..place).unwrap_or_default().trim_end_matches([' ', '[']);
        if rest.starts_with(name) && (before.is_empty() || before.ends_with('\n')) {
            let start = self.text.get(before.len()..).unwrap_or_default();
            if start.trim_start().starts_with('[') {
                return match (self.belongs)(name) {
                    Some(_) => format!("[{name}] is given twice: write [[{name}]] each time"),
                    None => format!("[{name}] is given twice: take one out"),
                };
            }
        }
        match (self.belongs)(name) {
            Some(place) if place.ends_with("[[share]]") => {
                format!("key {name:?} is given twice: one [[share]] for each, or take one out")
            }
            _ => format!("key {name:?} is given twice: take one out"),
        }
    }

    /// What is no config at all, but is often found in the place of one.
    fn of_another_kind(self, start: usize, line: &str) -> Option<ConfigError> {
        let whole: String = self.text.chars().filter(|c| !c.is_whitespace()).take(3).collect();
        if whole.starts_with("{") || whole.starts_with("[{") {
            let what = "this is JSON, and the config is TOML: write [[share]], and below it key = value, line by line";
            return Some(self.error(0, what.into()));
        }
        let line = line.trim_start();
        let word = line.trim_start_matches("$ ").split_whitespace().next()?;
        let command = [
            "sudo",
            "cat",
            "tee",
            "echo",
            "printf",
            "mkdir",
            "cd",
            "vi",
            "vim",
            "nano",
            "efs-agent",
            "mount",
        ];
        let assigned =
            line.get(word.len()..).is_some_and(|rest| rest.trim_start().starts_with('='));
        let is_one = line.starts_with("$ ") || command.contains(&word) && !assigned;
        (is_one || ["EOF", "EOT", "END"].contains(&line.trim())).then(|| {
            let what = "this is a line of a shell command: keep only what is to stand in the file";
            self.error(start, what.into())
        })
    }

    /// The slips that people make most, where TOML's own message would not help them.
    fn slip(self, place: usize) -> Option<ConfigError> {
        let start = self.text.get(..place)?.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text.get(start..)?.lines().next()?;
        if let Some(told) = self.of_another_kind(start, line) {
            return Some(told);
        }
        let typographic = |c| matches!(c, '“' | '”' | '„' | '‘' | '’' | '«' | '»');
        if let Some((at, _)) = line.split('#').next()?.char_indices().find(|(_, c)| typographic(*c))
        {
            return Some(
                self.error(start + at, "typographic quotes: write straight ones (\")".into()),
            );
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let key = line.trim_start().split(|c| !word(c)).next().filter(|key| !key.is_empty())?;
        let rest = line.trim_start().get(key.len()..)?.trim_start();
        let what = match rest.strip_prefix('=').map(str::trim_start) {
            None if rest.is_empty() || rest.starts_with(['.', '-']) => return None,
            None => format!("not of the form key = value: {key} = \"…\""),
            Some(value)
                if ["True", "False", "yes", "no", "on", "off"]
                    .contains(&value.split(|c| !word(c)).next().unwrap_or("")) =>
            {
                format!("{key} must be true or false, in lower case and without quotes")
            }
            Some(value) if value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/') => {
                format!("{key} needs double quotes around its value: {key} = \"…\"")
            }
            Some(value)
                if value.starts_with('[')
                    && value
                        .trim_start_matches(['[', ' '])
                        .starts_with(|c: char| c.is_ascii_digit()) =>
            {
                format!("{key} needs double quotes around each value: {key} = [\"…\"]")
            }
            Some(value) if value.starts_with('"') && value.contains("=\"") => format!(
                "{key} has double quotes inside of double quotes: put single ones around the whole value, {key} = '…'"
            ),
            Some(value) if value.starts_with('"') && ends_wrong(value) => {
                let end = value.trim_end().chars().next_back().unwrap_or(';');
                format!("{key} has \"{end}\" behind its value: take it out")
            }
            Some(_) => return None,
        };
        Some(self.error(start, what))
    }
}

/// Whether something stands behind a string that TOML has nothing to do with.
fn ends_wrong(value: &str) -> bool {
    value.trim_end().strip_suffix([';', ',']).is_some_and(|value| value.ends_with('"'))
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

/// A table whose keys are all known.
pub struct Table<'a> {
    source: Source<'a>,
    name: &'static str,
    place: usize,
    entries: BTreeMap<String, Spanned<DeValue<'a>>>,
}

impl<'a> Table<'a> {
    fn new(
        source: Source<'a>,
        name: &'static str,
        keys: &'static [&'static str],
        place: usize,
        entries: DeTable<'a>,
    ) -> Result<Self, ConfigError> {
        let unknown = entries
            .keys()
            .filter(|key| !keys.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        if let Some(key) = unknown {
            let word = key.get_ref();
            let what = match ((source.belongs)(word), (source.renamed)(word)) {
                (Some(place), _) => format!("key {word:?} does not belong in {name}, but {place}"),
                (None, Some(ours)) => format!("unknown key {word:?} in {name}: here it is {ours}"),
                (None, None) => format!("unknown key {word:?} in {name}; {}", hint(word, keys)),
            };
            return Err(source.error(key.span().start, what));
        }
        let entries = entries.into_iter().map(|(k, v)| (k.into_inner().into_owned(), v)).collect();
        Ok(Self { source, name, place, entries })
    }

    /// Byte offset of the table itself.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Byte offset of the value at `key`, if it is there and was not read yet.
    pub fn place_of(&self, key: &str) -> Option<usize> {
        self.entries.get(key).map(|value| value.span().start)
    }

    /// The error `what` at byte offset `place`.
    pub fn error(&self, place: usize, what: String) -> ConfigError {
        self.source.error(place, what)
    }

    /// The string at `key`.
    pub fn string(&mut self, key: &'static str) -> Result<Option<Text<'a>>, ConfigError> {
        self.entries.remove(key).map(|value| text(self.source, key, value, "a string")).transpose()
    }

    /// The string at `key` that is to be a span of time.
    pub fn span(&mut self, key: &'static str) -> Result<Option<Text<'a>>, ConfigError> {
        self.entries.remove(key).map(|value| text(self.source, key, value, SPAN)).transpose()
    }

    /// The string at `key`, which must be there; `meaning` says what it is.
    pub fn required_string(
        &mut self,
        key: &'static str,
        meaning: &str,
    ) -> Result<Text<'a>, ConfigError> {
        self.string(key)?.ok_or_else(|| {
            let what = format!("{} has no {key}: add {key} = \"…\", {meaning}", self.name);
            self.source.error(self.place, what)
        })
    }

    /// The strings in the array at `key`; none where it is absent.
    pub fn strings(&mut self, key: &'static str) -> Result<Vec<Text<'a>>, ConfigError> {
        let Some(value) = self.entries.remove(key) else {
            return Ok(Vec::new());
        };
        let place = value.span().start;
        match value.into_inner() {
            DeValue::Array(items) => {
                items.into_iter().map(|item| text(self.source, key, item, STRINGS)).collect()
            }
            other => Err(wrong(self.source, key, place, STRINGS, &other)),
        }
    }

    /// The boolean at `key`.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.entries.remove(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Boolean(boolean) => Ok(Some(*boolean)),
            other => Err(wrong(self.source, key, value.span().start, TRUTH, other)),
        }
    }

    /// The whole number at `key`, from `least` to `most`.
    pub fn integer(
        &mut self,
        key: &'static str,
        least: u16,
        most: u16,
    ) -> Result<Option<u16>, ConfigError> {
        let Some(value) = self.entries.remove(key) else {
            return Ok(None);
        };
        let number = match value.get_ref() {
            DeValue::Integer(n) => u16::from_str_radix(n.as_str(), n.radix()).ok(),
            _ => None,
        };
        if let Some(number) = number.filter(|number| (least..=most).contains(number)) {
            return Ok(Some(number));
        }
        let expected = format!("{NUMBER} from {least} to {most}");
        Err(wrong(self.source, key, value.span().start, &expected, value.get_ref()))
    }

    /// The table at `key`, which may hold `keys`.
    pub fn table(
        &mut self,
        key: &'static str,
        name: &'static str,
        keys: &'static [&'static str],
    ) -> Result<Option<Table<'a>>, ConfigError> {
        let Some(value) = self.entries.remove(key) else {
            return Ok(None);
        };
        let place = value.span().start;
        match value.into_inner() {
            DeValue::Table(table) => Table::new(self.source, name, keys, place, table).map(Some),
            other => Err(wrong(self.source, key, place, &format!("the table {name}"), &other)),
        }
    }

    /// The tables in the array of tables at `key`, each of which may hold `keys`.
    pub fn tables(
        &mut self,
        key: &'static str,
        name: &'static str,
        keys: &'static [&'static str],
    ) -> Result<Vec<Table<'a>>, ConfigError> {
        let expected = format!("one or more {name} tables");
        let Some(value) = self.entries.remove(key) else {
            return Ok(Vec::new());
        };
        let place = value.span().start;
        let DeValue::Array(items) = value.get_ref() else {
            return Err(wrong(self.source, key, place, &expected, value.get_ref()));
        };
        let mut tables = Vec::new();
        for item in items.clone() {
            let place = item.span().start;
            tables.push(match item.into_inner() {
                DeValue::Table(table) => Table::new(self.source, name, keys, place, table)?,
                other => return Err(wrong(self.source, key, place, &expected, &other)),
            });
        }
        Ok(tables)
    }
}

/// A string and where it stands.
pub struct Text<'a> {
    source: Source<'a>,
    key: &'static str,
    place: usize,
    text: String,
}

impl Text<'_> {
    /// Byte offset of the value.
    pub fn place(&self) -> usize {
        self.place
    }

    /// What `read` makes of the string; its complaint is put behind the key and the value.
    pub fn parse<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        read(&self.text).map_err(|complaint| {
            let value = cut(&format!("{:?}", self.text), 200, 200);
            self.source.error(self.place, format!("{} {value} {complaint}", self.key))
        })
    }
}

const SPAN: &str = "a span of time in quotes";
const TRUTH: &str = "true or false";
const NUMBER: &str = "a whole number";
const STRINGS: &str = "an array of strings";

fn text<'a>(
    source: Source<'a>,
    key: &'static str,
    value: Spanned<DeValue<'a>>,
    expected: &str,
) -> Result<Text<'a>, ConfigError> {
    let place = value.span().start;
    match value.into_inner() {
        DeValue::String(text) => Ok(Text { source, key, place, text: text.into_owned() }),
        other => Err(wrong(source, key, place, expected, &other)),
    }
}

fn wrong(
    source: Source<'_>,
    key: &str,
    place: usize,
    expected: &str,
    found: &DeValue<'_>,
) -> ConfigError {
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
        (DeValue::Integer(n), "a string" | SPAN) => {
            let digits = n.to_string();
            let digits = digits.strip_prefix("0o").unwrap_or(&digits);
            let unit = if expected == SPAN { "s" } else { "" };
            what.push_str(&format!(": write {key} = \"{digits}{unit}\""));
        }
        (DeValue::String(_), expected) if expected.starts_with(NUMBER) => {
            what.push_str(": write it without quotes");
        }
        (DeValue::String(_), TRUTH) => what.push_str(": write it without quotes"),
        (DeValue::String(text), STRINGS) => {
            what.push_str(&format!(": write {key} = [\"{text}\"]"));
        }
        (DeValue::Array(_), "a string") => what.push_str(": write one string in quotes"),
        (DeValue::Table(_), _) if expected.contains("[[") => {
            what.push_str(&format!(": write [[{key}]], with two brackets on each side"));
        }
        (DeValue::Array(_), _) if expected.starts_with("the table") => {
            what.push_str(&format!(": write [{key}], with one bracket on each side"));
        }
        _ => {}
    }
    source.error(place, what)
}

/// "did you mean …" where one of `known` is near, else the whole list.
pub fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known).filter(|(far, k)| *far <= 1 + k.len() / 4) {
        Some((_, k)) => format!("did you mean \"{k}\"?"),
        None => format!("allowed are {}", known.join(", ")),
    }
}

/// How many edits the nearest of `known` is away, and which one that is.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<(usize, &'k str)> {
    // What is far too long is no near miss, and the distance would take its square in time.
    known.iter().filter(|_| word.len() <= 64).map(|k| (distance(word, k), *k)).min()
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Three rows of the usual table: two back, one back, and the one being filled.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
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
