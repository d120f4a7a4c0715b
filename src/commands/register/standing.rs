//! What AppStream makes of us, for `check`: FAULT only where a session would have no share, or be cut off before it
//! has it. Read [`standing`].

use super::{Shim, ShimTodo, folder_to_make, hindered, read, start_with, unchanged, untrusted};
use crate::appstream::registration::{
    self, CONFIG_JSON, Foreign, Refusal as Unchanged, SHIM, Theirs, Wanted,
};
use crate::cli::RegisterArgs;
use crate::commands::Refusal;
use crate::commands::settings::{self, SettingsError};
use crate::config::{Level, Settings};
use crate::files;
use crate::installed;
use crate::log::Log;
use crate::report::Code;
use nix::libc;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So much of somebody else's program is looked at.
const LONGEST_PROGRAM: u64 = 1 << 20;

/// What AppStream makes of us, for `check`; what is wrong with it comes with the cure.
pub(in crate::commands) enum Standing {
    /// It runs us, with times that fit.
    Registered(String),
    /// It runs us, with times that do not fit; or it runs another program.
    Different(String, String),
    /// It does not run us at all.
    Absent(String, String),
    /// It does not run us as this config asks.
    Wrong(String, String),
    /// Our own config is wrong, which is told elsewhere.
    NoConfig,
}

/// How a file is not as `register` would leave it.
enum Differs {
    /// What would change, and how many things.
    From(Standing, usize),
    /// Somebody else's program at SessionTermination alone.
    Termination(Theirs),
}

/// How this executable is registered.
pub(in crate::commands) fn standing(root: &Path, config: Option<&Path>) -> Standing {
    let mut config = config.map(Path::to_owned);
    if let Some(theirs) = sessions_config(root) {
        match same_config(root, config.as_deref(), theirs.as_deref()) {
            Ok(()) => config = theirs,
            Err(standing) => return standing,
        }
    }
    let mut differs: Option<(Standing, usize)> = None;
    let mut at_end = None;
    for (shim, no_termination) in [(false, false), (true, false), (false, true), (true, true)] {
        let args = RegisterArgs {
            shim,
            no_termination,
            config: config.clone(),
            ..RegisterArgs::default()
        };
        match standing_as(root, &args) {
            Ok(standing) => return with_termination(root, standing, at_end),
            Err(Differs::Termination(theirs)) => at_end = Some(theirs),
            // It was registered with the options that leave the least to change.
            Err(Differs::From(standing, count)) => {
                let rank =
                    |standing: &Standing, count| (matches!(standing, Standing::Wrong(..)), count);
                let new = rank(&standing, count);
                if differs.as_ref().is_none_or(|(old, count)| new < rank(old, *count)) {
                    differs = Some((standing, count));
                }
            }
        }
    }
    differs.map_or(Standing::NoConfig, |(standing, _)| standing)
}

/// The program of ours that is there for SessionStart, and its arguments.
fn ours_at_start(root: &Path) -> Option<(String, String)> {
    let file = Path::new(CONFIG_JSON);
    let found = read(&files::find(root, file).ok()?).ok()??;
    let own =
        installed::executable(root).ok().and_then(|own| own.into_os_string().into_string().ok());
    let wanted = Wanted { own, start: None, termination: None, replace: false };
    registration::ours_at_start(file, registration::text(file, &found.bytes).ok()?, &wanted)
}

/// The config that session starts are told to read; the inner one is none if they take the usual one. None too where
/// the arguments are not ours.
fn sessions_config(root: &Path) -> Option<Option<PathBuf>> {
    let (_, arguments) = ours_at_start(root)?;
    let words: Vec<&str> = arguments.split_whitespace().collect();
    match words.as_slice() {
        [] => Some(None),
        ["--config", path] => Some(Some(path.into())),
        [one] => one.strip_prefix("--config=").map(|path| Some(path.into())),
        _ => None,
    }
}

