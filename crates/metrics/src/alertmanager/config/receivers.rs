//! Receivers: webhooks, mail, Slack, PagerDuty. Their texts are templates.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#receiver-integration-settings>.

use std::collections::BTreeMap;

use crate::{
    config::units::{Address, Secret, Span},
    http_client::{HttpClient, settings::Tls},
    yaml::{Fields, Kind, Node, Print, Problems, Record, Stop, Value},
};

pub mod pagerduty;

pub mod slack;

use pagerduty::PagerDuty;
use slack::Slack;

/// A place where notifications go to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receiver {
    /// Its name.
    pub name: String,
    /// Labels by which it is found in the API; its name is among them.
    pub labels: BTreeMap<String, String>,
    /// Webhooks.
    pub webhooks: Vec<Webhook>,
    /// Mail.
    pub emails: Vec<Email>,
    /// Slack.
    pub slacks: Vec<Slack>,
    /// PagerDuty.
    pub pagerduties: Vec<PagerDuty>,
}

/// Names of kinds of receivers in metrics, in the order in which places are numbered.
pub const INTEGRATIONS: [&str; 4] = ["email", "pagerduty", "slack", "webhook"];

/// Kinds of receivers that upstream has and that are not here.
const ABSENT: [&str; 14] = [
    "discord_configs",
    "incidentio_configs",
    "opsgenie_configs",
    "wechat_configs",
    "pushover_configs",
    "victorops_configs",
    "sns_configs",
    "telegram_configs",
    "webex_configs",
    "msteams_configs",
    "msteamsv2_configs",
    "jira_configs",
    "rocketchat_configs",
    "mattermost_configs",
];

/// A kind of receivers that is not here.
struct Absent(&'static str);

impl Value for Absent {
    fn read(&mut self, node: &Node, _: &mut Problems) -> Result<(), Stop> {
        match &node.kind {
            Kind::List(items) if items.is_empty() => Ok(()),
            _ => Err(Stop(format!(
                "{} are not supported: use webhook_configs with something that passes notifications on",
                self.0
            ))),
        }
    }

    fn clear(&mut self) {}

    fn is_empty(&self) -> bool {
        true
    }

    fn print(&mut self) -> Print {
        Print::List(Vec::new())
    }
}

impl Record for Receiver {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("name", &mut self.name);
        fields.field("labels", &mut self.labels);
        fields.list("email_configs", &mut self.emails, "missing email config");
        fields.list("pagerduty_configs", &mut self.pagerduties, "missing pagerduty config");
        fields.field("slack_configs", &mut self.slacks);
        fields.list("webhook_configs", &mut self.webhooks, "missing webhook config");
        for name in ABSENT {
            fields.field(name, &mut Absent(name));
        }
    }

    fn check(&mut self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("missing name in receiver".to_owned());
        }
        let quote = tsdb::labels::quote;
        match self.labels.get("name") {
            Some(name) if *name != self.name => Err(format!(
                "receiver label \"name\" must match receiver name {}, got {}",
                quote(&self.name),
                quote(name)
            )),
            _ => {
                self.labels.insert("name".to_owned(), self.name.clone());
                Ok(())
            }
        }
    }
}

/// Anything that JSON can say, for payloads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Any(pub serde_json::Value);

fn to_json(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.kind {
        _ if node.is_null() => Json::Null,
        Kind::Scalar { text, plain: true, .. } => match text.as_str() {
            "true" | "yes" | "on" => Json::Bool(true),
            "false" | "no" | "off" => Json::Bool(false),
            text => match text.parse::<i64>() {
                Ok(int) => Json::from(int),
                Err(_) if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.')) => {
                    let float = text.parse().ok().and_then(serde_json::Number::from_f64);
                    float.map_or_else(|| Json::from(text), Json::Number)
                }
                Err(_) => Json::from(text),
            },
        },
        Kind::Scalar { text, .. } => Json::from(text.as_str()),
        Kind::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Kind::Map(pairs) => {
            let pairs = pairs.iter().filter_map(|(key, value)| Some((key.text()?.to_owned(), to_json(value))));
            Json::Object(pairs.collect())
        }
    }
}

