//! What of a kubeconfig is needed here: one cluster, one user, a field a line, as `madang server` writes it.

use std::{
    fs,
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

/// How to reach a server.
#[derive(Clone)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// The name in its certificate.
    pub name: ServerName<'static>,
    /// Whom to trust, and who we are.
    pub tls: Arc<ClientConfig>,
    /// The bearer token of a user without a certificate.
    pub token: Option<String>,
}

/// Reads a kubeconfig.
pub fn read(path: &Path) -> Result<Server> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let line = line.trim().trim_start_matches("- ");
            Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().trim_matches('"').to_owned())
        })
    };
    let data = |name: &str| -> Result<Option<Vec<u8>>> {
        if let Some(data) = field(&format!("{name}-data")) {
            return Ok(Some(STANDARD.decode(data).with_context(|| format!("decode {name}-data"))?));
        }
        field(name).map(|file| fs::read(&file).with_context(|| format!("read {file}"))).transpose()
    };
    let url = field("server").context("the kubeconfig names no server")?;
    let place = url.trim_start_matches("https://").trim_end_matches('/');
    let address = place.to_socket_addrs().with_context(|| format!("resolve {place}"))?.next().context("no address")?;
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host).to_owned();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&data("certificate-authority")?.context("no authority")?) {
        roots.add(certificate?)?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let tls = match (data("client-certificate")?, data("client-key")?) {
        (Some(chain), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>()?;
            tls.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?
        }
        _ => tls.with_no_client_auth(),
    };
    Ok(Server { address, name: ServerName::try_from(host)?, tls: Arc::new(tls), token: field("token") })
}
