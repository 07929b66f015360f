//! What can be configured of a client.

use std::{collections::BTreeMap, path::Path};

use crate::{
    config::units::{Address, Secret, join},
    yaml::{Fields, Node, Print, Problems, Record, Stop, Value},
};

/// The grant by a signed token instead of a secret.
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Headers that nobody may set.
const RESERVED: [&str; 18] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// How many of these are set.
fn count<const N: usize>(set: [bool; N]) -> usize {
    set.into_iter().filter(|set| *set).count()
}

/// A name and a password.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BasicAuth {
    /// The name.
    pub username: String,
    /// A file with it.
    pub username_file: String,
    /// Its name in a secret manager.
    pub username_ref: String,
    /// The password.
    pub password: Secret,
    /// A file with it.
    pub password_file: String,
    /// Its name in a secret manager.
    pub password_ref: String,
}

impl Record for BasicAuth {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("username", &mut self.username);
        fields.field("username_file", &mut self.username_file);
        fields.field("username_ref", &mut self.username_ref);
        fields.field("password", &mut self.password);
        fields.field("password_file", &mut self.password_file);
        fields.field("password_ref", &mut self.password_ref);
    }
}

/// The `Authorization` header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Authorization {
    /// Its first word.
    pub kind: String,
    /// What follows.
    pub credentials: Secret,
    /// A file with it.
    pub credentials_file: String,
    /// Its name in a secret manager.
    pub credentials_ref: String,
}

impl Record for Authorization {
    const TYPE: &'static str = "config.Authorization";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("type", &mut self.kind);
        fields.field("credentials", &mut self.credentials);
        fields.field("credentials_file", &mut self.credentials_file);
        fields.field("credentials_ref", &mut self.credentials_ref);
    }
}

/// A lowest or highest version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// As the library likes.
    #[default]
    Any,
    /// 1.0
    Tls10,
    /// 1.1
    Tls11,
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

const VERSIONS: [(&str, Version); 4] =
    [("TLS10", Version::Tls10), ("TLS11", Version::Tls11), ("TLS12", Version::Tls12), ("TLS13", Version::Tls13)];

impl Value for Version {
    fn read(&mut self, node: &Node, problems: &mut Problems) -> Result<(), Stop> {
        let Some(text) = node.text() else {
            problems.mismatch(node, "string");
            return Ok(());
        };
        match VERSIONS.iter().find(|(name, _)| *name == text) {
            Some((_, version)) => *self = *version,
            None => return Err(format!("unknown TLS version: {text}").into()),
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::Any;
    }

    fn is_empty(&self) -> bool {
        *self == Self::Any
    }

    fn print(&mut self) -> Print {
        Print::Text(VERSIONS.iter().find(|known| known.1 == *self).map_or("", |known| known.0).to_owned())
    }
}

/// Who is believed, and who we are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// Certificates of authorities.
    pub ca: String,
    /// Our certificates.
    pub cert: String,
    /// Our key.
    pub key: Secret,
    /// A file of authorities.
    pub ca_file: String,
    /// A file of our certificates.
    pub cert_file: String,
    /// A file with our key.
    pub key_file: String,
    /// Authorities by their name in a secret manager.
    pub ca_ref: String,
    /// Our certificates by their name in a secret manager.
    pub cert_ref: String,
    /// Our key by its name in a secret manager.
    pub key_ref: String,
    /// The name that the other side must prove, if not that of the address.
    pub server_name: String,
    /// Believe everybody.
    pub insecure_skip_verify: bool,
    /// The lowest version.
    pub min_version: Version,
    /// The highest version.
    pub max_version: Version,
}

