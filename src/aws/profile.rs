//! AWS's files of profiles (`~/.aws/credentials` and `~/.aws/config`), as
//! AWS's own tools read them. Reads text; knows what no key means. Every value
//! may be a secret, so none is shown, not even in what is said of a bad line.

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
    /// What is wrong with it.
    pub what: LineErrorKind,
    /// The profile that it is in, or begins; none where it may be of any.
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
    /// It has no separator.
    #[error("neither a section, nor a key with an equals sign and a value")]
    NoValue,
    /// It begins with the separator.
    #[error("no key before the equals sign")]
    NoKey,
    /// It is a line for a shell: what AWS's access portal offers for copying first.
    #[error("a command of a shell, and not a key with its value")]
    Shell,
    /// It has bytes that are no text.
    #[error("it has bytes that are no UTF-8 text")]
    NotText,
}

impl LineError {
    /// What to do about it in `file`.
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

/// Keys, in lower case, and values.
pub type Profile = BTreeMap<String, Secret>;

/// The profiles of a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Profiles {
    /// By name.
    pub profiles: BTreeMap<String, Profile>,
    /// Sections whose names would be profiles in the other file, and are none here.
    pub misnamed: Vec<String>,
    /// Lines that are neither section, key with value, comment, nor the rest of a value. One costs the profile
    /// that it is in, and no other.
    pub errors: Vec<LineError>,
    /// The lines that keys are at, by profile and key.
    lines: BTreeMap<(String, String), usize>,
}

/// The section that is being read.
enum Section {
    /// None has begun.
    Above,
    /// One that is no profile here, or has no name that could be read: its keys are nobody's.
    Other,
    /// That of a profile.
    Of(String),
}

impl Profiles {
    /// Reads `text`. What is there twice counts as it is the last time; sections of one name are one. Bytes that
    /// were no text are expected as U+FFFD.
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
                    // What is below it is not to become part of the profile above it.
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

    /// The line that `key` of `profile` is at.
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

    /// What is in a section that is no profile concerns nobody.
    fn add_error(&mut self, section: &Section, line: usize, what: LineErrorKind) {
        if let Section::Of(name) = section {
            self.errors.push(LineError { line, what, profile: Some(name.clone()) });
        }
    }

    /// Puts a key and its value, if there is one, into the profile of the section, if it is one.
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

