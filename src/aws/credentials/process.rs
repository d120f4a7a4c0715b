//! Runs a program that prints credentials (`credential_process`): by no shell,
//! with next to no environment, for a bounded time and a bounded output, in a
//! process group that is killed and a process that is reaped whatever comes.

use crate::aws::document;
use crate::aws::http::rounded;
use crate::aws::profile::words;
use crate::aws::secret::harmless;
use crate::aws::trust::{below, real};
use crate::aws::types::{Credentials, PATH, Problem, ProcessError};
use crate::aws::world::World;
use crate::files;
use crate::retry::{Deadline, Stopped};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What it may print, in bytes.
const LARGEST: usize = 64 << 10;
/// How often it is looked whether it has ended; its output is waited for.
const LOOK: Duration = Duration::from_millis(20);
/// How long a killed process is waited for.
const REAP: Duration = Duration::from_secs(1);

/// The credentials that the program of `line` prints. `home` is what it gets as HOME.
///
/// # Errors
/// What it did instead.
pub fn run(
    line: &str,
    home: &Path,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, Problem> {
    let words = words(line).map_err(ProcessError::BadLine)?;
    let (program, arguments) = words.split_first().ok_or(ProcessError::BadLine("no word"))?;
    let path = place(program, world.root)?;
    let file = checked(&path, world.root)?;
    let mut command = Command::new(file);
    command
        // Some are one file with many names, and look at which they were called by.
        .arg0(&path)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", home)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let unrunnable = |e: &io::Error| match e.raw_os_error().map_or(Errno::EIO, Errno::from_raw) {
        // It was there a moment ago.
        Errno::ENOENT => ProcessError::NoInterpreter(path.clone()),
        errno => ProcessError::Unrunnable(path.clone(), errno),
    };
    crate::sys::keep_children();
    let child = command.spawn().map_err(|e| unrunnable(&e))?;
    let until = until.within(world.net.clock, PATIENCE);
    let mut group = Group(child);
    let mut output = Pipe::new(group.0.stdout.take().map(OwnedFd::from));
    let mut errors = Pipe::new(group.0.stderr.take().map(OwnedFd::from));
    let end = group.wait(&mut output, &mut errors, world, until);
    let status = group.end(world);
    let status = match (end?, status) {
        (End::Slow(span), _) => return Err(ProcessError::Slow(path, span).into()),
        (End::Large, _) => return Err(ProcessError::Large(path).into()),
        (End::Itself, None) => return Err(ProcessError::Unrunnable(path, Errno::ECHILD).into()),
        (End::Itself, Some(status)) => status,
    };
    if !status.success() {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "did not end".to_owned(),
        };
        let said = String::from_utf8_lossy(&errors.bytes);
        let said = said.lines().rev().map(harmless).find(|line| !line.is_empty());
        let said = said.unwrap_or_default();
        return Err(ProcessError::Failed { path, status: status.code(), how, said }.into());
    }
    let printed = |problem| Problem::Printed { path: path.clone(), problem: Box::new(problem) };
    let version =
        document::Object::parse(&output.bytes).map_err(printed)?.number("Version") == Some("1");
    if !version {
        return Err(ProcessError::Version(path).into());
    }
    let mut credentials = document::credentials(&output.bytes, &[]).map_err(printed)?;
    credentials.source = format!("credential_process {}", path.display());
    Ok(credentials)
}

/// Where a program is. One without a slash is looked for as a shell does, but in folders that are always the
/// same.
fn place(program: &str, root: &Path) -> Result<PathBuf, ProcessError> {
    if program.contains('/') {
        let path = PathBuf::from(program);
        return match path.is_absolute() {
            true => Ok(path),
            false => Err(ProcessError::NotAbsolute(program.to_owned())),
        };
    }
    // One that may not be run is passed over, and told of if there is no other.
    let mut idle = None;
    for path in PATH.split(':').map(|folder| Path::new(folder).join(program)) {
        let file = real(root, &path).and_then(|real| fs::metadata(below(root, &real)).ok());
        match file.filter(fs::Metadata::is_file) {
            Some(file) if file.mode() & 0o111 != 0 => return Ok(path),
            Some(_) => idle = idle.or(Some(path)),
            None => {}
        }
    }
    idle.ok_or_else(|| ProcessError::NotFound { name: program.to_owned(), folders: PATH })
}

