//! Receivers: webhooks, mail, Slack, PagerDuty. Their texts are templates.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#receiver-integration-settings>.

use std::collections::BTreeMap;

use crate::{
    config::units::{Address, Secret, Span},
    http_client::{HttpClient, settings::Tls},
    yaml::{Fields, Kind, Node, Print, Problems, Record, Stop, Value},
};

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

/// A field of a message in Slack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlackField {
    /// Its title.
    pub title: String,
    /// Its text.
    pub value: String,
    /// Whether it may stand beside others.
    pub short: Option<bool>,
}

impl Record for SlackField {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("title", &mut self.title);
        fields.field("value", &mut self.value);
        fields.field("short", &mut self.short);
    }

    fn check(&mut self) -> Result<(), String> {
        for (text, name) in [(&self.title, "title"), (&self.value, "value")] {
            if text.is_empty() {
                return Err(format!("missing {name} in Slack field configuration"));
            }
        }
        Ok(())
    }
}

/// A question before an action.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlackConfirm {
    /// The question.
    pub text: String,
    /// Its title.
    pub title: String,
    /// Yes.
    pub ok_text: String,
    /// No.
    pub dismiss_text: String,
}

impl Record for SlackConfirm {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("text", &mut self.text);
        fields.field("title", &mut self.title);
        fields.field("ok_text", &mut self.ok_text);
        fields.field("dismiss_text", &mut self.dismiss_text);
    }

    fn check(&mut self) -> Result<(), String> {
        if self.text.is_empty() { Err("missing text in Slack confirmation configuration".to_owned()) } else { Ok(()) }
    }
}

/// A button or menu of a message in Slack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlackAction {
    /// `button` and the like.
    pub kind: String,
    /// What stands on it.
    pub text: String,
    /// Where it leads.
    pub url: String,
    /// How it looks.
    pub style: String,
    /// What Slack calls it.
    pub name: String,
    /// What it sends.
    pub value: String,
    /// What is asked first.
    pub confirm: Option<SlackConfirm>,
}

impl Record for SlackAction {
    const TYPE: &'static str = "config.plain";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("type", &mut self.kind);
        fields.field("text", &mut self.text);
        fields.field("url", &mut self.url);
        fields.field("style", &mut self.style);
        fields.field("name", &mut self.name);
        fields.field("value", &mut self.value);
        fields.field("confirm", &mut self.confirm);
    }

    fn check(&mut self) -> Result<(), String> {
        for (text, name) in [(&self.kind, "type"), (&self.text, "text")] {
            if text.is_empty() {
                return Err(format!("missing {name} in Slack action configuration"));
            }
        }
        if self.url.is_empty() && self.name.is_empty() {
            return Err("missing name or url in Slack action configuration".to_owned());
        }
        if !self.url.is_empty() {
            (self.name, self.value, self.confirm) = (String::new(), String::new(), None);
        }
        Ok(())
    }
}

/// Slack.
#[derive(Clone, Debug, PartialEq)]
pub struct Slack {
    /// Whether ends of alerts are sent.
    pub send_resolved: bool,
    /// How requests are made.
    pub http_config: Option<HttpClient>,
    /// The incoming webhook.
    pub api_url: Secret,
    /// A file with it.
    pub api_url_file: String,
    /// The token of an app.
    pub app_token: Secret,
    /// A file with it.
    pub app_token_file: String,
    /// Where apps post.
    pub app_url: Address,
    /// The channel.
    pub channel: String,
    /// Who posts.
    pub username: String,
    /// The colour of the bar.
    pub color: String,
    /// The title.
    pub title: String,
    /// Where the title leads.
    pub title_link: String,
    /// What stands before.
    pub pretext: String,
    /// The text.
    pub text: String,
    /// The text outside of the attachment.
    pub message_text: String,
    /// Fields.
    pub slack_fields: Vec<SlackField>,
    /// Whether fields may stand beside others.
    pub short_fields: bool,
    /// What stands below.
    pub footer: String,
    /// What is shown where there is no room.
    pub fallback: String,
    /// What actions are known by.
    pub callback_id: String,
    /// The picture of who posts, as an emoji.
    pub icon_emoji: String,
    /// The picture of who posts.
    pub icon_url: String,
    /// A picture.
    pub image_url: String,
    /// A small picture.
    pub thumb_url: String,
    /// Whether names become links.
    pub link_names: bool,
    /// Which parts have Slack's markup.
    pub mrkdwn_in: Vec<String>,
    /// Buttons and menus.
    pub actions: Vec<SlackAction>,
    /// Whether a message of a group is changed instead of sending another.
    pub update_message: bool,
    /// How long a request may take; as long as it wants if zero.
    pub timeout: Span,
}

