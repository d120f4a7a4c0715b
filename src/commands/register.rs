//! `register` and `unregister`: they put this program into AppStream's config.json, or take it out.
//! Read [`start`] for what is wanted, [`carry_out`] for the order, and [`attempt`] for the way from
//! the old file to the new one. [`registration`] decides what an edit of the file looks like.

mod boot;
mod error;
mod file;
mod lock;
mod shim;
mod standing;

use super::frame::{self, Frame};
use super::settings::{self, SettingsError};
use crate::appstream::registration::{
    self, CONFIG_JSON, Call, Change, LONGEST, Limit, Registration, SHIM,
};
use crate::appstream::{Edit, diff};
use crate::cli::{RegisterArgs, UnregisterArgs};
use crate::config::{self, Level, Settings};
use crate::files::{self, Like, PathError, Place, ReplaceError};
use crate::installed;
use crate::log::Log;
use crate::report::Code;
use crate::retry::Clock;
use crate::text::{misleads, word};
use boot::Boot;
use error::RegisterError;
use file::{fit_path, hindered, read, trust};
use lock::lock;
use shim::{Shim, ShimStep};
pub(super) use standing::{RegistrationState, standing};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Root alone can open it, because a user who can open a file can lock it for any time.
const LOCK: &str = "/run/efs-agent/register.lock";

/// How often an attempt is made, if somebody else changes the file each time.
const ATTEMPTS: u32 = 5;

/// Registers this program, and returns the exit code.
pub fn register(args: &RegisterArgs, started: Instant) -> Code {
    run("register", args.dry_run, started, &|root, log| start(root, args, log))
}

/// Takes this program out of config.json, and returns the exit code.
pub fn unregister(args: &UnregisterArgs, started: Instant) -> Code {
    run("unregister", args.dry_run, started, &|_, _| {
        let own = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned));
        Ok(Task {
            file: file_named(args.file.as_deref())?,
            dry_run: args.dry_run,
            shim: None,
            wanted: Registration { own, start: None, termination: None, replace: false },
            boot: Boot::No,
        })
    })
}

fn run(
    command: &str,
    dry_run: bool,
    started: Instant,
    task: &dyn Fn(&Path, &Log) -> Result<Task, RegisterError>,
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
            .map_err(|error| frame.stopped().unwrap_or_else(|| error.into()))?;

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
    /// The text of the script that is to be there; `None` removes the script, if this program made
    /// it.
    shim: Option<String>,
    wanted: Registration,
    boot: Boot,
}

impl Task {
    fn registers(&self) -> bool {
        self.wanted.start.is_some()
    }
}

fn file_named(named: Option<&Path>) -> Result<PathBuf, RegisterError> {
    std::path::absolute(named.unwrap_or(Path::new(CONFIG_JSON))).map_err(RegisterError::FileOption)
}

/// What `register` wants.
fn start(root: &Path, args: &RegisterArgs, log: &Log) -> Result<Task, RegisterError> {
    let settings = settings::find(root, args.config.as_deref());
    start_with(root, args, settings, log)
}

fn start_with(
    root: &Path,
    args: &RegisterArgs,
    settings: Result<(PathBuf, Settings), SettingsError>,
    log: &Log,
) -> Result<Task, RegisterError> {
    let file = file_named(args.file.as_deref())?;
    let own = installed::executable(root)?;
    let own = fit_path(&own).map_err(|_| RegisterError::UnfitExecutable(own.clone()))?.to_owned();

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
    let filename = if args.shim { fit_path(&shim)? } else { &own };
    let deadline = settings.as_ref().map_or(config::DEADLINE, |settings| settings.deadline);
    let unmount_deadline =
        settings.as_ref().map_or(config::UNMOUNT_DEADLINE, |settings| settings.unmount_deadline);

    let start = Call {
        filename: filename.to_owned(),
        arguments: option.trim_start().to_owned(),
        limit: Limit { key: "deadline", span: deadline },
    };
    let termination = Call {
        filename: filename.to_owned(),
        arguments: format!("unmount{option}"),
        limit: Limit { key: "unmount_deadline", span: unmount_deadline },
    };

    Ok(Task {
        file,
        dry_run: args.dry_run,
        boot: Boot::wanted(&own, args.config.as_deref(), settings.as_ref()),
        shim: args.shim.then(|| shim::script(&own)),
        wanted: Registration {
            start: Some(start),
            termination: (!args.no_termination).then_some(termination),
            own: Some(own),
            replace: args.replace,
        },
    })
}

/// The option that gives a session start this config.
fn config_option(path: &Path) -> Result<String, RegisterError> {
    let path = fit_path(path)?;
    let is_plain =
        path.chars().all(|c| !c.is_whitespace() && !misleads(c) && !"\"'\\$`".contains(c));
    let option = format!(" --config {path}");
    if is_plain && option.chars().count() + "unmount".len() <= LONGEST {
        return Ok(option);
    }
    Err(RegisterError::ConfigPath(path.to_owned()))
}

/// How to make the folder of AppStream's config.json, if AppStream is there and only that folder is
/// missing.
fn folder_to_make(root: &Path, file: &Path) -> Option<String> {
    let folder = file.parent().filter(|_| file == Path::new(CONFIG_JSON))?;
    let above = folder.parent()?.strip_prefix("/").ok()?;
    root.join(above)
        .is_dir()
        .then(|| format!("make it (sudo mkdir -m 0755 {})", word(folder.display())))
}

