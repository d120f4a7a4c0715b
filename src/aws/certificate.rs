//! The client certificate that EFS asks for on each encrypted connection, byte
//! for byte what amazon-efs-utils makes, and the RSA key it is for. A
//! certificate is made in memory in a few milliseconds; nothing is stored here.

use super::secret::Credentials;
use super::{der, signature};
use crate::text::hex;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// A certificate counts from this much before it was made: clocks differ.
const BEFORE: Duration = Duration::from_secs(15 * 60);
/// And for this long after.
const AFTER: Duration = Duration::from_secs(3 * 60 * 60);
/// The most of a host name that a certificate's name takes, in characters (X.520).
const LONGEST_NAME: usize = 64;
/// EFS's own extensions are below 1.3.6.1.4.1.4843.7, the first two numbers of which make one byte.
const EFS: (u8, [u32; 6]) = (0x2b, [6, 1, 4, 1, 4843, 7]);

/// Why there is no key, or no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The library made none.
    #[error("no RSA key could be made")]
    NoKey,
    /// These bytes are none; the library's word for what is wrong.
    #[error("the key is no RSA key in PKCS #8: {0}")]
    BadKey(String),
    /// The library cannot encode the key.
    #[error("the RSA key cannot be encoded")]
    Unwritable,
    /// The library did not sign.
    #[error("the client certificate cannot be signed with its key")]
    Unsigned,
}

/// An RSA key of 3072 bits, and what certificates for it say of it.
pub struct Key {
    pair: RsaKeyPair,
    /// SHA-1 of the public key, which is what EFS knows it by.
    sha1: [u8; 20],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", hex(&self.sha1))
    }
}

impl Key {
    /// Makes a new one, which takes some 0.2 to 0.8 s.
    ///
    /// # Errors
    /// [`CertificateError::NoKey`].
    pub fn generate() -> Result<Self, CertificateError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa3072).map_err(|_| CertificateError::NoKey)?;
        Self::new(pair).ok_or(CertificateError::NoKey)
    }

    /// Takes one from its PKCS #8 DER, as [`Key::pkcs8`] gives it.
    ///
    /// # Errors
    /// [`CertificateError::BadKey`] or [`CertificateError::Unwritable`].
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, CertificateError> {
        let pair = RsaKeyPair::from_pkcs8(bytes)
            .map_err(|rejected| CertificateError::BadKey(rejected.to_string()))?;
        Self::new(pair).ok_or(CertificateError::Unwritable)
    }

    fn new(pair: RsaKeyPair) -> Option<Self> {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, pair.public_key().as_ref());
        let sha1 = hash.as_ref().try_into().ok()?;
        Some(Self { pair, sha1 })
    }

    /// The private key as PKCS #8 DER; wiped when it is dropped.
    ///
    /// # Errors
    /// [`CertificateError::Unwritable`].
    pub fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
        let der = self.pair.as_der().map_err(|_| CertificateError::Unwritable)?;
        Ok(Zeroizing::new(der.as_ref().to_vec()))
    }

    /// SHA-1 of the public key: a certificate's subject key identifier, and `PublicKeyHash` in what
    /// is signed for IAM.
    pub fn sha1(&self) -> &[u8; 20] {
        &self.sha1
    }
}

/// What a certificate is to say.
#[derive(Debug, Clone, Copy)]
pub struct CertificateRequest<'a> {
    /// The name of this machine; what is over 64 characters is cut off.
    pub common_name: &'a str,
    /// "fs-…".
    pub file_system_id: &'a str,
    /// The file system's region; only signed.
    pub region: &'a str,
    /// "fsap-…".
    pub access_point: Option<&'a str>,
    /// With which to ask IAM; without, the connection is anonymous.
    pub credentials: Option<&'a Credentials>,
    /// What the client is to be called: where it runs, and its version.
    pub client: (&'a str, &'a str),
    /// The time, of which certificates know the seconds.
    pub now: SystemTime,
}

