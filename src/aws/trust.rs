//! The certificate authorities that are trusted: Amazon's four roots, which the program carries, or a file of
//! certificates. rustls checks servers by them; that is not done here.

use crate::files::{self, Fault, PathError, UntrustedReadError, below};
use nix::errno::Errno;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::path::{Path, PathBuf};

/// Amazon Root CA 1 to 4, as Debian's ca-certificates has them.
const AMAZON: [(&str, &str); 4] = [
    ("Amazon Root CA 1", include_str!("trust/amazon-root-ca-1.pem")),
    ("Amazon Root CA 2", include_str!("trust/amazon-root-ca-2.pem")),
    ("Amazon Root CA 3", include_str!("trust/amazon-root-ca-3.pem")),
    ("Amazon Root CA 4", include_str!("trust/amazon-root-ca-4.pem")),
];

/// Where systems keep the certificates that they trust: Red Hat, Debian, SUSE and others.
const SYSTEM: [&str; 5] = [
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why there are no authorities to trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The system has no bundle.
    #[error("no certificates of the system's: none of {} is there", SYSTEM.join(", "))]
    NoBundle,
    /// A file cannot be read.
    #[error("the certificates of {} are missing: the file {obstacle}", .path.display())]
    Unreadable {
        path: PathBuf,
        /// What is in the way.
        obstacle: PathError,
    },
    /// Users other than root could put certificates into a file.
    #[error(
        "the certificates of {} cannot be trusted: {} {}",
        .path.display(), .fault.path.display(), .fault.why
    )]
    Changeable {
        path: PathBuf,
        /// What part of its path they could change.
        fault: Fault,
    },
    /// A file holds something that is no certificate; what the library says.
    #[error("{} holds what is no certificate in PEM: {why}", .path.display())]
    BadPem { path: PathBuf, why: String },
    /// A certificate cannot be a root; what the library says.
    #[error("certificate {number} of {} cannot be trusted: {why}", .path.display())]
    BadRoot {
        path: PathBuf,
        /// The certificate in it, counted from 1.
        number: usize,
        why: String,
    },
    /// A file holds no certificate.
    #[error("{} holds no certificate (they begin with -----BEGIN CERTIFICATE-----)", .0.display())]
    Empty(PathBuf),
}

impl TrustError {
    /// The command that makes the file root's alone, if others can change it.
    pub fn cure(&self) -> Option<String> {
        match self {
            Self::Changeable { fault, .. } => Some(fault.mend()),
            _ => None,
        }
    }
}

/// Which authorities to trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust<'a> {
    /// Amazon's four roots.
    Amazon,
    /// Those that the system trusts.
    System,
    /// The certificates in this file, in PEM.
    File(&'a Path),
}

/// The roots that `trust` names; `root` is `/` outside of tests.
///
/// # Errors
/// See [`TrustError`].
pub fn roots(root: &Path, trust: Trust<'_>) -> Result<RootCertStore, TrustError> {
    match trust {
        Trust::Amazon => {
            let mut store = RootCertStore::empty();
            for (name, pem) in AMAZON {
                add(&mut store, Path::new(name), pem.as_bytes(), true)?;
            }
            Ok(store)
        }
        Trust::System => {
            let found = SYSTEM.iter().map(Path::new).find(|path| below(root, path).exists());
            of_file(root, found.ok_or(TrustError::NoBundle)?, false)
        }
        Trust::File(path) => of_file(root, path, true),
    }
}

/// The certificates in a file. `strict` says that all of them must be usable, since each was put there on purpose. A
/// system's bundle holds some that are not.
fn of_file(root: &Path, path: &Path, strict: bool) -> Result<RootCertStore, TrustError> {
    let bytes = read(root, path).map_err(|refused| match refused {
        UntrustedReadError::Obstacle(obstacle) => {
            TrustError::Unreadable { path: path.to_owned(), obstacle }
        }
        UntrustedReadError::Fault(fault) => TrustError::Changeable { path: path.to_owned(), fault },
    })?;

    let mut store = RootCertStore::empty();
    add(&mut store, path, &bytes, strict)?;
    Ok(store)
}

/// What is in a file that root alone can change. Symlinks lead to bundles; what counts is the file behind them.
fn read(root: &Path, path: &Path) -> Result<Vec<u8>, UntrustedReadError> {
    let missing = || UntrustedReadError::Obstacle(PathError::Unopenable(Errno::ENOENT));
    let real = real(root, path).ok_or_else(missing)?;
    files::read(root, &real)?.ok_or_else(missing)
}

/// `path` with all symlinks resolved, as seen from `root`.
pub(super) fn real(root: &Path, path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(below(root, path)).ok()?;
    let inside = real.strip_prefix(fs::canonicalize(root).ok()?).ok()?;
    Some(Path::new("/").join(inside))
}

