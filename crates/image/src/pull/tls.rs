//! Whom to believe: certificate authorities of the host, of a registry's own, or anybody.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{Trust, registries::Tls};

/// The host's certificate authorities, where they are believed.
pub(super) fn host_roots(trust: Trust) -> RootCertStore {
    match trust {
        Trust::Host => serve::trust::host_roots(),
        Trust::Configured => RootCertStore::empty(),
    }
}

/// How to speak TLS to a host that is configured like this.
pub(super) fn client_config(roots: &RootCertStore, tls: &Tls) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(serve::trust::anybody(provider))
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
