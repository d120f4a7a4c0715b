//! Root's files that credentials come from: the two files of profiles, and tokens. Each is read only where root alone
//! can change it. What a profile leads to is not known here.

use super::keys::flaw;
use crate::aws::error::AwsError;
use crate::aws::profile::{LineError, Profile, ProfileFileKind, Profiles};
use crate::aws::secret::Secret;
use crate::aws::world::World;
use crate::files::{self, PathError, UntrustedReadError};
use nix::errno::Errno;
use std::borrow::Cow;
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

pub const KEY_ID: &str = "aws_access_key_id";
pub const SECRET_KEY: &str = "aws_secret_access_key";
/// The keys of a profile that needs a person who signs in.
const SIGN_IN: [&str; 3] = ["sso_session", "sso_start_url", "login_session"];
/// A profile without any of these gives no credentials.
const SOURCES: [&str; 7] =
    [KEY_ID, SECRET_KEY, "role_arn", "credential_process", SIGN_IN[0], SIGN_IN[1], SIGN_IN[2]];

/// Root's two files of profiles.
pub struct ProfileFiles {
    /// Root's home.
    pub home: PathBuf,
    credentials: ProfileFile,
    config: ProfileFile,
}

/// One of root's two files of profiles.
pub struct ProfileFile {
    pub path: PathBuf,
    profiles: Profiles,
    /// Why nothing in it could be read. The first caller for whom that matters takes the error.
    unread: Cell<Option<AwsError>>,
}

impl ProfileFiles {
    /// Reads both files. A missing one counts as empty.
    ///
    /// # Errors
    /// [`AwsError::Changeable`].
    pub fn read(world: &World<'_>) -> Result<Self, AwsError> {
        let ([credentials, config], home) = paths(world);
        Ok(Self {
            credentials: ProfileFile::read(world.root, credentials, ProfileFileKind::Credentials)?,
            config: ProfileFile::read(world.root, config, ProfileFileKind::Config)?,
            home,
        })
    }

    fn both(&self) -> [&ProfileFile; 2] {
        [&self.credentials, &self.config]
    }

    /// A profile as both files have it, if one of them has it and it can be read there. A line that cannot be read in
    /// one file is passed over if the other file alone gives credentials, and this part does not.
    ///
    /// # Errors
    /// [`AwsError::Line`].
    pub fn profile(&self, name: &str) -> Result<Option<MergedProfile<'_>>, AwsError> {
        let parts = self
            .both()
            .map(|file| (file, file.profiles.profiles.get(name), file.profiles.error_in(name)));
        let is_whole = parts.iter().any(|(_, part, error)| error.is_none() && offers(*part));

        let mut merged = [None; 2];
        for ((file, part, error), merged) in parts.into_iter().zip(&mut merged) {
            match error {
                Some(_) if is_whole && !offers(part) => {}
                Some(error) => return Err(file.line_error(error)),
                None => *merged = part.map(|profile| (file, profile)),
            }
        }
        let is_there = merged.iter().any(Option::is_some);
        Ok(is_there.then(|| MergedProfile { name: name.to_owned(), parts: merged, files: self }))
    }

    /// The error of a file or a line that could not be read, and that may concern any profile.
    pub fn unread(&self) -> Option<AwsError> {
        self.both().into_iter().find_map(|file| {
            let error = file.unread.take();
            error.or_else(|| file.profiles.error_anywhere().map(|error| file.line_error(error)))
        })
    }

    /// The error that a profile is not there, or has nothing that gives credentials.
    pub fn without_keys(&self, name: &str) -> AwsError {
        match self.profile(name) {
            Ok(Some(_)) => AwsError::NoKeys,
            _ => self.missing(name),
        }
    }

    /// The error that there is no such profile, and what may be meant.
    pub fn missing(&self, name: &str) -> AwsError {
        let (credentials, config) = (&self.credentials, &self.config);
        let (hint, cure) = if config.misnames(name) {
            (
                format!(" ([{name}] in the latter must be [profile {name}])"),
                Some(format!("write [profile {name}] in {}", config.path.display())),
            )
        } else if credentials.misnames(name) {
            (
                format!(" ([profile {name}] in the former must be [{name}])"),
                Some(format!("write [{name}] in {}", credentials.path.display())),
            )
        } else if let Some(without) = name.strip_prefix("profile ").map(str::trim)
            && self.names().any(|other| other == without)
        {
            (
                format!(" (\"profile\" is no part of the name: {without:?} is there)"),
                Some(format!("name the profile {without:?}, without the word profile")),
            )
        } else if let Some(other) = self.names().find(|other| other.eq_ignore_ascii_case(name)) {
            (format!(" ({other:?} is there)"), Some(format!("name the profile {other:?}")))
        } else {
            (String::new(), None)
        };
        let files = (credentials.path.clone(), config.path.clone());
        AwsError::NoProfile { files, hint, cure }
    }

    /// The names of all profiles.
    fn names(&self) -> impl Iterator<Item = &String> {
        self.both().into_iter().flat_map(|file| file.profiles.profiles.keys())
    }
}

