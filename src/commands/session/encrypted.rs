//! The way of a share that is encrypted: its tunnel, one whole TLS handshake, and only then
//! mount(2). A handshake that fails says why within seconds; the kernel, which sees no more than a
//! local port, would wait for minutes and then say EIO.

use super::{ALIVE, LOCATE, Pace, Run, Search};
use crate::aws::credentials::Trouble;
use crate::config::Share;
use crate::config::encryption::RESERVED;
use crate::retry::{Backoff, seconds};
use crate::share::causes::{Cause, no_use};
use crate::share::plan;
use crate::share::{Answer, Failure, Machine, Mounted};
use crate::sys;
use crate::tunnel::protocol::{Peer, TunnelError};
use nix::errno::Errno;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the service manager may take over a tunnel: a machine that has just begun is busy.
const START: Duration = Duration::from_secs(20);
/// One attempt waits this long for a key that is being made: what takes longer may be something else.
const KEY: Duration = Duration::from_secs(10);
/// What a handshake gets at first, with credentials to be found and a key to be made; twice as much
/// after each that took longer.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);

/// What became of a mount that was there already.
enum Kept {
    /// It is alive, and leads there.
    Yes(Option<Peer>),
    /// It leads elsewhere: where, as the end of a sentence about the mount point.
    Astray(String),
    /// It leads there, and what it answers is this error.
    Faulty(Errno),
}

