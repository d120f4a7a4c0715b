//! `register` and `unregister`: puts us into AppStream's config.json, or takes
//! us out. Read [`start`] for what is wanted, [`carry_out`] for the frame,
//! [`attempt`] for the way from the old file to the new one. What an edit of
//! the file looks like is decided in [`registration`].

mod boot;
mod standing;

use super::Refusal;
use super::frame::{self, Frame};
use super::settings::{self, SettingsError};
use crate::appstream::registration::{
    self, CONFIG_JSON, Call, Change, LONGEST, Refusal as Unchanged, SHIM, Wanted,
};
use crate::appstream::{Edit, diff};
use crate::cli::{RegisterArgs, UnregisterArgs};
use crate::config::{self, Level, Settings};
use crate::files::{self, Fault, Like, Obstacle, Place, ReplaceError, Version};
use crate::installed::{self, UnfitProgram};
use crate::log::Log;
use crate::report::Code;
use crate::retry::{Clock, Deadline};
use crate::text::{misleads, word};
use boot::Boot;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
pub(super) use standing::{Standing, standing};
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Held by a run that changes config.json.
const LOCK: &str = "/run/efs-agent/register.lock";
/// How long another run may keep it locked; none takes a second.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_millis(20);
/// How often we start anew because somebody else has changed the file meanwhile.
const ATTEMPTS: u32 = 5;

/// Registers us, and returns the exit code.
pub fn register(args: &RegisterArgs, started: Instant) -> Code {
    run("register", args.dry_run, started, &|root, log| start(root, args, log))
}

/// Takes us out, and returns the exit code.
pub fn unregister(args: &UnregisterArgs, started: Instant) -> Code {
    run("unregister", args.dry_run, started, &|_, _| {
        let own = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned));
        Ok(Task {
            file: file_named(args.file.as_deref())?,
            dry_run: args.dry_run,
            shim: None,
            wanted: Wanted { own, start: None, termination: None, replace: false },
            boot: Boot::No,
        })
    })
}

fn run(
    command: &str,
    dry_run: bool,
    started: Instant,
    task: &dyn Fn(&Path, &Log) -> Result<Task, Refusal>,
) -> Code {
    let log = super::log(false);
    if dry_run {
        log.drop_syslog();
    }
    let complaint = format!("only root can {command}: use sudo, or look on with --dry-run");
    let without_root = (!dry_run).then_some(complaint.as_str());
    let result = Frame::run(started, without_root, |frame| {
        let task = task(frame.root, &log)?;
        carry_out(frame.root, &task, &frame.clock, &log)
            .map_err(|refusal| frame.stopped().unwrap_or(refusal))?;
        if let Some((level, text)) = task.boot.carry_out(frame.root, dry_run) {
            log.line(level, text);
        }
        Ok(Code::OK)
    });
    frame::concluded(result, &log)
}

/// What is to become of a config.json and what is beside it.
struct Task {
    file: PathBuf,
    dry_run: bool,
    /// The text of the script that is to be there; `None` takes ours away.
    shim: Option<String>,
    wanted: Wanted,
    boot: Boot,
}

impl Task {
    fn registers(&self) -> bool {
        self.wanted.start.is_some()
    }
}

fn file_named(named: Option<&Path>) -> Result<PathBuf, Refusal> {
    let path = std::path::absolute(named.unwrap_or(Path::new(CONFIG_JSON)));
    path.map_err(|e| (Code::IO, format!("--file cannot be used: {e}")))
}

/// What `register` wants.
fn start(root: &Path, args: &RegisterArgs, log: &Log) -> Result<Task, Refusal> {
    let settings = settings::find(root, args.config.as_deref());
    start_with(root, args, settings, log)
}

