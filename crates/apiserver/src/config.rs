//! What the server is told at start.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use counts::page::Page;
use futures::future::BoxFuture;
use task::Clock;

/// Settings of an API server. Files are read once, at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Keys that seal Secrets at rest; made if it is not there. See [`crate::encryption`].
    pub encryption_keys: PathBuf,
    /// The private key that signs service account tokens: ECDSA P-256, PKCS#8 PEM; made if it is not there.
    pub token_key: PathBuf,
    /// The issuer of service account tokens, under which pods find its discovery document:
    /// `https://kubernetes.default.svc.cluster.local`.
    pub token_issuer: String,
    /// Audiences that the API server itself accepts; the issuer if empty.
    pub token_audiences: Vec<String>,
    /// Tokens with their users: lines of `TOKEN,USER,UID,"GROUP,GROUP"`. None without a file.
    pub token_file: Option<PathBuf>,
    /// PEM of the CA that client certificates come from; published for others who check them.
    pub client_ca: String,
    /// PEM of the CA of the serving certificate, for `kubectl`'s and pods' trust.
    pub server_ca: String,
    /// TLS settings for requests to nodes: the kubelet client certificate and the CA of their serving certificates.
    pub node_tls: Option<Arc<rustls::ClientConfig>>,
    /// What this server shows to the API servers that it stands before; without it none is reached.
    pub front_proxy: Option<FrontProxy>,
    /// The address under which pods reach this server, and the port it listens on.
    pub advertise: (Ipv4Addr, u16),
    /// Addresses of ClusterIPs: network and prefix length, such as 10.43.0.0/16.
    pub service_cidr: (Ipv4Addr, u8),
    /// First and last node port.
    pub node_ports: (u16, u16),
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// The time.
    pub clock: Clock,
    /// How often the store forgets old revisions, if there were writes.
    pub compaction: Duration,
    /// Pages of others in this process, served below `/metrics/`.
    pub pages: Pages,
}

/// Writes a page when somebody asks.
pub type WritePage = Arc<dyn Fn() -> BoxFuture<'static, Page> + Send + Sync>;

/// Pages of metrics by name.
#[derive(Clone, Default)]
pub struct Pages(pub BTreeMap<String, WritePage>);

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The certificate by which other API servers know that a request comes from this one.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// PEM of the CA that it comes from, published for them.
    pub authority: String,
    /// PEM of the certificate, whose common name is [`FRONT_PROXY`].
    pub certificate: Vec<u8>,
    /// PEM of its key.
    pub key: Vec<u8>,
}

/// The only name that other API servers are told to believe.
pub const FRONT_PROXY: &str = "front-proxy-client";

impl Config {
    /// Settings with everything in `dir` and the project's defaults.
    pub fn in_dir(dir: &std::path::Path) -> Self {
        Self {
            encryption_keys: dir.join("encryption.keys"),
            token_key: dir.join("service-account.key"),
            token_issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
            token_audiences: Vec::new(),
            token_file: None,
            client_ca: String::new(),
            server_ca: String::new(),
            node_tls: None,
            front_proxy: None,
            advertise: (Ipv4Addr::LOCALHOST, 6443),
            service_cidr: (Ipv4Addr::new(10, 43, 0, 0), 16),
            node_ports: (30000, 32767),
            cluster_domain: "cluster.local".to_owned(),
            clock: Clock::system(),
            compaction: Duration::from_secs(300),
            pages: Pages::default(),
        }
    }
}