    /// Begins the section `header`, which may be that of a profile.
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

/// What stands for bytes that are no text.
const UNREADABLE: char = '\u{fffd}';

/// The profile that the section `header` is; or, if it is none, the name that it would have in the other file.
fn profile_of(header: &str, kind: ProfileFileKind) -> Result<&str, Option<&str>> {
    let prefixed = header.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t', '"']));
    let name = match (kind, prefixed) {
        (ProfileFileKind::Config, Some(name)) => unquoted(name.trim()),
        (ProfileFileKind::Config, None) if header == "default" => header,
        // Other things are there too, as "sso-session name" and "services name".
        (ProfileFileKind::Config, None) => {
            let is_a_name = !header.is_empty() && !header.contains([' ', '\t']);
            return Err(is_a_name.then_some(header));
        }
        (ProfileFileKind::Credentials, Some(name)) => return Err(Some(unquoted(name.trim()))),
        (ProfileFileKind::Credentials, None) => unquoted(header),
    };
    if name.is_empty() { Err(None) } else { Ok(name) }
}

/// A line's key and value. The separator is whichever of the two comes first, as the AWS CLI has it.
fn key_and_value(content: &str) -> Result<(&str, &str), LineErrorKind> {
    /// In bash, cmd and PowerShell.
    const SHELL: [&str; 3] = ["export ", "set ", "$env:"];
    let of_shell = |word: &&str| {
        content.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    if SHELL.iter().any(of_shell) {
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

/// A key that is being read, and the lines of its value.
struct Property<'t> {
    /// Of the key's line, in bytes: what is further in belongs to the value.
    indent: usize,
    /// Of the key's line.
    number: usize,
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
mod tests {
    use super::*;

    /// All values, as "profile.key=value".
    fn shown(text: &str, kind: ProfileFileKind) -> Vec<String> {
        let read = Profiles::parse(text, kind);
        assert!(read.errors.is_empty(), "{:?}", read.errors);
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
            shown(text, ProfileFileKind::Credentials),
            [
                "default.aws_access_key_id=AKID",
                "default.aws_secret_access_key=a=b+c/d#e;f",
                "default.aws_session_token=T",
                "other.aws_access_key_id=X",
                "other.aws_secret_access_key=Y",
                "with space.k=",
            ]
        );
        let read = Profiles::parse(text, ProfileFileKind::Credentials);
        assert_eq!(read.misnamed, ["p"]);
        assert!(!format!("{read:?}").contains("AKID"));
    }

    #[test]
    fn a_config_file_names_its_profiles_otherwise_and_has_more_than_profiles() {
        let text = "[default]\nregion=a\n[profile one]\nrole_arn = r\ns3 =\n  max = 1\n  # no\n  path = x\nregion = b\n\
                    [profile \"two words\"]\nk=v\n[profile\t three]\nk=1\nk=2\n[sso-session s]\nsso_region=c\n[four]\nk=v\n\
                    [profile]\nk=w\n[profile ]\nk=w\n";
        assert_eq!(
            shown(text, ProfileFileKind::Config),
            [
                "default.region=a",
                "one.region=b",
                "one.role_arn=r",
                "one.s3=\nmax = 1\npath = x",
                "three.k=2",
                "two words.k=v",
            ]
        );
        let read = Profiles::parse(text, ProfileFileKind::Config);
        assert_eq!(read.misnamed, ["four", "profile", "profile"]);
    }

    #[test]
    fn a_bad_line_is_told_of_by_its_number_and_nothing_of_it_is_shown() {
        let cases = [
            ("key=v\n", 1, "a key before the first section"),
            (
                "export AWS_ACCESS_KEY_ID=hush",
                1,
                "a command of a shell, and not a key with its value",
            ),
            (
                "[a]\nSET aws_access_key_id=hush\n",
                2,
                "a command of a shell, and not a key with its value",
            ),
            (
                "[a]\n$Env:AWS_ACCESS_KEY_ID=\"hush\"",
                2,
                "a command of a shell, and not a key with its value",
            ),
            ("\n[a\nk=v\n", 2, "a section without its closing bracket"),
            ("[a] b\n", 1, "more text behind a section's closing bracket"),
            ("[a]\nhush\n", 2, "neither a section, nor a key with an equals sign and a value"),
            // Further in than the line before it: the rest of its value.
            ("[a]\nk=v\n\n = hush\n[b]\n", 5, ""),
            ("[a]\n= hush\n", 2, "no key before the equals sign"),
            ("[a]\n: hush\n", 2, "no key before the equals sign"),
            ("[a]\nk=hush\u{fffd}\n", 2, "it has bytes that are no UTF-8 text"),
            ("[a]\nk=v # gr\u{fffd}n\n# \u{fffd}\n[b]\n", 0, ""),
        ];
        for (text, line, what) in cases {
            let read = Profiles::parse(text, ProfileFileKind::Credentials);
            let told: Vec<String> = read.errors.iter().map(ToString::to_string).collect();
            let expected = format!("line {line}: {what}");
            assert_eq!(told, if what.is_empty() { vec![] } else { vec![expected] }, "{text}");
            assert!(!format!("{read:?}").contains("hush"));
        }
    }

    #[test]
    fn a_bad_line_costs_the_profile_that_it_is_in_and_no_other() {
        let text =
            "[good]\nk = v\n[bad]\nno separator\nk: a=b\n[other\nk = lost\n[last] x\nk = lost\n";
        let read = Profiles::parse(text, ProfileFileKind::Credentials);
        let line = |profile| read.error_in(profile).map(|error| error.line);
        let lines = ["good", "bad", "other", "last", "none"].map(line);
        assert_eq!(lines, [None, Some(4), Some(6), Some(8), None]);
        assert_eq!(read.error_anywhere(), None);
        // What is below a section that cannot be read is not the profile's above it.
        assert_eq!(read.profiles["good"]["k"].expose(), "v");
        assert_eq!(read.profiles["bad"]["k"].expose(), "a=b");
        assert_eq!((read.line_of("bad", "k"), read.line_of("bad", "j")), (Some(5), None));
        let read = Profiles::parse(
            "[profile a\nk=v\n[sso-session s]\nhush\n[b]\nhush\n",
            ProfileFileKind::Config,
        );
        assert_eq!(read.errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1]);
        assert_eq!(read.errors[0].profile.as_deref(), Some("a"));
        let read = Profiles::parse("k = v\n[default]\nk = w\n", ProfileFileKind::Credentials);
        assert_eq!(read.error_anywhere().map(|error| error.line), Some(1));
        assert_eq!(read.profiles["default"]["k"].expose(), "w");
    }

    #[test]
    fn whichever_separator_comes_first_ends_the_key() {
        let text = "[a]\nk: v\nl :w=x\nm = y:z\nn=arn:aws:iam::1:role/r\no:\n";
        let expected = ["a.k=v", "a.l=w=x", "a.m=y:z", "a.n=arn:aws:iam::1:role/r", "a.o="];
        assert_eq!(shown(text, ProfileFileKind::Credentials), expected);
    }

    #[test]
    fn each_error_has_the_line_that_is_to_be_corrected() {
        let mend = |text: &str| {
            let read = Profiles::parse(text, ProfileFileKind::Credentials);
            read.errors[0].correction(Path::new("/root/.aws/credentials"))
        };
        assert_eq!(mend("[a]\nb"), "correct line 2 of /root/.aws/credentials");
        assert_eq!(
            mend("a = b"),
            "put the name of the profile in brackets above line 1 of /root/.aws/credentials, for \
             instance [default]"
        );
        assert_eq!(
            mend("[a]\nexport AWS_ACCESS_KEY_ID=b"),
            "write the keys without export, set or $env: from line 2 of /root/.aws/credentials on, \
             below the name of the profile in brackets: [default], then aws_access_key_id = …"
        );
        assert_eq!(
            mend("[a]\nb = \u{fffd}"),
            "correct line 2 of /root/.aws/credentials, and save that as UTF-8"
        );
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
