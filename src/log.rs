//! Writes log lines to standard output (the S3 session log, or a terminal) and to syslog. A sink
//! never blocks and never fails the run: it drops what it cannot write. What the lines say does not
//! belong here.

use crate::config::{Facility, Level};
use crate::sys;
use crate::text::plain;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use std::ffi::CString;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;
use syslog::{LogFormat, Logger, Severity};

/// The form of lines on standard output, which depends on their reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For a log file: RFC 3339 time, level, text.
    Stamped,
    /// For a person at a terminal: the text, after its level if that is warning or error.
    Plain,
    /// For systemd's journal, which adds the time itself: the level as sd-daemon(3) writes it, and
    /// the text.
    Journal,
}

/// Where systemd's journal takes the standard output of its units.
const JOURNAL: &str = "/run/systemd/journal/stdout";

/// The longest line, in bytes. A pipe never tears a write of this size, and syslog daemons take it
/// whole.
const LONGEST_LINE: usize = 4000;

/// All sinks. Several threads may write at once, and each line stays whole.
pub struct Log {
    sinks: Mutex<Sinks>,
}

struct Sinks {
    level: Level,
    style: Style,
    out: Box<dyn Write + Send>,
    syslog: Option<Logger<DatagramWriter, UntimedFormat>>,
}

impl Log {
    /// A log to `out` alone; [`Log::add_syslog`] adds the other sink.
    pub fn new(out: Box<dyn Write + Send>, style: Style) -> Self {
        Self { sinks: Mutex::new(Sinks { level: Level::Info, style, out, syslog: None }) }
    }

    /// A log to standard output in `style`, or in [`Style::Journal`] if it leads to systemd's
    /// journal.
    pub fn to_stdout(style: Style) -> Self {
        let stdout = Stdout::open();
        let journal = stdout.is_socket && leads_to(io::stdout().as_fd(), JOURNAL);
        Self::new(Box::new(stdout), if journal { Style::Journal } else { style })
    }

    /// Sets the least severe level that is written from now on.
    pub fn set_level(&self, level: Level) {
        self.locked(|sinks| sinks.level = level);
    }

    /// Whether lines of this level are written.
    pub fn takes(&self, level: Level) -> bool {
        self.locked(|sinks| level <= sinks.level)
    }

    /// Sends lines to the syslog daemon at `socket` (/dev/log) as well. A missing daemon is no
    /// error. Does nothing where standard output leads to the journal, which then has each line
    /// already.
    pub fn add_syslog(&self, socket: &Path, facility: Facility) {
        // No socket has a path with a NUL in it. The empty path then stands for a missing daemon.
        let datagrams =
            DatagramWriter(CString::new(socket.as_os_str().as_bytes()).unwrap_or_default());
        let formatter =
            UntimedFormat { facility: facility_number(facility), pid: sys::process_id().as_raw() };
        self.locked(|sinks| {
            if sinks.style != Style::Journal {
                sinks.syslog = Some(Logger::new(datagrams, formatter));
            }
        });
    }

    /// Stops writing to syslog.
    pub fn drop_syslog(&self) {
        self.locked(|sinks| sinks.syslog = None);
    }

    /// Writes one line, at once. Control characters in `text`, also line breaks, become spaces: one
    /// line is one event.
    pub fn line(&self, level: Level, text: impl Display) {
        let mut text = plain(&text.to_string());
        if text.len() > LONGEST_LINE {
            let cut = (0..=LONGEST_LINE).rev().find(|&at| text.is_char_boundary(at));
            text.truncate(cut.unwrap_or(0));
        }

        self.locked(|sinks| {
            if level > sinks.level {
                return;
            }
            let line = match sinks.style {
                Style::Stamped => {
                    let now = humantime::format_rfc3339_millis(SystemTime::now());
                    format!("{now} {:<7} {text}\n", level.word())
                }
                Style::Plain if level <= Level::Warning => format!("{}: {text}\n", level.word()),
                Style::Plain => format!("{text}\n"),
                Style::Journal => format!("<{}>{text}\n", severity_number(level)),
            };
            let _ = sinks.out.write(line.as_bytes());

            if let Some(syslog) = &mut sinks.syslog {
                let _ = match level {
                    Level::Error => syslog.err(&text),
                    Level::Warning => syslog.warning(&text),
                    Level::Info => syslog.info(&text),
                    Level::Debug => syslog.debug(&text),
                };
            }
        });
    }

