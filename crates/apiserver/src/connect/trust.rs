//! TLS to whatever a user names with `https:`: encrypted, but not authenticated, as upstream's service proxy is.

use std::sync::{Arc, LazyLock};

use rustls::{
    ClientConfig, Error,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serve::trust;

static ANYONE: LazyLock<Result<Arc<ClientConfig>, Error>> = LazyLock::new(|| settings(None));

fn settings(identity: Option<(&[u8], &[u8])>) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(trust::anybody(provider));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let unreadable = |error| Error::General(format!("read a certificate: {error}"));
            let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(unreadable)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(unreadable)?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The same, which show a certificate (PEM, with its key).
pub fn anyone_as(certificate: &[u8], key: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    settings(Some((certificate, key)))
}

/// Settings that accept any certificate.
pub fn anyone() -> Result<Arc<ClientConfig>, Error> {
    ANYONE.clone()
}
