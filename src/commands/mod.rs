//! One file for each thing that efs-agent can be asked to do, and the way from
//! the command line to it.

mod all_tunnels;
pub mod check;
mod left;
pub mod register;
pub mod session;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod soak;
pub mod status;
pub mod tunnel;
pub mod unmount;

use crate::cli::{self, Command};
use crate::config::file::{self, FileError};
use crate::config::{Facility, Level, LogSettings, Settings};
use crate::log::{Log, Style};
use crate::report::Code;
use crate::sys;
use crate::tunnel::listeners;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where syslog daemons listen.
const DEV_LOG: &str = "/dev/log";

/// Runs what `args` ask for, and returns the exit code. Everything is said on standard output,
/// because AppStream keeps nothing else.
pub fn run(args: impl IntoIterator<Item = OsString>) -> i32 {
    let started = Instant::now();
    std::panic::set_hook(Box::new(tell_fault));
    let command = cli::parse(args);
    // A service manager hands a tunnel its listeners.
    let kept = if matches!(command, Ok(Command::Tunnel(_))) { listeners::handed_over() } else { 0 };
    sys::close_inherited(kept);
    // A session start blocks it with the other signals.
    if !matches!(command, Ok(Command::Session(_))) {
        sys::block_pipe();
    }
    let code = match command {
        Ok(Command::Session(args)) => session::run(&args, started),
        Ok(Command::Register(args)) => register::register(&args, started),
        Ok(Command::Unregister(args)) => register::unregister(&args, started),
        Ok(Command::Unmount(args)) => unmount::run(&args, started),
        Ok(Command::Status(args)) => status::run(&args, started),
        Ok(Command::Check(args)) => check::run(&args, started),
        Ok(Command::AllTunnels(config)) => all_tunnels::start_all(config.as_deref(), started),
        Ok(Command::Tunnel(args)) => tunnel::run(&args, kept, started),
        Ok(Command::Help(text)) => print(text),
        Ok(Command::Version) => print(&format!("{}\n", cli::VERSION)),
        Err(e) => {
            let log = log(!std::io::stdout().is_terminal());
            log.error(format_args!("{e} (exit {})", Code::USAGE.0));
            Code::USAGE
        }
    };
    code.0.into()
}

/// Ends a program that has met a fault of its own where everything else is said: AppStream keeps nothing of
/// standard error.
fn tell_fault(panic: &PanicHookInfo<'_>) {
    let what = panic.payload();
    let text = what.downcast_ref::<&str>().copied();
    let text = text.or_else(|| what.downcast_ref::<String>().map(String::as_str));
    let what = text.unwrap_or("no reason given");
    let at =
        panic.location().map_or(String::new(), |at| format!(" at {}:{}", at.file(), at.line()));
    log(!std::io::stdout().is_terminal()).error(format_args!(
        "efs-agent {} has met a fault of its own and ends{at}: {what}; please report this line (exit {})",
        cli::VERSION,
        Code::FAULT.0
    ));
    sys::exit(Code::FAULT.0);
}

fn print(text: &str) -> Code {
    // A reader that has gone (`| head`) is no fault.
    let _ = sys::write_stdout(text.as_bytes());
    Code::OK
}

/// The log before the config is known: both sinks.
fn log(stamped: bool) -> Log {
    let log = Log::to_stdout(if stamped { Style::Stamped } else { Style::Plain });
    log.add_syslog(Path::new(DEV_LOG), Facility::Daemon);
    log
}

/// Has `log` write what the config says.
fn apply(settings: &LogSettings, once: bool, log: &Log) {
    // A person who tries a config is told all of it.
    log.set_level(if once { settings.level.max(Level::Info) } else { settings.level });
    if !settings.syslog {
        log.drop_syslog();
    } else if settings.facility != Facility::Daemon {
        log.add_syslog(Path::new(DEV_LOG), settings.facility);
    }
}

/// What ends a command that cannot do its work: the exit code, and why in one line.
type Refusal = (Code, String);

/// Why there are no settings.
enum NoSettings {
    /// No path was given, and there is no config file in the usual places.
    NoFile(FileError),
    /// There is one, but it cannot be used; what to do about it is told apart, for `check`.
    Refused(Refusal, String),
}

