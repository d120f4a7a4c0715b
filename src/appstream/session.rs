//! What AppStream writes about a session into its two profile files. They are read as data and never run. Nobody waits
//! for them: they may come late or not at all.

use crate::files;
use crate::text::misleads;
use std::fmt;
use std::path::Path;

const USER_VARS: &str = "/etc/profile.d/appstream_user_vars.sh";
const SYSTEM_VARS: &str = "/etc/profile.d/appstream_system_vars.sh";
/// How many characters of a value are logged.
const LONGEST: usize = 100;
/// The variables by which a session's log can be found, and what the log calls them.
const VARIABLES: [(&str, &str); 4] = [
    ("AppStream_Session_ID", "session"),
    ("AppStream_Stack_Name", "stack"),
    ("AppStream_Resource_Name", "fleet"),
    ("AppStream_User_Access_Mode", "access mode"),
];

/// The session that this machine is in, as far as the files say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Session {
    /// What the log calls each value, and the value, in the order of a sentence.
    pub values: Vec<(&'static str, String)>,
}

impl Session {
    /// Reads the profile files; `root` is `/` outside of tests. What is not there is left out.
    pub fn read(root: &Path) -> Self {
        let texts = [USER_VARS, SYSTEM_VARS].into_iter().filter_map(|path| text(root, path));
        Self::parse(&texts.collect::<String>())
    }

    /// Reads lines of the form `export NAME=value`.
    pub fn parse(text: &str) -> Self {
        let values =
            VARIABLES.iter().filter_map(|(name, called)| Some((*called, value(text, name)?)));
        Self { values: values.collect() }
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.iter().try_for_each(|(called, value)| write!(f, "; {called} {value}"))
    }
}

fn text(root: &Path, path: &str) -> Option<String> {
    let path = Path::new(path);
    if files::absent(root, path) {
        return None;
    }
    let file = files::find(root, path).ok()?.open().ok()??;
    Some(String::from_utf8_lossy(&files::contents(&file).ok()?).into_owned())
}

/// The value of the variable `name`. The last one counts, as in a shell.
fn value(text: &str, name: &str) -> Option<String> {
    text.lines().rev().find_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let value = line.strip_prefix(name)?.strip_prefix('=')?;
        Some(shown(unquoted(value.trim()))).filter(|value| !value.is_empty())
    })
}

fn unquoted(value: &str) -> &str {
    let mut quoted = ['"', '\''].into_iter();
    let inner = quoted.find_map(|quote| value.strip_prefix(quote)?.split(quote).next());
    inner.unwrap_or(value)
}

/// A value as a log can show it.
fn shown(value: &str) -> String {
    let shown = value.chars().map(|c| if misleads(c) { '?' } else { c });
    shown.take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_the_session_is_told_in_order_and_nothing_is_run() {
        let text = "#!/bin/sh\nexport AppStream_User_Access_Mode=saml\nexport AppStream_Session_ID=\"ab-12\"\n\
                    export AppStream_Stack_Name='a stack' # x\nexport AppStream_UserName=$(reboot)\n\
                    export AppStream_Session_ID_2=no\nAppStream_Resource_Name=`reboot`\u{1b}[2J\n";
        let session = Session::parse(text);
        assert_eq!(
            session.to_string(),
            "; session ab-12; stack a stack; fleet `reboot`?[2J; access mode saml"
        );
        assert_eq!(Session::parse("").to_string(), "");
        assert_eq!(Session::parse("export AppStream_Session_ID=\n"), Session::default());
        let long = format!("export AppStream_Session_ID={}", "x".repeat(5000));
        assert_eq!(Session::parse(&long).values[0].1.len(), LONGEST);
    }

    #[test]
    fn both_files_are_read_where_they_are_there() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Session::read(dir.path()), Session::default());
        std::fs::create_dir_all(dir.path().join("etc/profile.d")).unwrap();
        let file = |path: &str, text| std::fs::write(dir.path().join(&path[1..]), text).unwrap();
        file(SYSTEM_VARS, "export AppStream_Resource_Name=fleet-1\n");
        assert_eq!(Session::read(dir.path()).to_string(), "; fleet fleet-1");
        file(USER_VARS, "export AppStream_Session_ID=s1\n");
        assert_eq!(Session::read(dir.path()).to_string(), "; session s1; fleet fleet-1");
    }
}
