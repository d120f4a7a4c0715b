//! What is said of a text that is no TOML: the slips that people make most, where TOML's own message would not help
//! them. What the keys mean is not this file's business.

use super::ConfigError;
use super::reader::Source;

impl Source<'_> {
    /// The `error` of the TOML parser, or the slip that is behind it.
    pub fn not_toml(self, error: &toml::de::Error) -> ConfigError {
        let place = error.span().map_or(0, |span| span.start);
        if let Some(slip) = self.slip(place) {
            return slip;
        }
        let message = error.message();
        let what = match message.starts_with("duplicate key") {
            true => self.twice(place),
            false => format!("not TOML: {message}"),
        };
        self.error(place, what)
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
                return match (self.advice.belongs)(name) {
                    Some(_) => format!("[{name}] is given twice: write [[{name}]] each time"),
                    None => format!("[{name}] is given twice: take one out"),
                };
            }
        }
        match (self.advice.belongs)(name) {
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
