//! AWS's files of profiles (`~/.aws/credentials` and `~/.aws/config`), as
//! AWS's own tools read them. Reads text; knows what no key means. Every value
//! may be a secret, so none is shown, not even in what is said of a bad line.

use super::secret::Secret;
use std::collections::BTreeMap;

/// Which of the two files a text is: they name their profiles differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `[name]`.
    Credentials,
    /// `[profile name]`, but `[default]`.
    Config,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Slip {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Keys, in lower case, and values.
pub type Profile = BTreeMap<String, Secret>;

/// The profiles of a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Profiles {
    /// By name.
    pub profiles: BTreeMap<String, Profile>,
    /// Sections whose names would be profiles in the other file, and are none here.
    pub misnamed: Vec<String>,
}

impl Profiles {
    /// Reads `text`. What is there twice counts as it is the last time; sections of one name are one.
    ///
    /// # Errors
    /// The first line that is neither section, key with value, comment, nor the rest of a value.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, Slip> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut read = Self::default();
        // Of the section that is being read: its profile, if it is one.
        let mut section: Option<Option<String>> = None;
        let mut last: Option<Property<'_>> = None;
        for (line, number) in text.lines().zip(1..) {
            let slip = |what| Slip { line: number, what };
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
            read.put(section.as_ref(), last.take());
            if let Some(header) = content.strip_prefix('[') {
                let (header, after) =
                    header.split_once(']').ok_or(slip("a section without its closing bracket"))?;
                let after = after.trim_start();
                if !after.is_empty() && !after.starts_with(['#', ';']) {
                    return Err(slip("more text behind a section's closing bracket"));
                }
                section = Some(read.begin(header.trim(), kind));
                continue;
            }
            if section.is_none() {
                return Err(slip("a key before the first section"));
            }
            let (key, value) = content
                .split_once('=')
                .ok_or(slip("neither a section, nor a key with an equals sign and a value"))?;
            let key = key.trim().to_ascii_lowercase();
            if key.is_empty() {
                return Err(slip("no key before the equals sign"));
            }
            last = Some(Property { indent, key, lines: vec![without_comment(value)] });
        }
        read.put(section.as_ref(), last);
        Ok(read)
    }

    /// Puts a key and its value, if there is one, into the profile of the section, if it is one.
    fn put(&mut self, section: Option<&Option<String>>, property: Option<Property<'_>>) {
        if let (Some(Some(name)), Some(Property { key, lines, .. })) = (section, property) {
            let value = Secret::new(lines.join("\n"));
            self.profiles.entry(name.clone()).or_default().insert(key, value);
        }
    }

    /// Begins the section `header`, which may be that of a profile.
    fn begin(&mut self, header: &str, kind: Kind) -> Option<String> {
        let prefixed =
            header.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t', '"']));
        let name = match (kind, prefixed) {
            (Kind::Config, Some(name)) => unquoted(name.trim()),
            (Kind::Config, None) if header == "default" => header,
            // Other things are there too, as "sso-session name" and "services name".
            (Kind::Config, None) => {
                if !header.is_empty() && !header.contains([' ', '\t']) {
                    self.misnamed.push(header.to_owned());
                }
                return None;
            }
            (Kind::Credentials, Some(name)) => {
                self.misnamed.push(unquoted(name.trim()).to_owned());
                return None;
            }
            (Kind::Credentials, None) => unquoted(header),
        };
        if name.is_empty() {
            return None;
        }
        self.profiles.entry(name.to_owned()).or_default();
        Some(name.to_owned())
    }
}

/// A key that is being read, and the lines of its value.
struct Property<'t> {
    /// Of the key's line, in bytes: what is further in belongs to the value.
    indent: usize,
    key: String,
    lines: Vec<&'t str>,
}

fn unquoted(name: &str) -> &str {
    let inner = |quote| name.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(name).trim()
}

/// A value without a comment behind it, which white space sets off.
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

