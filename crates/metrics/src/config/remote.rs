//! Where samples are sent on to, and where they are read from too.

use std::collections::BTreeMap;

use tsdb::labels::Labels;

use super::units::{Address, Secret, Span};
use crate::{
    http_client::HttpClient,
    relabel::Rule,
    yaml::{Fields, Record},
};

/// The first version of the protocol.
pub const WRITE_V1: &str = "prometheus.WriteRequest";
/// The second version of the protocol.
pub const WRITE_V2: &str = "io.prometheus.write.v2.Request";

/// Headers that nobody may set.
const RESERVED: [&str; 16] = [
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
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

pub(super) fn check_headers(headers: &BTreeMap<String, String>, authorization: &str) -> Result<(), String> {
    for name in headers.keys() {
        let lower = name.to_lowercase();
        if lower == "authorization" {
            return Err(authorization.to_owned());
        }
        if RESERVED.contains(&lower.as_str()) {
            return Err(format!("{name} is a reserved header. It must not be changed"));
        }
    }
    Ok(())
}

const AUTHORIZATION: &str = "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread or google_iam parameter";

/// Signatures for Amazon.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SigV4 {
    /// The region.
    pub region: String,
    /// The name of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: Secret,
    /// A profile of the user's files.
    pub profile: String,
    /// The role to take.
    pub role_arn: String,
    /// What the role asks for.
    pub external_id: String,
    /// The name of the session.
    pub session_name: String,
    /// Tags of the session.
    pub tags: BTreeMap<String, String>,
    /// Whether to ask at the FIPS address.
    pub use_fips_sts_endpoint: bool,
    /// The service.
    pub service_name: String,
}

impl Record for SigV4 {
    const TYPE: &'static str = "sigv4.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("region", &mut self.region);
        fields.field("access_key", &mut self.access_key);
        fields.field("secret_key", &mut self.secret_key);
        fields.field("profile", &mut self.profile);
        fields.field("role_arn", &mut self.role_arn);
        fields.field("external_id", &mut self.external_id);
        fields.field("session_name", &mut self.session_name);
        fields.field("tags", &mut self.tags);
        fields.field("use_fips_sts_endpoint", &mut self.use_fips_sts_endpoint);
        fields.field("service_name", &mut self.service_name);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.access_key.is_empty() != self.secret_key.0.is_empty() {
            return Err(
                "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config"
                    .to_owned(),
            );
        }
        for (name, value) in [("external_id", &self.external_id), ("session_name", &self.session_name)] {
            if !value.is_empty() && self.role_arn.is_empty() {
                return Err(format!("{name} can only be used with role_arn"));
            }
        }
        Ok(())
    }
}

/// One way of Azure's; which fields it has depends on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AzureWay {
    /// Who asks.
    pub client_id: String,
    /// The secret.
    pub client_secret: Secret,
    /// Where it asks.
    pub tenant_id: String,
    /// A file with a token.
    pub token_file_path: String,
    /// A file with a certificate.
    pub certificate_path: String,
    /// A file with its key.
    pub certificate_key_path: String,
    /// Its password.
    pub certificate_password: Secret,
    /// Whether all certificates are sent.
    pub send_certificate_chain: bool,
}

impl Record for AzureWay {
    const TYPE: &'static str = "azuread.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("client_id", &mut self.client_id);
        fields.field("client_secret", &mut self.client_secret);
        fields.field("tenant_id", &mut self.tenant_id);
        fields.field("token_file_path", &mut self.token_file_path);
        fields.field("certificate_path", &mut self.certificate_path);
        fields.field("certificate_key_path", &mut self.certificate_key_path);
        fields.field("certificate_password", &mut self.certificate_password);
        fields.field("send_certificate_chain", &mut self.send_certificate_chain);
    }
}

/// Tokens of Azure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AzureAd {
    /// The machine's own.
    pub managed_identity: Option<AzureWay>,
    /// The workload's own.
    pub workload_identity: Option<AzureWay>,
    /// By a secret.
    pub oauth: Option<AzureWay>,
    /// As the environment says.
    pub sdk: Option<AzureWay>,
    /// By a certificate.
    pub certificate: Option<AzureWay>,
    /// Which of Azure's clouds.
    pub cloud: String,
    /// What is asked for.
    pub scope: String,
}

impl Record for AzureAd {
    const TYPE: &'static str = "azuread.plain";

    fn start() -> Option<Self> {
        Some(Self { cloud: "AzurePublic".to_owned(), ..Self::default() })
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("managed_identity", &mut self.managed_identity);
        fields.field("workload_identity", &mut self.workload_identity);
        fields.field("oauth", &mut self.oauth);
        fields.field("sdk", &mut self.sdk);
        fields.field("certificate", &mut self.certificate);
        fields.field("cloud", &mut self.cloud);
        fields.field("scope", &mut self.scope);
    }

