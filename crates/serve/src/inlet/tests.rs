//! Bodies that are read off their connections, and connections that go on afterwards.

use std::{io::Read as _, net::SocketAddr, time::Duration};

use ::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use rustix::event::{PollFd, PollFlags, poll};
use task::Task;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Attempt, Body, hold};
use crate::{body, http::Limits};

/// Reads that many bytes of a socket that does not block.
fn read(socket: std::os::fd::OwnedFd, left: u64) -> Vec<u8> {
    let mut socket = std::net::TcpStream::from(socket);
    let mut bytes = vec![0; left as usize];
    let mut at = 0;
    while at < bytes.len() {
        match socket.read(&mut bytes[at..]) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(_) => drop(poll(&mut [PollFd::new(&socket, PollFlags::IN)], None)),
        }
    }
    bytes.truncate(at);
    bytes
}

/// Answers with what it was sent; bodies of 1000 bytes and more are read off the connection. `/drop` lets go of them.
async fn serve(task: &Task) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handler = |request: Request<Body>| async move {
        let (parts, content) = request.into_parts();
        match hold(&parts, content, 1000).await.unwrap() {
            Attempt::Whole(content) => Response::new(body::full(content.collect().await.unwrap().to_bytes())),
            Attempt::Held(held) if parts.uri.path() == "/drop" => {
                drop(held);
                let mut response = Response::new(body::full("dropped"));
                *response.status_mut() = StatusCode::CONFLICT;
                response
            }
            Attempt::Held(mut held) => {
                let mut bytes = held.before.drain(..).collect::<Vec<_>>().concat();
                let (socket, left) = (held.socket.try_clone().unwrap(), held.left);
                bytes.extend(tokio::task::spawn_blocking(move || read(socket, left)).await.unwrap());
                held.release().await.unwrap();
                Response::new(body::full([b"held", &bytes[..]].concat()))
            }
        }
    };
    let serving = task.clone();
    task.spawn("serve", async move { crate::http::serve(serving, listener, None, Limits::default(), handler).await });
    address
}

async fn answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await.unwrap();
    (head, content)
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 3) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_arrive_whole_and_connections_go_on() {
    let task = Task::root("test");
    let address = serve(&task).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // What comes with the head, what comes in pieces, what is small, what is expected to be asked for.
    for (length, pieces) in [(1000, 1), (3_000_000, 1), (999, 1), (0, 1), (70_000, 7), (5_000_000, 3)] {
        let bytes = content(length);
        stream
            .write_all(format!("PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        for piece in bytes.chunks(length.div_ceil(pieces).max(1)) {
            stream.write_all(piece).await.unwrap();
            if pieces > 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let (_, answered) = answer(&mut stream).await;
        let answered = answered.strip_prefix(b"held").unwrap_or(&answered);
        assert!(answered == bytes, "{length} bytes in {pieces} pieces: {} came back", answered.len());
    }
    let head = "PUT / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 200000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (head, _) = answer(&mut stream).await;
    assert!(head.starts_with("http/1.1 100"), "{head}");
    stream.write_all(&content(200_000)).await.unwrap();
    assert!(answer(&mut stream).await.1 == [b"held", &content(200_000)[..]].concat());
    task.drain(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_requests_in_one_write_are_two_requests() {
    let task = Task::root("test");
    let mut stream = TcpStream::connect(serve(&task).await).await.unwrap();
    let one = [b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n", &content(100_000)[..]].concat();
    let (mut reader, mut writer) = stream.split();
    let writing = async { writer.write_all(&one.repeat(3)).await.unwrap() };
    let reading = async {
        let mut all = Vec::new();
        while all.windows(8).filter(|window| window == b"HTTP/1.1").count() < 3 || all.len() < 300_000 {
            assert!(reader.read_buf(&mut all).await.unwrap() > 0, "the connection ended");
        }
    };
    tokio::join!(writing, reading);
    task.drain(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_after_a_body_that_nobody_has_read() {
    let task = Task::root("test");
    let mut stream = TcpStream::connect(serve(&task).await).await.unwrap();
    stream.write_all(b"PUT /drop HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nbeginning").await.unwrap();
    let (head, _) = answer(&mut stream).await;
    assert!(head.starts_with("http/1.1 409"), "{head}");
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    task.drain(Duration::from_secs(1)).await;
}
