//! What clients do wrong, or mean ill: a table of cases, each with its status, and that nothing of it reaches a backend.

use std::time::Duration;

use serde_json::json;
use serve::http::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::bed::{Bed, PATIENCE, echo, gateway, route};

/// What is sent, and the status that comes back; none where the connection is just closed.
const CASES: &[(&str, &str, Option<u16>)] = &[
    ("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", Some(400)),
    ("a length with a sign", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd", Some(400)),
    ("two lengths in one line", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd", Some(400)),
    (
        "a coding that nobody knows",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        Some(400),
    ),
    (
        "chunked, but not last",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        Some(400),
    ),
    ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Some(400)),
    (
        "a space before the colon",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        Some(400),
    ),
    ("a header that goes on in the next line", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", Some(400)),
    ("a zero byte in a header", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n", Some(400)),
    ("no host", "GET / HTTP/1.1\r\n\r\n", Some(400)),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Some(400)),
    ("another host in the request line", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Some(400)),
    ("a host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Some(400)),
    ("a path that leads out", "GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", Some(400)),
    ("the same, written otherwise", "GET /%2e%2E/x HTTP/1.1\r\nHost: a\r\n\r\n", Some(400)),
    ("a tunnel to elsewhere", "CONNECT b:25 HTTP/1.1\r\nHost: b:25\r\n\r\n", Some(405)),
    ("no HTTP at all", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n", Some(400)),
    ("an old version without headers", "GET /\r\n\r\n", Some(400)),
    ("a version of the future", "GET / HTTP/3.7\r\nHost: a\r\n\r\n", Some(400)),
];

async fn bed(limits: Limits) -> (Bed, crate::bed::Seen) {
    let mut bed = Bed::with(limits).await;
    let (one, seen) = echo(&bed.task, "one").await;
    bed.endpoints("one", &[one]);
    bed.serve(&[gateway(), route(json!([{"backendRefs": [{"name": "one", "port": 80}]}]))]);
    (bed, seen)
}

fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ").or_else(|| answer.strip_prefix("HTTP/1.0 "))?.get(..3)?.parse().ok()
}

#[tokio::test]
async fn each_case_has_its_status_and_no_backend_hears_of_it() {
    let (bed, seen) = bed(Limits::default()).await;
    let mut wrong = Vec::new();
    for (what, request, expected) in CASES {
        let answer = bed.raw(request.as_bytes()).await;
        let answers = answer.matches("HTTP/1.").count();
        if status(&answer) != *expected || answers > 1 {
            wrong.push(format!("{what}: {:?}, {answers} answers", status(&answer)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let seen = seen.lock().unwrap().clone();
    assert!(seen.is_empty(), "{seen:#?}");
}

#[tokio::test]
async fn a_length_beside_chunks_goes_and_so_does_the_connection() {
    let both = ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 30"];
    for lines in both {
        let (bed, seen) = bed(Limits::default()).await;
        let request = format!(
            "POST /first HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let answer = bed.raw(request.as_bytes()).await;
        // As the specification demands (RFC 9112, 6.1): what follows is nobody's request.
        assert_eq!((status(&answer), answer.matches("HTTP/1.").count()), (Some(200), 1), "{lines}: {answer}");
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 1, "{lines}: {seen:#?}");
        assert!(seen[0].contains("POST /first\n") && seen[0].contains("body 3 bytes"), "{lines}: {seen:#?}");
        assert!(!seen[0].contains("content-length"), "{lines}: {seen:#?}");
    }
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let (bed, seen) = bed(Limits::default()).await;
    let long = "a".repeat(100 << 10);
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let cases = [
        ("a long header", format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {long}\r\n\r\n"), &[431][..]),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), &[431]),
        ("a long path", format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), &[414, 431]),
    ];
    for (what, request, expected) in cases {
        let answer = bed.raw(request.as_bytes()).await;
        assert!(status(&answer).is_some_and(|status| expected.contains(&status)), "{what}: {:?}", status(&answer));
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn heads_that_never_end_are_given_up() {
    let (bed, seen) = bed(Limits { headers: Duration::from_millis(100), ..Limits::default() }).await;
    for begun in ["GET / HTTP/1.1\r\nHost: a\r\nX-A: ", "G", "PRI * HTTP/2", ""] {
        // Returns, since the connection is closed.
        let answer = bed.raw(begun.as_bytes()).await;
        assert!(matches!(status(&answer), None | Some(408)), "{begun:?}: {answer}");
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_follows_a_request_on_its_connection_is_a_request_of_its_own() {
    let (bed, seen) = bed(Limits::default()).await;
    let request = "GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = bed.raw(request.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn nobody_tunnels_http2_past_the_rules() {
    let (bed, seen) = bed(Limits::default()).await;
    let more = "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade, HTTP2-Settings\r\n{more}\r\n");
    let answer = bed.raw(request.as_bytes()).await;
    assert_eq!(status(&answer), Some(200), "{answer}");
    let seen = seen.lock().unwrap().clone();
    assert!(!seen[0].contains("upgrade") && !seen[0].contains("http2-settings"), "{seen:#?}");
}

#[tokio::test]
async fn a_client_does_not_take_away_what_the_gateway_says() {
    let (bed, seen) = bed(Limits::default()).await;
    let more = "Connection: X-Forwarded-For, Host, Authorization\r\nAuthorization: mine\r\n";
    let answer = bed.get("a", "/", more).await;
    assert_eq!(status(&answer), Some(200), "{answer}");
    let seen = seen.lock().unwrap().clone();
    for part in ["x-forwarded-for: 127.0.0.1", "host: a\n", "authorization: mine"] {
        assert!(seen[0].contains(part), "{part}: {seen:#?}");
    }
}

/// Requests of HTTP/2 that would be two requests, or another one, where they are written as HTTP/1.1: header fields beside those of a sound
/// request, what is sent as body, and what comes back.
const OVER_HTTP2: &[(&str, &[(&str, &str)], &str, Outcome)] = &[
    ("a coding", &[("transfer-encoding", "chunked")], "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n", Outcome::Reset),
    ("a field of the connection", &[("connection", "upgrade")], "", Outcome::Reset),
    ("another protocol", &[("upgrade", "websocket")], "", Outcome::Reset),
    ("a length that is less than what comes", &[("content-length", "3")], "abcde", Outcome::Reset),
    ("a length that is more than what comes", &[("content-length", "9")], "abcde", Outcome::Reset),
    ("two lengths", &[("content-length", "5"), ("content-length", "6")], "abcde", Outcome::Either),
    ("a line end in a value", &[("x-a", "b\r\nx-c: d")], "", Outcome::Reset),
    ("a line end in a name", &[("x-a\r\nx-c", "d")], "", Outcome::Reset),
    ("a name with a colon", &[("x-a: b", "c")], "", Outcome::Reset),
    ("a name in capitals", &[("X-A", "b")], "", Outcome::Reset),
    ("another host", &[("host", "b")], "", Outcome::Refused),
    ("two paths", &[(":path", "/other")], "", Outcome::Reset),
    ("a field that only answers have", &[(":status", "200")], "", Outcome::Reset),
];

/// What comes of a request over HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// An answer with status 200.
    Well,
    /// An answer with status 400.
    Refused,
    /// The stream or the connection is ended.
    Reset,
    /// One of the last two.
    Either,
    /// An answer with another status.
    Other,
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

/// Sends one request on a connection of its own, each field as a literal.
async fn over_http2(bed: &Bed, more: &[(&str, &str)], body: &str) -> Outcome {
    let sound = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    let mut block = Vec::new();
    for (name, value) in sound.iter().chain(more) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, if body.is_empty() { 5 } else { 4 }, 1, &block));
    if !body.is_empty() {
        bytes.extend(frame(0, 1, 1, body.as_bytes()));
    }
    let asking = async {
        let mut stream = TcpStream::connect(bed.http).await.unwrap();
        let _refused = stream.write_all(&bytes).await;
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return Outcome::Reset;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            if stream.read_exact(&mut payload).await.is_err() {
                return Outcome::Reset;
            }
            match (head[3], payload.first()) {
                // Statuses that have a number of their own in HPACK's table.
                (1, Some(0x88)) => return Outcome::Well,
                (1, Some(0x8c)) => return Outcome::Refused,
                (1, _) => return Outcome::Other,
                (3 | 7, _) => return Outcome::Reset,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("an end in time")
}

#[tokio::test]
async fn requests_of_http2_that_would_be_others_in_http1_reach_no_backend() {
    let (bed, seen) = bed(Limits::default()).await;
    let mut wrong = Vec::new();
    for (what, more, body, expected) in OVER_HTTP2 {
        let got = over_http2(&bed, more, body).await;
        let either = *expected == Outcome::Either && matches!(got, Outcome::Refused | Outcome::Reset);
        if got != *expected && !either {
            wrong.push(format!("{what}: {got:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A request whose body was cut off may have been begun; nothing of it is another request.
    let others = |one: &&String| one.contains("smuggled") || one.contains("/other") || one.contains("x-c");
    let seen = seen.lock().unwrap().clone();
    assert!(!seen.iter().any(|one| others(&one)), "{seen:#?}");
    assert_eq!(over_http2(&bed, &[("x-a", "b")], "abcde").await, Outcome::Well);
}
