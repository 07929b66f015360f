//! Sessions: what a client offers while it builds — files, credentials, secrets, SSH agents, places for results.
//!
//! ```text
//! docker ── POST /session, Upgrade: h2c ──▶ connection ── Channel ──▶ FileSync, FileSend, Auth, Secrets, SSH, Upload
//!        └─ Control/Session on /grpc, whose messages are the connection's bytes ──┘
//! ```
//!
//! The client is the gRPC server here. Its headers say which methods it has; a build names the session by its id, and may ask
//! for it before it is there.
//!
//! <https://github.com/moby/buildkit/tree/v0.34.0/session>

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use build::client::{Agent, Client};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture};
use http::HeaderMap;
use hyper_util::rt::TokioIo;
use image::pull::Credentials;
use task::Task;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::{Notify, mpsc},
};
use tonic::{Code, Status, Streaming, metadata::MetadataMap};

use super::{
    grpc::{self, Answers, Channel},
    wire::{
        BytesMessage, CheckAgentRequest, CredentialsRequest, CredentialsResponse, Empty, GetSecretRequest,
        GetSecretResponse,
    },
};
use crate::error::{Error, Result};

/// How long a build waits for its session.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most sessions at a time.
const MOST: usize = 1000;
/// Bytes of an agent's conversation that may wait.
const AGENT: usize = 64 << 10;
/// Bytes of a session inside a call that may wait.
const CALL: usize = 64 << 10;
/// Largest secret, as BuildKit has it.
const SECRET: usize = 500 << 10;

const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const GET_SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const CHECK_AGENT: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD_AGENT: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
const PULL: &str = "/moby.upload.v1.Upload/Pull";

/// The sessions of all clients.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Table>);

#[derive(Default)]
struct Table {
    sessions: Mutex<HashMap<String, Session>>,
    changed: Notify,
}

/// What one client offers. Clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<Offered>);

struct Offered {
    id: String,
    /// In lower case, as clients and servers differ in it.
    methods: HashSet<String>,
    channel: Channel,
    task: Task,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.0.id)
    }
}

/// What a request's headers say of the session that it opens.
#[derive(Debug)]
pub struct Offer {
    id: String,
    methods: HashSet<String>,
}

impl Offer {
    /// Reads the headers.
    pub fn read(headers: &HeaderMap) -> Result<Self> {
        let id = headers.get("x-docker-expose-session-uuid").and_then(|id| id.to_str().ok()).unwrap_or_default();
        if id.is_empty() || id.len() > 128 {
            return Err(Error::invalid("a session needs an id: the header X-Docker-Expose-Session-Uuid"));
        }
        let methods = headers.get_all("x-docker-expose-session-grpc-method").iter();
        let methods = methods.filter_map(|method| Some(method.to_str().ok()?.to_ascii_lowercase())).collect();
        Ok(Self { id: id.to_owned(), methods })
    }
}

impl Sessions {
    /// Whether one more fits, and is not there yet.
    pub fn admit(&self, offer: &Offer) -> Result<()> {
        let sessions = self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.contains_key(&offer.id) {
            return Err(Error::conflict(format!("session {} already exists", offer.id)));
        }
        if sessions.len() >= MOST {
            return Err(Error::new(
                http::StatusCode::SERVICE_UNAVAILABLE,
                format!("there are {MOST} sessions already"),
            ));
        }
        Ok(())
    }

    /// Keeps a session until its connection ends.
    pub async fn hold<I>(&self, task: &Task, offer: Offer, connection: I)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (channel, ended) = match Channel::open(connection).await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::debug!(session = offer.id, %error, "session");
                return;
            }
        };
        let Offer { id, methods } = offer;
        let session = Session(Arc::new(Offered { id: id.clone(), methods, channel, task: task.clone() }));
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), session);
        self.0.changed.notify_waiters();
        ended.await;
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Opens a session whose connection is inside a call: bytes come in its messages, and go in those of its answer.
    pub fn inside(&self, task: &Task, offer: Offer, mut messages: Streaming<BytesMessage>) -> Answers<BytesMessage> {
        let (ours, theirs) = tokio::io::duplex(CALL);
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let (sessions, below) = (self.clone(), task.clone());
        grpc::spawn(task, "build session", async move {
            sessions.hold(&below, offer, TokioIo::new(ours)).await;
        });
        grpc::spawn(task, "build session, input", async move {
            while let Ok(Some(message)) = messages.message().await {
                if writer.write_all(&message.data).await.is_err() {
                    break;
                }
            }
            let _ = writer.shutdown().await;
        });
        let (sender, receiver) = mpsc::channel(4);
        grpc::spawn(task, "build session, output", async move {
            let mut buffer = vec![0; CALL / 2];
            while let Ok(length @ 1..) = reader.read(&mut buffer).await {
                let data = Bytes::copy_from_slice(&buffer[..length]);
                if sender.send(Ok(BytesMessage { data })).await.is_err() {
                    break;
                }
            }
        });
        Box::pin(grpc::from_channel(receiver))
    }

    /// The session of an id, once it is there.
    pub async fn wait(&self, id: &str) -> Result<Session, Status> {
        let found = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(session) = self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
                    return session.clone();
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, found).await;
        waited.map_err(|_| Status::deadline_exceeded(format!("no active session for {id}")))
    }
}

