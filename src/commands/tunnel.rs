//! `tunnel`: carries the connections of one encrypted share. Gets ready as root, drops to a user
//! without rights, and serves; where no service manager holds the listeners, a process of ours does.

use super::{Refusal, frame, settings};
use crate::aws::{ENVIRONMENT, Environment};
use crate::cli::TunnelArgs;
use crate::config::Share;
use crate::config::encryption::Encryption;
use crate::files;
use crate::log::Log;
use crate::report::Code;
use crate::retry::{Clock, Deadline};
use crate::stop::{Stop, SystemClock};
use crate::sys;
use crate::tunnel::aws::{self, At, Aws};
use crate::tunnel::broker::{self, Broker};
use crate::tunnel::identity::{Helper, Identity};
use crate::tunnel::key::{self, Kept};
use crate::tunnel::peer;
use crate::tunnel::protocol::TunnelError;
use crate::tunnel::serve::{End, Listeners, Tunnel};
use crate::tunnel::tls::Client;
use crate::tunnel::unit::{self, FOLDER, Instance, Part};
use aws_lc_rs::digest::{SHA256, digest};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{AddressFamily, Backlog, SockType, SockaddrLike, SockaddrStorage};
use nix::sys::socket::{getsockname, getsockopt, listen, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// The users that a tunnel may become, by number, since no name is looked up: numbers that neither Debian, RHEL nor
/// systemd (its UIDS-GIDS.md) give to anybody. Not nobody: its processes may send each other signals.
const USERS: RangeInclusive<u32> = 70_000..=99_999;
/// The same where such numbers cannot be had, in a container whose users end at 65535.
const SMALL: RangeInclusive<u32> = 61_184..=65_519;
/// What of root's rights the processes keep that stay root: to give them up, to read root's files, and to end a
/// relay.
const KEPT: u64 = 1 << CAP_SETUID | 1 << CAP_SETGID | 1 << CAP_DAC_READ_SEARCH | 1 << CAP_KILL;
/// As capabilities(7) numbers them.
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_KILL: u32 = 5;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
/// The listeners: one for the kernel, one for questions.
const LISTENERS: u8 = 2;
/// The most descriptors that are taken from a service manager, to say that they are too many.
const MOST: u8 = 8;
/// A tunnel that cannot begin waits this long before it ends: whoever keeps it starts it again at once.
const PENANCE: Duration = Duration::from_secs(5);
/// Before a tunnel that has ended is started again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a tunnel that was told to end has for it, before it is killed.
const FAREWELL: Duration = Duration::from_secs(2);
/// Questions that may wait for the tunnel to come up.
const BACKLOG: i32 = 128;
/// A wait without an end: poll(2) knows no longer one.
const FOR_EVER: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// How many descriptors a service manager has handed to this process (sd_listen_fds(3)).
pub fn handed_over() -> u8 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(n)) if pid == std::process::id() => n.min(MOST.into()) as u8,
        _ => 0,
    }
}

/// Runs the tunnel with the `kept` descriptors that were handed over, and returns the exit code.
pub fn run(args: &TunnelArgs, kept: u8, started: Instant) -> Code {
    let log = super::log(true);
    let result = match args.detach {
        Some(port) => detach(args, port, started),
        None => listeners(sys::handed_over(kept))
            .and_then(|listeners| work(args, listeners, started, super::log(true))),
    };
    frame::concluded(result, &log)
}

/// Tells the descriptors apart by what they are: before systemd 227 they have no names.
fn listeners(handed: Vec<OwnedFd>) -> Result<Listeners, Refusal> {
    let wrong = |what: &str| {
        let text = format!("a tunnel is started by its systemd unit, with two listeners: {what}");
        (Code::USAGE, text)
    };
    if handed.is_empty() {
        return Err(wrong(
            "there are 0; nobody need start one by hand: sudo efs-agent --once does",
        ));
    }
    if handed.len() != usize::from(LISTENERS) {
        return Err(wrong(&format!("there are {}", handed.len())));
    }
    let (mut nfs, mut control) = (None, None);
    for fd in handed {
        if getsockopt(&fd, sockopt::AcceptConn) != Ok(true)
            || getsockopt(&fd, sockopt::SockType) != Ok(SockType::Stream)
        {
            return Err(wrong("a descriptor is no listener"));
        }
        let address = getsockname::<SockaddrStorage>(std::os::fd::AsRawFd::as_raw_fd(&fd));
        match address.ok().and_then(|address| address.family()) {
            Some(AddressFamily::Inet) => nfs = Some(TcpListener::from(fd)),
            Some(AddressFamily::Unix) => control = Some(UnixListener::from(fd)),
            _ => return Err(wrong("one is neither of TCP over IPv4 nor local")),
        }
    }
    let (Some(nfs), Some(control)) = (nfs, control) else {
        return Err(wrong("one of TCP over IPv4 and one local"));
    };
    // Only of this machine can it be told who is at the other end.
    if !nfs.local_addr().is_ok_and(|address| address.ip() == peer::LOCAL) {
        return Err(wrong(&format!("the port must be of {} alone", peer::LOCAL)));
    }
    Ok(Listeners { nfs, control, watch: None })
}

