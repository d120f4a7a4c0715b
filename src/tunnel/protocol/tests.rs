use super::super::error::tests::errors;
use super::*;
use crate::stop::{Stop, SystemClock};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;
use std::time::Instant;

fn peer() -> Peer {
    Peer {
        address: "10.0.0.1".parse().unwrap(),
        version: "TLS 1.3".into(),
        cipher: "TLS13_AES_128_GCM_SHA256".into(),
        identity: Some("profile \"a\\b\"\u{7f}, AKIDEXAMPLE".into()),
    }
}

/// Answers one question with what `answer` makes of it, byte by byte if `slow`.
fn tunnel(socket: &Path, slow: bool, answer: fn(&str) -> String) -> JoinHandle<String> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let answer = answer(&line);
        let chunks = answer.as_bytes().chunks(if slow { 1 } else { usize::MAX });
        for chunk in chunks {
            // The other end may have gone already.
            let _ = (&stream).write_all(chunk);
        }
        line
    })
}

type Asked<T> = fn(&Path, Wait<'_>) -> Result<T, TunnelError>;

fn asked<T>(asked: Asked<T>, socket: &Path, millis: u64) -> Result<T, TunnelError> {
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    asked(socket, Wait::of(Duration::from_millis(millis), &clock, &stop))
}

#[test]
fn a_handshake_is_asked_for_with_the_time_there_is_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("t.sock");
    let tunnel = tunnel(&socket, true, |_| handshake_line(&Ok(peer())));
    assert_eq!(asked(handshake, &socket, 5000), Ok(peer()));
    let line = tunnel.join().unwrap();
    let Some(ControlRequest::Handshake(left)) = ControlRequest::parse(line.trim_end().as_bytes())
    else {
        panic!("{line:?}")
    };
    assert!(left > Duration::from_secs(3) && left <= Duration::from_secs(5), "{left:?}");
}

/// A peer as version 0.1.0 writes it (as at commit 3e9e9b6).
const OLD_PEER: &str = r#"{"address": "10.0.0.1", "version": "TLS 1.3", "cipher": "TLS13_AES_128_GCM_SHA256", "identity": "profile \"a\\b\"\u007f, AKIDEXAMPLE"}"#;

#[test]
fn each_error_comes_through_as_version_0_1_0_says_it() {
    for (error, text) in errors() {
        let line = handshake_line(&Err(error.clone()));
        assert_eq!(line, format!("{{\"failure\": {text}}}\n"));
        assert_eq!(read_handshake(line.trim_end().as_bytes()), Err(error));
    }
    // One of them goes the whole way, through a socket.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("t.sock");
    let _tunnel = tunnel(&socket, false, |_| handshake_line(&Err(TunnelError::NotTls)));
    assert_eq!(asked(handshake, &socket, 5000), Err(TunnelError::NotTls));
}