/// Whether session starts, which are told to read `theirs`, read what this check read.
///
/// # Errors
/// What that means, if not.
fn same_config(root: &Path, ours: Option<&Path>, theirs: Option<&Path>) -> Result<(), Standing> {
    let ours = ours.and_then(|path| std::path::absolute(path).ok());
    if ours.as_deref() == theirs {
        return Ok(());
    }
    // One of the two is the usual one, wherever that is.
    let usual = settings::find(root, None);
    let here = match (&ours, &usual) {
        (Some(path), _) => path.display().to_string(),
        (None, Ok((path, _))) => path.display().to_string(),
        (None, Err(_)) => "the usual one".to_owned(),
    };
    let anew = match &ours {
        Some(path) => format!("sudo efs-agent register --config {}", path.display()),
        None => "sudo efs-agent register".to_owned(),
    };
    let there = match (theirs, &usual) {
        (Some(path), Ok((usual, _))) if ours.is_none() && usual == path => return Ok(()),
        (Some(path), _) => {
            let below = root.join(path.strip_prefix("/").unwrap_or(path));
            if !below.is_file() {
                let what = format!("sessions read {}, and there is no such file", path.display());
                return Err(Standing::Wrong(what, format!("write it, or: {anew}")));
            }
            path
        }
        (None, Ok((usual, _))) if ours.as_ref() == Some(usual) => return Ok(()),
        (None, Ok((usual, _))) => usual,
        (None, Err(SettingsError::NoFile(e))) => {
            let what = format!("sessions are not told of {here}: {e}");
            return Err(Standing::Wrong(what, anew));
        }
        (None, Err(_)) => {
            let what = format!("sessions read the usual config, and this check read {here}");
            return Err(Standing::Different(what, format!("sudo efs-agent check; or: {anew}")));
        }
    };
    let what = format!("sessions read {}, and this check read {here}", there.display());
    let check = match theirs {
        Some(path) => format!("sudo efs-agent check --config {}", path.display()),
        None => "sudo efs-agent check".to_owned(),
    };
    Err(Standing::Different(what, format!("{check}; to have sessions read {here}: {anew}")))
}

/// The same where somebody else's program is at SessionTermination.
fn with_termination(root: &Path, standing: Standing, theirs: Option<Theirs>) -> Standing {
    match (standing, theirs) {
        (Standing::Registered(text), Some(theirs)) => {
            let Err((what, cure)) = at_end(root, &theirs) else {
                let what = theirs.what;
                return Standing::Registered(format!("{text}; {what}; {PRESUMABLY}"));
            };
            Standing::Different(format!("{text}; {what}"), cure)
        }
        (standing, _) => standing,
    }
}

/// What to say of a program that is not ours, and names us.
const PRESUMABLY: &str = "it names efs-agent, so it presumably starts it";

/// Somebody else's program at SessionTermination: what to say of it, and to do, unless it names us.
fn at_end(root: &Path, theirs: &Theirs) -> Result<(), (String, String)> {
    let why = match looked_at(root, theirs) {
        Ok(true) => return Ok(()),
        Ok(false) => format!("efs-agent is not named in {}", theirs.filename),
        Err(why) => {
            let what = match theirs.slip {
                Some(_) => theirs.what.clone(),
                None => format!("{}; {why}", theirs.what),
            };
            let cure =
                format!("correct that in {CONFIG_JSON}, or: sudo efs-agent register --replace");
            return Err((what, cure));
        }
    };
    let cure = "have it run `efs-agent unmount`, or: sudo efs-agent register --replace; nothing, if shares \
                need not be unmounted (register --no-termination)";
    Err((format!("{}; {why}", theirs.what), cure.to_owned()))
}

