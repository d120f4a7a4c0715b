//! Turns the command line into a [`Command`]. The help texts live here and in `cli/`. Nothing here
//! reads a file or carries a command out.

use crate::config::nearest;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Mount the shares.
    Session(SessionArgs),
    /// Have AppStream run this program.
    Register(RegisterArgs),
    /// Stop AppStream from running this program.
    Unregister(UnregisterArgs),
    /// Unmount the shares.
    Unmount(UnmountArgs),
    /// Report how the shares are.
    Status(StatusArgs),
    /// Check all that a session start needs, and mount nothing.
    Check(StatusArgs),
    /// Carry one share's connections, encrypted.
    Tunnel(TunnelArgs),
    /// Start the tunnels of all encrypted shares. The path is `--config`.
    AllTunnels(Option<PathBuf>),
    /// Print this text.
    Help(&'static str),
    /// Print the program's name and version.
    Version,
}

/// The options of a session start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionArgs {
    pub config: Option<PathBuf>,
    /// `--once`: make one attempt for each share, with output for a person.
    pub once: bool,
    /// `--allow-private-namespace`: mount even where nobody else sees the mounts.
    pub allow_private_namespace: bool,
}

/// The options of `register`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisterArgs {
    /// `--file PATH`: another config.json than AppStream's own.
    pub file: Option<PathBuf>,
    /// `--shim`: register a script that starts this program, and write that script.
    pub shim: bool,
    /// `--dry-run`: nothing is changed.
    pub dry_run: bool,
    /// `--replace`: replace an entry for another program.
    pub replace: bool,
    /// `--no-termination`: register for SessionStart only.
    pub no_termination: bool,
    /// `--config PATH`: the config that session starts are to read.
    pub config: Option<PathBuf>,
}

/// The options of `unregister`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnregisterArgs {
    /// `--file PATH`: another config.json than AppStream's own.
    pub file: Option<PathBuf>,
    /// `--dry-run`: nothing is changed.
    pub dry_run: bool,
}

/// The options of `unmount`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnmountArgs {
    pub config: Option<PathBuf>,
    /// `--terminate`: ask processes that hold a share to end.
    pub terminate: bool,
}

/// The options of `tunnel`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TunnelArgs {
    /// The mount point of the share whose tunnel this is.
    pub mount_point: PathBuf,
    pub config: Option<PathBuf>,
}

/// The options of `status` and of `check`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusArgs {
    pub config: Option<PathBuf>,
    /// `--json`: print JSON, for programs.
    pub json: bool,
}

/// What is wrong with the command line, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; try 'efs-agent{of} --help'")]
pub struct UsageError {
    what: String,
    /// The command's name after a blank, or nothing for a session start.
    of: &'static str,
}

/// Printed by `--help`.
pub const HELP: &str = "\
efs-agent: mounts Amazon EFS shares at the start of an AppStream 2.0 session

Usage: efs-agent [--once] [--config PATH]
       efs-agent COMMAND [OPTIONS]

  (nothing)            Mount every share of the config; try again until all are
                       mounted or the deadline has passed. This is what the
                       system-context SessionStart entry of AppStream calls.
  --once               One attempt a share, with readable output without time
                       stamps: for trying a config by hand with sudo.
  --config PATH        Read this config file. Otherwise: efs-agent.toml beside
                       the executable, else /etc/efs-agent/config.toml.
  --allow-private-namespace
                       Go on although no other process will see the mounts.
  --help, --version    Print this, or the version.

Commands (each has its own --help):
  check                Try all that a session start needs, and mount nothing.
  register             Have AppStream run efs-agent in every session.
  unregister           Have it run efs-agent no longer.
  status               Tell how the shares are, and how the last start ended.
  unmount              Send what was written to the server, and unmount.
  tunnel               Carry an encrypted share's connections; systemd runs it.

The smallest config, which root must own:

  [[share]]
  endpoint = \"fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com\"

All that is said goes to standard output, which is what AppStream keeps.

Exit codes: 0 all required shares are mounted; 64 wrong usage; 69 refused for
good; 70 fault of efs-agent, or a mount that nobody would see; 75 deadline
passed; 77 not root, or a config file that others can change; 78 wrong config;
143, 130, 129 ended by SIGTERM, SIGINT, SIGHUP. Commands have more (1, 65, 73,
74): see man efs-agent.
";