fn start_with(
    root: &Path,
    args: &RegisterArgs,
    settings: Result<(PathBuf, Settings), SettingsError>,
    log: &Log,
) -> Result<Task, Refusal> {
    let file = file_named(args.file.as_deref())?;
    let own = installed::executable(root)?;
    let own = utf8(&own).map(str::to_owned);
    let own = own.map_err(|(code, what)| (code, format!("{what}; {}", installed::INSTALL)))?;
    let (settings, option) = match settings {
        Ok((path, settings)) => match args.config {
            Some(_) => (Some(settings), config_option(&path)?),
            None => (Some(settings), String::new()),
        },
        Err(SettingsError::NoFile(e)) => {
            let deadline = humantime::format_duration(config::DEADLINE);
            log.warning(format_args!(
                "{e}: until there is one, every session start ends with exit 78; waitingTime is to fit \
                 the default deadline, {deadline}"
            ));
            (None, String::new())
        }
        Err(refused) => return Err(refused.into()),
    };
    let shim = file.with_file_name(SHIM);
    let filename = match args.shim {
        true => utf8(&shim)?.to_owned(),
        false => own.clone(),
    };
    let call = |arguments: &str, limit, limit_key| Call {
        filename: filename.clone(),
        arguments: format!("{arguments}{option}").trim_start().to_owned(),
        limit,
        limit_key,
    };
    let boot = Boot::wanted(&own, args.config.as_deref(), settings.as_ref());
    let deadline = settings.as_ref().map_or(config::DEADLINE, |settings| settings.deadline);
    let unmount = settings.as_ref().map_or(config::UNMOUNT_DEADLINE, |s| s.unmount_deadline);
    Ok(Task {
        file,
        dry_run: args.dry_run,
        boot,
        shim: args.shim.then(|| shim_of(&own)),
        wanted: Wanted {
            start: Some(call("", deadline, "deadline")),
            termination: (!args.no_termination)
                .then(|| call("unmount", unmount, "unmount_deadline")),
            own: Some(own),
            replace: args.replace,
        },
    })
}

/// The option that gives a session start this config.
fn config_option(path: &Path) -> Result<String, Refusal> {
    let path = utf8(path)?;
    // How AppStream splits arguments is not documented.
    let plain = |c: char| !c.is_whitespace() && !misleads(c) && !"\"'\\$`".contains(c);
    let option = format!(" --config {path}");
    if path.chars().all(plain) && option.chars().count() + "unmount".len() <= LONGEST {
        return Ok(option);
    }
    let text = format!(
        "{path} cannot be put into AppStream's arguments: choose a short path without blanks and quotes"
    );
    Err((Code::CONFIG, text))
}

fn utf8(path: &Path) -> Result<&str, Refusal> {
    path.to_str().filter(|path| path.chars().count() <= LONGEST).ok_or_else(|| {
        let text = format!(
            "{} cannot be put into config.json: it is over {LONGEST} characters or no UTF-8",
            path.display()
        );
        (Code::IO, text)
    })
}

impl From<UnfitProgram> for Refusal {
    fn from(unfit: UnfitProgram) -> Self {
        let code = match unfit {
            UnfitProgram::NoProc(_) => Code::FAULT,
            _ => Code::PERMISSION,
        };
        (code, format!("{unfit}; {}", unfit.cure()))
    }
}

/// How the folder of AppStream's config.json is made, where AppStream is there and that folder alone is missing.
fn folder_to_make(root: &Path, file: &Path) -> Option<String> {
    let folder = file.parent().filter(|_| file == Path::new(CONFIG_JSON))?;
    let above = folder.parent()?.strip_prefix("/").ok()?;
    root.join(above)
        .is_dir()
        .then(|| format!("make it (sudo mkdir -m 0755 {})", word(folder.display())))
}

/// The script that starts `program`: AppStream's documentation speaks of scripts alone.
fn shim_of(program: &str) -> String {
    format!("{SHIM_HEAD}{}{SHIM_TAIL}", word(program))
}

const SHIM_HEAD: &str = "#!/bin/sh\nexec ";
const SHIM_TAIL: &str = " \"$@\"\n";

fn is_shim(text: &[u8]) -> bool {
    let program = text.strip_prefix(SHIM_HEAD.as_bytes());
    let program = program.and_then(|rest| rest.strip_suffix(SHIM_TAIL.as_bytes()));
    program.is_some_and(|program| !program.contains(&b'\n'))
}

