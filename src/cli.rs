//! argv becomes a [`Command`]. Help texts live here and in `cli/`. Reads no file, decides nothing
//! else.

use crate::config::nearest;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Mount the shares.
    Session(SessionArgs),
    /// Have AppStream run us.
    Register(RegisterArgs),
    /// Have it run us no longer.
    Unregister(UnregisterArgs),
    /// Take the shares down.
    Unmount(UnmountArgs),
    /// Tell how the shares are.
    Status(StatusArgs),
    /// Go through all that a session start needs.
    Check(StatusArgs),
    /// Carry a share's connections, encrypted.
    Tunnel(TunnelArgs),
    /// Start the tunnels of all shares, with this config.
    AllTunnels(Option<PathBuf>),
    /// Print this text.
    Help(&'static str),
    /// Print the program's name and version.
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

/// Options of `register`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisterArgs {
    /// `--file PATH`: another config.json than AppStream's own.
    pub file: Option<PathBuf>,
    /// `--shim`: a script that starts us is registered, and written.
    pub shim: bool,
    /// `--dry-run`: nothing is changed.
    pub dry_run: bool,
    /// `--replace`: somebody else's entry makes way.
    pub replace: bool,
    /// `--no-termination`: at SessionStart alone.
    pub no_termination: bool,
    /// `--config PATH`, for the session start.
    pub config: Option<PathBuf>,
}

/// Options of `unregister`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnregisterArgs {
    /// `--file PATH`: another config.json than AppStream's own.
    pub file: Option<PathBuf>,
    /// `--dry-run`: nothing is changed.
    pub dry_run: bool,
}

/// Options of `unmount`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnmountArgs {
    /// `--config PATH`.
    pub config: Option<PathBuf>,
    /// `--terminate`: processes that hold a share are asked to end.
    pub terminate: bool,
}

/// Options of `tunnel`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TunnelArgs {
    /// Whose tunnel it is.
    pub mount_point: PathBuf,
    /// `--config PATH`.
    pub config: Option<PathBuf>,
}

/// Options of `status` and of `check`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusArgs {
    /// `--config PATH`.
    pub config: Option<PathBuf>,
    /// `--json`: for programs.
    pub json: bool,
}

/// What is wrong with the command line, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; try 'efs-agent{of} --help'")]
pub struct UsageError {
    what: String,
    /// The command, with a blank before it.
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
/// The first argument that makes no sense.
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
    looking(args, STATUS, Command::Status)
}

fn check(args: &mut Args) -> Result<Command, UsageError> {
    looking(args, CHECK, Command::Check)
}

/// A command that looks and tells.
fn looking(
    args: &mut Args,
    help: &'static str,
    command: fn(StatusArgs) -> Command,
) -> Result<Command, UsageError> {
    let mut looking = StatusArgs::default();
    let help = args.options(
        help,
        &mut [("json", &mut looking.json)],
        &mut [("config", &mut looking.config)],
    )?;
    Ok(help.unwrap_or_else(|| command(looking)))
}

/// The arguments that are left.
struct Args {
    parser: lexopt::Parser,
    /// The command that they belong to, with a blank before it.
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

    /// Reads all options of a command: those that are there or not, and those with a path. Gives
    /// the command that prints `help`, if that is what is asked for.
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