/// The tunnel itself, from config to end. This process must have one thread alone.
fn work(
    args: &TunnelArgs,
    listeners: Listeners,
    started: Instant,
    log: Log,
) -> Result<Code, Refusal> {
    let began = Instant::now();
    let stop = frame::signals()?;
    let mut ours = Some(listeners);
    let prepared = prepared(args, &mut ours, started, stop, log);
    // Without the pause, what fails each time would be repeated ten times a second.
    let penance =
        |refusal: Refusal, stop: &Stop, pause: Duration| match SystemClock::new(started, stop)
            .wait(pause)
        {
            Ok(()) => Err(refusal),
            Err(_) => Ok(signalled(stop)),
        };
    let (tunnel, lifeline) = match prepared {
        Ok((tunnel, lifeline)) => (&*Box::leak(Box::new(tunnel)), lifeline),
        Err((refusal, stop)) => return penance(refusal, &stop, PENANCE),
    };
    let end = match ours {
        Some(listeners) => tunnel.serve(listeners, lifeline),
        // It is the process that hands out credentials that has given them up, and never comes here.
        None => End::NoMeans(Errno::EBADF),
    };
    match end {
        End::Stopped => Ok(signalled(&tunnel.stop)),
        End::Asked => Ok(Code::OK),
        End::NoBroker | End::NoMeans(_) => {
            // One that has served for a while is started again at once.
            let pause = PENANCE.saturating_sub(began.elapsed());
            penance((Code::FAULT, end.to_string()), &tunnel.stop, pause)
        }
    }
}

/// The exit code of who was told to end.
fn signalled(stop: &Stop) -> Code {
    Code::signal(stop.signal().unwrap_or(Signal::SIGTERM) as i32)
}

/// All that takes root's rights; at the end they are gone. The second of what it gives is closed
/// together with the process that hands out credentials, in which `listeners` are let go. What is
/// refused comes with the signals.
fn prepared(
    args: &TunnelArgs,
    listeners: &mut Option<Listeners>,
    started: Instant,
    stop: Stop,
    log: Log,
) -> Result<(Tunnel, Option<UnixStream>), (Refusal, Stop)> {
    match ready(args, listeners, started, &stop, &log) {
        Ok((share, means, lifeline)) => {
            let root = Path::new("/").to_owned();
            let told = Default::default();
            Ok((Tunnel { root, share, means, stop, started, log, told }, lifeline))
        }
        Err(refusal) => Err((refusal, stop)),
    }
}

type Ready = (Share, Result<(Client, Identity), TunnelError>, Option<UnixStream>);

fn ready(
    args: &TunnelArgs,
    listeners: &mut Option<Listeners>,
    started: Instant,
    stop: &Stop,
    log: &Log,
) -> Result<Ready, Refusal> {
    let root = Path::new("/");
    frame::need_root("a tunnel is started as root")?;
    let (share, encryption) = configured(root, args, log)?;
    let point = &args.mount_point;
    if !peer::sees_real_users(root) {
        log.warning("this is a user namespace: its root is let in to the local port too");
    }
    let mut lifeline = None;
    let mut broker = || -> Result<Broker, Refusal> {
        let broker = broker(root, &encryption, listeners, started, stop)
            .map_err(|e| (Code::FAULT, format!("no process for the credentials: {e}")))?;
        lifeline = broker.lifeline().ok();
        Ok(broker)
    };
    let means = means(root, &share, &encryption, log, &mut broker)?;
    if let Err(failure) = &means {
        log.error(format_args!("{}: {failure}", point.display()));
    }
    // Whatever is in them: they are for the process that reads the credentials, which has its own.
    sys::wipe_environment(ENVIRONMENT);
    let become_one = |of: RangeInclusive<u32>| {
        let user = user_of(root, point, of);
        sys::drop_privileges(user, user)
    };
    become_one(USERS)
        .or_else(|errno| if errno == Errno::EINVAL { become_one(SMALL) } else { Err(errno) })
        .map_err(|e| (Code::FAULT, format!("root's rights cannot be dropped: {e}")))?;
    Ok((share, means, lifeline))
}

