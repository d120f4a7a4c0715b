//! How a tunnel is started, found and ended: a socket unit of systemd's that holds its listeners, and a
//! service behind it. The units carry the name of the mount point. Where there is no systemd, the program
//! itself keeps a tunnel, and is started here all the same.

use super::port;
use super::protocol::{self, TunnelError, named};
use crate::aws::ENVIRONMENT;
use crate::config::encryption::RESERVED;
use crate::files::{self, Like, ReplaceError, Version};
use crate::programs::{self, OutputLimit, ProgramError};
use crate::retry::{Clock, Deadline, Span, Stopped};
use crate::stop::Stop;
use crate::sys;
use crate::text::hex;
use crate::wait::Wait;
use aws_lc_rs::digest::{SHA256, digest};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where tunnels keep what is theirs: sockets, keys, ports.
pub const FOLDER: &str = "/run/efs-agent/tunnel";
/// Where units live that are gone with the next boot.
const UNITS: &str = "/run/systemd/system";
/// Where an installed unit may be.
const INSTALLED: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The units' own text, for machines where none is installed.
const SOCKET_UNIT: &str = include_str!("../../systemd/efs-agent-tunnel@.socket");
const SERVICE_UNIT: &str = include_str!("../../systemd/efs-agent-tunnel@.service");
const SYSTEMCTL: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];
/// The path of a local socket has room for 107 bytes, of which 80 are left for a name.
const LONGEST_NAME: usize = 80;
/// A port that somebody else was given between our look and systemd's is tried so often.
const PORTS: u32 = 3;
/// How long a tunnel that is to end is waited for, and how often it is looked at.
const FAREWELL: Duration = Duration::from_millis(300);
const BETWEEN: Duration = Duration::from_millis(20);
/// A tunnel that is to end has so long, at most, to say so, and as long again once it is told by SIGTERM.
const ASKED: Duration = Duration::from_secs(2);
/// How many bytes of each output of a program that failed are repeated.
const LONGEST_MESSAGE: usize = 2000;

/// Why a tunnel cannot be started or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The kernel has no local port to give.
    #[error("no local port can be had: {}", named(*.0))]
    NoPort(Errno),
    /// A file that it needs cannot be written.
    #[error("{} {why}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// systemd is there, but its tool is not.
    #[error("systemctl is neither in /usr/bin nor in /bin")]
    NoSystemctl,
    /// A program cannot be started.
    #[error("{program} cannot be started: {}", named(*.errno))]
    NotStarted {
        /// Which one.
        program: String,
        /// Why.
        errno: Errno,
    },
    /// A program failed.
    #[error("'{command}' failed: {said}")]
    Failed {
        /// As one would type it.
        command: String,
        /// What it said.
        said: String,
    },
    /// Another program has the local port that was asked for.
    #[error("port {0} of 127.0.0.1, where it is to listen, is held by another program")]
    PortTaken(u16),
    /// A program did not end in time.
    #[error("'{0}' did not end in time")]
    Late(String),
    /// The run was told to end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The names of one tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance(String);

impl Instance {
    /// Of the tunnel for what is mounted on `mount_point`: the name that systemd would give a mount unit,
    /// if a socket's path has room for it.
    pub fn of(mount_point: &Path) -> Self {
        let name = escaped(mount_point);
        if name.len() <= LONGEST_NAME {
            return Self(name);
        }
        let hash = digest(&SHA256, mount_point.as_os_str().as_bytes());
        let mut short: String = name.chars().take(LONGEST_NAME - 17).collect();
        short.push('-');
        short.push_str(&hex(hash.as_ref().get(..8).unwrap_or_default()));
        Self(short)
    }

