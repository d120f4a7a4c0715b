//! Turns the state of one share into words for people and JSON for programs. Looks at nothing
//! itself.

use crate::config::Share;
use crate::kernel::mount_table;
use crate::text::plain;
use crate::tunnel::protocol::{Peer, TunnelStatus};
use serde::Serialize;
use std::time::Duration;

/// The state of one share.
pub enum ShareState {
    /// It is mounted.
    Up(Box<MountState>),
    /// It is not mounted.
    Absent {
        /// Its tunnel, if that runs all the same.
        tunnel: Option<Result<TunnelState, String>>,
    },
    /// Something else is in its place, or nothing is known.
    Unusable(String),
}

/// A share that is mounted.
pub struct MountState {
    /// The address that the kernel is connected to.
    pub address: String,
    /// What the kernel shows as its source, as df and findmnt print it.
    pub source: String,
    pub options: String,
    /// Seconds since it was mounted, where the kernel shows that.
    pub age: Option<u64>,
    /// Its size and free space, or why it cannot be used.
    pub space: Result<ShareSpace, MountProblem>,
    /// The tunnel that it goes through, or what is wrong with that. `None` if it neither does nor
    /// should.
    pub tunnel: Option<Result<TunnelState, String>>,
}

/// How large a share is.
#[derive(Debug, Clone, Copy)]
pub struct ShareSpace {
    /// The whole size.
    pub bytes: u64,
    /// How much of that users can still fill.
    pub free: u64,
}

/// Why a share that is mounted cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountProblem {
    /// Its server does not answer.
    Silence(String),
    /// Its server answers with this error. The second string is the cure.
    Fault(String, &'static str),
}

/// A tunnel that has answered.
pub struct TunnelState {
    /// The local port that it listens at.
    pub port: u16,
    /// Its answer.
    pub status: TunnelStatus,
}

/// One of the `shares` that `--json` prints.
#[derive(Serialize)]
pub struct ShareJson<'a> {
    endpoint: String,
    path: &'a str,
    mount_point: String,
    in_config: bool,
    mounted: bool,
    responsive: bool,
    usable: bool,
    problem: Option<&'a str>,
    #[serde(flatten)]
    mount: Option<MountJson<'a>>,
    tunnel: Option<TunnelJson<'a>>,
}

/// What a share has besides if it is mounted.
#[derive(Serialize)]
struct MountJson<'a> {
    address: &'a str,
    source: &'a str,
    options: &'a str,
    mounted_for_seconds: Option<u64>,
    bytes: Option<u64>,
    bytes_free: Option<u64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum TunnelJson<'a> {
    Wrong {
        problem: &'a str,
    },
    Well {
        port: u16,
        peer: Option<String>,
        version: Option<&'a str>,
        cipher: Option<&'a str>,
        identity: Option<&'a str>,
        connections: u64,
        bytes_sent: u64,
        bytes_received: u64,
        refused: u64,
        last_failure: Option<String>,
        problem: Option<&'a str>,
    },
}

impl<'a> From<&'a Result<TunnelState, String>> for TunnelJson<'a> {
    fn from(tunnel: &'a Result<TunnelState, String>) -> Self {
        let TunnelState { port, status } = match tunnel {
            Ok(tunnel) => tunnel,
            Err(problem) => return Self::Wrong { problem },
        };

        let peer = status.peer.as_ref();
        Self::Well {
            port: *port,
            peer: peer.map(|peer| peer.address.to_string()),
            version: peer.map(|peer| peer.version.as_str()),
            cipher: peer.map(|peer| peer.cipher.as_str()),
            identity: peer.and_then(|peer| peer.identity.as_deref()),
            connections: status.connections,
            bytes_sent: status.sent,
            bytes_received: status.received,
            refused: status.refused,
            last_failure: status.last_failure.as_ref().map(ToString::to_string),
            problem: None,
        }
    }
}

impl ShareState {
    /// Whether the share can be used as the config wants it.
    pub fn is_well(&self) -> bool {
        match self {
            Self::Up(mount) => mount.space.is_ok() && !matches!(mount.tunnel, Some(Err(_))),
            Self::Absent { .. } | Self::Unusable(_) => false,
        }
    }

    /// The state, in lines for people.
    pub fn text(&self, share: &Share, in_config: bool) -> String {
        let text = match self {
            Self::Up(mount) => mount.text(share),
            Self::Absent { tunnel } => {
                let tunnel = tunnel.as_ref().map(|tunnel| {
                    let text = tunnel_text(tunnel);
                    format!("  tunnel: runs, though nothing is mounted through it: {text}\n")
                });
                format!("{share}: NOT MOUNTED\n{}", tunnel.unwrap_or_default())
            }
            Self::Unusable(why) => format!("{share}: NOT USABLE: {why}\n"),
        };

        match in_config {
            true => text,
            false => {
                format!("{text}  it is not in the config: sudo efs-agent unmount takes it away\n")
            }
        }
    }