/// The file to run: root alone can change it, or its place.
fn checked(path: &Path, root: &Path) -> Result<PathBuf, ProcessError> {
    let unrunnable = |errno| ProcessError::Unrunnable(path.to_owned(), errno);
    let real = real(root, path).ok_or(unrunnable(Errno::ENOENT))?;
    let place = files::find(root, &real).map_err(|_| unrunnable(Errno::EACCES))?;
    let file = place.look().map_err(|_| unrunnable(Errno::EACCES))?;
    place.trust(file.as_ref()).map_err(|fault| ProcessError::Changeable {
        path: path.to_owned(),
        why: format!("{} {}", fault.path.display(), fault.why),
        mend: fault.mend(),
    })?;
    Ok(below(root, &real))
}

/// How it came to an end.
enum End {
    Itself,
    Slow(Duration),
    Large,
}

/// A process that leads a group, all of which ends with this.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        let _ = self.0.try_wait();
    }
}

impl Group {
    /// The number is its own until it is reaped, so that nobody else can be hit.
    fn kill(&self) {
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
    }

    /// Kills what is left of the group and reaps the leader, unless that hangs in the kernel.
    fn end(&mut self, world: &World<'_>) -> Option<ExitStatus> {
        self.kill();
        let until = Deadline::after(world.net.clock, REAP);
        loop {
            match self.0.try_wait() {
                Ok(None) if !until.passed(world.net.clock) => {
                    let pause = Duration::from_millis(1);
                    // Told to end, the run still takes its dead with it.
                    if world.net.clock.wait(pause).is_err() {
                        std::thread::sleep(pause);
                    }
                }
                ended => return ended.ok().flatten(),
            }
        }
    }

    /// Whether the leader has ended. It is not reaped.
    fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(Pid::from_raw(self.0.id() as i32)), flags);
        !matches!(status, Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
    }

    /// Reads what it prints until it ends. What it has left behind, with the pipes still open, is not
    /// waited for.
    fn wait(
        &mut self,
        output: &mut Pipe,
        errors: &mut Pipe,
        world: &World<'_>,
        until: Deadline,
    ) -> Result<End, Stopped> {
        let net = &world.net;
        let started = net.clock.now();
        loop {
            // First: what it printed before it ended is there when this says so.
            let ended = self.has_ended();
            output.read();
            errors.read();
            if output.bytes.len() > LARGEST || errors.bytes.len() > LARGEST {
                return Ok(End::Large);
            }
            if ended {
                return Ok(End::Itself);
            }
            if until.passed(net.clock) {
                let span = net.clock.now().saturating_sub(started);
                return Ok(End::Slow(rounded(span)));
            }
            let fds: Vec<PollFd<'_>> = [&*output, &*errors]
                .into_iter()
                .filter_map(|pipe| pipe.fd.as_ref())
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
                .collect();
            net.stop.poll(&fds, LOOK.min(until.left(net.clock)))?;
        }
    }
}

/// One of its outputs, read without waiting.
struct Pipe {
    fd: Option<OwnedFd>,
    /// Never outgrown, so that it can be wiped.
    bytes: Zeroizing<Vec<u8>>,
}

impl Pipe {
    fn new(fd: Option<OwnedFd>) -> Self {
        // Without it, a read could wait.
        let fd = fd.filter(|fd| fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok());
        Self { fd, bytes: Zeroizing::new(Vec::with_capacity(LARGEST + 4096)) }
    }

    /// Takes in what is there, up to a little more than what it may be.
    fn read(&mut self) {
        let mut chunk = Zeroizing::new([0; 4096]);
        while let Some(fd) = &self.fd {
            match nix::unistd::read(fd, &mut *chunk) {
                Ok(0) => self.fd = None,
                Ok(count) => {
                    self.bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    if self.bytes.len() > LARGEST {
                        return;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => self.fd = None,
            }
        }
    }
}