#[test]
fn a_peer_and_a_status_come_through_as_version_0_1_0_says_them() {
    let line = format!("{{\"peer\": {OLD_PEER}}}\n");
    assert_eq!(handshake_line(&Ok(peer())), line);
    assert_eq!(read_handshake(line.trim_end().as_bytes()), Ok(peer()));

    let none = "{\"peer\": null, \"connections\": 0, \"sent\": 0, \"received\": 0, \"refused\": 0, \
                \"last_failure\": null}\n";
    assert_eq!(status_line(&TunnelStatus::default()), none);
    assert_eq!(read_status(none.as_bytes()), Ok(TunnelStatus::default()));
    for (error, text) in errors() {
        let old = OLD_PEER.replace("\"profile \\\"a\\\\b\\\"\\u007f, AKIDEXAMPLE\"", "null");
        assert!(old.ends_with("\"identity\": null}"), "{old}");
        let line = format!(
            "{{\"peer\": {old}, \"connections\": 3, \"sent\": 18446744073709551615, \
             \"received\": 9007199254740993, \"refused\": 7, \"last_failure\": {text}}}\n"
        );
        let status = TunnelStatus {
            peer: Some(Peer { identity: None, ..peer() }),
            connections: 3,
            sent: u64::MAX,
            received: 1 << 53 | 1,
            refused: 7,
            last_failure: Some(error),
        };
        assert_eq!(status_line(&status), line);
        assert_eq!(read_status(line.as_bytes()), Ok(status));
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("t.sock");
    let tunnel = tunnel(&socket, true, |_| status_line(&TunnelStatus::default()));
    assert_eq!(asked(status, &socket, 5000), Ok(TunnelStatus::default()));
    assert_eq!(tunnel.join().unwrap(), "status\n");
}

#[test]
fn a_tunnel_that_cannot_be_asked_is_told_by_its_errno() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("t.sock");
    let no_tunnel = |errno| Err(TunnelError::NoTunnel(errno));
    assert_eq!(asked(status, &socket, 100), no_tunnel(Errno::ENOENT));
    let listener = UnixListener::bind(&socket).unwrap();
    let (result, started) = (asked(status, &socket, 300), Instant::now());
    assert_eq!(result, no_tunnel(Errno::ETIMEDOUT));
    assert!(started.elapsed() < Duration::from_secs(2));
    drop(listener);
    assert_eq!(asked(status, &socket, 100), no_tunnel(Errno::ECONNREFUSED));
    let long = dir.path().join("x".repeat(200));
    assert_eq!(asked(status, &long, 100), no_tunnel(Errno::ENAMETOOLONG));
}

#[test]
fn what_no_tunnel_says_is_a_breach_of_the_protocol() {
    type Answer = fn(&str) -> String;
    let answers: [(Answer, Errno); 8] = [
        (|_| String::new(), Errno::ECONNRESET),
        (|_| "{\"peer\": null".into(), Errno::ECONNRESET),
        (|_| "{\"peer\": null}\n".into(), Errno::EPROTO),
        (|_| "{\"failure\": {\"kind\": \"new\"}}\n".into(), Errno::EPROTO),
        (|_| "{\"peer\": [\"10.0.0.1\", \"TLS 1.3\", \"x\", null]}\n".into(), Errno::EPROTO),
        (|_| "[\"peer\", null]\n".into(), Errno::EPROTO),
        (|_| "220 mail ready\n".into(), Errno::EPROTO),
        (|_| "x".repeat(1 << 20), Errno::EPROTO),
    ];
    for (answer, errno) in answers {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("t.sock");
        let _tunnel = tunnel(&socket, false, answer);
        let got = asked(handshake, &socket, 5000);
        assert_eq!(got, Err(TunnelError::NoTunnel(errno)));
    }
}

#[test]
fn a_request_is_read_as_it_was_written_and_nothing_else_is() {
    let span = Duration::from_millis(1234);
    for request in [ControlRequest::Handshake(span), ControlRequest::Status] {
        let line = request.line();
        assert!(line.len() <= LONGEST_REQUEST);
        assert_eq!(ControlRequest::parse(line.trim_end().as_bytes()), Some(request));
    }
    // Version 0.1.0 asks in these words, and reads these answers.
    for (request, line) in [
        (ControlRequest::Handshake(span), "handshake 1234\n"),
        (ControlRequest::Status, "status\n"),
    ] {
        assert_eq!(
            (request.line().as_str(), ControlRequest::parse(line.trim_end().as_bytes())),
            (line, Some(request))
        );
    }
    // Nobody asks a tunnel to end any more: systemd is asked for that.
    assert_eq!(ControlRequest::parse(b"end"), None);
    for line in ["", "statu", "status ", "handshake", "handshake -1", "handshake 1.5", "x 1"] {
        assert_eq!(ControlRequest::parse(line.as_bytes()), None, "{line:?}");
    }
    assert_eq!(ControlRequest::parse(b"status\xff"), None);
    assert_eq!(ControlRequest::parse(b"handshake 99999999999"), None);
}