const REGISTER: &str = include_str!("cli/register.txt");
const UNREGISTER: &str = include_str!("cli/unregister.txt");
const UNMOUNT: &str = include_str!("cli/unmount.txt");
const CHECK: &str = include_str!("cli/check.txt");
const STATUS: &str = include_str!("cli/status.txt");
const TUNNEL: &str = include_str!("cli/tunnel.txt");

const COMMANDS: &[&str] =
    &["register", "unregister", "unmount", "check", "status", "tunnel", "help"];
const OPTIONS: &[&str] = &["help", "version", "once", "allow-private-namespace", "config"];

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// The first argument that cannot be understood.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = Args { parser: lexopt::Parser::from_args(args), of: "" };
    let mut session = SessionArgs::default();

    while let Some(argument) = args.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help(HELP)),
            Value(word) if word == "help" => return Ok(Command::Help(HELP)),
            Long("version") | Short('V') => return Ok(Command::Version),
            Long("once") => session.once = true,
            Long("allow-private-namespace") => session.allow_private_namespace = true,
            Long("config") => session.config = Some(args.path("config")?),
            Value(word) if word == "register" => {
                return args.first(" register", &session, register);
            }
            Value(word) if word == "unregister" => {
                return args.first(" unregister", &session, unregister);
            }
            Value(word) if word == "unmount" => return args.first(" unmount", &session, unmount),
            Value(word) if word == "check" => return args.first(" check", &session, check),
            Value(word) if word == "status" => return args.first(" status", &session, status),
            Value(word) if word == "tunnel" => return args.first(" tunnel", &session, tunnel),
            other => return Err(unknown("", other, OPTIONS)),
        }
    }

    Ok(Command::Session(session))
}

fn register(args: &mut Args) -> Result<Command, UsageError> {
    let mut register = RegisterArgs::default();
    let help = args.options(
        REGISTER,
        &mut [
            ("shim", &mut register.shim),
            ("dry-run", &mut register.dry_run),
            ("replace", &mut register.replace),
            ("no-termination", &mut register.no_termination),
        ],
        &mut [("file", &mut register.file), ("config", &mut register.config)],
    )?;
    Ok(help.unwrap_or(Command::Register(register)))
}

fn unregister(args: &mut Args) -> Result<Command, UsageError> {
    let mut unregister = UnregisterArgs::default();
    let help = args.options(
        UNREGISTER,
        &mut [("dry-run", &mut unregister.dry_run)],
        &mut [("file", &mut unregister.file)],
    )?;
    Ok(help.unwrap_or(Command::Unregister(unregister)))
}

fn unmount(args: &mut Args) -> Result<Command, UsageError> {
    let mut unmount = UnmountArgs::default();
    let help = args.options(
        UNMOUNT,
        &mut [("terminate", &mut unmount.terminate)],
        &mut [("config", &mut unmount.config)],
    )?;
    Ok(help.unwrap_or(Command::Unmount(unmount)))
}

fn tunnel(args: &mut Args) -> Result<Command, UsageError> {
    let of = args.of;
    let (mut mount_point, mut config) = (None, None);
    let mut all = false;

    while let Some(argument) = args.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help(TUNNEL)),
            Long("config") => config = Some(args.path("config")?),
            Long("all") => all = true,
            Value(path) if mount_point.is_none() => mount_point = Some(PathBuf::from(path)),
            other => return Err(unknown(of, other, &["help", "config", "all"])),
        }
    }

    if all {
        return match mount_point {
            None => Ok(Command::AllTunnels(config)),
            Some(_) => Err(error(of, "--all goes with no mount point".into())),
        };
    }

    let mount_point =
        mount_point.ok_or_else(|| error(of, "'tunnel' needs the mount point of a share".into()))?;
    Ok(Command::Tunnel(TunnelArgs { mount_point, config }))
}

fn status(args: &mut Args) -> Result<Command, UsageError> {
    looks(args, STATUS, Command::Status)
}

fn check(args: &mut Args) -> Result<Command, UsageError> {
    looks(args, CHECK, Command::Check)
}

/// Reads the options of `status` and `check`, which are the same.
fn looks(
    args: &mut Args,
    help: &'static str,
    command: fn(StatusArgs) -> Command,
) -> Result<Command, UsageError> {
    let mut status = StatusArgs::default();
    let help = args.options(
        help,
        &mut [("json", &mut status.json)],
        &mut [("config", &mut status.config)],
    )?;
    Ok(help.unwrap_or_else(|| command(status)))
}