/// What to write where there is no config.
const TWO_LINES: &str = "write two lines into /etc/efs-agent/config.toml: [[share]] and \
                         endpoint = \"<DNS name of the file system>\"";

/// What to do about a line of the config, where nothing better is known.
const CORRECT: &str = "correct that line; man efs-agent.toml tells what each key may be";

/// What is wrong with a line of the config, and the cure that its text ends with, if it does.
fn own_cure(text: &str) -> Option<(String, String)> {
    if let Some((what, word)) = text.rsplit_once("; did you mean ") {
        let word = word.strip_suffix('?')?.trim_matches('"');
        return Some((what.to_owned(), format!("write {word} there, if that is meant")));
    }
    let (what, how) = text.rsplit_once(": write ")?;
    Some((what.to_owned(), format!("write {how}")))
}

impl NoSettings {
    /// What is wrong, and the cure.
    fn told(self) -> (String, String) {
        match self {
            Self::NoFile(e) => (e.to_string(), TWO_LINES.to_owned()),
            // The text may have a cure of its own, which says more.
            Self::Refused((_, text), cure) if cure == CORRECT => {
                own_cure(&text).unwrap_or((text, cure))
            }
            Self::Refused((_, text), cure) => {
                let bare = text.strip_suffix(&format!(" ({cure})")).unwrap_or(&text);
                (bare.to_owned(), cure)
            }
        }
    }
}

impl From<NoSettings> for Refusal {
    fn from(why: NoSettings) -> Self {
        match why {
            NoSettings::NoFile(e) => (Code::CONFIG, format!("{e}; {TWO_LINES}")),
            NoSettings::Refused(refusal, _) => refusal,
        }
    }
}

/// The config that a session start would use, `named` with `--config` or found.
fn settings(root: &Path, named: Option<&Path>) -> Result<(PathBuf, Settings), NoSettings> {
    let refused = |code, text, cure: &str| NoSettings::Refused((code, text), cure.to_owned());
    let absolute = named.map(std::path::absolute).transpose();
    let named = absolute.map_err(|e| {
        let text = format!("--config cannot be used: {e}");
        refused(Code::CONFIG, text, "give it the path of a config file")
    })?;
    let exe = std::env::current_exe().ok();
    let (path, text) = file::read(root, named.as_deref(), exe.as_deref()).map_err(|e| {
        let text = e.to_string();
        match &e {
            FileError::Untrusted { mend, .. } => refused(Code::PERMISSION, text, mend),
            FileError::None(_) => NoSettings::NoFile(e),
            FileError::Missing(_) => refused(
                Code::CONFIG,
                text,
                "write it, or give --config the path of one that is there",
            ),
            FileError::Unusable { .. } => {
                refused(Code::CONFIG, text, "put a text file in its place that is to be the config")
            }
        }
    })?;
    let settings =
        Settings::parse(&path, &text).map_err(|e| refused(Code::CONFIG, e.to_string(), CORRECT))?;
    Ok((path, settings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_fault_of_its_own_is_told_on_standard_output() {
        const MEETS: &str = "EFS_AGENT_TEST_MEETS_A_FAULT";
        if std::env::var_os(MEETS).is_some() {
            std::panic::set_hook(Box::new(tell_fault));
            let number: Option<u8> = "none".parse().ok();
            number.expect("a number");
        }
        // In a process of its own: this same test.
        let name = "commands::tests::a_fault_of_its_own_is_told_on_standard_output";
        let mut this = Command::new(std::env::current_exe().unwrap());
        let ended = this.args(["--exact", name, "--nocapture"]).env(MEETS, "1").output().unwrap();
        let said = String::from_utf8(ended.stdout).unwrap();
        let line = said.lines().find(|line| line.contains("fault of its own")).unwrap();
        assert!(
            line.contains(" has met a fault of its own and ends at src/commands/mod.rs:")
                && line.ends_with(": a number; please report this line (exit 70)"),
            "{line}"
        );
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(70), &b""[..]));
    }
}
