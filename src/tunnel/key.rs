//! The RSA key of the client's certificates. It is made once a boot, since that takes half a second. Below /run, nobody
//! else can read it, and it gets into no image. What is signed with it is made in `crate::aws::certificate`.

use super::run_files;
use crate::aws::certificate::{CertificateError, Key};
use crate::files::{self, Like, Version};
use nix::fcntl::{Flock, FlockArg};
use std::path::Path;
use zeroize::Zeroizing;

/// Whether the key will be there at the next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOrigin {
    /// It was there.
    Found,
    /// It is new, and kept.
    Made,
    /// It is new and cannot be kept, for this reason.
    Lost(String),
}

/// The key in the file `path` below `root`. If there is none, a new one is made and kept there; the folder must exist.
///
/// # Errors
/// The library's error.
pub fn get(root: &Path, path: &Path) -> Result<(Key, KeyOrigin), CertificateError> {
    if let Some(key) = read(root, path) {
        return Ok((key, KeyOrigin::Found));
    }

    let key = Key::generate()?;
    let kept = match keep(root, path, &key) {
        Ok(()) => KeyOrigin::Made,
        Err(why) => KeyOrigin::Lost(why),
    };

    Ok((key, kept))
}

/// Gives `None` whatever is wrong with the file, since a new key serves as well.
fn read(root: &Path, path: &Path) -> Option<Key> {
    let file = files::find(root, path).ok()?.read_for_change().ok()??;

    let bytes = Zeroizing::new(file.bytes);
    let others_read = file.like.mode & 0o077 != 0;
    if others_read { None } else { Key::from_pkcs8(&bytes).ok() }
}

fn keep(root: &Path, path: &Path, key: &Key) -> Result<(), String> {
    let place = files::find(root, path).map_err(|e| e.to_string())?;
    let folder = place.folder().map_err(|e| e.desc().to_owned())?;
    let folder =
        Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, e)| e.desc().to_owned())?;

    let file = place.open().map_err(|e| e.to_string())?;
    place.trust(None).map_err(|fault| format!("{} {}", fault.path.display(), fault.why))?;
    let version = file.as_ref().and_then(|file| Version::read(file).ok());
    let bytes = key.pkcs8().map_err(|e| e.to_string())?;
    place.replace(&folder, &bytes, &Like::root(0o400), version).map_err(run_files::not_replaced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Folders can be trusted only if root owns them, so these tests run as root.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir_in("/run").unwrap();
        fs::create_dir(dir.path().join("k")).unwrap();
        dir
    }

    #[test]
    fn a_key_is_made_once_and_found_again_by_root_alone() {
        let dir = folder();
        let path = Path::new("/k/a.key");
        let (first, kept) = get(dir.path(), path).unwrap();
        assert_eq!(kept, KeyOrigin::Made);
        let file = dir.path().join("k/a.key");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o400);
        let (second, kept) = get(dir.path(), path).unwrap();
        assert_eq!((kept, second.sha1()), (KeyOrigin::Found, first.sha1()));
        // What others could read, or is no key, is not used.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
        let (third, kept) = get(dir.path(), path).unwrap();
        assert_eq!(kept, KeyOrigin::Made);
        assert_ne!(third.sha1(), first.sha1());
        fs::write(&file, "no key").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(get(dir.path(), path).unwrap().1, KeyOrigin::Made);
        let lost = get(dir.path(), Path::new("/none/a.key")).unwrap().1;
        assert!(
            matches!(&lost, KeyOrigin::Lost(why) if why.contains("/none does not exist")),
            "{lost:?}"
        );
    }
}
