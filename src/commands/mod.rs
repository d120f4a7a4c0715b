//! One file for each thing that efs-agent can be asked to do, and the way from
//! the command line to it.

pub mod session;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod soak;
mod unmount;

use crate::cli::{self, Command};
use crate::config::Facility;
use crate::log::{Log, Style};
use crate::report::Code;
use crate::sys;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Where syslog daemons listen.
const DEV_LOG: &str = "/dev/log";

/// Runs what `args` ask for. Everything is said on standard output, because AppStream
/// keeps nothing else.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let started = Instant::now();
    sys::close_inherited();
    let code = match cli::parse(args) {
        Ok(Command::Session(args)) => session::run(&args, started),
        Ok(Command::Help) => print(cli::HELP),
        Ok(Command::Version) => print(&format!("{}\n", cli::VERSION)),
        Err(e) => {
            let log = log(!std::io::stdout().is_terminal());
            log.error(format_args!("{e} (exit {})", Code::USAGE.0));
            Code::USAGE
        }
    };
    ExitCode::from(code.0)
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
