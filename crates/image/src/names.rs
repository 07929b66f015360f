//! Addresses of host names, as the machine's resolver configuration says, without the C library: in a static binary that
//! one cannot load its modules.
//!
//! ```text
//! name ─ an address? ─ hosts file ─ resolv.conf's servers in order, its search list and options
//! ```
//!
//! Both files are read when the first name is asked for, and again when they have changed.
//! <https://man7.org/linux/man-pages/man5/resolv.conf.5.html>

use std::{
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use hickory_resolver::{
    Hosts, Resolver, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy},
    net::runtime::TokioRuntimeProvider,
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use tokio::net::TcpStream;

/// Port of name servers.
const PORT: u16 = 53;
/// Answers that are remembered.
const MEMORY: u64 = 256;
/// Bytes of a configuration file that are looked at; ad-blocking hosts files are large.
const LIMIT: u64 = 16 << 20;

/// A resolver. Clones share what is known.
#[derive(Clone)]
pub struct Names(Arc<Inner>);

struct Inner {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    port: u16,
    known: Mutex<Option<Known>>,
}

/// By which a changed file is noticed: inode, seconds and nanoseconds of its last change, length.
type Stamp = Option<(u64, i64, i64, u64)>;

struct Known {
    stamps: [Stamp; 2],
    resolver: TokioResolver,
    hosts: Arc<Hosts>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Names({})", self.0.resolv_conf.display())
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::from_files(Path::new("/etc/resolv.conf"), Path::new("/etc/hosts"))
    }
}

impl Names {
    /// A resolver that is configured by these files. A file that is missing counts as empty, and without servers this
    /// machine is asked, as the C library does.
    pub fn from_files(resolv_conf: &Path, hosts: &Path) -> Self {
        Self::with_port(resolv_conf, hosts, PORT)
    }

    fn with_port(resolv_conf: &Path, hosts: &Path, port: u16) -> Self {
        Self(Arc::new(Inner {
            resolv_conf: resolv_conf.to_owned(),
            hosts: hosts.to_owned(),
            port,
            known: Mutex::default(),
        }))
    }

    /// The addresses of a host, those of IPv4 first. An address is its own.
    ///
    /// # Errors
    /// `NotFound`: there is no such host. Other kinds: the servers cannot be asked, or the files cannot be read.
    pub async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Ok(vec![ip]);
        }
        let (resolver, hosts) = self.resolver()?;
        let listed = listed(&hosts, host);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let found = resolver.lookup_ip(host).await.map_err(|error| {
            let kind = if error.is_no_records_found() { ErrorKind::NotFound } else { ErrorKind::Other };
            let why = if kind == ErrorKind::NotFound { "no such host".to_owned() } else { error.to_string() };
            io::Error::new(kind, format!("lookup {host}: {why}"))
        })?;
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        addresses.sort_by_key(IpAddr::is_ipv6);
        if addresses.is_empty() {
            return Err(io::Error::new(ErrorKind::NotFound, format!("lookup {host}: no such host")));
        }
        Ok(addresses)
    }

    /// A connection to a port of a host: its addresses are tried in turn.
    ///
    /// # Errors
    /// As [`Names::lookup`]; else what the last address said.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut last = None;
        for ip in self.lookup(host).await? {
            match TcpStream::connect(SocketAddr::new(ip, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ErrorKind::NotFound.into()))
    }

    fn resolver(&self) -> io::Result<(TokioResolver, Arc<Hosts>)> {
        let inner = &self.0;
        let stamps = [stamp(&inner.resolv_conf)?, stamp(&inner.hosts)?];
        let mut known = inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.stamps == stamps) {
            return Ok((known.resolver.clone(), known.hosts.clone()));
        }
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(read(&inner.hosts)?.as_slice()).map_err(|error| named(&inner.hosts, &error))?;
        let (resolver, hosts) = (open(inner)?, Arc::new(hosts));
        *known = Some(Known { stamps, resolver: resolver.clone(), hosts: hosts.clone() });
        Ok((resolver, hosts))
    }
}

/// Addresses that the hosts file has for a name, those of IPv4 first. Where there are any, no server is asked.
fn listed(hosts: &Hosts, host: &str) -> Vec<IpAddr> {
    let Ok(name) = Name::from_utf8(host) else { return Vec::new() };
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [of(RecordType::A), of(RecordType::AAAA)];
    found.iter().flatten().flat_map(|lookup| lookup.answers()).filter_map(|record| record.data.ip_addr()).collect()
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(path, &error)),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("read {}: {error}", path.display()))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
    match opened {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(named(path, &error)),
    }
}

fn open(inner: &Inner) -> io::Result<TokioResolver> {
    let text = read(&inner.resolv_conf)?;
    let names_a_server =
        text.split(|&byte| byte == b'\n').any(|line| line.trim_ascii_start().starts_with(b"nameserver"));
    let (config, mut options) = if names_a_server {
        parse_resolv_conf(&text).map_err(|error| {
            io::Error::new(ErrorKind::InvalidData, format!("read {}: {error}", inner.resolv_conf.display()))
        })?
    } else {
        let here = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_parts(None, Vec::new(), vec![here]), ResolverOpts::default())
    };
    let mut servers = config.name_servers().to_vec();
    for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
        connection.port = inner.port;
    }
    let config = ResolverConfig::from_parts(config.domain().cloned(), config.search().to_vec(), servers);
    // In order and one after the other: the first server may know names that the others do not.
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.num_concurrent_reqs = 1;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // The hosts file is looked at before: where it has a name, no server is asked, not even for the other family.
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = MEMORY;
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(|error| io::Error::other(format!("set up name resolution: {error}")))
}

#[cfg(test)]
mod tests;
