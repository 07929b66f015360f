//! Whoever asked for a build, and what can be asked of them while it runs: secrets, SSH agents, credentials.
//!
//! BuildKit's clients answer over a session; `madang build` sends everything along. Both are the same here.

use std::{collections::BTreeMap, path::PathBuf};

use futures::future::BoxFuture;
use git::ssh::agent::Keys;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Answers what a build asks. A trait, since the answers come from the crate that speaks with the client.
pub trait Client: Send + Sync {
    /// The secret of this id; none where there is no such secret.
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, anyhow::Result<Option<Vec<u8>>>>;

    /// Whether there is an SSH agent of this id (`default` where a mount names none). It is not connected to: it may be gone.
    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, anyhow::Result<bool>>;

    /// A new connection to the SSH agent of this id; none where there is no such agent.
    fn agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, anyhow::Result<Option<Agent>>>;

    /// What is shown to hosts that are asked over SSH beside the keys of an agent, and which of them are believed. No step ever sees it.
    fn ssh<'a>(&'a self) -> BoxFuture<'a, anyhow::Result<Ssh>> {
        Box::pin(std::future::ready(Ok(Ssh::default())))
    }

    /// A token for the repositories of a host that is asked over HTTPS, where no secret is for it. No step ever sees it.
    fn token<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, anyhow::Result<Option<String>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Credentials for a registry, beside those of this machine.
    fn credentials<'a>(
        &'a self,
        registry: &'a str,
    ) -> BoxFuture<'a, anyhow::Result<Option<::image::pull::Credentials>>>;
}

/// A connection to an SSH agent.
pub struct Agent {
    /// The connection.
    pub stream: Box<dyn Duplex>,
    /// Whether it can only be asked for its keys and for signatures. Otherwise that is for whoever hands it to a step.
    pub guarded: bool,
}

/// What repositories behind SSH are asked with.
#[derive(Clone, Default)]
pub struct Ssh {
    /// A private key, and its passphrase.
    pub key: Option<(String, Option<String>)>,
    /// Who asks, where the address does not say.
    pub user: Option<String>,
    /// Keys of hosts that are believed, as in `known_hosts`.
    pub known_hosts: Option<String>,
    /// Where whoever asked writes both; empty where they stand on a command line.
    pub place: String,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssh").field("user", &self.user).field("place", &self.place).finish_non_exhaustive()
    }
}

/// An SSH agent.
#[derive(Clone, Debug)]
pub enum Held {
    /// One that runs: its socket.
    Socket(PathBuf),
    /// One that has these keys.
    Keys(Keys),
}

/// Answers that are known beforehand.
#[derive(Clone, Default)]
pub struct Given {
    /// Secrets by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// SSH agents by id.
    pub agents: BTreeMap<String, Held>,
    /// Credentials by registry.
    pub credentials: BTreeMap<String, ::image::pull::Credentials>,
    /// For repositories behind SSH.
    pub ssh: Ssh,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("secrets", &self.secrets.keys()).field("agents", &self.agents).finish()
    }
}

impl Client for Given {
    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, anyhow::Result<Option<Vec<u8>>>> {
        Box::pin(std::future::ready(Ok(self.secrets.get(id).cloned())))
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, anyhow::Result<bool>> {
        Box::pin(std::future::ready(Ok(self.agents.contains_key(id))))
    }

    fn agent<'a>(&'a self, id: &'a str) -> BoxFuture<'a, anyhow::Result<Option<Agent>>> {
        Box::pin(async move {
            Ok(match self.agents.get(id) {
                None => None,
                Some(Held::Socket(path)) => {
                    let stream = tokio::net::UnixStream::connect(path).await;
                    let stream = stream
                        .map_err(|error| anyhow::anyhow!("connect to SSH agent {id} at {}: {error}", path.display()))?;
                    Some(Agent { stream: Box::new(stream), guarded: false })
                }
                Some(Held::Keys(keys)) => {
                    let stream = keys.connect().await.map_err(|error| anyhow::anyhow!("SSH agent {id}: {error}"))?;
                    Some(Agent { stream: Box::new(stream), guarded: true })
                }
            })
        })
    }

    fn ssh<'a>(&'a self) -> BoxFuture<'a, anyhow::Result<Ssh>> {
        Box::pin(std::future::ready(Ok(self.ssh.clone())))
    }

    fn credentials<'a>(
        &'a self,
        registry: &'a str,
    ) -> BoxFuture<'a, anyhow::Result<Option<::image::pull::Credentials>>> {
        Box::pin(std::future::ready(Ok(self.credentials.get(registry).cloned())))
    }
}
