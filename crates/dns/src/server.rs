//! The server: sockets in, answers out.
//!
//! What the zone knows is answered on the spot, by as many loops a socket as there are processors. What must be asked for
//! outside is answered by a task of its own; there are only so many at once, and who comes beyond is told to come again.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, atomic::AtomicUsize},
    task::Poll,
    time::{Duration, Instant},
};

use hickory_proto::op::ResponseCode;
use task::Task;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

use crate::{
    Names, Zone,
    answer::Answers,
    counted,
    forward::Forwarder,
    message::{self, Incoming, Reply, Transport},
};

/// How many queries may wait for servers outside at once.
const WAITING: usize = 1024;
/// How many TCP connections may be open at once.
const CONNECTIONS: usize = 256;
/// A TCP connection that says nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// The largest query by UDP.
const LARGEST_QUERY: usize = 4096;
/// Loops a UDP socket.
const LOOPS: usize = 4;

/// What a server is given besides records.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Servers that are asked for names outside the cluster, in order.
    pub upstreams: Vec<SocketAddr>,
    /// The host's own search list, which follows the cluster's in pods with `dnsPolicy: ClusterFirst`.
    pub search: Vec<String>,
    /// Address ranges (address and prefix length) whose reverse names are answered here and never forwarded.
    pub reverse: Vec<(IpAddr, u8)>,
    /// Names that depend on who asks.
    pub names: Option<Arc<dyn Names>>,
}

impl Config {
    /// Reads upstreams and search list from the text of a `resolv.conf`; `reverse` is empty. Lines that mean nothing are
    /// passed over, as resolvers do.
    pub fn from_resolv_conf(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let ip = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                    config.upstreams.extend(ip.map(|ip| SocketAddr::new(ip, 53)));
                }
                Some("search" | "domain") => {
                    let domains = words.map(|word| word.trim_matches('.')).filter(|word| !word.is_empty());
                    config.search = domains.map(str::to_owned).take(32).collect();
                }
                _ => {}
            }
        }
        config.upstreams.truncate(8);
        config
    }
}

/// A DNS server.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// Answers on the given sockets as part of `task`, until it is cancelled. An upstream that is one of the sockets is
    /// left out, so that no query goes in circles. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// A socket that cannot be used with tokio.
    pub fn run(
        task: &Task,
        udp: Vec<UdpSocket>,
        tcp: Vec<TcpListener>,
        config: Config,
        zone: Arc<Zone>,
    ) -> std::io::Result<()> {
        let mut own = Vec::new();
        for socket in &udp {
            own.push(socket.local_addr()?);
        }
        for listener in &tcp {
            own.push(listener.local_addr()?);
        }
        let upstreams = config.upstreams.into_iter().filter(|upstream| {
            let is_us = own.iter().any(|own| {
                own.port() == upstream.port()
                    && (own.ip() == upstream.ip() || (own.ip().is_unspecified() && upstream.ip().is_loopback()))
            });
            if is_us {
                tracing::warn!(%upstream, "this dns server is its own upstream; left out");
            }
            !is_us
        });
        let split = |domain: &String| domain.split('.').map(str::to_ascii_lowercase).collect();
        let shared = Arc::new(Shared {
            answers: Answers {
                zone,
                forwarder: Forwarder::new(upstreams),
                search: config.search.iter().map(split).collect(),
                reverse: config.reverse,
                names: config.names,
                turn: AtomicUsize::new(0),
            },
            waiting: Arc::new(Semaphore::new(WAITING)),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            task: task.clone(),
        });
        let loops = std::thread::available_parallelism().map_or(1, |count| count.get().min(LOOPS));
        for socket in udp {
            socket.set_nonblocking(true)?;
            let socket = Arc::new(tokio::net::UdpSocket::from_std(socket)?);
            for _ in 0..loops {
                let (shared, socket) = (shared.clone(), socket.clone());
                task.spawn("udp", async move {
                    let task = shared.task.clone();
                    task.until_cancelled(shared.serve_udp(socket)).await;
                });
            }
        }
        for listener in tcp {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let shared = shared.clone();
            task.spawn("tcp", async move {
                let task = shared.task.clone();
                task.until_cancelled(shared.serve_tcp(listener)).await;
            });
        }
        Ok(())
    }
}

