//! How AppStream runs this program, for `check`. It is a fault only where a session would have no
//! share, or would be killed before it has one. Read [`standing`]. Nothing is changed here.

mod foreign;
#[cfg(test)]
mod tests;

use super::error::RegisterError;
use super::file::{hindered, read, trust};
use super::shim::{Shim, ShimStep};
use super::{Task, folder_to_make, start_with};
use crate::appstream::registration::{
    self, CONFIG_JSON, Change, ForeignProgram, Note, Registration, RegistrationError, SHIM,
};
use crate::cli::RegisterArgs;
use crate::commands::settings::{self, SettingsError};
use crate::config::{Level, Settings};
use crate::files::{self, Contents, Place};
use crate::installed;
use crate::log::{Log, Style};
use crate::report::Code;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How AppStream runs this program. The second string is the cure.
pub(in crate::commands) enum RegistrationState {
    /// It runs us, with times that fit.
    Registered(String),
    /// It runs us with times that do not fit, or it runs another program.
    Different(String, String),
    /// It does not run us at all.
    Absent(String, String),
    /// It does not run us as this config asks.
    Wrong(String, String),
    /// Our own config is wrong, which another line of `check` says.
    NoConfig,
}

/// How a file differs from what `register` would leave with certain options.
enum Difference {
    /// `register` would change something.
    Edits { standing: RegistrationState, rank: Rank },
    /// Another program is registered for SessionTermination, and only there.
    Termination(ForeignProgram),
}

/// How much is wrong: first whether sessions suffer, then how much would change.
type Rank = (bool, usize);

/// How this executable is registered.
pub(in crate::commands) fn standing(root: &Path, config: Option<&Path>) -> RegistrationState {
    let mut config = config.map(Path::to_owned);
    if let Some(theirs) = config_of_sessions(root) {
        match same_config(root, config.as_deref(), theirs.as_deref()) {
            Ok(()) => config = theirs,
            Err(standing) => return standing,
        }
    }

    // It was presumably registered with the options that leave the least to change.
    let mut least: Option<(RegistrationState, Rank)> = None;
    let mut at_termination = None;
    for (shim, no_termination) in [(false, false), (true, false), (false, true), (true, true)] {
        let config = config.clone();
        let args = RegisterArgs { shim, no_termination, config, ..RegisterArgs::default() };
        match standing_with(root, &args) {
            Ok(standing) => {
                return foreign::at_termination(root, standing, at_termination.as_ref());
            }
            Err(Difference::Termination(program)) => at_termination = Some(program),
            Err(Difference::Edits { standing, rank }) => {
                if least.as_ref().is_none_or(|(_, old)| rank < *old) {
                    least = Some((standing, rank));
                }
            }
        }
    }

    least.map_or(RegistrationState::NoConfig, |(standing, _)| standing)
}

/// The efs-agent that is registered for SessionStart, and its arguments.
fn ours_at_start(root: &Path) -> Option<(String, String)> {
    let file = Path::new(CONFIG_JSON);
    let found = read(&files::find(root, file).ok()?).ok()??;
    let own =
        installed::executable(root).ok().and_then(|own| own.into_os_string().into_string().ok());
    let wanted = Registration { own, start: None, termination: None, replace: false };
    registration::ours_at_start(file, registration::text(file, &found.bytes).ok()?, &wanted)
}

/// The config that session starts read, by their arguments. The inner `None` is the usual config,
/// and the outer one says that the arguments are not ours.
fn config_of_sessions(root: &Path) -> Option<Option<PathBuf>> {
    let (_, arguments) = ours_at_start(root)?;
    let words: Vec<&str> = arguments.split_whitespace().collect();
    match words.as_slice() {
        [] => Some(None),
        ["--config", path] => Some(Some(path.into())),
        [one] => one.strip_prefix("--config=").map(|path| Some(path.into())),
        _ => None,
    }
}