impl ProfileFile {
    /// Reads one file. An error is kept for later, since the other file may have all that is needed.
    ///
    /// # Errors
    /// [`AwsError::Changeable`].
    fn read(root: &Path, path: PathBuf, kind: ProfileFileKind) -> Result<Self, AwsError> {
        match profiles(root, &path, kind) {
            Ok(profiles) => Ok(Self { path, profiles, unread: Cell::new(None) }),
            Err(changeable @ AwsError::Changeable { .. }) => Err(changeable),
            Err(error) => {
                let unread = Cell::new(Some(error));
                Ok(Self { path, profiles: Profiles::default(), unread })
            }
        }
    }

    /// Whether it has a section that would be this profile in the other file.
    fn misnames(&self, name: &str) -> bool {
        self.profiles.misnamed.iter().any(|other| other == name)
    }

    fn line_error(&self, error: &LineError) -> AwsError {
        AwsError::Line { path: self.path.clone(), error: error.clone() }
    }
}

/// Whether a profile has anything that could give credentials.
fn offers(profile: Option<&Profile>) -> bool {
    profile.is_some_and(|profile| SOURCES.iter().any(|key| profile.contains_key(*key)))
}

/// A profile as both files have it; the credentials file comes first.
pub struct MergedProfile<'a> {
    name: String,
    parts: [Option<(&'a ProfileFile, &'a Profile)>; 2],
    files: &'a ProfileFiles,
}

impl MergedProfile<'_> {
    /// The file that a key is in, and its value.
    pub fn file_of(&self, key: &str) -> Option<(&ProfileFile, &Secret)> {
        let both = self.parts.iter().flatten();
        both.filter_map(|(file, profile)| Some((*file, profile.get(key)?))).next()
    }

    /// A value; an empty one is none.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.file_of(key)?;
        Some(value.expose()).filter(|value| !value.is_empty())
    }

    /// Whether it has anything that could give credentials.
    pub fn offers_anything(&self) -> bool {
        SOURCES.iter().any(|key| self.get(key).is_some())
    }

    /// The error that it has no keys.
    pub fn lacks_keys(&self) -> AwsError {
        match SIGN_IN.into_iter().find(|key| self.get(key).is_some()) {
            Some(key) => AwsError::Unsupported(key, "needs a person who signs in"),
            None => AwsError::NoKeys,
        }
    }

    /// Checks its keys, and the token in the key `token`.
    ///
    /// # Errors
    /// [`AwsError::BadKey`].
    pub fn check_keys(&self, token: Option<&'static str>) -> Result<(), AwsError> {
        for key in [Some(KEY_ID), Some(SECRET_KEY), token].into_iter().flatten() {
            if let Some((file, value)) = self.file_of(key)
                && let Some(what) = flaw(value.expose(), key == KEY_ID)
            {
                let line = file.profiles.line_of(&self.name, key).unwrap_or_default();
                return Err(AwsError::BadKey { path: file.path.clone(), line, key, what });
            }
        }
        Ok(())
    }

    /// The profile and the file that has it, in words.
    pub fn place(&self) -> String {
        let has_keys = |profile: &Profile| {
            profile.contains_key(KEY_ID) || profile.contains_key("credential_process")
        };
        let file = self.parts.iter().flatten().find(|(_, profile)| has_keys(profile));
        let file = file.map_or(&self.files.config, |(file, _)| *file);
        format!("profile {:?} of {}", self.name, file.path.display())
    }
}