impl Record for Tls {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("ca", &mut self.ca);
        fields.field("cert", &mut self.cert);
        fields.field("key", &mut self.key);
        fields.field("ca_file", &mut self.ca_file);
        fields.field("cert_file", &mut self.cert_file);
        fields.field("key_file", &mut self.key_file);
        fields.field("ca_ref", &mut self.ca_ref);
        fields.field("cert_ref", &mut self.cert_ref);
        fields.field("key_ref", &mut self.key_ref);
        fields.field("server_name", &mut self.server_name);
        fields.always("insecure_skip_verify", &mut self.insecure_skip_verify);
        fields.field("min_version", &mut self.min_version);
        fields.field("max_version", &mut self.max_version);
    }

    fn check(&mut self) -> Result<(), String> {
        let given = |text: &str, file: &str, name: &str| count([!text.is_empty(), !file.is_empty(), !name.is_empty()]);
        let (ca, cert, key) = (
            given(&self.ca, &self.ca_file, &self.ca_ref),
            given(&self.cert, &self.cert_file, &self.cert_ref),
            given(&self.key.0, &self.key_file, &self.key_ref),
        );
        for (what, given) in [("ca", ca), ("cert", cert), ("key", key)] {
            if given > 1 {
                return Err(format!("at most one of {what}, {what}_file & {what}_ref must be configured"));
            }
        }
        if cert > 0 && key == 0 {
            return Err(
                "exactly one of key or key_file must be configured when a client certificate is configured".to_owned()
            );
        }
        if key > 0 && cert == 0 {
            return Err(
                "exactly one of cert or cert_file must be configured when a client key is configured".to_owned()
            );
        }
        Ok(())
    }
}

impl Tls {
    /// Relative names are below `dir` from now on.
    pub fn set_directory(&mut self, dir: &Path) {
        for file in [&mut self.ca_file, &mut self.cert_file, &mut self.key_file] {
            join(dir, file);
        }
    }
}

