//! What a tunnel asks of AWS: credentials, the mount targets if the name does not resolve, and the roots that the server's
//! certificate must lead to. How AWS is asked is in `crate::aws`, which gets from here what it needs of this machine.

use super::protocol::TunnelError;
use crate::aws::credentials::{
    self, Credentials, CredentialsError, ErrorClass, Service, Trouble, Wanted, identity_of,
};
use crate::aws::http::{self, Net};
use crate::aws::mount_targets::DiscoveryError;
use crate::aws::{Endpoints, Environment, Metadata, World, mount_targets, trust};
use crate::config::Endpoint;
use crate::config::encryption::{self as config, Encryption};
use crate::net::names::Resolver;
use crate::retry::Deadline;
use crate::wait::Wait;
use rustls::RootCertStore;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a file of profiles is waited for that somebody is just writing. A writer needs far less.
const SETTLE: Duration = Duration::from_secs(2);

/// The way to AWS. It lives as long as the process, since it remembers endpoints and metadata.
pub struct Aws {
    tls: Arc<rustls::ClientConfig>,
    environment: Environment,
    endpoints: Endpoints,
    metadata: Metadata,
}

impl Aws {
    /// AWS's servers are believed by the roots that the system trusts, or else by Amazon's. `environment` holds the
    /// variables of this process that count.
    ///
    /// # Errors
    /// What is wrong with the certificates, or what the library says.
    pub fn new(root: &Path, environment: Environment) -> Result<Self, String> {
        let roots = trust::roots(root, trust::Trust::System);
        let roots = roots.or_else(|_| trust::roots(root, trust::Trust::Amazon));
        let tls = http::tls(roots.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;

        Ok(Self {
            tls,
            environment,
            endpoints: Endpoints::default(),
            metadata: Metadata::default(),
        })
    }

    /// The credentials for `encryption`.
    ///
    /// # Errors
    /// [`TunnelError::Credentials`], [`TunnelError::Service`], [`TunnelError::Source`],
    /// [`TunnelError::Changeable`].
    pub fn credentials(
        &self,
        encryption: &Encryption,
        root: &Path,
        wait: Wait<'_>,
    ) -> Result<Credentials, TunnelError> {
        let profile = encryption.aws_profile.as_deref();
        let query = Wanted { profile, region: &encryption.region };

        self.with_world(root, wait, |world| {
            credentials::find(&query, world, wait.until).map_err(failure)
        })
    }

    /// The addresses of the file system's mount targets, the nearest first.
    ///
    /// # Errors
    /// [`TunnelError::Service`], or [`TunnelError::Name`] where no more is known.
    pub fn mount_targets(
        &self,
        encryption: &Encryption,
        credentials: &Credentials,
        root: &Path,
        wait: Wait<'_>,
    ) -> Result<Vec<IpAddr>, TunnelError> {
        let id = encryption.file_system_arn.as_ref().unwrap_or(&encryption.file_system_id);
        let region = &encryption.region;

        self.with_world(root, wait, |world| {
            let found = mount_targets::find(id, region, credentials, world, wait.until);
            let found = found.map_err(|e| match (&e, e.trouble()) {
                (DiscoveryError::Stopped(stopped), _) => (*stopped).into(),
                (_, Some(trouble)) => {
                    let what = format!("{e}{}", signed_by(credentials, trouble));
                    TunnelError::Service { what, service: Service::Efs, trouble }
                }
                (_, None) => TunnelError::Name(e.to_string()),
            })?;
            Ok(found.into_iter().map(|target| target.address).collect())
        })
    }

    fn with_world<T>(&self, root: &Path, wait: Wait<'_>, f: impl FnOnce(&World<'_>) -> T) -> T {
        let Wait { clock, stop, .. } = wait;
        let resolve = |host: &str, until: Deadline| {
            let endpoint = match host.parse() {
                Ok(address) => Endpoint::Address(address),
                Err(_) => Endpoint::Name(host.to_owned()),
            };
            let found = Resolver { root, clock, stop }.resolve(&endpoint, until);
            found.map(|found| found.addresses).map_err(|e| e.to_string())
        };

        let net = Net { clock, stop, resolve: &resolve, tls: Arc::clone(&self.tls) };

        f(&World {
            root,
            now: &SystemTime::now,
            net,
            environment: &self.environment,
            endpoints: &self.endpoints,
            metadata: &self.metadata,
            settle: SETTLE,
        })
    }
}

/// The failure of a tunnel that gets no credentials.
fn failure(error: CredentialsError) -> TunnelError {
    let what = error.to_string();
    match error.class() {
        Some(ErrorClass::Changeable(mend)) => TunnelError::Changeable { what, mend },
        Some(ErrorClass::Service(service, trouble)) => {
            TunnelError::Service { what, service, trouble }
        }
        Some(ErrorClass::Source(remedy)) => {
            TunnelError::Source { what, mend: remedy.cure, lasts: remedy.lasts }
        }
        None => TunnelError::Credentials(what),
    }
}

/// Names the keys that a service does not accept.
fn signed_by(credentials: &Credentials, trouble: Trouble) -> String {
    use Trouble as T;
    match trouble {
        T::Keys | T::Secret | T::Expired => format!(" (signed by {})", identity_of(credentials)),
        _ => String::new(),
    }
}

/// The authorities for the server's certificate.
///
/// # Errors
/// [`TunnelError::Trust`], [`TunnelError::Changeable`].
pub fn roots(root: &Path, trust: &config::TrustSource) -> Result<RootCertStore, TunnelError> {
    let trust = match trust {
        config::TrustSource::Amazon => trust::Trust::Amazon,
        config::TrustSource::System => trust::Trust::System,
        config::TrustSource::File(path) => trust::Trust::File(path),
    };
    trust::roots(root, trust).map_err(|e| match e.cure() {
        Some(mend) => TunnelError::Changeable { what: e.to_string(), mend },
        None => TunnelError::Trust(e.to_string()),
    })
}