/// Makes and signs a certificate for `key`: DER. The same arguments make the same bytes.
///
/// # Errors
/// [`CertificateError::Unsigned`].
pub fn mint(key: &Key, request: &CertificateRequest<'_>) -> Result<Vec<u8>, CertificateError> {
    let algorithm = || {
        let sha256_with_rsa = der::object(0x2a, &[840, 113_549, 1, 1, 11]);
        der::nest(der::SEQUENCE, &[sha256_with_rsa, der::value(der::NULL, &[])])
    };
    let public_key = {
        let rsa = der::object(0x2a, &[840, 113_549, 1, 1, 1]);
        let algorithm = der::nest(der::SEQUENCE, &[rsa, der::value(der::NULL, &[])]);
        der::nest(der::SEQUENCE, &[algorithm, der::bits(key.pair.public_key().as_ref())])
    };
    let validity =
        [utc_time(request.now.checked_sub(BEFORE)), utc_time(request.now.checked_add(AFTER))];
    let body = [
        der::nest(der::explicit(0), &[der::value(der::INTEGER, &[2])]), // version 3
        der::value(der::INTEGER, &[0]),                                 // serial number
        algorithm(),
        name(request.common_name), // issuer
        der::nest(der::SEQUENCE, &validity),
        name(request.common_name), // subject
        public_key,
        der::nest(der::explicit(3), &[extensions(key, request)]),
    ];
    let body = der::nest(der::SEQUENCE, &body);
    let mut signature = vec![0; key.pair.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    key.pair
        .sign(&RSA_PKCS1_SHA256, &random, &body, &mut signature)
        .map_err(|_| CertificateError::Unsigned)?;
    Ok(der::nest(der::SEQUENCE, &[body, algorithm(), der::bits(&signature)]))
}

fn utf8(text: &str) -> Vec<u8> {
    der::value(der::UTF8_STRING, text.as_bytes())
}

/// A time whose year has two digits. Outside of 1950 to 2049 it means another one, but so it is
/// written by efs-utils too, and no clock that shows such a year is right.
fn utc_time(time: Option<SystemTime>) -> Vec<u8> {
    let stamp = signature::stamp(time.unwrap_or(SystemTime::UNIX_EPOCH));
    let digits: String = stamp.chars().skip(2).filter(|c| *c != 'T').collect();
    der::value(der::UTC_TIME, digits.as_bytes())
}

/// A name that is a common name alone.
fn name(common_name: &str) -> Vec<u8> {
    let cut: String = common_name.chars().take(LONGEST_NAME).collect();
    let common_name = der::nest(der::SEQUENCE, &[der::object(0x55, &[4, 3]), utf8(&cut)]);
    der::nest(der::SEQUENCE, &[der::nest(der::SET, &[common_name])])
}

/// All extensions. None is critical, so that flag, false by default, is not written.
fn extensions(key: &Key, request: &CertificateRequest<'_>) -> Vec<u8> {
    let extension = |object: Vec<u8>, content: Vec<u8>| {
        der::nest(der::SEQUENCE, &[object, der::value(der::OCTET_STRING, &content)])
    };
    let of_efs = |number: u32, content: Vec<u8>| {
        let (first, rest) = EFS;
        extension(der::object(first, &[&rest[..], &[number]].concat()), content)
    };
    let key_identifier = der::value(der::OCTET_STRING, key.sha1());
    let mut all = vec![extension(der::object(0x55, &[29, 14]), key_identifier)];
    if let Some(access_point) = request.access_point {
        all.push(of_efs(1, utf8(access_point)));
    }
    if let Some(credentials) = request.credentials {
        let (id, region) = (request.file_system_id, request.region);
        let signature = signature::connect(key.sha1(), id, region, credentials, request.now);
        let mut parts = vec![
            utf8(&credentials.access_key_id),
            der::value(der::OCTET_STRING, signature.as_bytes()),
            utc_time(Some(request.now)),
        ];
        if let Some(token) = &credentials.session_token {
            parts.push(der::nest(der::explicit(0), &[utf8(token.expose())]));
        }
        all.push(of_efs(2, der::nest(der::SEQUENCE, &parts)));
    }
    all.push(of_efs(3, utf8(request.file_system_id)));
    let (source, version) = request.client;
    all.push(of_efs(4, der::nest(der::SEQUENCE, &[utf8(source), utf8(version)])));
    der::nest(der::SEQUENCE, &all)
}

#[cfg(test)]
mod tests;
