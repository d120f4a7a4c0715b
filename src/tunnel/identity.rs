//! Who we are to the file system: a certificate for each connection, made in memory with the
//! credentials of that moment, so that none ever expires in use.

use super::aws::Aws;
use super::broker::Broker;
use super::protocol::TunnelError;
use crate::aws::certificate::{self, CertificateRequest, Key};
use crate::aws::credentials::identity_of;
use crate::config::encryption::Encryption;
use crate::files;
use crate::wait::Wait;
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

/// What the file system is told that we are.
const CLIENT: (&str, &str) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));

/// Makes certificates.
pub struct Identity {
    key: Key,
    encryption: Encryption,
    host: String,
    helper: Option<Helper>,
}

/// What it takes to be somebody to AWS.
pub struct Helper {
    /// Hands out credentials.
    pub broker: Broker,
    /// For the mount targets.
    pub aws: Aws,
}

/// A certificate, and whose it is.
pub struct Minted {
    /// DER.
    pub certificate: Vec<u8>,
    /// Where the credentials came from, and the access key id; nothing where there are none.
    pub identity: Option<String>,
}

impl Identity {
    /// Certificates for `key`; `helper` is there if the share wants credentials.
    pub fn new(root: &Path, key: Key, encryption: Encryption, helper: Option<Helper>) -> Self {
        let host = files::whole(&root.join("proc/sys/kernel/hostname")).unwrap_or_default();
        let host = String::from_utf8_lossy(&host).trim().to_owned();
        Self { key, encryption, host, helper }
    }

    /// Whether AWS may be asked for the mount targets.
    pub fn discovers(&self) -> bool {
        self.encryption.discover && self.helper.is_some()
    }

    /// The addresses of the mount targets, as AWS tells them.
    ///
    /// # Errors
    /// Why there are none.
    pub fn mount_targets(&self, root: &Path, wait: Wait<'_>) -> Result<Vec<IpAddr>, TunnelError> {
        let Some(Helper { broker, aws }) = &self.helper else {
            return Err(TunnelError::Name("AWS is not asked for the mount targets".into()));
        };
        let credentials = broker.ask(wait)?;
        aws.mount_targets(&self.encryption, &credentials, root, wait)
    }

    /// A certificate for a connection that is begun now.
    ///
    /// # Errors
    /// [`TunnelError::Credentials`], [`TunnelError::Key`] or [`TunnelError::Stopped`].
    pub fn mint(&self, wait: Wait<'_>) -> Result<Minted, TunnelError> {
        let credentials = match &self.helper {
            Some(helper) if self.encryption.iam => Some(helper.broker.ask(wait)?),
            _ => None,
        };
        let request = CertificateRequest {
            common_name: &self.host,
            file_system_id: &self.encryption.file_system_id,
            region: &self.encryption.region,
            access_point: self.encryption.access_point.as_deref(),
            credentials: credentials.as_ref(),
            client: CLIENT,
            now: SystemTime::now(),
        };
        let certificate =
            certificate::mint(&self.key, &request).map_err(|e| TunnelError::Key(e.to_string()))?;
        let identity = credentials.as_ref().map(identity_of);
        Ok(Minted { certificate, identity })
    }
}
