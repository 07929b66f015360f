//! What can be configured of the way in.

use std::{collections::BTreeMap, path::Path};

use tsdb::labels::quote;

use crate::{
    config::units::{Secret, Span, join},
    http_client::settings::Version,
    yaml::{self, Fields, Record},
};

/// Headers that may be configured, and their values where only some may be.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];
/// Bytes of the file at most.
const LARGEST: u64 = 4 << 20;

/// What a connection presents and asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// Certificates.
    pub cert: String,
    /// Their key.
    pub key: Secret,
    /// Authorities of clients.
    pub client_ca: String,
    /// A file with certificates.
    pub cert_file: String,
    /// A file with their key.
    pub key_file: String,
    /// Whether clients must show certificates.
    pub client_auth_type: String,
    /// A file with authorities of clients.
    pub client_ca_file: String,
    /// Ciphers of TLS 1.2 by Go's names; all that are secure if empty.
    pub cipher_suites: Vec<String>,
    /// Curves by Go's names; all if empty.
    pub curve_preferences: Vec<String>,
    /// The lowest version.
    pub min_version: Version,
    /// The highest version.
    pub max_version: Version,
    /// Read, and without effect: the server always prefers its own order.
    pub prefer_server_cipher_suites: bool,
    /// Names of which a client's certificate must have one.
    pub client_allowed_sans: Vec<String>,
}

impl Record for Tls {
    const TYPE: &'static str = "web.TLSConfig";

    fn start() -> Option<Self> {
        let (min_version, max_version) = (Version::Tls12, Version::Tls13);
        Some(Self { min_version, max_version, prefer_server_cipher_suites: true, ..Self::default() })
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("cert", &mut self.cert);
        fields.field("key", &mut self.key);
        fields.field("client_ca", &mut self.client_ca);
        fields.field("cert_file", &mut self.cert_file);
        fields.field("key_file", &mut self.key_file);
        fields.field("client_auth_type", &mut self.client_auth_type);
        fields.field("client_ca_file", &mut self.client_ca_file);
        fields.field("cipher_suites", &mut self.cipher_suites);
        fields.field("curve_preferences", &mut self.curve_preferences);
        fields.field("min_version", &mut self.min_version);
        fields.field("max_version", &mut self.max_version);
        fields.field("prefer_server_cipher_suites", &mut self.prefer_server_cipher_suites);
        fields.field("client_allowed_sans", &mut self.client_allowed_sans);
    }
}

impl Tls {
    /// Whether anything of it is configured.
    pub fn is_enabled(&self) -> bool {
        let texts = [
            &self.cert,
            &self.cert_file,
            &self.key.0,
            &self.key_file,
            &self.client_ca,
            &self.client_ca_file,
            &self.client_auth_type,
        ];
        texts.into_iter().any(|text| !text.is_empty())
    }
}

/// HTTP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Http {
    /// Whether HTTP/2 is offered in TLS.
    pub http2: bool,
    /// Headers of each answer.
    pub headers: BTreeMap<String, String>,
}

impl Record for Http {
    const TYPE: &'static str = "web.HTTPConfig";

    fn start() -> Option<Self> {
        Some(Self { http2: true, ..Self::default() })
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("http2", &mut self.http2);
        fields.field("headers", &mut self.headers);
    }

    fn check(&mut self) -> Result<(), String> {
        for (name, value) in &self.headers {
            let Some((_, values)) = HEADERS.iter().find(|known| known.0 == name) else {
                return Err(format!("HTTP header {} can not be configured", quote(name)));
            };
            if !values.is_empty() && !values.contains(&value.as_str()) {
                let expected: Vec<String> = values.iter().map(|value| quote(value)).collect();
                let (expected, got) = (expected.join(" "), quote(value));
                return Err(format!("invalid value for {name}. Expected one of: [{expected}], but got: {got}"));
            }
            if http::HeaderValue::try_from(value).is_err() {
                return Err(format!("header {name} holds characters that no header can carry"));
            }
        }
        Ok(())
    }
}

/// How often requests are let in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RateLimit {
    /// How many may come at once.
    pub burst: i64,
    /// One more after so long; without end if zero.
    pub interval: Span,
}

impl Record for RateLimit {
    const TYPE: &'static str = "web.RateLimiterConfig";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("burst", &mut self.burst);
        fields.field("interval", &mut self.interval);
    }
}

/// All of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// TLS.
    pub tls_server_config: Tls,
    /// HTTP.
    pub http_server_config: Http,
    /// How often requests are let in.
    pub rate_limit: RateLimit,
    /// Users and the hashes of their passwords, as bcrypt makes them.
    pub users: BTreeMap<String, Secret>,
}

impl Record for Settings {
    const TYPE: &'static str = "web.Config";

    fn start() -> Option<Self> {
        Some(Self {
            tls_server_config: Tls::start().unwrap_or_default(),
            http_server_config: Http::start().unwrap_or_default(),
            ..Self::default()
        })
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("tls_server_config", &mut self.tls_server_config);
        fields.field("http_server_config", &mut self.http_server_config);
        fields.field("rate_limit", &mut self.rate_limit);
        fields.field("basic_auth_users", &mut self.users);
    }

    fn check(&mut self) -> Result<(), String> {
        for (user, hash) in &self.users {
            hash.0
                .parse::<bcrypt::HashParts>()
                .map_err(|error| format!("password of user {}: {error}", quote(user)))?;
        }
        Ok(())
    }
}

impl Settings {
    /// Reads the file; relative names in it are below its directory.
    pub fn load(file: &Path) -> Result<Self, String> {
        let wrong = |error: std::io::Error| format!("open {}: {error}", file.display());
        if std::fs::metadata(file).map_err(wrong)?.len() > LARGEST {
            return Err(format!("open {}: larger than {LARGEST} bytes", file.display()));
        }
        let text = std::fs::read_to_string(file).map_err(wrong)?;
        let mut settings = Self::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        let (dir, tls) = (file.parent().unwrap_or(Path::new("")), &mut settings.tls_server_config);
        for name in [&mut tls.cert_file, &mut tls.key_file, &mut tls.client_ca_file] {
            join(dir, name);
        }
        Ok(settings)
    }

    /// Reads what a file holds.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut settings = <Self as Record>::start().unwrap_or_default();
        yaml::read(text, &mut settings)?;
        Ok(settings)
    }
}