impl Session {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The way to the client.
    pub fn channel(&self) -> &Channel {
        &self.0.channel
    }

    /// Whether the client has a method, `/service/method`.
    pub fn has(&self, method: &str) -> bool {
        self.0.methods.contains(&method.to_ascii_lowercase())
    }

    /// What the client put behind the URL of an upload: a context that it got on its standard input.
    pub async fn upload(&self, url: &str) -> Result<impl AsyncRead + Send + Unpin + use<>, Status> {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut metadata = MetadataMap::new();
        metadata.insert("urlhost", ascii(host)?);
        metadata.insert("urlpath", ascii(&format!("/{path}"))?);
        // The client has nothing to hear, but ends when it hears no more.
        let (open, messages) = mpsc::channel::<BytesMessage>(1);
        let answers: Answers<BytesMessage> = self.0.channel.streaming(PULL, metadata, grpc::from_channel(messages));
        let pieces = answers.map(move |message| {
            let _open = &open;
            message.map(|message| message.data).map_err(|status| std::io::Error::other(status.message().to_owned()))
        });
        Ok(tokio_util::io::StreamReader::new(Box::pin(pieces)))
    }

    /// Whether the client forwards an agent. Clients say only in words that one of another id was meant.
    async fn has_agent(&self, id: &str) -> anyhow::Result<bool> {
        if !self.has(CHECK_AGENT) {
            return Ok(false);
        }
        let checked = self.0.channel.unary::<_, Empty>(CHECK_AGENT, CheckAgentRequest { id: id.to_owned() }).await;
        match checked {
            Ok(_) => Ok(true),
            Err(status) if is_missing(&status) => Ok(false),
            Err(status) => anyhow::bail!("{}", status.message()),
        }
    }

    async fn agent(&self, id: &str) -> anyhow::Result<Option<Agent>> {
        if !self.has(FORWARD_AGENT) {
            return Ok(None);
        }
        let mut metadata = MetadataMap::new();
        metadata.insert("buildkit.ssh.id", ascii(id)?);
        let (sender, messages) = mpsc::channel::<BytesMessage>(4);
        let mut answers: Answers<BytesMessage> =
            self.0.channel.streaming(FORWARD_AGENT, metadata, grpc::from_channel(messages));
        let (ours, theirs) = tokio::io::duplex(AGENT);
        let (mut reader, mut writer) = tokio::io::split(theirs);
        grpc::spawn(&self.0.task, "ssh agent, questions", async move {
            let mut buffer = vec![0; AGENT / 2];
            while let Ok(length @ 1..) = reader.read(&mut buffer).await {
                let data = Bytes::copy_from_slice(&buffer[..length]);
                if sender.send(BytesMessage { data }).await.is_err() {
                    break;
                }
            }
        });
        grpc::spawn(&self.0.task, "ssh agent, answers", async move {
            while let Ok(Some(message)) = answers.try_next().await {
                if writer.write_all(&message.data).await.is_err() {
                    break;
                }
            }
            let _ = writer.shutdown().await;
        });
        // The client lets through what it lets through: it may forward something else than an agent.
        Ok(Some(Agent { stream: Box::new(ours), guarded: true }))
    }
}

impl Client for Session {
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, anyhow::Result<Option<Vec<u8>>>> {
        Box::pin(async move {
            if !self.has(GET_SECRET) {
                return Ok(None);
            }
            let answer = self.0.channel.unary(GET_SECRET, GetSecretRequest { id: id.to_owned() }).await;
            match answer {
                Ok(GetSecretResponse { data }) if data.len() > SECRET => {
                    anyhow::bail!("secret {id} has {} bytes, more than {SECRET}", data.len())
                }
                Ok(GetSecretResponse { data }) => Ok(Some(data)),
                Err(status) if is_missing(&status) => Ok(None),
                Err(status) => anyhow::bail!("secret {id}: {}", status.message()),
            }
        })
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, anyhow::Result<bool>> {
        Box::pin(Session::has_agent(self, id))
    }

    fn agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, anyhow::Result<Option<Agent>>> {
        Box::pin(Session::agent(self, id))
    }

    fn credentials<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, anyhow::Result<Option<Credentials>>> {
        Box::pin(async move {
            if !self.has(CREDENTIALS) {
                return Ok(None);
            }
            // Clients know Docker Hub by its registry's own name.
            let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
            let answer = self.0.channel.unary(CREDENTIALS, CredentialsRequest { host: host.to_owned() }).await;
            let CredentialsResponse { username, secret } = match answer {
                Ok(answer) => answer,
                Err(status) if is_missing(&status) => return Ok(None),
                Err(status) => anyhow::bail!("credentials for {registry}: {}", status.message()),
            };
            Ok(match (username.is_empty(), secret.is_empty()) {
                (_, true) => None,
                (true, false) => Some(Credentials::Identity(secret)),
                (false, false) => Some(Credentials::Password { username, password: secret }),
            })
        })
    }
}

fn is_missing(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::Unimplemented)
}

/// A value of metadata; text that is none is encoded as BuildKit's clients decode it.
pub fn ascii(text: &str) -> Result<tonic::metadata::AsciiMetadataValue, Status> {
    text.parse().map_err(|_| Status::invalid_argument(format!("{text:?} cannot be sent to the client")))
}
