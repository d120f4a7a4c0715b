//! A list of mount options, read to its end whatever is wrong in it. What a single word means stands in `options`.

use super::lines::ShareLines;
use super::options::{CONTEXTS, MountOptions, key_and_value, words};
use super::words::{HELPER, line};
use crate::text::misleads;

/// A word, and whether it is a context that was cut at its own commas and put together again.
struct ListWord {
    text: String,
    was_cut: bool,
}

/// The trimmed words of a list, contexts in one piece.
fn whole_words(text: &str) -> Vec<ListWord> {
    let mut found: Vec<ListWord> = Vec::new();
    for word in words(text).map(str::trim).filter(|word| !word.is_empty()) {
        match found.last_mut() {
            Some(last) if is_category(word) && ends_in_category(&last.text) => {
                last.text.push(',');
                last.text.push_str(word);
                last.was_cut = true;
            }
            _ => found.push(ListWord { text: word.to_owned(), was_cut: false }),
        }
    }
    found
}

fn has(words: &[ListWord], text: &str) -> bool {
    words.iter().any(|word| word.text == text)
}

/// `c1`, or a range of categories as in `c0.c1023`.
fn is_category(word: &str) -> bool {
    word.split('.').all(|one| {
        let digits = one.strip_prefix('c').unwrap_or_default();
        (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Whether `word` is a context without quotes that a further category may follow.
fn ends_in_category(word: &str) -> bool {
    let value = word.split_once('=').filter(|(key, _)| CONTEXTS.contains(key));
    value.is_some_and(|(_, value)| {
        !value.contains('"')
            && value.contains(':')
            && value.rsplit([':', ',']).next().is_some_and(is_category)
    })
}

/// A list of options, read to its end whatever is wrong in it.
#[derive(Default)]
pub struct OptionList {
    /// The defaults, with the good words put over them.
    options: MountOptions,
    /// The good words that mean something.
    kept: Vec<String>,
    /// The words of amazon-efs-utils that are lines of a `[[share]]` here, and those lines.
    helper: Vec<String>,
    helper_lines: ShareLines,
    /// Whether there was a context without quotes that has a comma in it.
    pub was_cut: bool,
    /// What is wrong with the other words.
    pub wrong: Vec<String>,
}

impl OptionList {
    pub fn read(text: &str) -> Self {
        let words = whole_words(text);
        // mount(8) explains `defaults` by these words. People who paste them have not asked for less safety.
        let are_defaults = has(&words, "defaults") || has(&words, "auto") && has(&words, "nouser");

        let mut list = Self::default();
        for word in &words {
            match word.text.as_str() {
                text @ ("suid" | "dev") if are_defaults => {
                    list.options.ignored.push(text.to_owned());
                }
                text if word.was_cut => list.add_cut_context(text),
                text => list.add(text),
            }
        }

        if ["context", "defcontext"].iter().all(|key| list.options.value(key).is_some()) {
            list.wrong.push(
                "\"context\" and \"defcontext\" exclude each other: SELinux takes one of the two"
                    .into(),
            );
        }
        list
    }

    /// Adds a context that has commas in it, as it should have been written.
    fn add_cut_context(&mut self, word: &str) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let quoted = format!("{key}=\"{value}\"");
        self.was_cut = true;
        self.wrong.extend(self.options.put(&quoted).err());
        self.kept.push(quoted);
    }

    fn add(&mut self, word: &str) {
        let (key, value) = key_and_value(word);
        let as_line = line(key, value).filter(|_| !word.contains(misleads));
        if let Some((line, value)) = as_line {
            self.helper.push(format!("\"{key}\""));
            self.helper_lines.put(line, value);
            return;
        }

        let ignored = self.options.ignored.len();
        match self.options.put(word) {
            Ok(()) if self.options.ignored.len() == ignored => self.kept.push(word.into()),
            Ok(()) => {}
            // The same error twice is reported once.
            Err(what) if self.wrong.contains(&what) => {}
            Err(what) => self.wrong.push(what),
        }
    }

    /// Adds to `lines` what the list would be in a `[[share]]`.
    pub fn into_lines(self, lines: &mut ShareLines) {
        if self.options.ignored.iter().any(|word| word == "nofail") {
            lines.put("required", "false".into());
        }
        lines.append(self.helper_lines);
        if !self.kept.is_empty() {
            lines.put("options", format!("{:?}", self.kept.join(",")));
        }
    }

    /// The options, or all that is wrong with them. `held` says which keys the share has already.
    pub fn checked(mut self, held: &dyn Fn(&str) -> bool) -> Result<MountOptions, String> {
        let mut wrong = Vec::new();
        wrong.extend(self.wrong_about_helper(held));
        if self.was_cut {
            wrong.push(format!(
                "put the context in double quotes, since there is a comma in it, and the whole list in single \
                 ones: write options = '{}'",
                self.kept.join(",")
            ));
        }
        wrong.append(&mut self.wrong);
        match wrong.is_empty() {
            true => Ok(self.options),
            false => Err(wrong.join("; ")),
        }
    }

    /// Says that words of amazon-efs-utils are lines of the `[[share]]` here.
    fn wrong_about_helper(&self, held: &dyn Fn(&str) -> bool) -> Option<String> {
        let (last, others) = self.helper.split_last()?;
        let (names, are) = match others {
            [] => (last.clone(), "is an option"),
            others => (format!("{} and {last}", others.join(", ")), "are options"),
        };

        let mut lines = self.helper_lines.clone();
        for key in lines.keys().into_iter().filter(|key| held(key)) {
            lines.remove(key);
        }
        let all_are_held = lines.is_empty();
        if !self.kept.is_empty() {
            lines.put("options", format!("{:?}", self.kept.join(",")));
        }

        let cure = match (all_are_held, self.kept.is_empty()) {
            (false, _) => {
                let as_what = if lines.is_one() { "as a line" } else { "as lines" };
                format!(": write {lines} {as_what} of the [[share]]")
            }
            (true, false) => {
                format!(", and the [[share]] has lines of its own for that: write {lines}")
            }
            (true, true) => {
                ", and the [[share]] has lines of its own for that: take `options` out".into()
            }
        };
        Some(format!("{names} {are} of {HELPER}{cure}"))
    }
}
