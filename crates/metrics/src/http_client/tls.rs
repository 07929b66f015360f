//! Who is believed, and who we are: rustls' settings from configuration, made anew when a file has changed.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::settings::{Tls, Version};

/// Bytes of a file at most.
const LARGEST: u64 = 4 << 20;

/// The text of a file, without blanks around it.
pub async fn read_file(file: &str) -> Result<String, String> {
    let unreadable = |error: std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        format!("unable to read file {file}: open {file}: {reason}")
    };
    if tokio::fs::metadata(file).await.map_err(unreadable)?.len() > LARGEST {
        return Err(format!("unable to read file {file}: larger than {LARGEST} bytes"));
    }
    let bytes = tokio::fs::read(file).await.map_err(unreadable)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// PEM texts of authorities, certificate and key.
#[derive(Clone, Debug, Default, PartialEq)]
struct Material {
    ca: String,
    cert: String,
    key: String,
}

impl Material {
    async fn of(tls: &Tls) -> Result<Self, String> {
        if [&tls.ca_ref, &tls.cert_ref, &tls.key_ref].iter().any(|name| !name.is_empty()) {
            return Err("cannot use secret ref without manager".to_owned());
        }
        async fn text(text: &str, file: &str, what: &str) -> Result<String, String> {
            match file {
                "" => Ok(text.to_owned()),
                file => read_file(file).await.map_err(|error| format!("unable to read {what}: {error}")),
            }
        }
        Ok(Self {
            ca: text(&tls.ca, &tls.ca_file, "CA cert").await?,
            cert: text(&tls.cert, &tls.cert_file, "specified client cert").await?,
            key: text(&tls.key.0, &tls.key_file, "specified client key").await?,
        })
    }
}

/// TLS as configured, with the files as they were when last looked at.
#[derive(Debug)]
pub struct Trust {
    settings: Tls,
    protocols: Vec<Vec<u8>>,
    last: Mutex<Option<(Material, Arc<ClientConfig>)>>,
}

impl Trust {
    /// Nothing is read before it is needed.
    pub fn new(settings: Tls, http2: bool) -> Self {
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Self { settings, protocols, last: Mutex::default() }
    }

    /// The name that must be proved, if not that of the address.
    pub fn name(&self) -> Option<&str> {
        (!self.settings.server_name.is_empty()).then_some(self.settings.server_name.as_str())
    }

    /// Settings for a connection.
    pub async fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let lock = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let files = [&self.settings.ca_file, &self.settings.cert_file, &self.settings.key_file];
        if files.iter().all(|file| file.is_empty())
            && let Some((_, config)) = &*lock()
        {
            return Ok(config.clone());
        }
        let material = Material::of(&self.settings).await?;
        if let Some((last, config)) = &*lock()
            && *last == material
        {
            return Ok(config.clone());
        }
        let mut config = build(&self.settings, &material)?;
        config.alpn_protocols = self.protocols.clone();
        let config = Arc::new(config);
        *lock() = Some((material, config.clone()));
        Ok(config)
    }
}

/// The versions of TLS between two, of those that are spoken.
pub fn versions(lowest: Version, highest: Version) -> Vec<&'static SupportedProtocolVersion> {
    let mut versions = Vec::new();
    if highest == Version::Any || highest >= Version::Tls13 {
        versions.push(&rustls::version::TLS13);
    }
    if lowest <= Version::Tls12 && (highest == Version::Any || highest >= Version::Tls12) {
        versions.push(&rustls::version::TLS12);
    }
    versions
}

fn build(settings: &Tls, material: &Material) -> Result<ClientConfig, String> {
    let (lowest, highest) = (settings.min_version, settings.max_version);
    if lowest != Version::Any && highest != Version::Any && highest < lowest {
        return Err(
            "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified"
                .to_owned(),
        );
    }
    let versions = versions(lowest, highest);
    if versions.is_empty() {
        return Err("tls_config asks for a version below TLS 1.2, which is not spoken here".to_owned());
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| format!("tls versions: {error}"))?;
    let builder = if settings.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(serve::trust::anybody(provider))
    } else {
        builder.with_root_certificates(roots(&material.ca)?)
    };
    if material.cert.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain =
        certificates(&material.cert).map_err(|error| format!("unable to use specified client cert: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(material.key.as_bytes())
        .map_err(|error| format!("unable to use specified client key: {error}"))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| format!("unable to use specified client cert: {error}"))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if found.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(found) }
}

/// Authorities of a text, or those of the host.
fn roots(ca: &str) -> Result<RootCertStore, String> {
    if ca.is_empty() {
        return Ok(serve::trust::host_roots());
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca).map_err(|error| format!("unable to use specified CA cert: {error}"))? {
        roots.add(certificate).map_err(|error| format!("unable to use specified CA cert: {error}"))?;
    }
    Ok(roots)
}
