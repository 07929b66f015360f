//! PagerDuty as a receiver.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#pagerduty_config>.

use std::collections::BTreeMap;

use super::Any;
use crate::{
    config::units::{Address, Secret, Span},
    http_client::HttpClient,
    yaml::{Fields, Record},
};

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
