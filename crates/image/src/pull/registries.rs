//! `registries.yaml`: mirrors, certificates and credentials of registries.
//!
//! ```yaml
//! mirrors:
//!   docker.io:                        # or "*" for all registries that are not named
//!     endpoint:                       # tried in order, the registry itself last
//!       - https://mirror.example.com:5000
//!       - http://10.0.0.5/hub         # with a path: /hub/v2/...
//!     rewrite:                        # of repositories, for these endpoints: regular expression, replacement
//!       "^library/(.*)": "hub/$1"
//! configs:
//!   mirror.example.com:5000:          # host and, where not the usual one, port
//!     auth: {username: me, password: secret}        # or auth: base64 of name:password, or identity_token
//!     tls: {ca_file: /etc/ca.pem, cert_file: /etc/c.pem, key_file: /etc/k.pem, insecure_skip_verify: false}
//! ```
//!
//! The format is the one of k3s: <https://docs.k3s.io/installation/private-registry>.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, bail};
use oci::Reference;
use regex::Regex;
use serde::Deserialize;

use super::credentials::{self, Credentials};

/// Docker Hub's registry, which has another name than the images on it.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// The content of the file, checked.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    mirrors: BTreeMap<String, Mirror>,
    hosts: BTreeMap<String, Host>,
    /// Where the cluster's own servers are that no resolver of this machine knows, by host and port.
    own: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default)]
struct Mirror {
    endpoints: Vec<Base>,
    rewrites: Vec<(Regex, String)>,
    /// There is nothing else to ask.
    only: bool,
    /// The registry of this cluster, if it keeps copies.
    copies: Option<Base>,
}

/// What is configured for one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    pub credentials: Option<Credentials>,
    pub tls: Tls,
    /// Whether the certificate is this node's, which lets it pull and do nothing else.
    pub of_node: bool,
}

/// Certificates of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub insecure_skip_verify: bool,
}

/// How to speak to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
    /// HTTPS where it answers with TLS, else HTTP: for registries on loopback.
    Either,
}

/// The start of an endpoint's URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub scheme: Scheme,
    /// Host, and port if not the scheme's own.
    pub authority: String,
    /// Up to and with `/v2`.
    pub path: String,
}

/// Where an image may be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub base: Base,
    /// The repository there.
    pub repository: String,
    /// The registry that it stands for, told to mirrors of several.
    pub mirror_of: Option<String>,
    /// From `configs`.
    pub credentials: Option<Credentials>,
}

