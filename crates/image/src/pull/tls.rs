//! Whom to believe: certificate authorities of the host, of a registry's own, or anybody.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::{Trust, registries::Tls};

/// Where distributions keep their bundle.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
];

/// The host's certificate authorities: of `SSL_CERT_FILE`, else of the distribution's bundle. Those that cannot be read
/// are left out.
pub(super) fn host_roots(trust: Trust) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if trust == Trust::Configured {
        return roots;
    }
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundles = named.into_iter().chain(BUNDLES.iter().map(PathBuf::from));
    for bundle in bundles {
        let Ok(certificates) = CertificateDer::pem_file_iter(&bundle) else { continue };
        roots.add_parsable_certificates(certificates.flatten());
        if !roots.is_empty() {
            break;
        }
    }
    roots
}

/// How to speak TLS to a host that is configured like this.
pub(super) fn client_config(roots: &RootCertStore, tls: &Tls) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(anybody(provider))
    } else {
        let mut roots = roots.clone();
        if let Some(file) = &tls.ca_file {
            for certificate in certificates(file)? {
                roots.add(certificate).with_context(|| format!("certificate authority {}", file.display()))?;
            }
        }
        builder.with_root_certificates(roots)
    };
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (Some(certificate), Some(key)) => {
            let key_der = PrivateKeyDer::from_pem_file(key).with_context(|| format!("read key {}", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key_der)
                .with_context(|| format!("use certificate {}", certificate.display()))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().with_context(|| format!("read certificates {}", file.display()))?;
    if certificates.is_empty() {
        bail!("read certificates {}: none in it", file.display());
    }
    Ok(certificates)
}

/// Believes every certificate, though not a handshake without its key: what `insecure_skip_verify` asks for.
pub fn anybody(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anybody(provider))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
