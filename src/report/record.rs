//! Turns a report into what [`crate::status`] writes down. Nothing here decides: each field is
//! copied from where it is known.

use super::{Outcome, Report};
use crate::share::Mounted;
use crate::share::client::{ClientIdentity, SetBy};
use crate::status::record::{ClientRecord, MountRecord, ShareRecord};
use crate::status::{EndedRun, ShareResult};
use std::path::Path;

impl Report {
    /// This report as the end of a run with `config`, with or without `--once`, at the time `at`
    /// (RFC 3339).
    pub fn ended(&self, config: &Path, once: bool, at: String) -> EndedRun {
        EndedRun {
            at,
            once,
            config: config.to_string_lossy().into_owned(),
            exit: self.code().0,
            client: client(&self.client),
            shares: self.outcomes.iter().map(ShareResult::from).collect(),
        }
    }
}

/// Who this machine is to its servers; `None` where its kernel has no NFS client yet.
pub fn client(identity: &ClientIdentity) -> Option<ClientRecord> {
    let (text, by, place) = match identity {
        ClientIdentity::Set { text, place, by } => (Some(text.clone()), Some(by), place),
        ClientIdentity::Unset { place, .. } => (None, None, place),
        ClientIdentity::NoClient => return None,
    };
    let set_by = by.map(|by| match by {
        SetBy::EfsAgent => "efs-agent".to_owned(),
        SetBy::Administrator => "administrator".to_owned(),
    });
    Some(ClientRecord { identity: text, set_by, place: (*place).to_owned() })
}

impl From<&Outcome> for ShareResult {
    fn from(Outcome { share, result, attempts, took }: &Outcome) -> Self {
        let mounted = result.as_ref().ok();
        let cause = result.as_ref().err().map(|error| error.cause(share, None));
        let tls = mounted.and_then(|mounted| Some(mounted.peer.as_ref()?.version.clone()));

        let record = ShareRecord {
            endpoint: share.endpoint.to_string(),
            path: share.path.clone(),
            mount_point: share.mount_point.to_string_lossy().into_owned(),
            mounted: mounted.is_some(),
            already: mounted.is_some_and(|mounted| mounted.already),
            address: mounted.map(Mounted::server),
            tls,
            encrypted: share.encryption.is_some(),
            mount: mounted.map(MountRecord::from),
            made: mounted.is_some_and(|mounted| mounted.made),
            attempts: *attempts,
            seconds: took.as_millis() as f64 / 1000.0,
            cause: cause.as_ref().map(|cause| cause.sentence.clone()),
            cure: cause.map(|cause| cause.cure),
        };

        let over = mounted.and_then(|mounted| mounted.over).map(|folder| folder.to_string());
        let is_old = mounted.is_some_and(|mounted| mounted.already || mounted.anew);
        Self { record, is_old, over }
    }
}

impl From<&Mounted> for MountRecord {
    fn from(mounted: &Mounted) -> Self {
        Self {
            id: mounted.id,
            device: mounted.device.clone(),
            source: mounted.source.clone(),
            address: mounted.address.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::share;
    use crate::report::MountError;
    use crate::share::Failure;
    use crate::share::causes::MachineFacts;
    use std::time::Duration;

    #[test]
    fn a_share_that_is_up_has_its_mount_and_one_that_is_not_has_its_cause() {
        let outcome = |result| Outcome {
            share: share(""),
            result,
            attempts: 2,
            took: Duration::from_millis(1234),
        };
        let mounted = Mounted { made: true, ..Mounted::fake(false) };
        let ShareResult { record, is_old, over } = (&outcome(Ok(mounted.clone()))).into();
        let mount = record.mount.as_ref().unwrap();
        assert!(mount.is_mount(mounted.id, &mounted.device) && record.is_share(&share("")));
        assert!(record.mounted && record.made && !record.already && !is_old);
        assert_eq!((record.attempts, record.seconds, over), (2, 1.234, None));
        assert!(ShareResult::from(&outcome(Ok(Mounted::fake(true)))).is_old);
        assert!(ShareResult::from(&outcome(Ok(Mounted { anew: true, ..mounted }))).is_old);

        let failure = Failure::Program { what: "it is broken".into(), cure: "mend it".into() };
        let error = MountError { failure, facts: MachineFacts::default() };
        let ShareResult { record, .. } = (&outcome(Err(error))).into();
        assert!(!record.mounted && record.mount.is_none() && record.address.is_none());
        assert!(record.cause.unwrap().ends_with(": it is broken"));
        assert_eq!(record.cure.as_deref(), Some("mend it"));
    }

    #[test]
    fn a_client_without_an_identity_is_known_by_its_place() {
        assert_eq!(client(&ClientIdentity::NoClient), None);
        let by = SetBy::EfsAgent;
        let set = client(&ClientIdentity::Set { text: "x".into(), place: "/sys/x", by }).unwrap();
        assert_eq!(
            (set.identity.as_deref(), set.set_by.as_deref()),
            (Some("x"), Some("efs-agent"))
        );
    }
}