impl Registries {
    /// Reads the file's text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct File {
            mirrors: Option<BTreeMap<String, Option<MirrorEntry>>>,
            configs: Option<BTreeMap<String, Option<HostEntry>>>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct MirrorEntry {
            endpoint: Option<Vec<String>>,
            rewrite: Option<BTreeMap<String, String>>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct HostEntry {
            auth: Option<Auth>,
            tls: Option<Tls>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Auth {
            username: Option<String>,
            password: Option<String>,
            auth: Option<String>,
            identity_token: Option<String>,
        }
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let file: File = serde_saphyr::from_str(text).context("read registries")?;
        let mut registries = Self::default();
        for (name, entry) in file.mirrors.unwrap_or_default() {
            let entry = entry.unwrap_or_default();
            let read = || -> anyhow::Result<Mirror> {
                let endpoints = entry.endpoint.iter().flatten().map(|endpoint| Base::parse(endpoint));
                let rewrites = entry.rewrite.iter().flatten().map(|(pattern, replacement)| {
                    let regex = Regex::new(pattern).with_context(|| format!("rewrite {pattern}"))?;
                    Ok((regex, braced(replacement)))
                });
                Ok(Mirror {
                    endpoints: endpoints.collect::<anyhow::Result<_>>()?,
                    rewrites: rewrites.collect::<anyhow::Result<_>>()?,
                    ..Mirror::default()
                })
            };
            let mirror = read().with_context(|| format!("read registries: mirror {name}"))?;
            registries.mirrors.insert(name, mirror);
        }
        for (name, entry) in file.configs.unwrap_or_default() {
            let entry = entry.unwrap_or_default();
            let auth = entry.auth.unwrap_or_default();
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            let credentials = match text(&auth.identity_token).as_str() {
                "" => credentials::from_parts(&text(&auth.username), &text(&auth.password), &text(&auth.auth))
                    .with_context(|| format!("read registries: config {name}"))?,
                token => Some(Credentials::Identity(token.to_owned())),
            };
            let tls = entry.tls.unwrap_or_default();
            if tls.cert_file.is_some() != tls.key_file.is_some() {
                bail!("read registries: config {name}: cert_file and key_file belong together");
            }
            registries.hosts.insert(name, Host { credentials, tls, of_node: false });
        }
        Ok(registries)
    }

    /// Takes `name` to be the registry at `authority` (host and port), to be trusted by the authority in `ca_file` and
    /// shown the certificate and key in `cert_file` and `key_file`. What the file says of it has no effect.
    pub fn built_in(&mut self, name: &str, authority: &str, [ca_file, cert_file, key_file]: [PathBuf; 3]) {
        let base = Base { scheme: Scheme::Https, authority: authority.to_owned(), path: "/v2".to_owned() };
        self.mirrors.insert(name.to_owned(), Mirror { endpoints: vec![base], only: true, ..Mirror::default() });
        let tls = Tls {
            ca_file: Some(ca_file),
            cert_file: Some(cert_file),
            key_file: Some(key_file),
            insecure_skip_verify: false,
        };
        self.hosts.insert(authority.to_owned(), Host { credentials: None, tls, of_node: true });
    }

    /// Takes `name`, asked for over HTTPS, to be the server at `authority` (host and port), to be trusted by the authority in
    /// `ca_file`. Nothing is shown to it.
    pub fn served(&mut self, name: &str, authority: &str, ca_file: PathBuf) {
        let tls = Tls { ca_file: Some(ca_file), ..Tls::default() };
        self.hosts.insert(format!("{name}:443"), Host { tls, ..Host::default() });
        self.own.insert(format!("{name}:443"), authority.to_owned());
    }

    /// Where one of the cluster's own servers is: host and port.
    pub(super) fn place_of(&self, host: &str, port: u16) -> Option<(&str, u16)> {
        let (host, port) = self.own.get(&format!("{host}:{port}"))?.rsplit_once(':')?;
        Some((host.trim_matches(['[', ']']), port.parse().ok()?))
    }

    /// The same mirrors and certificate authorities, for somebody who has no rights on this machine: nothing by which the machine
    /// shows who it is.
    pub fn without_credentials(&self) -> Self {
        let mut open = self.clone();
        for host in open.hosts.values_mut() {
            host.credentials = None;
            (host.tls.cert_file, host.tls.key_file) = (None, None);
        }
        open
    }

    /// The same without this node's certificate: for what is done in somebody's name, who shows credentials or is nobody.
    pub(crate) fn without_node(&self) -> Self {
        let mut open = self.clone();
        for host in open.hosts.values_mut().filter(|host| host.of_node) {
            (host.tls.cert_file, host.tls.key_file) = (None, None);
        }
        open
    }

    /// Asks the registry at `authority`, which is known as built in, for images of `origin` before any other.
    pub fn copied(&mut self, origin: &str, authority: &str) {
        let base = Base { scheme: Scheme::Https, authority: authority.to_owned(), path: "/v2".to_owned() };
        let mut mirror = self.mirrors.get(origin).or_else(|| self.mirrors.get("*")).cloned().unwrap_or_default();
        mirror.copies = Some(base);
        self.mirrors.insert(origin.to_owned(), mirror);
    }

    /// Where `reference` may be had, in the order to try.
    pub(super) fn endpoints(&self, reference: &Reference) -> Vec<Endpoint> {
        let domain = reference.domain();
        let mirror = self.mirrors.get(domain).or_else(|| self.mirrors.get("*"));
        let mut endpoints: Vec<Endpoint> = Vec::new();
        if let Some(mirror) = mirror {
            endpoints.extend(mirror.copies.iter().map(|base| Endpoint {
                base: base.clone(),
                repository: reference.path().to_owned(),
                mirror_of: Some(domain.to_owned()),
                credentials: None,
            }));
            let repository = mirror.rewrite(reference.path());
            for base in &mirror.endpoints {
                endpoints.push(Endpoint {
                    base: base.clone(),
                    repository: repository.clone(),
                    // Where there is nothing else to ask, it is the registry itself.
                    mirror_of: (!mirror.only).then(|| domain.to_owned()),
                    credentials: self.host(&base.authority).and_then(|host| host.credentials.clone()),
                });
            }
        }
        if !mirror.is_some_and(|mirror| mirror.only) {
            endpoints.push(self.own(reference));
        }
        endpoints
    }

    /// Where `reference` is pushed to: no mirror, but the registry itself.
    pub(crate) fn home(&self, reference: &Reference) -> Endpoint {
        match self.mirrors.get(reference.domain()).filter(|mirror| mirror.only) {
            Some(mirror) if !mirror.endpoints.is_empty() => Endpoint {
                base: mirror.endpoints[0].clone(),
                repository: reference.path().to_owned(),
                mirror_of: None,
                credentials: None,
            },
            _ => self.own(reference),
        }
    }

    fn own(&self, reference: &Reference) -> Endpoint {
        let domain = reference.domain();
        let authority = if domain == "docker.io" { DOCKER_HUB } else { domain };
        let host = self.host(authority).or_else(|| self.host(domain));
        // Configured certificates mean that TLS is meant.
        let scheme = match is_loopback(authority) && host.is_none_or(|host| host.tls == Tls::default()) {
            true => Scheme::Either,
            false => Scheme::Https,
        };
        Endpoint {
            base: Base { scheme, authority: authority.to_owned(), path: "/v2".to_owned() },
            repository: reference.path().to_owned(),
            mirror_of: None,
            credentials: host.and_then(|host| host.credentials.clone()),
        }
    }

    /// What is configured for a host, written with or without the usual port.
    pub(super) fn host(&self, authority: &str) -> Option<&Host> {
        let bare = authority.strip_suffix(":443").or_else(|| authority.strip_suffix(":80")).unwrap_or(authority);
        let find = |name: &str| self.hosts.get(name);
        find(authority)
            .or_else(|| find(bare))
            .or_else(|| find(&format!("{bare}:443")))
            .or_else(|| (bare == DOCKER_HUB).then(|| find("docker.io")).flatten())
            .or_else(|| find("*"))
    }
}

impl Mirror {
    /// The first rewrite that matches.
    fn rewrite(&self, repository: &str) -> String {
        let fits = self.rewrites.iter().find(|(pattern, _)| pattern.is_match(repository));
        match fits {
            Some((pattern, replacement)) => pattern.replace(repository, replacement.as_str()).into_owned(),
            None => repository.to_owned(),
        }
    }
}

impl Base {
    fn parse(endpoint: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = match endpoint.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some((scheme, _)) => bail!("endpoint {endpoint}: {scheme} is neither http nor https"),
            None => (Scheme::Https, endpoint),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains(['@', '?', '#', ' ']) || path.contains(['?', '#', ' ']) {
            bail!("endpoint {endpoint}: not a URL of host and path");
        }
        let path = match path.trim_matches('/') {
            "" => "/v2".to_owned(),
            path if path == "v2" || path.starts_with("v2/") || path.ends_with("/v2") => format!("/{path}"),
            path => format!("/{path}/v2"),
        };
        Ok(Self { scheme, authority: authority.to_owned(), path })
    }
}

/// `$1` as `${1}`, so that letters after it do not become part of the name.
fn braced(replacement: &str) -> String {
    let mut braced = String::with_capacity(replacement.len() + 4);
    let mut letters = replacement.chars().peekable();
    while let Some(letter) = letters.next() {
        braced.push(letter);
        if letter == '$' && letters.peek().is_some_and(char::is_ascii_digit) {
            braced.push('{');
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                braced.push(digit);
            }
            braced.push('}');
        }
    }
    braced
}

