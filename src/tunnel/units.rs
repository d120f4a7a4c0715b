//! The tunnels of this machine, as the steps of a share see them: whether one may be started or ended, and what it
//! answers. systemd holds them, by `unit`; what is said over a control socket is in `protocol`.

use super::aws;
use super::contract::{Tunnels, TunnelsError};
use super::instance::{self, Instance};
use super::locks::{UseLock, start_lock};
use super::peer::LOCAL;
use super::port;
use super::protocol::{self, Peer, TunnelError, TunnelStatus};
use super::run_files;
use super::unit::{Systemd, TunnelUnit, UnitError};
use crate::config::encryption::TrustSource;
use crate::config::{Endpoint, Share};
use crate::files;
use crate::installed;
use crate::kernel::{connections, mount_table};
use crate::retry::{Clock, Deadline};
use crate::stop::Stop;
use crate::text::VERSION;
use crate::wait::Wait;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a question is asked if its connection is cut off.
const ATTEMPTS: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The line of a tunnel's note that names its config, counted from 0.
const CONFIG_LINE: usize = 2;

/// The real tunnels.
pub struct Units<'a, C> {
    root: &'a Path,
    clock: &'a C,
    stop: &'a Stop,
    config: &'a Path,
    /// The locks on the tunnels that this run uses, by mount point.
    locks: Mutex<BTreeMap<PathBuf, UseLock>>,
}

impl<'a, C: Clock + Sync> Units<'a, C> {
    /// `root` is `/` outside of tests; `config` is the file that a tunnel reads.
    pub fn new(root: &'a Path, clock: &'a C, stop: &'a Stop, config: &'a Path) -> Self {
        Self { root, clock, stop, config, locks: Mutex::default() }
    }

    /// The tunnels for which `shares` has no encrypted share, each as what is known about its share. `shares` come from
    /// the config, which was changed since those tunnels were started. A tunnel that was started for another config is
    /// left out as long as that config exists.
    pub fn without_share(&self, shares: &[Share]) -> Vec<Share> {
        instance::mount_points(self.root)
            .into_iter()
            .filter(|point| {
                !shares
                    .iter()
                    .any(|share| share.encryption.is_some() && share.mount_point == *point)
            })
            .map(|point| Share::without_config(Endpoint::Name("?".into()), "/".into(), point, true))
            .filter(|share| self.is_of_this_config(share))
            .collect()
    }

    fn is_of_this_config(&self, share: &Share) -> bool {
        let note = self.read_note(share).unwrap_or_default();
        let config = note.lines().nth(CONFIG_LINE).map(Path::new);
        config.is_some_and(|config| config == self.config || files::absent(self.root, config))
    }

