//! Credentials, handed from a process that may read them to one that may not: the relay speaks with the file
//! system and with whoever is at the local port, and has no rights. The broker reads root's files, runs what a
//! profile names and asks AWS's services, as root with few rights; it speaks with nobody else but the relay. A
//! question is a number and the time there is; an answer is the number, and credentials or why not.

use super::protocol::TunnelError;
use crate::aws::credentials::{Credentials, Secret, Service, Trouble};
use crate::retry::{Clock, Deadline};
use crate::stop::Stop;
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, UNIX_EPOCH};
use zeroize::Zeroizing;

/// More than any credentials have; a session token has some thousand bytes.
const LONGEST: usize = 64 << 10;
/// A question: its number, and milliseconds.
const QUESTION: usize = 16;
/// While somebody else asks, it is looked so often whether they have done.
const BETWEEN: Duration = Duration::from_millis(10);
/// In front of an answer: the question's number, and how many bytes follow.
const HEAD: usize = 12;
/// Why there are no credentials: kinds that are told apart.
const SOURCE: &str = "source";
const LASTING: &str = "lasting source";
const CHANGEABLE: &str = "changeable";
const SERVICE: &str = "service";
const OTHER: &str = "credentials";

/// The relay's end.
pub struct Broker(Mutex<Line>);

struct Line {
    stream: UnixStream,
    asked: u64,
}

impl Broker {
    /// Over a stream whose other end [`serve`] has.
    ///
    /// # Errors
    /// The errno of fcntl(2).
    pub fn new(stream: UnixStream) -> Result<Self, Errno> {
        let errno = |e: std::io::Error| sys::errno_of(&e);
        stream.set_nonblocking(true).map_err(errno)?;
        Ok(Self(Mutex::new(Line { stream, asked: 0 })))
    }

    /// What is closed when the other end has gone.
    ///
    /// # Errors
    /// The errno of dup(2).
    pub fn lifeline(&self) -> Result<UnixStream, Errno> {
        let line = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        line.stream.try_clone().map_err(|e| sys::errno_of(&e))
    }

    /// Credentials of this moment.
    ///
    /// # Errors
    /// What the other end has to say, [`TunnelError::Source`] where it says nothing, or
    /// [`TunnelError::Stopped`].
    pub fn ask(
        &self,
        until: Deadline,
        clock: &dyn Clock,
        stop: &Stop,
    ) -> Result<Credentials, TunnelError> {
        // One after another: what comes back is for whoever asked last.
        let left = until.left(clock);
        let mut line = loop {
            match self.0.try_lock() {
                Ok(line) => break line,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if until.passed(clock) => return Err(late(left)),
                Err(TryLockError::WouldBlock) => clock.wait(BETWEEN.min(until.left(clock)))?,
            }
        };
        line.asked += 1;
        let number = line.asked;
        let mut question = Vec::with_capacity(QUESTION);
        question.extend(number.to_le_bytes());
        question.extend((until.left(clock).as_millis() as u64).to_le_bytes());
        // A stream takes so little whole, or it is full of questions that nobody reads.
        line.stream.write_all(&question).map_err(|_| gone())?;
        loop {
            let mut head = Zeroizing::new(vec![0; HEAD]);
            line.read(&mut head, until, clock, stop, left)?;
            let (of, length) = numbers(&head).ok_or_else(gone)?;
            let mut body = Zeroizing::new(vec![0; length.min(LONGEST)]);
            line.read(&mut body, until, clock, stop, left)?;
            // The answer to a question that was given up is passed over.
            if of == number {
                return decode(&body).ok_or_else(gone)?;
            }
        }
    }
}

impl Line {
    /// Fills `bytes`. Whatever the time is: an answer that has begun is read to its end, or the rest of
    /// it would be taken for the next. Who is told to end may be one of several who ask.
    fn read(
        &mut self,
        bytes: &mut [u8],
        until: Deadline,
        clock: &dyn Clock,
        stop: &Stop,
        span: Duration,
    ) -> Result<(), TunnelError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.stream.read(bytes.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => return Err(gone()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    // What has begun to come is there in a moment.
                    let begun = filled > 0 || bytes.len() != HEAD;
                    if until.passed(clock) && !begun {
                        return Err(late(span));
                    }
                    let fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
                    match stop.poll(&fds, until.left(clock).max(BETWEEN)) {
                        Err(_) if begun => std::thread::sleep(BETWEEN),
                        other => other.map(|_| ())?,
                    }
                }
                Err(_) => return Err(gone()),
            }
        }
        Ok(())
    }
}

fn late(span: Duration) -> TunnelError {
    let span = crate::retry::seconds(span);
    passing(
        format!("no credentials were found within {span}"),
        "see what takes so long: the program of credential_process, or the way to what gives them (STS, \
         169.254.169.254)",
    )
}

fn gone() -> TunnelError {
    passing(
        "the process that reads the credentials has gone".into(),
        "see the tunnel's lines in the system's log (journalctl -t efs-agent)",
    )
}

fn passing(what: String, mend: &str) -> TunnelError {
    TunnelError::Source { what, mend: mend.to_owned(), lasts: false }
}

fn numbers(head: &[u8]) -> Option<(u64, usize)> {
    let (number, rest) = head.split_first_chunk::<8>()?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    Some((u64::from_le_bytes(*number), u32::from_le_bytes(*length) as usize))
}