/// Adds the certificates in `pem` to `store`. `path` is what errors name.
fn add(store: &mut RootCertStore, path: &Path, pem: &[u8], strict: bool) -> Result<(), TrustError> {
    for (certificate, number) in CertificateDer::pem_slice_iter(pem).zip(1..) {
        let certificate = certificate.map_err(|e| {
            let why = e.to_string();
            TrustError::BadPem { path: path.to_owned(), why }
        })?;

        if let Err(e) = store.add(certificate)
            && strict
        {
            let why = e.to_string();
            return Err(TrustError::BadRoot { path: path.to_owned(), number, why });
        }
    }

    if store.is_empty() { Err(TrustError::Empty(path.to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::der;
    use super::*;
    use crate::text::hex;
    use aws_lc_rs::digest::{SHA256, digest};
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// SHA-256 of the certificates, as Mozilla's and others' lists have them.
    const FINGERPRINTS: [&str; 4] = [
        "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
        "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
        "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
        "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
    ];

    /// SHA-256 of their public keys, as Amazon Trust Services publishes them in its repository.
    const KEYS: [&str; 4] = [
        "fbe3018031f9586bcbf41727e417b7d1c45c2f47f93be372a17b96b50757d5a2",
        "7f4296fc5b6a4e3b35d3c369623e364ab1af381d8fa7121533c9d6c633ea2461",
        "36abc32656acfc645c61b71613c4bf21c787f5cabbee48348d58597803d7abc9",
        "f7ecded5c66047d28ed6466b543c40e0743abe81d109254dcf845d4c2c7853c5",
    ];

    #[test]
    fn the_four_roots_are_those_that_amazon_publishes() {
        for ((name, pem), fingerprint) in AMAZON.iter().zip(FINGERPRINTS) {
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
            let [Ok(certificate)] = &certificates[..] else { panic!("{name}") };
            assert_eq!(hex(digest(&SHA256, certificate).as_ref()), fingerprint, "{name}");
        }
        let store = roots(Path::new("/nowhere"), Trust::Amazon).unwrap();
        let key = |n: usize| {
            // It is kept without its frame.
            let key = der::value(der::SEQUENCE, &store.roots[n].subject_public_key_info);
            hex(digest(&SHA256, &key).as_ref())
        };
        assert_eq!((0..store.len()).map(key).collect::<Vec<_>>(), KEYS);
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/ssl/certs")).unwrap();
        dir
    }

    fn said(dir: &tempfile::TempDir, trust: Trust<'_>) -> String {
        roots(dir.path(), trust).unwrap_err().to_string()
    }

    #[test]
    fn the_bundle_of_the_system_is_found_by_symlink_and_odd_certificates_in_it_are_passed_over() {
        let dir = folder();
        assert_eq!(
            said(&dir, Trust::System),
            "no certificates of the system's: none of /etc/pki/tls/certs/ca-bundle.crt, \
             /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem, /etc/ssl/certs/ca-certificates.crt, \
             /etc/ssl/ca-bundle.pem, /etc/ssl/cert.pem is there"
        );
        let odd = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
        let all = format!("# one\n{}{odd}{}", AMAZON[0].1, AMAZON[1].1);
        fs::write(dir.path().join("etc/all.pem"), all).unwrap();
        symlink("../../all.pem", dir.path().join("etc/ssl/certs/ca-certificates.crt")).unwrap();
        assert_eq!(roots(dir.path(), Trust::System).unwrap().len(), 2);
        let file = Path::new("/etc/all.pem");
        let told = said(&dir, Trust::File(file));
        assert!(told.starts_with("certificate 2 of /etc/all.pem cannot be trusted: "), "{told}");
    }

    #[test]
    fn a_file_that_will_not_do_is_told_of_by_its_name_and_fault() {
        let dir = folder();
        let path = dir.path().join("etc/roots.pem");
        let file = Trust::File(Path::new("/etc/roots.pem"));
        let missing = "the certificates of /etc/roots.pem are missing: the file cannot be opened: \
                       No such file or directory";
        assert_eq!(said(&dir, file), missing);
        fs::write(&path, "nothing\n").unwrap();
        assert_eq!(
            said(&dir, file),
            "/etc/roots.pem holds no certificate (they begin with -----BEGIN CERTIFICATE-----)"
        );
        fs::write(&path, AMAZON[2].1.replace("MIIB", "MI!B")).unwrap();
        let told = said(&dir, file);
        assert!(told.starts_with("/etc/roots.pem holds what is no certificate in PEM: "), "{told}");
        fs::write(&path, AMAZON[2].1).unwrap();
        assert_eq!(roots(dir.path(), file).unwrap().len(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(
            said(&dir, file),
            "the certificates of /etc/roots.pem cannot be trusted: /etc/roots.pem has mode 0666"
        );
        let cure = roots(dir.path(), file).unwrap_err().cure();
        assert_eq!(cure.as_deref(), Some("chmod go-w /etc/roots.pem"));
    }
}
