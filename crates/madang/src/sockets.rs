//! The listening sockets, opened once by the supervisor and kept while roles restart: clients wait instead of failing.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, sockopt};

use crate::config::Config;

/// Sockets by name: `api`, `node`, `dns-tcp`, `dns-udp`, `gateway-http`, `gateway-https`; `registry` and `prometheus` on loopback, and with `-tls` behind the
/// name on the node's address; `content`, where the node takes content from the registry.
#[derive(Debug, Default)]
pub struct Sockets(BTreeMap<String, OwnedFd>);

/// Listens on a path in the file system; what an earlier process has left there is removed.
pub fn listen_on(path: &Path) -> Result<tokio::net::UnixListener> {
    let listener = anew(path)?;
    listener.set_nonblocking(true)?;
    Ok(tokio::net::UnixListener::from_std(listener)?)
}

fn anew(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}, which an earlier server left", path.display()));
        }
        _ => {}
    }
    UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))
}

/// Ports that are open twice, and the part that each belongs to.
const BOTH: &[(&str, &str)] = &[("registry", "registry"), ("prometheus", "metrics"), ("console", "console")];

/// How often, and how long after each other, a port in use is asked for again.
const TURNS: u32 = 20;
const TURN: Duration = Duration::from_millis(10);
/// Connections that wait in the kernel while nobody accepts.
const BACKLOG: i32 = 4096;

impl Sockets {
    /// Opens all that `config` asks for and writes the ports in use into it.
    pub fn open(config: &mut Config) -> Result<Self> {
        let mut sockets = Self::default();
        let names: Vec<String> = config.ports.keys().cloned().collect();
        for name in names {
            if let Some((_, part)) = BOTH.iter().find(|both| both.0 == name) {
                sockets.open_both(config, &name, part)?;
                continue;
            }
            let wanted = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, config.port(&name));
            let listener = TcpListener::from(stream(wanted, false).with_context(|| {
                format!("listen on port {} ({name}): choose another with --port {name}=N", wanted.port())
            })?);
            config.ports.insert(name.clone(), listener.local_addr()?.port());
            sockets.0.insert(name, listener.into());
        }
        if config.with("dns") {
            // The address comes to be when the node role starts.
            let dns = SocketAddrV4::new(config.dns_address(), 53);
            sockets.0.insert("dns-tcp".into(), stream(dns, true).with_context(|| format!("listen on {dns} (tcp)"))?);
            sockets.0.insert("dns-udp".into(), datagram(dns).with_context(|| format!("listen on {dns} (udp)"))?);
        }
        Ok(sockets)
    }

    /// The same port on loopback and on the node's address.
    fn open_both(&mut self, config: &mut Config, name: &str, part: &str) -> Result<()> {
        let refused = |port: u16| {
            move || format!("listen on port {port} ({name}): choose another with --port {name}=N, or --without {part}")
        };
        let wanted = config.port(name);
        let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, wanted);
        let listener = TcpListener::from(stream(local, false).with_context(refused(wanted))?);
        let port = listener.local_addr()?.port();
        if !config.node_ip.is_loopback() {
            let outside = SocketAddrV4::new(config.node_ip, port);
            self.0.insert(format!("{name}-tls"), stream(outside, true).with_context(refused(port))?);
        }
        config.ports.insert(name.to_owned(), port);
        self.0.insert(name.to_owned(), listener.into());
        if name == "registry" { self.open_content(config) } else { Ok(()) }
    }

    /// Where the node takes content from the registry.
    fn open_content(&mut self, config: &Config) -> Result<()> {
        let path = config.content_socket();
        let content = anew(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        std::os::unix::fs::chown(&path, Some(config.edge_uid), Some(config.edge_uid))?;
        self.0.insert("content".into(), content.into());
        Ok(())
    }

    /// Adds a descriptor that roles have open beside their sockets.
    pub fn add(&mut self, name: &str, descriptor: OwnedFd) {
        self.0.insert(name.to_owned(), descriptor);
    }

    /// Whether there is a socket of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Takes a unix listener out.
    pub fn unix(&mut self, name: &str) -> Result<tokio::net::UnixListener> {
        let listener = UnixListener::from(self.take(name)?);
        listener.set_nonblocking(true)?;
        Ok(tokio::net::UnixListener::from_std(listener)?)
    }

    /// Sockets that came over a link.
    pub fn received(names: Vec<String>, descriptors: Vec<OwnedFd>) -> Self {
        Self(names.into_iter().zip(descriptors).collect())
    }

    /// The sockets of these names, to be handed on.
    pub fn borrow<'a>(&'a self, names: &[&str]) -> (Vec<String>, Vec<BorrowedFd<'a>>) {
        self.0
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()))
            .map(|(name, fd)| (name.clone(), fd.as_fd()))
            .unzip()
    }

    /// Takes a TCP listener out.
    pub fn tcp(&mut self, name: &str) -> Result<tokio::net::TcpListener> {
        let listener = TcpListener::from(self.take(name)?);
        listener.set_nonblocking(true)?;
        Ok(tokio::net::TcpListener::from_std(listener)?)
    }

    /// Takes a socket out.
    pub fn take(&mut self, name: &str) -> Result<OwnedFd> {
        self.0.remove(name).with_context(|| format!("no socket {name:?} came from the supervisor"))
    }
}

fn stream(address: SocketAddrV4, free: bool) -> rustix::io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if free {
        sockopt::set_ip_freebind(&socket, true)?;
    }
    // The kernel takes a moment to close what a process that was killed had open.
    let mut turns = 0;
    while let Err(error) = bind(&socket, &address) {
        if error != rustix::io::Errno::ADDRINUSE || turns == TURNS {
            return Err(error);
        }
        turns += 1;
        std::thread::sleep(TURN);
    }
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn datagram(address: SocketAddrV4) -> rustix::io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_ip_freebind(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket)
}
