//! Where requests come in: sockets that the supervisor has opened, and others that gateways ask for.
//!
//! A port's certificates are looked up in each handshake, so that a change of them needs no new socket and breaks no
//! connection. A port that no gateway has any more is closed, unless the supervisor keeps it open.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
};

use http::Request;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serve::{Body, http::Limits};
use task::Task;
use tokio::net::TcpListener;

use crate::{
    hosts::Hosts,
    proxy::{Door, Proxy},
    rule::Entrance,
};

/// Certificates by host.
type Certificates = Hosts<Arc<CertifiedKey>>;

/// A socket that was opened elsewhere.
#[derive(Debug)]
pub struct Given {
    /// The socket.
    pub listener: TcpListener,
    /// Whether with TLS.
    pub secure: bool,
}

/// All sockets.
#[derive(Debug)]
pub struct Listeners {
    task: Task,
    proxy: Arc<Proxy>,
    limits: Limits,
    /// Ports that clients see for HTTP and HTTPS.
    usual: (u16, u16),
    open: BTreeMap<u16, Open>,
}

#[derive(Debug)]
struct Open {
    task: Task,
    secure: bool,
    certificates: Shown,
    given: bool,
}

/// What a port shows its clients.
#[derive(Clone, Debug, Default)]
struct Shown(Arc<RwLock<Certificates>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let certificates = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // Clients without a name get what is for all hosts.
        certificates.matching(&host).next().cloned()
    }
}

impl Listeners {
    /// Takes what was opened elsewhere. Connections run below `task`.
    pub fn new(task: &Task, proxy: Arc<Proxy>, limits: Limits, given: Vec<Given>) -> io::Result<Self> {
        let port = |given: &Given| given.listener.local_addr().map(|address| address.port());
        let mut usual = (80, 443);
        for one in &given {
            *(if one.secure { &mut usual.1 } else { &mut usual.0 }) = port(one)?;
        }
        let mut listeners = Self { task: task.clone(), proxy, limits, usual, open: BTreeMap::new() };
        for one in given {
            let port = port(&one)?;
            listeners.serve(port, None, one.listener, one.secure, true);
        }
        Ok(listeners)
    }

    /// Opens any port, which clients know as `shown`; the next [`Self::change`] closes it unless it is wanted then.
    pub fn open(&mut self, shown: u16, secure: bool) -> io::Result<u16> {
        let listener = bind(0)?;
        let port = listener.local_addr()?.port();
        self.serve(port, Some(shown), listener, secure, false);
        Ok(port)
    }

    /// Whether what is open at a port is with TLS; `None` where nothing is.
    pub fn secure(&self, port: u16) -> Option<bool> {
        Some(self.open.get(&port)?.secure)
    }

    /// Opens and closes what is to change, and shows other certificates; tells which ports could not be opened.
    pub fn change(
        &mut self,
        ports: &BTreeMap<u16, bool>,
        mut certificates: BTreeMap<u16, Certificates>,
    ) -> BTreeSet<u16> {
        let mut refused = BTreeSet::new();
        self.open.retain(|port, open| {
            let wanted = open.given || ports.get(port) == Some(&open.secure);
            if !wanted {
                // What has begun goes on; nothing new is taken.
                open.task.cancel();
            }
            wanted
        });
        for (port, secure) in ports {
            if self.open.contains_key(port) {
                continue;
            }
            match bind(*port) {
                Ok(listener) => self.serve(*port, None, listener, *secure, false),
                Err(error) => {
                    tracing::warn!(port, %error, "port of a gateway cannot be opened");
                    refused.insert(*port);
                }
            }
        }
        for (port, open) in &self.open {
            let new = certificates.remove(port).unwrap_or_default();
            *open.certificates.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        refused
    }

    /// Serves at `port`, which clients know as `shown` where that is another one.
    fn serve(&mut self, port: u16, shown: Option<u16>, listener: TcpListener, secure: bool, given: bool) {
        let certificates = Shown::default();
        let tls = match secure.then(|| config(certificates.clone())).transpose() {
            Ok(tls) => tls,
            Err(error) => return tracing::error!(%error, "tls settings"),
        };
        let task = self.task.child(format!("port {port}"));
        let (http_port, https_port) = if shown.is_some() { (80, 443) } else { self.usual };
        let entrance = Entrance { secure, port: shown.unwrap_or(port), https_port, http_port };
        let door = Door { port, entrance };
        let proxy = self.proxy.clone();
        let handler = move |request: Request<Body>| {
            let proxy = proxy.clone();
            async move { proxy.answer(door, request).await }
        };
        self.task.spawn("listener", serve::http::serve_in_lanes(task.clone(), listener, tls, self.limits, handler));
        self.open.insert(port, Open { task, secure, certificates, given });
    }
}

fn config(shown: Shown) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn bind(port: u16) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