/// Whether a host is this machine.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && authority.parse::<std::net::Ipv6Addr>().is_err() => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(registries: &Registries, image: &str) -> Vec<String> {
        let endpoints = registries.endpoints(&Reference::parse(image).unwrap());
        endpoints
            .iter()
            .map(|endpoint| {
                let Endpoint { base, repository, .. } = endpoint;
                format!("{:?} {}{}/{repository}", base.scheme, base.authority, base.path)
            })
            .collect()
    }

    #[test]
    fn the_clusters_own_servers_are_where_it_says() {
        let mut registries = Registries::default();
        registries.served("git.madang.internal", "[fd00::1]:3000", "/ca.crt".into());
        assert_eq!(registries.place_of("git.madang.internal", 443), Some(("fd00::1", 3000)));
        assert_eq!(registries.place_of("git.madang.internal", 80), None);
        assert_eq!(registries.host("git.madang.internal:443").unwrap().tls.ca_file, Some("/ca.crt".into()));
    }

    #[test]
    fn mirrors_come_before_the_registry_itself() {
        let registries = Registries::parse(
            r#"
mirrors:
  docker.io:
    endpoint: ["https://mirror.io:5000", "http://10.0.0.5/hub/", other.io/v2/cache]
    rewrite:
      "^library/(.*)": "hub/$1x"
  "*":
    endpoint: [https://all.io]
  plain.io:
configs:
  "mirror.io:5000":
    auth: {username: me, password: secret}
  docker.io:
    auth: {auth: "dTpw"}
  127.0.0.1:5001:
    tls: {ca_file: /ca.pem}
"#,
        )
        .unwrap();
        assert_eq!(
            urls(&registries, "nginx"),
            [
                "Https mirror.io:5000/v2/hub/nginxx",
                "Http 10.0.0.5/hub/v2/hub/nginxx",
                "Https other.io/v2/cache/hub/nginxx",
                "Https registry-1.docker.io/v2/library/nginx",
            ]
        );
        assert_eq!(urls(&registries, "quay.io/a/b"), ["Https all.io/v2/a/b", "Https quay.io/v2/a/b"]);
        assert_eq!(urls(&registries, "plain.io/a"), ["Https plain.io/v2/a"]);
        let endpoints = registries.endpoints(&Reference::parse("nginx").unwrap());
        let names: Vec<_> = endpoints.iter().map(|endpoint| format!("{:?}", endpoint.credentials)).collect();
        assert_eq!(names, ["Some(password of me)", "None", "None", "Some(password of u)"]);
        assert_eq!(endpoints[0].mirror_of.as_deref(), Some("docker.io"));
        let empty = Registries::default();
        assert_eq!(urls(&empty, "127.0.0.1:5000/a"), ["Either 127.0.0.1:5000/v2/a"]);
        assert_eq!(urls(&empty, "localhost/a"), ["Either localhost/v2/a"]);
        assert_eq!(urls(&empty, "[::1]:5000/a"), ["Either [::1]:5000/v2/a"]);
        assert_eq!(urls(&registries, "127.0.0.1:5001/a")[1], "Https 127.0.0.1:5001/v2/a");
    }

    #[test]
    fn the_built_in_registry_is_the_only_one_of_its_name_and_copies_come_first() {
        let mut registries = Registries::parse("mirrors: {\"*\": {endpoint: [https://all.io]}}").unwrap();
        registries.built_in("own.internal", "10.0.0.1:5000", ["/ca", "/crt", "/key"].map(PathBuf::from));
        registries.copied("docker.io", "10.0.0.1:5000");
        assert_eq!(urls(&registries, "own.internal/team/app"), ["Https 10.0.0.1:5000/v2/team/app"]);
        assert_eq!(registries.host("10.0.0.1:5000").unwrap().tls.ca_file, Some("/ca".into()));
        let expected = [
            "Https 10.0.0.1:5000/v2/library/nginx",
            "Https all.io/v2/library/nginx",
            "Https registry-1.docker.io/v2/library/nginx",
        ];
        assert_eq!(urls(&registries, "nginx"), expected);
    }

    #[test]
    fn who_acts_in_somebodys_name_does_not_show_the_nodes_certificate() {
        let text = "configs: {other.io: {auth: {auth: dTpw}, tls: {cert_file: /c, key_file: /k}}}";
        let mut registries = Registries::parse(text).unwrap();
        registries.built_in("own.internal", "10.0.0.1:5000", ["/ca", "/crt", "/key"].map(PathBuf::from));
        let open = registries.without_node();
        let shown = |registries: &Registries, host: &str| registries.host(host).unwrap().tls.cert_file.clone();
        assert_eq!(shown(&registries, "10.0.0.1:5000"), Some("/crt".into()));
        assert_eq!(shown(&open, "10.0.0.1:5000"), None);
        assert_eq!(open.host("10.0.0.1:5000").unwrap().tls.ca_file, Some("/ca".into()));
        // What the file says of others stays.
        assert_eq!(shown(&open, "other.io"), Some("/c".into()));
        assert!(open.host("other.io").unwrap().credentials.is_some());
        let nothing = registries.without_credentials();
        assert_eq!((shown(&nothing, "other.io"), shown(&nothing, "10.0.0.1:5000")), (None, None));
        assert!(nothing.host("other.io").unwrap().credentials.is_none());
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        let cases = [
            ("mirrors: [a]", "read registries"),
            ("mirror: {}", "unknown field"),
            ("mirrors: {a: {endpoint: [\"ftp://x\"]}}", "ftp is neither"),
            ("mirrors: {a: {endpoint: [\"https://\"]}}", "not a URL"),
            ("mirrors: {a: {rewrite: {\"(\": b}}}", "rewrite ("),
            ("configs: {a: {tls: {cert_file: /x}}}", "belong together"),
            ("configs: {a: {auth: {auth: \"%\"}}}", "not base64"),
        ];
        for (text, reason) in cases {
            let error = format!("{:#}", Registries::parse(text).unwrap_err());
            assert!(error.contains(reason), "{error} does not say {reason}");
        }
        assert!(Registries::parse("").is_ok() && Registries::parse("mirrors:\nconfigs:\n").is_ok());
    }
}
