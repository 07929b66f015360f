//! Who one is to registries, and which of many credentials are for an image.
//!
//! A [`Keyring`] reads docker's `config.json` and Kubernetes' `kubernetes.io/dockerconfigjson` and
//! `kubernetes.io/dockercfg` Secrets, and matches as the kubelet does:
//! <https://kubernetes.io/docs/concepts/containers/images/#config-json>.

use std::{cmp::Reverse, collections::HashMap, fmt};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use oci::Reference;
use serde::Deserialize;

/// Who one is to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Name and password.
    Password {
        /// Name.
        username: String,
        /// Password.
        password: String,
    },
    /// A refresh token, exchanged for access tokens.
    Identity(String),
    /// An access token that the registry takes as it is.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { username, .. } => write!(f, "password of {username}"),
            Self::Identity(_) => f.write_str("identity token"),
            Self::Token(_) => f.write_str("token"),
        }
    }
}

/// An entry of `auths`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

impl Entry {
    fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(self.identitytoken.clone())));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::Token(self.registrytoken.clone())));
        }
        from_parts(&self.username, &self.password, &self.auth)
    }
}

/// Name and password, given apart or as base64 of `name:password`, which wins.
pub(super) fn from_parts(username: &str, password: &str, auth: &str) -> anyhow::Result<Option<Credentials>> {
    if auth.is_empty() {
        let given = !username.is_empty() || !password.is_empty();
        return Ok(given.then(|| Credentials::Password { username: username.into(), password: password.into() }));
    }
    // Some writers leave out the padding.
    let decoded = STANDARD.decode(auth).or_else(|_| base64::engine::general_purpose::STANDARD_NO_PAD.decode(auth));
    let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()).context("auth is not base64 text")?;
    match decoded.trim_end_matches('\0').split_once(':') {
        Some((username, password)) => {
            Ok(Some(Credentials::Password { username: username.into(), password: password.into() }))
        }
        None => bail!("auth has no colon between name and password"),
    }
}

impl Credentials {
    /// Reads one entry as docker's clients send it with a request; none where it is empty.
    pub fn parse(document: &[u8]) -> anyhow::Result<Option<Self>> {
        let entry: Entry = serde_json::from_slice(document).context("read registry credentials")?;
        entry.credentials()
    }

    /// As docker's clients send them with a request.
    pub fn document(&self) -> serde_json::Value {
        match self {
            Self::Password { username, password } => serde_json::json!({"username": username, "password": password}),
            Self::Identity(token) => serde_json::json!({"identitytoken": token}),
            Self::Token(token) => serde_json::json!({"registrytoken": token}),
        }
    }
}

/// Credentials by registry and repository prefix.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// Longer and later patterns first.
    entries: Vec<(Pattern, Credentials)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pattern {
    text: String,
}

impl Keyring {
    /// Reads `{"auths": {...}}`, or the same without `auths` as `.dockercfg` had it.
    pub fn parse(document: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            auths: Option<HashMap<String, Entry>>,
        }
        let value: serde_json::Value = serde_json::from_slice(document).context("read registry credentials")?;
        let is_config =
            ["auths", "credHelpers", "credsStore", "HttpHeaders"].iter().any(|key| value.get(key).is_some());
        let auths = match is_config {
            true => Config::deserialize(value).context("read registry credentials")?.auths.unwrap_or_default(),
            false => HashMap::deserialize(value).context("read registry credentials")?,
        };
        let mut keyring = Self::default();
        for (location, entry) in auths {
            let credentials = entry.credentials().with_context(|| format!("credentials for {location}"))?;
            if let Some(credentials) = credentials {
                keyring.entries.push((Pattern::new(&location), credentials));
            }
        }
        keyring.sort();
        Ok(keyring)
    }

    /// Takes over the entries of another keyring.
    pub fn extend(&mut self, other: Keyring) {
        self.entries.extend(other.entries);
        self.sort();
    }

    /// Whole registries that there are credentials for, as images name them; patterns and parts of registries are not among them.
    pub fn registries(&self) -> impl Iterator<Item = (String, &Credentials)> {
        let whole = self.entries.iter().filter(|(pattern, _)| !pattern.text.contains(['/', '*', '?']));
        whole.map(|(pattern, credentials)| {
            let hub = matches!(pattern.text.as_str(), "index.docker.io" | "registry-1.docker.io");
            (if hub { "docker.io".to_owned() } else { pattern.text.clone() }, credentials)
        })
    }

    fn sort(&mut self) {
        self.entries.sort_by_key(|(pattern, _)| Reverse(pattern.clone()));
    }

    /// Credentials for an image, the most specific first.
    pub fn lookup(&self, reference: &Reference) -> Vec<Credentials> {
        let image = reference.repository();
        let of = |text: &str| -> Vec<Credentials> {
            let matching = self.entries.iter().filter(|(pattern, _)| pattern.matches(text));
            matching.map(|(_, credentials)| credentials.clone()).collect()
        };
        let found = of(&image);
        match found.is_empty() && reference.domain() == "docker.io" {
            true => of(&format!("index.docker.io/{}", reference.path())),
            false => found,
        }
    }
}