/// Which way requests go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxy {
    /// The proxy.
    pub proxy_url: Address,
    /// What is reached without it, separated by commas.
    pub no_proxy: String,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` count.
    pub proxy_from_environment: bool,
    /// Headers for the proxy.
    pub proxy_connect_header: BTreeMap<String, Vec<Secret>>,
}

impl Proxy {
    /// Names the fields among those of a surrounding record.
    pub fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("proxy_url", &mut self.proxy_url);
        fields.field("no_proxy", &mut self.no_proxy);
        fields.field("proxy_from_environment", &mut self.proxy_from_environment);
        fields.field("proxy_connect_header", &mut self.proxy_connect_header);
    }

    fn check(&self) -> Result<(), String> {
        let named = !self.proxy_url.0.is_empty();
        if !self.proxy_connect_header.is_empty() && !self.proxy_from_environment && !named {
            return Err(
                "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured"
                    .to_owned(),
            );
        }
        if self.proxy_from_environment && named {
            return Err("if proxy_from_environment is configured, proxy_url must not be configured".to_owned());
        }
        if self.proxy_from_environment && !self.no_proxy.is_empty() {
            return Err("if proxy_from_environment is configured, no_proxy must not be configured".to_owned());
        }
        if !named && !self.no_proxy.is_empty() {
            return Err("if no_proxy is configured, proxy_url must also be configured".to_owned());
        }
        Ok(())
    }
}

/// Tokens that are fetched from somebody who grants them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OAuth2 {
    /// Who asks.
    pub client_id: String,
    /// The secret.
    pub client_secret: Secret,
    /// A file with it.
    pub client_secret_file: String,
    /// Its name in a secret manager.
    pub client_secret_ref: String,
    /// Which key signs.
    pub client_certificate_key_id: String,
    /// The key that signs.
    pub client_certificate_key: Secret,
    /// A file with it.
    pub client_certificate_key_file: String,
    /// Its name in a secret manager.
    pub client_certificate_key_ref: String,
    /// `client_credentials`, or [`JWT_BEARER`].
    pub grant_type: String,
    /// `RS256`, `RS384` or `RS512`.
    pub signature_algorithm: String,
    /// Who issues the signed token.
    pub iss: String,
    /// For whom it is.
    pub audience: String,
    /// What else it says.
    pub claims: BTreeMap<String, String>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Where to ask.
    pub token_url: String,
    /// Further parameters.
    pub endpoint_params: BTreeMap<String, String>,
    /// How to speak with whom is asked.
    pub tls_config: Tls,
    /// Which way.
    pub proxy: Proxy,
}

impl Record for OAuth2 {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("client_id", &mut self.client_id);
        fields.field("client_secret", &mut self.client_secret);
        fields.field("client_secret_file", &mut self.client_secret_file);
        fields.field("client_secret_ref", &mut self.client_secret_ref);
        fields.field("client_certificate_key_id", &mut self.client_certificate_key_id);
        fields.field("client_certificate_key", &mut self.client_certificate_key);
        fields.field("client_certificate_key_file", &mut self.client_certificate_key_file);
        fields.field("client_certificate_key_ref", &mut self.client_certificate_key_ref);
        fields.field("grant_type", &mut self.grant_type);
        fields.field("signature_algorithm", &mut self.signature_algorithm);
        fields.field("iss", &mut self.iss);
        fields.field("audience", &mut self.audience);
        fields.field("claims", &mut self.claims);
        fields.field("scopes", &mut self.scopes);
        fields.field("token_url", &mut self.token_url);
        fields.field("endpoint_params", &mut self.endpoint_params);
        fields.field("tls_config", &mut self.tls_config);
        self.proxy.fields(fields);
    }

    fn check(&mut self) -> Result<(), String> {
        self.proxy.check()
    }
}

/// The values of one additional header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Values.
    pub values: Vec<String>,
    /// Values that are not shown.
    pub secrets: Vec<Secret>,
    /// Files with values.
    pub files: Vec<String>,
}

impl Record for Header {
    const TYPE: &'static str = "config.Header";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("values", &mut self.values);
        fields.field("secrets", &mut self.secrets);
        fields.field("files", &mut self.files);
    }
}

/// All that can be configured of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpClient {
    /// A name and a password.
    pub basic_auth: Option<BasicAuth>,
    /// The `Authorization` header.
    pub authorization: Option<Authorization>,
    /// Tokens.
    pub oauth2: Option<OAuth2>,
    /// A token, as it was written formerly.
    pub bearer_token: Secret,
    /// A file with a token, as it was written formerly.
    pub bearer_token_file: String,
    /// TLS.
    pub tls_config: Tls,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 is offered in TLS.
    pub enable_http2: bool,
    /// Which way.
    pub proxy: Proxy,
    /// Additional headers.
    pub http_headers: BTreeMap<String, Header>,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            oauth2: None,
            bearer_token: Secret::default(),
            bearer_token_file: String::new(),
            tls_config: Tls::default(),
            follow_redirects: true,
            enable_http2: true,
            proxy: Proxy::default(),
            http_headers: BTreeMap::new(),
        }
    }
}

impl Record for HttpClient {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("basic_auth", &mut self.basic_auth);
        fields.field("authorization", &mut self.authorization);
        fields.field("oauth2", &mut self.oauth2);
        fields.field("bearer_token", &mut self.bearer_token);
        fields.field("bearer_token_file", &mut self.bearer_token_file);
        fields.field("tls_config", &mut self.tls_config);
        fields.always("follow_redirects", &mut self.follow_redirects);
        fields.always("enable_http2", &mut self.enable_http2);
        self.proxy.fields(fields);
        fields.field("http_headers", &mut self.http_headers);
    }

    fn check(&mut self) -> Result<(), String> {
        self.validate()
    }
}

impl HttpClient {
    /// Whether it makes sense. A record that holds these fields among its own calls it.
    pub fn validate(&mut self) -> Result<(), String> {
        let token = [!self.bearer_token.0.is_empty(), !self.bearer_token_file.is_empty()];
        let both = |what: &str| Err(format!("at most one of {what} must be configured"));
        if count(token) > 1 {
            return both("bearer_token & bearer_token_file");
        }
        if (self.basic_auth.is_some() || self.oauth2.is_some()) && count(token) > 0 {
            return both("basic_auth, oauth2, bearer_token & bearer_token_file");
        }
        if let Some(basic) = &self.basic_auth {
            if count([!basic.username.is_empty(), !basic.username_file.is_empty(), !basic.username_ref.is_empty()]) > 1
            {
                return both("basic_auth username, username_file & username_ref");
            }
            if count([!basic.password.0.is_empty(), !basic.password_file.is_empty(), !basic.password_ref.is_empty()])
                > 1
            {
                return both("basic_auth password, password_file & password_ref");
            }
        }
        if let Some(header) = &mut self.authorization {
            if count(token) > 0 {
                return Err("authorization is not compatible with bearer_token & bearer_token_file".to_owned());
            }
            let given = [
                !header.credentials.0.is_empty(),
                !header.credentials_file.is_empty(),
                !header.credentials_ref.is_empty(),
            ];
            if count(given) > 1 {
                return both("authorization credentials & credentials_file");
            }
            header.kind = header.kind.trim().to_owned();
            if header.kind.is_empty() {
                header.kind = "Bearer".to_owned();
            }
            if header.kind.eq_ignore_ascii_case("basic") {
                return Err("authorization type cannot be set to \"basic\", use \"basic_auth\" instead".to_owned());
            }
            if self.basic_auth.is_some() || self.oauth2.is_some() {
                return both("basic_auth, oauth2 & authorization");
            }
        } else if count(token) > 0 {
            self.authorization = Some(Authorization {
                kind: "Bearer".to_owned(),
                credentials: std::mem::take(&mut self.bearer_token),
                credentials_file: std::mem::take(&mut self.bearer_token_file),
                credentials_ref: String::new(),
            });
        }
        if let Some(oauth2) = &self.oauth2 {
            if self.basic_auth.is_some() {
                return both("basic_auth, oauth2 & authorization");
            }
            Self::validate_oauth2(oauth2)?;
        }
        self.proxy.check()?;
        for name in self.http_headers.keys() {
            if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
                let name = tsdb::labels::quote(&canonical(name));
                return Err(format!("setting header {name} is not allowed"));
            }
        }
        Ok(())
    }

    fn validate_oauth2(oauth2: &OAuth2) -> Result<(), String> {
        if oauth2.client_id.is_empty() {
            return Err("oauth2 client_id must be configured".to_owned());
        }
        if oauth2.token_url.is_empty() {
            return Err("oauth2 token_url must be configured".to_owned());
        }
        let many =
            |text: &Secret, file: &str, name: &str| count([!text.0.is_empty(), !file.is_empty(), !name.is_empty()]) > 1;
        if oauth2.grant_type == JWT_BEARER {
            if many(
                &oauth2.client_certificate_key,
                &oauth2.client_certificate_key_file,
                &oauth2.client_certificate_key_ref,
            ) {
                return Err(format!(
                    "at most one of oauth2 client_certificate_key, client_certificate_key_file & client_certificate_key_ref must be configured using grant-type={JWT_BEARER}"
                ));
            }
            if !matches!(oauth2.signature_algorithm.as_str(), "" | "RS256" | "RS384" | "RS512") {
                return Err("valid signature algorithms are RS256, RS384 and RS512".to_owned());
            }
        } else if many(&oauth2.client_secret, &oauth2.client_secret_file, &oauth2.client_secret_ref) {
            return Err("at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured using grant-type=client_credentials".to_owned());
        }
        Ok(())
    }

    /// Relative names are below `dir` from now on.
    pub fn set_directory(&mut self, dir: &Path) {
        self.tls_config.set_directory(dir);
        if let Some(basic) = &mut self.basic_auth {
            join(dir, &mut basic.username_file);
            join(dir, &mut basic.password_file);
        }
        if let Some(header) = &mut self.authorization {
            join(dir, &mut header.credentials_file);
        }
        if let Some(oauth2) = &mut self.oauth2 {
            join(dir, &mut oauth2.client_secret_file);
            join(dir, &mut oauth2.client_certificate_key_file);
            oauth2.tls_config.set_directory(dir);
        }
        for header in self.http_headers.values_mut() {
            header.files.iter_mut().for_each(|file| join(dir, file));
        }
        join(dir, &mut self.bearer_token_file);
    }
}

/// A header's name as Go writes it: `X-Api-Key`.
fn canonical(name: &str) -> String {
    let word = |word: &str| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_ascii_uppercase() + &rest.to_ascii_lowercase(),
        None => word.to_owned(),
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}
