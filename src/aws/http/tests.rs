use super::response::{LARGEST_BODY, LARGEST_HEAD};
use super::*;
use crate::aws::trust::{Trust, roots};
use crate::stop::SystemClock;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Instant;

/// The result of reading `bytes`, which come in pieces of `piece` bytes, and then the end.
fn read(bytes: &[u8], piece: usize) -> Result<HttpResponse, ResponseError> {
    let mut reader = ResponseReader::default();
    for chunk in bytes.chunks(piece) {
        if let Some(response) = reader.take(chunk)? {
            return Ok(response);
        }
    }
    reader.end()
}

#[test]
fn an_answer_is_the_same_in_whatever_pieces_it_comes() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n6 \r\n, you!\r\n0\r\nx: y\r\n\r\n";
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A:  b \r\n\r\nabc", 200, "abc"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\ncontent-length: 3\r\n\r\nabcd", 200, "abc"),
        ("HTTP/1.0 404\r\n\r\nuntil the end", 404, "until the end"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 C\r\ncontent-length:0\r\n\r\n", 201, ""),
        ("HTTP/1.1 204 No Content\r\n\r\nxyz", 204, ""),
        (chunked, 200, "hello, you!"),
    ];
    for (text, status, body) in cases {
        for piece in 1..=text.len() {
            let response = read(text.as_bytes(), piece).unwrap();
            assert_eq!((response.status, response.text()), (status, Some(body)), "{text} {piece}");
        }
    }
    let response = read(cases[0].0.as_bytes(), 5).unwrap();
    assert_eq!((response.header("x-a"), response.header("x-b")), (Some("b"), None));
    assert_eq!(format!("{response:?}"), "Response(200, 3 bytes)");
}

#[test]
fn what_is_no_answer_or_too_much_of_one_is_refused() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = [
        ("", ResponseError::CutOff),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", ResponseError::CutOff),
        ("HTTP/1.1 200 OK\r\nConten", ResponseError::CutOff),
        (&format!("{chunks}5\r\nhel"), ResponseError::CutOff),
        (&format!("{chunks}5\r\nhello\r\n0\r\n"), ResponseError::CutOff),
        ("SSH-2.0-OpenSSH_8.0\r\n", ResponseError::NotHttp),
        ("HTTP/2 200\r\n\r\n", ResponseError::NotHttp),
        ("HTTP/1.1 OK\r\n\r\n", ResponseError::NotHttp),
        ("HTTP/1.1 2000 OK\r\n\r\n", ResponseError::NotHttp),
        ("HTTP/1.1 +20 OK\r\n\r\n", ResponseError::NotHttp),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ResponseError::Header),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ResponseError::Length),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            ResponseError::Length,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n", ResponseError::LargeBody),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            ResponseError::LargeBody,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", ResponseError::Encoding),
        (&format!("{chunks}xyz\r\n"), ResponseError::Chunk),
        (&format!("{chunks}+5\r\nhello\r\n"), ResponseError::Chunk),
        (&format!("{chunks}\r\n"), ResponseError::Chunk),
        (&format!("{chunks}fffffffff\r\n"), ResponseError::Chunk),
        (&format!("{chunks}5\r\nhelloXX\r\n"), ResponseError::Chunk),
        (&format!("{chunks}{}", "5".repeat(2000)), ResponseError::Chunk),
        (
            &format!("{chunks}ffffffff\r\n{}", "x".repeat(LARGEST_BODY + 1)),
            ResponseError::LargeBody,
        ),
        (
            &format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(LARGEST_BODY + 1)),
            ResponseError::LargeBody,
        ),
        (&format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(LARGEST_HEAD)), ResponseError::LargeHead),
    ];
    for (text, why) in cases {
        for piece in [1, 7, 4096] {
            let shown = &text[..text.len().min(80)];
            assert_eq!(read(text.as_bytes(), piece).unwrap_err(), why, "{shown} by {piece}");
        }
    }
    let largest = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(LARGEST_BODY));
    assert_eq!(read(largest.as_bytes(), 4096).unwrap().body.len(), LARGEST_BODY);
}