    fn file(&self, kind: &str) -> PathBuf {
        Path::new(FOLDER).join(format!("{}.{kind}", self.0))
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    /// The RSA key.
    pub fn key(&self) -> PathBuf {
        self.file("key")
    }

    /// The file that holds the number of the local port.
    pub fn port(&self) -> PathBuf {
        self.file("port")
    }

    /// The unit of this kind, "socket" or "service".
    pub fn unit(&self, kind: &str) -> String {
        format!("efs-agent-tunnel@{}.{kind}", self.0)
    }
}

/// What `systemd-escape --path` makes of a path.
pub(crate) fn escaped(path: &Path) -> String {
    let mut name = String::new();
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    for part in parts.filter(|part| !part.is_empty()) {
        if !name.is_empty() {
            name.push('-');
        }
        for byte in part {
            let plain = byte.is_ascii_alphanumeric()
                || matches!(byte, b':' | b'_')
                || *byte == b'.' && !name.is_empty();
            if plain {
                name.push(char::from(*byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    if name.is_empty() { "-".into() } else { name }
}

/// The path that [`escaped`] made this name of, if it did.
fn unescaped(name: &str) -> PathBuf {
    let mut path = vec![b'/'];
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = match (first, tail) {
            (b'\\', [b'x', high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
        path.push(code.unwrap_or(if *first == b'-' { b'/' } else { *first }));
    }
    PathBuf::from(OsString::from_vec(path))
}

/// What it takes to start or end a tunnel.
#[derive(Clone, Copy)]
pub struct Keeper<'a> {
    /// `/` outside of tests.
    pub root: &'a Path,
    /// The clock.
    pub clock: &'a dyn Clock,
    /// The signals.
    pub stop: &'a Stop,
}

/// What a tunnel is to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Whose it is.
    pub mount_point: &'a Path,
    /// The local port; none: whichever is free.
    pub port: Option<u16>,
    /// Our own executable.
    pub program: &'a Path,
    /// The config file that it reads.
    pub config: &'a Path,
    /// Whether AWS's environment variables count for it. Those of this process are handed on to one that
    /// this process starts itself; systemd starts its services with those of their units.
    pub aws_environment: bool,
}

/// A process of a tunnel that systemd does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Holds the listeners.
    Keeper,
    /// Carries the data.
    Relay,
}

impl Part {
    fn kind(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::Relay => "relay",
        }
    }

    /// Has others know, for as long as the file is open, that this process is it, and no child of it: by a lock
    /// on a file of root's, which the kernel tells the owner of. (A process id that is written down, or a
    /// command line, anybody can have.)
    ///
    /// # Errors
    /// The errno of open(2) or fcntl(2): EAGAIN where another process is it.
    pub fn be(self, root: &Path, mount_point: &Path) -> Result<File, Errno> {
        let errno = |e: std::io::Error| sys::errno_of(&e);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let path = below(root, &Instance::of(mount_point).file(self.kind()));
        let file = options.custom_flags(libc::O_NOFOLLOW).open(path).map_err(errno)?;
        fcntl(&file, FcntlArg::F_SETLK(&whole(libc::F_WRLCK)))?;
        Ok(file)
    }
}

/// A lock of a whole file.
fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// That a tunnel is used, for as long as this is kept: a lock that many can have.
pub struct Hold(Flock<File>);

impl Hold {
    /// Whether nobody else has one. If so, nobody gets one as long as this is kept; if not, this one counts
    /// for nothing any more.
    pub fn is_ours_alone(&self) -> bool {
        self.0.relock(FlockArg::LockExclusiveNonblock).is_ok()
    }
}

impl Keeper<'_> {
    /// Makes sure that the tunnel's listeners are held, and tells its local port. One that is held
    /// already stays as it is: a mount may hang on it.
    ///
    /// # Errors
    /// See [`UnitError`].
    pub fn start(&self, wanted: &Wanted<'_>, until: Deadline) -> Result<u16, UnitError> {
        let instance = Instance::of(wanted.mount_point);
        if let Some(port) = self.port(&instance) {
            return Ok(port);
        }
        // One of an earlier version may be anybody's.
        let mut written = self.written_port(&instance).filter(|port| *port < RESERVED);
        for tries in 1..=PORTS {
            // Whatever holds it now holds a port that nobody knows: to start it again would change
            // nothing of that.
            if self.is_held(&instance) {
                self.take_down(wanted.mount_point, until)?;
                if self.is_held(&instance) {
                    return Err(UnitError::Late(format!("stop {}", instance.unit("socket"))));
                }
            }
            // A start that was given up may still be carried out: then it is with the port of then.
            let port = match wanted.port.or(written.take()) {
                Some(port) => port,
                None => port::free(self.root).map_err(UnitError::NoPort)?,
            };
            // First: whenever we are ended, what is held is held where this says.
            write_port(self.root, wanted.mount_point, port)?;
            let started = match self.has_systemd() {
                true => self.start_units(&instance, wanted, port, until),
                false => self.start_detached(wanted, port, until),
            };
            match started {
                // The port was had, so another one mends nothing; and listeners without a tunnel would be
                // taken for one by whoever comes next.
                Err(failed @ UnitError::Failed { .. }) if self.is_held(&instance) => {
                    let _ = self.take_down(wanted.mount_point, until);
                    return Err(failed);
                }
                Err(UnitError::Failed { .. }) if wanted.port.is_none() && tries < PORTS => {}
                // systemd says no more than that it has failed.
                Err(UnitError::Failed { .. }) if wanted.port.is_some() && is_taken(port) => {
                    return Err(UnitError::PortTaken(port));
                }
                other => return other.map(|()| port),
            }
        }
        Err(UnitError::NoPort(Errno::EADDRINUSE))
    }

    /// The local port of a tunnel whose listeners are held now.
    pub fn port(&self, instance: &Instance) -> Option<u16> {
        let port = self.written_port(instance)?;
        self.is_held(instance).then_some(port)
    }

    /// The mount points of all tunnels that were started, whatever has become of them; not of those whose name
    /// had to be cut short.
    pub fn all(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(self.below(Path::new(FOLDER))).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let points = names.filter_map(|name| {
            let name = name.strip_suffix(".port")?;
            let point = unescaped(name);
            (Instance::of(&point).0 == name).then_some(point)
        });
        points.collect()
    }

    /// The local port that a tunnel was started with, or was to be.
    fn written_port(&self, instance: &Instance) -> Option<u16> {
        let place = files::find(self.root, &instance.port()).ok()?;
        let file = place.open().ok()??;
        place.trust(Some(&file)).ok()?;
        String::from_utf8(files::contents(&file).ok()?).ok()?.trim().parse().ok()
    }

    /// Whether anybody listens for questions.
    fn is_held(&self, instance: &Instance) -> bool {
        // Its queue is full, so there is one.
        matches!(sys::connect_unix(&self.below(&instance.socket())), Ok(_) | Err(Errno::EAGAIN))
    }

    /// Has whoever would end the tunnel know that somebody uses it, or is about to. Somebody who is ending
    /// it just now is waited for until `until`; then, and where no lock can be had, there is none.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn hold(&self, mount_point: &Path, until: Deadline) -> Result<Option<Hold>, Stopped> {
        let path = self.below(&Instance::of(mount_point).file("lock"));
        if folder(self.root, Path::new(FOLDER), 0o700).is_err() {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let Ok(mut file) = options.custom_flags(libc::O_NOFOLLOW).open(path) else {
            return Ok(None);
        };
        loop {
            match Flock::lock(file, FlockArg::LockSharedNonblock) {
                Ok(lock) => return Ok(Some(Hold(lock))),
                Err((again, Errno::EAGAIN)) if !until.passed(self.clock) => file = again,
                Err(_) => return Ok(None),
            }
            self.clock.wait(BETWEEN)?;
        }
    }

    /// Whether a tunnel is there that nobody would start again: the process of ours that held its
    /// listeners has ended (killed, since it takes the tunnel with it otherwise), and the tunnel goes on.
    pub fn is_orphan(&self, mount_point: &Path) -> bool {
        let instance = Instance::of(mount_point);
        !self.has_units(&instance)
            && self.is_held(&instance)
            && self.lock(&instance, Part::Keeper).is_none()
    }

    /// Has this run be the only one that looks for a tunnel and starts it, until what this gives is closed. Another one
    /// is waited for until `until`; then, and where no lock can be had, there is none.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn alone(&self, mount_point: &Path, until: Deadline) -> Result<Option<File>, Stopped> {
        if folder(self.root, Path::new(FOLDER), 0o700).is_err() {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let path = self.below(&Instance::of(mount_point).file("starting"));
        let Ok(file) = options.custom_flags(libc::O_NOFOLLOW).open(path) else {
            return Ok(None);
        };
        while sys::lock_now(&file).is_err() {
            if until.passed(self.clock) {
                return Ok(None);
            }
            self.clock.wait(BETWEEN)?;
        }
        Ok(Some(file))
    }

    /// Whether it was started by systemd's units. Otherwise it was by hand, or there is no systemd: a process
    /// of ours holds the listeners then.
    fn has_units(&self, instance: &Instance) -> bool {
        self.has_systemd() && self.drop_in(&instance.unit("socket")).exists()
    }

    fn drop_in(&self, unit: &str) -> PathBuf {
        self.below(Path::new(UNITS)).join(format!("{unit}.d"))
    }

    /// The process that is this part of a tunnel of ours, by its lock, if it has a number here.
    fn process(&self, instance: &Instance, part: Part) -> Option<Pid> {
        // 0: it is outside of our PID name space.
        self.lock(instance, part).filter(|pid| *pid > 0).map(Pid::from_raw)
    }

    /// The number of whoever has the lock of that part, if anybody has.
    fn lock(&self, instance: &Instance, part: Part) -> Option<i32> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(self.below(&instance.file(part.kind()))).ok()?;
        let mut lock = whole(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
        (lock.l_type != libc::F_UNLCK as libc::c_short).then_some(lock.l_pid)
    }

    /// Ends a tunnel, if it is there. Nothing must be mounted through it.
    ///
    /// # Errors
    /// See [`UnitError`].
    pub fn end(&self, mount_point: &Path, until: Deadline) -> Result<(), UnitError> {
        let instance = Instance::of(mount_point);
        if files::absent(self.root, &instance.port()) && !self.is_held(&instance) {
            return Ok(());
        }
        self.take_down(mount_point, until)
    }

    fn take_down(&self, mount_point: &Path, until: Deadline) -> Result<(), UnitError> {
        let instance = &Instance::of(mount_point);
        let socket = self.below(&instance.socket());
        let units = [instance.unit("socket"), instance.unit("service")];
        if self.has_units(instance) {
            // Not waited for: while efs-agent.service is stopped itself, these come only after it.
            self.systemctl(&["stop", "--no-block", &units[0], &units[1]], until)?;
            self.see_it_go(instance, until.within(self.clock, FAREWELL))?;
            for unit in &units {
                // What stays is written anew by the next start.
                let _ = fs::remove_dir_all(self.drop_in(unit));
            }
        } else {
            let until = until.within(self.clock, Duration::from_secs(5));
            // Its parts: to be asked, to be told, and to be gone.
            let part = ASKED.min(until.left(self.clock).part(3));
            let asked = until.within(self.clock, part);
            match protocol::end(&socket, asked, self.clock, self.stop) {
                Ok(()) => {}
                Err(TunnelError::Stopped(stopped)) => return Err(stopped.into()),
                // It is not there, or has gone before it could say so; or it cannot begin, and is
                // started again and again by whom we end; or it hangs.
                Err(_) => {
                    self.tell(mount_point, Signal::SIGTERM);
                    self.see_it_go(instance, until.within(self.clock, part))?;
                    if self.is_held(instance) {
                        self.tell(mount_point, Signal::SIGKILL);
                    }
                }
            }
            // What holds its listeners takes the socket away, and must not do so when it is another's.
            self.see_it_go(instance, until)?;
            if self.is_held(instance) {
                // Whatever it was asked, or was to have been told by: nothing else ends it.
                self.tell(mount_point, Signal::SIGKILL);
                self.see_it_go(instance, Deadline::after(self.clock, ASKED))?;
            }
            let _ = fs::remove_file(socket);
        }
        let _ = fs::remove_file(self.below(&instance.port()));
        Ok(())
    }

    /// Sends a signal to the processes of ours that are the tunnel.
    fn tell(&self, mount_point: &Path, signal: Signal) {
        let instance = Instance::of(mount_point);
        for part in [Part::Keeper, Part::Relay] {
            let Some(pid) = self.process(&instance, part) else {
                continue;
            };
            let held = sys::hold_process(pid);
            // Held by now, its number is nobody else's. Before Linux 5.3 the time in between must do.
            if self.process(&instance, part) == Some(pid) {
                let _ = match held {
                    Some(held) => sys::signal_held(held.as_fd(), signal),
                    None => kill(pid, signal),
                };
            }
        }
    }

    /// Waits until nobody listens for questions any more, or `until`.
    fn see_it_go(&self, instance: &Instance, until: Deadline) -> Result<(), Stopped> {
        let socket = self.below(&instance.socket());
        while sys::connect_unix(&socket).is_ok() && !until.passed(self.clock) {
            self.clock.wait(BETWEEN)?;
        }
        Ok(())
    }

    fn below(&self, path: &Path) -> PathBuf {
        below(self.root, path)
    }

    /// As sd_booted(3) tells.
    fn has_systemd(&self) -> bool {
        self.below(Path::new(UNITS)).is_dir()
    }

    fn start_units(
        &self,
        instance: &Instance,
        wanted: &Wanted<'_>,
        port: u16,
        until: Deadline,
    ) -> Result<(), UnitError> {
        let units = Path::new(UNITS);
        for (name, text) in
            [("efs-agent-tunnel@.socket", SOCKET_UNIT), ("efs-agent-tunnel@.service", SERVICE_UNIT)]
        {
            let mut places = INSTALLED.iter().map(|folder| Path::new(folder).join(name));
            if !places.any(|place| self.below(&place).exists()) {
                write(self.root, &units.join(name), text.as_bytes(), 0o644)?;
            }
        }
        let (socket, service) = (instance.unit("socket"), instance.unit("service"));
        let port_text = socket_drop_in(port, &instance.socket());
        let run = service_drop_in(wanted);
        write(
            self.root,
            &units.join(format!("{socket}.d/port.conf")),
            port_text.as_bytes(),
            0o644,
        )?;
        write(self.root, &units.join(format!("{service}.d/run.conf")), run.as_bytes(), 0o644)?;
        folder(self.root, Path::new(FOLDER), 0o700)?;
        self.systemctl(&["daemon-reload"], until)?;
        // One that failed before its listeners were held is left as failed.
        self.systemctl(&["start", &socket, &service], until)
    }

    fn start_detached(
        &self,
        wanted: &Wanted<'_>,
        port: u16,
        until: Deadline,
    ) -> Result<(), UnitError> {
        folder(self.root, Path::new(FOLDER), 0o700)?;
        let mut command = bare(wanted.program);
        if wanted.aws_environment {
            let ours = std::env::vars_os();
            command
                .envs(ours.filter(|(name, _)| name.as_bytes().starts_with(ENVIRONMENT.as_bytes())));
        }
        command.arg("tunnel").arg(wanted.mount_point).arg("--config").arg(wanted.config);
        command.args(["--detach", &port.to_string()]);
        self.run(command, until)
    }

    fn systemctl(&self, args: &[&str], until: Deadline) -> Result<(), UnitError> {
        let found = SYSTEMCTL.iter().find(|path| self.below(Path::new(path)).exists());
        let mut command = bare(Path::new(found.ok_or(UnitError::NoSystemctl)?));
        command.args(["--no-ask-password", "--no-pager"]).args(args);
        self.run(command, until)
    }

    /// Runs a program, and waits for its end until `until`.
    fn run(&self, command: Command, until: Deadline) -> Result<(), UnitError> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let words = words.join(" ");
        let limit = OutputLimit::Drop(LONGEST_MESSAGE);
        match programs::run(command, limit, Wait { until, clock: self.clock, stop: self.stop }) {
            Ok(ended) if ended.status.success() => Ok(()),
            Ok(ended) => {
                let said =
                    [&ended.output, &ended.errors].map(|bytes| String::from_utf8_lossy(bytes));
                let said: Vec<&str> =
                    said.iter().flat_map(|text| text.split_whitespace()).collect();
                let said = if said.is_empty() { ended.status.to_string() } else { said.join(" ") };
                Err(UnitError::Failed { command: words, said })
            }
            Err(ProgramError::NotStarted(errno)) => {
                Err(UnitError::NotStarted { program: words, errno })
            }
            Err(ProgramError::Stopped(stopped)) => Err(stopped.into()),
            Err(ProgramError::Late(_) | ProgramError::TooMuchOutput | ProgramError::NoStatus) => {
                Err(UnitError::Late(words))
            }
        }
    }
}

/// Writes down the local port of the tunnel for `mount_point`.
///
/// # Errors
/// [`UnitError::File`].
pub fn write_port(root: &Path, mount_point: &Path, port: u16) -> Result<(), UnitError> {
    write(root, &Instance::of(mount_point).port(), format!("{port}\n").as_bytes(), 0o600)
}

fn below(root: &Path, path: &Path) -> PathBuf {
    files::below(root, path)
}

fn folder(root: &Path, path: &Path, mode: u32) -> Result<(), UnitError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(below(root, path));
    made.map_err(|e| UnitError::File {
        path: path.to_owned(),
        why: format!("cannot be made: {}", named(sys::errno_of(&e))),
    })
}

/// Writes a file that root alone may change, whole; nothing is done where it is there like that.
fn write(root: &Path, path: &Path, text: &[u8], mode: u32) -> Result<(), UnitError> {
    let failed = |why: String| UnitError::File { path: path.to_owned(), why };
    let above = path.parent().unwrap_or(path);
    folder(root, above, if above == Path::new(FOLDER) { 0o700 } else { 0o755 })?;
    let place = files::find(root, path).map_err(|e| failed(e.to_string()))?;
    let open = place.folder().map_err(|e| failed(named(e)))?;
    let file = place.open().map_err(|e| failed(e.to_string()))?;
    place.trust(file.as_ref()).map_err(|fault| {
        failed(format!("cannot be trusted: {} {}", fault.path.display(), fault.why))
    })?;
    if let Some(file) = &file
        && files::contents(file).is_ok_and(|bytes| bytes == text)
    {
        return Ok(());
    }
    let version = file.as_ref().and_then(|file| Version::read(file).ok());
    let replaced = place.replace(&open, text, &Like::root(mode), version);
    replaced.map_err(|e| failed(not_replaced(e)))
}

/// A program with nothing of ours in its environment.
fn bare(program: &Path) -> Command {
    let mut command = programs::bare(program);
    command.env("LC_ALL", "C");
    command
}

/// Whether somebody has this local port.
fn is_taken(port: u16) -> bool {
    TcpListener::bind((super::peer::LOCAL, port)).is_err_and(|e| e.kind() == ErrorKind::AddrInUse)
}

/// Why a file was not written, to be put behind its name.
pub(super) fn not_replaced(error: ReplaceError) -> String {
    match error {
        ReplaceError::Changed => "was changed by somebody else just now".into(),
        ReplaceError::Failed(verb, errno) => format!("failed: cannot {verb} it: {}", named(errno)),
        ReplaceError::Unsynced(errno) => {
            format!("is written, but not for certain: {}", named(errno))
        }
    }
}

/// The port is written down here: systemd takes no port 0.
fn socket_drop_in(port: u16, control: &Path) -> String {
    format!(
        "# Written by efs-agent at the start of this tunnel.\n[Socket]\nListenStream=\n\
         ListenStream={}:{port}\nListenStream={}\n",
        super::peer::LOCAL,
        control.display().to_string().replace('%', "%%")
    )
}

fn service_drop_in(wanted: &Wanted<'_>) -> String {
    format!(
        "# Written by efs-agent at the start of this tunnel.\n[Service]\nExecStart=\n\
         ExecStart={} tunnel {} --config {}\n",
        word(wanted.program),
        word(wanted.mount_point),
        word(wanted.config)
    )
}

/// One word of a command line in a unit (systemd.service(5), COMMAND LINES).
fn word(path: &Path) -> String {
    let mut word = String::new();
    let mut plain = true;
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' => word.push_str("%%"),
            b'$' => word.push_str("$$"),
            byte if byte.is_ascii_alphanumeric() || b"/._-+:,@".contains(byte) => {
                word.push(char::from(*byte));
            }
            byte => {
                plain = false;
                let _ = write!(word, "\\x{byte:02x}");
            }
        }
    }
    if plain { word } else { format!("\"{word}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::SystemClock;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::process::Stdio;
    use std::time::Instant;

    #[test]
    fn names_are_those_that_systemd_gives() {
        // As systemd-escape --path of 252 has them.
        for (path, name) in [
            ("/mnt/efs_share", "mnt-efs_share"),
            ("/", "-"),
            ("/mnt/a-b", "mnt-a\\x2db"),
            ("/mnt//a b/.c/ä", "mnt-a\\x20b-.c-\\xc3\\xa4"),
            ("/.a", "\\x2ea"),
            ("/a\\b:c", "a\\x5cb:c"),
        ] {
            assert_eq!(escaped(Path::new(path)), name);
            if path != "/" {
                assert_eq!(unescaped(name), Path::new(&path.replace("//", "/")));
            }
        }
        let instance = Instance::of(Path::new("/mnt/efs_share"));
        assert_eq!(instance.socket(), Path::new("/run/efs-agent/tunnel/mnt-efs_share.sock"));
        assert_eq!(instance.unit("socket"), "efs-agent-tunnel@mnt-efs_share.socket");
    }

    #[test]
    fn a_name_that_is_too_long_for_a_socket_is_cut_and_still_its_own() {
        let long = |end: &str| Instance::of(Path::new(&format!("/{}{end}", "x".repeat(200))));
        assert_eq!(long("a").0.len(), LONGEST_NAME);
        assert!(long("a").socket().as_os_str().len() < 108);
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
    }

    #[test]
    fn a_command_line_is_quoted_as_units_want_it() {
        for (path, expected) in [
            ("/usr/sbin/efs-agent", "/usr/sbin/efs-agent"),
            ("/a b", "\"/a\\x20b\""),
            ("/100%/$x", "/100%%/$$x"),
            ("/a\"b\\c\n", "\"/a\\x22b\\x5cc\\x0a\""),
        ] {
            assert_eq!(word(Path::new(path)), expected);
        }
    }

    /// A machine whose systemctl is a script of the test's.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(systemd: bool) -> Self {
            let dir = tempfile::tempdir_in("/run").unwrap();
            for folder in ["run", "usr/bin", "usr/lib/systemd/system"] {
                fs::create_dir_all(dir.path().join(folder)).unwrap();
            }
            if systemd {
                fs::create_dir_all(dir.path().join("run/systemd/system")).unwrap();
            }
            Self(dir)
        }

        fn keep<T>(&self, f: impl FnOnce(Keeper<'_>, Deadline) -> T) -> T {
            let stop = Stop::install().unwrap();
            let clock = SystemClock::new(Instant::now(), &stop);
            let until = Deadline::after(&clock, Duration::from_secs(2));
            f(Keeper { root: self.0.path(), clock: &clock, stop: &stop }, until)
        }

        fn run(&self, script: &str) -> Result<(), UnitError> {
            let mut command = bare(Path::new("/bin/sh"));
            command.args(["-c", script]);
            self.keep(|keeper, until| keeper.run(command, until))
        }
    }

    #[test]
    fn a_program_is_heard_out_and_its_words_told_when_it_fails() {
        let machine = Machine::new(false);
        assert_eq!(machine.run("exit 0"), Ok(()));
        let failed = |said: &str, script: &str| {
            let command = format!("/bin/sh -c {script}");
            Err(UnitError::Failed { command, said: said.into() })
        };
        let script = "echo one; echo 'two  three' >&2; exit 3";
        assert_eq!(machine.run(script), failed("one two three", script));
        assert_eq!(machine.run("exit 3"), failed("exit status: 3", "exit 3"));
        let script = "test -z \"$HOME$USER\" && exit 4";
        assert_eq!(machine.run(script), failed("exit status: 4", script));
        let started = Instant::now();
        let late = machine.run("exec sleep 60");
        assert_eq!(late, Err(UnitError::Late("/bin/sh -c exec sleep 60".into())));
        assert!(started.elapsed() < Duration::from_secs(10));
        // Nor do one that has nothing to say any more and does not end, and one that has no end of it,
        // take longer.
        for script in ["exec >&- 2>&-; exec sleep 60", "exec yes"] {
            let started = Instant::now();
            let late = UnitError::Late(format!("/bin/sh -c {script}"));
            assert_eq!(machine.run(script), Err(late));
            assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        }
        // More words than a pipe holds do not block it.
        assert_eq!(machine.run("yes | head -c 1000000"), Ok(()));
    }

    #[test]
    fn units_are_written_where_none_is_installed_and_drop_ins_always() {
        let machine = Machine::new(true);
        let wanted = Wanted {
            mount_point: Path::new("/mnt/efs_share"),
            port: None,
            program: Path::new("/opt/efs-agent"),
            config: Path::new("/opt/efs-agent.toml"),
            aws_environment: true,
        };
        let instance = Instance::of(wanted.mount_point);
        // There is no systemctl, so it ends behind what is written.
        let start = |m: &Machine| m.keep(|k, until| k.start_units(&instance, &wanted, 2050, until));
        assert_eq!(start(&machine), Err(UnitError::NoSystemctl));
        let units = machine.0.path().join("run/systemd/system");
        let read = |name: &str| fs::read_to_string(units.join(name)).unwrap();
        assert_eq!(read("efs-agent-tunnel@.socket"), SOCKET_UNIT);
        assert_eq!(read("efs-agent-tunnel@.service"), SERVICE_UNIT);
        assert_eq!(
            read("efs-agent-tunnel@mnt-efs_share.socket.d/port.conf"),
            "# Written by efs-agent at the start of this tunnel.\n[Socket]\nListenStream=\n\
             ListenStream=127.0.0.1:2050\n\
             ListenStream=/run/efs-agent/tunnel/mnt-efs_share.sock\n"
        );
        assert_eq!(
            read("efs-agent-tunnel@mnt-efs_share.service.d/run.conf"),
            "# Written by efs-agent at the start of this tunnel.\n[Service]\nExecStart=\n\
             ExecStart=/opt/efs-agent tunnel /mnt/efs_share --config /opt/efs-agent.toml\n"
        );
        let folder = fs::metadata(machine.0.path().join("run/efs-agent/tunnel")).unwrap();
        assert_eq!(folder.permissions().mode() & 0o7777, 0o700);
        let installed = Machine::new(true);
        for name in ["efs-agent-tunnel@.socket", "efs-agent-tunnel@.service"] {
            fs::write(installed.0.path().join("usr/lib/systemd/system").join(name), "").unwrap();
        }
        assert_eq!(start(&installed), Err(UnitError::NoSystemctl));
        let units = installed.0.path().join("run/systemd/system");
        assert!(!units.join("efs-agent-tunnel@.socket").exists());
        assert!(units.join("efs-agent-tunnel@mnt-efs_share.socket.d/port.conf").exists());
    }

    #[test]
    fn whenever_a_start_is_given_up_the_port_that_it_may_still_get_is_written_down() {
        let machine = Machine::new(false);
        let instance = Instance::of(Path::new("/mnt/a"));
        let program = machine.0.path().join("program");
        let ports = machine.0.path().join("ports");
        let written = machine.0.path().join("run/efs-agent/tunnel/mnt-a.port");
        let wanted = Wanted {
            mount_point: Path::new("/mnt/a"),
            port: None,
            program: Path::new("/bin/sh"),
            config: Path::new("/c"),
            aws_environment: false,
        };
        let script = |then: &str| {
            let text =
                format!("#!/bin/sh\ncat {} >> {}\n{then}\n", written.display(), ports.display());
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let start = || {
            let wanted = Wanted { program: &program, ..wanted };
            machine.keep(|keeper, _| {
                let until = Deadline::after(keeper.clock, Duration::from_millis(500));
                keeper.start(&wanted, until)
            })
        };
        let first =
            |n: usize| fs::read_to_string(&ports).unwrap().lines().nth(n).unwrap().to_owned();
        script("exec sleep 60");
        assert!(matches!(start(), Err(UnitError::Late(_))));
        let given_up = first(0);
        // It comes to be after all, or the next start asks for the same.
        script("exit 0");
        assert_eq!(start().unwrap().to_string(), given_up);
        assert_eq!(first(1), given_up);
        // Somebody else has it by now.
        script("test \"$(wc -l < $0.n 2> /dev/null)\" && exit 0; echo > $0.n; exit 1");
        let port = start().unwrap().to_string();
        assert_ne!(port, given_up);
        let socket = machine.0.path().join("run/efs-agent/tunnel/mnt-a.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(machine.keep(|keeper, _| keeper.port(&instance)).unwrap().to_string(), port);
    }

    #[test]
    fn what_fails_although_it_has_its_port_is_told_at_once_and_tried_at_no_other() {
        let machine = Machine::new(false);
        let program = machine.0.path().join("program");
        let socket = machine.0.path().join("run/efs-agent/tunnel/mnt-a.sock");
        // systemd has the listeners, and cannot start what is to answer there.
        let text = "#!/bin/sh\necho >> $0.runs\nwhile [ ! -e $0.held ]; do sleep 0.01; done\n\
                    echo no environment; exit 1\n";
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (runs, held) = (program.with_extension("runs"), program.with_extension("held"));
        let (counted, bound) = (runs.clone(), socket.clone());
        let systemd = std::thread::spawn(move || {
            while !counted.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let listener = UnixListener::bind(bound).unwrap();
            fs::write(held, "").unwrap();
            listener
        });
        let wanted = Wanted {
            mount_point: Path::new("/mnt/a"),
            port: None,
            program: &program,
            config: Path::new("/c"),
            aws_environment: false,
        };
        let started = machine.keep(|keeper, until| keeper.start(&wanted, until));
        let Err(UnitError::Failed { said, .. }) = started else { panic!("{started:?}") };
        assert_eq!(said, "no environment");
        assert_eq!(fs::read_to_string(runs).unwrap().lines().count(), 1);
        drop(systemd.join().unwrap());
    }

    #[test]
    fn a_port_that_another_program_holds_is_told_as_that() {
        let other = TcpListener::bind((super::super::peer::LOCAL, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        // Our own program, as it is without systemd.
        let machine = Machine::new(false);
        let program = machine.0.path().join("program");
        fs::write(&program, "#!/bin/sh\necho no; exit 1\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (mount_point, config) = (Path::new("/mnt/a"), Path::new("/c"));
        let (program, aws_environment) = (program.as_path(), false);
        let wanted = Wanted { mount_point, port: Some(port), program, config, aws_environment };
        let start = || machine.keep(|keeper, until| keeper.start(&wanted, until));
        assert_eq!(start(), Err(UnitError::PortTaken(port)));
        drop(other);
        assert!(matches!(start(), Err(UnitError::Failed { .. })));
        assert_eq!(
            UnitError::PortTaken(2050).to_string(),
            "port 2050 of 127.0.0.1, where it is to listen, is held by another program"
        );
    }

    #[test]
    fn a_process_is_known_as_a_part_of_a_tunnel_by_its_lock_and_by_nothing_that_others_can_have() {
        let machine = Machine::new(false);
        let point = Path::new("/mnt/a");
        let instance = Instance::of(point);
        folder(machine.0.path(), Path::new(FOLDER), 0o700).unwrap();
        let process = |part| machine.keep(|keeper, _| keeper.process(&instance, part));
        assert_eq!(process(Part::Keeper), None);
        // A file alone, whatever is in it, says nothing.
        let file = machine.0.path().join("run/efs-agent/tunnel/mnt-a.keeper");
        fs::write(&file, std::process::id().to_string()).unwrap();
        assert_eq!(process(Part::Keeper), None);
        // A decoy with our own command line: another process has the lock.
        let script = "import fcntl, sys\nf = open(sys.argv[-1], 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint(flush=True)\nsys.stdin.read()";
        let mut other = Command::new("python3")
            .args(["-c", script, "tunnel", "/mnt/a", "--detach", "850"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = [0];
        other.stdout.as_mut().unwrap().read_exact(&mut told).unwrap();
        assert_eq!(process(Part::Keeper), Some(Pid::from_raw(other.id() as i32)));
        assert_eq!(Part::Keeper.be(machine.0.path(), point).unwrap_err(), Errno::EAGAIN);
        assert_eq!(process(Part::Relay), None);
        // It alone gets a signal.
        machine.keep(|keeper, _| keeper.tell(point, Signal::SIGKILL));
        let ended = other.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9));
        assert_eq!(process(Part::Keeper), None);
        assert!(Part::Keeper.be(machine.0.path(), point).is_ok());
    }

    #[test]
    fn under_systemd_too_a_tunnel_that_was_started_by_hand_is_asked_to_end() {
        for (by_units, asked) in [(false, Some("end\n")), (true, None)] {
            let machine = Machine::new(true);
            write_port(machine.0.path(), Path::new("/mnt/a"), 2050).unwrap();
            let units = machine.0.path().join("run/systemd/system");
            if by_units {
                fs::create_dir(units.join("efs-agent-tunnel@mnt-a.socket.d")).unwrap();
            }
            let socket = machine.0.path().join("run/efs-agent/tunnel/mnt-a.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            listener.set_nonblocking(by_units).unwrap();
            let tunnel = std::thread::spawn(move || {
                // Some only look whether anybody is there.
                loop {
                    let (mut stream, _) = listener.accept().ok()?;
                    let mut line = [0; 4];
                    if stream.read_exact(&mut line).is_ok() {
                        let _ =
                            std::io::Write::write_all(&mut stream, protocol::END_LINE.as_bytes());
                        return String::from_utf8(line.to_vec()).ok();
                    }
                }
            });
            let ended = machine.keep(|k, until| k.end(Path::new("/mnt/a"), until));
            match by_units {
                // There is no systemctl.
                true => assert_eq!(ended, Err(UnitError::NoSystemctl)),
                false => assert_eq!(ended, Ok(())),
            }
            assert_eq!(tunnel.join().unwrap().as_deref(), asked);
        }
    }

    #[test]
    fn a_port_counts_as_long_as_the_listener_is_held() {
        let machine = Machine::new(false);
        let instance = Instance::of(Path::new("/mnt/a"));
        let port = |m: &Machine| m.keep(|keeper, _| keeper.port(&instance));
        assert_eq!(port(&machine), None);
        machine.keep(|k, _| write_port(k.root, Path::new("/mnt/a"), 2050)).unwrap();
        assert_eq!(port(&machine), None, "nobody listens");
        let socket = machine.0.path().join("run/efs-agent/tunnel/mnt-a.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(port(&machine), Some(2050));
        drop(listener);
        assert_eq!(port(&machine), None);
        machine.keep(|k, until| k.end(Path::new("/mnt/a"), until)).unwrap();
        assert!(!socket.exists());
        assert!(!machine.0.path().join("run/efs-agent/tunnel/mnt-a.port").exists());
    }
}
