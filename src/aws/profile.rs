//! AWS's files of profiles (`~/.aws/credentials` and `~/.aws/config`), as AWS's own tools read them. What a key means is
//! not known here. Every value may be a secret, so no error shows one.

use super::secret::Secret;
use std::collections::BTreeMap;
use std::path::Path;

/// Which of the two files a text is: they name their profiles differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileFileKind {
    /// `[name]`.
    Credentials,
    /// `[profile name]`, but `[default]`.
    Config,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    pub what: LineErrorKind,
    /// The profile that it is in, or begins; `None` where it may belong to any.
    pub profile: Option<String>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineErrorKind {
    /// It stands above all sections.
    #[error("a key before the first section")]
    NoSection,
    /// The section is not closed.
    #[error("a section without its closing bracket")]
    NoBracket,
    /// The section has something behind it.
    #[error("more text behind a section's closing bracket")]
    BehindBracket,
    /// It has no equals sign or colon.
    #[error("neither a section, nor a key with an equals sign and a value")]
    NoValue,
    /// It begins with an equals sign or colon.
    #[error("no key before the equals sign")]
    NoKey,
    /// It is a line for a shell, as AWS's access portal offers it for copying.
    #[error("a command of a shell, and not a key with its value")]
    Shell,
    /// It has bytes that are no UTF-8.
    #[error("it has bytes that are no UTF-8 text")]
    NotText,
}

impl LineError {
    /// What is to be done about it in `file`.
    pub fn correction(&self, file: &Path) -> String {
        let line = self.line;
        let file = file.display();

        match self.what {
            LineErrorKind::NoSection => format!(
                "put the name of the profile in brackets above line {line} of {file}, for instance [default]"
            ),
            LineErrorKind::Shell => format!(
                "write the keys without export, set or $env: from line {line} of {file} on, below the name of \
                 the profile in brackets: [default], then aws_access_key_id = …"
            ),
            LineErrorKind::NotText => {
                format!("correct line {line} of {file}, and save that as UTF-8")
            }
            _ => format!("correct line {line} of {file}"),
        }
    }
}

/// Keys in lower case, and values.
pub type Profile = BTreeMap<String, Secret>;

/// The profiles of a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Profiles {
    /// By name.
    pub profiles: BTreeMap<String, Profile>,
    /// The names of sections that would be profiles in the other file, and are none here.
    pub misnamed: Vec<String>,
    /// The lines that cannot be read. Each makes only the profile unusable that it is in.
    pub errors: Vec<LineError>,
    /// The line of each key, by profile and key.
    lines: BTreeMap<(String, String), usize>,
}

/// The section that is being read.
enum Section {
    /// No section has begun.
    Above,
    /// It is no profile here, or its name cannot be read: its keys are dropped.
    Other,
    /// The profile of this name.
    Of(String),
}

impl Profiles {
    /// Reads `text`. The last of two equal keys counts; sections of the same name are one. Bytes that are no text must
    /// have become U+FFFD.
    pub fn parse(text: &str, kind: ProfileFileKind) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut read = Self::default();
        let mut section = Section::Above;
        let mut last: Option<Property<'_>> = None;
        for (line, number) in text.lines().zip(1..) {
            let content = line.trim();
            if content.is_empty() || content.starts_with(['#', ';']) {
                continue;
            }

            let indent = line.len() - line.trim_start().len();
            if let Some(property) = &mut last
                && indent > property.indent
            {
                property.lines.push(content);
                continue;
            }
            read.put(&section, last.take());

            if let Some(header) = content.strip_prefix('[') {
                let (name, wrong) = match header.split_once(']') {
                    None => (without_comment(header), Some(LineErrorKind::NoBracket)),
                    Some((name, after)) => {
                        let after = after.trim_start();
                        let ends = after.is_empty() || after.starts_with(['#', ';']);
                        (name.trim(), (!ends).then_some(LineErrorKind::BehindBracket))
                    }
                };

                let name = name.trim();
                let wrong = wrong.or(name.contains(UNREADABLE).then_some(LineErrorKind::NotText));
                section = match wrong {
                    None => read.begin(name, kind).map_or(Section::Other, Section::Of),
                    // The keys below it must not become part of the profile above it.
                    Some(what) => {
                        let profile = profile_of(name, kind).ok().map(str::to_owned);
                        read.errors.push(LineError { line: number, what, profile });
                        Section::Other
                    }
                };
                continue;
            }

            match key_and_value(content) {
                result if matches!(section, Section::Above) => {
                    let of_shell = result == Err(LineErrorKind::Shell);
                    let what =
                        if of_shell { LineErrorKind::Shell } else { LineErrorKind::NoSection };
                    read.errors.push(LineError { line: number, what, profile: None });
                }
                Ok((key, value)) => {
                    let key = key.to_ascii_lowercase();
                    last = Some(Property { indent, number, key, lines: vec![value] });
                }
                Err(what) => read.add_error(&section, number, what),
            }
        }
        read.put(&section, last);
        read
    }

    /// The line of `key` in `profile`.
    pub fn line_of(&self, profile: &str, key: &str) -> Option<usize> {
        self.lines.get(&(profile.to_owned(), key.to_owned())).copied()
    }

    /// The first error that concerns `profile`.
    pub fn error_in(&self, profile: &str) -> Option<&LineError> {
        self.errors.iter().find(|error| error.profile.as_deref() == Some(profile))
    }

    /// The first error that may concern any profile.
    pub fn error_anywhere(&self) -> Option<&LineError> {
        self.errors.iter().find(|error| error.profile.is_none())
    }

    /// Keeps an error. One in a section that is no profile matters to nobody, and is dropped.
    fn add_error(&mut self, section: &Section, line: usize, what: LineErrorKind) {
        if let Section::Of(name) = section {
            self.errors.push(LineError { line, what, profile: Some(name.clone()) });
        }
    }

    /// Puts a key and its value into the profile of the section, where there are such.
    fn put(&mut self, section: &Section, property: Option<Property<'_>>) {
        let (Section::Of(name), Some(Property { number, key, lines, .. })) = (section, property)
        else {
            return;
        };
        if lines.iter().any(|line| line.contains(UNREADABLE)) {
            return self.add_error(section, number, LineErrorKind::NotText);
        }

        let value = Secret::new(lines.join("\n"));
        self.lines.insert((name.clone(), key.clone()), number);
        self.profiles.entry(name.clone()).or_default().insert(key, value);
    }

    /// Begins the section `header`. Returns the name of the profile, if it is one.
    fn begin(&mut self, header: &str, kind: ProfileFileKind) -> Option<String> {
        match profile_of(header, kind) {
            Ok(name) => {
                self.profiles.entry(name.to_owned()).or_default();
                Some(name.to_owned())
            }
            Err(misnamed) => {
                self.misnamed.extend(misnamed.map(str::to_owned));
                None
            }
        }
    }
}