/// A user for the tunnel of what is mounted on `point`: the same each time, another for another, and nobody's
/// who has an account here.
fn user_of(root: &Path, point: &Path, of: RangeInclusive<u32>) -> u32 {
    let accounts = files::whole(&root.join("etc/passwd")).unwrap_or_default();
    let accounts = String::from_utf8_lossy(&accounts);
    let taken: Vec<u32> =
        accounts.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect();
    let hash = digest(&SHA256, point.as_os_str().as_bytes());
    let first = hash.as_ref().iter().take(4).fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let users = || of.clone();
    let mut in_turn = users().cycle().skip(first % users().count()).take(users().count());
    in_turn.find(|user| !taken.contains(user)).unwrap_or(*of.end())
}

/// The share whose tunnel this is, as the config has it.
fn configured(root: &Path, args: &TunnelArgs, log: &Log) -> Result<(Share, Encryption), Refusal> {
    let (path, settings) = settings::find(root, args.config.as_deref())?;
    super::apply(&settings.log, false, log);
    let point = &args.mount_point;
    let share = settings.shares.into_iter().find(|share| share.mount_point == *point);
    let missing = |what: &str| {
        let text = format!("{}: no [[share]] is {what} {}", path.display(), point.display());
        (Code::CONFIG, text)
    };
    let share = share.ok_or_else(|| missing("mounted on"))?;
    let encryption = share.encryption.clone().ok_or_else(|| missing("encrypted on"))?;
    Ok((share, encryption))
}

/// What it takes to speak to the file system. That it is not to be had is told to whoever asks.
fn means(
    root: &Path,
    share: &Share,
    encryption: &Encryption,
    log: &Log,
    broker: &mut dyn FnMut() -> Result<Broker, Refusal>,
) -> Result<Result<(Client, Identity), TunnelError>, Refusal> {
    let roots = match aws::roots(root, &encryption.trust) {
        Ok(roots) => roots,
        Err(failure) => return Ok(Err(failure)),
    };
    let helper = if encryption.iam || encryption.discover {
        let broker = broker()?;
        // It is given credentials, and looks for none itself.
        match Aws::new(root, Environment::nothing()) {
            Ok(aws) => Some(Helper { broker, aws }),
            Err(e) => return Ok(Err(TunnelError::Trust(e))),
        }
    } else {
        None
    };
    // Otherwise made by the socket unit, or by whoever holds the listeners.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(FOLDER);
    let path = Instance::of(&share.mount_point).key();
    let key = match key::get(root, &path) {
        Ok((key, kept)) => {
            if let Kept::Lost(why) = kept {
                let path = path.display();
                log.warning(format_args!("the RSA key is made anew each time: {path} {why}"));
            }
            key
        }
        Err(e) => return Ok(Err(TunnelError::Key(e.to_string()))),
    };
    let client = match Client::new(roots, &encryption.tls_name, &key) {
        Ok(client) => client,
        Err(failure) => return Ok(Err(failure)),
    };
    Ok(Ok((client, Identity::new(root, key, encryption.clone(), helper))))
}

/// Starts the process that stays root, and reads credentials for the one that does not.
fn broker(
    root: &Path,
    encryption: &Encryption,
    listeners: &mut Option<Listeners>,
    started: Instant,
    stop: &Stop,
) -> Result<Broker, Errno> {
    let errno = |e: std::io::Error| sys::errno_of(&e);
    let (ours, theirs) = UnixStream::pair().map_err(errno)?;
    let parent = nix::unistd::getpid();
    if sys::fork()?.is_some() {
        return Broker::new(ours);
    }
    sys::die_with(parent);
    drop(ours);
    // Whoever ends it by hand is to see it end: it waits for nothing but its relay.
    let ending = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let _ = ending.into_iter().collect::<SigSet>().thread_unblock();
    // They are to be free, and whoever watches the relay is to see it go, the moment that it ends:
    // this process may be busy asking for credentials then.
    drop(listeners.take());
    // What is read here is nobody's business but the relay's: no core dump, no debugger.
    let _ = nix::sys::prctl::set_dumpable(false);
    // As the unit has it. Without the right to, it has no more already.
    let _ = sys::keep_capabilities(KEPT);
    let _ = nix::sys::prctl::set_no_new_privs();
    let clock = SystemClock::new(started, stop);
    let environment = match encryption.aws_environment {
        true => Environment::of_process(),
        false => Environment::nothing(),
    };
    let aws = Aws::new(root, environment);
    broker::serve(theirs, &mut |left| {
        let until = Deadline::after(&clock, left);
        let aws = aws.as_ref().map_err(|why| TunnelError::Credentials(why.clone()))?;
        aws.credentials(encryption, At { root, clock: &clock, stop }, until)
    });
    sys::exit(0)
}

