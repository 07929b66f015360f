//! Published ports that no table leads anywhere: this process takes what comes in, and passes it on.
//!
//! ```text
//! [::1]:8080, or [::]:8080 of a container with IPv4 alone ─► socket ─ relay ─► 172.18.0.2:80
//! ```
//!
//! What the kernel translates never gets here: the sockets are those that keep others from the port. The machine's `::1` cannot be
//! translated, and nothing can into the other family. Containers see the machine as who asks.
//!
//! <https://docs.docker.com/engine/network/packet-filtering-firewalls/>, upstream's `docker-proxy`.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use task::Task;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
};

/// Connections of one port at a time.
const CONNECTIONS: usize = 4096;
/// Those that wait to be accepted.
pub const WAITING: i32 = 1024;
/// Clients of one UDP port at a time.
const CLIENTS: usize = 1024;
/// How long a container may take to accept.
const ACCEPT: Duration = Duration::from_secs(30);
/// How long a client of UDP is remembered after the last answer, as upstream does.
const SILENCE: Duration = Duration::from_secs(90);
/// After an accept that failed, for want of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);
/// How long what is passed on may take to be dropped.
const ENDING: Duration = Duration::from_secs(5);
/// The largest datagram.
const DATAGRAM: usize = 65_536;

/// Passes on until dropped.
#[derive(Debug)]
pub struct Relay {
    to: To,
    task: Task,
}

/// Where to, which may change.
type To = Arc<Mutex<SocketAddr>>;

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.cancel();
    }
}

impl Relay {
    /// Passes on what connects to a bound socket of TCP, whether or not it listens already.
    pub fn tcp(above: &Task, socket: OwnedFd, to: SocketAddr) -> anyhow::Result<Self> {
        rustix::net::listen(&socket, WAITING).context("listen on a published port")?;
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true).context("listen on a published port")?;
        let listener = TcpListener::from_std(listener).context("listen on a published port")?;
        let relay = Self { to: Arc::new(Mutex::new(to)), task: above.child("relay") };
        let (to, task) = (relay.to.clone(), relay.task.clone());
        relay.task.spawn_until_cancelled("accept", async move { accept(&task, &listener, &to).await });
        Ok(relay)
    }

    /// Passes on what is sent to a bound socket of UDP.
    pub fn udp(above: &Task, socket: OwnedFd, to: SocketAddr) -> anyhow::Result<Self> {
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true).context("receive on a published port")?;
        let socket = Arc::new(UdpSocket::from_std(socket).context("receive on a published port")?);
        let relay = Self { to: Arc::new(Mutex::new(to)), task: above.child("relay") };
        let (to, task) = (relay.to.clone(), relay.task.clone());
        relay.task.spawn_until_cancelled("receive", async move { receive(&task, &socket, &to).await });
        Ok(relay)
    }

    /// Ends, with every connection; others can have the port then.
    pub async fn end(self) {
        self.task.drain(ENDING).await;
    }

    /// Passes on to another place from now on.
    pub fn lead(&self, to: SocketAddr) {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }
}

fn now(to: &To) -> SocketAddr {
    *to.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(task: &Task, listener: &TcpListener, to: &To) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((mut near, _)) => {
                let to = now(to);
                task.spawn_until_cancelled("connection", async move {
                    if let Err(error) = pass(&mut near, to).await {
                        tracing::debug!(%to, %error, "connection to a published port");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accept at a published port");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn pass(near: &mut TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let mut far = tokio::time::timeout(ACCEPT, TcpStream::connect(to)).await??;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    tokio::io::copy_bidirectional(near, &mut far).await.map(drop)
}

/// Clients of a port of UDP, each with a socket by which the container knows it.
type Clients = Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>;

async fn receive(task: &Task, socket: &Arc<UdpSocket>, to: &To) {
    let clients = Clients::default();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A client has refused an answer.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
            Err(error) => {
                tracing::debug!(%error, "receive at a published port");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let known = clients.lock().unwrap_or_else(PoisonError::into_inner).get(&from).cloned();
        let far = match known {
            Some(far) => far,
            None => match client(task, socket, &clients, from, now(to)).await {
                Ok(Some(far)) => far,
                // As with any datagram, the sender tries again.
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%from, %error, "client of a published port");
                    continue;
                }
            },
        };
        if let Err(error) = far.send(&buffer[..length]).await {
            tracing::debug!(%from, %error, "datagram to a published port");
        }
    }
}

/// Notes a client, and passes answers to it on for as long as there are any. None where there are too many.
async fn client(
    task: &Task,
    near: &Arc<UdpSocket>,
    clients: &Clients,
    from: SocketAddr,
    to: SocketAddr,
) -> std::io::Result<Option<Arc<UdpSocket>>> {
    let own: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let far = UdpSocket::bind(own).await?;
    far.connect(to).await?;
    let far = Arc::new(far);
    {
        let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS {
            return Ok(None);
        }
        clients.insert(from, far.clone());
    }
    let (near, all, answering) = (near.clone(), clients.clone(), far.clone());
    task.spawn_until_cancelled("client", async move {
        let mut buffer = vec![0; DATAGRAM];
        while let Ok(Ok(length)) = tokio::time::timeout(SILENCE, answering.recv(&mut buffer)).await {
            if let Err(error) = near.send_to(&buffer[..length], from).await {
                tracing::debug!(%from, %error, "answer of a published port");
            }
        }
        all.lock().unwrap_or_else(PoisonError::into_inner).remove(&from);
    });
    Ok(Some(far))
}

#[cfg(test)]
mod tests;