/// The other end: answers with what `find` has to say, which is given the time that it may take, until
/// the relay has gone.
pub fn serve(
    mut stream: UnixStream,
    find: &mut dyn FnMut(Duration) -> Result<Credentials, TunnelError>,
) {
    let mut question = [0; QUESTION];
    while stream.read_exact(&mut question).is_ok() {
        let Some((number, millis)) = question.split_first_chunk::<8>() else { return };
        let millis = millis.first_chunk::<8>().map_or(0, |millis| u64::from_le_bytes(*millis));
        let body = encode(&find(Duration::from_millis(millis)));
        let mut answer = Zeroizing::new(Vec::with_capacity(HEAD + body.len()));
        answer.extend_from_slice(number);
        answer.extend_from_slice(&(body.len() as u32).to_le_bytes());
        answer.extend_from_slice(&body);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Fields, each behind its length. What is not there has a length that no field can have.
fn encode(found: &Result<Credentials, TunnelError>) -> Zeroizing<Vec<u8>> {
    // Made large enough at once: what is outgrown is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut field = |field: Option<&[u8]>| {
        let length = field.map_or(u32::MAX, |field| field.len() as u32);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(field.unwrap_or_default());
    };
    match found {
        Ok(credentials) => {
            let since = credentials.expires.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let expires = since.map(|since| since.as_secs().to_string());
            field(Some(credentials.access_key_id.as_bytes()));
            field(Some(credentials.secret_access_key.expose().as_bytes()));
            field(credentials.session_token.as_ref().map(|token| token.expose().as_bytes()));
            field(expires.as_ref().map(|expires| expires.as_bytes()));
            field(Some(credentials.source.as_bytes()));
        }
        Err(failure) => {
            let (kind, why, more) = match failure {
                TunnelError::Source { what, mend, lasts } => {
                    (if *lasts { LASTING } else { SOURCE }, what.clone(), mend.clone())
                }
                TunnelError::Changeable { what, mend } => (CHANGEABLE, what.clone(), mend.clone()),
                TunnelError::Service { what, service, trouble } => {
                    (SERVICE, what.clone(), format!("{} {}", service.word(), trouble.word()))
                }
                other => (OTHER, other.to_string(), String::new()),
            };
            let cut = (0..=LONGEST / 2).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0);
            field(None);
            field(Some(kind.as_bytes()));
            field(Some(why.get(..cut).unwrap_or(&why).as_bytes()));
            field(Some(more.as_bytes()));
        }
    }
    if bytes.len() > LONGEST {
        let why = "the credentials are too long".into();
        return encode(&Err(TunnelError::Credentials(why)));
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Result<Credentials, TunnelError>> {
    let mut rest = bytes;
    let mut field = || -> Option<Option<&str>> {
        let (length, more) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        rest = more;
        if length == u32::MAX {
            return Some(None);
        }
        let (field, more) = rest.split_at_checked(length as usize)?;
        rest = more;
        std::str::from_utf8(field).ok().map(Some)
    };
    let Some(access_key_id) = field()? else {
        let (kind, what) = (field()??, field()??.to_owned());
        return Some(Err(match kind {
            kind @ (SOURCE | LASTING) => {
                let lasts = kind == LASTING;
                TunnelError::Source { what, mend: field()??.to_owned(), lasts }
            }
            CHANGEABLE => TunnelError::Changeable { what, mend: field()??.to_owned() },
            SERVICE => {
                let (service, trouble) = field()??.split_once(' ')?;
                let (service, trouble) =
                    (Service::from_word(service)?, Trouble::from_word(trouble)?);
                TunnelError::Service { what, service, trouble }
            }
            _ => TunnelError::Credentials(what),
        }));
    };
    let access_key_id = access_key_id.to_owned();
    let secret_access_key = Secret::new(field()??.to_owned());
    let session_token = field()?.map(|token| Secret::new(token.to_owned()));
    let expires = field()?.map(|seconds| seconds.parse().map(Duration::from_secs));
    let expires = expires.transpose().ok()?.and_then(|since| UNIX_EPOCH.checked_add(since));
    let source = field()??.to_owned();
    Some(Ok(Credentials { access_key_id, secret_access_key, session_token, expires, source }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::SystemClock;
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

    /// What comes of each of `spans` (milliseconds) to find them in, by a broker that does `find`.
    fn asked(
        spans: &[u64],
        mut find: impl FnMut(Duration) -> Result<Credentials, TunnelError> + Send + 'static,
    ) -> Vec<Result<Credentials, TunnelError>> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || serve(theirs, &mut find));
        let broker = Broker::new(ours).unwrap();
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let ask = |millis: &u64| {
            let until = Deadline::after(&clock, Duration::from_millis(*millis));
            broker.ask(until, &clock, &stop)
        };
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
            TunnelError::Source {
                what: "no such profile".into(),
                mend: "make it".into(),
                lasts: true,
            },
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
        let got = asked(&[4000], move |_| Err(none("ä".repeat(LONGEST))));
        assert!(matches!(&got[..], [Err(TunnelError::Credentials(text))] if text.len() > 1000));
        let huge = "t".repeat(LONGEST);
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
            broker.ask(Deadline::after(&clock, Duration::from_secs(20)), &clock, stop)
        };
        let both = std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..2 {
                    let mut question = [0; QUESTION];
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
        // On a busy machine, the first may not have begun to read: then it leaves all of it to be passed
        // over. What it has begun with, it has read to its end.
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
        let ask = |millis| {
            broker.ask(Deadline::after(&clock, Duration::from_millis(millis)), &clock, &stop)
        };
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
        let until = Deadline::after(&clock, Duration::from_secs(5));
        let gone = gone();
        assert_eq!(broker.ask(until, &clock, &stop), Err(gone));
    }
}