/// Holds the listeners in a process of its own, in which the tunnel runs again and again.
fn detach(args: &TunnelArgs, port: u16, started: Instant) -> Result<Code, Refusal> {
    frame::need_root("a tunnel is started as root")?;
    // While there is somebody to tell: the tunnel itself would meet with it again and again.
    let root = Path::new("/");
    let (_, encryption) = configured(root, args, &super::log(true))?;
    if !encryption.aws_environment {
        sys::wipe_environment(ENVIRONMENT);
    }
    let fault = |what: &str, why: &dyn std::fmt::Display| {
        (Code::FAULT, format!("{what} of {}: {why}", args.mount_point.display()))
    };
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(FOLDER);
    let socket = Instance::of(&args.mount_point).socket();
    let another = || {
        let (point, socket) = (args.mount_point.display(), socket.display());
        let text = format!(
            "another tunnel of {point} is running, and holds {socket}: sudo efs-agent unmount ends it"
        );
        (Code::FAULT, text)
    };
    if Part::Keeper.be(root, &args.mount_point).is_err_and(|errno| errno == Errno::EAGAIN) {
        return Err(another());
    }
    let nfs = TcpListener::bind((peer::LOCAL, port))
        .map_err(|e| fault(&format!("cannot listen on port {port} for the tunnel"), &e))?;
    if matches!(sys::connect_unix(&socket), Err(Errno::ECONNREFUSED)) {
        // Of a tunnel that has gone.
        let _ = std::fs::remove_file(&socket);
    }
    umask(Mode::from_bits_truncate(0o177));
    let control = UnixListener::bind(&socket).map_err(|e| match e.kind() {
        ErrorKind::AddrInUse => another(),
        _ => fault("cannot listen for questions to the tunnel", &e),
    })?;
    umask(Mode::from_bits_truncate(0o077));
    // Whoever has started it, others find it by this.
    unit::write_port(root, &args.mount_point, port).map_err(|e| {
        let _ = std::fs::remove_file(&socket);
        fault("cannot write down the port for the tunnel", &e)
    })?;
    let forked = |e| fault("no process for the tunnel", &e);
    let (begun, begins) = std::io::pipe().map_err(|e| fault("no pipe for the tunnel", &e))?;
    if sys::fork().map_err(forked)?.is_some() {
        // Until the one that stays has taken the listeners over: asked before, they would be told to be
        // those of a process that has gone, and the tunnel be taken for one that nobody holds.
        drop(begins);
        let _ = nix::unistd::read(&begun, &mut [0]);
        return Ok(Code::OK);
    }
    drop(begun);
    // Nothing of what has started us may end us, or wait for us.
    let _ = nix::unistd::setsid();
    match sys::fork() {
        Ok(None) => {}
        _ => sys::exit(0),
    }
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    if let Ok(null) = null {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
    let _ = nix::unistd::chdir("/");
    let _ = Backlog::new(BACKLOG).and_then(|backlog| listen(&control, backlog));
    // By it, whoever would end the tunnel or replace it knows this process, which stays, until it ends.
    let is_keeper = Part::Keeper.be(root, &args.mount_point);
    drop(begins);
    // As the unit has it: all that is mounted would hang on its end. Without the right to, it must do.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-500");
    let _ = sys::keep_capabilities(KEPT);
    let _ = nix::sys::prctl::set_no_new_privs();
    let _ = nix::sys::prctl::set_dumpable(false);
    let mut listeners = Some(Listeners { nfs, control, watch: None });
    // The one that we have would give our parent's process id.
    let code = supervise(args, &mut listeners, started, &super::log(true));
    // While it is still ours: a new tunnel may listen there as soon as we do not.
    let _ = std::fs::remove_file(Instance::of(&args.mount_point).port());
    let _ = std::fs::remove_file(&socket);
    drop(listeners);
    drop(is_keeper);
    sys::exit(code.0)
}

/// Runs the tunnel in a process of its own until it ends as it was asked to, or we are.
fn supervise(
    args: &TunnelArgs,
    listeners: &mut Option<Listeners>,
    started: Instant,
    log: &Log,
) -> Code {
    // How the tunnel ended is told by waitpid(2) alone.
    sys::keep_children();
    let stop = match frame::signals() {
        Ok(stop) => stop,
        Err(refusal) => return frame::concluded(Err(refusal), log),
    };
    let clock = SystemClock::new(started, &stop);
    loop {
        match run_once(args, listeners, started, &stop) {
            Ok(Ended::Well) => return Code::OK,
            Ok(Ended::Badly(how)) => log.warning(format_args!(
                "the tunnel of {} {how}, and is started again",
                args.mount_point.display()
            )),
            Err(e) => log.error(format_args!("no process for the tunnel: {e}")),
        }
        if clock.wait(PAUSE).is_err() {
            return Code::OK;
        }
    }
}

/// How a run of the tunnel ended.
enum Ended {
    /// As it was asked to, or since we were told to end.
    Well,
    /// Otherwise: "was killed by SIGKILL".
    Badly(String),
}

/// Runs the tunnel once, in a process that gets the listeners too. It ends with ours until it has dropped
/// root's rights; then it outlives us, if we are killed, since a mount hangs on it. The next session
/// start sees that nobody would start it again, and has another take its place.
fn run_once(
    args: &TunnelArgs,
    listeners: &mut Option<Listeners>,
    started: Instant,
    stop: &Stop,
) -> Result<Ended, Errno> {
    let errno = |e: std::io::Error| sys::errno_of(&e);
    // Closed when the child ends.
    let (ours, theirs) = UnixStream::pair().map_err(errno)?;
    let parent = nix::unistd::getpid();
    // Not sys::spawn(): its child may make system calls only, and this one has threads.
    let Some(child) = sys::fork()? else {
        sys::die_with(parent);
        drop(ours);
        // Of this process alone: our parent keeps its own.
        let own = listeners.take().map(|own| Listeners { watch: Some(theirs), ..own });
        let is_relay = Part::Relay.be(Path::new("/"), &args.mount_point);
        let code = one_run(args, own, started);
        drop(is_relay);
        sys::exit(code.0)
    };
    drop(theirs);
    let fds = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
    let ends = stop.poll(&fds, FOR_EVER);
    if ends.is_err() {
        let _ = kill(child, Signal::SIGTERM);
        let patience = PollTimeout::try_from(FAREWELL).unwrap_or(PollTimeout::ZERO);
        if poll(&mut [PollFd::new(ours.as_fd(), PollFlags::POLLIN)], patience) != Ok(1) {
            let _ = kill(child, Signal::SIGKILL);
        }
    }
    let how = match waitpid(child, None) {
        _ if ends.is_err() => return Ok(Ended::Well),
        Ok(WaitStatus::Exited(_, 0)) => return Ok(Ended::Well),
        Ok(WaitStatus::Exited(_, code)) => format!("ended with exit code {code}"),
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("was killed by {signal}"),
        other => format!("ended ({other:?})"),
    };
    Ok(Ended::Badly(how))
}

fn one_run(args: &TunnelArgs, listeners: Option<Listeners>, started: Instant) -> Code {
    let log = super::log(true);
    let result = match listeners {
        Some(own) => work(args, own, started, super::log(true)),
        None => Err((Code::FAULT, "the listeners were taken already".into())),
    };
    frame::concluded(result, &log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tunnel_has_a_user_of_its_own_who_has_no_account() {
        let root = tempfile::tempdir().unwrap();
        let user = |point: &str| user_of(root.path(), Path::new(point), USERS);
        let first = user("/mnt/a");
        assert!(USERS.contains(&first) && first != user("/mnt/b") && first == user("/mnt/a"));
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let account = format!("root:x:0:0::/root:/bin/sh\nhe:x:{first}:{first}::/:\n");
        std::fs::write(root.path().join("etc/passwd"), account).unwrap();
        assert!(USERS.contains(&user("/mnt/a")) && user("/mnt/a") != first);
    }
}
