//! Plain HTTP/1.1 over connections that are kept, as clients of a proxy have them: one request after the other on each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::samples::Samples;

/// Bytes of a head at most.
const HEAD: usize = 64 << 10;

/// Asks for `path` of `host` at `address` on `connections` connections for `seconds`.
pub async fn run(address: &str, host: &str, path: &str, connections: usize, seconds: u64) -> Result<Value> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        open.push(stream);
    }
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let (started, end) = (Instant::now(), Duration::from_secs(seconds));
    let mut workers = JoinSet::new();
    for mut stream in open {
        let request = request.clone();
        workers.spawn(async move {
            let (mut samples, mut answer, mut bytes) = (Samples::default(), Vec::with_capacity(16 << 10), 0);
            while started.elapsed() < end {
                let sent = Instant::now();
                stream.write_all(&request).await?;
                bytes += answered(&mut stream, &mut answer).await?;
                samples.add(sent.elapsed());
            }
            Ok::<_, anyhow::Error>((samples, bytes))
        });
    }
    let (mut samples, mut bytes) = (Samples::default(), 0);
    while let Some(ended) = workers.join_next().await {
        let (own, read) = ended??;
        samples.merge(own);
        bytes += read;
    }
    let (count, seconds) = (samples.len(), started.elapsed().as_secs_f64());
    Ok(json!({
        "connections": connections, "requests": count, "bytes": bytes, "seconds": seconds,
        "rate": count as f64 / seconds, "ms": samples.places(),
    }))
}

/// Reads an answer, which must be good and say its length; how many bytes it has.
async fn answered(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<usize> {
    answer.clear();
    let mut whole = None;
    loop {
        if stream.read_buf(answer).await? == 0 {
            bail!("closed after {:?}", String::from_utf8_lossy(answer));
        }
        if whole.is_none() {
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                if answer.len() > HEAD {
                    bail!("an endless head");
                }
                continue;
            };
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            if !head.starts_with("http/1.1 200") {
                bail!("{head}");
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.context("an answer without a length")?.trim().parse()?;
            whole = Some(end + 4 + length);
        }
        if whole.is_some_and(|whole| answer.len() >= whole) {
            return Ok(answer.len());
        }
    }
}
