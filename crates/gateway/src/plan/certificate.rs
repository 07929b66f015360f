//! Certificates and keys from Secrets, each read once.

use std::{collections::HashMap, sync::Arc};

use client::cache::Key;
use k8s_openapi::api::core::v1::Secret;
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// What was read, by the Secret's name, with the version it was read of.
#[derive(Debug, Default)]
pub struct Keys(HashMap<Key, (String, Result<Arc<CertifiedKey>, String>)>);

impl Keys {
    /// Certificate and key of a Secret, or what is wrong with it.
    pub fn get(&mut self, secret: &Secret) -> Result<Arc<CertifiedKey>, String> {
        let version = secret.metadata.resource_version.clone().unwrap_or_default();
        let key = Key::of(secret);
        if let Some((known, read)) = self.0.get(&key)
            && *known == version
            && !version.is_empty()
        {
            return read.clone();
        }
        let read = read(secret);
        self.0.insert(key, (version, read.clone()));
        read
    }

    /// Forgets Secrets that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&Key) -> bool) {
        self.0.retain(|key, _| is_there(key));
    }
}

fn read(secret: &Secret) -> Result<Arc<CertifiedKey>, String> {
    let part = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name)).map(|bytes| bytes.0.as_slice());
        bytes.ok_or_else(|| format!("the Secret has no {name}"))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(part("tls.crt")?)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("tls.crt: {error}"))?;
    if chain.is_empty() {
        return Err("tls.crt: no certificate found".into());
    }
    let key = PrivateKeyDer::from_pem_slice(part("tls.key")?).map_err(|error| format!("tls.key: {error}"))?;
    let key = any_supported_type(&key).map_err(|error| format!("tls.key: {error}"))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| format!("certificate and key: {error}"))?;
    Ok(Arc::new(certified))
}
