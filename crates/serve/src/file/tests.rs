//! Files over plain connections arrive as they are, and nothing else does.

use std::{io::Write, net::SocketAddr, sync::Arc};

use ::http::{HeaderValue, Request, Response, header};
use task::Task;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Body, Plain, SENT, part};
use crate::{body, http::Limits};

/// Bytes that are neither zeros nor alike in two places.
fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8 | 1).collect()
}

fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Serves `GET /FROM-END` of a file without TLS; `/text` is a text.
async fn serve(task: &Task, bytes: Arc<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let file = Arc::new(file_of(&bytes));
    let handler = move |request: Request<Body>| {
        let file = file.clone();
        async move {
            let (parts, _) = request.into_parts();
            let Some((from, end)) = parts.uri.path()[1..].split_once('-') else {
                return Response::new(body::full("text"));
            };
            let (from, end) = (from.parse::<u64>().unwrap(), end.parse::<u64>().unwrap());
            let mut response = Response::new(part(&parts, file.reopen().unwrap(), from, end));
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(end - from));
            response
        }
    };
    let serving = task.clone();
    task.spawn("serve", async move { crate::http::serve(serving, listener, None, Limits::default(), handler).await });
    address
}

/// Sends requests one after the other without waiting for answers, and reads the answers' bodies.
async fn ask(address: SocketAddr, paths: &[&str], lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    for path in paths {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    }
    let mut bodies = Vec::new();
    for length in lengths {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        let mut body = vec![0; *length];
        stream.read_exact(&mut body).await.unwrap();
        bodies.push(body);
    }
    bodies
}

#[tokio::test]
async fn parts_of_files_arrive_as_they_are_between_other_answers() {
    let task = Task::root("test");
    let bytes = Arc::new(content(3 * SENT + 12_345));
    let address = serve(&task, bytes.clone()).await;
    let paths =
        [format!("/0-{}", bytes.len()), "/text".into(), format!("/7-{}", SENT + 9), "/5-5".into(), "/1-2".into()];
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let got = ask(address, &paths, &[bytes.len(), 4, SENT + 2, 0, 1]).await;
    assert!(got[0] == **bytes, "the whole file");
    assert_eq!(got[1], b"text");
    assert!(got[2] == bytes[7..SENT + 9], "a part over two places");
    assert!(got[3].is_empty());
    assert_eq!(got[4], bytes[1..2]);
    task.cancel();
}

#[tokio::test]
async fn a_file_that_is_too_short_ends_the_connection() {
    let task = Task::root("test");
    let address = serve(&task, Arc::new(content(1000))).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /0-2000 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), stream.read_to_end(&mut all)).await;
    assert!(ended.is_ok(), "the connection stays open");
    let head = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(all.len());
    assert!(all.len() - head <= 4 + 1000, "more came than there is");
    assert!(!all[head..].contains(&0), "what holds a place was sent");
    task.cancel();
}

#[tokio::test]
async fn a_place_without_a_part_is_an_error_and_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut plain, _outlet, _inlet) = Plain::new(listener.accept().await.unwrap().0);
    assert!(plain.write(&super::STAND_IN[10..20]).await.is_err());
    drop(plain);
    let mut got = Vec::new();
    let mut client = client;
    client.read_to_end(&mut got).await.unwrap();
    assert!(got.is_empty());
}
