//! The user of a client certificate: its common name, in the groups that its organizations name.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::gate::User;

/// Reads a certificate that TLS has verified; `None` if it names nobody.
pub fn user(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name =
        subject.iter_common_name().find_map(|name| name.as_str().ok()).filter(|name| !name.is_empty())?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned).collect();
    groups.push("system:authenticated".into());
    Some(User { name, groups, ..User::default() })
}

/// The common name of who issued a certificate that TLS has verified.
pub fn issuer(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.issuer().iter_common_name().find_map(|name| name.as_str().ok());
    name.map(str::to_owned)
}