/// The arguments that are still to be read.
struct Args {
    parser: lexopt::Parser,
    /// The name of the command that they belong to, after a blank; nothing for a session start.
    of: &'static str,
}

impl Args {
    fn next(&mut self) -> Result<Option<lexopt::Arg<'_>>, UsageError> {
        let of = self.of;
        self.parser.next().map_err(|e| error(of, e.to_string()))
    }

    fn path(&mut self, option: &str) -> Result<PathBuf, UsageError> {
        let path = self.parser.value().ok().filter(|path| !path.is_empty());
        path.map(PathBuf::from).ok_or_else(|| error(self.of, format!("--{option} needs a path")))
    }

    /// Reads all options of a command: switches, and options that take a path. Returns the command
    /// that prints `help` where `--help` is given.
    fn options(
        &mut self,
        help: &'static str,
        switches: &mut [(&str, &mut bool)],
        paths: &mut [(&str, &mut Option<PathBuf>)],
    ) -> Result<Option<Command>, UsageError> {
        let of = self.of;
        let known = switches.iter().map(|(known, _)| *known);
        let known: Vec<&str> = known.chain(paths.iter().map(|(known, _)| *known)).collect();

        while let Some(argument) = self.next()? {
            let name = match argument {
                Long("help") | Short('h') => return Ok(Some(Command::Help(help))),
                Long(name) => name.to_owned(),
                other => return Err(unknown(of, other, &known)),
            };
            if let Some((_, switch)) = switches.iter_mut().find(|(known, _)| *known == name) {
                **switch = true;
            } else if let Some((_, path)) = paths.iter_mut().find(|(known, _)| *known == name) {
                **path = Some(self.path(&name)?);
            } else {
                return Err(unknown(of, Long(&name), &known));
            }
        }
        Ok(None)
    }

    /// Reads the arguments of the command `of` with `read`. The command must come before all
    /// options.
    fn first(
        &mut self,
        of: &'static str,
        before: &SessionArgs,
        read: fn(&mut Self) -> Result<Command, UsageError>,
    ) -> Result<Command, UsageError> {
        if *before != SessionArgs::default() {
            return Err(error(of, format!("'{}' must come before all options", of.trim())));
        }
        self.of = of;
        read(self)
    }
}

fn error(of: &'static str, what: String) -> UsageError {
    UsageError { what: what.replace('\n', " "), of }
}

/// Words that users of similar programs may type, and the word for the same thing here.
const MEANT: &[(&str, &str)] =
    &[("mount", "--once"), ("start", "--once"), ("umount", "unmount"), ("stop", "unmount")];

/// The error for an `argument` that the command `of`, which has these `options`, does not know. It
/// says what the user may have meant, if that can be guessed.
fn unknown(of: &'static str, argument: lexopt::Arg<'_>, options: &[&str]) -> UsageError {
    let commands = if of.is_empty() { COMMANDS } else { &[] };
    let what = match argument {
        Long(word) => {
            let meant = other_word(of, word)
                .or_else(|| commands.contains(&word).then(|| word.to_owned()))
                .or_else(|| near(word, options).map(|option| format!("--{option}")));
            format!("unknown option '--{word}'{}", hint(meant))
        }
        Short('v') if of.is_empty() => "unknown option '-v' (did you mean --version?)".into(),
        Short(letter) => {
            format!("unknown option '-{letter}' (options have two dashes, as in --help)")
        }
        Value(word) => {
            let text = word.to_string_lossy();
            let meant = other_word(of, &text)
                .or_else(|| options.contains(&&*text).then(|| format!("--{text}")))
                .or_else(|| near(&text, commands).map(str::to_owned));
            format!("unknown argument {word:?}{}", hint(meant))
        }
    };
    error(of, what)
}

/// Looks `word` up in [`MEANT`].
fn other_word(of: &str, word: &str) -> Option<String> {
    let (_, ours) = MEANT.iter().find(|(theirs, _)| of.is_empty() && *theirs == word)?;
    Some((*ours).to_owned())
}

/// The one of `known` that is one edit away from `word`. Two edits are too many: they lead from
/// "mount" to "unmount".
fn near<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    nearest(word, known).filter(|(far, _)| *far == 1).map(|(_, known)| known)
}

fn hint(meant: Option<String>) -> String {
    meant.map_or(String::new(), |meant| format!(" (did you mean {meant}?)"))
}

#[cfg(test)]
mod tests;
