//! The tunnels of this machine, as the steps of a share see them: held by the service manager (or by a
//! process of ours, where there is none), and asked over their control sockets. Also what starts all of
//! them at boot.

use super::Refusal;
use crate::cli::VERSION;
use crate::config::Share;
use crate::config::encryption::Trust;
use crate::files::{self, Like, Place, Version};
use crate::log::Log;
use crate::report::Code;
use crate::retry::{Clock, Deadline};
use crate::share::Failure;
use crate::share::encrypted::Tunnels;
use crate::stop::{Stop, SystemClock};
use crate::tunnel::aws;
use crate::tunnel::control::{self, Peer, TunnelFailure, TunnelStatus};
use crate::tunnel::unit::{Instance, Keeper, UnitError, Wanted};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long all tunnels together may take to be started at boot.
const ALL: Duration = Duration::from_secs(30);

/// The real ones.
pub struct Units<'a, C> {
    /// `/`.
    pub root: &'a Path,
    /// The clock of the run.
    pub clock: &'a C,
    /// The signals.
    pub stop: &'a Stop,
    /// The config file that a tunnel is to read.
    pub config: &'a Path,
}

impl<C: Clock + Sync> Units<'_, C> {
    fn keeper(&self) -> Keeper<'_> {
        Keeper { root: self.root, clock: self.clock, stop: self.stop }
    }

    /// All that a tunnel reads when it begins, as text; the files by what changes when they do.
    fn made_for(&self, share: &Share) -> String {
        let seen = |path: &Path| {
            let of =
                fs::metadata(path).ok().map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
            format!("{} {of:?}", path.display())
        };
        let trust = match share.encryption.as_ref().map(|encryption| &encryption.trust) {
            Some(Trust::File(path)) => {
                seen(&self.root.join(path.strip_prefix("/").unwrap_or(path)))
            }
            _ => String::new(),
        };
        let program = std::env::current_exe().map(|program| seen(&program)).unwrap_or_default();
        let (endpoint, addresses) = (&share.endpoint, &share.addresses);
        let (options, encryption) = (&share.options, &share.encryption);
        format!(
            "{VERSION}\n{program}\n{}\n{endpoint} {addresses:?}\n{options:?}\n{encryption:?}\n{trust}\n",
            self.config.display()
        )
    }

    /// Beside the socket.
    fn note(&self, share: &Share) -> Option<Place> {
        let path = Instance::of(&share.mount_point).socket().with_extension("for");
        files::find(self.root, &path).ok()
    }

    fn written_down(&self, share: &Share) -> Option<String> {
        let place = self.note(share)?;
        let file = place.open().ok()??;
        place.trust(Some(&file)).ok()?;
        String::from_utf8(files::contents(&file).ok()?).ok()
    }

    fn write_down(&self, share: &Share, text: &str) -> Option<()> {
        let place = self.note(share)?;
        place.trust(None).ok()?;
        let version = place.open().ok()?.and_then(|file| Version::read(&file).ok());
        let folder = place.folder().ok()?;
        place.replace(&folder, text.as_bytes(), &Like::root(0o600), version).ok()
    }

    fn socket(&self, share: &Share) -> PathBuf {
        let socket = Instance::of(&share.mount_point).socket();
        self.root.join(socket.strip_prefix("/").unwrap_or(&socket))
    }
}

