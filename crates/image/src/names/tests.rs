//! Names against a server of the tests' own on loopback.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::*;

/// A server that knows `registry.lab.example` (192.0.2.7) and nothing else, and counts what it is asked.
fn server() -> (u16, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    thread::spawn(move || {
        let mut query = [0; 1024];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            counter.fetch_add(1, Ordering::Relaxed);
            // Header, then the question: labels, type, class; what follows (EDNS) is not answered.
            let end = 12 + query[12..length].iter().position(|&byte| byte == 0).unwrap() + 5;
            let name = query[12..end - 5].to_ascii_lowercase();
            let known = name == b"\x08registry\x03lab\x07example";
            let is_a = query[end - 4..end] == [0, 1, 0, 1];
            let code = if known { 0x80 } else { 0x83 };
            let mut answer = query[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, code, 0, 1, 0, u8::from(known && is_a), 0, 0, 0, 0]);
            if known && is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            }
            socket.send_to(&answer, client).unwrap();
        }
    });
    (port, asked)
}

fn ip(text: &str) -> Vec<IpAddr> {
    vec![text.parse().unwrap()]
}

#[tokio::test]
async fn names_come_from_the_hosts_file_and_then_from_the_servers_with_the_search_list() {
    let (port, asked) = server();
    let dir = tempfile::tempdir().unwrap();
    let (conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
    fs::write(&conf, "search other.example lab.example\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
    fs::write(&hosts, "198.51.100.9 mirror.example mirror # ours\n::1 ip6-here\n").unwrap();
    let names = Names::with_port(&conf, &hosts, port);
    assert_eq!(names.lookup("mirror").await.unwrap(), ip("198.51.100.9"));
    assert_eq!(names.lookup("mirror.example").await.unwrap(), ip("198.51.100.9"));
    assert_eq!(names.lookup("192.0.2.1").await.unwrap(), ip("192.0.2.1"));
    assert_eq!(names.lookup("[2001:db8::1]").await.unwrap(), ip("2001:db8::1"));
    assert_eq!(asked.load(Ordering::Relaxed), 0, "no server is asked for what is known here");
    assert_eq!(names.lookup("registry.lab.example").await.unwrap(), ip("192.0.2.7"));
    assert_eq!(names.lookup("registry").await.unwrap(), ip("192.0.2.7"), "by the search list");
    let error = names.lookup("nothing.example.").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(error.to_string(), "lookup nothing.example.: no such host");
}

#[tokio::test]
async fn changed_files_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
    fs::write(&hosts, "198.51.100.1 a.example\n").unwrap();
    let names = Names::with_port(&conf, &hosts, 9);
    assert_eq!(names.lookup("a.example").await.unwrap(), ip("198.51.100.1"));
    fs::write(&hosts, "198.51.100.22 a.example\n").unwrap();
    assert_eq!(names.lookup("a.example").await.unwrap(), ip("198.51.100.22"));
}

#[tokio::test]
async fn a_connection_goes_to_the_address_that_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 here.example\n::1 here.example\n").unwrap();
    let names = Names::from_files(&dir.path().join("none"), &hosts);
    names.connect("here.example", listener.local_addr().unwrap().port()).await.unwrap();
}