fn from_json(value: &serde_json::Value) -> Print {
    use serde_json::Value as Json;
    match value {
        Json::Null => Print::Plain("null".to_owned()),
        Json::Bool(_) | Json::Number(_) => Print::Plain(value.to_string()),
        Json::String(text) => Print::Text(text.clone()),
        Json::Array(items) => Print::List(items.iter().map(from_json).collect()),
        Json::Object(pairs) => Print::Map(pairs.iter().map(|(key, value)| (key.clone(), from_json(value))).collect()),
    }
}

impl Value for Any {
    fn read(&mut self, node: &Node, _: &mut Problems) -> Result<(), Stop> {
        self.0 = to_json(node);
        Ok(())
    }

    fn clear(&mut self) {
        self.0 = serde_json::Value::Null;
    }

    fn is_empty(&self) -> bool {
        self.0.is_null()
    }

    fn print(&mut self) -> Print {
        from_json(&self.0)
    }
}

/// A POST of JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Whether ends of alerts are sent.
    pub send_resolved: bool,
    /// How requests are made.
    pub http_config: Option<HttpClient>,
    /// Where to.
    pub url: Secret,
    /// A file that says where to.
    pub url_file: String,
    /// Most alerts in a request; all if 0.
    pub max_alerts: u64,
    /// How long a request may take; as long as it wants if zero.
    pub timeout: Span,
    /// What is sent instead of the usual document.
    pub payload: Any,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            send_resolved: true,
            http_config: None,
            url: Secret::default(),
            url_file: String::new(),
            max_alerts: 0,
            timeout: Span::default(),
            payload: Any::default(),
        }
    }
}

impl Record for Webhook {
    const TYPE: &'static str = "webhook.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("send_resolved", &mut self.send_resolved);
        fields.field("http_config", &mut self.http_config);
        fields.field("url", &mut self.url);
        fields.always("url_file", &mut self.url_file);
        fields.always("max_alerts", &mut self.max_alerts);
        fields.always("timeout", &mut self.timeout);
        fields.field("payload", &mut self.payload);
    }

    fn check(&mut self) -> Result<(), String> {
        match (self.url.0.is_empty(), self.url_file.is_empty()) {
            (true, true) => Err("one of url or url_file must be configured".to_owned()),
            (false, false) => Err("at most one of url & url_file must be configured".to_owned()),
            _ if !self.url.0.contains("{{") && !self.url.0.is_empty() => {
                let url = Address::parse(&self.url.0).map_err(|error| format!("invalid URL: {error}"))?;
                match url.scheme() {
                    "http" | "https" if !url.host().is_empty() => Ok(()),
                    "http" | "https" => Err("invalid URL: missing host for URL".to_owned()),
                    scheme => Err(format!("invalid URL: unsupported scheme {} for URL", tsdb::labels::quote(scheme))),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Mail.
#[derive(Clone, Debug, PartialEq)]
pub struct Email {
    /// Whether ends of alerts are sent.
    pub send_resolved: bool,
    /// To whom.
    pub to: String,
    /// From whom.
    pub from: String,
    /// What is said to the mail server.
    pub hello: String,
    /// The mail server, with its port.
    pub smarthost: String,
    /// Who we are to the mail server.
    pub auth_username: String,
    /// The password.
    pub auth_password: Secret,
    /// A file with the password.
    pub auth_password_file: String,
    /// The secret of CRAM-MD5.
    pub auth_secret: Secret,
    /// A file with the secret of CRAM-MD5.
    pub auth_secret_file: String,
    /// As whom we act.
    pub auth_identity: String,
    /// Headers of the message.
    pub headers: BTreeMap<String, String>,
    /// The message as HTML.
    pub html: String,
    /// The message as text.
    pub text: String,
    /// Whether mail goes only over TLS.
    pub require_tls: Option<bool>,
    /// How TLS is done.
    pub tls_config: Option<Tls>,
    /// Whether TLS comes first.
    pub force_implicit_tls: Option<bool>,
    /// Whether messages of a group form a thread.
    pub threading: Threading,
}

/// Whether messages of a group form a thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Threading {
    /// Whether they do.
    pub enabled: bool,
    /// `daily` for a thread a day, or `none`.
    pub thread_by_date: String,
}

impl Record for Threading {
    const TYPE: &'static str = "config.ThreadingConfig";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("enabled", &mut self.enabled);
        fields.field("thread_by_date", &mut self.thread_by_date);
    }
}

impl Default for Email {
    fn default() -> Self {
        Self {
            send_resolved: false,
            to: String::new(),
            from: String::new(),
            hello: String::new(),
            smarthost: String::new(),
            auth_username: String::new(),
            auth_password: Secret::default(),
            auth_password_file: String::new(),
            auth_secret: Secret::default(),
            auth_secret_file: String::new(),
            auth_identity: String::new(),
            headers: BTreeMap::new(),
            html: "{{ template \"email.default.html\" . }}".to_owned(),
            text: String::new(),
            require_tls: None,
            tls_config: None,
            force_implicit_tls: None,
            threading: Threading::default(),
        }
    }
}

/// A header's name as it is usually written.
fn canonical(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let mut chars = part.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(chars.map(|c| c.to_ascii_lowercase())).collect::<String>()
    });
    parts.collect::<Vec<_>>().join("-")
}

