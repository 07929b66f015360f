//! TLS of the way in: certificates that are read again when their files change, and what is asked of clients.
//!
//! rustls speaks TLS 1.2 and 1.3 with ciphers that are secure; of those that are configured, the ones it has are offered.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use super::{
    settings::{Settings, Tls},
    stamp,
};
use crate::http_client::settings::Version;

/// TLS as configured; none where it is not.
pub fn config(settings: &Settings) -> Result<Option<Arc<ServerConfig>>, String> {
    let tls = &settings.tls_server_config;
    if !tls.is_enabled() {
        return Ok(None);
    }
    if tls.cert.is_empty() && tls.cert_file.is_empty() {
        return Err("missing one of cert or cert_file".to_owned());
    }
    if tls.key.0.is_empty() && tls.key_file.is_empty() {
        return Err("missing one of key or key_file".to_owned());
    }
    let provider = Arc::new(provider(tls)?);
    let shown = Shown::new(tls, provider.clone())?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(tls)?)
        .map_err(|error| format!("tls_server_config: {error}"))?;
    let builder = match verifier(tls, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    let protocols: &[&[u8]] = if settings.http_server_config.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Some(Arc::new(config)))
}

fn versions(tls: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let versions = crate::http_client::tls::versions(tls.min_version, tls.max_version);
    if versions.is_empty() {
        return Err("tls_server_config asks for versions of TLS of which none is spoken here".to_owned());
    }
    Ok(versions)
}

/// Ciphers and curves; those that are configured and not there are passed over as long as one is left.
fn provider(tls: &Tls) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| {
            let name = format!("{:?}", suite.suite());
            // As in Go, only those of TLS 1.2 are chosen.
            name.starts_with("TLS13_") || tls.cipher_suites.iter().any(|wanted| go_name(wanted) == name)
        });
        let only_old = tls.max_version == Version::Tls12;
        if only_old && provider.cipher_suites.iter().all(|suite| format!("{:?}", suite.suite()).starts_with("TLS13_")) {
            return Err(format!("cipher_suites: none of {} is spoken here", tls.cipher_suites.join(", ")));
        }
    }
    if !tls.curve_preferences.is_empty() {
        let name = |curve: &str| match curve {
            "CurveP256" => Ok("secp256r1"),
            "CurveP384" => Ok("secp384r1"),
            "CurveP521" => Ok("secp521r1"),
            "X25519" => Ok("X25519"),
            other => Err(format!("unknown curve: {other}")),
        };
        let wanted: Vec<&str> = tls.curve_preferences.iter().map(|curve| name(curve)).collect::<Result<_, _>>()?;
        provider.kx_groups.retain(|group| wanted.contains(&format!("{:?}", group.name()).as_str()));
        if provider.kx_groups.is_empty() {
            return Err(format!("curve_preferences: none of {} is spoken here", tls.curve_preferences.join(", ")));
        }
    }
    Ok(provider)
}

/// The name of a cipher here.
fn go_name(name: &str) -> String {
    // Go leaves out the hash of these two, or not.
    match name {
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => format!("{name}_SHA256"),
        name => name.to_owned(),
    }
}

type Stamps = [Option<(SystemTime, u64)>; 2];

/// The certificate that is presented.
#[derive(Debug)]
struct Shown {
    tls: Tls,
    provider: Arc<CryptoProvider>,
    last: Mutex<(Stamps, Arc<CertifiedKey>)>,
}

impl Shown {
    fn new(tls: &Tls, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let last = Mutex::new((stamps(tls), read(tls, &provider)?));
        Ok(Self { tls: tls.clone(), provider, last })
    }
}

fn stamps(tls: &Tls) -> Stamps {
    [&tls.cert_file, &tls.key_file].map(|file| if file.is_empty() { None } else { stamp(Path::new(file)) })
}

fn text(text: &str, file: &str, what: &str) -> Result<Vec<u8>, String> {
    match file {
        "" => Ok(text.as_bytes().to_vec()),
        file => std::fs::read(file).map_err(|error| format!("failed to read {what} ({file}): {error}")),
    }
}

fn read(tls: &Tls, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("failed to load X509KeyPair: {error}");
    let (cert, key) = (text(&tls.cert, &tls.cert_file, "cert_file")?, text(&tls.key.0, &tls.key_file, "key_file")?);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&cert).collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| wrong(&error))?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| wrong(&error))?;
    Ok(Arc::new(key))
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = stamps(&self.tls);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != now {
            match read(&self.tls, &self.provider) {
                Ok(key) => *last = (now, key),
                // Half of a pair has been put in place, perhaps: what was there before is still good.
                Err(error) => tracing::warn!("certificate: {error}; the former one stays in use"),
            }
        }
        Some(last.1.clone())
    }
}

fn verifier(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let authorities = text(&tls.client_ca, &tls.client_ca_file, "client_ca_file")?;
    let (asked, required, checked) = match tls.client_auth_type.as_str() {
        "" | "NoClientCert" => (false, false, false),
        "RequestClientCert" => (true, false, false),
        "RequireAnyClientCert" | "RequireClientCert" => (true, true, false),
        "VerifyClientCertIfGiven" => (true, false, true),
        "RequireAndVerifyClientCert" => (true, true, true),
        other => return Err(format!("invalid ClientAuth: {other}")),
    };
    if !asked {
        if !authorities.is_empty() {
            return Err("client CA's have been configured without a Client Auth Policy".to_owned());
        }
        return Ok(None);
    }
    let inner: Option<Arc<dyn ClientCertVerifier>> = if checked {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(&authorities) {
            let authority = authority.map_err(|error| format!("client_ca: {error}"))?;
            roots.add(authority).map_err(|error| format!("client_ca: {error}"))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        Some(builder.build().map_err(|error| format!("client_ca: {error}"))?)
    } else {
        None
    };
    let names = tls.client_allowed_sans.clone();
    let algorithms = provider.signature_verification_algorithms;
    Ok(Some(Arc::new(Clients { inner, required, names, algorithms })))
}

/// Whose certificates are taken.
#[derive(Debug)]
struct Clients {
    /// Checks chains, where they are checked.
    inner: Option<Arc<dyn ClientCertVerifier>>,
    required: bool,
    /// Names of which a certificate must have one; any will do if empty.
    names: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// All alternative names of a certificate.
fn names_of(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|error| format!("error parsing client certificate: {error}"))?;
    let extension = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let mut names = Vec::new();
    for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                names.push((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
                let sixteen = <[u8; 16]>::try_from(*bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
                names.extend(four.or(sixteen));
            }
            _ => {}
        }
    }
    Ok(names)
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.as_ref().map_or(&[], |inner| inner.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(inner) = &self.inner {
            inner.verify_client_cert(certificate, others, now)?;
        }
        if !self.names.is_empty() {
            let found = names_of(certificate).map_err(rustls::Error::General)?;
            if !found.iter().any(|name| self.names.contains(name)) {
                let names = self.names.join(" ");
                return Err(rustls::Error::General(format!("could not find allowed SANs in client cert: [{names}]")));
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