    fn check(&mut self) -> Result<(), String> {
        let ways = [&self.managed_identity, &self.workload_identity, &self.oauth, &self.sdk, &self.certificate];
        match ways.into_iter().flatten().count() {
            0 => Err("must provide an Azure Managed Identity, Azure Workload Identity, Azure OAuth, Azure Certificate or Azure SDK in the Azure AD config".to_owned()),
            1 => Ok(()),
            _ => Err("cannot provide multiple authentication methods in the Azure AD config".to_owned()),
        }
    }
}

/// Tokens of Google.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GoogleIam {
    /// A file with credentials.
    pub credentials_file: String,
}

impl Record for GoogleIam {
    const TYPE: &'static str = "googleiam.Config";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("credentials_file", &mut self.credentials_file);
    }
}

/// How samples are queued.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Samples of a shard that wait at most.
    pub capacity: i64,
    /// Shards at most.
    pub max_shards: i64,
    /// Shards at least.
    pub min_shards: i64,
    /// Samples of a request at most.
    pub max_samples_per_send: i64,
    /// How long a sample waits for others.
    pub batch_send_deadline: Span,
    /// The first delay after a failure.
    pub min_backoff: Span,
    /// The longest delay after a failure.
    pub max_backoff: Span,
    /// Whether to try again after a 429.
    pub retry_on_http_429: bool,
    /// How old samples may be that are sent; however old if zero.
    pub sample_age_limit: Span,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2000,
            batch_send_deadline: Span::seconds(5),
            min_backoff: Span::millis(30),
            max_backoff: Span::seconds(5),
            retry_on_http_429: false,
            sample_age_limit: Span::default(),
        }
    }
}

impl Record for Queue {
    const TYPE: &'static str = "config.QueueConfig";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("capacity", &mut self.capacity);
        fields.field("max_shards", &mut self.max_shards);
        fields.field("min_shards", &mut self.min_shards);
        fields.field("max_samples_per_send", &mut self.max_samples_per_send);
        fields.field("batch_send_deadline", &mut self.batch_send_deadline);
        fields.field("min_backoff", &mut self.min_backoff);
        fields.field("max_backoff", &mut self.max_backoff);
        fields.field("retry_on_http_429", &mut self.retry_on_http_429);
        fields.field("sample_age_limit", &mut self.sample_age_limit);
    }
}

impl Queue {
    fn validate(&self) -> Result<(), String> {
        let positive = |name: &str, value: i64| {
            if value > 0 { Ok(()) } else { Err(format!("remote write queue {name} must be positive")) }
        };
        positive("max_shards", self.max_shards)?;
        positive("min_shards", self.min_shards)?;
        if self.min_shards > self.max_shards {
            return Err("remote write queue min_shards must not be greater than max_shards".to_owned());
        }
        positive("max_samples_per_send", self.max_samples_per_send)?;
        positive("capacity", self.capacity)?;
        if self.max_backoff < self.min_backoff {
            return Err("remote write queue max_backoff must not be less than min_backoff".to_owned());
        }
        Ok(())
    }
}

/// How descriptions of metrics are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataSend {
    /// Whether they are.
    pub send: bool,
    /// How often.
    pub send_interval: Span,
    /// How many at once at most.
    pub max_samples_per_send: i64,
}

impl Default for MetadataSend {
    fn default() -> Self {
        Self { send: true, send_interval: Span::seconds(60), max_samples_per_send: 2000 }
    }
}

impl Record for MetadataSend {
    const TYPE: &'static str = "config.MetadataConfig";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("send", &mut self.send);
        fields.always("send_interval", &mut self.send_interval);
        fields.field("max_samples_per_send", &mut self.max_samples_per_send);
    }
}

/// Where samples are sent on to.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteWrite {
    /// The address.
    pub url: Address,
    /// How long a request may take.
    pub remote_timeout: Span,
    /// Additional headers.
    pub headers: BTreeMap<String, String>,
    /// Rules for series.
    pub write_relabel_configs: Vec<Rule>,
    /// Its name in metrics and logs.
    pub name: String,
    /// Whether exemplars are sent.
    pub send_exemplars: bool,
    /// Whether native histograms are sent.
    pub send_native_histograms: bool,
    /// Whether addresses of the name are used in turn.
    pub round_robin_dns: bool,
    /// [`WRITE_V1`] or [`WRITE_V2`].
    pub protobuf_message: String,
    /// Whether requests that failed are logged.
    pub failed_request_logging: bool,
    /// How it is spoken to.
    pub http: HttpClient,
    /// How samples are queued.
    pub queue_config: Queue,
    /// How descriptions are sent.
    pub metadata_config: MetadataSend,
    /// Signatures for Amazon.
    pub sigv4: Option<SigV4>,
    /// Tokens of Azure.
    pub azuread: Option<AzureAd>,
    /// Tokens of Google.
    pub google_iam: Option<GoogleIam>,
}