impl<M: Machine> Run<'_, M> {
    /// One try: tunnel, name, address that answers, handshake, mount(2).
    pub(super) fn encrypted_attempt(
        &self,
        share: &Share,
        point: &M::Point,
        pace: Pace,
        search: &mut Search,
    ) -> Result<Mounted, Failure> {
        // First, since it makes its key while we wait for the network.
        let port = self.tunnels.start(share, None, self.deadline.within(self.clock, START))?;
        // The tunnel will look for an address itself: here is found out what is wrong if there is
        // none, in 0.3 s when it has come good, and by the same means as for every share.
        if search.seen.take().is_none() {
            match self.locate(share, LOCATE, search) {
                // It can ask AWS, too.
                Err(Failure::Name(_)) if share.encryption.as_ref().is_some_and(|e| e.discover) => {}
                Err(failure) => return Err(failure),
                Ok(_) => {}
            }
        }
        use TunnelError as F;
        let peer = self.handshake(share, pace.handshake).inspect_err(|error| {
            // It has read these when it began: who has mended them is not to meet with it again.
            if let F::Trust(_)
            | F::UnknownIssuer
            | F::Service { trouble: Trouble::Tls, .. }
            | F::Changeable { .. }
            | F::Key(_) = error
            {
                let _ = self.tunnels.stop(share, self.deadline.within(self.clock, ALIVE));
            }
        });
        let peer = peer.map_err(|error| self.led(share, error.into(), search))?;
        let who = peer.identity.as_ref().map(|who| format!(", as {who}")).unwrap_or_default();
        let text = format!(
            "{}: {} with {}{who} ({}), by the tunnel at port {port}",
            share.endpoint, peer.version, peer.address, peer.cipher
        );
        if self.once {
            self.log.info(text)
        } else {
            self.log.debug(text)
        }
        let call = plan::tunnelled_call(share, port, peer.address, self.machine.client());
        let until = self.deadline.within(self.clock, pace.span);
        match self.machine.mount(share, &call, point, pace.silence, until) {
            Ok(mounted) => {
                if !self.tunnels.is_guarded(port) {
                    self.log.warning(unguarded(share, port));
                }
                search.seen = Some(peer.address);
                Ok(Mounted { peer: Some(peer), ..mounted })
            }
            // The rest is not the file system's answer.
            Err(failure) if failure.failed_address().is_some() => {
                Err(Failure::Encrypted(Box::new(failure), peer))
            }
            Err(failure) => Err(failure),
        }
    }

    /// One handshake, which gets `span`. A key that is being made, once a boot, is waited for besides, for [`KEY`].
    fn handshake(&self, share: &Share, span: Duration) -> Result<Peer, TunnelError> {
        let mut told = false;
        let enough = self.deadline.within(self.clock, KEY);
        loop {
            match self.tunnels.handshake(share, self.deadline.within(self.clock, span)) {
                Err(TunnelError::MakingKey) if !enough.passed(self.clock) => {
                    if !std::mem::replace(&mut told, true) {
                        let (at, failure) = (share.mount_point.display(), TunnelError::MakingKey);
                        self.log.info(format_args!("{at}: {failure}, which is waited for"));
                    }
                }
                other => return other,
            }
        }
    }

    /// A share that is mounted already stays, if its server answers through its tunnel; a tunnel that
    /// is not there any more is started anew, at the port where the kernel looks for it. If that cannot
    /// be, the mount is replaced. If the file system does not answer, the mount is left alone: the
    /// tunnel finds it again, wherever it is by then. One that answers with an error alone is replaced, as one
    /// without a tunnel is.
    pub(super) fn keep_encrypted(
        &self,
        share: &Share,
        mounted: Mounted,
        pace: Pace,
        search: &mut Search,
        attempts: &mut u32,
    ) -> Result<Mounted, Cause> {
        let fail = |failure: Failure| self.explain(&failure, share);
        let mut backoff: Option<Backoff> = None;
        loop {
            let failure = match self.kept(share, &mounted) {
                Ok(Kept::Yes(peer)) => {
                    let mut differs = mounted.differs;
                    if !self.tunnels.is_current(share) {
                        differs.push("the tunnel of an earlier config".into());
                    }
                    return Ok(Mounted { peer, differs, ..mounted });
                }
                Ok(Kept::Astray(what)) => {
                    return self.replace(
                        share,
                        &mounted,
                        &format!("{what}: replaced"),
                        pace,
                        search,
                        attempts,
                    );
                }
                Ok(Kept::Faulty(errno)) => {
                    let what =
                        format!("from {}, but {}: mounted anew", mounted.address, no_use(errno));
                    return self.replace(share, &mounted, &what, pace, search, attempts);
                }
                Err(failure) => failure,
            };
            *attempts += 1;
            let cause = self.explain(&failure, share);
            let stopped = matches!(failure, Failure::Stopped(_));
            let last = self.once || self.deadline.passed(self.clock);
            if stopped || last || !cause.is_temporary() {
                return Err(cause);
            }
            let (at, left) = (share.mount_point.display(), seconds(self.deadline.left(self.clock)));
            self.log
                .warning(format_args!("{at}: attempt {attempts}: {}; {left} left", cause.sentence));
            let stopped = |_| fail(Failure::Stopped(Some(Box::new(failure.clone()))));
            let pause = backoff.get_or_insert_with(|| Backoff::new(sys::random())).pause();
            self.clock.wait(pause.min(self.deadline.left(self.clock))).map_err(stopped)?;
        }
    }

    fn kept(&self, share: &Share, mounted: &Mounted) -> Result<Kept, Failure> {
        let soon = |span| self.deadline.within(self.clock, span);
        let anew = |what| -> Result<(), Failure> {
            let port = self.tunnels.start(share, Some(mounted.port), soon(START))?;
            let at = share.mount_point.display();
            self.log.warning(format_args!("{at}: {what}, and was started again at port {port}"));
            Ok(())
        };
        let peer = match self.tunnels.status(share, soon(ALIVE)) {
            Ok(status) => status.peer,
            // It is there, and busy: whether it still carries the share is seen by that.
            Err(TunnelError::NoTunnel(Errno::ETIMEDOUT) | TunnelError::MakingKey) => None,
            Err(TunnelError::NoTunnel(_)) => {
                anew("its tunnel was not running")?;
                None
            }
            Err(failure) => return Err(failure.into()),
        };
        let elsewhere = self.tunnels.port(share).filter(|port| *port != mounted.port);
        let astray = |port| {
            let old = mounted.port;
            Kept::Astray(format!(
                "through port {old}, where its tunnel is no longer, but at {port}"
            ))
        };
        // Before anything is asked through it: whoever listens there now may be anybody.
        if let Some(port) = elsewhere.filter(|_| !self.tunnels.is_guarded(mounted.port)) {
            return Ok(astray(port));
        }
        match self.machine.leads_to(mounted) {
            // Or to the tunnel of another share, as an earlier version could leave it.
            Some(to) if to == SocketAddr::new(plan::TUNNEL, mounted.port) => {}
            Some(to) => return Ok(Kept::Astray(format!("from {to}, past its tunnel"))),
            None => return Err(Failure::Unverified),
        }
        let fault = match self.machine.responds(share, mounted, soon(ALIVE))? {
            Answer::Well => {
                let of_status = || self.tunnels.status(share, soon(ALIVE)).ok()?.peer;
                return Ok(Kept::Yes(peer.or_else(of_status)));
            }
            Answer::Fault(errno) => Some(errno),
            Answer::Silence => None,
        };
        // Of a tunnel that was made anew since, the kernel knows nothing.
        if let Some(port) = elsewhere {
            return Ok(astray(port));
        }
        let peer = self.handshake(share, HANDSHAKE)?;
        match fault {
            Some(errno) => Ok(Kept::Faulty(errno)),
            None => Err(Failure::Dead(peer.address.to_string())),
        }
    }
}

