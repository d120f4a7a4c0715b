//! Decrypts records of TLS 1.3 in place. rustls ends with a copy of each record onto itself, which musl's memmove(3) does
//! backwards, word by word: a third of the cost of a download. Everything else (keys, nonces, the check of the tag) is as
//! in rustls.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, UnboundKey};
use rustls::crypto::aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter,
    Nonce, Tls13AeadAlgorithm, UnsupportedOperationError, make_tls13_aad,
};
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, Error, SupportedCipherSuite, Tls13CipherSuite,
};
use std::sync::LazyLock;

/// Gives the same suite. If it is one of TLS 1.3 with AES, its records are opened in place.
pub fn quick(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => {
            AES_128.as_ref().map_or(suite, |quick| quick.into())
        }
        CipherSuite::TLS13_AES_256_GCM_SHA384 => {
            AES_256.as_ref().map_or(suite, |quick| quick.into())
        }
        _ => suite,
    }
}

static AES_128: LazyLock<Option<Tls13CipherSuite>> =
    LazyLock::new(|| made_of(TLS13_AES_128_GCM_SHA256, &OPENS_128));
static AES_256: LazyLock<Option<Tls13CipherSuite>> =
    LazyLock::new(|| made_of(TLS13_AES_256_GCM_SHA384, &OPENS_256));
static OPENS_128: LazyLock<Option<InPlace>> =
    LazyLock::new(|| InPlace::of(TLS13_AES_128_GCM_SHA256, &AES_128_GCM));
static OPENS_256: LazyLock<Option<InPlace>> =
    LazyLock::new(|| InPlace::of(TLS13_AES_256_GCM_SHA384, &AES_256_GCM));

fn made_of(
    suite: SupportedCipherSuite,
    opens: &'static LazyLock<Option<InPlace>>,
) -> Option<Tls13CipherSuite> {
    let Tls13CipherSuite { common, hkdf_provider, .. } = suite.tls13()?;
    Some(Tls13CipherSuite {
        common: rustls::CipherSuiteCommon {
            suite: common.suite,
            hash_provider: common.hash_provider,
            confidentiality_limit: common.confidentiality_limit,
        },
        hkdf_provider: *hkdf_provider,
        aead_alg: (**opens).as_ref()?,
        quic: None,
    })
}

/// AES-GCM as rustls has it, except that records are decrypted in place.
struct InPlace {
    its: &'static dyn Tls13AeadAlgorithm,
    algorithm: &'static Algorithm,
}

impl InPlace {
    fn of(suite: SupportedCipherSuite, algorithm: &'static Algorithm) -> Option<Self> {
        Some(Self { its: suite.tls13()?.aead_alg, algorithm })
    }
}

impl Tls13AeadAlgorithm for InPlace {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        self.its.encrypter(key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        match UnboundKey::new(self.algorithm, key.as_ref()) {
            Ok(unbound) => Box::new(Opener { key: LessSafeKey::new(unbound), iv }),
            // The key has another length than the suite's, which does not happen with rustls.
            Err(_) => self.its.decrypter(key, iv),
        }
    }

    fn key_len(&self) -> usize {
        self.its.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.its.extract_keys(key, iv)
    }
}

struct Opener {
    key: LessSafeKey,
    iv: Iv,
}

impl MessageDecrypter for Opener {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        number: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let payload: &mut [u8] = &mut message.payload;
        // RFC 8446, 5.2: what is authenticated with a record is its header.
        let header = Aad::from(make_tls13_aad(payload.len()));
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, number).0);

        let length =
            payload.len().checked_sub(self.key.algorithm().tag_len()).ok_or(Error::DecryptError)?;
        let (sealed, tag) = payload.split_at_mut(length);
        self.key
            .open_in_place_separate_tag(nonce, header, tag, sealed)
            .map_err(|_| Error::DecryptError)?;

        message.payload.truncate(length);
        message.into_tls13_unpadded_message()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_of_tls_1_3_with_aes_are_replaced_and_no_others() {
        for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            let quick = quick(*suite);
            assert_eq!(quick.suite(), suite.suite());
            let replaced = match (quick.tls13(), suite.tls13()) {
                (Some(ours), Some(its)) => !std::ptr::eq(ours, its),
                _ => false,
            };
            let aes = format!("{:?}", suite.suite()).starts_with("TLS13_AES_");
            assert_eq!(replaced, aes, "{suite:?}");
        }
    }
}
