use super::super::standin::{self, Authority};
use super::super::tls;
use super::*;
use crate::stop::{Stop, SystemClock};
use rustls::{ServerConnection, StreamOwned};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

/// Two ends of a connection to a server's listener.
fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).unwrap()
}

type AtWork =
    (TcpStream, StreamOwned<ServerConnection, TcpStream>, JoinHandle<Result<(), RelayError>>);

/// The kernel's end of a relay at work, the server's end, and the relay's result. The server accepts no more
/// connections.
fn at_work() -> AtWork {
    at_work_with(&listener())
}

fn at_work_with(to: &TcpListener) -> AtWork {
    let authority = Authority::new();
    let config = standin::server(&authority.good(), &[&rustls::version::TLS13], &[]).0;
    let ((kernel, inner), (outer, server)) = (pair(&listener()), pair(to));
    let mut session = tls::tests::session(&authority);
    let relaying = thread::spawn(move || {
        inner.set_nonblocking(true).unwrap();
        outer.set_nonblocking(true).unwrap();
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let wait = Wait::of(Duration::from_secs(20), &clock, &stop);
        let mut plain = plain();
        handshake(&mut session, &mut plain, &outer, wait).unwrap();
        relay(&mut session, plain, &inner, &outer, &Carried::default())
    });
    let mut server = StreamOwned::new(ServerConnection::new(config).unwrap(), server);
    let mut kernel = kernel;
    let mut bytes = [0; 4];
    kernel.write_all(b"call").unwrap();
    server.read_exact(&mut bytes).unwrap();
    server.write_all(&bytes).unwrap();
    kernel.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"call");
    (kernel, server, relaying)
}

#[test]
fn a_server_to_which_the_way_is_cut_is_given_up_after_ten_seconds() {
    let (mut kernel, server, relaying) = at_work();
    // The relay is idle for so long that it has checked the server for the last time.
    thread::sleep(Duration::from_secs(5));
    sys::deafen(server.sock.as_fd());
    let cut = Instant::now();
    kernel.write_all(b"call").unwrap();
    while !relaying.is_finished() {
        assert!(cut.elapsed() < Duration::from_secs(20), "it is not given up");
        thread::sleep(Duration::from_millis(10));
    }
    let took = cut.elapsed().as_secs_f64();
    assert_eq!(relaying.join().unwrap(), Err(RelayError::Outer(Errno::ETIMEDOUT)));
    assert!(took > 9.0, "{took}");
    assert_eq!(kernel.read(&mut [0; 4]).unwrap(), 0);
}

#[test]
fn a_server_whose_machine_takes_connections_is_given_up_after_thirty_seconds() {
    let listener = listener();
    let (mut kernel, server, relaying) = at_work_with(&listener);
    let (mut other, mut pausing, carrying) = at_work_with(&listener);
    // A server that does not hear what was acknowledged would go on sending it.
    thread::sleep(Duration::from_secs(1));
    for server in [&server, &pausing] {
        sys::deafen(server.sock.as_fd());
    }
    let cut = Instant::now();
    kernel.write_all(b"call").unwrap();
    other.write_all(b"call").unwrap();
    thread::sleep(Duration::from_secs(15));
    for waiting in [&relaying, &carrying] {
        assert!(!waiting.is_finished(), "it was given up");
    }
    // The server has memory again, and nothing is lost.
    sys::undeafen(pausing.sock.as_fd());
    let mut bytes = [0; 4];
    pausing.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"call");
    while !relaying.is_finished() {
        assert!(cut.elapsed() < Duration::from_secs(40), "it is not given up");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(cut.elapsed() > Duration::from_secs(28), "{:?}", cut.elapsed());
    assert_eq!(relaying.join().unwrap(), Err(RelayError::Outer(Errno::ETIMEDOUT)));
    pausing.write_all(b"answer").unwrap();
    let mut bytes = [0; 6];
    other.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"answer");
    assert!(!carrying.is_finished());
}

#[test]
fn a_server_that_takes_nothing_for_a_long_time_is_waited_for() {
    let (mut kernel, mut server, relaying) = at_work();
    // More than all buffers on the way hold.
    const SIZE: usize = 48 << 20;
    let writes = thread::spawn(move || {
        kernel.write_all(&vec![7; SIZE]).unwrap();
        kernel
    });
    thread::sleep(Duration::from_secs(16));
    assert!(!writes.is_finished(), "it has room for everything");
    assert!(!relaying.is_finished(), "it was given up: {:?}", relaying.join());
    let mut bytes = vec![0; SIZE];
    server.read_exact(&mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 7));
    let kernel = writes.join().unwrap();
    kernel.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut bytes).unwrap(), 0);
    drop(server);
    // The end is not announced as TLS asks for, but nothing is on the way then.
    let _ = relaying.join().unwrap();
}

#[test]
fn who_sends_without_end_does_not_outlast_the_deadline() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let outer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    outer.set_nonblocking(true).unwrap();
    let mut session = tls::tests::session(&Authority::new());
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    let mut wait = |left| {
        server.write_all(&[22]).unwrap();
        wait_for_server(&mut session, &outer, Wait::of(left, &clock, &stop)).unwrap()
    };
    assert!(matches!(wait(Duration::from_secs(20)), Waited::Ready));
    assert!(matches!(wait(Duration::ZERO), Waited::Late));
}