/// Somebody else's program at SessionStart, and perhaps one at SessionTermination.
fn foreign(root: &Path, file: &Path, foreign: &Foreign, theirs: &Theirs, own: &str) -> Standing {
    let told = foreign.told();
    let file = file.display();
    match looked_at(root, theirs) {
        Err(why) => {
            let slip = theirs.slip.is_some();
            let what = if slip { told } else { format!("{told}; {why}") };
            let cure = format!("correct that in {file}, or: sudo efs-agent register --replace");
            Standing::Absent(what, cure)
        }
        Ok(false) => Standing::Absent(
            format!("{told}; efs-agent is not named in {}", theirs.filename),
            format!("have that program start {own}, or: sudo efs-agent register --replace"),
        ),
        Ok(true) if foreign.cut_off => Standing::Wrong(
            format!("{told}; {PRESUMABLY}, but waitingTime is not above the deadline"),
            format!("raise waitingTime of SessionStart in {file}"),
        ),
        Ok(true) => {
            let what = format!("{}; {PRESUMABLY}", theirs.what);
            with_termination(root, Standing::Registered(what), foreign.termination.clone())
        }
    }
}

/// Whether somebody else's program names us.
///
/// # Errors
/// Why AppStream can run nothing by that name.
fn looked_at(root: &Path, theirs: &Theirs) -> Result<bool, String> {
    if let Some(slip) = theirs.slip {
        return Err(slip.to_owned());
    }
    let name = theirs.filename.as_str();
    let is_file = |name: &str| root.join(name.trim_start_matches('/')).is_file();
    if is_file(name) {
        return Ok(names_us(root, name));
    }
    let bare = name.trim();
    let program = bare.split_whitespace().next().unwrap_or(bare);
    Err(match () {
        () if bare != name && is_file(bare) => match name.starts_with(bare) {
            true => "its filename has a blank at its end".to_owned(),
            false => "its filename has a blank at its beginning".to_owned(),
        },
        () if program != bare && is_file(program) => "arguments belong into `arguments`".to_owned(),
        () => "there is no such file".to_owned(),
    })
}

/// Whether the name of this program is in somebody else's; in a script, a comment does not count.
fn names_us(root: &Path, program: &str) -> bool {
    let name = b"efs-agent";
    let path = root.join(program.trim_start_matches('/'));
    // A FIFO would be waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut text = Vec::new();
    let read = file.and_then(|file| file.take(LONGEST_PROGRAM).read_to_end(&mut text));
    let is_in = |text: &[u8]| text.windows(name.len()).any(|word| word == name);
    if text.contains(&0) {
        return read.is_ok() && is_in(&text);
    }
    read.is_ok() && text.split(|byte| *byte == b'\n').any(|line| is_in(before_comment(line)))
}

fn before_comment(line: &[u8]) -> &[u8] {
    let mut before = b' ';
    let comment = line.iter().position(|byte| {
        let begins = *byte == b'#' && before.is_ascii_whitespace();
        before = *byte;
        begins
    });
    comment.and_then(|end| line.get(..end)).unwrap_or(line)
}