impl Pattern {
    fn new(location: &str) -> Self {
        let text = location.strip_prefix("https://").or_else(|| location.strip_prefix("http://")).unwrap_or(location);
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        // The API's version was written into keys once.
        let path = path.strip_prefix("v1/").or_else(|| path.strip_prefix("v2/")).unwrap_or(path);
        let path = match path.trim_end_matches('/') {
            "v1" | "v2" => "",
            path => path,
        };
        Self { text: if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") } }
    }

    /// Parts of the host match by `*` and `?`, the port as it is, the path as a prefix.
    fn matches(&self, image: &str) -> bool {
        let (pattern_host, pattern_path) = self.text.split_once('/').unwrap_or((&self.text, ""));
        let (host, path) = image.split_once('/').unwrap_or((image, ""));
        let split = |host: &str| match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name.to_owned(), Some(port.to_owned())),
            _ => (host.to_owned(), None),
        };
        let ((pattern_name, pattern_port), (name, port)) = (split(pattern_host), split(host));
        let (pattern_parts, parts): (Vec<_>, Vec<_>) = (pattern_name.split('.').collect(), name.split('.').collect());
        pattern_port == port
            && path.starts_with(pattern_path)
            && pattern_parts.len() == parts.len()
            && pattern_parts.iter().zip(&parts).all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()))
    }
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skipped| glob(rest, &text[skipped..])),
        ([b'?', rest @ ..], [_, after @ ..]) => glob(rest, after),
        ([letter, rest @ ..], [other, after @ ..]) => letter == other && glob(rest, after),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keyring: &Keyring, image: &str) -> Vec<String> {
        let found = keyring.lookup(&Reference::parse(image).unwrap());
        found.iter().map(|credentials| format!("{credentials:?}").replace("password of ", "")).collect()
    }

    fn keyring(locations: &[&str]) -> Keyring {
        let auths: serde_json::Map<_, _> = locations
            .iter()
            .map(|location| {
                let auth = STANDARD.encode(format!("{location}:secret"));
                ((*location).to_owned(), serde_json::json!({"auth": auth}))
            })
            .collect();
        Keyring::parse(&serde_json::to_vec(&serde_json::json!({"auths": auths})).unwrap()).unwrap()
    }

    #[test]
    fn credentials_are_found_as_the_kubelet_finds_them() {
        let keyring = {
            // A colon in the key would end the name in `name:password`, so names without one are used here.
            keyring(&["quay.io", "quay.io/team", "*.example.com", "index.docker.io/v1/", "gcr.io/v2/project"])
        };
        let cases: &[(&str, &[&str])] = &[
            ("quay.io/other/app", &["quay.io"]),
            ("quay.io/team/app", &["quay.io/team", "quay.io"]),
            ("eu.example.com/app", &["*.example.com"]),
            ("a.b.example.com/app", &[]),
            ("example.com/app", &[]),
            ("eu.example.com:5000/app", &[]),
            ("nginx", &["index.docker.io/v1/"]),
            ("docker.io/team/app", &["index.docker.io/v1/"]),
            ("gcr.io/project/app", &["gcr.io/v2/project"]),
            ("gcr.io/other/app", &[]),
        ];
        for (image, expected) in cases {
            assert_eq!(names(&keyring, image), *expected, "{image}");
        }
    }

    #[test]
    fn whole_registries_are_told_as_images_name_them() {
        let keyring =
            keyring(&["quay.io", "quay.io/team", "*.example.com", "https://index.docker.io/v1/", "a.io:5000"]);
        let mut told: Vec<String> = keyring.registries().map(|(registry, _)| registry).collect();
        told.sort();
        assert_eq!(told, ["a.io:5000", "docker.io", "quay.io"]);
    }

    #[test]
    fn every_form_of_secret_is_read() {
        let read = |document: &str, image: &str| {
            Keyring::parse(document.as_bytes()).map(|keyring| keyring.lookup(&Reference::parse(image).unwrap()))
        };
        let password = |username: &str, password: &str| Credentials::Password {
            username: username.into(),
            password: password.into(),
        };
        assert_eq!(
            read(r#"{"auths":{"https://a.io:5000/v2/":{"username":"u","password":"p:q"}}}"#, "a.io:5000/x").unwrap(),
            [password("u", "p:q")]
        );
        assert_eq!(read(r#"{"a.io":{"auth":"dTpwOnE="}}"#, "a.io/x").unwrap(), [password("u", "p:q")]);
        assert_eq!(read(r#"{"a.io":{"auth":"dTpwOnE"}}"#, "a.io/x").unwrap(), [password("u", "p:q")]);
        assert_eq!(
            read(r#"{"auths":{"a.io":{"auth":"dTpw","identitytoken":"t"}}}"#, "a.io/x").unwrap(),
            [Credentials::Identity("t".into())]
        );
        assert_eq!(
            read(r#"{"auths":{"a.io":{"registrytoken":"t"}}}"#, "a.io/x").unwrap(),
            [Credentials::Token("t".into())]
        );
        assert_eq!(read(r#"{"credsStore":"desktop"}"#, "a.io/x").unwrap(), []);
        assert_eq!(read(r#"{"auths":{"a.io":{}}}"#, "a.io/x").unwrap(), []);
        for bad in ["", "[]", r#"{"auths":{"a.io":{"auth":"%%"}}}"#, r#"{"auths":{"a.io":{"auth":"dQ=="}}}"#] {
            assert!(read(bad, "a.io/x").is_err(), "{bad}");
        }
    }
}
