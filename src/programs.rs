//! Runs another program and waits for its end, before a deadline. The program gets none of our environment, bounded
//! output, and a separate process group. In every case the group is killed and the program is reaped. The caller
//! chooses the program, and decides what its output or its failure means.

use crate::retry::{Deadline, Span, Stopped};
use crate::sys::{self, errno_of};
use crate::wait::Wait;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use zeroize::Zeroizing;

/// The longest pause before a program is checked for its end. Output ends the pause earlier.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long a killed program is waited for: it may hang in the kernel.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);
/// The first pause before a program is asked again whether it has ended.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const CHUNK: usize = 4096;
/// Chunks that are read from one pipe at a time: more than a pipe holds, so that nothing is left in it.
const CHUNKS: usize = 32;

/// How many bytes of each output are kept, and what becomes of a program that prints more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputLimit {
    /// The rest is read and dropped.
    Drop(usize),
    /// The program is killed.
    Kill(usize),
}

/// A program that has ended by itself.
pub struct Finished {
    pub status: ExitStatus,
    /// Its standard output, which may hold secrets.
    pub output: Zeroizing<Vec<u8>>,
    /// Its standard error, likewise.
    pub errors: Zeroizing<Vec<u8>>,
}

/// Why a program has not ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// The errno of fork(2) or execve(2).
    #[error("cannot be started: {}", .0.desc())]
    NotStarted(Errno),
    /// It was killed after this time.
    #[error("was killed, as it had not ended within {}", humantime::format_duration(*.0))]
    Late(Duration),
    /// It was killed because of [`OutputLimit::Kill`].
    #[error("was killed, as it printed too much")]
    TooMuchOutput,
    /// The kernel did not say how it ended.
    #[error("ended without a status")]
    NoStatus,
    /// A signal ended the run, and the program was killed.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A command for [`run`]: `program` with an empty environment. Arguments and variables may be added.
pub fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command made by [`bare`] until it ends. What it leaves behind in its group is killed then.
///
/// # Errors
/// See [`ProgramError`].
pub fn run(
    mut command: Command,
    limit: OutputLimit,
    wait: Wait<'_>,
) -> Result<Finished, ProgramError> {
    let started = wait.clock.now();
    sys::keep_children();
    let child = command.spawn().map_err(|e| ProgramError::NotStarted(errno_of(&e)))?;

    let mut group = Group(child);
    let mut output = Pipe::new(group.0.stdout.take().map(OwnedFd::from), limit);
    let mut errors = Pipe::new(group.0.stderr.take().map(OwnedFd::from), limit);
    let waited = group.wait_for_end([&mut output, &mut errors], started, wait);
    let status = group.end(wait);

    waited?;
    let status = status.ok_or(ProgramError::NoStatus)?;
    Ok(Finished { status, output: output.bytes, errors: errors.bytes })
}

/// A process that leads a group. All of the group is killed when this is dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        let _ = self.0.try_wait();
    }
}

impl Group {
    /// Kills the group. Until the leader is reaped nobody else can have its number, so nobody else is hit.
    fn kill(&self) {
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
    }

    /// Kills what is left of the group and reaps the leader, unless that hangs in the kernel.
    fn end(&mut self, wait: Wait<'_>) -> Option<ExitStatus> {
        self.kill();
        let wait = wait.with(Deadline::after(wait.clock, REAP_TIMEOUT));
        loop {
            match self.0.try_wait() {
                // A run that a signal ends still reaps its children.
                Ok(None) if !wait.passed() => {
                    if wait.pause(FIRST_PAUSE).is_err() {
                        std::thread::sleep(FIRST_PAUSE);
                    }
                }
                ended => return ended.ok().flatten(),
            }
        }
    }

    /// Whether the leader has ended. It is not reaped yet.
    fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(Pid::from_raw(self.0.id() as i32)), flags);
        !matches!(status, Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
    }

    /// Reads what the group prints until the leader ends. Others may keep the pipes open after that; they are
    /// not waited for.
    fn wait_for_end(
        &self,
        mut pipes: [&mut Pipe; 2],
        started: Duration,
        wait: Wait<'_>,
    ) -> Result<(), ProgramError> {
        let mut pause = FIRST_PAUSE;
        loop {
            // The end is checked before the pipes are read: what was printed before the end is in them by then.
            let ended = self.has_ended();
            for pipe in &mut pipes {
                pipe.read();
            }

            if pipes.iter().any(|pipe| pipe.is_over_its_limit) {
                return Err(ProgramError::TooMuchOutput);
            }
            if ended {
                return Ok(());
            }
            if wait.passed() {
                return Err(ProgramError::Late(wait.clock.now().saturating_sub(started)));
            }

            let fds: Vec<PollFd<'_>> = pipes
                .iter()
                .filter_map(|pipe| pipe.fd.as_ref())
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
                .collect();
            // A program that has closed both is about to end.
            let span = if fds.is_empty() { pause } else { POLL_INTERVAL };
            wait.within(span).poll(&fds)?;
            pause = pause.doubled().min(POLL_INTERVAL);
        }
    }
}