    /// The state, for programs.
    pub fn json<'a>(&'a self, share: &'a Share, in_config: bool) -> ShareJson<'a> {
        let json = ShareJson {
            endpoint: share.endpoint.to_string(),
            path: &share.path,
            mount_point: share.mount_point.to_string_lossy().into_owned(),
            in_config,
            mounted: false,
            responsive: false,
            usable: false,
            problem: None,
            mount: None,
            tunnel: None,
        };

        match self {
            Self::Up(mount) => ShareJson {
                mounted: true,
                responsive: !matches!(mount.space, Err(MountProblem::Silence(_))),
                usable: mount.space.is_ok(),
                problem: mount.space.as_ref().err().map(MountProblem::why),
                mount: Some(mount.json()),
                tunnel: mount.tunnel.as_ref().map(TunnelJson::from),
                ..json
            },
            Self::Absent { tunnel } => {
                ShareJson { tunnel: tunnel.as_ref().map(TunnelJson::from), ..json }
            }
            Self::Unusable(why) => ShareJson { problem: Some(why), ..json },
        }
    }
}

impl MountState {
    fn text(&self, share: &Share) -> String {
        let Self { address, source, options, age, space, tunnel } = self;
        let since = age.map_or(String::new(), |age| {
            format!(" for {}", humantime::format_duration(Duration::from_secs(age)))
        });

        let space = match space {
            Ok(space) => space.text(),
            Err(problem) => problem.text(),
        };

        let led = match mount_table::has_path(source, share) {
            true => String::new(),
            false => format!(
                "  the server leads {} to {source}, which is what df and findmnt show\n",
                share.path
            ),
        };
        let tunnel = tunnel.as_ref().map(|tunnel| format!("  tunnel: {}\n", tunnel_text(tunnel)));
        format!(
            "{share}: mounted from {address}{since}; {space}\n{led}  options: {options}\n{}",
            tunnel.unwrap_or_default()
        )
    }

    fn json(&self) -> MountJson<'_> {
        let space = self.space.as_ref().ok();
        MountJson {
            address: &self.address,
            source: &self.source,
            options: &self.options,
            mounted_for_seconds: self.age,
            bytes: space.map(|space| space.bytes),
            bytes_free: space.map(|space| space.free),
        }
    }
}

impl ShareSpace {
    fn text(self) -> String {
        let full = match self.free == 0 && self.bytes > 0 {
            true => " (FULL: nothing can be written; make room on the server)",
            false => "",
        };
        format!("answers; {} of {} free{full}", size(self.free), size(self.bytes))
    }
}

impl MountProblem {
    fn why(&self) -> &str {
        match self {
            Self::Silence(why) | Self::Fault(why, _) => why,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Silence(why) => format!("NOT RESPONDING: {why}"),
            Self::Fault(why, cure) => format!("NOT USABLE: {why}; to mend it: {cure}"),
        }
    }
}

impl TunnelState {
    fn text(&self) -> String {
        let TunnelStatus { peer, connections, sent, received, refused, last_failure } =
            &self.status;
        let peer = match peer {
            Some(Peer { address, version, cipher, identity }) => {
                let who = identity.as_ref().map(|who| format!(", as {who}")).unwrap_or_default();
                format!("{version} ({cipher}) with {address}{who}")
            }
            None => "no handshake yet".to_owned(),
        };
        let failure = last_failure.as_ref().map(|f| format!("; last failure: {f}"));

        let (sent, received, port) = (size(*sent), size(*received), self.port);
        plain(&format!(
            "port {port}, {peer}; connections: {connections}; {sent} sent, {received} received; \
             {refused} connections of others refused{}",
            failure.unwrap_or_default()
        ))
    }
}

fn tunnel_text(tunnel: &Result<TunnelState, String>) -> String {
    match tunnel {
        Ok(tunnel) => tunnel.text(),
        Err(problem) => problem.clone(),
    }
}

fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = units.iter();
    let mut name = unit.next().unwrap_or(&"B");
    while value >= 1024.0
        && let Some(next) = unit.next()
    {
        value /= 1024.0;
        name = next;
    }
    format!("{value:.1} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::MOUNT_ANEW;
    use crate::json;
    use crate::share::causes::no_use;
    use crate::tunnel::protocol::TunnelError;
    use nix::errno::Errno;
    use serde_json::Value;

    #[test]
    fn sizes_have_one_decimal_and_a_binary_unit() {
        assert_eq!(size(0), "0.0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
    }

    fn mounted() -> MountState {
        MountState {
            address: "127.0.0.1".into(),
            source: "fs-0123abcd.efs.eu-west-1.amazonaws.com:/".into(),
            options: "rw".into(),
            age: Some(61),
            space: Ok(ShareSpace { bytes: 2048, free: 1024 }),
            tunnel: None,
        }
    }

    fn up(tunnel: Option<Result<TunnelState, String>>) -> ShareState {
        ShareState::Up(Box::new(MountState { tunnel, ..mounted() }))
    }

    fn json(state: &ShareState, share: &Share) -> Value {
        json::read(json::written(&state.json(share, true)).as_bytes()).unwrap()
    }

    #[test]
    fn a_tunnel_is_told_with_its_far_end_and_what_went_through() {
        let share = crate::config::test::encrypted_share("");
        let peer = Peer {
            address: "10.0.1.12".parse().unwrap(),
            version: "TLS 1.3".into(),
            cipher: "TLS13_AES_128_GCM_SHA256".into(),
            identity: Some("profile x, AKIDEXAMPLE".into()),
        };
        let status = TunnelStatus {
            peer: Some(peer),
            connections: 1,
            sent: 1536,
            received: 5,
            refused: 3,
            last_failure: Some(TunnelError::Closed),
        };
        let state = up(Some(Ok(TunnelState { port: 40001, status })));
        assert!(state.is_well());
        assert_eq!(
            state.text(&share, true),
            "fs-0123abcd.efs.eu-west-1.amazonaws.com:/ on /mnt/efs_share: mounted from 127.0.0.1 for 1m 1s; \
             answers; 1.0 KiB of 2.0 KiB free\n  options: rw\n  tunnel: port 40001, TLS 1.3 \
             (TLS13_AES_128_GCM_SHA256) with 10.0.1.12, as profile x, AKIDEXAMPLE; connections: 1; 1.5 KiB \
             sent, 5.0 B received; 3 connections of others refused; last failure: the server closed the \
             connection in the middle of the TLS handshake\n"
        );
        let json = &json(&state, &share)["tunnel"];
        assert_eq!((&json["port"], &json["bytes_sent"]), (&40001.into(), &1536.into()));
        assert_eq!((&json["peer"], &json["problem"]), (&"10.0.1.12".into(), &Value::Null));
    }

    #[test]
    fn a_share_that_is_not_encrypted_and_is_to_be_is_not_well() {
        let share = crate::config::test::encrypted_share("");
        let plain = up(Some(Err("NOT ENCRYPTED, which the config wants".into())));
        assert!(!plain.is_well());
        let end = "\n  tunnel: NOT ENCRYPTED, which the config wants\n";
        assert!(plain.text(&share, true).ends_with(end));
        let tunnel = &json(&plain, &share)["tunnel"];
        assert_eq!(tunnel["problem"], "NOT ENCRYPTED, which the config wants");
        assert_eq!(tunnel.as_object().unwrap().len(), 1, "that alone");

        let without = up(None);
        assert!(without.is_well() && !without.text(&share, true).contains("tunnel"));
        assert_eq!(json(&without, &share)["tunnel"], Value::Null);
    }

    #[test]
    fn a_mount_of_no_use_is_told_with_what_helps_and_a_full_one_is_told() {
        let share = crate::config::test::encrypted_share("");
        let stale = ShareState::Up(Box::new(MountState {
            space: Err(MountProblem::Fault(no_use(Errno::ESTALE), MOUNT_ANEW)),
            source: "fs:/releases/1".into(),
            ..mounted()
        }));
        assert!(!stale.is_well());
        assert_eq!(
            stale.text(&share, true),
            "fs-0123abcd.efs.eu-west-1.amazonaws.com:/ on /mnt/efs_share: mounted from 127.0.0.1 for 1m 1s; NOT USABLE: its \
             folder is gone from the server, or was made anew there (ESTALE); to mend it: sudo efs-agent --once, which \
             mounts it anew\n  the server leads / to fs:/releases/1, which is what df and findmnt show\n  options: rw\n"
        );
        let json = json(&stale, &share);
        assert_eq!((&json["responsive"], &json["usable"]), (&true.into(), &false.into()));
        assert_eq!(json["source"], "fs:/releases/1");
        assert!(json["problem"].as_str().unwrap().ends_with("(ESTALE)"), "{json}");

        let full = MountState { space: Ok(ShareSpace { bytes: 2048, free: 0 }), ..mounted() };
        let text = full.text(&share);
        assert!(text.contains("0.0 B of 2.0 KiB free (FULL: nothing can be written"), "{text}");
        assert!(!up(None).text(&share, true).contains("FULL"));
    }
}
