//! argv becomes a [`Command`]. Help texts live here. Reads no file, decides nothing else.

use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Mount the shares.
    Session(SessionArgs),
    /// Print [`HELP`].
    Help,
    /// Print [`VERSION`].
    Version,
}

/// Options of a session start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionArgs {
    /// `--config PATH`.
    pub config: Option<PathBuf>,
    /// `--once`: one attempt a share, told to a person.
    pub once: bool,
    /// `--allow-private-namespace`: mount even where nobody else would see it.
    pub allow_private_namespace: bool,
}

/// What is wrong with the command line, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; try 'efs-agent --help'")]
pub struct UsageError(String);

/// Printed by `--version`.
pub const VERSION: &str = concat!("efs-agent ", env!("CARGO_PKG_VERSION"));

/// Printed by `--help`.
pub const HELP: &str = "\
efs-agent: mounts Amazon EFS shares at the start of an AppStream 2.0 session

Usage: efs-agent [--once] [--config PATH]

  (nothing)            Mount every share of the config; try again until all are
                       mounted or the deadline has passed. This is what the
                       system-context SessionStart entry of AppStream calls.
  --once               One attempt a share, told to a person: for trying a
                       config by hand with sudo.
  --config PATH        Read this config file. Otherwise: efs-agent.toml beside
                       the executable, else /etc/efs-agent/config.toml.
  --allow-private-namespace
                       Go on although no other process will see the mounts.
  --help, --version    Print this, or the version.

The smallest config, which root must own:

  [[share]]
  endpoint = \"fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com\"

All that is said goes to standard output, which is what AppStream keeps.

Exit codes: 0 all required shares are mounted; 64 wrong usage; 69 refused for
good; 70 fault of efs-agent, or a mount that nobody would see; 75 deadline
passed; 77 not root, or a config file that others can change; 78 wrong config;
143, 130, 129 ended by SIGTERM, SIGINT, SIGHUP.
";

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// The first argument that makes no sense.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let usage = |text: String| UsageError(text.replace('\n', " "));
    let mut parser = lexopt::Parser::from_args(args);
    let mut session = SessionArgs::default();
    while let Some(argument) = parser.next().map_err(|e| usage(e.to_string()))? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("version") | Short('V') => return Ok(Command::Version),
            Long("once") => session.once = true,
            Long("allow-private-namespace") => session.allow_private_namespace = true,
            Long("config") => {
                let path = parser.value().ok().filter(|path| !path.is_empty());
                let path = path.ok_or_else(|| usage("--config needs a path".into()))?;
                session.config = Some(path.into());
            }
            Long(other) => return Err(usage(format!("unknown option '--{other}'"))),
            Short(other) => {
                return Err(usage(format!(
                    "unknown option '-{other}' (options have two dashes, as in --once)"
                )));
            }
            Value(word) => return Err(usage(format!("unknown argument {word:?}"))),
        }
    }
    Ok(Command::Session(session))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, String> {
        parse(args.iter().map(OsString::from)).map_err(|e| e.to_string())
    }

    #[test]
    fn no_argument_is_a_session_start() {
        assert_eq!(parsed(&[]), Ok(Command::Session(SessionArgs::default())));
    }

    #[test]
    fn options_come_in_any_order_and_form() {
        let expected = SessionArgs { config: Some("/c".into()), once: true, ..Default::default() };
        assert_eq!(parsed(&["--config=/c", "--once"]), Ok(Command::Session(expected.clone())));
        assert_eq!(parsed(&["--once", "--config", "/c"]), Ok(Command::Session(expected)));
        assert_eq!(parsed(&["--once", "-h"]), Ok(Command::Help));
        assert_eq!(parsed(&["-V"]), Ok(Command::Version));
    }

    #[test]
    fn what_is_unknown_is_named_in_one_line() {
        let end = "; try 'efs-agent --help'";
        assert_eq!(parsed(&["--onec"]), Err(format!("unknown option '--onec'{end}")));
        assert_eq!(
            parsed(&["-once"]),
            Err(format!("unknown option '-o' (options have two dashes, as in --once){end}"))
        );
        assert_eq!(parsed(&["mount"]), Err(format!("unknown argument \"mount\"{end}")));
        assert_eq!(parsed(&["--config"]), Err(format!("--config needs a path{end}")));
        assert_eq!(parsed(&["--config="]), Err(format!("--config needs a path{end}")));
        assert!(parsed(&["--once=1"]).is_err());
        assert_eq!(parsed(&["a\nb"]).unwrap_err().lines().count(), 1);
    }
}
