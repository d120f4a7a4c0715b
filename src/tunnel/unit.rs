//! How systemd is made to start and to end a tunnel: a socket unit that holds its listeners, and a service behind it.
//! Whether a tunnel is to be started or ended is decided in `units`.

use super::error::named;
use super::instance::Instance;
use super::peer;
use super::port;
use super::run_files::{self, RunFileError};
use crate::config::encryption::RESERVED;
use crate::files;
use crate::programs::{self, OutputLimit, ProgramError};
use crate::retry::Stopped;
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Units that are gone with the next boot. The folder is there if systemd is the init system (sd_booted(3)).
const UNITS: &str = "/run/systemd/system";
/// Where an installed unit may be.
const INSTALLED: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The units' text, for machines where the package is not installed.
const SOCKET_UNIT: &str = include_str!("../../systemd/efs-agent-tunnel@.socket");
const SERVICE_UNIT: &str = include_str!("../../systemd/efs-agent-tunnel@.service");
const SYSTEMCTL: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];
/// A free port may be taken by somebody else before systemd gets it. So many ports are tried.
const PORT_ATTEMPTS: u32 = 3;
/// How long a tunnel is waited for that systemd was asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_millis(300);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How much is kept of what systemctl prints, in bytes.
const LONGEST_MESSAGE: usize = 4096;

/// Why a tunnel cannot be started or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("systemd is not the init system here (no {UNITS})")]
    NoSystemd,
    #[error("no local port can be had: {}", named(*.0))]
    NoPort(Errno),
    #[error(transparent)]
    File(#[from] RunFileError),
    #[error("systemctl is neither in /usr/bin nor in /bin")]
    NoSystemctl,
    #[error("{program} cannot be started: {}", named(*.errno))]
    NotStarted { program: String, errno: Errno },
    /// `command` is what one would type, `said` what it printed.
    #[error("'{command}' failed: {said}")]
    Failed { command: String, said: String },
    /// Another program has the local port that was asked for.
    #[error("port {0} of 127.0.0.1, where it is to listen, is held by another program")]
    PortTaken(u16),
    /// This command did not end in time.
    #[error("'{0}' did not end in time")]
    Late(String),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A tunnel to be started.
#[derive(Debug, Clone, Copy)]
pub struct TunnelUnit<'a> {
    pub mount_point: &'a Path,
    /// The local port; any that is free if `None`.
    pub port: Option<u16>,
    /// Our own executable.
    pub program: &'a Path,
    /// The config file that it reads.
    pub config: &'a Path,
}

/// systemd, on the machine below `root` (`/` outside of tests).
#[derive(Clone, Copy)]
pub struct Systemd<'a> {
    pub root: &'a Path,
}

