//! Changes under load: no request is lost, whatever is changed meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use serde_json::json;
use task::Task;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::bed::{Bed, PATIENCE, echo, gateway, route};

/// Clients that ask at once.
const CLIENTS: usize = 8;
/// Times that everything is changed.
const ROLLOUTS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollouts_under_load_lose_no_request() {
    let mut bed = Bed::new().await;
    let generation = |bed: &Bed| bed.task.child("generation");
    let mut old = generation(&bed);
    let (first, _) = echo(&old, "shop").await;
    bed.endpoints("one", &[first]);
    let rules = json!([{"backendRefs": [{"name": "one", "port": 80}]}]);
    bed.serve(&[gateway(), route(rules.clone())]);

    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| ask(bed.http, client, stop.clone(), answered.clone()))
        .map(|asking| {
            let (done, result) = tokio::sync::oneshot::channel();
            bed.task.spawn("client", async move {
                let _ = done.send(asking.await);
            });
            result
        })
        .collect();
    for rollout in 0..ROLLOUTS {
        let before = answered.load(Relaxed);
        let new = generation(&bed);
        let (next, _) = echo(&new, "shop").await;
        bed.endpoints("one", &[next]);
        // The table is another one each time, too.
        let mut changed = rules.clone();
        changed[0]["filters"] = json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {
            "set": [{"name": "x-rollout", "value": rollout.to_string()}]}}]);
        bed.serve(&[gateway(), route(changed)]);
        // As a pod ends: it finishes what it has, and takes nothing new.
        let leaving = std::mem::replace(&mut old, new);
        drain(&leaving).await;
        while answered.load(Relaxed) < before + 4 * CLIENTS {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Relaxed);
    for client in clients {
        tokio::time::timeout(PATIENCE, client).await.expect("clients end").unwrap().unwrap();
    }
}

async fn drain(task: &Task) {
    assert!(task.drain(PATIENCE).await, "a backend finishes what it has");
}

/// Asks again and again over one connection; what was wrong, if anything was.
async fn ask(
    address: std::net::SocketAddr,
    client: usize,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let mut number = 0;
    while !stop.load(Relaxed) {
        // Every third has a body, which cannot be sent twice unless nobody has seen it.
        number += 1;
        let body = if number % 3 == 0 { "hello" } else { "" };
        let method = if body.is_empty() { "GET" } else { "PUT" };
        let request = format!(
            "{method} /{client}/{number} HTTP/1.1\r\nHost: a.com\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let answer = read(&mut stream).await.map_err(|error| format!("{number}: {error}"))?;
        if !answer.starts_with("HTTP/1.1 200 ") || !answer.contains(&format!("/{client}/{number}\n")) {
            return Err(format!("{number}: {answer}"));
        }
        answered.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// One answer, whose length is said.
async fn read(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if answer.len() >= end + 4 + length.unwrap_or_default() {
                return Ok(text);
            }
        }
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Err(std::io::Error::other(format!("closed after {text:?}")));
        }
        answer.extend_from_slice(&piece[..read]);
    }
}
