//! All that this room needs from outside, as one argument. Nothing else here reads an environment variable, a clock or
//! a fixed address.

use super::http::{Net, Url};
use super::secret::Secret;
use crate::partitions::dns_suffix;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The machine and the network. Tests make their own.
#[derive(Clone)]
pub struct World<'a> {
    /// `/` outside of tests.
    pub root: &'a Path,
    /// The time of day, for signatures and expiry.
    pub now: &'a dyn Fn() -> SystemTime,
    /// The network, the run's clock, and what ends every wait.
    pub net: Net<'a>,
    /// An error in root's files of profiles counts once they are this old: somebody may still be writing them.
    pub settle: Duration,
    /// Empty, unless the config says that variables count.
    pub environment: &'a Environment,
    pub endpoints: &'a Endpoints,
    pub metadata: &'a Metadata,
}

/// The token of the instance metadata service, and when to ask for the next one, by the run's clock.
#[derive(Debug, Default)]
pub struct Metadata {
    token: Mutex<Option<(Secret, Duration)>>,
}

impl Metadata {
    /// The token, locked for one thread at a time.
    pub(super) fn token(&self) -> MutexGuard<'_, Option<(Secret, Duration)>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of AWS's environment variables begin with this.
pub const ENVIRONMENT: &str = "AWS_";

/// Environment variables that count.
#[derive(Debug, Default)]
pub struct Environment(BTreeMap<String, Secret>);

impl Environment {
    /// No variables: those of root at a session's start are not to be trusted.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// AWS's variables of this process, for where the config lets them count.
    pub fn of_process() -> Self {
        let pairs = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::of(pairs.filter(|(name, _)| name.starts_with(ENVIRONMENT)))
    }

    pub fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
    }

    /// The value of a variable; an empty one is none.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name).filter(|value| !value.expose().is_empty())
    }
}

/// Where AWS's services are. Other places than the usual ones are for tests.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The instance metadata service.
    pub metadata: Url,
    /// What AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is relative to.
    pub container: Url,
    /// STS; `None` for that of the region.
    pub sts: Option<Url>,
    /// EFS's API; `None` for that of the region.
    pub efs: Option<Url>,
}

impl Default for Endpoints {
    fn default() -> Self {
        let link_local =
            |host: &str| Url { tls: false, host: host.to_owned(), port: 80, path: "/".to_owned() };
        Self {
            metadata: link_local("169.254.169.254"),
            container: link_local("169.254.170.2"),
            sts: None,
            efs: None,
        }
    }
}

impl Endpoints {
    /// The API of `service` in `region`, unless another one is given.
    pub(super) fn api(given: Option<&Url>, service: &str, region: &str) -> Url {
        given.cloned().unwrap_or_else(|| Url {
            tls: true,
            host: format!("{service}.{region}.{}", dns_suffix(region)),
            port: 443,
            path: "/".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_a_domain_of_its_own() {
        let sts = |region| Endpoints::api(None, "sts", region).to_string();
        assert_eq!(sts("eu-central-1"), "https://sts.eu-central-1.amazonaws.com/");
        assert_eq!(sts("us-gov-west-1"), "https://sts.us-gov-west-1.amazonaws.com/");
        assert_eq!(sts("cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn/");
        assert_eq!(sts("us-isob-east-1"), "https://sts.us-isob-east-1.sc2s.sgov.gov/");
        assert_eq!(sts("us-iso-east-1"), "https://sts.us-iso-east-1.c2s.ic.gov/");
        assert_eq!(sts("eusc-de-east-1"), "https://sts.eusc-de-east-1.amazonaws.eu/");
    }

    #[test]
    fn a_variable_without_a_value_is_none() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = Environment::of([pair("AWS_A", ""), pair("AWS_B", "b")]);
        assert!(environment.get("AWS_A").is_none() && environment.get("AWS_C").is_none());
        assert_eq!(environment.get("AWS_B").unwrap().expose(), "b");
        assert!(Environment::nothing().get("PATH").is_none());
    }
}
