use super::*;
use crate::config::test::encrypted_share as share;
use crate::retry::test::VirtualClock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A tunnel that still has a connection for a detached share. It says so `answers` times, if it is given the time.
struct AtWork<'a> {
    clock: &'a VirtualClock,
    answers: AtomicU64,
    stopped: AtomicBool,
    /// The results of handshakes, in turn. Each of them takes all its time.
    handshakes: Mutex<Vec<TunnelError>>,
}

impl Tunnels for AtWork<'_> {
    fn start(&self, _: &Share, _: Option<u16>, _: Deadline) -> Result<u16, TunnelsError> {
        Ok(40001)
    }

    fn port(&self, _: &Share) -> Option<u16> {
        Some(40001)
    }

    fn is_current(&self, _: &Share) -> bool {
        true
    }

    fn handshake(&self, _: &Share, until: Deadline) -> Result<Peer, TunnelError> {
        let _ = self.clock.wait(until.left(self.clock));
        let mut script = self.handshakes.lock().unwrap();
        Err(if script.is_empty() { TunnelError::NotTls } else { script.remove(0) })
    }

    fn status(&self, _: &Share, until: Deadline) -> Result<TunnelStatus, TunnelError> {
        let answers = self.answers.load(Ordering::Relaxed);
        if answers == 0 || until.passed(self.clock) {
            return Err(TunnelError::NoTunnel(Errno::ETIMEDOUT));
        }
        self.answers.store(answers - 1, Ordering::Relaxed);
        Ok(TunnelStatus { connections: 1, ..TunnelStatus::default() })
    }

    fn claim(&self, _: &Share) -> bool {
        true
    }

    fn release(&self, _: &Share) {}

    fn stop(&self, _: &Share, _: Deadline) -> Result<(), TunnelsError> {
        self.stopped.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_tunnel_that_was_seen_at_work_is_not_ended_for_want_of_a_later_answer() {
    let clock = VirtualClock::default();
    let span = Duration::from_secs(5);
    // However often it answers, it is not ended. One that never answers hangs, and is.
    for (answers, ends) in [(u64::MAX, false), (3, false), (1, false), (0, true)] {
        let (answers, stopped) = (AtomicU64::new(answers), AtomicBool::new(false));
        let tunnels = AtWork { clock: &clock, answers, stopped, handshakes: Mutex::default() };
        let patience = Deadline::after(&clock, Duration::from_millis(500));
        let ended = end_unused(&tunnels, &share(""), patience, span, &clock);
        assert_eq!(ended, Ok(ends));
        assert_eq!(tunnels.stopped.into_inner(), ends);
    }
}

#[test]
fn a_tunnel_that_does_not_answer_yet_is_waited_for_with_ever_more_patience() {
    let late = TunnelError::NoTunnel(Errno::ETIMEDOUT);
    let gone = TunnelError::NoTunnel(Errno::ECONNREFUSED);
    let wait_for = |script: &[TunnelError], until: u64| {
        let clock = VirtualClock::default();
        let handshakes = Mutex::new(script.to_vec());
        let (answers, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        let tunnels = AtWork { clock: &clock, answers, stopped, handshakes };
        let until = Deadline::after(&clock, Duration::from_secs(until));
        let spans = (Duration::from_secs(5), until);
        let noticed = Mutex::new(Vec::new());
        let notice = |error: &TunnelError| noticed.lock().unwrap().push(error.clone());
        let result = handshake_when_ready(&tunnels, &share(""), spans, &clock, &notice);
        (result.unwrap_err(), noticed.into_inner().unwrap(), clock.now().as_secs())
    };
    let busy = [TunnelError::MakingKey, late.clone()];
    let noticed = vec![TunnelError::MakingKey];
    // The attempts take 5, 10 and 20 s.
    assert_eq!(wait_for(&busy, 60), (TunnelError::NotTls, noticed.clone(), 35));
    assert_eq!(wait_for(&busy, 12), (late, noticed, 12));
    assert_eq!(wait_for(std::slice::from_ref(&gone), 60), (gone, vec![], 5));
}
