//! One file for each thing that efs-agent can be asked to do, and the way from the command line to
//! it. [`frame`] has what all commands begin and end with. The work of a command belongs in its own
//! file.

mod all_tunnels;
pub mod check;
mod error;
mod frame;
mod left;
pub mod register;
pub mod session;
mod settings;
pub mod status;
pub mod tunnel;
pub mod unmount;

use crate::cli::{self, Command};
use crate::config::{Facility, Level, LogSettings};
use crate::json;
use crate::log::{Log, Style};
use crate::report::Code;
use crate::sys;
use crate::text::VERSION;
use crate::tunnel::listeners;
use serde::Serialize;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::time::Instant;

/// Where syslog daemons listen.
const DEV_LOG: &str = "/dev/log";

/// Runs what `args` ask for, and returns the exit code. Everything goes to standard output, because
/// AppStream keeps nothing else.
pub fn run(args: impl IntoIterator<Item = OsString>) -> i32 {
    let started = Instant::now();
    std::panic::set_hook(Box::new(report_panic));
    let command = cli::parse(args);

    // A service manager hands a tunnel its listeners, which must stay open.
    let kept = if matches!(command, Ok(Command::Tunnel(_))) { listeners::handed_over() } else { 0 };
    sys::close_inherited(kept);
    // A session start blocks SIGPIPE with the other signals.
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
        Ok(Command::Version) => print(&format!("{VERSION}\n")),
        Err(e) => {
            let log = log(!std::io::stdout().is_terminal());
            log.error(format_args!("{e} (exit {})", Code::USAGE.0));
            Code::USAGE
        }
    };

    code.0.into()
}

/// Ends the program after a fault of its own (a panic). The line about it goes to standard output,
/// because AppStream keeps nothing of standard error.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let what = panic.payload();
    let text = what.downcast_ref::<&str>().copied();
    let text = text.or_else(|| what.downcast_ref::<String>().map(String::as_str));
    let what = text.unwrap_or("no reason given");

    let at =
        panic.location().map_or(String::new(), |at| format!(" at {}:{}", at.file(), at.line()));
    log(!std::io::stdout().is_terminal()).error(format_args!(
        "{VERSION} has met a fault of its own and ends{at}: {what}; please report this line (exit {})",
        Code::FAULT.0
    ));
    sys::exit(Code::FAULT.0);
}

fn print(text: &str) -> Code {
    // It is no fault if the reader has gone (`| head`).
    let _ = sys::write_stdout(text.as_bytes());
    Code::OK
}

/// Prints what a program is to read, in one line.
fn print_json(value: &impl Serialize) {
    print(&(json::written(value) + "\n"));
}

/// The log as it is before the config is known: with both sinks.
fn log(stamped: bool) -> Log {
    let log = Log::to_stdout(if stamped { Style::Stamped } else { Style::Plain });
    log.add_syslog(Path::new(DEV_LOG), Facility::Daemon);
    log
}

/// Makes `log` write what the config asks for. A person who tries a config (`once`) sees at least
/// the level info.
fn apply(settings: &LogSettings, once: bool, log: &Log) {
    log.set_level(if once { settings.level.max(Level::Info) } else { settings.level });
    if !settings.syslog {
        log.drop_syslog();
    } else if settings.facility != Facility::Daemon {
        log.add_syslog(Path::new(DEV_LOG), settings.facility);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_fault_of_its_own_is_told_on_standard_output() {
        const MEETS: &str = "EFS_AGENT_TEST_MEETS_A_FAULT";
        if std::env::var_os(MEETS).is_some() {
            std::panic::set_hook(Box::new(report_panic));
            let number: Option<u8> = "none".parse().ok();
            number.expect("a number");
        }
        // This same test runs again, in a process of its own.
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