/// Whether session starts, which read `theirs`, read the config that this check read.
///
/// # Errors
/// What it means if they do not.
fn same_config(
    root: &Path,
    ours: Option<&Path>,
    theirs: Option<&Path>,
) -> Result<(), RegistrationState> {
    let ours = ours.and_then(|path| std::path::absolute(path).ok());
    if ours.as_deref() == theirs {
        return Ok(());
    }

    // One of the two is the usual config, wherever that is.
    let usual = settings::find(root, None);
    let here = match (&ours, &usual) {
        (Some(path), _) => path.display().to_string(),
        (None, Ok((path, _))) => path.display().to_string(),
        (None, Err(_)) => "the usual one".to_owned(),
    };

    let register = match &ours {
        Some(path) => format!("sudo efs-agent register --config {}", path.display()),
        None => "sudo efs-agent register".to_owned(),
    };

    let there = match (theirs, &usual) {
        (Some(path), Ok((usual, _))) if ours.is_none() && usual == path => return Ok(()),
        (Some(path), _) => {
            let below = files::below(root, path);
            if !below.is_file() {
                let what = format!("sessions read {}, and there is no such file", path.display());
                return Err(RegistrationState::Wrong(what, format!("write it, or: {register}")));
            }
            path
        }
        (None, Ok((usual, _))) if ours.as_ref() == Some(usual) => return Ok(()),
        (None, Ok((usual, _))) => usual,
        (None, Err(SettingsError::NoFile(e))) => {
            let what = format!("sessions are not told of {here}: {e}");
            return Err(RegistrationState::Wrong(what, register));
        }
        (None, Err(_)) => {
            let what = format!("sessions read the usual config, and this check read {here}");
            return Err(RegistrationState::Different(
                what,
                format!("sudo efs-agent check; or: {register}"),
            ));
        }
    };

    let what = format!("sessions read {}, and this check read {here}", there.display());
    let check = match theirs {
        Some(path) => format!("sudo efs-agent check --config {}", path.display()),
        None => "sudo efs-agent check".to_owned(),
    };
    Err(RegistrationState::Different(
        what,
        format!("{check}; to have sessions read {here}: {register}"),
    ))
}

/// How this program is registered, if that was done with these options.
///
/// # Errors
/// How the file differs from that: other options may have been used.
fn standing_with(root: &Path, args: &RegisterArgs) -> Result<RegistrationState, Difference> {
    let quiet = Log::new(Box::new(std::io::sink()), Style::Plain);
    let mut settings = settings::find(root, args.config.as_deref());
    // Even if the config cannot be used, it can be said what is registered, but not whether the
    // times fit.
    let limits_known = !settings.as_ref().is_err_and(SettingsError::is_refused);
    if !limits_known {
        settings = Ok(settings_without_limits(args));
    }

    let task = match start_with(root, args, settings, &quiet) {
        Ok(task) => task,
        Err(error) if error.code() == Code::CONFIG => return Ok(RegistrationState::NoConfig),
        Err(error) => return Ok(wrong(&error)),
    };
    // This does not depend on the file: a deadline that can never fit does not fit any.
    if let Err(never) = registration::change(&task.file, &registration::empty(), &task.wanted) {
        return Ok(wrong(&never.into()));
    }

    let (found, place) = match open(root, &task) {
        Ok((Some(found), place)) => (found, place),
        Ok((None, _)) => {
            let text = format!("nothing is registered: {} is not there", task.file.display());
            return Ok(RegistrationState::Absent(text, "sudo efs-agent register".into()));
        }
        // The folder is missing, and `register` could do nothing.
        Err(error) if error.code() == Code::IO => return Ok(without_folder(root, &task)),
        Err(error) => return Ok(wrong(&error)),
    };

    match changes(&task, &found) {
        Ok((_, change)) if change.edits.is_empty() => Ok(as_wanted(&task, args, &place, &change)),
        Ok((false, _)) => {
            let text = format!("nothing of ours is registered in {}", task.file.display());
            Ok(RegistrationState::Absent(text, "sudo efs-agent register".into()))
        }
        Ok((true, change)) => otherwise(root, &task, args, &change, limits_known),
        Err(RegistrationError::Foreign(programs)) => match (&programs.start, &programs.termination)
        {
            (Some(program), _) => {
                let own = task.wanted.own.as_deref().unwrap_or("efs-agent");
                Ok(foreign::at_start(root, &task.file, &programs, program, own))
            }
            (None, Some(program)) => Err(Difference::Termination(program.clone())),
            (None, None) => Ok(RegistrationState::NoConfig),
        },
        Err(error) => Ok(wrong(&error.into())),
    }
}

/// Settings in the place of a config that cannot be used.
fn settings_without_limits(args: &RegisterArgs) -> (PathBuf, Settings) {
    let path = args.config.as_deref().and_then(|path| std::path::absolute(path).ok());
    let settings = Settings {
        deadline: Duration::ZERO,
        unmount_deadline: Duration::ZERO,
        ..Settings::of_no_share()
    };
    (path.unwrap_or_default(), settings)
}

/// The standing if `register` would stop with this error.
fn wrong(error: &RegisterError) -> RegistrationState {
    let cure = match error.code() {
        Code::DATA => "mend that file by hand, then: sudo efs-agent register",
        Code::CONFIG => "lower it in efs-agent's config, then: sudo efs-agent register",
        _ => "do that, then: sudo efs-agent register",
    };
    RegistrationState::Wrong(error.to_string(), cure.to_owned())
}

