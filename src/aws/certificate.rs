//! The client certificate that EFS asks for on each encrypted connection, byte for byte what amazon-efs-utils makes, and
//! its RSA key. A certificate is made in memory in a few milliseconds; nothing is stored here.

use super::secret::Credentials;
use super::{der, signature};
use crate::text::hex;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// A certificate is valid from this long before it was made: clocks differ.
const BEFORE: Duration = Duration::from_secs(15 * 60);
/// It is valid for this long after.
const AFTER: Duration = Duration::from_secs(3 * 60 * 60);
/// The most characters of a host name that fit in a certificate's name (X.520).
const LONGEST_NAME: usize = 64;
/// Numbers for [`algorithm`].
const RSA: u32 = 1;
const SHA256_WITH_RSA: u32 = 11;
/// EFS's own extensions are below 1.3.6.1.4.1.4843.7. The first two numbers make one byte.
const EFS: (u8, [u32; 6]) = (0x2b, [6, 1, 4, 1, 4843, 7]);

/// Why there is no key, or no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The library made none.
    #[error("no RSA key could be made")]
    NoKey,
    /// The bytes are no key. The text is what the library says.
    #[error("the key is no RSA key in PKCS #8: {0}")]
    BadKey(String),
    /// The library cannot encode the key.
    #[error("the RSA key cannot be encoded")]
    Unwritable,
    /// The library did not sign.
    #[error("the client certificate cannot be signed with its key")]
    Unsigned,
}

/// An RSA key of 3072 bits.
pub struct Key {
    pair: RsaKeyPair,
    /// SHA-1 of the public key, by which EFS knows it.
    sha1: [u8; 20],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", hex(&self.sha1))
    }
}

impl Key {
    /// Makes a new key, which takes 0.2 to 0.8 s.
    ///
    /// # Errors
    /// [`CertificateError::NoKey`].
    pub fn generate() -> Result<Self, CertificateError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa3072).map_err(|_| CertificateError::NoKey)?;
        Self::new(pair).ok_or(CertificateError::NoKey)
    }

    /// Reads a key in PKCS #8 DER, as [`Key::pkcs8`] writes it.
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

    /// The private key in PKCS #8 DER, wiped when it is dropped.
    ///
    /// # Errors
    /// [`CertificateError::Unwritable`].
    pub fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
        let der = self.pair.as_der().map_err(|_| CertificateError::Unwritable)?;
        Ok(Zeroizing::new(der.as_ref().to_vec()))
    }

    /// SHA-1 of the public key: the subject key identifier in a certificate, and `PublicKeyHash` in the signature for
    /// IAM.
    pub fn sha1(&self) -> &[u8; 20] {
        &self.sha1
    }
}

/// What a certificate says.
#[derive(Debug, Clone, Copy)]
pub struct CertificateRequest<'a> {
    /// The name of this machine; more than 64 characters are cut off.
    pub common_name: &'a str,
    /// "fs-…".
    pub file_system_id: &'a str,
    /// The file system's region. It is in the signature alone.
    pub region: &'a str,
    /// "fsap-…".
    pub access_point: Option<&'a str>,
    /// They sign for IAM. Without them, the connection is anonymous.
    pub credentials: Option<&'a Credentials>,
    /// Where this client runs, and its version.
    pub client: (&'a str, &'a str),
    /// The time, of which a certificate keeps whole seconds.
    pub now: SystemTime,
}

/// Makes and signs a certificate for `key`, in DER. The same arguments make the same bytes.
///
/// # Errors
/// [`CertificateError::Unsigned`].
pub fn mint(key: &Key, request: &CertificateRequest<'_>) -> Result<Vec<u8>, CertificateError> {
    let public_key = key.pair.public_key();
    let public_key = [algorithm(RSA), der::bits(public_key.as_ref())];
    let validity =
        [utc_time(request.now.checked_sub(BEFORE)), utc_time(request.now.checked_add(AFTER))];
    let body = [
        der::nest(der::explicit(0), &[der::value(der::INTEGER, &[2])]), // version 3
        der::value(der::INTEGER, &[0]),                                 // serial number
        algorithm(SHA256_WITH_RSA),
        name(request.common_name), // issuer
        der::nest(der::SEQUENCE, &validity),
        name(request.common_name), // subject
        der::nest(der::SEQUENCE, &public_key),
        der::nest(der::explicit(3), &[extensions(key, request)]),
    ];
    let body = der::nest(der::SEQUENCE, &body);

    let mut signature = vec![0; key.pair.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    key.pair
        .sign(&RSA_PKCS1_SHA256, &random, &body, &mut signature)
        .map_err(|_| CertificateError::Unsigned)?;
    Ok(der::nest(der::SEQUENCE, &[body, algorithm(SHA256_WITH_RSA), der::bits(&signature)]))
}

/// An algorithm without parameters, by its last number below 1.2.840.113549.1.1 (PKCS #1).
fn algorithm(number: u32) -> Vec<u8> {
    let object = der::object(0x2a, &[840, 113_549, 1, 1, number]);
    der::nest(der::SEQUENCE, &[object, der::value(der::NULL, &[])])
}

fn utf8(text: &str) -> Vec<u8> {
    der::value(der::UTF8_STRING, text.as_bytes())
}

/// A time with a year of two digits. They are ambiguous outside of 1950 to 2049, but efs-utils writes them too, and no
/// clock with such a year is right.
fn utc_time(time: Option<SystemTime>) -> Vec<u8> {
    let stamp = signature::stamp(time.unwrap_or(SystemTime::UNIX_EPOCH));
    let digits: String = stamp.chars().skip(2).filter(|c| *c != 'T').collect();
    der::value(der::UTC_TIME, digits.as_bytes())
}

/// A name with nothing but a common name.
fn name(common_name: &str) -> Vec<u8> {
    let cut: String = common_name.chars().take(LONGEST_NAME).collect();
    let common_name = der::nest(der::SEQUENCE, &[der::object(0x55, &[4, 3]), utf8(&cut)]);
    der::nest(der::SEQUENCE, &[der::nest(der::SET, &[common_name])])
}

/// All extensions. None is critical, so the flag, false by default, is left out.
fn extensions(key: &Key, request: &CertificateRequest<'_>) -> Vec<u8> {
    let key_identifier = der::value(der::OCTET_STRING, key.sha1());
    let mut all = vec![extension(der::object(0x55, &[29, 14]), key_identifier)];
    if let Some(access_point) = request.access_point {
        all.push(efs_extension(1, utf8(access_point)));
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
        all.push(efs_extension(2, der::nest(der::SEQUENCE, &parts)));
    }

    all.push(efs_extension(3, utf8(request.file_system_id)));
    let (source, version) = request.client;
    all.push(efs_extension(4, der::nest(der::SEQUENCE, &[utf8(source), utf8(version)])));
    der::nest(der::SEQUENCE, &all)
}

fn extension(object: Vec<u8>, content: Vec<u8>) -> Vec<u8> {
    der::nest(der::SEQUENCE, &[object, der::value(der::OCTET_STRING, &content)])
}

fn efs_extension(number: u32, content: Vec<u8>) -> Vec<u8> {
    let (first, rest) = EFS;
    extension(der::object(first, &[&rest[..], &[number]].concat()), content)
}

#[cfg(test)]
mod tests;
