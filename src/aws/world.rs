//! What AWS's rooms take of the world they run in, as one argument.

use super::http::{Net, Url};
use super::secret::Secret;
use crate::partitions::dns_suffix;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The world. Tests make another.
#[derive(Clone)]
pub struct World<'a> {
    /// `/` outside of tests.
    pub root: &'a Path,
    /// The time of day, which signatures and expiry go by.
    pub now: &'a dyn Fn() -> SystemTime,
    /// The network, time, and what ends every wait.
    pub net: Net<'a>,
    /// Root's files of profiles must have been left alone for so long that what is wrong with them is there to
    /// stay: somebody may be writing them just now.
    pub settle: Duration,
    /// Nothing, unless the config says that variables count.
    pub environment: &'a Environment,
    /// Where AWS is.
    pub endpoints: &'a Endpoints,
    /// What was learned of the instance metadata service.
    pub metadata: &'a Metadata,
}

/// What was learned of the instance metadata service: its token, and when to ask for the next (by the
/// run's clock).
#[derive(Debug, Default)]
pub struct Metadata {
    token: Mutex<Option<(Secret, Duration)>>,
}

impl Metadata {
    /// The token, for one at a time.
    pub(super) fn token(&self) -> MutexGuard<'_, Option<(Secret, Duration)>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With this begin the names of AWS's environment variables.
pub const ENVIRONMENT: &str = "AWS_";

/// Environment variables that count.
#[derive(Debug, Default)]
pub struct Environment(BTreeMap<String, Secret>);

impl Environment {
    /// None: that of root at a session's start is nobody's to trust.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Those of this process that are AWS's, for where the config says so.
    pub fn of_process() -> Self {
        let pairs = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::of(pairs.filter(|(name, _)| name.starts_with(ENVIRONMENT)))
    }

    /// These.
    pub fn of(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
    }

    /// The value of a variable; an empty one is none.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name).filter(|value| !value.expose().is_empty())
    }
}

/// Where AWS is. Other places than the usual ones are for tests.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The instance metadata service.
    pub metadata: Url,
    /// What AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is relative to.
    pub container: Url,
    /// STS; that of the region, if not said.
    pub sts: Option<Url>,
    /// EFS's API; that of the region, if not said.
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
    /// The API of `service` in `region`, unless another place was said.
    pub(super) fn api(said: Option<&Url>, service: &str, region: &str) -> Url {
        said.cloned().unwrap_or_else(|| Url {
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