impl Systemd<'_> {
    /// Whether systemd is the init system here.
    pub fn is_there(&self) -> bool {
        self.below(Path::new(UNITS)).is_dir()
    }

    /// Makes sure that the tunnel's listeners are held, and gives its local port. A tunnel whose listeners are held
    /// already stays as it is, since something may be mounted through it.
    ///
    /// # Errors
    /// See [`UnitError`].
    pub fn start(&self, tunnel: &TunnelUnit<'_>, wait: Wait<'_>) -> Result<u16, UnitError> {
        let instance = Instance::of(tunnel.mount_point);
        if let Some(port) = self.port(&instance) {
            return Ok(port);
        }

        // An earlier version could write down a port that users can take. Such a port is not used again.
        let mut written =
            run_files::written_port(self.root, &instance).filter(|port| *port < RESERVED);
        for attempt in 1..=PORT_ATTEMPTS {
            self.make_way(&instance, wait)?;
            // A start that an earlier run gave up may still be carried out, with the port of that run. So that port is
            // used.
            let port = match tunnel.port.or(written.take()) {
                Some(port) => port,
                None => port::free(self.root).map_err(UnitError::NoPort)?,
            };
            // The port is written first: if this run ends now, a tunnel that still comes up is found by it.
            run_files::write_port(self.root, tunnel.mount_point, port)?;

            let started = self.start_units(&instance, tunnel, port, wait);
            let Err(UnitError::Failed { .. }) = started else {
                return started.map(|()| port);
            };
            if self.is_held(&instance) {
                // It got its port, so another one does not help. Listeners without a tunnel behind them would
                // mislead the next run.
                let _ = self.take_down(&instance, wait);
                return started.map(|()| port);
            }

            // systemd says only that the start has failed, so the port is checked here.
            match tunnel.port {
                Some(_) if is_taken(port) => return Err(UnitError::PortTaken(port)),
                None if attempt < PORT_ATTEMPTS => {}
                _ => return started.map(|()| port),
            }
        }
        Err(UnitError::NoPort(Errno::EADDRINUSE))
    }

    /// Ends a tunnel whose port is not known, since another start would not change its port.
    fn make_way(&self, instance: &Instance, wait: Wait<'_>) -> Result<(), UnitError> {
        if !self.is_held(instance) {
            return Ok(());
        }
        self.take_down(instance, wait)?;
        match self.is_held(instance) {
            true => Err(UnitError::Late(format!("stop {}", instance.unit("socket")))),
            false => Ok(()),
        }
    }

    /// The local port of a tunnel whose listeners are held.
    pub fn port(&self, instance: &Instance) -> Option<u16> {
        let port = run_files::written_port(self.root, instance)?;
        self.is_held(instance).then_some(port)
    }

    /// Whether anybody listens at the control socket.
    fn is_held(&self, instance: &Instance) -> bool {
        // EAGAIN: its queue is full.
        matches!(sys::connect_unix(&self.below(&instance.socket())), Ok(_) | Err(Errno::EAGAIN))
    }

    /// Ends a tunnel, if it is there. Nothing must be mounted through it.
    ///
    /// # Errors
    /// See [`UnitError`].
    pub fn end(&self, mount_point: &Path, wait: Wait<'_>) -> Result<(), UnitError> {
        let instance = Instance::of(mount_point);
        if files::absent(self.root, &instance.port()) && !self.is_held(&instance) {
            return Ok(());
        }
        self.take_down(&instance, wait)
    }

    fn take_down(&self, instance: &Instance, wait: Wait<'_>) -> Result<(), UnitError> {
        let [socket, service] = ["socket", "service"].map(|kind| instance.unit(kind));
        if self.is_held(instance) || self.drop_in(&socket).exists() {
            if !self.is_there() {
                return Err(UnitError::NoSystemd);
            }
            // The end is not waited for: while efs-agent.service itself is stopped, systemd stops these units after it.
            self.systemctl(&["stop", "--no-block", &socket, &service], wait)?;
            self.see_it_go(instance, wait.within(STOP_TIMEOUT))?;
            for unit in [&socket, &service] {
                // If a drop-in stays, the next start writes it anew.
                let _ = fs::remove_dir_all(self.drop_in(unit));
            }
        } else {
            let _ = fs::remove_file(self.below(&instance.socket()));
        }
        let _ = fs::remove_file(self.below(&instance.port()));
        Ok(())
    }

    /// Waits until nobody listens at the control socket any more.
    fn see_it_go(&self, instance: &Instance, wait: Wait<'_>) -> Result<(), Stopped> {
        let socket = self.below(&instance.socket());
        while sys::connect_unix(&socket).is_ok() && !wait.passed() {
            wait.clock.wait(POLL_INTERVAL)?;
        }
        Ok(())
    }

    fn start_units(
        &self,
        instance: &Instance,
        tunnel: &TunnelUnit<'_>,
        port: u16,
        wait: Wait<'_>,
    ) -> Result<(), UnitError> {
        if !self.is_there() {
            return Err(UnitError::NoSystemd);
        }
        for (name, text) in
            [("efs-agent-tunnel@.socket", SOCKET_UNIT), ("efs-agent-tunnel@.service", SERVICE_UNIT)]
        {
            let mut places = INSTALLED.iter().map(|folder| Path::new(folder).join(name));
            if !places.any(|place| self.below(&place).exists()) {
                self.write_unit(name, text)?;
            }
        }

        let [socket, service] = ["socket", "service"].map(|kind| instance.unit(kind));
        let listeners = socket_drop_in(port, &instance.socket());
        self.write_unit(&format!("{socket}.d/port.conf"), &listeners)?;
        self.write_unit(&format!("{service}.d/run.conf"), &service_drop_in(tunnel))?;
        run_files::make_folder(self.root)?;

        self.systemctl(&["daemon-reload"], wait)?;
        // Both are started, since a socket unit alone would leave a failed service as it is.
        self.systemctl(&["start", &socket, &service], wait)
    }

    fn write_unit(&self, name: &str, text: &str) -> Result<(), RunFileError> {
        run_files::write(self.root, &Path::new(UNITS).join(name), text, 0o644)
    }

    fn drop_in(&self, unit: &str) -> PathBuf {
        self.below(Path::new(UNITS)).join(format!("{unit}.d"))
    }

    fn systemctl(&self, args: &[&str], wait: Wait<'_>) -> Result<(), UnitError> {
        let mut places = SYSTEMCTL.iter().map(|path| self.below(Path::new(path)));
        let program = places.find(|path| path.exists()).ok_or(UnitError::NoSystemctl)?;
        let mut command = programs::bare(program);
        command.env("LC_ALL", "C").args(["--no-ask-password", "--no-pager"]).args(args);
        run(command, wait)
    }

    fn below(&self, path: &Path) -> PathBuf {
        files::below(self.root, path)
    }
}