    fn wait(&self, until: Deadline) -> Wait<'_> {
        Wait { until, clock: self.clock, stop: self.stop }
    }

    fn systemd(&self) -> Systemd<'_> {
        Systemd { root: self.root }
    }

    fn locks(&self) -> MutexGuard<'_, BTreeMap<PathBuf, UseLock>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows other runs, until the end of this one, that the share's tunnel is used.
    fn lock(&self, share: &Share, until: Deadline) -> Result<(), TunnelsError> {
        if self.locks().contains_key(&share.mount_point) {
            return Ok(());
        }

        // The list is not locked during this wait, since other shares have other tunnels.
        let lock = UseLock::take(self.root, &share.mount_point, self.wait(until))?;
        self.locks().extend(lock.map(|lock| (share.mount_point.clone(), lock)));
        Ok(())
    }

    /// Ends a tunnel that was started for an earlier config. If somebody uses it, it must stay, and its port is given.
    fn outdated(
        &self,
        share: &Share,
        port: u16,
        until: Deadline,
    ) -> Result<Option<u16>, TunnelsError> {
        match self.status(share, until) {
            Err(TunnelError::Stopped(stopped)) => return Err(stopped.into()),
            Ok(status) if status.connections > 0 => return Ok(Some(port)),
            _ => {}
        }

        if !self.claim(share) {
            // Another run has begun to use it, or the kernel is just renewing the connection of a mount.
            self.lock(share, until)?;
            return Ok(Some(port));
        }
        self.stop(share, until)?;
        Ok(None)
    }

    /// Has systemd start the tunnel at the port `at`, or else at the config's port, or else at any free one.
    fn start_unit(
        &self,
        share: &Share,
        at: Option<u16>,
        until: Deadline,
    ) -> Result<u16, TunnelsError> {
        let program = installed::executable(self.root).map_err(|unfit| TunnelsError::Program {
            what: unfit.to_string(),
            cure: unfit.cure(),
        })?;
        let configured = share.encryption.as_ref().and_then(|encryption| encryption.tunnel_port);
        let unit = TunnelUnit {
            mount_point: &share.mount_point,
            port: at.or(configured),
            program: &program,
            config: self.config,
        };

        match self.systemd().start(&unit, self.wait(until)) {
            // Another program has taken the port `at` meanwhile, so the config's port is tried.
            Err(UnitError::Failed { .. } | UnitError::PortTaken(_))
                if at.is_some() && at != configured =>
            {
                let unit = TunnelUnit { port: configured, ..unit };
                self.systemd().start(&unit, self.wait(until)).map_err(no_tunnel)
            }
            started => started.map_err(no_tunnel),
        }
    }

    /// All that a tunnel reads when it begins, as text. A file appears by its path and by values that change with it.
    fn made_for(&self, share: &Share) -> String {
        let trust = match share.encryption.as_ref().map(|encryption| &encryption.trust) {
            Some(TrustSource::File(path)) => version_of(&files::below(self.root, path)),
            _ => String::new(),
        };
        let program =
            std::env::current_exe().map(|program| version_of(&program)).unwrap_or_default();

        let (endpoint, addresses) = (&share.endpoint, &share.addresses);
        let (options, encryption) = (&share.options, &share.encryption);
        format!(
            "{VERSION}\n{program}\n{}\n{endpoint} {addresses:?}\n{options:?}\n{encryption:?}\n{trust}\n",
            self.config.display()
        )
    }

    fn read_note(&self, share: &Share) -> Option<String> {
        run_files::read(self.root, &Instance::of(&share.mount_point).note())
    }

    fn write_note(&self, share: &Share) {
        let note = Instance::of(&share.mount_point).note();
        // If it cannot be written, the next start begins anew, which does no harm.
        let _ = run_files::write(self.root, &note, &self.made_for(share), 0o600);
    }

    fn socket(&self, share: &Share) -> PathBuf {
        files::below(self.root, Instance::of(&share.mount_point).socket())
    }

    /// Asks a question, and asks again if the connection is cut off. That happens while the tunnel is started again, or
    /// has too many questions at once.
    fn asked<T>(
        &self,
        share: &Share,
        wait: Wait<'_>,
        ask: &dyn Fn() -> Result<T, TunnelError>,
    ) -> Result<T, TunnelError> {
        let mut attempts = 1..ATTEMPTS;
        loop {
            match ask() {
                Err(TunnelError::NoTunnel(Errno::ECONNRESET))
                    if attempts.next().is_some() && !wait.passed() =>
                {
                    wait.pause(RETRY_PAUSE)?;
                }
                // A tunnel without a key makes one, and nothing else that takes long comes before its first answer.
                Err(TunnelError::NoTunnel(Errno::ETIMEDOUT)) if !self.has_key(share) => {
                    return Err(TunnelError::MakingKey);
                }
                other => return other,
            }
        }
    }

    fn has_key(&self, share: &Share) -> bool {
        !files::absent(self.root, &Instance::of(&share.mount_point).key())
    }

    /// Whether the kernel uses a tunnel at this port.
    fn is_used(&self, port: u16) -> bool {
        // A detached mount is in no mount table, but the kernel lists its server as long as it is used.
        let servers = files::whole(&self.root.join(connections::SERVERS)).unwrap_or_default();
        if connections::has_server(&servers, SocketAddr::new(LOCAL, port)) {
            return true;
        }

        let table = files::whole(&self.root.join("proc/self/mountinfo"));
        table.map_or(true, |table| mount_table::leads_through(&mount_table::parse(&table), port))
    }
}

