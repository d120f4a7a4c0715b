use super::*;
use crate::aws::credentials::{Service, Trouble};
use crate::retry::Clock;
use crate::stop::{Stop, SystemClock};
use std::time::Instant;

fn credentials(token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: Secret::new("secret/+=".into()),
        session_token: token.map(|token| Secret::new(token.into())),
        expires: token.map(|_| UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        source: "profile \"a\" of /root/.aws/credentials".into(),
    }
}

/// The results of asking with each of `spans` (milliseconds), if the broker answers with `find`.
fn asked(
    spans: &[u64],
    mut find: impl FnMut(Duration) -> Result<Credentials, TunnelError> + Send + 'static,
) -> Vec<Result<Credentials, TunnelError>> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || serve(theirs, &mut find));
    let broker = Broker::new(ours).unwrap();
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    let ask = |millis: &u64| broker.ask(Wait::of(Duration::from_millis(*millis), &clock, &stop));
    spans.iter().map(ask).collect()
}

#[test]
fn credentials_come_through_as_they_are() {
    let long = "t".repeat(5000);
    for token in [None, Some("token"), Some(&long)] {
        let expected = credentials(token);
        let found = expected.clone();
        let got = asked(&[5000, 5000], move |_| Ok(found.clone()));
        assert_eq!(got, vec![Ok(expected.clone()), Ok(expected)]);
    }
}

#[test]
fn why_there_are_none_comes_through_and_so_does_the_time_there_is() {
    let none = TunnelError::Credentials;
    let got = asked(&[4000], move |left| {
        Err(none(format!("none, though {}", left > Duration::from_secs(3))))
    });
    assert_eq!(got, vec![Err(none("none, though true".into()))]);
    for failure in [
        TunnelError::Source { what: "no such profile".into(), mend: "make it".into(), lasts: true },
        TunnelError::Source { what: "half".into(), mend: "wait".into(), lasts: false },
        TunnelError::Changeable { what: "/c is mad".into(), mend: "chmod go-w /c".into() },
        TunnelError::Service {
            what: "it answered 503".into(),
            service: Service::Metadata,
            trouble: Trouble::Failing,
        },
    ] {
        let told = failure.clone();
        assert_eq!(asked(&[4000], move |_| Err(told.clone())), vec![Err(failure)]);
    }
    let got = asked(&[4000], move |_| Err(none("ä".repeat(LONGEST_ANSWER))));
    assert!(matches!(&got[..], [Err(TunnelError::Credentials(text))] if text.len() > 1000));
    let huge = "t".repeat(LONGEST_ANSWER);
    let got = asked(&[4000], move |_| Ok(credentials(Some(&huge))));
    let expected = TunnelError::Credentials("the credentials are too long".into());
    assert_eq!(got, vec![Err(expected)]);
}

#[test]
fn an_answer_that_comes_too_late_is_not_taken_for_the_next() {
    let mut n = 0;
    let got = asked(&[400, 20_000], move |_| {
        n += 1;
        if n == 1 {
            std::thread::sleep(Duration::from_millis(600));
        }
        Err(TunnelError::Credentials(format!("answer {n}")))
    });
    assert_eq!(got[0], Err(late(Duration::from_millis(400))));
    let text = got[0].as_ref().unwrap_err().to_string();
    assert_eq!(text, "no credentials were found within 0.4 s");
    assert_eq!(got[1], Err(TunnelError::Credentials("answer 2".into())));
}

#[test]
fn who_is_told_to_end_in_the_middle_of_an_answer_does_not_leave_its_rest_to_others() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let kernel = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (inner, _) = listener.accept().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let broker = Broker::new(ours).unwrap();
    let stop = Stop::install().unwrap();
    let one = stop.or_end_of(&inner).unwrap();
    let (began, go_on) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    let expected = credentials(None);
    let body = encode(&Ok(expected.clone()));
    let ask = |stop: &Stop| {
        let clock = SystemClock::new(Instant::now(), stop);
        broker.ask(Wait::of(Duration::from_secs(20), &clock, stop))
    };
    let both = std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..2 {
                let mut question = [0; QUESTION_BYTES];
                theirs.read_exact(&mut question).unwrap();
                let mut answer = question[..8].to_vec();
                answer.extend_from_slice(&(body.len() as u32).to_le_bytes());
                answer.extend_from_slice(&body);
                if n == 0 {
                    theirs.write_all(&answer[..20]).unwrap();
                    began.wait();
                    go_on.wait();
                    answer.drain(..20);
                }
                theirs.write_all(&answer).unwrap();
            }
        });
        let first = scope.spawn(|| ask(&one));
        began.wait();
        std::thread::sleep(Duration::from_millis(300));
        drop(kernel);
        std::thread::sleep(Duration::from_millis(200));
        go_on.wait();
        (first.join().unwrap(), ask(&stop))
    });
    // On a busy machine, the first thread may not have begun to read. Then it leaves the whole answer to be skipped.
    // Once it has begun, it reads to the end.
    let stopped = Err(TunnelError::Stopped(crate::retry::Stopped));
    assert!([Ok(expected.clone()), stopped].contains(&both.0), "{:?}", both.0);
    assert_eq!(both.1, Ok(expected));
}

#[test]
fn who_has_little_time_does_not_wait_for_who_has_much() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        serve(theirs, &mut |_| {
            std::thread::sleep(Duration::from_secs(3));
            Err(TunnelError::Credentials("nothing".into()))
        });
    });
    let broker = Broker::new(ours).unwrap();
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    let ask = |millis| broker.ask(Wait::of(Duration::from_millis(millis), &clock, &stop));
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| ask(20_000));
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(ask(500), Err(late(Duration::from_millis(500))));
        assert!(clock.now() < Duration::from_secs(2), "{:?}", clock.now());
        assert_eq!(patient.join().unwrap(), Err(TunnelError::Credentials("nothing".into())));
    });
}

#[test]
fn a_broker_that_has_gone_is_told() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let broker = Broker::new(ours).unwrap();
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    let gone = gone();
    assert_eq!(broker.ask(Wait::of(Duration::from_secs(5), &clock, &stop)), Err(gone));
}
