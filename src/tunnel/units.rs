//! The tunnels of this machine, as the steps of a share see them: held by the service manager (or by a
//! process of ours, where there is none), and asked over their control sockets.

use crate::config::encryption::Trust;
use crate::config::{Endpoint, Share};
use crate::files::{self, Like, Place, Version};
use crate::installed;
use crate::kernel::{connections, mount_table};
use crate::retry::{Clock, Deadline};
use crate::stop::Stop;
use crate::text::VERSION;
use crate::tunnel::aws;
use crate::tunnel::contract::{Tunnels, TunnelsError};
use crate::tunnel::peer::LOCAL;
use crate::tunnel::port;
use crate::tunnel::protocol::{self, Peer, TunnelError, TunnelStatus};
use crate::tunnel::unit::{Hold, Instance, Keeper, UnitError, Wanted};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A question whose connection is cut off is asked so often, and so long after.
const ASKED: u32 = 4;
const AGAIN: Duration = Duration::from_millis(100);
/// The line of a tunnel's note that names its config, counted from 0.
const NOTED_CONFIG: usize = 2;

/// The real ones.
pub struct Units<'a, C> {
    root: &'a Path,
    clock: &'a C,
    stop: &'a Stop,
    config: &'a Path,
    /// By mount point, those that this run uses.
    holds: Mutex<BTreeMap<PathBuf, Hold>>,
}

impl<'a, C: Clock + Sync> Units<'a, C> {
    /// Of a run with this clock and these signals. `root` is `/` outside of tests; `config` is the file
    /// that a tunnel is to read.
    pub fn new(root: &'a Path, clock: &'a C, stop: &'a Stop, config: &'a Path) -> Self {
        Self { root, clock, stop, config, holds: Mutex::default() }
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Hold>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has others know, until the end of this run, that the share's tunnel is used.
    fn hold(&self, share: &Share, until: Deadline) -> Result<(), TunnelsError> {
        if self.holds().contains_key(&share.mount_point) {
            return Ok(());
        }
        // Not while the list is locked: other shares have tunnels of their own.
        let hold = self.keeper().hold(&share.mount_point, until)?;
        self.holds().extend(hold.map(|hold| (share.mount_point.clone(), hold)));
        Ok(())
    }

    fn keeper(&self) -> Keeper<'_> {
        Keeper { root: self.root, clock: self.clock, stop: self.stop }
    }

    /// For each tunnel that is there without an encrypted share among `shares`, those of the config (it was changed
    /// since): what is known of its share. Not those that another config was read for, so long as that is there.
    pub fn without_share(&self, shares: &[Share]) -> Vec<Share> {
        let encrypted = |point: &Path| {
            shares.iter().any(|share| share.encryption.is_some() && share.mount_point == point)
        };
        let others = self.keeper().all().into_iter().filter(|point| !encrypted(point));
        let unknown = || Endpoint::Name("?".into());
        let others = others.map(|point| Share::without_config(unknown(), "/".into(), point, true));
        let is_ours = |share: &Share| {
            let note = self.written_down(share).unwrap_or_default();
            let config = note.lines().nth(NOTED_CONFIG).map(Path::new);
            config.is_some_and(|config| config == self.config || files::absent(self.root, config))
        };
        others.filter(is_ours).collect()
    }