    /// [`Log::line`] at level error.
    pub fn error(&self, text: impl Display) {
        self.line(Level::Error, text);
    }

    /// [`Log::line`] at level warning.
    pub fn warning(&self, text: impl Display) {
        self.line(Level::Warning, text);
    }

    /// [`Log::line`] at level info.
    pub fn info(&self, text: impl Display) {
        self.line(Level::Info, text);
    }

    /// [`Log::line`] at level debug.
    pub fn debug(&self, text: impl Display) {
        self.line(Level::Debug, text);
    }

    fn locked<T>(&self, f: impl FnOnce(&mut Sinks) -> T) -> T {
        // A panic in another thread poisons the lock, but leaves the log usable.
        f(&mut self.sinks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// Standard output that drops what its reader does not take. Neither a full pipe nor a stopped
/// terminal may hold up a session start.
struct Stdout {
    /// The terminal, opened again without blocking. A terminal that polls writable promises room
    /// for one byte, not for a line. O_NONBLOCK on descriptor 1 itself would hold for every process
    /// that shares it.
    own: Option<File>,
    is_socket: bool,
    /// Whether it is a regular file, which takes every write at once and need not be polled.
    is_file: bool,
}

impl Stdout {
    fn open() -> Self {
        let kind = fstat(io::stdout()).map(|stat| stat.st_mode & SFlag::S_IFMT.bits());
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let own = kind.is_ok_and(|kind| kind == SFlag::S_IFCHR.bits()).then(|| {
            OpenOptions::new().write(true).custom_flags(flags.bits()).open("/proc/self/fd/1").ok()
        });
        let is = |flag: SFlag| kind.is_ok_and(|kind| kind == flag.bits());
        let (is_socket, is_file) = (is(SFlag::S_IFSOCK), is(SFlag::S_IFREG));
        Self { own: own.flatten(), is_socket, is_file }
    }
}

impl Write for Stdout {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(own) = &mut self.own {
            return own.write(line);
        }
        if self.is_file {
            return sys::write_stdout(line);
        }

        let stdout = io::stdout();
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
        // A pipe that polls writable takes a line (≤ PIPE_BUF) whole.
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(1) if self.is_socket => Ok(sys::send_now(stdout.as_fd(), line)?),
            Ok(1) => sys::write_stdout(line),
            _ => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends each line as one datagram, without ever blocking. A syslog daemon that has stopped reading
/// loses lines, and holds up no session. A daemon that starts late gets the lines from then on. No
/// descriptor stays open between lines, because a run must do with very few.
struct DatagramWriter(CString);

impl Write for DatagramWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let socket = UnixDatagram::unbound()?;
        Ok(sys::send_to_path(socket.as_fd(), line, &self.0)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether `fd` is a connection to the local socket at `path`.
fn leads_to(fd: BorrowedFd<'_>, path: &str) -> bool {
    let Ok(own) = fd.try_clone_to_owned() else { return false };
    let peer = UnixStream::from(own).peer_addr();
    peer.is_ok_and(|peer| peer.as_pathname() == Some(Path::new(path)))
}

/// The number that syslog(3) gives a level. The crate syslog, the owner's choice, is used for these
/// two tables of numbers and for its calls. Format and socket are written here, because those of
/// the crate block, and add a time and a host name.
fn severity_number(level: Level) -> u8 {
    match level {
        Level::Error => Severity::LOG_ERR as u8,
        Level::Warning => Severity::LOG_WARNING as u8,
        Level::Info => Severity::LOG_INFO as u8,
        Level::Debug => Severity::LOG_DEBUG as u8,
    }
}

fn facility_number(facility: Facility) -> u8 {
    match facility {
        Facility::Daemon => syslog::Facility::LOG_DAEMON as u8,
        Facility::User => syslog::Facility::LOG_USER as u8,
        Facility::Local(n) => syslog::Facility::LOG_LOCAL0 as u8 + (n << 3),
    }
}

/// Writes `<PRI>efs-agent[pid]: text` in one write. There is no host name: with one, daemons would
/// lose the identifier. There is no time stamp either, because every daemon replaces it or reads it
/// as UTC.
struct UntimedFormat {
    facility: u8,
    pid: i32,
}

impl<T: Display> LogFormat<T> for UntimedFormat {
    fn format<W: Write>(&self, w: &mut W, severity: Severity, text: T) -> syslog::Result<()> {
        let priority = self.facility | severity as u8;
        let line = format!("<{priority}>efs-agent[{}]: {text}", self.pid);
        // A line that the daemon does not take is dropped, so nobody needs the count.
        w.write(line.as_bytes()).map(|_| ()).map_err(syslog::Error::Write)
    }
}

#[cfg(test)]
pub mod test {
    //! A log that a test can read.
    use super::*;
    use std::sync::Arc;

    /// Collects lines.
    #[derive(Clone, Default)]
    pub struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        /// A plain log into a new collector.
        pub fn log() -> (Log, Lines) {
            let lines = Lines::default();
            (Log::new(Box::new(lines.clone()), Style::Plain), lines)
        }

        /// What was written so far.
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stamped_line_has_a_time_a_level_and_the_text() {
        let lines = Lines::default();
        let log = Log::new(Box::new(lines.clone()), Style::Stamped);
        log.info("one\ntwo");
        let text = lines.text();
        let (stamp, rest) = text.split_at(24);
        assert!(humantime::parse_rfc3339(stamp).is_ok(), "{stamp}");
        assert_eq!(rest, " info    one two\n");
    }

    #[test]
    fn a_plain_line_names_only_a_bad_level() {
        let (log, lines) = Lines::log();
        log.info("fine");
        log.warning("odd");
        log.debug("not written");
        log.error("bad");
        assert_eq!(lines.text(), "fine\nwarning: odd\nerror: bad\n");
    }

    #[test]
    fn a_line_for_the_journal_has_its_level_in_front_and_goes_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        daemon.set_nonblocking(true).unwrap();
        let lines = Lines::default();
        let log = Log::new(Box::new(lines.clone()), Style::Journal);
        log.add_syslog(&path, Facility::Daemon);
        log.set_level(Level::Debug);
        for level in [Level::Error, Level::Warning, Level::Info, Level::Debug] {
            log.line(level, "text");
        }
        assert_eq!(lines.text(), "<3>text\n<4>text\n<6>text\n<7>text\n");
        assert!(daemon.recv(&mut [0; 200]).is_err(), "the journal has it: not a second time");
    }

    #[test]
    fn the_journal_is_known_by_where_the_descriptor_leads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        let path = path.to_str().unwrap();
        let _journal = std::os::unix::net::UnixListener::bind(path).unwrap();
        let stream = UnixStream::connect(path).unwrap();
        assert!(leads_to(stream.as_fd(), path));
        assert!(!leads_to(stream.as_fd(), JOURNAL));
        let (pair, _) = UnixStream::pair().unwrap();
        assert!(!leads_to(pair.as_fd(), path));
        assert!(!leads_to(File::open("/dev/null").unwrap().as_fd(), path));
    }

    #[test]
    fn a_syslog_line_is_one_datagram_with_priority_name_and_pid_and_no_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let (log, _) = Lines::log();
        log.add_syslog(&path, Facility::Daemon);
        log.warning("text");
        let mut buffer = [0; 200];
        let n = daemon.recv(&mut buffer).unwrap();
        let expected = format!("<28>efs-agent[{}]: text", std::process::id());
        assert_eq!(std::str::from_utf8(&buffer[..n]).unwrap(), expected);
    }

    #[test]
    fn a_syslog_that_does_not_read_and_one_that_is_absent_cost_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (log, lines) = Lines::log();
        log.add_syslog(&path, Facility::Daemon);
        log.info("no daemon");
        let _daemon = UnixDatagram::bind(&path).unwrap();
        log.add_syslog(&path, Facility::Daemon);
        for _ in 0..2000 {
            log.info("x"); // a blocking socket stops for good at 278 of these
        }
        assert_eq!(lines.text().lines().count(), 2001);
    }

    #[test]
    fn a_line_of_any_length_is_cut_at_a_character() {
        let (log, lines) = Lines::log();
        log.info("ä".repeat(5000));
        assert_eq!(lines.text().len(), LONGEST_LINE + 1);
    }
}
