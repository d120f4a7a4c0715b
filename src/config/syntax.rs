//! Reads a text as TOML, and explains what is wrong with one that is none. TOML's own message does not help with the
//! slips that people make most. Which keys there are is not known here.

use super::ConfigError;
use super::reader::Source;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Programs that begin a line which was copied from a guide together with the config.
const COMMANDS: &[&str] = &[
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
/// What ends the text that such a command reads.
const ENDS: &[&str] = &["EOF", "EOT", "END"];

/// What people write for `true` and `false`.
const TRUTHS: &[&str] = &["True", "False", "yes", "no", "on", "off"];

impl<'a> Source<'a> {
    /// The whole document as a value.
    ///
    /// # Errors
    /// What is wrong with text that is no TOML.
    pub fn document(&self) -> Result<Spanned<DeValue<'a>>, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|error| self.not_toml(&error))?;
        Ok(Spanned::new(table.span(), DeValue::Table(table.into_inner())))
    }

    /// The `error` of the TOML parser, or the slip behind it.
    fn not_toml(&self, error: &toml::de::Error) -> ConfigError {
        let place = error.span().map_or(0, |span| span.start);
        if let Some(slip) = self.slip_at(place) {
            return slip;
        }

        let message = error.message();
        let what = match message.starts_with("duplicate key") {
            true => self.given_twice(place),
            false => format!("not TOML: {message}"),
        };
        self.error(place, what)
    }

    /// The error about the second of two keys or tables of one name.
    fn given_twice(&self, place: usize) -> String {
        let (before, rest) = self.text.split_at_checked(place).unwrap_or_default();
        let rest = rest.trim_start_matches(['"', '\'', '[']);
        let name = rest.split(|c: char| c.is_whitespace() || "=]\"'.".contains(c)).next();
        let name = name.unwrap_or_default();

        let before = before.trim_end_matches([' ', '[']);
        let line = self.text.get(before.len()..).unwrap_or_default();
        let starts_line = before.is_empty() || before.ends_with('\n');
        if starts_line && line.trim_start().starts_with('[') {
            return match (self.advice.belongs)(name) {
                Some(_) => format!("[{name}] is given twice: write [[{name}]] each time"),
                None => format!("[{name}] is given twice: take one out"),
            };
        }
        match (self.advice.may_repeat)(name) {
            true => format!("key {name:?} is given twice: one [[share]] for each, or take one out"),
            false => format!("key {name:?} is given twice: take one out"),
        }
    }

    /// The slip in the line of `place`, where the parser gave up.
    fn slip_at(&self, place: usize) -> Option<ConfigError> {
        let start = self.text.get(..place)?.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text.get(start..)?.lines().next()?;

        if self.is_json() {
            let what = "this is JSON, and the config is TOML: write [[share]], and below it key = value, line by line";
            return Some(self.error(0, what.into()));
        }
        if is_of_shell(line.trim_start()) {
            let what = "this is a line of a shell command: keep only what is to stand in the file";
            return Some(self.error(start, what.into()));
        }
        if let Some(at) = line.split('#').next()?.find(is_typographic_quote) {
            let what = "typographic quotes: write straight ones (\")";
            return Some(self.error(start + at, what.into()));
        }
        in_pair(line.trim_start()).map(|what| self.error(start, what))
    }

    fn is_json(&self) -> bool {
        let start: String = self.text.chars().filter(|c| !c.is_whitespace()).take(3).collect();
        start.starts_with("{") || start.starts_with("[{")
    }
}

/// Whether `line` was copied from a shell.
fn is_of_shell(line: &str) -> bool {
    let Some(word) = line.trim_start_matches("$ ").split_whitespace().next() else { return false };
    let rest = line.get(word.len()..).unwrap_or_default();
    let is_assigned = rest.trim_start().starts_with('=');
    line.starts_with("$ ")
        || COMMANDS.contains(&word) && !is_assigned
        || ENDS.contains(&line.trim_end())
}

fn is_typographic_quote(c: char) -> bool {
    matches!(c, '“' | '”' | '„' | '‘' | '’' | '«' | '»')
}

fn is_of_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What is wrong with a line that was to be `key = value`.
fn in_pair(line: &str) -> Option<String> {
    let key = line.split(|c| !is_of_key(c)).next().filter(|key| !key.is_empty())?;
    let rest = line.get(key.len()..)?.trim_start();
    let Some(value) = rest.strip_prefix('=').map(str::trim_start) else {
        let may_be_key = rest.is_empty() || rest.starts_with(['.', '-']);
        return (!may_be_key).then(|| format!("not of the form key = value: {key} = \"…\""));
    };

    let word = value.split(|c| !is_of_key(c)).next().unwrap_or_default();
    let items = value.trim_start_matches(['[', ' ']);
    let end = value.trim_end().chars().next_back().unwrap_or(';');

    Some(if TRUTHS.contains(&word) {
        format!("{key} must be true or false, in lower case and without quotes")
    } else if value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/') {
        format!("{key} needs double quotes around its value: {key} = \"…\"")
    } else if value.starts_with('[') && items.starts_with(|c: char| c.is_ascii_digit()) {
        format!("{key} needs double quotes around each value: {key} = [\"…\"]")
    } else if value.starts_with('"') && value.contains("=\"") {
        format!(
            "{key} has double quotes inside of double quotes: put single ones around the whole value, {key} = '…'"
        )
    } else if value.starts_with('"') && ends_in_separator(value.trim_end()) {
        format!("{key} has \"{end}\" behind its value: take it out")
    } else {
        return None;
    })
}

/// Whether a `;` or a `,` stands behind a string. TOML has no use for it.
fn ends_in_separator(value: &str) -> bool {
    value.ends_with("\";") || value.ends_with("\",")
}