    /// All that a tunnel reads when it begins, as text; the files by what changes when they do.
    fn made_for(&self, share: &Share) -> String {
        let seen = |path: &Path| {
            let of =
                fs::metadata(path).ok().map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
            format!("{} {of:?}", path.display())
        };
        let trust = match share.encryption.as_ref().map(|encryption| &encryption.trust) {
            Some(Trust::File(path)) => seen(&files::below(self.root, path)),
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
        files::below(self.root, &socket)
    }

    /// The answer to a question, which is asked again where the connection was cut off: the tunnel is being started
    /// again, or has too many questions at once.
    fn asked<T>(
        &self,
        until: Deadline,
        ask: &dyn Fn() -> Result<T, TunnelError>,
    ) -> Result<T, TunnelError> {
        let mut tries = 1..ASKED;
        loop {
            match ask() {
                Err(TunnelError::NoTunnel(Errno::ECONNRESET))
                    if tries.next().is_some() && !until.passed(self.clock) =>
                {
                    self.clock.wait(AGAIN.min(until.left(self.clock)))?;
                }
                other => return other,
            }
        }
    }

    /// What it means that a question was not answered. A tunnel that has no key yet makes one, and nothing
    /// else that could take long comes before its first answer.
    fn unanswered(&self, share: &Share, failure: TunnelError) -> TunnelError {
        let key = Instance::of(&share.mount_point).key();
        match failure {
            TunnelError::NoTunnel(Errno::ETIMEDOUT) if files::absent(self.root, &key) => {
                TunnelError::MakingKey
            }
            other => other,
        }
    }
}

impl<C: Clock + Sync> Tunnels for Units<'_, C> {
    fn start(&self, share: &Share, at: Option<u16>, until: Deadline) -> Result<u16, TunnelsError> {
        trusted(self.root, share)?;
        // Until it is there, or has failed: of two that start one, each would take the other's port away.
        let _alone = self.keeper().alone(&share.mount_point, until)?;
        self.hold(share, until)?;
        let held = self.port(share);
        let orphan = held.is_some() && self.is_orphan(share);
        if let Some(port) = held.filter(|_| !orphan) {
            if at.is_some() || self.is_current(share) {
                return Ok(port);
            }
            match self.status(share, until) {
                Err(TunnelError::Stopped(stopped)) => return Err(stopped.into()),
                // Somebody uses it.
                Ok(status) if status.connections > 0 => return Ok(port),
                // Or has begun with it, or has something mounted whose connection is just being made anew.
                _ if !self.claim(share) => {
                    self.hold(share, until)?;
                    return Ok(port);
                }
                _ => self.stop(share, until)?,
            }
        }
        let program = installed::executable(self.root).map_err(|unfit| TunnelsError::Program {
            what: unfit.to_string(),
            cure: unfit.cure(),
        })?;
        let encryption = share.encryption.as_ref();
        let configured = encryption.and_then(|encryption| encryption.tunnel_port);
        let aws_environment = encryption.is_some_and(|encryption| encryption.aws_environment);
        let start = |port| {
            let (mount_point, program) = (share.mount_point.as_path(), program.as_path());
            let wanted =
                Wanted { mount_point, port, program, config: self.config, aws_environment };
            self.keeper().start(&wanted, until)
        };
        if orphan {
            self.stop(share, until)?;
        }
        // Whoever is connected to one that was left alone finds its successor.
        let at = at.or(held.filter(|_| orphan));
        let started = match start(at.or(configured)) {
            // Somebody else has taken the port meanwhile.
            Err(UnitError::Failed { .. } | UnitError::PortTaken(_))
                if at.is_some() && at != configured =>
            {
                start(configured)
            }
            other => other,
        };
        let port = started.map_err(no_tunnel)?;
        // What cannot be written down makes the next start begin anew, and no harm.
        let _ = self.write_down(share, &self.made_for(share));
        // With others again, where it had to be this run's alone.
        self.release(share);
        self.hold(share, until)?;
        Ok(port)
    }

    fn is_guarded(&self, port: u16) -> bool {
        port::is_roots(self.root, port)
    }

    fn is_current(&self, share: &Share) -> bool {
        self.written_down(share).is_some_and(|text| text == self.made_for(share))
    }

    fn port(&self, share: &Share) -> Option<u16> {
        self.keeper().port(&Instance::of(&share.mount_point))
    }

    fn is_orphan(&self, share: &Share) -> bool {
        self.keeper().is_orphan(&share.mount_point)
    }

    fn handshake(&self, share: &Share, until: Deadline) -> Result<Peer, TunnelError> {
        let socket = self.socket(share);
        let ask = || protocol::handshake(&socket, until, self.clock, self.stop);
        let result = self.asked(until, &ask);
        result.map_err(|failure| self.unanswered(share, failure))
    }

    fn status(&self, share: &Share, until: Deadline) -> Result<TunnelStatus, TunnelError> {
        let socket = self.socket(share);
        let ask = || protocol::status(&socket, until, self.clock, self.stop);
        self.asked(until, &ask).map_err(|failure| self.unanswered(share, failure))
    }

    fn claim(&self, share: &Share) -> bool {
        let point = &share.mount_point;
        let mut holds = self.holds();
        let hold = match holds.remove(point) {
            Some(hold) => Some(hold),
            None => self
                .keeper()
                .hold(point, Deadline::after(self.clock, Duration::ZERO))
                .ok()
                .flatten(),
        };
        let Some(hold) = hold else {
            // Somebody else ends it; or there is no place for a lock, nor for a tunnel.
            return self.port(share).is_none();
        };
        if !hold.is_ours_alone() {
            return false;
        }
        holds.insert(point.clone(), hold);
        let Some(port) = self.port(share) else {
            return true;
        };
        let table = files::whole(&self.root.join("proc/self/mountinfo"));
        // What is detached is in no mount table, but its server is known to the kernel as long as it is used.
        let servers = files::whole(&self.root.join(connections::SERVERS)).unwrap_or_default();
        let used = connections::has_server(&servers, SocketAddr::new(LOCAL.into(), port))
            || table.map_or(true, |table| {
                mount_table::leads_through(&mount_table::parse(&table), port)
            });
        if used {
            holds.remove(point);
        }
        !used
    }

    fn release(&self, share: &Share) {
        self.holds().remove(&share.mount_point);
    }

    fn stop(&self, share: &Share, until: Deadline) -> Result<(), TunnelsError> {
        self.keeper().end(&share.mount_point, until).map_err(no_tunnel)
    }
}

