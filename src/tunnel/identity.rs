//! Who we are to the file system: a certificate for each connection. It is made in memory with the current credentials,
//! so that none expires in use. What goes into a certificate is in `crate::aws::certificate`.

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

/// The client's name and version, as the file system gets them.
const CLIENT: (&str, &str) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));

/// Makes the client's certificates, and finds the mount targets with the same credentials.
pub struct Identity {
    key: Key,
    encryption: Encryption,
    host: String,
    aws_access: Option<AwsAccess>,
}

/// What is needed to sign requests to AWS.
pub struct AwsAccess {
    pub broker: Broker,
    pub aws: Aws,
}

/// A certificate, and whose it is.
pub struct ClientCertificate {
    /// DER.
    pub certificate: Vec<u8>,
    /// Where the credentials came from, and the access key id. `None` if there are no credentials.
    pub identity: Option<String>,
}

impl Identity {
    /// Makes certificates for `key`. `aws_access` is needed for IAM and for the search for mount targets.
    pub fn new(
        root: &Path,
        key: Key,
        encryption: Encryption,
        aws_access: Option<AwsAccess>,
    ) -> Self {
        let host = files::whole(&root.join("proc/sys/kernel/hostname")).unwrap_or_default();
        let host = String::from_utf8_lossy(&host).trim().to_owned();
        Self { key, encryption, host, aws_access }
    }

    /// Whether AWS may be asked for the mount targets.
    pub fn discovers(&self) -> bool {
        self.encryption.discover && self.aws_access.is_some()
    }

    /// The addresses of the mount targets, as AWS lists them.
    ///
    /// # Errors
    /// Why there are none.
    pub fn mount_targets(&self, root: &Path, wait: Wait<'_>) -> Result<Vec<IpAddr>, TunnelError> {
        let Some(AwsAccess { broker, aws }) = &self.aws_access else {
            return Err(TunnelError::Name("AWS is not asked for the mount targets".into()));
        };
        let credentials = broker.ask(wait)?;
        aws.mount_targets(&self.encryption, &credentials, root, wait)
    }

    /// A certificate for a connection that is begun now.
    ///
    /// # Errors
    /// [`TunnelError::Credentials`], [`TunnelError::Key`] or [`TunnelError::Stopped`].
    pub fn mint(&self, wait: Wait<'_>) -> Result<ClientCertificate, TunnelError> {
        let credentials = match &self.aws_access {
            Some(aws_access) if self.encryption.iam => Some(aws_access.broker.ask(wait)?),
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
        Ok(ClientCertificate { certificate, identity })
    }
}
