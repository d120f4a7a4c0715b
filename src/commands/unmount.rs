//! `unmount`: sends what was written to the server, and then takes the shares down. Here is the
//! order: the shares, the tunnels that no share has, the mount points. How one share goes is in
//! [`share`], and how its tunnel goes in [`tunnel`].

mod mount_points;
mod share;
#[cfg(test)]
mod tests;
mod tunnel;

use super::error::CommandError;
use super::frame::{self, Frame};
use super::left::{self, KnownShares};
use crate::cli::UnmountArgs;
use crate::kernel::namespace::{Namespace, namespace};
use crate::log::Log;
use crate::report::Code;
use crate::retry::Deadline;
use crate::sys;
use crate::tunnel::units::Units;
use mount_points::KnownBefore;
use share::UnmountRun;
use std::io::IsTerminal;
use std::time::Instant;

/// Takes the shares of the config down, and returns the exit code.
pub fn run(args: &UnmountArgs, started: Instant) -> Code {
    let log = super::log(!std::io::stdout().is_terminal());
    let without_root = Some("only root can unmount: use sudo");
    frame::concluded(Frame::run(started, without_root, |frame| start(args, frame, &log)), &log)
}

fn start(args: &UnmountArgs, frame: &Frame<'_>, log: &Log) -> Result<Code, CommandError> {
    let (root, clock) = (frame.root, &frame.clock);
    let machine = frame.machine();
    let before = KnownBefore::read(root);
    let KnownShares { config, settings, left: others, refused } =
        left::known(&machine, args.config.as_deref())?;
    super::apply(&settings.log, false, log);
    if let Some(why) = refused {
        log.warning(format_args!(
            "{why}; what efs-agent has mounted since this machine was booted is unmounted all the same"
        ));
    }

    let apart = namespace(&root.join("proc")) == Namespace::Private;
    if apart {
        log.warning(
            "this process has a mount namespace of its own: what is mounted for others stays, and so do its tunnel and \
             its mount point",
        );
    }

    let left = settings.unmount_deadline.saturating_sub(frame.started.elapsed());
    let tunnels = Units::new(root, clock, frame.stop, &config);
    let run = UnmountRun {
        machine: &machine,
        tunnels: &tunnels,
        clock,
        log,
        deadline: Deadline::after(clock, left),
        span: settings.unmount_deadline,
        terminate: args.terminate,
        apart,
        kernel: sys::kernel_release(),
        orphans: before.orphans.iter().map(|one| one.path.as_path()).collect(),
    };

    let mut code = Code::OK;
    // These go first, because they may be on top of the others.
    for share in &others {
        log.info(format_args!("{share} is not in the config, and was mounted by efs-agent"));
        code = code.worse(run.all(std::slice::from_ref(share)));
    }
    code = code.worse(run.all(&settings.shares));

    for share in tunnels.without_share(&settings.shares) {
        run.end_tunnel_without_share(&share);
    }

    if !apart {
        let shares: Vec<_> = settings.shares.iter().chain(&others).collect();
        mount_points::remove(&machine, &shares, &before, run.deadline, log);
    }

    Ok(match frame.stopped() {
        Some(stopped) if code != Code::OK => stopped.code,
        _ => code,
    })
}