/// One output of a program, read without waiting.
struct Pipe {
    fd: Option<OwnedFd>,
    /// It is never filled beyond its capacity: growth would leave a copy that is not wiped.
    bytes: Zeroizing<Vec<u8>>,
    limit: OutputLimit,
    is_over_its_limit: bool,
}

impl Pipe {
    fn new(fd: Option<OwnedFd>, limit: OutputLimit) -> Self {
        let (OutputLimit::Drop(most) | OutputLimit::Kill(most)) = limit;
        // A pipe that cannot be read without waiting is not read at all.
        let fd = fd.filter(|fd| fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok());
        let bytes = Zeroizing::new(Vec::with_capacity(most));
        Self { fd, bytes, limit, is_over_its_limit: false }
    }

    /// Reads what is there now.
    fn read(&mut self) {
        let mut chunk = Zeroizing::new([0; CHUNK]);
        for _ in 0..CHUNKS {
            let Some(fd) = &self.fd else { return };
            match nix::unistd::read(fd, &mut *chunk) {
                Ok(0) => self.fd = None,
                Ok(count) => self.keep(chunk.get(..count).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => self.fd = None,
            }
        }
    }

    fn keep(&mut self, chunk: &[u8]) {
        let (OutputLimit::Drop(most) | OutputLimit::Kill(most)) = self.limit;
        let room = most.saturating_sub(self.bytes.len());
        if chunk.len() > room && matches!(self.limit, OutputLimit::Kill(_)) {
            self.is_over_its_limit = true;
        }
        self.bytes.extend_from_slice(chunk.get(..room).unwrap_or(chunk));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::{Stop, SystemClock};
    use std::time::Instant;

    fn run_shell(
        script: &str,
        limit: OutputLimit,
        span: Duration,
    ) -> Result<Finished, ProgramError> {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let mut command = bare("/bin/sh");
        command.args(["-c", script]);
        run(command, limit, Wait::of(span, &clock, &stop))
    }

    #[test]
    fn what_a_program_prints_is_kept_up_to_the_limit_and_the_rest_does_not_block_it() {
        let run = |limit| {
            let script = "head -c 1000000 /dev/zero; echo error >&2; exit 3";
            run_shell(script, limit, Duration::from_secs(10))
        };
        let finished = run(OutputLimit::Drop(5)).unwrap();
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!((&finished.output[..], &finished.errors[..]), (&[0; 5][..], &b"error"[..]));
        assert_eq!(run(OutputLimit::Kill(999_999)).err(), Some(ProgramError::TooMuchOutput));
        assert_eq!(run(OutputLimit::Kill(1_000_000)).unwrap().output.len(), 1_000_000);
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_at_its_deadline_whatever_it_does() {
        for script in
            ["exec sleep 60", "exec >&- 2>&-; exec sleep 60", "exec yes", "trap '' TERM; yes"]
        {
            let started = Instant::now();
            let span = Duration::from_millis(200);
            let ended = run_shell(script, OutputLimit::Drop(10), span).err();
            assert!(
                matches!(ended, Some(ProgramError::Late(after)) if after >= span / 2),
                "{ended:?}"
            );
            assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        }
    }

    #[test]
    fn what_a_program_leaves_behind_is_not_waited_for_and_is_killed() {
        let started = Instant::now();
        let limit = OutputLimit::Drop(100);
        let finished = run_shell("sleep 60 & echo $!", limit, Duration::from_secs(30)).unwrap();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        let pid: i32 = String::from_utf8_lossy(&finished.output).trim().parse().unwrap();
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        while !is_gone() {
            assert!(started.elapsed() < Duration::from_secs(20), "process {pid} is still there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_program_has_none_of_our_variables_and_one_that_is_missing_is_not_started() {
        let finished =
            run_shell("echo $HOME$USER", OutputLimit::Drop(100), Duration::from_secs(10)).unwrap();
        assert_eq!(&finished.output[..], b"\n");
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let wait = Wait::of(Duration::from_secs(10), &clock, &stop);
        let missing = run(bare("/nowhere"), OutputLimit::Drop(1), wait);
        assert_eq!(missing.err(), Some(ProgramError::NotStarted(Errno::ENOENT)));
    }
}
