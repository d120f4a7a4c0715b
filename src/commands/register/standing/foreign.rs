//! Another program in the place of this one: whether AppStream can run it, and whether it names us.
//! It is looked at, never run.

use super::RegistrationState;
use crate::appstream::registration::{CONFIG_JSON, FilenameSlip, ForeignProgram, ForeignPrograms};
use nix::libc;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// No more bytes of the program than this are looked at.
const LONGEST_PROGRAM: u64 = 1 << 20;

/// What to say about a program that is not ours, and names us.
const PRESUMABLY: &str = "it names efs-agent, so it presumably starts it";

/// The standing if another program is at SessionStart, and perhaps one at SessionTermination. `own`
/// is the program that should be there.
pub fn at_start(
    root: &Path,
    file: &Path,
    programs: &ForeignPrograms,
    program: &ForeignProgram,
    own: &str,
) -> RegistrationState {
    let file = file.display();
    match names_efs_agent(root, program) {
        Err(why) => {
            let what = match program.slip {
                Some(_) => programs.to_string(),
                None => format!("{programs}; {why}"),
            };

            let cure = format!("correct that in {file}, or: sudo efs-agent register --replace");
            RegistrationState::Absent(what, cure)
        }
        Ok(false) => RegistrationState::Absent(
            format!("{programs}; efs-agent is not named in {}", program.filename),
            format!("have that program start {own}, or: sudo efs-agent register --replace"),
        ),
        Ok(true) if programs.cut_off => RegistrationState::Wrong(
            format!("{programs}; {PRESUMABLY}, but waitingTime is not above the deadline"),
            format!("raise waitingTime of SessionStart in {file}"),
        ),
        Ok(true) => {
            let what = format!("{}; {PRESUMABLY}", program.what);
            at_termination(root, RegistrationState::Registered(what), programs.termination.as_ref())
        }
    }
}

/// Adds to `standing`, which is about SessionStart, what there is to say about another program at
/// SessionTermination.
pub fn at_termination(
    root: &Path,
    standing: RegistrationState,
    program: Option<&ForeignProgram>,
) -> RegistrationState {
    let (RegistrationState::Registered(text), Some(program)) = (&standing, program) else {
        return standing;
    };

    let what = &program.what;
    match names_efs_agent(root, program) {
        Ok(true) => RegistrationState::Registered(format!("{text}; {what}; {PRESUMABLY}")),
        Ok(false) => RegistrationState::Different(
            format!("{text}; {what}; efs-agent is not named in {}", program.filename),
            "have it run `efs-agent unmount`, or: sudo efs-agent register --replace; nothing, if shares \
             need not be unmounted (register --no-termination)"
                .to_owned(),
        ),
        Err(why) => {
            let what = match program.slip {
                Some(_) => format!("{text}; {what}"),
                None => format!("{text}; {what}; {why}"),
            };

            let cure =
                format!("correct that in {CONFIG_JSON}, or: sudo efs-agent register --replace");
            RegistrationState::Different(what, cure)
        }
    }
}

/// Whether the program names us.
///
/// # Errors
/// Why AppStream can run nothing by that name.
fn names_efs_agent(root: &Path, program: &ForeignProgram) -> Result<bool, String> {
    if let Some(slip) = program.slip {
        return Err(slip.to_string());
    }
    let filename = program.filename.as_str();
    if is_file(root, filename) {
        return Ok(file_names_efs_agent(root, filename));
    }
    Err(match FilenameSlip::find(filename, |name| is_file(root, name)) {
        Some(slip) => slip.to_string(),
        None => "there is no such file".to_owned(),
    })
}

fn is_file(root: &Path, filename: &str) -> bool {
    root.join(filename.trim_start_matches('/')).is_file()
}

/// Whether the name efs-agent is in the file. In a script, a comment does not count.
fn file_names_efs_agent(root: &Path, filename: &str) -> bool {
    let path = root.join(filename.trim_start_matches('/'));
    // Without O_NONBLOCK, opening a FIFO would wait.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut text = Vec::new();
    if file.and_then(|file| file.take(LONGEST_PROGRAM).read_to_end(&mut text)).is_err() {
        return false;
    }

    let is_script = !text.contains(&0);
    match is_script {
        true => text.split(|byte| *byte == b'\n').any(|line| is_named(without_comment(line))),
        false => is_named(&text),
    }
}

fn is_named(text: &[u8]) -> bool {
    let name = b"efs-agent";
    text.windows(name.len()).any(|word| word == name)
}

fn without_comment(line: &[u8]) -> &[u8] {
    let mut before = b' ';
    let comment = line.iter().position(|byte| {
        let begins = *byte == b'#' && before.is_ascii_whitespace();
        before = *byte;
        begins
    });
    comment.and_then(|end| line.get(..end)).unwrap_or(line)
}