    /// Reads the arguments of the command `of` with `read`, if nothing stands before it.
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

/// Words that others have for what is done here.
const MEANT: &[(&str, &str)] =
    &[("mount", "--once"), ("start", "--once"), ("umount", "unmount"), ("stop", "unmount")];

/// `options`: those that there are.
fn unknown(of: &'static str, argument: lexopt::Arg<'_>, options: &[&str]) -> UsageError {
    let meant = |word: &str, known: &[&str], dashes: &str| {
        // One edit: two lead from "mount" to "unmount".
        let near = nearest(word, known).filter(|(far, _)| *far == 1);
        near.map(|(_, known)| format!(" (did you mean {dashes}{known}?)")).unwrap_or_default()
    };
    // A command with dashes, an option without, or another's word.
    let other_form = |word: &str, dashes: bool| {
        let known = MEANT.iter().find(|(theirs, _)| of.is_empty() && *theirs == word);
        let known = known.map(|(_, ours)| (*ours).to_owned());
        known
            .or_else(|| {
                (dashes && of.is_empty() && COMMANDS.contains(&word)).then(|| word.to_owned())
            })
            .or_else(|| (!dashes && options.contains(&word)).then(|| format!("--{word}")))
            .map(|ours| format!(" (did you mean {ours}?)"))
    };
    error(
        of,
        match argument {
            Long(other) => {
                let hint = other_form(other, true).unwrap_or_else(|| meant(other, options, "--"));
                format!("unknown option '--{other}'{hint}")
            }
            Short('v') if of.is_empty() => "unknown option '-v' (did you mean --version?)".into(),
            Short(other) => {
                format!("unknown option '-{other}' (options have two dashes, as in --help)")
            }
            Value(word) => {
                let commands = if of.is_empty() { COMMANDS } else { &[] };
                let text = word.to_string_lossy();
                let hint = other_form(&text, false).unwrap_or_else(|| meant(&text, commands, ""));
                format!("unknown argument {word:?}{hint}")
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

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
        assert_eq!(parsed(&["--once", "-h"]), Ok(Command::Help(HELP)));
        assert_eq!(parsed(&["-V"]), Ok(Command::Version));
    }

    #[test]
    fn what_is_unknown_is_named_in_one_line() {
        let end = "; try 'efs-agent --help'";
        let near = "unknown option '--onec' (did you mean --once?)";
        assert_eq!(parsed(&["--onec"]), Err(format!("{near}{end}")));
        let near = "unknown argument \"chek\" (did you mean check?)";
        assert_eq!(parsed(&["chek"]), Err(format!("{near}{end}")));
        assert_eq!(
            parsed(&["register", "--dry_run"]).unwrap_err(),
            "unknown option '--dry_run' (did you mean --dry-run?); try 'efs-agent register --help'"
        );
        assert_eq!(
            parsed(&["-once"]),
            Err(format!("unknown option '-o' (options have two dashes, as in --help){end}"))
        );
        for (given, ours) in [
            ("once", "--once"),
            ("mount", "--once"),
            ("start", "--once"),
            ("version", "--version"),
            ("-v", "--version"),
            ("--check", "check"),
            ("--unmount", "unmount"),
            ("--umount", "unmount"),
            ("umount", "unmount"),
        ] {
            let told = parsed(&[given]).unwrap_err();
            assert!(told.ends_with(&format!(" (did you mean {ours}?){end}")), "{told}");
        }
        assert_eq!(parsed(&["--config"]), Err(format!("--config needs a path{end}")));
        assert_eq!(parsed(&["--config="]), Err(format!("--config needs a path{end}")));
        assert!(parsed(&["--once=1"]).is_err());
        assert_eq!(parsed(&["a\nb"]).unwrap_err().lines().count(), 1);
    }
    #[test]
    fn a_command_comes_first_and_has_options_of_its_own() {
        let expected = RegisterArgs {
            file: Some("/f".into()),
            shim: true,
            dry_run: true,
            replace: true,
            no_termination: true,
            config: Some("/c".into()),
        };
        let all = [
            "register",
            "--shim",
            "--file=/f",
            "--replace",
            "--config",
            "/c",
            "--dry-run",
            "--no-termination",
        ];
        assert_eq!(parsed(&all), Ok(Command::Register(expected)));
        let expected = UnregisterArgs { file: Some("/f".into()), dry_run: true };
        assert_eq!(
            parsed(&["unregister", "--dry-run", "--file", "/f"]),
            Ok(Command::Unregister(expected))
        );
        assert_eq!(parsed(&["register", "-h"]), Ok(Command::Help(REGISTER)));
        assert_eq!(parsed(&["unregister", "--help"]), Ok(Command::Help(UNREGISTER)));
        let end = "; try 'efs-agent register --help'";
        assert_eq!(parsed(&["register", "--once"]), Err(format!("unknown option '--once'{end}")));
        assert_eq!(parsed(&["register", "--file"]), Err(format!("--file needs a path{end}")));
        assert_eq!(parsed(&["register", "x"]), Err(format!("unknown argument \"x\"{end}")));
        assert_eq!(
            parsed(&["--once", "register"]),
            Err(format!("'register' must come before all options{end}"))
        );
        assert_eq!(
            parsed(&["unregister", "--shim"]),
            Err("unknown option '--shim'; try 'efs-agent unregister --help'".into())
        );
    }

    #[test]
    fn a_tunnel_has_a_mount_point() {
        let expected = TunnelArgs { mount_point: "/mnt/a".into(), config: Some("/c".into()) };
        let all = ["tunnel", "/mnt/a", "--config", "/c"];
        assert_eq!(parsed(&all), Ok(Command::Tunnel(expected)));
        assert_eq!(parsed(&["tunnel", "--help"]), Ok(Command::Help(TUNNEL)));
        let end = "; try 'efs-agent tunnel --help'";
        let needed = format!("'tunnel' needs the mount point of a share{end}");
        assert_eq!(parsed(&["tunnel"]), Err(needed));
        let all = ["tunnel", "--all", "--config", "/c"];
        assert_eq!(parsed(&all), Ok(Command::AllTunnels(Some("/c".into()))));
        let text = format!("--all goes with no mount point{end}");
        assert_eq!(parsed(&["tunnel", "--all", "/mnt/a"]), Err(text));
        assert_eq!(parsed(&["tunnel", "/a", "/b"]), Err(format!("unknown argument \"/b\"{end}")));
    }

    #[test]
    fn every_help_text_fits_a_terminal_and_those_of_commands_have_the_parts_of_a_man_page() {
        for (_, text) in TEXTS {
            let long = text.lines().find(|line| line.chars().count() > 80 || line.ends_with(' '));
            assert_eq!(long, None);
            assert!(text.ends_with('\n') && !text.contains('\t'));
        }
        for (_, text) in TEXTS.into_iter().filter(|(command, _)| !command.is_empty()) {
            let heads: Vec<&str> =
                text.lines().filter(|line| !line.is_empty() && !line.starts_with(' ')).collect();
            let expected = [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "EXIT CODES",
                "EXAMPLES",
                "SEE ALSO",
            ];
            assert_eq!(heads, expected);
        }
    }

    /// Each command with its text; a session start has no name.
    const TEXTS: [(&str, &str); 7] = [
        ("", HELP),
        ("check", CHECK),
        ("register", REGISTER),
        ("unregister", UNREGISTER),
        ("status", STATUS),
        ("unmount", UNMOUNT),
        ("tunnel", TUNNEL),
    ];

    /// The options that lines of a help text begin with: those of the command itself.
    fn own(text: &str) -> BTreeSet<&str> {
        let lines = text.lines().map(str::trim_start);
        let flags = lines.flat_map(|l| l.split_whitespace().take_while(|w| w.starts_with("--")));
        flags.map(|flag| flag.trim_end_matches(',')).collect()
    }

    /// All options that `text` speaks of, but for systemctl's.
    fn named(text: &str) -> BTreeSet<&str> {
        let lines = text.lines().filter(|line| !line.contains("systemctl "));
        let words = lines.flat_map(|l| l.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
        words.filter(|word| word.starts_with("--") && word.len() > 2).collect()
    }

    fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
        text.split_once(start).unwrap().1.split(end).next().unwrap()
    }

    #[test]
    fn the_texts_are_of_the_commands_that_the_help_lists() {
        let listed = between(HELP, "\nCommands (", "\n\n").lines().skip(1);
        let listed: Vec<_> = listed.filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(listed, TEXTS.map(|(command, _)| command)[1..]);
    }

    #[test]
    fn the_manual_page_has_the_commands_and_options_of_the_help_texts_and_no_other() {
        let page = include_str!("../packaging/man/efs-agent.8.md");
        let commands = between(page, "\n# COMMANDS\n", "\n# ");
        let sections: Vec<(&str, &str)> = commands
            .split("\n## efs-agent")
            .skip(1)
            .map(|section| section.split_once('\n').unwrap())
            .collect();
        let synopsis = between(page, "\n# SYNOPSIS\n", "\n# ");
        let usages: Vec<&str> = synopsis.split("`efs-agent").skip(1).collect();
        assert_eq!(sections.len(), TEXTS.len());
        for (((command, text), (heading, section)), usage) in TEXTS.iter().zip(sections).zip(usages)
        {
            assert_eq!(heading.trim(), *command);
            let terms: BTreeSet<_> =
                section.lines().filter(|line| line.starts_with('`')).flat_map(named).collect();
            assert_eq!(terms, own(text), "options of '{command}'");
            assert_eq!(usage.split('`').next().unwrap().trim(), *command);
            let mut used = own(text);
            used.retain(|flag| !["--help", "--version"].contains(flag));
            assert_eq!(named(usage), used, "synopsis of '{command}'");
        }
        let all: BTreeSet<_> = TEXTS.iter().flat_map(|(_, text)| own(text)).collect();
        assert_eq!(named(page), all, "anywhere in the page");
    }

    #[test]
    fn the_completion_has_the_commands_and_options_of_the_help_texts_and_no_other() {
        let script = include_str!("../packaging/efs-agent.bash");
        let line = |start: &str| {
            let mut lines = script.lines().map(str::trim_start).filter(|l| l.starts_with(start));
            (lines.next().unwrap_or_else(|| panic!("no line with {start}")), lines.next())
        };
        for (command, text) in TEXTS {
            let start = match command {
                "" => "local session=".to_owned(),
                command => format!("{command}) words="),
            };
            let (line, another) = line(&start);
            assert_eq!((named(line), another), (own(text), None), "options of '{command}'");
        }
        let listed = between(line("local commands=").0, "'", "'");
        let commands: BTreeSet<_> = listed.split_whitespace().collect();
        assert_eq!(commands, TEXTS.iter().skip(1).map(|(command, _)| *command).collect());
        let all: BTreeSet<_> = TEXTS.iter().flat_map(|(_, text)| own(text)).collect();
        assert_eq!(named(script), all, "anywhere in the script");
    }
}
