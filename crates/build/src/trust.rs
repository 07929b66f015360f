//! What steps get of a network that has a proxy or a certificate authority of its own, without a trace of it in the image.
//!
//! The machine's bundle is mounted at a path of its own below `/dev`, and the variables by which programs find one point there. Bound
//! over the distribution's own file it would break the package that owns that file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where steps see the bundle.
pub const BUNDLE: &str = "/dev/madang/ca-certificates.crt";

/// Where distributions keep their bundle.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
];

/// Variables that name a bundle.
const NAMES: [&str; 7] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];

/// Arguments that a build knows without declaring them.
pub const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The machine's bundle, where it has one.
pub fn bundle() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let all = named.into_iter().chain(BUNDLES.iter().map(PathBuf::from));
    // As a link it may lead to what is another file inside.
    all.filter_map(|path| path.canonicalize().ok()).find(|path| path.is_file())
}

/// Variables of a step beside its own: those of the bundle, and proxies as the build gives them or, where `host`, as the machine has
/// them. A step's own variables stay.
pub fn environment(
    own: &[String],
    bundle: Option<&Path>,
    given: &BTreeMap<String, String>,
    host: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    let is_own = |name: &str| own.iter().any(|pair| pair.split('=').next() == Some(name));
    let mut added = Vec::new();
    for name in NAMES.iter().filter(|name| bundle.is_some() && !is_own(name)) {
        added.push(format!("{name}={BUNDLE}"));
    }
    for name in PROXIES.iter().filter(|name| !is_own(name)) {
        if let Some(value) = given.get(*name).cloned().or_else(|| host(name)).filter(|value| !value.is_empty()) {
            added.push(format!("{name}={value}"));
        }
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steps_own_variables_stay_and_the_build_counts_before_the_machine() {
        let own = ["SSL_CERT_FILE=/mine".to_owned(), "http_proxy=".into()];
        let given = BTreeMap::from([("HTTPS_PROXY".to_owned(), "given".to_owned())]);
        let host = |name: &str| Some(format!("host-{name}"));
        let added = environment(&own, Some(Path::new("/bundle")), &given, &host);
        assert!(!added.iter().any(|pair| pair.starts_with("SSL_CERT_FILE=") || pair.starts_with("http_proxy=")));
        assert!(added.contains(&format!("PIP_CERT={BUNDLE}")));
        assert!(added.contains(&"HTTPS_PROXY=given".to_owned()));
        assert!(added.contains(&"NO_PROXY=host-NO_PROXY".to_owned()));
        assert!(environment(&[], None, &BTreeMap::new(), &|_| None).is_empty());
    }
}
