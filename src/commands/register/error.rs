//! Why `register` and `unregister` do not do their work. `Display` says what is wrong.
//! [`RegisterError::sentence`] also says what became of config.json, and is for the last line of
//! the command.

use super::LOCK;
use crate::appstream::registration::{LONGEST, RegistrationError};
use crate::commands::error::CommandError;
use crate::commands::settings::SettingsError;
use crate::files::{Fault, PathError, ReplaceError};
use crate::installed::{INSTALL, ProgramPathError};
use crate::report::Code;
use nix::errno::Errno;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("--file cannot be used: {0}")]
    FileOption(io::Error),

    #[error("{0}")]
    Settings(#[from] SettingsError),

    #[error("{0}; {cure}", cure = .0.cure())]
    Executable(#[from] ProgramPathError),

    #[error(
        "{} cannot be put into config.json: it is over {LONGEST} characters or no UTF-8; {INSTALL}",
        .0.display()
    )]
    UnfitExecutable(PathBuf),

    /// How AppStream splits arguments is not documented.
    #[error(
        "{0} cannot be put into AppStream's arguments: choose a short path without blanks and quotes"
    )]
    ConfigPath(String),

    #[error(
        "{} cannot be put into config.json: it is over {LONGEST} characters or no UTF-8",
        .0.display()
    )]
    UnfitPath(PathBuf),

    /// The last field is the cure.
    #[error("{} cannot be made: {} does not exist{cure}", file.display(), folder.display())]
    NoFolder { file: PathBuf, folder: PathBuf, cure: String },

    #[error("{} {obstacle}", file.display())]
    PathError { file: PathBuf, obstacle: PathError },

    /// Others than root can change the file, or a folder that it is in.
    #[error("{}", untrusted(file, fault))]
    Untrusted { file: PathBuf, fault: Fault },

    #[error("cannot open the folder of {}: {}", .0.display(), .1.desc())]
    UnopenableFolder(PathBuf, Errno),

    #[error("cannot lock {LOCK}: {} ({:?})", .0.desc().to_lowercase(), .0)]
    Unlockable(Errno),

    /// Others than root can write to the folder of the lock.
    #[error("{} {}: root alone may be able to write there", .0.path.display(), .0.why)]
    UntrustedLock(Fault),

    #[error("another run keeps {LOCK} locked: try again when it has ended")]
    Locked,

    #[error("somebody else keeps changing {}: try again later", .0.display())]
    KeepsChanging(PathBuf),

    #[error("{0}")]
    Registration(#[from] RegistrationError),

    #[error("{} is somebody else's: move it away, or register without --shim", .0.display())]
    ForeignShim(PathBuf),

    #[error("{}", unwritten(.0, *.1))]
    Unwritten(PathBuf, ReplaceError),

    #[error("{} cannot be removed: {} ({:?})", .0.display(), .1.desc(), .1)]
    Unremoved(PathBuf, Errno),
}

impl RegisterError {
    pub fn code(&self) -> Code {
        match self {
            Self::Settings(error) => error.code(),
            Self::Executable(ProgramPathError::NoProc(_)) => Code::FAULT,
            Self::Executable(_) => Code::PERMISSION,
            Self::ConfigPath(_) | Self::Registration(RegistrationError::NeverFits { .. }) => {
                Code::CONFIG
            }
            Self::PathError { obstacle: PathError::DotDot | PathError::NoName, .. } => Code::USAGE,
            Self::PathError {
                obstacle:
                    PathError::NotAFolder(_)
                    | PathError::Symlink
                    | PathError::NotRegular
                    | PathError::TooLarge,
                ..
            }
            | Self::Registration(RegistrationError::Malformed(_)) => Code::DATA,
            Self::Untrusted { .. } | Self::UntrustedLock(_) => Code::PERMISSION,
            Self::Locked | Self::KeepsChanging(_) => Code::DEADLINE,
            Self::ForeignShim(_) | Self::Registration(RegistrationError::Foreign(_)) => Code::TAKEN,
            Self::Registration(RegistrationError::Fault(_)) => Code::FAULT,
            Self::FileOption(_)
            | Self::UnfitPath(_)
            | Self::UnfitExecutable(_)
            | Self::NoFolder { .. }
            | Self::PathError { .. }
            | Self::UnopenableFolder(..)
            | Self::Unlockable(_)
            | Self::Unwritten(..)
            | Self::Unremoved(..) => Code::IO,
        }
    }

    pub fn sentence(&self) -> String {
        match self {
            Self::Registration(error) => error.sentence(),
            Self::PathError { .. } | Self::Untrusted { .. } | Self::ForeignShim(_) => {
                format!("{self}; nothing was changed")
            }
            _ => self.to_string(),
        }
    }
}

impl From<RegisterError> for CommandError {
    fn from(error: RegisterError) -> Self {
        Self::new(error.code(), error.sentence())
    }
}

fn untrusted(file: &Path, fault: &Fault) -> String {
    // To change a folder in which other things live, such as /tmp or a home, would do harm.
    let cure = if fault.path == file || fault.path.starts_with("/opt/appstream") {
        fault.mend()
    } else {
        format!("choose a --file that is not below {}", fault.path.display())
    };
    format!(
        "{} {}: {} says what runs as root, so it and its folders must belong to root and be \
         writable by nobody else ({cure})",
        fault.path.display(),
        fault.why,
        file.display()
    )
}

fn unwritten(path: &Path, error: ReplaceError) -> String {
    let (state, verb, errno) = match error {
        ReplaceError::Failed(verb, errno) => ("cannot be written and is as it was", verb, errno),
        ReplaceError::Changed => ("cannot be written and is as it was", "look at", Errno::EBUSY),
        ReplaceError::Unsynced(errno) => {
            ("was replaced, but may be lost if this machine goes down now", "sync", errno)
        }
    };
    format!("{} {state}: {verb}: {} ({errno:?})", path.display(), errno.desc())
}