/// What it means that users may listen at the port of a share's tunnel.
pub(in super::super) fn unguarded(share: &Share, port: u16) -> String {
    format!(
        "any user can take port {port} of 127.0.0.1 if the tunnel of {} ever leaves it: {}",
        share.mount_point.display(),
        match port < RESERVED {
            true => "set net.ipv4.ip_unprivileged_port_start to 1024 (sysctl)",
            false => "unmount the share and run again, and its tunnel gets one below 1024",
        }
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FakeMachine, seconds_of, start_on};
    use super::*;
    use crate::aws::credentials::Service;
    use crate::report::Code;
    use crate::retry::Clock;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU16;

    const ONE: &str = "[[share]]\nendpoint = \"fs-0123abcd.efs.eu-west-1.amazonaws.com\"\n\
                       encryption_in_transit = true\n";
    const SHARE: &str = "fs-0123abcd.efs.eu-west-1.amazonaws.com:/ on /mnt/efs_share";

    fn no_tunnel() -> TunnelError {
        TunnelError::NoTunnel(Errno::ECONNREFUSED)
    }

    /// The share is there already, through port 40001.
    fn mounted() -> FakeMachine {
        FakeMachine { already: true, old_port: 40001, ..Default::default() }
    }

    #[test]
    fn a_good_start_has_its_tunnel_and_a_handshake_before_it_mounts() {
        let machine = FakeMachine::default();
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(
            text,
            format!(
                "mounted {SHARE} from 10.0.0.7, TLS 1.3, NFS 4.1, attempt 1, in 0.000 s (exit 0)\n"
            )
        );
        let seen = machine.seen.lock().unwrap();
        let steps: Vec<&str> = seen.iter().map(|(step, _)| *step).collect();
        assert_eq!(
            steps,
            ["prepare", "tunnel", "resolve", "reach", "handshake", "mount", "settle"]
        );
        let call = &machine.calls.lock().unwrap()[0];
        assert!(call.data.to_str().unwrap().ends_with(",port=40001,addr=127.0.0.1"), "{call:?}");
    }

    #[test]
    fn a_share_without_encryption_asks_for_no_tunnel() {
        let machine = FakeMachine::default();
        start_on(&machine, "[[share]]\nendpoint = \"fs-1.example\"\n", false);
        assert!(machine.times("tunnel").is_empty() && machine.times("handshake").is_empty());
    }

    #[test]
    fn handshakes_that_fail_for_a_time_are_tried_again_and_each_is_told() {
        let script = vec![
            TunnelError::Closed,
            TunnelError::Credentials("no answer from 169.254.169.254".into()),
            TunnelError::Alert("internal_error".into()),
        ];
        let machine = FakeMachine { handshakes: Mutex::new(script), ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(report.outcomes[0].attempts, 4);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("warning: /mnt/efs_share: attempt 1: the server closed the connection in the middle of the TLS handshake; 25"),
            "{text}"
        );
        assert!(lines[1].contains("attempt 2: no answer from 169.254.169.254; "), "{text}");
        assert_eq!(machine.times("mount").len(), 1);
    }

    #[test]
    fn a_handshake_that_no_waiting_mends_ends_at_once_and_nothing_is_mounted() {
        let script = vec![TunnelError::CertificateName {
            wanted: "fs-0123abcd.efs.eu-west-1.amazonaws.com".into(),
            presented: vec!["nfs.example".into()],
        }];
        let machine = FakeMachine { handshakes: Mutex::new(script), ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::REFUSED);
        assert_eq!(
            text,
            format!(
                "error: cannot mount {SHARE}: the server's certificate is for nfs.example, not for \
                 fs-0123abcd.efs.eu-west-1.amazonaws.com; after 1 attempt in 0.000 s; to mend it: check \
                 `endpoint` and `addresses`; if the server is a stand-in for EFS, name it in `tls_name` \
                 (exit 69)\n"
            )
        );
        assert!(machine.times("mount").is_empty());
        assert_eq!(machine.times("discard").len(), 1);
    }

    #[test]
    fn a_server_that_stops_in_mid_handshake_gets_more_time_each_time_and_ends_at_the_deadline() {
        let script = vec![TunnelError::Silent(Duration::ZERO); 100];
        let machine = FakeMachine { handshakes: Mutex::new(script), ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::DEADLINE);
        assert_eq!(machine.clock.now(), seconds_of(25.0));
        let spans: Vec<Duration> = machine.spans.lock().unwrap().clone();
        assert_eq!(spans[..2], [seconds_of(5.0), seconds_of(10.0)]);
        let last = text.lines().last().unwrap();
        assert!(last.contains("did not finish the TLS handshake within 10.0 s"), "{last}");
    }

    #[test]
    fn what_may_be_the_share_is_compared_with_it_through_its_tunnel() {
        let led_to = Some("fs-0123abcd:/releases/1".to_owned());
        let machine = FakeMachine { taken: true, led_to, ..mounted() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK, "{text}");
        let call = &machine.calls.lock().unwrap()[0];
        assert!(call.data.to_str().unwrap().ends_with(",port=40001,addr=127.0.0.1"), "{call:?}");
        assert!(machine.times("mount").is_empty());
    }

    #[test]
    fn a_mount_that_answers_with_an_error_is_mounted_anew_once_the_file_system_answers() {
        let machine = FakeMachine { fault: Some(Errno::ESTALE), ..mounted() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(
            text.starts_with(
                "warning: /mnt/efs_share is mounted from 10.0.0.1, but its folder is gone from the server, or was made \
                 anew there (ESTALE): mounted anew\nmounted "
            ),
            "{text}"
        );
        assert_eq!(machine.times("detach").len(), 1);
        let handshakes = Mutex::new(vec![TunnelError::Closed; 2000]);
        let machine = FakeMachine { fault: Some(Errno::ESTALE), handshakes, ..mounted() };
        let (report, _) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::DEADLINE);
        assert!(machine.times("detach").is_empty(), "taken away, and nothing to replace it with");
    }

    #[test]
    fn a_tunnel_that_cannot_be_started_is_tried_again() {
        let machine = FakeMachine { no_tunnel_until: seconds_of(3.0), ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(
            text.starts_with("warning: /mnt/efs_share: attempt 1: the tunnel for encryption in transit cannot be started: not yet; 25"),
            "{text}"
        );
    }

    #[test]
    fn a_refused_mount_after_a_good_handshake_names_who_was_refused() {
        let address = "10.0.0.7".parse().unwrap();
        let mounts = Mutex::new(vec![Failure::Mount(address, Errno::EACCES)]);
        let machine = FakeMachine { mounts, ..Default::default() };
        let (report, text) = start_on(&machine, &format!("{ONE}iam = true\n"), false);
        assert_eq!(report.code(), Code::REFUSED);
        assert!(
            text.contains(
                "fs-0123abcd denies the identity of profile x, AKIDEXAMPLE to mount / (EACCES)"
            ),
            "{text}"
        );
        assert!(text.contains("allow elasticfilesystem:ClientMount to that identity"), "{text}");
    }

    #[test]
    fn a_mount_point_that_was_removed_meanwhile_is_made_again() {
        let machine =
            FakeMachine { mounts: Mutex::new(vec![Failure::PointGone]), ..Default::default() };
        let (report, _) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(machine.times("prepare").len(), 2);
    }

    #[test]
    fn a_name_that_does_not_resolve_is_the_tunnels_to_find_if_it_may_ask_aws() {
        let never = Duration::MAX / 2;
        let machine = FakeMachine { name_from: never, ..Default::default() };
        let (report, text) = start_on(&machine, &format!("{ONE}discover = true\n"), false);
        assert_eq!(report.code(), Code::OK, "{text}");
        let machine = FakeMachine { name_from: never, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::DEADLINE);
        assert!(text.contains("does not resolve"), "{text}");
        assert!(machine.times("handshake").is_empty());
    }

    #[test]
    fn a_name_or_a_port_that_comes_good_is_seen_as_soon_as_without_encryption() {
        for tenth in (1..240).step_by(7) {
            let at = seconds_of(f64::from(tenth) / 10.0);
            for (name_from, port_from, most) in
                [(at, Duration::ZERO, 1.0), (Duration::ZERO, at, 0.3)]
            {
                let machine = FakeMachine { name_from, port_from, ..Default::default() };
                let (report, text) = start_on(&machine, ONE, false);
                assert_eq!(report.code(), Code::OK, "{text}");
                let took = machine.times("mount")[0].saturating_sub(at);
                assert!(took <= seconds_of(most), "good at {at:?}, seen {took:?} later");
            }
        }
    }

    #[test]
    fn what_is_mounted_already_stays_and_its_far_end_is_told() {
        let machine = mounted();
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(
            text,
            format!(
                "already mounted: {SHARE}, from 10.0.0.7, TLS 1.3, NFS 4.1; nothing was done (exit 0)\n"
            )
        );
        for step in ["tunnel", "mount", "handshake", "detach"] {
            assert!(machine.times(step).is_empty(), "{step}");
        }
    }

    #[test]
    fn a_mount_of_an_earlier_config_is_kept_and_told() {
        let machine = FakeMachine { changed: true, ..mounted() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(
            text.starts_with("warning: /mnt/efs_share is mounted with the tunnel of an earlier config: unmount it and run again to have what the config says\nalready mounted"),
            "{text}"
        );
    }

    #[test]
    fn a_tunnel_that_has_read_wrong_files_is_ended_so_that_mended_ones_count() {
        let what = || "no credentials".to_owned();
        let tls = |trouble| TunnelError::Service { what: what(), service: Service::Sts, trouble };
        for (failure, stops) in [
            (TunnelError::Trust("no file".into()), 1),
            (TunnelError::Key("no room".into()), 1),
            (TunnelError::Changeable { what: "a".into(), mend: "b".into() }, 1),
            // The roots, too, which a person adds to the file or to the system's.
            (TunnelError::UnknownIssuer, 1),
            (tls(Trouble::Tls), 1),
            (tls(Trouble::Denied), 0),
            (TunnelError::CaShown, 0),
        ] {
            let handshakes = Mutex::new(vec![failure]);
            let machine = FakeMachine { handshakes, ..Default::default() };
            let (report, _) = start_on(&machine, ONE, true);
            assert_ne!(report.code(), Code::OK);
            assert_eq!(machine.times("stop").len(), stops);
        }
    }

    #[test]
    fn a_tunnel_that_has_ended_under_a_mount_is_started_at_the_port_of_the_mount() {
        let machine = FakeMachine { statuses: Mutex::new(vec![no_tunnel()]), ..mounted() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(
            text.starts_with("warning: /mnt/efs_share: its tunnel was not running, and was started again at port 40001\nalready mounted"),
            "{text}"
        );
        assert_eq!(*machine.asked_at.lock().unwrap(), [Some(40001)]);
        assert!(machine.times("mount").is_empty());
    }

    #[test]
    fn a_tunnel_that_is_too_busy_to_answer_is_left_as_it_is() {
        for failure in [TunnelError::NoTunnel(Errno::ETIMEDOUT), TunnelError::MakingKey] {
            let machine = FakeMachine { statuses: Mutex::new(vec![failure]), ..mounted() };
            let (report, text) = start_on(&machine, ONE, false);
            assert_eq!(report.code(), Code::OK);
            assert!(text.starts_with("already mounted: "), "{text}");
            assert!(machine.times("tunnel").is_empty(), "none is started");
        }
    }

    #[test]
    fn a_key_that_is_being_made_is_waited_for_and_counts_as_no_attempt() {
        for once in [false, true] {
            let handshakes = Mutex::new(vec![TunnelError::MakingKey; 3]);
            let machine = FakeMachine { handshakes, ..Default::default() };
            let (report, text) = start_on(&machine, ONE, once);
            assert_eq!(report.code(), Code::OK);
            let waits =
                "/mnt/efs_share: the tunnel is still making its RSA key, which is waited for\n";
            assert!(text.contains(waits), "{text}");
            assert_eq!(text.matches("RSA").count(), 1, "{text}");
            assert!(text.contains("attempt 1, in 0.000 s"), "{text}");
        }
        // Until there is no more time, in which the machine is too slow for it.
        let handshakes = Mutex::new(vec![TunnelError::MakingKey; 100]);
        let machine = FakeMachine { handshakes, slow_answers: true, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::DEADLINE);
        assert_eq!(machine.clock.now(), seconds_of(25.0));
        let last = text.lines().last().unwrap();
        assert!(
            last.contains(
                "the tunnel is still making its RSA key; after 3 attempts in 25.0 s; to mend it: start \
                 it again: it is made once a boot, in a second or two on a machine that is not busy; to \
                 have it before the session starts, enable efs-agent-tunnels.service; if it is never made, \
                 see the tunnel's lines in the system's log (journalctl -t efs-agent) (exit 75)"
            ),
            "{last}"
        );
    }

    #[test]
    fn a_mount_whose_port_the_tunnel_cannot_have_is_replaced() {
        let statuses = || Mutex::new(vec![no_tunnel()]);
        let elsewhere = || AtomicU16::new(40002);
        let never = Duration::MAX / 2;
        let dead = || FakeMachine { alive_from: never, tunnel_port: elsewhere(), ..mounted() };
        let restarted = FakeMachine { statuses: statuses(), ..dead() };
        for machine in [restarted, dead()] {
            let (report, text) = start_on(&machine, ONE, false);
            assert_eq!(report.code(), Code::OK);
            assert!(
                text.contains("warning: /mnt/efs_share is mounted through port 40001, where its tunnel is no longer, but at 40002: replaced\nmounted "),
                "{text}"
            );
            assert_eq!(machine.times("detach").len(), 1);
            assert_eq!(machine.times("mount").len(), 1);
        }
    }

    #[test]
    fn a_mount_that_goes_past_its_tunnel_is_replaced_although_it_answers() {
        let astray = Some("10.0.0.1:2049".parse().unwrap());
        let machine = FakeMachine { astray, ..mounted() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(
            text.starts_with(
                "warning: /mnt/efs_share is mounted from 10.0.0.1:2049, past its tunnel: replaced\nmounted "
            ),
            "{text}"
        );
        assert_eq!((machine.times("detach").len(), machine.times("mount").len()), (1, 1));
    }

    #[test]
    fn a_mount_that_lives_on_another_shares_tunnel_is_left_alone() {
        let machine = FakeMachine {
            statuses: Mutex::new(vec![no_tunnel()]),
            tunnel_port: AtomicU16::new(40002),
            ..mounted()
        };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(text.lines().last().unwrap().starts_with("already mounted"), "{text}");
        assert!(machine.times("detach").is_empty());
    }

    #[test]
    fn a_mount_that_does_not_answer_is_waited_for_and_never_taken_away() {
        let machine = FakeMachine { alive_from: seconds_of(4.0), ..mounted() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(text.lines().last().unwrap().starts_with("already mounted"), "{text}");

        let machine = FakeMachine { alive_from: Duration::MAX / 2, ..mounted() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::DEADLINE);
        let last = text.lines().last().unwrap();
        assert!(
            last.contains("is mounted already, but its server 10.0.0.7 does not answer"),
            "{last}"
        );
        assert!(machine.times("detach").is_empty());

        // The way to it is what is wrong.
        let handshakes = Mutex::new(vec![TunnelError::UnknownIssuer]);
        let machine = FakeMachine { alive_from: Duration::MAX / 2, handshakes, ..mounted() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::REFUSED);
        assert!(text.contains("was issued by nobody that is trusted; after 1 attempt"), "{text}");
        assert!(machine.times("detach").is_empty());
    }
}