fn open(root: &Path, task: &Task) -> Result<(Option<Contents>, Place), RegisterError> {
    let place = files::find(root, &task.file).map_err(|obstacle| hindered(&task.file, obstacle))?;
    trust(&place)?;
    Ok((read(&place)?, place))
}

fn without_folder(root: &Path, task: &Task) -> RegistrationState {
    let file = task.file.display();
    let text = format!("nothing is registered: {file} is not there, nor is its folder");
    let cure = match folder_to_make(root, &task.file) {
        Some(make) => format!("{make}, then: sudo efs-agent register"),
        None => "on an AppStream image: sudo efs-agent register; on another machine: sudo \
                 systemctl enable efs-agent.service"
            .to_owned(),
    };
    RegistrationState::Absent(text, cure)
}

/// Whether efs-agent is in the file, and what would change.
fn changes(task: &Task, found: &Contents) -> Result<(bool, Change), RegistrationError> {
    let text = registration::text(&task.file, &found.bytes)?;
    let taken_out = Registration { start: None, termination: None, ..task.wanted.clone() };
    let has_ours = !registration::change(&task.file, text, &taken_out)?.edits.is_empty();
    Ok((has_ours, registration::change(&task.file, text, &task.wanted)?))
}

/// The standing if the file is as `register` would leave it.
fn as_wanted(
    task: &Task,
    args: &RegisterArgs,
    place: &Place,
    change: &Change,
) -> RegistrationState {
    // The script that config.json names must be there, be efs-agent's, and be executable.
    match Shim::plan(task.shim.as_deref(), place) {
        Ok(Shim { step: ShimStep::Write(..), place }) => {
            let text = format!("{} is missing or was changed", place.path().display());
            return RegistrationState::Wrong(text, "sudo efs-agent register --shim".into());
        }
        Err(error) => return wrong(&error),
        Ok(_) => {}
    }

    let file = task.file.display();
    let what = if args.shim { SHIM } else { "this executable" };
    let termination = if args.no_termination { "" } else { " and SessionTermination" };
    let text = format!("{what} is registered in {file} for SessionStart{termination}");
    if change.notes.is_empty() {
        return RegistrationState::Registered(text);
    }
    let warnings = joined(&change.notes.iter().collect::<Vec<_>>());
    RegistrationState::Different(
        format!("{text}; but {warnings}"),
        format!("correct that in {file}"),
    )
}

/// The standing if the file has this program, but not as `register` would leave it.
fn otherwise(
    root: &Path,
    task: &Task,
    args: &RegisterArgs,
    change: &Change,
    limits_known: bool,
) -> Result<RegistrationState, Difference> {
    let notes = change.notes.iter().filter(|note| note.level() == Level::Info);
    let notes: Vec<&Note> = notes.filter(|note| limits_known || !note.is_about_time()).collect();
    if notes.is_empty() {
        let text = "this executable is registered; whether waitingTime fits is not known, as the config \
                    cannot be used";
        return Ok(RegistrationState::Registered(text.to_owned()));
    }

    // Something is wrong if a start that waits for its share would be killed before it has it, or
    // has said why not.
    let is_well = !change.cut_off && (!change.start_differs() || another_of_ours_runs(root));
    // Options that would take a registration out are advised last.
    let takes_out = notes.iter().any(|note| matches!(note, Note::Unregistered { .. }));
    let rank = (!is_well, if takes_out { usize::MAX } else { notes.len() });

    let what = format!(
        "{} is not as register would leave it; that would say: {}",
        task.file.display(),
        joined(&notes)
    );
    let cure = format!("sudo efs-agent register{}", options(args));
    let standing = match is_well {
        true => RegistrationState::Different(what, cure),
        false => RegistrationState::Wrong(what, cure),
    };
    Err(Difference::Edits { standing, rank })
}

/// Whether an efs-agent in another place is registered for SessionStart, and can run: it mounts the
/// shares too.
fn another_of_ours_runs(root: &Path) -> bool {
    let Some((filename, _)) = ours_at_start(root).filter(|_| config_of_sessions(root).is_some())
    else {
        return false;
    };
    let file = fs::metadata(root.join(filename.trim_start_matches('/')));
    file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn joined(notes: &[&Note]) -> String {
    notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The options of `register` that are set, each after a blank.
fn options(args: &RegisterArgs) -> String {
    let mut options = String::new();
    if args.shim {
        options += " --shim";
    }
    if args.no_termination {
        options += " --no-termination";
    }
    if let Some(path) = &args.config {
        options += &format!(" --config {}", path.display());
    }
    options
}