/// Where root's two files of profiles are, and root's home.
fn paths(world: &World<'_>) -> ([PathBuf; 2], PathBuf) {
    let home = home(world.root);
    let usual =
        [("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), ("AWS_CONFIG_FILE", ".aws/config")];
    let paths = usual.map(|(variable, usual)| {
        let named = world.environment.get(variable).map(|path| PathBuf::from(path.expose()));
        named.unwrap_or_else(|| home.join(usual))
    });
    (paths, home)
}

/// Root's home, by the account file: no name service of libc is asked.
fn home(root: &Path) -> PathBuf {
    let passwd = files::whole(&root.join("etc/passwd")).unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd);
    let home = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == "root").then_some(())?;
        fields.nth(4).filter(|home| home.starts_with('/')).map(PathBuf::from)
    });
    home.unwrap_or_else(|| "/root".into())
}

/// The profiles in a file.
fn profiles(root: &Path, path: &Path, kind: ProfileFileKind) -> Result<Profiles, AwsError> {
    if files::absent(root, path) {
        return Ok(Profiles::default());
    }
    let bytes = match trusted_bytes(root, path) {
        Ok(None) => return Ok(Profiles::default()),
        Ok(Some(bytes)) => bytes,
        Err(refused) => return Err(unreadable(path, refused)),
    };

    // In UTF-16, each letter of a key has a zero byte beside it.
    if bytes.contains(&0) {
        return Err(AwsError::NotText(path.to_owned()));
    }
    match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(text) => Ok(Profiles::parse(text, kind)),
        // What is no UTF-8 may matter to no profile, as in a comment.
        Cow::Owned(text) => Ok(Profiles::parse(&Zeroizing::new(text), kind)),
    }
}

/// The token in a file. Root's own symlinks may lead to it, as Kubernetes makes them. Those of a user must not: they
/// could have any file of root's sent away.
///
/// # Errors
/// [`AwsError::File`], [`AwsError::NotText`], [`AwsError::Changeable`].
pub fn token(path: &Path, world: &World<'_>) -> Result<Secret, AwsError> {
    let bytes = files::followed(world.root, path).and_then(|real| {
        let missing = UntrustedReadError::Obstacle(PathError::Unopenable(Errno::ENOENT));
        trusted_bytes(world.root, &real)?.ok_or(missing)
    });
    let bytes = bytes.map_err(|refused| unreadable(path, refused))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| AwsError::NotText(path.to_owned()))?;
    Ok(Secret::new(text.trim().to_owned()))
}

/// The contents of a file, if it is there. Root alone may be able to change it: others could have root run a program,
/// or send another file away.
fn trusted_bytes(
    root: &Path,
    path: &Path,
) -> Result<Option<Zeroizing<Vec<u8>>>, UntrustedReadError> {
    Ok(files::read(root, path)?.map(Zeroizing::new))
}

fn unreadable(path: &Path, refused: UntrustedReadError) -> AwsError {
    let path = path.to_owned();
    match refused {
        UntrustedReadError::Obstacle(obstacle) => AwsError::File { path, obstacle },
        UntrustedReadError::Fault(fault) => AwsError::Changeable { path, fault },
    }
}

/// For each of root's two files of profiles: its inode, its size, and when it or its mode was changed.
pub type Stamps = [Option<(u64, u64, i64, i64)>; 2];

pub fn stamps(world: &World<'_>) -> Stamps {
    let (paths, _) = paths(world);
    paths.map(|path| {
        let file = fs::symlink_metadata(files::below(world.root, &path)).ok()?;
        Some((file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
    })
}

/// When the newer of the two was changed; `None` where neither is there.
pub fn newest(stamps: &Stamps) -> Option<SystemTime> {
    let times = stamps.iter().flatten().map(|(_, _, seconds, nanos)| (*seconds, *nanos));
    let (seconds, nanos) = times.max()?;
    let since = Duration::new(seconds.try_into().ok()?, nanos.try_into().ok()?);
    UNIX_EPOCH.checked_add(since)
}