struct Shared {
    answers: Answers,
    waiting: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    task: Task,
}

impl Shared {
    async fn serve_udp(self: Arc<Self>, socket: Arc<tokio::net::UdpSocket>) {
        let mut buffer = vec![0; LARGEST_QUERY];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // An earlier answer was not wanted any more, say.
                    tracing::trace!(%error, "receive dns query");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            match message::read(&buffer[..length], Transport::Udp) {
                Incoming::Nothing => {}
                Incoming::Unusable(answer) => send(&socket, &answer, client).await,
                Incoming::Query(request) => {
                    let mut answering = {
                        let (shared, request, began) = (self.clone(), request.clone(), Instant::now());
                        Box::pin(async move {
                            let client = client.ip().to_canonical();
                            let reply = shared.answers.answer(&request, client).await;
                            let answer = message::write(&request, reply);
                            counted::answered(&request, client, length, &answer, began.elapsed());
                            answer
                        })
                    };
                    if let Poll::Ready(answer) = futures::poll!(answering.as_mut()) {
                        send(&socket, &answer, client).await;
                        continue;
                    }
                    let Ok(place) = self.waiting.clone().try_acquire_owned() else {
                        let busy = message::write(&request, Reply::empty(ResponseCode::ServFail));
                        send(&socket, &busy, client).await;
                        continue;
                    };
                    let (task, socket) = (self.task.clone(), socket.clone());
                    self.task.spawn("query", async move {
                        if let Some(answer) = task.until_cancelled(answering).await {
                            send(&socket, &answer, client).await;
                        }
                        drop(place);
                    });
                }
            }
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: tokio::net::TcpListener) {
        loop {
            // Who comes while all places are taken waits in the listener's backlog.
            let Ok(place) = self.connections.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, client)) => {
                    let shared = self.clone();
                    self.task.spawn("connection", async move {
                        let task = shared.task.clone();
                        if let Some(Err(error)) = task.until_cancelled(shared.connection(stream, client)).await {
                            tracing::trace!(%client, %error, "dns connection");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept dns connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(&self, mut stream: TcpStream, client: SocketAddr) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let Ok(length) = timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
            let length = match length {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                length => length?,
            };
            let mut query = vec![0; usize::from(length)];
            timeout(IDLE, stream.read_exact(&mut query)).await??;
            let answer = match message::read(&query, Transport::Tcp) {
                Incoming::Nothing => return Ok(()),
                Incoming::Unusable(answer) => answer,
                Incoming::Query(request) => {
                    let (began, client) = (Instant::now(), client.ip().to_canonical());
                    let reply = self.answers.answer(&request, client).await;
                    let answer = message::write(&request, reply);
                    counted::answered(&request, client, query.len(), &answer, began.elapsed());
                    answer
                }
            };
            let mut framed = Vec::with_capacity(answer.len() + 2);
            framed.extend_from_slice(&u16::try_from(answer.len()).unwrap_or(0).to_be_bytes());
            framed.extend_from_slice(&answer);
            timeout(IDLE, stream.write_all(&framed)).await??;
        }
    }
}

async fn send(socket: &tokio::net::UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(answer, client).await {
        tracing::trace!(%client, %error, "send dns answer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_is_read_as_resolvers_read_it() {
        let config = Config::from_resolv_conf(
            "# comment\nnameserver 192.0.2.1 # first\nnameserver fe80::1%eth0\nnameserver nonsense\n\
             domain old.example\nsearch corp.example. lab.example\noptions ndots:1\n\nnameserver\n",
        );
        assert_eq!(config.upstreams, ["192.0.2.1:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
        assert_eq!(config.search, ["corp.example", "lab.example"]);
        assert!(Config::from_resolv_conf("").upstreams.is_empty());
    }
}