impl Default for Slack {
    fn default() -> Self {
        let named = |name: &str| format!("{{{{ template \"slack.default.{name}\" . }}}}");
        Self {
            send_resolved: false,
            http_config: None,
            api_url: Secret::default(),
            api_url_file: String::new(),
            app_token: Secret::default(),
            app_token_file: String::new(),
            app_url: Address::default(),
            channel: String::new(),
            username: named("username"),
            color: named("color"),
            title: named("title"),
            title_link: named("titlelink"),
            pretext: named("pretext"),
            text: named("text"),
            message_text: String::new(),
            slack_fields: Vec::new(),
            short_fields: false,
            footer: named("footer"),
            fallback: named("fallback"),
            callback_id: named("callbackid"),
            icon_emoji: named("iconemoji"),
            icon_url: named("iconurl"),
            image_url: String::new(),
            thumb_url: String::new(),
            link_names: false,
            mrkdwn_in: Vec::new(),
            actions: Vec::new(),
            update_message: false,
            timeout: Span::default(),
        }
    }
}

impl Record for Slack {
    const TYPE: &'static str = "config.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("send_resolved", &mut self.send_resolved);
        fields.field("http_config", &mut self.http_config);
        fields.field("api_url", &mut self.api_url);
        fields.field("api_url_file", &mut self.api_url_file);
        fields.field("app_token", &mut self.app_token);
        fields.field("app_token_file", &mut self.app_token_file);
        fields.field("app_url", &mut self.app_url);
        fields.field("channel", &mut self.channel);
        fields.field("username", &mut self.username);
        fields.field("color", &mut self.color);
        fields.field("title", &mut self.title);
        fields.field("title_link", &mut self.title_link);
        fields.field("pretext", &mut self.pretext);
        fields.field("text", &mut self.text);
        fields.field("message_text", &mut self.message_text);
        fields.field("fields", &mut self.slack_fields);
        fields.always("short_fields", &mut self.short_fields);
        fields.field("footer", &mut self.footer);
        fields.field("fallback", &mut self.fallback);
        fields.field("callback_id", &mut self.callback_id);
        fields.field("icon_emoji", &mut self.icon_emoji);
        fields.field("icon_url", &mut self.icon_url);
        fields.field("image_url", &mut self.image_url);
        fields.field("thumb_url", &mut self.thumb_url);
        fields.always("link_names", &mut self.link_names);
        fields.field("mrkdwn_in", &mut self.mrkdwn_in);
        fields.field("actions", &mut self.actions);
        fields.always("update_message", &mut self.update_message);
        fields.always("timeout", &mut self.timeout);
    }

    fn check(&mut self) -> Result<(), String> {
        let url = [!self.api_url.0.is_empty(), !self.api_url_file.is_empty()];
        let token = [!self.app_token.0.is_empty(), !self.app_token_file.is_empty()];
        let wrong = if url == [true, true] {
            "api_url & api_url_file"
        } else if token == [true, true] {
            "app_token & app_token_file"
        } else if url.contains(&true) && token.contains(&true) {
            "api_url/api_url_file & app_token/app_token_file"
        } else {
            if self.update_message && self.api_url.0 != "https://slack.com/api/chat.postMessage" {
                return Err("update_message can only be used with bot tokens. api_url must be set to https://slack.com/api/chat.postMessage".to_owned());
            }
            return Ok(());
        };
        Err(format!("at most one of {wrong} must be configured"))
    }
}

/// A picture of an event in PagerDuty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PagerDutyImage {
    /// Where it is.
    pub src: String,
    /// What it shows.
    pub alt: String,
    /// Where it leads.
    pub href: String,
}

impl Record for PagerDutyImage {
    const TYPE: &'static str = "pagerduty.PagerdutyImage";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("src", &mut self.src);
        fields.field("alt", &mut self.alt);
        fields.field("href", &mut self.href);
    }
}

/// A link of an event in PagerDuty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PagerDutyLink {
    /// Where it leads.
    pub href: String,
    /// What it says.
    pub text: String,
}