#[test]
fn a_url_is_taken_apart_or_refused() {
    let shown = |text: &str| {
        let url = Url::parse(text)?;
        Some(format!("{} {} {} {}", url.tls, url.host, url.port, url.path))
    };
    let good = [
        ("http://169.254.170.2/v2/x?id=1", "false 169.254.170.2 80 /v2/x?id=1"),
        ("HTTPS://Sts.Amazonaws.com", "true sts.amazonaws.com 443 /"),
        ("http://localhost:8080#x", "false localhost 8080 /"),
        ("http://[fd00:ec2::23]:81/a", "false fd00:ec2::23 81 /a"),
        ("http://[::1]?a=b", "false ::1 80 /?a=b"),
    ];
    for (text, parts) in good {
        assert_eq!(shown(text).as_deref(), Some(parts), "{text}");
    }
    for text in [
        "",
        "localhost/x",
        "ftp://a/",
        "http://",
        "http:///x",
        "http://user@host/",
        "http://a:b/",
        "http://a:0/",
        "http://a:99999/",
        "http://[::1/",
        "http://[::1]x/",
        "http://[a]/",
        "http://a b/",
        "http://a/\r\nX: y",
        "http://\u{e4}/",
    ] {
        assert_eq!(shown(text), None, "{text}");
    }
    let url = Url::parse("http://[::1]:8080/creds?token=hush").unwrap();
    assert_eq!(url.to_string(), "http://[::1]:8080/creds");
    assert_eq!(url.at("/x").to_string(), "http://[::1]:8080/x");
}

/// The result of a request to a listener that does `serve` with each connection, and how long it took.
fn ask(
    url: impl Fn(u16) -> Url,
    body: &[u8],
    millis: u64,
    serve: impl Fn(TcpStream) + Send + 'static,
) -> (Result<HttpResponse, String>, Duration) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(serve));
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    let resolve = |name: &str, _: Deadline| match name {
        "api.example" => Ok(vec!["127.0.0.1".parse().unwrap()]),
        _ => Err(format!("{name} does not exist, says nobody")),
    };
    let tls = tls(roots(Path::new("/"), Trust::Amazon).unwrap()).unwrap();
    let net = Net { clock: &clock, stop: &stop, resolve: &resolve, tls };
    let url = url(port);
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = HttpRequest { method, url: &url, headers: &[("X-A", "b")], body };
    let started = Instant::now();
    let until = Deadline::after(&clock, Duration::from_millis(millis));
    let result = net.exchange(&request, until);
    let port = format!(":{port}");
    (result.map_err(|e| e.to_string().replace(&port, ":PORT")), started.elapsed())
}

fn plain(port: u16) -> Url {
    Url { tls: false, host: "127.0.0.1".into(), port, path: "/a?b".into() }
}

fn secret(port: u16) -> Url {
    Url { tls: true, host: "api.example".into(), port, path: "/".into() }
}

/// Reads the head of a request.
fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_request_is_sent_whole_and_its_answer_read() {
    let echo = |mut stream: TcpStream| {
        let mut told = head(&mut stream).replace("\r\n", "|");
        if told.starts_with("POST") {
            let mut body = [0; 5];
            stream.read_exact(&mut body).unwrap();
            told.push_str(std::str::from_utf8(&body).unwrap());
        }
        let length = told.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{told}").unwrap();
        // The connection is kept open: the length shows the end of the answer.
        thread::sleep(Duration::from_secs(2));
    };
    let (got, took) = ask(plain, b"", 1500, echo);
    let got = got.unwrap();
    let told = got.text().unwrap();
    let host = told.split('|').nth(1).unwrap();
    assert!(host.starts_with("Host: 127.0.0.1:"), "{told}");
    assert_eq!(told.replace(host, "H"), "GET /a?b HTTP/1.1|H|Connection: close|X-A: b||");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (got, _) = ask(plain, b"hello", 1500, echo);
    let got = got.unwrap();
    let told = got.text().unwrap();
    assert!(told.ends_with("|Connection: close|Content-Length: 5|X-A: b||hello"), "{told}");
}

