//! What AppStream tells of a session in its two profile files. They are read
//! as data, never run, and never waited for: they may come late or not at all.

use crate::files;
use crate::text::misleads;
use std::fmt;
use std::path::Path;

const USER_VARS: &str = "/etc/profile.d/appstream_user_vars.sh";
const SYSTEM_VARS: &str = "/etc/profile.d/appstream_system_vars.sh";
/// More of a value is not logged.
const LONGEST: usize = 100;
/// What is of use to whoever looks for a session's log, and what it is called there.
const WANTED: [(&str, &str); 4] = [
    ("AppStream_Session_ID", "session"),
    ("AppStream_Stack_Name", "stack"),
    ("AppStream_Resource_Name", "fleet"),
    ("AppStream_User_Access_Mode", "access mode"),
];

/// The session that this machine is in, as far as AppStream has told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Session {
    /// What it is called, and its value; in the order of a sentence.
    pub values: Vec<(&'static str, String)>,
}

impl Session {
    /// Reads the profile files; `root` is `/` outside of tests. What is not there is left out.
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| {
            if files::absent(root, Path::new(path)) {
                return None;
            }
            let file = files::find(root, Path::new(path)).ok()?.open().ok()??;
            Some(String::from_utf8_lossy(&files::contents(&file).ok()?).into_owned())
        };
        let texts: String = [USER_VARS, SYSTEM_VARS].into_iter().filter_map(text).collect();
        Self::parse(&texts)
    }

    /// Reads lines of the form `export NAME=value`; the last of a name counts, as in a shell.
    pub fn parse(text: &str) -> Self {
        let value = |wanted: &str| {
            text.lines().rev().find_map(|line| {
                let line = line.trim();
                let line = line.strip_prefix("export ").map_or(line, str::trim_start);
                let value = line.strip_prefix(wanted)?.strip_prefix('=')?;
                Some(unquoted(value)).filter(|value| !value.is_empty())
            })
        };
        let values = WANTED.iter().filter_map(|(name, called)| Some((*called, value(name)?)));
        Self { values: values.collect() }
    }
}

/// A value without its quotes, and fit for a log.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner = |quote| value.strip_prefix(quote)?.split(quote).next();
    let value = inner('"').or_else(|| inner('\'')).unwrap_or(value);
    let clean = |c: char| if misleads(c) { '?' } else { c };
    value.chars().map(clean).take(LONGEST).collect()
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.values.iter().try_for_each(|(called, value)| write!(f, "; {called} {value}"))
    }
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