impl<C: Clock + Sync> Tunnels for Units<'_, C> {
    fn start(&self, share: &Share, at: Option<u16>, until: Deadline) -> Result<u16, Failure> {
        trusted(self.root, share)?;
        let program = std::env::current_exe().map_err(|e| Failure::NoTunnel(e.to_string()))?;
        if let Some(port) = self.port(share) {
            if at.is_some() || self.is_current(share) {
                return Ok(port);
            }
            match self.status(share, until) {
                Err(TunnelFailure::Stopped(stopped)) => return Err(stopped.into()),
                // Somebody uses it.
                Ok(status) if status.connections > 0 => return Ok(port),
                _ => self.stop(share, until)?,
            }
        }
        let encryption = share.encryption.as_ref();
        let configured = encryption.and_then(|encryption| encryption.tunnel_port);
        let aws_environment = encryption.is_some_and(|encryption| encryption.aws_environment);
        let start = |port| {
            let (mount_point, program) = (share.mount_point.as_path(), program.as_path());
            let wanted =
                Wanted { mount_point, port, program, config: self.config, aws_environment };
            self.keeper().start(&wanted, until)
        };
        let started = match start(at.or(configured)) {
            // Somebody else has taken the port meanwhile.
            Err(UnitError::Failed { .. }) if at.is_some() && at != configured => start(configured),
            other => other,
        };
        let port = started.map_err(no_tunnel)?;
        // What cannot be written down makes the next start begin anew, and no harm.
        let _ = self.write_down(share, &self.made_for(share));
        Ok(port)
    }

    fn is_current(&self, share: &Share) -> bool {
        self.written_down(share).is_some_and(|text| text == self.made_for(share))
    }

    fn port(&self, share: &Share) -> Option<u16> {
        self.keeper().port(&Instance::of(&share.mount_point))
    }

    fn handshake(&self, share: &Share, until: Deadline) -> Result<Peer, Failure> {
        Ok(control::handshake(&self.socket(share), until, self.clock, self.stop)?)
    }

    fn status(&self, share: &Share, until: Deadline) -> Result<TunnelStatus, TunnelFailure> {
        control::status(&self.socket(share), until, self.clock, self.stop)
    }

    fn stop(&self, share: &Share, until: Deadline) -> Result<(), Failure> {
        self.keeper().end(&share.mount_point, until).map_err(no_tunnel)
    }
}

/// Whether the certificates that the share's server is measured by can be had: a tunnel would say that
/// they cannot only when it is asked for a handshake, and the server has been looked for by then.
///
/// # Errors
/// [`Failure::Tunnel`].
pub fn trusted(root: &Path, share: &Share) -> Result<(), Failure> {
    match &share.encryption {
        Some(encryption) => Ok(aws::roots(root, &encryption.trust).map(|_| ())?),
        None => Ok(()),
    }
}

fn no_tunnel(error: UnitError) -> Failure {
    match error {
        UnitError::Stopped(stopped) => stopped.into(),
        other => Failure::NoTunnel(other.to_string()),
    }
}

/// Starts the tunnels of all shares that are encrypted, and returns the exit code.
pub fn start_all(config: Option<&Path>, started: Instant) -> Code {
    let log = super::log(true);
    all(config, started, &log).unwrap_or_else(|(code, text)| {
        log.error(format_args!("{text} (exit {})", code.0));
        code
    })
}

fn all(config: Option<&Path>, started: Instant, log: &Log) -> Result<Code, Refusal> {
    let root = Path::new("/");
    if !nix::unistd::geteuid().is_root() {
        return Err((Code::PERMISSION, "a tunnel is started as root".into()));
    }
    let stop = Stop::install().map_err(|e| (Code::FAULT, format!("cannot set signals: {e}")))?;
    let clock = SystemClock::new(started, &stop);
    let (path, settings) = super::settings(root, config)?;
    super::apply(&settings.log, false, log);
    let tunnels = Units { root, clock: &clock, stop: &stop, config: &path };
    let until = Deadline::after(&clock, ALL);
    let mut code = Code::OK;
    for share in settings.shares.iter().filter(|share| share.encryption.is_some()) {
        let at = share.mount_point.display();
        match tunnels.start(share, None, until) {
            Ok(port) => log.info(format_args!("{at}: its tunnel listens on 127.0.0.1:{port}")),
            Err(Failure::NoTunnel(why)) => {
                log.error(format_args!("{at}: its tunnel cannot be started: {why}"));
                code = code.worse(Code::DEADLINE);
            }
            Err(Failure::Tunnel(failure)) => {
                log.error(format_args!("{at}: its tunnel is not started: {failure}"));
                code = code.worse(Code::REFUSED);
            }
            Err(_) => {
                let signal = stop.signal().map_or(15, |signal| signal as i32);
                return Err((Code::signal(signal), "stopped by a signal".into()));
            }
        }
    }
    Ok(code)
}