#[test]
fn every_way_in_which_a_server_can_fail_ends_in_time_and_in_words() {
    let silent = |stream: TcpStream| {
        thread::sleep(Duration::from_secs(3));
        drop(stream);
    };
    let slow = |mut stream: TcpStream| {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n";
        let mut sent = stream.write_all(text);
        while sent.is_ok() {
            thread::sleep(Duration::from_millis(5));
            sent = stream.write_all(b"x");
        }
    };
    let flood = |mut stream: TcpStream| {
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while sent.is_ok() {
            sent = stream.write_all(&[b'x'; 4096]);
        }
    };
    let greeting = |mut stream: TcpStream| {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        thread::sleep(Duration::from_secs(3));
    };
    let closes = |mut stream: TcpStream| {
        head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").unwrap();
    };
    let within = |serve: &dyn Fn() -> (Result<HttpResponse, String>, Duration), words: &str| {
        let (result, took) = serve();
        let said = result.unwrap_err();
        assert!(said.starts_with(words), "{said}");
        assert!(took < Duration::from_millis(1500), "{said} after {took:?}");
        assert!(!said.contains('\n'), "{said}");
    };
    within(&|| ask(plain, b"", 300, silent), "127.0.0.1:PORT did not answer within 300ms");
    within(&|| ask(plain, b"", 300, slow), "127.0.0.1:PORT did not answer within 300ms");
    within(
        &|| ask(plain, b"", 1000, flood),
        "127.0.0.1:PORT sent no proper HTTP answer: its body is over 64 KiB",
    );
    within(
        &|| ask(plain, b"", 1000, greeting),
        "127.0.0.1:PORT sent no proper HTTP answer: it does not begin as one",
    );
    within(
        &|| ask(plain, b"", 1000, closes),
        "127.0.0.1:PORT closed the connection before its answer was whole",
    );
    within(&|| ask(secret, b"", 300, silent), "127.0.0.1:PORT did not finish the TLS handshake");
    let hangs_up = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]);
    };
    within(&|| ask(secret, b"", 1000, hangs_up), "127.0.0.1:PORT closed the connection before");
    within(&|| ask(secret, b"", 1000, greeting), "TLS with 127.0.0.1:PORT failed: ");
    let nowhere = |port| Url { host: "none.example".into(), ..plain(port) };
    within(
        &|| ask(nowhere, b"", 1000, silent),
        "none.example cannot be resolved: none.example does not exist, says nobody",
    );
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    within(&|| ask(|_| plain(closed), b"", 1000, silent), "no connection to 127.0.0.1:");
    let split = |port| Url { path: "/a\r\nX: y".into(), ..plain(port) };
    within(&|| ask(split, b"", 1000, silent), "the path cannot be sent: it holds a control");
    let two = |port| plain(port).at("/a b");
    within(&|| ask(two, b"", 1000, silent), "the path cannot be sent");
}

#[test]
fn a_redirect_is_an_answer_and_is_not_followed() {
    let redirect = |mut stream: TcpStream| {
        head(&mut stream);
        let text =
            "HTTP/1.1 301 Moved\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(text.as_bytes()).unwrap();
    };
    assert_eq!(ask(plain, b"", 1000, redirect).0.unwrap().status, 301);
}

#[test]
fn a_connection_that_fails_is_told_in_the_words_of_the_mounts_own_errors() {
    let told = |errno| {
        HttpError::Connect { address: "203.0.113.7:443".parse().unwrap(), errno }.to_string()
    };
    assert_eq!(
        told(Errno::EINVAL),
        "no connection to 203.0.113.7:443: a blackhole route leads to it (EINVAL)"
    );
    assert_eq!(
        told(Errno::ENETUNREACH),
        "no connection to 203.0.113.7:443: there is no route to it (ENETUNREACH)"
    );
    assert_eq!(told(Errno::ECONNREFUSED), "no connection to 203.0.113.7:443: Connection refused");
}
