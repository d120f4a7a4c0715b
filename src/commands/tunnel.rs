//! `tunnel`: carries the connections of one encrypted share. It takes its listeners from systemd, gets ready as root,
//! drops to a user without rights, and serves. Each of these steps is done in `crate::tunnel`.

use super::error::CommandError;
use super::{frame, settings};
use crate::aws::{ENVIRONMENT, Environment};
use crate::cli::TunnelArgs;
use crate::config::Share;
use crate::config::encryption::Encryption;
use crate::log::Log;
use crate::report::Code;
use crate::retry::Clock;
use crate::stop::{Stop, SystemClock};
use crate::sys;
use crate::tunnel::aws::{self, Aws};
use crate::tunnel::broker::Broker;
use crate::tunnel::identity::{AwsAccess, Identity};
use crate::tunnel::instance::Instance;
use crate::tunnel::key::{self, KeyOrigin};
use crate::tunnel::listeners::{self, Listeners};
use crate::tunnel::protocol::TunnelError;
use crate::tunnel::serve::{Means, ServeError, Tunnel};
use crate::tunnel::tls::TlsClient;
use crate::tunnel::{broker_process, peer, run_files, user};
use nix::sys::signal::Signal;
use rustls::RootCertStore;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A tunnel that cannot begin waits this long before it ends, because systemd starts it again at
/// once.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// What a tunnel needs once root's rights are given up.
struct Prepared {
    share: Share,
    /// What it takes to speak to the file system. An error here is the answer to those who ask the
    /// tunnel.
    means: Result<Means, TunnelError>,
    /// It is closed when the process that hands out credentials has ended.
    lifeline: Option<UnixStream>,
}

/// Runs the tunnel with the `count` descriptors that were handed over, and returns the exit code.
pub fn run(args: &TunnelArgs, count: u8, started: Instant) -> Code {
    let log: &'static Log = Box::leak(Box::new(super::log(true)));
    let ended = listeners::take(count)
        .map_err(|e| CommandError::new(Code::USAGE, e.to_string()))
        .and_then(|listeners| carry(args, listeners, started, log));
    frame::concluded(ended, log)
}

/// Runs the tunnel from its config to its end. This process must have only one thread.
fn carry(
    args: &TunnelArgs,
    listeners: Listeners,
    started: Instant,
    log: &'static Log,
) -> Result<Code, CommandError> {
    let began = Instant::now();
    let stop = frame::signals()?;
    let clock = SystemClock::new(started, &stop);

    let mut listeners = Some(listeners);
    let prepared = prepare(args, &mut listeners, &clock, &stop, log);
    let Prepared { share, means, lifeline } = match prepared {
        Ok(prepared) => prepared,
        Err(refusal) => return end_later(refusal, RESTART_PAUSE, &stop),
    };
    let Some(listeners) = listeners else {
        return Err(CommandError::new(Code::FAULT, "the listeners were given up"));
    };

    let root = Path::new("/").to_owned();
    let counters = Default::default();
    let tunnel = Tunnel { root, share, means, stop, started, log, counters };
    let tunnel: &'static Tunnel = Box::leak(Box::new(tunnel));
    match tunnel.serve(listeners, lifeline) {
        ServeError::Stopped(_) => Ok(code_of_signal(&tunnel.stop)),
        error => {
            // A tunnel that has served for a while is started again at once.
            let pause = RESTART_PAUSE.saturating_sub(began.elapsed());
            end_later(CommandError::new(Code::FAULT, error.to_string()), pause, &tunnel.stop)
        }
    }
}

/// Ends the command after `pause`. Without it, what fails each time would be repeated ten times a
/// second.
fn end_later(refusal: CommandError, pause: Duration, stop: &Stop) -> Result<Code, CommandError> {
    match SystemClock::new(Instant::now(), stop).wait(pause) {
        Ok(()) => Err(refusal),
        Err(_) => Ok(code_of_signal(stop)),
    }
}

fn code_of_signal(stop: &Stop) -> Code {
    Code::signal(stop.signal().unwrap_or(Signal::SIGTERM) as i32)
}

/// Does all that takes root's rights, and gives them up.
fn prepare(
    args: &TunnelArgs,
    listeners: &mut Option<Listeners>,
    clock: &SystemClock<'_>,
    stop: &Stop,
    log: &Log,
) -> Result<Prepared, CommandError> {
    let root = Path::new("/");
    frame::need_root("a tunnel is started as root")?;
    let (share, encryption) = configured(root, args, log)?;

    let point = &args.mount_point;
    if !peer::sees_real_users(root) {
        log.warning("this is a user namespace: its root is let in to the local port too");
    }

    let roots = aws::roots(root, &encryption.trust);
    let mut broker = None;
    if roots.is_ok() && (encryption.iam || encryption.discover) {
        let process = broker_process::start(root, &encryption, listeners, clock, stop);
        let no_process =
            |e| CommandError::new(Code::FAULT, format!("no process for the credentials: {e}"));
        let process = process.map_err(no_process)?;
        broker = Some(process);
    }

    let lifeline = broker.as_ref().and_then(|broker| broker.lifeline().ok());
    let means = roots.and_then(|roots| means(root, &share, &encryption, (roots, broker), log));
    if let Err(failure) = &means {
        log.error(format_args!("{}: {failure}", point.display()));
    }

    // The process that reads the credentials has its own copy, and nobody else needs them.
    sys::wipe_environment(ENVIRONMENT);
    user::become_user(root, point).map_err(|e| {
        CommandError::new(Code::FAULT, format!("root's rights cannot be dropped: {e}"))
    })?;
    Ok(Prepared { share, means, lifeline })
}

/// The share whose tunnel this is, as the config has it.
fn configured(
    root: &Path,
    args: &TunnelArgs,
    log: &Log,
) -> Result<(Share, Encryption), CommandError> {
    let (path, settings) = settings::find(root, args.config.as_deref())?;
    super::apply(&settings.log, false, log);
    let point = &args.mount_point;

    let missing = |what: &str| {
        let text = format!("{}: no [[share]] is {what} {}", path.display(), point.display());
        CommandError::new(Code::CONFIG, text)
    };

    let share = settings.shares.into_iter().find(|share| share.mount_point == *point);
    let share = share.ok_or_else(|| missing("mounted on"))?;
    let encryption = share.encryption.clone().ok_or_else(|| missing("encrypted on"))?;
    Ok((share, encryption))
}

/// What it takes to speak to the file system: whom to believe, and who we are.
fn means(
    root: &Path,
    share: &Share,
    encryption: &Encryption,
    (roots, broker): (RootCertStore, Option<Broker>),
    log: &Log,
) -> Result<Means, TunnelError> {
    let aws_access = match broker {
        // The tunnel is given credentials, and looks for none itself.
        Some(broker) => {
            let aws = Aws::new(root, Environment::nothing()).map_err(TunnelError::Trust)?;
            Some(AwsAccess { broker, aws })
        }
        None => None,
    };

    // The socket unit has usually made this folder already.
    let _ = run_files::make_folder(root);
    let path = Instance::of(&share.mount_point).key();
    let (key, kept) = key::get(root, &path).map_err(|e| TunnelError::Key(e.to_string()))?;

    if let KeyOrigin::Lost(why) = kept {
        let path = path.display();
        log.warning(format_args!("the RSA key is made anew each time: {path} {why}"));
    }

    let client = TlsClient::new(roots, &encryption.tls_name, &key)?;
    Ok(Means { client, identity: Identity::new(root, key, encryption.clone(), aws_access) })
}