/// Runs a program until it ends. What it prints counts only if it fails.
fn run(command: Command, wait: Wait<'_>) -> Result<(), UnitError> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let words = words.join(" ");

    let limit = OutputLimit::Drop(LONGEST_MESSAGE);
    match programs::run(command, limit, wait) {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => {
            let said = [&ended.output, &ended.errors].map(|bytes| String::from_utf8_lossy(bytes));
            let said: Vec<&str> = said.iter().flat_map(|text| text.split_whitespace()).collect();
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

/// Whether somebody has this local port.
fn is_taken(port: u16) -> bool {
    TcpListener::bind((peer::LOCAL, port)).is_err_and(|e| e.kind() == ErrorKind::AddrInUse)
}

/// The port is chosen by us, since systemd takes no port 0.
fn socket_drop_in(port: u16, control: &Path) -> String {
    format!(
        "# Written by efs-agent at the start of this tunnel.\n[Socket]\nListenStream=\n\
         ListenStream={}:{port}\nListenStream={}\n",
        peer::LOCAL,
        control.display().to_string().replace('%', "%%")
    )
}

fn service_drop_in(tunnel: &TunnelUnit<'_>) -> String {
    format!(
        "# Written by efs-agent at the start of this tunnel.\n[Service]\nExecStart=\n\
         ExecStart={} tunnel {} --config {}\n",
        quoted_word(tunnel.program),
        quoted_word(tunnel.mount_point),
        quoted_word(tunnel.config)
    )
}

/// One word of a command line in a unit (systemd.service(5), COMMAND LINES).
fn quoted_word(path: &Path) -> String {
    let mut word = String::new();
    let mut is_plain = true;
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' => word.push_str("%%"),
            b'$' => word.push_str("$$"),
            byte if byte.is_ascii_alphanumeric() || b"/._-+:,@".contains(byte) => {
                word.push(char::from(*byte));
            }
            byte => {
                is_plain = false;
                let _ = write!(word, "\\x{byte:02x}");
            }
        }
    }
    if is_plain { word } else { format!("\"{word}\"") }
}

#[cfg(test)]
mod tests;