impl Record for Email {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("send_resolved", &mut self.send_resolved);
        fields.field("to", &mut self.to);
        fields.field("from", &mut self.from);
        fields.field("hello", &mut self.hello);
        fields.field("smarthost", &mut self.smarthost);
        fields.field("auth_username", &mut self.auth_username);
        fields.field("auth_password", &mut self.auth_password);
        fields.field("auth_password_file", &mut self.auth_password_file);
        fields.field("auth_secret", &mut self.auth_secret);
        fields.field("auth_secret_file", &mut self.auth_secret_file);
        fields.field("auth_identity", &mut self.auth_identity);
        fields.field("headers", &mut self.headers);
        fields.field("html", &mut self.html);
        fields.field("text", &mut self.text);
        fields.field("require_tls", &mut self.require_tls);
        fields.field("tls_config", &mut self.tls_config);
        fields.field("force_implicit_tls", &mut self.force_implicit_tls);
        fields.field("threading", &mut self.threading);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.to.is_empty() {
            return Err("missing to address in email config".to_owned());
        }
        if !self.smarthost.is_empty() {
            check_host(&self.smarthost)?;
        }
        let mut headers = BTreeMap::new();
        for (name, value) in &self.headers {
            let name = canonical(name);
            if headers.insert(name.clone(), value.clone()).is_some() {
                return Err(format!("duplicate header {} in email config", tsdb::labels::quote(&name)));
            }
        }
        self.headers = headers;
        if self.threading.enabled {
            for name in ["References", "In-Reply-To"] {
                if self.headers.contains_key(name) {
                    return Err(format!(
                        "conflicting configuration: threading.enabled conflicts with custom {name} header"
                    ));
                }
            }
            if !matches!(self.threading.thread_by_date.as_str(), "none" | "daily") {
                return Err("threading.thread_by_date must be either 'none' or 'daily'".to_owned());
            }
        }
        Ok(())
    }
}

/// `host:port`
fn check_host(text: &str) -> Result<(), String> {
    match text.rsplit_once(':') {
        None => Err(format!("address {text}: missing port in address")),
        Some((_, "")) => Err(format!("address {}: port cannot be empty", tsdb::labels::quote(text))),
        Some(_) => Ok(()),
    }
}

impl Receiver {
    /// For each place of it, whether ends of alerts are sent there. Places are numbered: mail, PagerDuty, Slack, webhooks.
    pub fn send_resolved(&self) -> Vec<bool> {
        let emails = self.emails.iter().map(|email| email.send_resolved);
        let pagerduties = self.pagerduties.iter().map(|pagerduty| pagerduty.send_resolved);
        let slacks = self.slacks.iter().map(|slack| slack.send_resolved);
        let webhooks = self.webhooks.iter().map(|webhook| webhook.send_resolved);
        emails.chain(pagerduties).chain(slacks).chain(webhooks).collect()
    }

    /// What a place is called in metrics.
    pub fn integration(&self, place: usize) -> &'static str {
        let counts = [self.emails.len(), self.pagerduties.len(), self.slacks.len()];
        let mut end = 0;
        let at = counts.iter().position(|count| {
            end += count;
            place < end
        });
        INTEGRATIONS[at.unwrap_or(counts.len())]
    }
}
