//! The server: sockets in, answers out.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
};

use task::Task;

use crate::Zone;

/// What a server is given besides records.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Servers that are asked for names outside the cluster, in order.
    pub upstreams: Vec<SocketAddr>,
    /// The host's own search list, which follows the cluster's in pods with `dnsPolicy: ClusterFirst`.
    pub search: Vec<String>,
    /// Address ranges (address and prefix length) whose reverse names are answered here and never forwarded.
    pub reverse: Vec<(IpAddr, u8)>,
}

impl Config {
    /// Reads upstreams and search list from the text of a `resolv.conf`; `reverse` is empty.
    pub fn from_resolv_conf(_text: &str) -> Self {
        Self::default()
    }
}

/// A DNS server.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// Answers on the given sockets as part of `task`, until it is cancelled.
    ///
    /// # Errors
    /// A socket that cannot be used with tokio.
    pub fn run(
        _task: &Task,
        _udp: Vec<UdpSocket>,
        _tcp: Vec<TcpListener>,
        _config: Config,
        _zone: Arc<Zone>,
    ) -> std::io::Result<()> {
        Ok(())
    }
}