/// Stands for bytes that are no text.
const UNREADABLE: char = '\u{fffd}';

/// The name of the profile that begins with `header`. If it is no profile, the name that it has in the other file.
fn profile_of(header: &str, kind: ProfileFileKind) -> Result<&str, Option<&str>> {
    let prefixed = header.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t', '"']));
    let name = match (kind, prefixed) {
        (ProfileFileKind::Config, Some(name)) => unquoted(name.trim()),
        (ProfileFileKind::Config, None) if header == "default" => header,
        // Sections of other kinds are there too, such as "sso-session name" and "services name".
        (ProfileFileKind::Config, None) => {
            let is_a_name = !header.is_empty() && !header.contains([' ', '\t']);
            return Err(is_a_name.then_some(header));
        }
        (ProfileFileKind::Credentials, Some(name)) => return Err(Some(unquoted(name.trim()))),
        (ProfileFileKind::Credentials, None) => unquoted(header),
    };
    if name.is_empty() { Err(None) } else { Ok(name) }
}

/// The key and the value in a line. The first equals sign or colon separates them, as for the AWS CLI.
fn key_and_value(content: &str) -> Result<(&str, &str), LineErrorKind> {
    if is_of_a_shell(content) {
        return Err(LineErrorKind::Shell);
    }

    let (key, value) = content.split_once(['=', ':']).ok_or(LineErrorKind::NoValue)?;
    let key = key.trim();
    match key {
        "" => Err(LineErrorKind::NoKey),
        key if key.contains(UNREADABLE) => Err(LineErrorKind::NotText),
        key => Ok((key, without_comment(value))),
    }
}

/// Whether the line sets a variable in bash, cmd or PowerShell.
fn is_of_a_shell(content: &str) -> bool {
    ["export ", "set ", "$env:"]
        .iter()
        .any(|word| content.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

/// A key that is being read, and the lines of its value.
struct Property<'t> {
    /// The blanks before the key. A line with more of them belongs to the value.
    indent: usize,
    /// The line of the key.
    number: usize,
    key: String,
    lines: Vec<&'t str>,
}

fn unquoted(name: &str) -> &str {
    let inner = |quote| name.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(name).trim()
}

/// A value without the comment behind it. White space stands before a comment.
fn without_comment(value: &str) -> &str {
    let mut before = ' ';
    for (place, c) in value.char_indices() {
        if matches!(c, '#' | ';') && before.is_whitespace() {
            return value.get(..place).unwrap_or_default().trim();
        }
        before = c;
    }
    value.trim()
}

/// Splits a command line (`credential_process`) into program and arguments, as a POSIX shell splits words by quotes
/// and backslashes. Nothing else has a meaning: there is no shell.
///
/// # Errors
/// What is wrong with it.
pub fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let words = shell_words::split(line).map_err(|_| "a quote that is not closed")?;
    let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
    if backslashes % 2 == 1 {
        return Err("a backslash at its end");
    }
    Ok(words)
}

#[cfg(test)]
mod tests;