/// Whether the certificates that the share's server is measured by can be had: a tunnel would say that
/// they cannot only when it is asked for a handshake, and the server has been looked for by then.
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
        UnitError::Stopped(stopped) => stopped.into(),
        UnitError::PortTaken(port) => TunnelsError::PortTaken(port),
        other => TunnelsError::NotHeld(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::encrypted_share;
    use crate::stop::SystemClock;
    use crate::tunnel::unit::write_port;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    const SHARE: &str = "mount_point = \"/mnt/a\"\n";

    /// A machine on which systemd holds a tunnel at port 40001, and this is mounted.
    fn machine(mounted: &str) -> (tempfile::TempDir, UnixListener) {
        let dir = tempfile::tempdir_in("/run").unwrap();
        fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        fs::create_dir_all(dir.path().join("run/efs-agent/tunnel")).unwrap();
        let line = format!("5 1 0:31 / /mnt/b rw - nfs4 fs:/ rw,vers=4.1,{mounted}\n");
        fs::write(dir.path().join("proc/self/mountinfo"), line).unwrap();
        let units = dir.path().join("run/systemd/system");
        fs::create_dir_all(units.join("efs-agent-tunnel@mnt-a.socket.d")).unwrap();
        write_port(dir.path(), Path::new("/mnt/a"), 40001).unwrap();
        let socket = dir.path().join("run/efs-agent/tunnel/mnt-a.sock");
        let listener = UnixListener::bind(socket).unwrap();
        (dir, listener)
    }

    #[test]
    fn a_tunnel_that_another_run_has_begun_with_is_not_ours_to_end() {
        let (machine, _listener) = machine("addr=10.0.0.1");
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let (config, share) = (Path::new("/c"), encrypted_share(SHARE));
        let run = || Units::new(machine.path(), &clock, &stop, config);
        let soon = || Deadline::after(&clock, Duration::from_millis(300));
        let (check, start) = (run(), run());
        check.hold(&share, soon()).unwrap();
        start.hold(&share, soon()).unwrap();
        assert!(!check.claim(&share), "the start may mount any moment");
        drop(start);
        assert!(check.claim(&share));
        // Who comes now waits until it is let go.
        let late = run();
        let (began, until) = (clock.now(), Deadline::after(&clock, Duration::from_secs(20)));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| late.hold(&share, until));
            std::thread::sleep(Duration::from_millis(200));
            check.release(&share);
            waits.join().unwrap().unwrap();
            assert!(clock.now() - began >= Duration::from_millis(200));
        });
        assert!(!check.claim(&share), "it has begun");
        drop(late);
        assert!(check.claim(&share));
        // But for ever it does not wait: a start is not to fail for that.
        let other = run();
        other.hold(&share, soon()).unwrap();
        assert!(other.holds().is_empty() && !other.claim(&share));
    }

    #[test]
    fn a_tunnel_that_something_is_mounted_through_is_not_ours_to_end() {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let share = encrypted_share(SHARE);
        for (mounted, free) in [
            ("addr=10.0.0.1", true),
            ("port=40001,addr=10.0.0.1", true),
            ("port=40002,addr=127.0.0.1", true),
            ("port=40001,addr=127.0.0.1", false),
        ] {
            let (machine, _listener) = machine(mounted);
            let units = Units::new(machine.path(), &clock, &stop, Path::new("/c"));
            assert_eq!(units.claim(&share), free, "{mounted}");
            assert_eq!(units.holds().is_empty(), !free, "{mounted}");
        }
    }

    #[test]
    fn a_tunnel_of_an_earlier_config_is_not_ended_under_a_mount_or_another_start() {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let share = encrypted_share(SHARE);
        let soon = || Deadline::after(&clock, Duration::from_millis(300));
        let config = Path::new("/c");
        let (mounted, _listener) = machine("port=40001,addr=127.0.0.1");
        let units = Units::new(mounted.path(), &clock, &stop, config);
        assert!(!units.is_current(&share));
        assert_eq!(units.start(&share, None, soon()), Ok(40001));
        assert!(!units.holds().is_empty(), "it counts as used by this run");
        let (machine, _listener) = machine("addr=10.0.0.1");
        let run = || Units::new(machine.path(), &clock, &stop, config);
        let (other, units) = (run(), run());
        other.hold(&share, soon()).unwrap();
        assert_eq!(units.start(&share, None, soon()), Ok(40001));
        drop(other);
        assert!(units.claim(&share), "nobody else uses it now");
    }

    #[test]
    fn a_tunnel_that_does_not_answer_and_has_no_key_yet_is_making_it() {
        let dir = tempfile::tempdir_in("/run").unwrap();
        let share = encrypted_share("");
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let units = Units::new(dir.path(), &clock, &stop, Path::new("/c"));
        let soon = || Deadline::after(&clock, Duration::from_millis(100));
        let (socket, key) = (units.socket(&share), Instance::of(&share.mount_point).key());
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let gone = TunnelError::NoTunnel(Errno::ENOENT);
        assert_eq!(units.status(&share, soon()), Err(gone));
        // It listens, and does not answer.
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(units.status(&share, soon()), Err(TunnelError::MakingKey));
        let failure = TunnelError::MakingKey;
        assert_eq!(units.handshake(&share, soon()), Err(failure));
        fs::write(dir.path().join(key.strip_prefix("/").unwrap()), "key").unwrap();
        let late = TunnelError::NoTunnel(Errno::ETIMEDOUT);
        assert_eq!(units.status(&share, soon()), Err(late.clone()));
        assert_eq!(units.handshake(&share, soon()), Err(late));
    }
}