impl<C: Clock + Sync> Tunnels for Units<'_, C> {
    fn start(&self, share: &Share, at: Option<u16>, until: Deadline) -> Result<u16, TunnelsError> {
        if !self.systemd().is_there() {
            return Err(TunnelsError::NoSystemd);
        }
        trusted(self.root, share)?;
        // Two runs that start a tunnel at once would take each other's port away.
        let _alone = start_lock(self.root, &share.mount_point, self.wait(until))?;
        self.lock(share, until)?;

        if let Some(port) = self.port(share) {
            if at.is_some() || self.is_current(share) {
                return Ok(port);
            }
            if let Some(port) = self.outdated(share, port, until)? {
                return Ok(port);
            }
        }
        let port = self.start_unit(share, at, until)?;
        self.write_note(share);

        // If this run took the lock for itself alone, to end an older tunnel, other runs may share it again.
        self.release(share);
        self.lock(share, until)?;
        Ok(port)
    }

    fn is_guarded(&self, port: u16) -> bool {
        port::is_roots(self.root, port)
    }

    fn is_current(&self, share: &Share) -> bool {
        self.read_note(share).is_some_and(|text| text == self.made_for(share))
    }

    fn port(&self, share: &Share) -> Option<u16> {
        self.systemd().port(&Instance::of(&share.mount_point))
    }

    fn handshake(&self, share: &Share, until: Deadline) -> Result<Peer, TunnelError> {
        let (socket, wait) = (self.socket(share), self.wait(until));
        self.asked(share, wait, &|| protocol::handshake(&socket, wait))
    }

    fn status(&self, share: &Share, until: Deadline) -> Result<TunnelStatus, TunnelError> {
        let (socket, wait) = (self.socket(share), self.wait(until));
        self.asked(share, wait, &|| protocol::status(&socket, wait))
    }

    fn claim(&self, share: &Share) -> bool {
        let point = &share.mount_point;
        let mut locks = self.locks();
        let now = self.wait(Deadline::after(self.clock, Duration::ZERO));
        let lock = match locks.remove(point) {
            Some(lock) => Some(lock),
            None => UseLock::take(self.root, point, now).ok().flatten(),
        };

        let Some(lock) = lock else {
            // Another run ends the tunnel; or no lock can be made here, and so no tunnel can be started either.
            return self.port(share).is_none();
        };
        if !lock.make_exclusive() {
            return false;
        }

        let is_free = self.port(share).is_none_or(|port| !self.is_used(port));
        if is_free {
            locks.insert(point.clone(), lock);
        }
        is_free
    }

    fn release(&self, share: &Share) {
        self.locks().remove(&share.mount_point);
    }

    fn stop(&self, share: &Share, until: Deadline) -> Result<(), TunnelsError> {
        self.systemd().end(&share.mount_point, self.wait(until)).map_err(no_tunnel)
    }
}

/// A file's path, and values that change when the file does.
fn version_of(path: &Path) -> String {
    let found = fs::metadata(path).ok();
    let version = found.map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
    format!("{} {version:?}", path.display())
}

/// Checks that the certificates can be read by which the share's server is judged. A tunnel would report a failure only
/// when it is asked for a handshake, and the server has been looked for by then.
///
/// # Errors
/// [`TunnelsError::Tunnel`].
pub fn trusted(root: &Path, share: &Share) -> Result<(), TunnelsError> {
    match &share.encryption {
        Some(encryption) => Ok(aws::roots(root, &encryption.trust).map(|_| ())?),
        None => Ok(()),
    }
}

fn no_tunnel(error: UnitError) -> TunnelsError {
    match error {
        UnitError::NoSystemd => TunnelsError::NoSystemd,
        UnitError::Stopped(stopped) => stopped.into(),
        UnitError::PortTaken(port) => TunnelsError::PortTaken(port),
        other => TunnelsError::NotHeld(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