/// From the folder of config.json to the last line.
fn carry_out(root: &Path, task: &Task, clock: &dyn Clock, log: &Log) -> Result<(), Refusal> {
    let place = match files::find(root, &task.file) {
        Ok(place) => place,
        Err(Obstacle::NoFolder(_)) if !task.registers() => return not_there(task, log),
        Err(Obstacle::NoFolder(folder)) => {
            let cure = match folder_to_make(root, &task.file) {
                Some(make) => format!(": {make} and run this again"),
                None => ". Is this an AppStream image? (--file names another config.json)".into(),
            };
            let (file, folder) = (task.file.display(), folder.display());
            let text = format!("{file} cannot be made: {folder} does not exist{cure}");
            return Err((Code::IO, text));
        }
        Err(obstacle) => return Err(hindered(&task.file, obstacle)),
    };
    place.trust(None).map_err(|fault| untrusted(&task.file, fault))?;
    if task.dry_run {
        return attempt(task, &place, None, log).map(|_| ());
    }
    let _lock = lock(root, clock)?;
    let folder = place.folder().map_err(|errno| {
        (Code::IO, format!("cannot open the folder of {}: {}", task.file.display(), errno.desc()))
    })?;
    place.clear(&folder);
    place.beside(SHIM).clear(&folder);
    for _ in 0..ATTEMPTS {
        if attempt(task, &place, Some(&folder), log)? {
            return Ok(());
        }
    }
    let text = format!("somebody else keeps changing {}: try again later", task.file.display());
    Err((Code::DEADLINE, text))
}

fn not_there(task: &Task, log: &Log) -> Result<(), Refusal> {
    log.info(format_args!("unchanged: {} does not exist", task.file.display()));
    Ok(())
}

fn hindered(file: &Path, obstacle: Obstacle) -> Refusal {
    let code = match obstacle {
        Obstacle::DotDot | Obstacle::NoName => Code::USAGE,
        Obstacle::NotAFolder(_) | Obstacle::Symlink | Obstacle::NotRegular | Obstacle::TooLarge => {
            Code::DATA
        }
        _ => Code::IO,
    };
    (code, format!("{} {obstacle}; nothing was changed", file.display()))
}

fn untrusted(file: &Path, Fault { path, why, command }: Fault) -> Refusal {
    // Changing a folder that other things live in, such as /tmp or a home, would do harm.
    let mend = if path == file || path.starts_with("/opt/appstream") {
        format!("{command} {}", path.display())
    } else {
        format!("choose a --file that is not below {}", path.display())
    };
    let text = format!(
        "{} {why}: {} says what runs as root, so it and its folders must belong to root and be \
         writable by nobody else ({mend}); nothing was changed",
        path.display(),
        file.display()
    );
    (Code::PERMISSION, text)
}

/// Keeps other runs of `register` and `unregister` out until it is dropped. By a file that nobody but root
/// can open: whoever can open a file can lock it for as long as he likes.
fn lock(root: &Path, clock: &dyn Clock) -> Result<Flock<File>, Refusal> {
    let failed = |errno: Errno| {
        (Code::IO, format!("cannot lock {LOCK}: {} ({errno:?})", errno.desc().to_lowercase()))
    };
    let io = |e: std::io::Error| failed(e.raw_os_error().map_or(Errno::EIO, Errno::from_raw));
    let path = root.join(LOCK.trim_start_matches('/'));
    let above = path.parent().unwrap_or(root);
    DirBuilder::new().recursive(true).mode(0o700).create(above).map_err(io)?;
    let place = files::find(root, Path::new(LOCK)).map_err(|_| failed(Errno::ENOTDIR))?;
    place.trust(None).map_err(|Fault { path, why, .. }| {
        (
            Code::PERMISSION,
            format!("{} {why}: root alone may be able to write there", path.display()),
        )
    })?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.custom_flags(libc::O_NOFOLLOW).open(&path).map_err(io)?;
    let deadline = Deadline::after(clock, PATIENCE);
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
            Err((_, errno)) => return Err(failed(errno)),
        };
        let waited = clock.wait(BETWEEN.min(deadline.left(clock)));
        if waited.is_err() || deadline.passed(clock) {
            let text = format!("another run keeps {LOCK} locked: try again when it has ended");
            return Err((Code::DEADLINE, text));
        }
    }
}

/// A file as it was read.
struct Found {
    bytes: Vec<u8>,
    like: Like,
    version: Version,
}

/// Reads the file at `place`; `None` if there is none.
fn read(place: &Place) -> Result<Option<Found>, Refusal> {
    let obstacle = |e| hindered(place.path(), e);
    let Some(file) = place.open().map_err(obstacle)? else {
        return Ok(None);
    };
    place.trust(Some(&file)).map_err(|fault| untrusted(place.path(), fault))?;
    let unreadable = |errno: Errno| obstacle(Obstacle::Unreadable(errno.into()));
    // Before the contents: a change while they are read shows.
    let version = Version::read(&file).map_err(unreadable)?;
    let like = Like::of(&file).map_err(unreadable)?;
    Ok(Some(Found { bytes: files::contents(&file).map_err(obstacle)?, like, version }))
}