/// Carries out the task, from the folder of config.json to the last line of the log.
fn carry_out(root: &Path, task: &Task, clock: &dyn Clock, log: &Log) -> Result<(), RegisterError> {
    let place = match files::find(root, &task.file) {
        Ok(place) => place,
        Err(PathError::NoFolder(_)) if !task.registers() => {
            report_absence(task, log);
            return Ok(());
        }
        Err(PathError::NoFolder(folder)) => {
            let cure = match folder_to_make(root, &task.file) {
                Some(make) => format!(": {make} and run this again"),
                None => ". Is this an AppStream image? (--file names another config.json)".into(),
            };
            return Err(RegisterError::NoFolder { file: task.file.clone(), folder, cure });
        }
        Err(obstacle) => return Err(hindered(&task.file, obstacle)),
    };

    trust(&place)?;
    if task.dry_run {
        return attempt(task, &place, None, log).map(|_| ());
    }

    let _lock = lock(root, clock)?;
    let folder = place
        .folder()
        .map_err(|errno| RegisterError::UnopenableFolder(task.file.clone(), errno))?;
    place.clear(&folder);
    place.beside(SHIM).clear(&folder);

    for _ in 0..ATTEMPTS {
        if attempt(task, &place, Some(&folder), log)? {
            return Ok(());
        }
    }
    Err(RegisterError::KeepsChanging(task.file.clone()))
}

fn report_absence(task: &Task, log: &Log) {
    log.info(format_args!("unchanged: {} does not exist", task.file.display()));
}

/// Replaces the old file by the new one. Without a `folder`, it says what would change. Returns
/// `false` if somebody else has changed the file in between.
fn attempt(
    task: &Task,
    place: &Place,
    folder: Option<&File>,
    log: &Log,
) -> Result<bool, RegisterError> {
    let found = read(place)?;
    if found.is_none() && !task.registers() {
        report_absence(task, log);
        return Ok(true);
    }

    let empty = registration::empty();
    let text = match &found {
        Some(found) => registration::text(&task.file, &found.bytes)?,
        None => &empty,
    };
    let mut change = registration::change(&task.file, text, &task.wanted)?;
    if found.is_none() {
        change.edits = vec![Edit { span: 0..0, text: change.text.clone() }];
    }
    let shim = Shim::plan(task.shim.as_deref(), place)?;

    let Some(folder) = folder else {
        let old = if found.is_some() { text } else { "" };
        report_dry_run(task, &change, &shim, old, log);
        return Ok(true);
    };

    let made = shim.write(folder)?;
    if !change.edits.is_empty() {
        let (like, version) =
            found.as_ref().map_or((Like::root(0o644), None), |f| (f.like, Some(f.version)));
        if let Err(e) = place.replace(folder, change.text.as_bytes(), &like, version) {
            if made && !matches!(e, ReplaceError::Unsynced(_)) {
                let _ = shim.place.remove(folder);
            }
            return match e {
                ReplaceError::Changed => Ok(false),
                e => Err(RegisterError::Unwritten(place.path().to_owned(), e)),
            };
        }
    }
    shim.remove(folder)?;

    if found.is_none() {
        log.info(format_args!("made {}, which was not there", task.file.display()));
    }
    report(task, &change, &shim, log);
    Ok(true)
}

/// Says what was done.
fn report(task: &Task, change: &Change, shim: &Shim, log: &Log) {
    // In a dry run, nothing of this was done.
    let would = if task.dry_run { "would say: " } else { "" };
    for note in &change.notes {
        match note.level() {
            Level::Info => log.info(format_args!("{would}{note}")),
            level => log.line(level, note.to_string()),
        }
    }

    let path = shim.place.path().display();
    match shim.step {
        ShimStep::Keep => {}
        ShimStep::Write(..) => log.info(format_args!(
            "{would}wrote {path}, a script that starts {}",
            task.wanted.own.as_deref().unwrap_or("efs-agent")
        )),
        ShimStep::Remove => {
            log.info(format_args!("{would}removed {path}, which started efs-agent"));
        }
    }

    if change.edits.is_empty() && shim.is_kept() {
        let file = task.file.display();
        log.info(match &task.wanted.start {
            Some(call) => format!("unchanged: {} is registered in {file} already", call.filename),
            None => format!("unchanged: efs-agent is not registered in {file}"),
        });
    }
}

/// Says what would be done to `old`, the text of config.json.
fn report_dry_run(task: &Task, change: &Change, shim: &Shim, old: &str, log: &Log) {
    let diff = diff(old, &change.edits);
    if !diff.is_empty() || !shim.is_kept() {
        log.info("dry run, nothing is changed; without --dry-run:");
    }
    report(task, change, shim, log);

    if !diff.is_empty() {
        let file = task.file.display();
        super::print(&format!("--- {file}\n+++ {file}\n{diff}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_path_that_arguments_cannot_carry_is_refused() {
        let option = |path: &str| config_option(Path::new(path)).map_err(|e| e.code());
        assert_eq!(option("/etc/a-b_c.toml"), Ok(" --config /etc/a-b_c.toml".into()));
        for odd in ["/a b", "/a\tb", "/a'b", "/a\"b", "/a\\b", "/$a", "/`a`"] {
            assert_eq!(option(odd), Err(Code::CONFIG), "{odd}");
        }
        assert_eq!(option(&format!("/{}", "x".repeat(LONGEST))), Err(Code::IO));
        assert_eq!(option(&format!("/{}", "x".repeat(LONGEST - 10))), Err(Code::CONFIG));
    }
}
