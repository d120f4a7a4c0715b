//! A mount command, or a line of /etc/fstab, taken apart. What its options mean is not this file's business.

use super::source::PastedSource;
use crate::config::options::words;

/// What stood in a mount command or a line of fstab.
#[derive(Default)]
pub struct PastedMount {
    /// What the text is, to be put behind it; empty if it is neither of the two.
    pub what: &'static str,
    pub source: Option<PastedSource>,
    pub target: Option<String>,
    /// Lists of options.
    pub options: Vec<String>,
}

const FSTAB: &str = "is a line of /etc/fstab";

impl PastedMount {
    pub fn of_source(source: PastedSource) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// Takes the words of a command or of a line apart, or of a part of one.
    pub fn in_words(words: &[String]) -> Option<Self> {
        let command = words.iter().position(|word| is_mount(word)).filter(|at| *at <= 2);
        if let Some(at) = command {
            return Self::in_arguments(
                words.get(at.saturating_add(1)..)?,
                "is a command for mount(8)",
            );
        }
        if words.first()?.starts_with('-') {
            return Self::in_arguments(words, "begins with what belongs to the command mount(8)");
        }

        let numbers = words.iter().rev().take_while(|word| is_digit(word)).take(2).count();
        Self::in_fields(words.get(..words.len().saturating_sub(numbers))?, numbers > 0)
    }

    /// Reads the fields of a line of fstab. `numbered` says that the numbers at the end of such a line stood behind
    /// them.
    fn in_fields(fields: &[String], numbered: bool) -> Option<Self> {
        match fields {
            [source, target, kind, rest @ ..]
                if (is_kind(kind) || kind == "s3files") && rest.len() <= 1 =>
            {
                Some(Self {
                    what: FSTAB,
                    source: Some(PastedSource::in_word(&unescaped(source))?),
                    target: Some(unescaped(target)),
                    options: rest.to_vec(),
                })
            }
            [target, kind, options] if target.starts_with('/') && is_kind(kind) => Some(Self {
                what: FSTAB,
                target: Some(unescaped(target)),
                options: vec![options.clone()],
                ..Self::default()
            }),
            // This is the part of a command that stands behind its -o.
            [options, place, rest @ ..]
                if options.contains(['=', ','])
                    && !options.contains(['/', ':'])
                    && rest.len() <= 1 =>
            {
                Some(Self {
                    what: "ends with what belongs to the command mount(8)",
                    source: Some(PastedSource::in_word(place).filter(|_| place.contains(':'))?),
                    target: rest.first().cloned(),
                    options: vec![options.clone()],
                })
            }
            [options] if numbered => Some(Self {
                what: "ends with what belongs to a line of /etc/fstab",
                options: vec![options.clone()],
                ..Self::default()
            }),
            [kind, options] if is_kind(kind) => {
                Some(Self { what: FSTAB, options: vec![options.clone()], ..Self::default() })
            }
            _ => None,
        }
    }

    /// Reads what stands behind `mount`.
    fn in_arguments(words: &[String], what: &'static str) -> Option<Self> {
        let mut found = Self { what, ..Self::default() };
        let mut places = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-o" | "--options" => found.options.extend(words.next().cloned()),
                "-t" | "--types" => drop(words.next()),
                flag if flag.starts_with('-') => found.options.extend(options_in_flag(flag)),
                _ => places.push(word),
            }
        }

        let mut places = places.into_iter();
        found.source = places.next().and_then(|word| PastedSource::in_word(word));
        found.target = places.next().cloned();
        Some(found).filter(|found| found.source.is_some() || !found.options.is_empty())
    }
}

/// The options in one word that begins with `-`: `-oro`, `--options=ro`, and `-ro,hard` as in a map of autofs.
fn options_in_flag(flag: &str) -> Option<String> {
    if flag.starts_with("-t") {
        return None;
    }
    let list = flag.strip_prefix("-o").or(flag.strip_prefix("--options="));
    let list = list.or(flag.strip_prefix('-').filter(|rest| rest.contains(['=', ','])))?;

    let kept: Vec<&str> = words(list).filter(|word| !word.starts_with("fstype=")).collect();
    Some(kept.join(","))
}

fn is_mount(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or_default();
    name == "mount" || name.starts_with("mount.") && !word.contains(':')
}

fn is_kind(word: &str) -> bool {
    ["efs", "nfs", "nfs4"].contains(&word)
}

fn is_digit(word: &str) -> bool {
    word.len() == 1 && word.bytes().all(|b| b.is_ascii_digit())
}

/// A field as it was before it was written into fstab(5), where a blank is `\040`.
fn unescaped(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// The words of a command line, without the quotes around them.
pub fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;

    for c in text.chars() {
        match quote {
            None if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            None if c == '\'' || c == '"' && word.is_empty() => quote = Some((c, false)),
            // A quote that begins inside a word, as in context="…", is part of it.
            None if c == '"' => {
                quote = Some((c, true));
                word.push(c);
            }
            Some((end, kept)) if c == end => {
                word.extend(kept.then_some(c));
                quote = None;
            }
            _ => word.push(c),
        }
    }

    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}
