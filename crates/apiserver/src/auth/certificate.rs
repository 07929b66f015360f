//! Users from client certificates that TLS has verified: the common name is the user, organizations are groups.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;

/// Certificates already read. The same few come with every request, so that parsing them again would cost more than the rest
/// of authentication.
#[derive(Debug, Default)]
pub struct Certificates {
    known: Mutex<HashMap<Box<[u8]>, Known>>,
}

/// A user, and the last moment of the certificate, in seconds since 1970.
type Known = (Arc<User>, i64);

/// Read certificates that are kept.
const KNOWN: usize = 1024;

impl Certificates {
    /// The user that the certificate names at the moment `now`; `None` without a common name, or once it has expired: a
    /// connection may outlive the certificate that TLS checked when it began. Beside it, how many seconds are left.
    pub fn user(&self, der: &[u8], now: Timestamp) -> Option<(Arc<User>, i64)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (user, end) = match known.get(der) {
            Some((user, end)) => (user.clone(), *end),
            None => {
                let (user, end) = read(der)?;
                let user = Arc::new(user);
                if known.len() >= KNOWN {
                    known.clear();
                }
                known.insert(der.into(), (user.clone(), end));
                (user, end)
            }
        };
        let left = end - now.as_second();
        (left >= 0).then_some((user, left))
    }
}

fn read(der: &[u8]) -> Option<(User, i64)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    if name.is_empty() {
        return None;
    }
    let mut user = User { name: name.to_owned(), ..User::default() };
    user.groups.extend(subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned));
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("X509SHA256={hex}")]);
    user.recognised();
    Some((user, certificate.validity().not_after.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_user_and_groups() {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:a");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let certificates = Certificates::default();
        let now = Timestamp::now();
        let (user, left) = certificates.user(certificate.der(), now).unwrap();
        assert!(left > 0);
        assert_eq!(user.name, "system:node:a");
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
        assert_eq!(user.node(), Some("a"));
        assert!(Arc::ptr_eq(&user, &certificates.user(certificate.der(), now).unwrap().0));
        assert!(certificates.user(certificate.der(), "9000-01-01T00:00:00Z".parse().unwrap()).is_none(), "expired");
        assert!(certificates.user(b"junk", now).is_none());
    }
}
