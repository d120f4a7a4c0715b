//! `tunnel --all`: starts the tunnels of all encrypted shares, at boot. How one tunnel is started
//! is in `tunnel::units`.

use super::error::CommandError;
use super::frame::{self, Frame};
use crate::log::Log;
use crate::report::Code;
use crate::retry::Deadline;
use crate::share::causes::{Cause, explain};
use crate::tunnel::contract::{Tunnels, TunnelsError};
use crate::tunnel::units::Units;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long all tunnels together may take to be started.
const ALL: Duration = Duration::from_secs(30);

/// Starts the tunnels of all shares that are encrypted, and returns the exit code.
pub fn start_all(config: Option<&Path>, started: Instant) -> Code {
    let log = super::log(true);
    let without_root = Some("a tunnel is started as root");
    frame::concluded(Frame::run(started, without_root, |frame| all(config, frame, &log)), &log)
}

fn all(config: Option<&Path>, frame: &Frame<'_>, log: &Log) -> Result<Code, CommandError> {
    let (clock, stop) = (&frame.clock, frame.stop);
    let (path, settings) = frame.settings(config, false, log)?;

    let tunnels = Units::new(frame.root, clock, stop, &path);
    let until = Deadline::after(clock, ALL);
    let mut code = Code::OK;
    for share in settings.shares.iter().filter(|share| share.encryption.is_some()) {
        let at = share.mount_point.display();
        match tunnels.start(share, None, until) {
            Ok(port) => log.info(format_args!("{at}: its tunnel listens on 127.0.0.1:{port}")),
            Err(TunnelsError::NotHeld(why)) => {
                log.error(format_args!("{at}: its tunnel cannot be started: {why}"));
                code = code.worse(Code::DEADLINE);
            }
            Err(error @ (TunnelsError::PortTaken(_) | TunnelsError::NoSystemd)) => {
                let worse = match error {
                    TunnelsError::PortTaken(_) => Code::DEADLINE,
                    _ => Code::REFUSED,
                };
                let Cause { sentence, cure, .. } = explain(&error.into(), share, "");
                log.error(format_args!("{at}: {sentence}; to mend it: {cure}"));
                code = code.worse(worse);
            }
            Err(TunnelsError::Program { what, cure }) => {
                log.error(format_args!("{at}: its tunnel is not started: {what}; {cure}"));
                code = code.worse(Code::REFUSED);
            }
            Err(TunnelsError::Tunnel(failure)) => {
                log.error(format_args!("{at}: its tunnel is not started: {failure}"));
                code = code.worse(Code::REFUSED);
            }
            Err(TunnelsError::Stopped(_)) => {
                let signal = stop.signal().map_or(15, |signal| signal as i32);
                return Err(CommandError::new(Code::signal(signal), "stopped by a signal"));
            }
        }
    }

    Ok(code)
}