/// How it is registered, if it was with these options.
///
/// # Errors
/// How it differs from that: it may have been registered with others.
fn standing_as(root: &Path, args: &RegisterArgs) -> Result<Standing, Differs> {
    let quiet = Log::new(Box::new(std::io::sink()), crate::log::Style::Plain);
    // register's own words; but nobody was about to change anything.
    let wrong = |(code, text): Refusal| {
        let text = text.trim_end_matches("; nothing was changed").to_owned();
        let cure = match code {
            Code::DATA => "mend that file by hand, then: sudo efs-agent register",
            Code::CONFIG => "lower it in efs-agent's config, then: sudo efs-agent register",
            _ => "do that, then: sudo efs-agent register",
        };
        Standing::Wrong(text, cure.into())
    };
    let mut settings = settings::find(root, args.config.as_deref());
    // What is registered can be told all the same; but not whether the times fit.
    let unknown = settings.as_ref().is_err_and(SettingsError::is_refused);
    if unknown {
        let path = args.config.as_deref().and_then(|path| std::path::absolute(path).ok());
        let times = Duration::ZERO;
        let nothing =
            Settings { deadline: times, unmount_deadline: times, ..Settings::of_no_share() };
        settings = Ok((path.unwrap_or_default(), nothing));
    }
    let task = match start_with(root, args, settings, &quiet) {
        Ok(task) => task,
        Err((Code::CONFIG, _)) => return Ok(Standing::NoConfig),
        Err(refusal) => return Ok(wrong(refusal)),
    };
    // Whatever is there now: a deadline that can never fit is one in any file.
    if let Err(never) = registration::change(&task.file, &registration::empty(), &task.wanted) {
        return Ok(wrong(unchanged(never)));
    }
    let found = files::find(root, &task.file)
        .map_err(|obstacle| hindered(&task.file, obstacle))
        .and_then(|place| {
            place.trust(None).map_err(|fault| untrusted(&task.file, fault))?;
            Ok((read(&place)?, place))
        });
    let file = task.file.display();
    let (found, place) = match found {
        Ok((Some(found), place)) => (found, place),
        Ok((None, _)) => {
            let text = format!("nothing is registered: {file} is not there");
            return Ok(Standing::Absent(text, "sudo efs-agent register".into()));
        }
        // There, register could do nothing.
        Err((Code::IO, _)) => {
            let text = format!("nothing is registered: {file} is not there, nor is its folder");
            if let Some(make) = folder_to_make(root, &task.file) {
                return Ok(Standing::Absent(
                    text,
                    format!("{make}, then: sudo efs-agent register"),
                ));
            }
            let cure = "on an AppStream image: sudo efs-agent register; on another machine: sudo \
                        systemctl enable efs-agent.service";
            return Ok(Standing::Absent(text, cure.into()));
        }
        Err(refusal) => return Ok(wrong(refusal)),
    };
    let taken_out = Wanted { start: None, termination: None, ..task.wanted.clone() };
    let plans = registration::text(&task.file, &found.bytes).and_then(|text| {
        let ours = !registration::change(&task.file, text, &taken_out)?.edits.is_empty();
        Ok((ours, registration::change(&task.file, text, &task.wanted)?))
    });
    match plans {
        Ok((_, change)) if change.edits.is_empty() => {
            // The script that config.json names must be there, ours, and have its run bits.
            match Shim::plan(&task, &place) {
                Ok(Shim { todo: ShimTodo::Write(..), place }) => {
                    let text = format!("{} is missing or was changed", place.path().display());
                    return Ok(Standing::Wrong(text, "sudo efs-agent register --shim".into()));
                }
                Err(refusal) => return Ok(wrong(refusal)),
                Ok(_) => {}
            }
            let what = if args.shim { SHIM } else { "this executable" };
            let end = if args.no_termination { "" } else { " and SessionTermination" };
            let text = format!("{what} is registered in {file} for SessionStart{end}");
            let warnings = change.notes.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
            Ok(match warnings.is_empty() {
                true => Standing::Registered(text),
                false => Standing::Different(
                    format!("{text}; but {}", warnings.join("; ")),
                    format!("correct that in {file}"),
                ),
            })
        }
        Ok((false, _)) => Ok(Standing::Absent(
            format!("nothing of ours is registered in {file}"),
            "sudo efs-agent register".into(),
        )),
        Ok((true, change)) => {
            let done = change.notes.into_iter().filter(|(level, _)| *level == Level::Info);
            let notes: Vec<String> = done
                .map(|(_, text)| text)
                .filter(|note| !unknown || !note.starts_with("waitingTime"))
                .collect();
            if notes.is_empty() {
                let text = "this executable is registered; whether waitingTime fits is not known, as the config \
                            cannot be used";
                return Ok(Standing::Registered(text.to_owned()));
            }
            // Another of ours, in another place, mounts the shares too.
            let is_another = || {
                let path = ours_at_start(root)
                    .filter(|_| sessions_config(root).is_some())
                    .map(|(filename, _)| root.join(filename.trim_start_matches('/')));
                let is_program =
                    |meta: fs::Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
                path.is_some_and(|path| fs::metadata(path).is_ok_and(is_program))
            };
            // A start that waits for its share would be killed before it has it, or has said why not.
            let is_well = !change.cut_off && (!change.start_differs || is_another());
            let standing = if is_well { Standing::Different } else { Standing::Wrong };
            // What would take a registration out is the last to be advised.
            let takes_out = notes.iter().any(|note| note.starts_with("unregistered"));
            let count = if takes_out { usize::MAX } else { notes.len() };
            let what = format!(
                "{file} is not as register would leave it; that would say: {}",
                notes.join("; ")
            );
            let options = match (&args.config, args.shim, args.no_termination) {
                (None, false, false) => String::new(),
                (config, shim, no_termination) => {
                    let config =
                        config.as_ref().map(|path| format!(" --config {}", path.display()));
                    let shim = if shim { " --shim" } else { "" };
                    let end = if no_termination { " --no-termination" } else { "" };
                    format!("{shim}{end}{}", config.unwrap_or_default())
                }
            };
            Err(Differs::From(standing(what, format!("sudo efs-agent register{options}")), count))
        }
        Err(Unchanged::Foreign(found)) => match (&found.start, &found.termination) {
            (Some(theirs), _) => {
                let own = task.wanted.own.as_deref().unwrap_or("efs-agent");
                Ok(foreign(root, &task.file, &found, theirs, own))
            }
            (None, Some(theirs)) => Err(Differs::Termination(theirs.clone())),
            (None, None) => Ok(Standing::NoConfig),
        },
        Err(refusal) => Ok(wrong(unchanged(refusal))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{carry_out, start};
    use super::*;
    use crate::retry::test::VirtualClock;

    /// A machine whose running executable is its /usr/sbin/efs-agent, so to say.
    fn machine() -> tempfile::TempDir {
        let dir = tempfile::tempdir_in("/run").unwrap();
        let root = dir.path();
        fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let real = root.join("sbin/efs-agent");
        // The link in /proc names it from the real root.
        let seen = root.join(real.strip_prefix("/").unwrap());
        for folder in ["proc/self", "sbin", "etc/efs-agent", "opt"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::create_dir_all(seen.parent().unwrap()).unwrap();
        fs::write(&real, "").unwrap();
        fs::hard_link(&real, seen).unwrap();
        std::os::unix::fs::symlink(&real, root.join("proc/self/exe")).unwrap();
        fs::write(
            root.join("etc/efs-agent/config.toml"),
            "[[share]]\nendpoint = \"fs-1.example\"\n",
        )
        .unwrap();
        dir
    }

    #[test]
    fn check_is_told_how_bad_it_is_that_something_else_is_registered() {
        let dir = machine();
        let root = dir.path();
        let told = || match standing(root, None) {
            Standing::Registered(what) => ("ok", what, String::new()),
            Standing::Different(what, cure) => ("warning", what, cure),
            Standing::Absent(what, cure) => ("absent", what, cure),
            Standing::Wrong(what, cure) => ("fault", what, cure),
            Standing::NoConfig => ("no config", String::new(), String::new()),
        };
        // No AppStream, then AppStream without the folder: register alone would lead back to check.
        assert!(told().2.starts_with("on an AppStream image: sudo efs-agent register"));
        fs::create_dir(root.join("opt/appstream")).unwrap();
        let (state, _, cure) = told();
        assert_eq!(
            (state, cure.as_str()),
            (
                "absent",
                "make it (sudo mkdir -m 0755 /opt/appstream/SessionScripts), then: sudo efs-agent register"
            )
        );
        let log = Log::new(Box::new(std::io::sink()), crate::log::Style::Plain);
        let task = start(root, &RegisterArgs::default(), &log).unwrap();
        let (_, text) = carry_out(root, &task, &VirtualClock::default(), &log).unwrap_err();
        let made = "does not exist: make it (sudo mkdir -m 0755 /opt/appstream/SessionScripts) and run this again";
        assert!(text.ends_with(made), "{text}");
        fs::create_dir(root.join("opt/appstream/SessionScripts")).unwrap();
        assert_eq!(told().2, "sudo efs-agent register");
        carry_out(root, &task, &VirtualClock::default(), &log).unwrap();
        assert_eq!(told().0, "ok");
        let file = root.join("opt/appstream/SessionScripts/config.json");
        let good = fs::read_to_string(&file).unwrap();
        let changed = |old: &str, new: &str| {
            assert!(good.contains(old), "{good}");
            fs::write(&file, good.replacen(old, new, 1)).unwrap();
            told()
        };
        let (state, what, _) = changed("\"s3LogEnabled\": true", "\"s3LogEnabled\": false");
        assert_eq!(state, "warning");
        assert!(what.contains("will not be in the S3 session log"), "{what}");
        // The deadline is 25 s, and a session start must end 2 s before waitingTime.
        for (seconds, wanted) in [("26", "warning"), ("25", "fault"), ("5", "fault")] {
            let (state, what, _) =
                changed("\"waitingTime\": 30", &format!("\"waitingTime\": {seconds}"));
            assert_eq!(state, wanted, "{seconds}: {what}");
        }
        let own = root.join("sbin/efs-agent").display().to_string();
        let script = root.join("opt/their.sh");
        let their = |text: &str| {
            fs::write(&script, text).unwrap();
            told()
        };
        let _ = fs::remove_file(&script);
        let (state, what, cure) = changed(&own, "/opt/their.sh");
        assert_eq!(state, "absent", "{what}");
        assert!(what.ends_with("which is not efs-agent; there is no such file"), "{what}");
        assert!(cure.starts_with("correct that in /opt/appstream"), "{cure}");
        let (state, what, cure) = their("#!/bin/sh\nexit 0\n");
        assert_eq!(state, "absent");
        assert!(what.ends_with("efs-agent is not named in /opt/their.sh"), "{what}");
        assert!(cure.starts_with(&format!("have that program start {own}, or: ")), "{cure}");
        for comment in ["# efs-agent: later\n", "true # efs-agent\n"] {
            assert_eq!(their(comment).0, "absent", "{comment}");
        }
        for (script, wanted) in
            [("a#b\n/usr/sbin/efs-agent\n", "ok"), ("\x7fELF\0 # efs-agent", "ok")]
        {
            let (state, what, cure) = their(script);
            assert_eq!((state, cure.as_str()), (wanted, ""), "{what}");
            assert!(what.ends_with("it names efs-agent, so it presumably starts it"), "{what}");
            assert!(!what.contains("nothing was changed"), "{what}");
        }
        // It is killed too early all the same.
        let early = good.replacen(&own, "/opt/their.sh", 1).replacen(": 30", ": 25", 1);
        fs::write(&file, early).unwrap();
        assert_eq!(told().0, "fault");
        for (filename, why) in [
            (format!("{own} --once"), "arguments belong into `arguments`"),
            (format!("{own} "), "its filename has a blank at its end"),
            ("/opt/their.sh -v".into(), "arguments belong into `arguments`"),
            ("/opt/their.sh ".into(), "its filename has a blank at its end"),
        ] {
            let (state, what, _) = changed(&format!("\"{own}\""), &format!("\"{filename}\""));
            assert_eq!(state, "absent", "{what}");
            assert!(what.ends_with(why) && what.matches(why).count() == 1, "{what}");
        }
    }

    fn registered(root: &Path, args: &RegisterArgs) -> (PathBuf, String) {
        fs::create_dir_all(root.join("opt/appstream/SessionScripts")).unwrap();
        let log = Log::new(Box::new(std::io::sink()), crate::log::Style::Plain);
        let task = start(root, args, &log).unwrap();
        carry_out(root, &task, &VirtualClock::default(), &log).unwrap();
        let file = root.join("opt/appstream/SessionScripts/config.json");
        let text = fs::read_to_string(&file).unwrap();
        (file, text)
    }

    #[test]
    fn only_what_leaves_sessions_without_a_share_is_a_fault_and_its_reason_is_told() {
        let dir = machine();
        let root = dir.path();
        let args = RegisterArgs { no_termination: true, ..RegisterArgs::default() };
        let (file, good) = registered(root, &args);
        assert!(matches!(standing(root, None), Standing::Registered(_)));
        let entry = good.find("\"s3LogEnabled\": true").unwrap();
        for (new, was) in
            [("\"s3LogEnabled\": null", "it was null"), ("\"x\": 1", "there was none")]
        {
            let mut text = good.clone();
            text.replace_range(entry..entry + "\"s3LogEnabled\": true".len(), new);
            fs::write(&file, text).unwrap();
            let Standing::Different(what, cure) = standing(root, None) else { panic!("{new}") };
            let end = format!(
                "would say: s3LogEnabled of the system-context SessionStart entry set to true, {was}"
            );
            assert!(what.ends_with(&end), "{what}");
            assert_eq!(cure, "sudo efs-agent register --no-termination");
        }
        fs::write(&file, good.replacen(": 30", ": 26", 1)).unwrap();
        assert!(matches!(standing(root, None), Standing::Different(..)));
        // What is run at the end of a session has no share to mount.
        let (file, good) = registered(root, &RegisterArgs::default());
        fs::write(&file, good.replacen("unmount", "unmount --terminate", 1)).unwrap();
        assert!(matches!(standing(root, None), Standing::Different(..)));
        fs::write(&file, good.replacen("\"arguments\": \"\"", "\"arguments\": \"unmount\"", 1))
            .unwrap();
        assert!(matches!(standing(root, None), Standing::Wrong(..)));
    }

    #[test]
    fn another_program_at_session_termination_gets_a_cure_of_its_own() {
        let dir = machine();
        let root = dir.path();
        let (file, good) = registered(root, &RegisterArgs::default());
        let own = root.join("sbin/efs-agent").display().to_string();
        let (start, end) = good.split_at(good.find("\"SessionTermination\"").unwrap());
        fs::write(&file, format!("{start}{}", end.replacen(&own, "/opt/end.sh", 1))).unwrap();
        let Standing::Different(what, cure) = standing(root, None) else { panic!() };
        assert!(what.ends_with("there is no such file"), "{what}");
        assert!(cure.starts_with("correct that in "), "{cure}");
        fs::write(root.join("opt/end.sh"), "#!/bin/sh\n").unwrap();
        let Standing::Different(what, cure) = standing(root, None) else { panic!() };
        assert!(
            what.contains("SessionStart; /opt/appstream") && what.contains("/opt/end.sh"),
            "{what}"
        );
        assert!(cure.starts_with("have it run `efs-agent unmount`, or: "), "{cure}");
        fs::write(root.join("opt/end.sh"), "/usr/sbin/efs-agent unmount\n").unwrap();
        assert!(matches!(standing(root, None), Standing::Registered(_)));
    }

    #[test]
    fn the_config_that_sessions_read_is_told_where_another_was_checked() {
        let dir = machine();
        let root = dir.path();
        let usual = root.join("etc/efs-agent/config.toml");
        fs::copy(&usual, root.join("etc/efs-agent/other.toml")).unwrap();
        let other = Path::new("/etc/efs-agent/other.toml");
        let args = RegisterArgs { config: Some(other.into()), ..RegisterArgs::default() };
        registered(root, &args);
        let Standing::Different(what, cure) = standing(root, None) else { panic!() };
        let expected = "sessions read /etc/efs-agent/other.toml, and this check read /etc/efs-agent/config.toml";
        assert_eq!(what, expected);
        assert!(cure.starts_with("sudo efs-agent check --config /etc/efs-agent/other.toml; "));
        assert!(matches!(standing(root, Some(other)), Standing::Registered(_)));
        fs::remove_file(root.join("etc/efs-agent/other.toml")).unwrap();
        assert!(matches!(standing(root, None), Standing::Wrong(..)));
        // By its own path or not, it is the same file.
        let installed = Path::new("/etc/efs-agent/config.toml");
        registered(
            root,
            &RegisterArgs { config: Some(installed.into()), ..RegisterArgs::default() },
        );
        assert!(matches!(standing(root, None), Standing::Registered(_)));
        registered(root, &RegisterArgs::default());
        assert!(matches!(standing(root, Some(installed)), Standing::Registered(_)));
        // One that cannot be read says nothing of the registration.
        fs::write(&usual, "[[share\n").unwrap();
        assert!(matches!(standing(root, None), Standing::Registered(_)));
        fs::remove_file(root.join("opt/appstream/SessionScripts/config.json")).unwrap();
        assert!(matches!(standing(root, None), Standing::Absent(..)));
    }
}
