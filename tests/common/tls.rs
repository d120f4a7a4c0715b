//! Stand-ins for EFS: certificates of all kinds, and a TLS server that demands one of the client.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use std::sync::{Arc, Mutex};

/// The name that the client looks for.
pub const NAME: &str = "fs-0123abcd.efs.eu-west-1.amazonaws.com";

/// Someone who issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own, in PEM.
    pub pem: String,
}

/// A server's certificate and key.
pub struct Shown {
    pub certificate: CertificateDer<'static>,
    pub pem: String,
    pub key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two of them must not have the same name.
        let key = KeyPair::generate().unwrap();
        let name = format!("stand-in root {:x?}", &key.public_key_raw()[1..9]);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for `names`, good from and until 1 January of these years.
    pub fn issue(&self, names: &[&str], years: (i32, i32)) -> Shown {
        self.issue_as(IsCa::NoCa, names, years)
    }

    fn issue_as(&self, is_ca: IsCa, names: &[&str], years: (i32, i32)) -> Shown {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "stand-in");
        params.is_ca = is_ca;
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Shown { certificate: certificate.der().clone(), pem: certificate.pem(), key }
    }

    /// One that issues others.
    pub fn ca(&self) -> Shown {
        self.issue_as(IsCa::Ca(BasicConstraints::Unconstrained), &[NAME], (2000, 2099))
    }

    /// One that is good.
    pub fn good(&self) -> Shown {
        self.issue(&[NAME], (2000, 2099))
    }
}

/// Lets every client in that shows a certificate whose key it has, and keeps what was shown.
#[derive(Debug)]
pub struct Anyone {
    provider: Arc<CryptoProvider>,
    pub seen: Mutex<Vec<CertificateDer<'static>>>,
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.seen.lock().unwrap().push(certificate.clone().into_owned());
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A server that shows `shown` and speaks these versions and suites alone; and whom it has seen.
pub fn server(
    shown: &Shown,
    versions: &[&'static SupportedProtocolVersion],
    suites: &[CipherSuite],
) -> (Arc<ServerConfig>, Arc<Anyone>) {
    let mut provider = aws_lc_rs::default_provider();
    if !suites.is_empty() {
        provider.cipher_suites.retain(|suite| suites.contains(&suite.suite()));
    }
    let provider = Arc::new(provider);
    let anyone = Arc::new(Anyone { provider: provider.clone(), seen: Mutex::default() });
    let key = PrivatePkcs8KeyDer::from(shown.key.serialize_der());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(anyone.clone())
        .with_single_cert(vec![shown.certificate.clone()], key.into())
        .unwrap();
    (Arc::new(config), anyone)
}