/// From the old file to the new one; without a `folder`, tells what would change. `false` if
/// somebody else has changed the file in between.
fn attempt(task: &Task, place: &Place, folder: Option<&File>, log: &Log) -> Result<bool, Refusal> {
    let found = read(place)?;
    if found.is_none() && !task.registers() {
        return not_there(task, log).map(|()| true);
    }
    let empty = registration::empty();
    let text = match &found {
        Some(found) => registration::text(&task.file, &found.bytes).map_err(unchanged)?,
        None => &empty,
    };
    let change = registration::change(&task.file, text, &task.wanted).map_err(unchanged)?;
    let shim = Shim::plan(task, place)?;
    let edits = match &found {
        Some(_) => change.edits.clone(),
        None => vec![Edit { span: 0..0, text: change.text.clone() }],
    };
    let Some(folder) = folder else {
        let old = if found.is_some() { text } else { "" };
        return tell_only(task, &change, &shim, diff(old, &edits), log);
    };
    let made = shim.write(folder)?;
    if !edits.is_empty() {
        let (like, version) =
            found.as_ref().map_or((Like::root(0o644), None), |f| (f.like, Some(f.version)));
        if let Err(e) = place.replace(folder, change.text.as_bytes(), &like, version) {
            if made && !matches!(e, ReplaceError::Unsynced(_)) {
                let _ = shim.place.remove(folder);
            }
            return if e == ReplaceError::Changed { Ok(false) } else { Err(unwritten(place, e)) };
        }
    }
    shim.remove(folder)?;
    if found.is_none() {
        log.info(format_args!("made {}, which was not there", task.file.display()));
    }
    tell(task, &change, &shim, log);
    Ok(true)
}

fn unchanged(why: Unchanged) -> Refusal {
    let code = match why {
        Unchanged::Malformed(_) => Code::DATA,
        Unchanged::Foreign(..) => Code::TAKEN,
        Unchanged::NeverFits(_) => Code::CONFIG,
        Unchanged::Fault(_) => Code::FAULT,
    };
    (code, why.to_string())
}

fn unwritten(place: &Place, e: ReplaceError) -> Refusal {
    let (after, verb, errno) = match e {
        ReplaceError::Failed(verb, errno) => ("cannot be written and is as it was", verb, errno),
        ReplaceError::Changed => ("cannot be written and is as it was", "look at", Errno::EBUSY),
        ReplaceError::Unsynced(errno) => {
            ("was replaced, but may be lost if this machine goes down now", "sync", errno)
        }
    };
    let text = format!("{} {after}: {verb}: {} ({errno:?})", place.path().display(), errno.desc());
    (Code::IO, text)
}

/// What was done.
fn tell(task: &Task, change: &Change, shim: &Shim, log: &Log) {
    // Nothing of it has been done in a dry run.
    let would = if task.dry_run { "would say: " } else { "" };
    for (level, text) in &change.notes {
        match level {
            Level::Info => log.info(format_args!("{would}{text}")),
            level => log.line(*level, text),
        }
    }
    let path = shim.place.path().display();
    match shim.todo {
        ShimTodo::Nothing => {}
        ShimTodo::Write(..) => log.info(format_args!(
            "{would}wrote {path}, a script that starts {}",
            task.wanted.own.as_deref().unwrap_or("efs-agent")
        )),
        ShimTodo::Remove => {
            log.info(format_args!("{would}removed {path}, which started efs-agent"))
        }
    }
    if change.edits.is_empty() && matches!(shim.todo, ShimTodo::Nothing) {
        let file = task.file.display();
        log.info(match &task.wanted.start {
            Some(call) => format!("unchanged: {} is registered in {file} already", call.filename),
            None => format!("unchanged: efs-agent is not registered in {file}"),
        });
    }
}

/// What would be done.
fn tell_only(
    task: &Task,
    change: &Change,
    shim: &Shim,
    diff: String,
    log: &Log,
) -> Result<bool, Refusal> {
    if !diff.is_empty() || !matches!(shim.todo, ShimTodo::Nothing) {
        log.info("dry run, nothing is changed; without --dry-run:");
    }
    tell(task, change, shim, log);
    if !diff.is_empty() {
        let file = task.file.display();
        super::print(&format!("--- {file}\n+++ {file}\n{diff}"));
    }
    Ok(true)
}

/// The script beside config.json.
struct Shim {
    place: Place,
    todo: ShimTodo,
}