/// Splits a command line (`credential_process`) into program and arguments: at white space, but not
/// between quotes, nor behind a backslash. Nothing else has a meaning: there is no shell.
///
/// # Errors
/// What is wrong with it.
pub fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = line.chars();
    while let Some(c) = letters.next() {
        match (quote, c) {
            (Some('"'), '\\') => {
                let next = letters.next().ok_or("a quote that is not closed")?;
                let text = word.get_or_insert_default();
                if !matches!(next, '"' | '\\') {
                    text.push('\\');
                }
                text.push(next);
            }
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => {
                let next = letters.next().ok_or("a backslash at its end")?;
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote that is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All values, as "profile.key=value".
    fn shown(text: &str, kind: Kind) -> Vec<String> {
        let read = Profiles::parse(text, kind).unwrap();
        let mut all = Vec::new();
        for (name, profile) in &read.profiles {
            all.extend(profile.iter().map(|(key, v)| format!("{name}.{key}={}", v.expose())));
        }
        all
    }

    #[test]
    fn a_credentials_file_is_read_as_the_tools_of_aws_read_it() {
        let text = "\u{feff}# a comment\r\n[default]\r\nAWS_Access_Key_Id = AKID\r\naws_secret_access_key=a=b+c/d#e;f\r\n\
                    \n  ; another\n[ other ] # why\n   aws_access_key_id = X # mine\n   aws_secret_access_key =\tY ;\n\
                    [default]\naws_session_token = T\n[profile p]\na=b\n[\"with space\"]\nk=\n";
        assert_eq!(
            shown(text, Kind::Credentials),
            [
                "default.aws_access_key_id=AKID",
                "default.aws_secret_access_key=a=b+c/d#e;f",
                "default.aws_session_token=T",
                "other.aws_access_key_id=X",
                "other.aws_secret_access_key=Y",
                "with space.k=",
            ]
        );
        let read = Profiles::parse(text, Kind::Credentials).unwrap();
        assert_eq!(read.misnamed, ["p"]);
        assert!(!format!("{read:?}").contains("AKID"));
    }

    #[test]
    fn a_config_file_names_its_profiles_otherwise_and_has_more_than_profiles() {
        let text = "[default]\nregion=a\n[profile one]\nrole_arn = r\ns3 =\n  max = 1\n  # no\n  path = x\nregion = b\n\
                    [profile \"two words\"]\nk=v\n[profile\t three]\nk=1\nk=2\n[sso-session s]\nsso_region=c\n[four]\nk=v\n\
                    [profile]\nk=w\n[profile ]\nk=w\n";
        assert_eq!(
            shown(text, Kind::Config),
            [
                "default.region=a",
                "one.region=b",
                "one.role_arn=r",
                "one.s3=\nmax = 1\npath = x",
                "three.k=2",
                "two words.k=v",
            ]
        );
        let read = Profiles::parse(text, Kind::Config).unwrap();
        assert_eq!(read.misnamed, ["four", "profile", "profile"]);
    }

    #[test]
    fn a_bad_line_is_told_of_by_its_number_and_nothing_of_it_is_shown() {
        let cases = [
            ("key=v\n", 1, "a key before the first section"),
            ("\n[a\nk=v\n", 2, "a section without its closing bracket"),
            ("[a] b\n", 1, "more text behind a section's closing bracket"),
            ("[a]\nhush\n", 2, "neither a section, nor a key with an equals sign and a value"),
            ("[a]\nk=v\n\n = hush\n[b]\n", 5, ""),
            ("[a]\n= hush\n", 2, "no key before the equals sign"),
        ];
        for (text, line, what) in cases {
            match Profiles::parse(text, Kind::Credentials) {
                // Further in than the line before it: the rest of its value.
                Ok(_) => assert_eq!(what, "", "{text}"),
                Err(slip) => {
                    assert_eq!((slip.line, slip.what), (line, what), "{text}");
                    assert!(!slip.to_string().contains("hush"));
                }
            }
        }
    }

    #[test]
    fn a_command_line_is_split_at_spaces_and_by_quotes_and_by_nothing_else() {
        let line = r#""/opt/my tool" --a 'b "c"' "d \"e\" \f" g\ h '' $HOME;x>y `z`|~ 	last"#;
        assert_eq!(
            words(line).unwrap(),
            [
                "/opt/my tool",
                "--a",
                "b \"c\"",
                "d \"e\" \\f",
                "g h",
                "",
                "$HOME;x>y",
                "`z`|~",
                "last"
            ]
        );
        assert_eq!(words("  ").unwrap(), [""; 0]);
        assert_eq!(words("a\nb").unwrap(), ["a", "b"]);
        assert_eq!(words("a \"b"), Err("a quote that is not closed"));
        assert_eq!(words("a 'b\\"), Err("a quote that is not closed"));
        assert_eq!(words("a \"b\\"), Err("a quote that is not closed"));
        assert_eq!(words("a\\"), Err("a backslash at its end"));
    }
}
