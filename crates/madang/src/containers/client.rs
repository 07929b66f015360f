//! Requests to the engine's socket, as docker's own command line makes them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use serve::{Body, body};
use task::Task;
use tokio::net::UnixStream;

use crate::config::Place;

/// The version of the API that is asked for.
const VERSION: &str = "v1.50";
const SOCKET: &str = "docker.sock";

/// A way to the engine.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    task: Task,
}

/// What the engine refused, by its status.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What kind it is.
    pub status: StatusCode,
    /// For people.
    pub message: String,
}

impl Client {
    /// The engine of an instance.
    pub fn new(place: &Place) -> Self {
        Self { socket: place.run_dir.join(SOCKET), task: Task::root("command") }
    }

    /// What work beside the command is part of.
    pub fn task(&self) -> &Task {
        &self.task
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        document: Option<&Value>,
        upgrade: bool,
    ) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!(
                "connect to {}: is `madang server` running, with this --run-dir, and are you root?",
                self.socket.display()
            )
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        self.task.spawn("connection", async move { drop(connection.with_upgrades().await) });
        let mut request =
            Request::builder().method(method).uri(format!("/{VERSION}{path}")).header(header::HOST, "engine");
        if upgrade {
            request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp");
        }
        let body: Body = match document {
            Some(document) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                body::full(document.to_string())
            }
            None => body::empty(),
        };
        let response = sender.send_request(request.body(body)?).await.context("ask the engine")?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let text = response.into_body().collect().await.context("answer of the engine")?.to_bytes();
            let said = serde_json::from_slice::<Value>(&text).ok();
            let said = said.and_then(|value| Some(value.get("message")?.as_str()?.to_owned()));
            bail!(Refused { status, message: said.unwrap_or_else(|| status.to_string()) });
        }
        Ok(response)
    }

    /// Asks for a document.
    pub async fn json(&self, method: Method, path: &str, document: Option<&Value>) -> Result<Value> {
        let response = self.send(method, path, document, false).await?;
        let text = response.into_body().collect().await.context("answer of the engine")?.to_bytes();
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&text).context("answer of the engine")
    }

    /// Asks for bytes that come by and by.
    pub async fn stream(&self, method: Method, path: &str) -> Result<Incoming> {
        Ok(self.send(method, path, None, false).await?.into_body())
    }

    /// Takes the connection over.
    pub async fn upgrade(&self, path: &str, document: Option<&Value>) -> Result<TokioIo<Upgraded>> {
        let response = self.send(Method::POST, path, document, true).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            bail!("the engine did not hand the connection over: {}", response.status());
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await.context("take the connection over")?))
    }
}

/// Takes frames of output apart: `1` or `2`, three zeros, length, bytes.
#[derive(Debug, Default)]
pub struct Frames {
    left: Vec<u8>,
}

impl Frames {
    /// Adds what came; gives the pieces that are whole, each with its stream.
    pub fn add(&mut self, bytes: &[u8]) -> Vec<(u8, Bytes)> {
        self.left.extend_from_slice(bytes);
        let mut found = Vec::new();
        while let Some((head, rest)) = self.left.split_at_checked(8) {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let Some(piece) = rest.get(..length) else { break };
            found.push((head[0], Bytes::copy_from_slice(piece)));
            self.left.drain(..8 + length);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_put_together_from_any_pieces() {
        let whole = b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x01x";
        for size in 1..whole.len() {
            let mut frames = Frames::default();
            let found: Vec<_> = whole.chunks(size).flat_map(|piece| frames.add(piece)).collect();
            assert_eq!(found, [(1, Bytes::from_static(b"abc")), (2, Bytes::from_static(b"x"))], "{size}");
        }
    }
}
