//! TLS settings from PEM: one place that picks protocol versions, ciphers (rustls' defaults on `ring`) and ALPN.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// Why certificates or keys could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The PEM text does not hold what it should.
    #[error("{what}: {source}")]
    Pem {
        /// Which of the inputs.
        what: &'static str,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// The PEM text holds no certificate.
    #[error("{0}: no certificate found")]
    Empty(&'static str),
    /// rustls refused the combination.
    #[error("tls settings: {0}")]
    Tls(#[from] rustls::Error),
    /// The client CA cannot be used to check certificates.
    #[error("client ca: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|source| Error::Pem { what, source })?;
    if found.is_empty() { Err(Error::Empty(what)) } else { Ok(found) }
}

fn key(what: &'static str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|source| Error::Pem { what, source })
}

/// A store of trusted roots from PEM certificates.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// What a listener presents. With `client_ca`, client certificates are asked for and checked, but not required:
/// whoever shows none is known by other means or not at all.
pub fn server_config(chain: &[u8], private_key: &[u8], client_ca: Option<&[u8]>) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(pem) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), provider)
                .allow_unauthenticated()
                .build()?,
        ),
    };
    let mut config = builder.with_single_cert(certificates("certificate", chain)?, key("private key", private_key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client that trusts `ca` alone and shows the certificate and key of `identity` if there is one.
/// `protocols` is the ALPN list, for example `["http/1.1"]` where a connection is to be upgraded.
pub fn client_config(
    ca: &[u8],
    identity: Option<(&[u8], &[u8])>,
    protocols: &[&str],
) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, private_key)) => builder
            .with_client_auth_cert(certificates("client certificate", chain)?, key("client key", private_key)?)?,
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}