enum ShimTodo {
    Nothing,
    Write(String, Option<Version>),
    Remove,
}

impl Shim {
    /// What is to become of it.
    fn plan(task: &Task, config: &Place) -> Result<Self, Refusal> {
        let place = config.beside(SHIM);
        let found = match (&task.shim, read(&place)) {
            // Whatever it is, it is not ours.
            (None, Err(_)) => None,
            (_, found) => found?,
        };
        let ours = found.as_ref().is_none_or(|found| is_shim(&found.bytes));
        let todo = match (&task.shim, found) {
            (Some(_), Some(_)) if !ours => {
                let text = format!(
                    "{} is somebody else's: move it away, or register without --shim; nothing was changed",
                    place.path().display()
                );
                return Err((Code::TAKEN, text));
            }
            (Some(text), Some(found))
                if found.bytes == text.as_bytes() && found.like == Like::root(0o755) =>
            {
                ShimTodo::Nothing
            }
            (Some(text), found) => ShimTodo::Write(text.clone(), found.map(|f| f.version)),
            (None, Some(_)) if ours => ShimTodo::Remove,
            (None, _) => ShimTodo::Nothing,
        };
        Ok(Self { place, todo })
    }

    /// Tells whether there was none before.
    fn write(&self, folder: &File) -> Result<bool, Refusal> {
        let ShimTodo::Write(text, version) = &self.todo else {
            return Ok(false);
        };
        let written = self.place.replace(folder, text.as_bytes(), &Like::root(0o755), *version);
        written.map_err(|e| unwritten(&self.place, e))?;
        Ok(version.is_none())
    }

    fn remove(&self, folder: &File) -> Result<(), Refusal> {
        let ShimTodo::Remove = self.todo else {
            return Ok(());
        };
        self.place.remove(folder).map_err(|errno| {
            let path = self.place.path().display();
            (Code::IO, format!("{path} cannot be removed: {} ({errno:?})", errno.desc()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::test::VirtualClock;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_lock_that_stays_is_waited_for_and_then_given_up_and_is_roots_alone() {
        let dir = tempfile::tempdir().unwrap();
        let clock = VirtualClock::default();
        let held = lock(dir.path(), &clock).unwrap();
        assert_eq!(clock.now(), Duration::ZERO);
        let text =
            "another run keeps /run/efs-agent/register.lock locked: try again when it has ended";
        assert_eq!(lock(dir.path(), &clock).unwrap_err(), (Code::DEADLINE, text.into()));
        assert_eq!(clock.now(), PATIENCE);
        drop(held);
        assert!(lock(dir.path(), &clock).is_ok());
        assert_eq!(clock.now(), PATIENCE);
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o777;
        assert_eq!((mode("run/efs-agent"), mode("run/efs-agent/register.lock")), (0o700, 0o600));
    }

    #[test]
    fn a_script_is_ours_only_if_it_does_nothing_but_start_a_program() {
        assert_eq!(shim_of("/usr/sbin/efs-agent"), "#!/bin/sh\nexec /usr/sbin/efs-agent \"$@\"\n");
        assert_eq!(shim_of("/it's/a"), "#!/bin/sh\nexec '/it'\\''s/a' \"$@\"\n");
        for ours in ["/usr/sbin/efs-agent", "/it's/a"] {
            assert!(is_shim(shim_of(ours).as_bytes()));
        }
        for theirs in [
            "",
            "#!/bin/sh\nexec a\nb \"$@\"\n",
            "#!/bin/bash\nexec a \"$@\"\n",
            "#!/bin/sh\nexec a\n",
        ] {
            assert!(!is_shim(theirs.as_bytes()), "{theirs}");
        }
    }

    #[test]
    fn a_config_path_that_arguments_cannot_carry_is_refused() {
        let option = |path: &str| config_option(Path::new(path)).map_err(|(code, _)| code);
        assert_eq!(option("/etc/a-b_c.toml"), Ok(" --config /etc/a-b_c.toml".into()));
        for odd in ["/a b", "/a\tb", "/a'b", "/a\"b", "/a\\b", "/$a", "/`a`"] {
            assert_eq!(option(odd), Err(Code::CONFIG), "{odd}");
        }
        assert_eq!(option(&format!("/{}", "x".repeat(LONGEST))), Err(Code::IO));
        assert_eq!(option(&format!("/{}", "x".repeat(LONGEST - 10))), Err(Code::CONFIG));
    }
}
