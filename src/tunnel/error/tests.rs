use super::*;
use crate::json;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// One error of each kind, and how version 0.1.0 writes it (as at commit 3e9e9b6).
pub(crate) fn errors() -> Vec<(TunnelError, &'static str)> {
    use TunnelError as E;
    vec![
        (E::NoTunnel(Errno::ENOENT), r#"{"kind": "no tunnel", "errno": 2}"#),
        (E::NoMeans(Errno::EMFILE), r#"{"kind": "no means", "errno": 24}"#),
        (E::MakingKey, r#"{"kind": "making key"}"#),
        (E::Name("no such name".into()), r#"{"kind": "name", "text": "no such name"}"#),
        (
            E::Reach("TCP 2049 to 10.0.0.1 was refused (nothing listens there)".into()),
            r#"{"kind": "reach", "text": "TCP 2049 to 10.0.0.1 was refused (nothing listens there)"}"#,
        ),
        (E::Credentials("two\nlines".into()), r#"{"kind": "credentials", "text": "two\nlines"}"#),
        (
            E::Service {
                what: "no \"answer\"".into(),
                service: Service::WebIdentity,
                trouble: Trouble::Throttled,
            },
            r#"{"kind": "service", "text": "no \"answer\"", "service": "web-identity", "trouble": "throttled"}"#,
        ),
        (
            E::Source { what: "no such profile".into(), mend: "make \"it\"".into(), lasts: true },
            r#"{"kind": "source", "text": "no such profile", "mend": "make \"it\"", "lasts": true}"#,
        ),
        (
            E::Source { what: "it is being written".into(), mend: "wait".into(), lasts: false },
            r#"{"kind": "source", "text": "it is being written", "mend": "wait", "lasts": false}"#,
        ),
        (
            E::Undiscovered {
                what: "no such name".into(),
                why: Box::new(E::Service {
                    what: "it answered 403".into(),
                    service: Service::Efs,
                    trouble: Trouble::Denied,
                }),
            },
            r#"{"kind": "undiscovered", "text": "no such name", "why": {"kind": "service", "text": "it answered 403", "service": "efs", "trouble": "denied"}}"#,
        ),
        (
            E::Changeable { what: "/c has mode 0666".into(), mend: "chmod go-w /c".into() },
            r#"{"kind": "changeable", "text": "/c has mode 0666", "mend": "chmod go-w /c"}"#,
        ),
        (
            E::CertificateName { wanted: "a.b".into(), presented: vec!["c\"d".into(), "e".into()] },
            r#"{"kind": "certificate name", "wanted": "a.b", "presented": ["c\"d", "e"]}"#,
        ),
        (
            E::CertificateName { wanted: "a.b".into(), presented: vec![] },
            r#"{"kind": "certificate name", "wanted": "a.b", "presented": []}"#,
        ),
        (E::UnknownIssuer, r#"{"kind": "unknown issuer"}"#),
        (
            E::Expired { not_after: at(1), now: at(1_700_000_000) },
            r#"{"kind": "expired", "limit": 1, "now": 1700000000}"#,
        ),
        (
            E::NotYetValid { not_before: at(253_402_300_800), now: at(0) },
            r#"{"kind": "not yet valid", "limit": 253402300800, "now": 0}"#,
        ),
        (E::CaShown, r#"{"kind": "ca shown"}"#),
        (
            E::Certificate("bad signature".into()),
            r#"{"kind": "certificate", "text": "bad signature"}"#,
        ),
        (E::Alert("handshake_failure".into()), r#"{"kind": "alert", "text": "handshake_failure"}"#),
        (
            E::Incompatible("no common version".into()),
            r#"{"kind": "incompatible", "text": "no common version"}"#,
        ),
        (E::NotTls, r#"{"kind": "not tls"}"#),
        (E::Closed, r#"{"kind": "closed"}"#),
        (E::Silent(Duration::from_millis(1500)), r#"{"kind": "silent", "milliseconds": 1500}"#),
        (E::Dropped, r#"{"kind": "dropped"}"#),
        (E::Mute(Duration::from_secs(2)), r#"{"kind": "mute", "milliseconds": 2000}"#),
        (E::Trust("no file".into()), r#"{"kind": "trust", "text": "no file"}"#),
        (E::Key("no key".into()), r#"{"kind": "key", "text": "no key"}"#),
        (E::Stopped(Stopped), r#"{"kind": "stopped"}"#),
    ]
}

#[test]
fn each_kind_is_written_and_read_as_by_version_0_1_0() {
    for (error, text) in errors() {
        assert_eq!(json::written(&error), text);
        assert_eq!(json::object::<TunnelError>(text.as_bytes()).unwrap(), error);
    }
    // Fields that a later version may add are ignored.
    let more = r#"{"more": [1], "kind": "name", "text": "x", "kinder": {}}"#;
    assert_eq!(
        json::object::<TunnelError>(more.as_bytes()).unwrap(),
        TunnelError::Name("x".into())
    );
}

#[test]
fn what_is_no_error_is_not_read() {
    for text in [
        r#"{"kind": "new"}"#,
        r#"{"kind": "name"}"#,
        r#"{"text": "x"}"#,
        r#"{"kind": "name", "text": 1}"#,
        r#"{"kind": "silent", "milliseconds": -1}"#,
        r#"{"kind": "expired", "limit": 1, "now": 18446744073709551615}"#,
        r#"{"kind": "service", "text": "x", "service": "s3", "trouble": "denied"}"#,
        // An array is no object, wherever it stands.
        r#"["not tls"]"#,
        r#"["name", {"text": "x"}]"#,
        r#"{"kind": "undiscovered", "text": "x", "why": ["not tls"]}"#,
    ] {
        assert!(json::object::<TunnelError>(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn errors_say_what_is_wrong_in_words() {
    let words = [
        "the tunnel cannot be asked: no such file or directory (ENOENT)",
        "/c has mode 0666; run: chmod go-w /c",
        "the server's certificate is for c\"d, e, not for a.b",
        "the server's certificate is for no name at all, not for a.b",
        "the server's certificate expired at 1970-01-01T00:00:01Z, and the clock here says \
         2023-11-14T22:13:20Z",
        "the server's certificate is valid from 9999-12-31T23:59:59Z on, and the clock here \
         says 1970-01-01T00:00:00Z",
        "the server did not finish the TLS handshake within 1.5 s",
        "the server finished the TLS handshake, but did not answer as an NFS server within 2.0 s",
    ];
    let all: Vec<String> = errors().iter().map(|(error, _)| error.to_string()).collect();
    for words in words {
        assert!(all.iter().any(|text| text == words), "{words}");
    }
    // The errno of a question that was not answered yet would help nobody.
    assert_eq!(
        TunnelError::NoTunnel(Errno::ETIMEDOUT).to_string(),
        "the tunnel is there, but has not answered yet: it is still starting, or busy"
    );
}