impl Record for PagerDutyLink {
    const TYPE: &'static str = "pagerduty.PagerdutyLink";

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.field("href", &mut self.href);
        fields.field("text", &mut self.text);
    }
}

/// PagerDuty, events version 2, or version 1 with a service key.
#[derive(Clone, Debug, PartialEq)]
pub struct PagerDuty {
    /// Whether ends of alerts are sent.
    pub send_resolved: bool,
    /// How requests are made.
    pub http_config: Option<HttpClient>,
    /// The key of version 1.
    pub service_key: Secret,
    /// A file with it.
    pub service_key_file: String,
    /// The key of version 2.
    pub routing_key: Secret,
    /// A file with it.
    pub routing_key_file: String,
    /// Where events are taken.
    pub url: Address,
    /// Who sends.
    pub client: String,
    /// Where the sender can be seen.
    pub client_url: String,
    /// What happened.
    pub description: String,
    /// More of it.
    pub details: BTreeMap<String, Any>,
    /// Pictures.
    pub images: Vec<PagerDutyImage>,
    /// Links.
    pub links: Vec<PagerDutyLink>,
    /// Where it happened.
    pub source: String,
    /// How bad it is.
    pub severity: String,
    /// What kind of thing it is.
    pub class: String,
    /// What part is concerned.
    pub component: String,
    /// A group of parts.
    pub group: String,
    /// How long a request may take; as long as it wants if zero.
    pub timeout: Span,
}

impl Default for PagerDuty {
    fn default() -> Self {
        let named = |name: &str| format!("{{{{ template \"pagerduty.default.{name}\" . }}}}");
        Self {
            send_resolved: true,
            http_config: None,
            service_key: Secret::default(),
            service_key_file: String::new(),
            routing_key: Secret::default(),
            routing_key_file: String::new(),
            url: Address::default(),
            client: named("client"),
            client_url: named("clientURL"),
            description: named("description"),
            details: BTreeMap::new(),
            images: Vec::new(),
            links: Vec::new(),
            source: String::new(),
            severity: String::new(),
            class: String::new(),
            component: String::new(),
            group: String::new(),
            timeout: Span::default(),
        }
    }
}

/// Details that every event has.
const DETAILS: [(&str, &str); 4] = [
    ("firing", "{{ .Alerts.Firing | toJson }}"),
    ("resolved", "{{ .Alerts.Resolved | toJson }}"),
    ("num_firing", "{{ .Alerts.Firing | len }}"),
    ("num_resolved", "{{ .Alerts.Resolved | len }}"),
];

impl Record for PagerDuty {
    const TYPE: &'static str = "pagerduty.plain";

    fn start() -> Option<Self> {
        Some(Self::default())
    }

    fn fields(&mut self, fields: &mut Fields<'_>) {
        fields.always("send_resolved", &mut self.send_resolved);
        fields.field("http_config", &mut self.http_config);
        fields.field("service_key", &mut self.service_key);
        fields.field("service_key_file", &mut self.service_key_file);
        fields.field("routing_key", &mut self.routing_key);
        fields.field("routing_key_file", &mut self.routing_key_file);
        fields.field("url", &mut self.url);
        fields.field("client", &mut self.client);
        fields.field("client_url", &mut self.client_url);
        fields.field("description", &mut self.description);
        fields.field("details", &mut self.details);
        fields.field("images", &mut self.images);
        fields.field("links", &mut self.links);
        fields.field("source", &mut self.source);
        fields.field("severity", &mut self.severity);
        fields.field("class", &mut self.class);
        fields.field("component", &mut self.component);
        fields.field("group", &mut self.group);
        fields.always("timeout", &mut self.timeout);
    }

    fn check(&mut self) -> Result<(), String> {
        let routing = [!self.routing_key.0.is_empty(), !self.routing_key_file.is_empty()];
        let service = [!self.service_key.0.is_empty(), !self.service_key_file.is_empty()];
        if !routing.contains(&true) && !service.contains(&true) {
            return Err("missing service or routing key in PagerDuty config".to_owned());
        }
        if routing == [true, true] {
            return Err("at most one of routing_key & routing_key_file must be configured".to_owned());
        }
        if service == [true, true] {
            return Err("at most one of service_key & service_key_file must be configured".to_owned());
        }
        if self.source.is_empty() {
            self.source.clone_from(&self.client);
        }
        for (name, text) in DETAILS {
            self.details.entry(name.to_owned()).or_insert_with(|| Any(text.into()));
        }
        Ok(())
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
}