impl Default for RemoteWrite {
    fn default() -> Self {
        Self {
            url: Address::default(),
            remote_timeout: Span::seconds(30),
            headers: BTreeMap::new(),
            write_relabel_configs: Vec::new(),
            name: String::new(),
            send_exemplars: false,
            send_native_histograms: false,
            round_robin_dns: false,
            protobuf_message: WRITE_V1.to_owned(),
            failed_request_logging: false,
            http: HttpClient { enable_http2: false, ..HttpClient::default() },
            queue_config: Queue::default(),
            metadata_config: MetadataSend::default(),
            sigv4: None,
            azuread: None,
            google_iam: None,
        }
    }
}

impl Record for RemoteWrite {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("url", &mut self.url);
        fields.field("remote_timeout", &mut self.remote_timeout);
        fields.field("headers", &mut self.headers);
        fields.list(
            "write_relabel_configs",
            &mut self.write_relabel_configs,
            "empty or null relabeling rule in remote write config",
        );
        fields.field("name", &mut self.name);
        fields.field("send_exemplars", &mut self.send_exemplars);
        fields.field("send_native_histograms", &mut self.send_native_histograms);
        fields.field("round_robin_dns", &mut self.round_robin_dns);
        fields.field("protobuf_message", &mut self.protobuf_message);
        fields.field("failed_request_logging", &mut self.failed_request_logging);
        self.http.fields(fields);
        fields.always("queue_config", &mut self.queue_config);
        fields.always("metadata_config", &mut self.metadata_config);
        fields.field("sigv4", &mut self.sigv4);
        fields.field("azuread", &mut self.azuread);
        fields.field("google_iam", &mut self.google_iam);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.url.0.is_empty() {
            return Err("url for remote_write is empty".to_owned());
        }
        check_headers(&self.headers, AUTHORIZATION)?;
        if self.protobuf_message != WRITE_V1 && self.protobuf_message != WRITE_V2 {
            return Err(format!(
                "invalid protobuf_message value: unknown type for remote write protobuf message {}, supported: {WRITE_V1}, {WRITE_V2}",
                self.protobuf_message
            ));
        }
        self.http.validate()?;
        self.queue_config.validate()?;
        let ways = [
            ("basic_auth", self.http.basic_auth.is_some()),
            ("authorization", self.http.authorization.is_some()),
            ("oauth2", self.http.oauth2.is_some()),
            ("sigv4", self.sigv4.is_some()),
            ("azuread", self.azuread.is_some()),
            ("google_iam", self.google_iam.is_some()),
        ];
        let set: Vec<&str> = ways.into_iter().filter(|way| way.1).map(|way| way.0).collect();
        if set.len() > 1 {
            return Err(format!(
                "at most one of basic_auth, authorization, oauth2, sigv4, azuread or google_iam must be configured. Currently configured: [{}]",
                set.join(" ")
            ));
        }
        Ok(())
    }
}

/// Where samples are read from too.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteRead {
    /// The address.
    pub url: Address,
    /// How long a request may take.
    pub remote_timeout: Span,
    /// Bytes of a frame at most.
    pub chunked_read_limit: u64,
    /// Additional headers.
    pub headers: BTreeMap<String, String>,
    /// Whether it is asked for what is here too.
    pub read_recent: bool,
    /// Its name in metrics and logs.
    pub name: String,
    /// How it is spoken to.
    pub http: HttpClient,
    /// Labels that a query must ask for.
    pub required_matchers: Labels,
    /// Whether external labels are asked for.
    pub filter_external_labels: bool,
}

impl Default for RemoteRead {
    fn default() -> Self {
        Self {
            url: Address::default(),
            remote_timeout: Span::seconds(60),
            chunked_read_limit: 50_000_000,
            headers: BTreeMap::new(),
            read_recent: false,
            name: String::new(),
            http: HttpClient::default(),
            required_matchers: Labels::empty(),
            filter_external_labels: true,
        }
    }
}

impl Record for RemoteRead {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("url", &mut self.url);
        fields.field("remote_timeout", &mut self.remote_timeout);
        fields.field("chunked_read_limit", &mut self.chunked_read_limit);
        fields.field("headers", &mut self.headers);
        fields.field("read_recent", &mut self.read_recent);
        fields.field("name", &mut self.name);
        self.http.fields(fields);
        fields.field("required_matchers", &mut self.required_matchers);
        fields.field("filter_external_labels", &mut self.filter_external_labels);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.url.0.is_empty() {
            return Err("url for remote_read is empty".to_owned());
        }
        check_headers(&self.headers, AUTHORIZATION)?;
        self.http.validate()
    }
}
