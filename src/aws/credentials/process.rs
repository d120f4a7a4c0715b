//! A program that prints credentials (`credential_process`): which program the line means, whether root alone can change
//! it, and what its end means. How programs are run, bounded and ended is in `crate::programs`.

use crate::aws::PROGRAM_PATH as PATH;
use crate::aws::document::CredentialsDocument;
use crate::aws::error::{AwsError, ProcessError};
use crate::aws::http::rounded;
use crate::aws::profile::words;
use crate::aws::secret::{Credentials, harmless};
use crate::aws::trust::real;
use crate::aws::world::World;
use crate::files::{self, below};
use crate::programs::{self, Finished, OutputLimit, ProgramError};
use crate::retry::Deadline;
use crate::wait::Wait;
use nix::errno::Errno;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A program that takes longer is killed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A program that prints more bytes is killed.
const LARGEST_OUTPUT: usize = 64 << 10;

/// The credentials that the program in `line` prints. It gets `home` as HOME.
///
/// # Errors
/// What the program did instead.
pub fn run(
    line: &str,
    home: &Path,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, AwsError> {
    let words = words(line).map_err(ProcessError::BadLine)?;
    let (program, arguments) = words.split_first().ok_or(ProcessError::BadLine("no word"))?;
    let path = place(program, world.root)?;
    let file = checked(&path, world.root)?;

    let mut command = programs::bare(file);
    command
        // Some programs are one file with many names, and look at the name by which they were called.
        .arg0(&path)
        .args(arguments)
        .env("PATH", PATH)
        .env("HOME", home);

    let net = &world.net;
    let wait = Wait { until, clock: net.clock, stop: net.stop }.within(TIMEOUT);
    let ended = programs::run(command, OutputLimit::Kill(LARGEST_OUTPUT), wait)
        .map_err(|error| not_ended(error, &path))?;
    if !ended.status.success() {
        return Err(failed(path, &ended).into());
    }

    let printed = |error| AwsError::Printed { path: path.clone(), error: Box::new(error) };
    let document = CredentialsDocument::parse(&ended.output).map_err(printed)?;
    if !document.is_version_1() {
        return Err(ProcessError::Version(path).into());
    }

    let mut credentials = document.credentials(&[]).map_err(printed)?;
    credentials.source = format!("credential_process {}", path.display());
    Ok(credentials)
}

/// Where a program is. A name without a slash is looked for as a shell does it, but always in the same folders.
fn place(program: &str, root: &Path) -> Result<PathBuf, ProcessError> {
    if program.contains('/') {
        let path = PathBuf::from(program);
        return match path.is_absolute() {
            true => Ok(path),
            false => Err(ProcessError::NotAbsolute(program.to_owned())),
        };
    }

    // A file that may not be run is passed over. It is the answer if there is no other.
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

/// The file to run, once it is sure that root alone can change it.
fn checked(path: &Path, root: &Path) -> Result<PathBuf, ProcessError> {
    let unrunnable = |errno| ProcessError::Unrunnable(path.to_owned(), errno);
    let real = real(root, path).ok_or(unrunnable(Errno::ENOENT))?;

    let place = files::find(root, &real).map_err(|_| unrunnable(Errno::EACCES))?;
    let file = place.look().map_err(|_| unrunnable(Errno::EACCES))?;
    place.trust(file.as_ref()).map_err(|fault| ProcessError::Changeable {
        path: path.to_owned(),
        why: format!("{} {}", fault.path.display(), fault.why),
        cure: fault.mend(),
    })?;
    Ok(below(root, &real))
}

/// The error of a program that has not ended by itself.
fn not_ended(error: ProgramError, path: &Path) -> AwsError {
    let path = path.to_owned();
    let error = match error {
        // The program itself was there a moment ago, so its interpreter is missing.
        ProgramError::NotStarted(Errno::ENOENT) => ProcessError::NoInterpreter(path),
        ProgramError::NotStarted(errno) => ProcessError::Unrunnable(path, errno),
        ProgramError::NoStatus => ProcessError::Unrunnable(path, Errno::ECHILD),
        ProgramError::Late(span) => ProcessError::Slow(path, rounded(span)),
        ProgramError::TooMuchOutput => ProcessError::Large(path),
        ProgramError::Stopped(stopped) => return stopped.into(),
    };
    error.into()
}

/// The error of a program that ended, but not with success.
fn failed(path: PathBuf, ended: &Finished) -> ProcessError {
    let status = ended.status.code();
    let how = match (status, ended.status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "did not end".to_owned(),
    };

    let errors = String::from_utf8_lossy(&ended.errors);
    let last_line = errors.lines().rev().map(harmless).find(|line| !line.is_empty());
    ProcessError::Failed { path, status, how, said: last_line.unwrap_or_default() }
}
