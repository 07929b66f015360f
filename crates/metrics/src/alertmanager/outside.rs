//! Takes notifications to receivers: webhooks, mail, Slack, PagerDuty.
//!
//! In reading order:
//!
//! - [`data`]: what templates are given
//! - [`post`]: JSON to others
//! - [`webhook`], [`slack`], [`pagerduty`]: what is posted
//! - [`email`], [`smtp`]: mail, and how it is handed over

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;

use super::{
    center::{Deliver, Notification},
    config::Config,
};
use crate::{
    config as prometheus,
    http_client::{Client, HttpClient},
    template::{Mode, Templates, notification as texts, value::Value},
};

pub mod data;

pub mod post;

pub mod webhook;

pub mod slack;

pub mod pagerduty;

pub mod email;

pub mod smtp;

/// Why a place did not take a notification.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Whether it may later.
    pub retry: bool,
    /// What went wrong; no secret is in it.
    pub reason: String,
}

impl Failure {
    /// It may work later.
    pub fn later(reason: impl Into<String>) -> Self {
        Self { retry: true, reason: reason.into() }
    }

    /// It never will.
    pub fn never(reason: impl Into<String>) -> Self {
        Self { retry: false, reason: reason.into() }
    }
}

/// What a place wants to be remembered of a notification.
pub type Kept = BTreeMap<String, String>;

/// The templates of a configuration.
#[derive(Clone, Debug)]
pub struct Texts {
    text: Arc<Templates>,
    html: Arc<Templates>,
}

impl Texts {
    /// Reads the templates that a configuration names. Blocks the thread.
    pub fn load(config: &Config) -> Result<Self, String> {
        let mut files = Vec::new();
        for pattern in &config.templates {
            for path in prometheus::glob(pattern)? {
                let text =
                    std::fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                files.push((name, text));
            }
        }
        Self::of(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
    }

    /// Templates that are at hand.
    pub fn of<'a>(others: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Result<Self, String> {
        let load = |mode| texts::load(mode, others.clone()).map(Arc::new).map_err(|error| error.to_string());
        Ok(Self { text: load(Mode::Text)?, html: load(Mode::Html)? })
    }
}

/// Expands the texts of a notification.
pub struct Expander<'a> {
    texts: &'a Texts,
    dot: &'a Value,
    route_labels: &'a BTreeMap<String, String>,
    now: i128,
}

impl Expander<'_> {
    /// A text.
    pub fn text(&self, text: &str) -> Result<String, Failure> {
        self.expand(&self.texts.text, text)
    }

    /// A text that becomes HTML.
    pub fn html(&self, text: &str) -> Result<String, Failure> {
        self.expand(&self.texts.html, text)
    }

    fn expand(&self, templates: &Templates, text: &str) -> Result<String, Failure> {
        let expander = texts::Notification::new(templates, self.now, self.dot, self.route_labels);
        expander.expand(text).map_err(|error| Failure::never(error.to_string()))
    }

    /// A document in which texts are templates; what expands to YAML that is no string becomes what it says.
    pub fn document(&self, document: &serde_json::Value) -> Result<serde_json::Value, Failure> {
        use serde_json::Value as Json;
        Ok(match document {
            Json::String(text) => {
                let expanded = self.text(text)?;
                match serde_json::from_str::<Json>(&expanded) {
                    Ok(value) if !value.is_string() => value,
                    _ => Json::String(expanded),
                }
            }
            Json::Array(items) => Json::Array(items.iter().map(|item| self.document(item)).collect::<Result<_, _>>()?),
            Json::Object(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| Ok((self.text(key)?, self.document(value)?)));
                Json::Object(pairs.collect::<Result<_, Failure>>()?)
            }
            other => other.clone(),
        })
    }
}

/// Receivers of this world.
pub struct Outside {
    external_url: String,
    texts: Mutex<Arc<Texts>>,
    /// Clients by their settings, so that connections stay open.
    clients: Mutex<HashMap<String, Client>>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outside")
    }
}

impl Outside {
    /// Receivers, told where this server is reached from outside.
    pub fn new(external_url: &str, texts: Texts) -> Self {
        Self {
            external_url: external_url.trim_end_matches('/').to_owned(),
            texts: Mutex::new(Arc::new(texts)),
            clients: Mutex::default(),
        }
    }

    /// Takes other templates.
    pub fn set_texts(&self, texts: Texts) {
        *self.texts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(texts);
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn client(&self, settings: Option<&HttpClient>) -> Result<Client, Failure> {
        let settings = settings.cloned().unwrap_or_default();
        // The debug form hides secrets, so it names only places that are distinct otherwise.
        let key = format!("{settings:?}{}", secrets(&settings));
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = Client::new(&settings).map_err(Failure::never)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    async fn try_once(self: Arc<Self>, notification: Notification) -> Result<Kept, Failure> {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let dot = data::of(&notification, &self.external_url);
        let expander = Expander {
            texts: &texts,
            dot: &dot,
            route_labels: &notification.flush.options.labels,
            now: i128::from(notification.flush.now) * 1_000_000,
        };
        let Some(receiver) = notification.config.receiver(&notification.flush.options.receiver) else {
            return Err(Failure::never("the receiver is gone"));
        };
        let mut place = notification.job.place;
        if let Some(email) = receiver.emails.get(place) {
            return email::send(email, &expander, &notification).await;
        }
        place -= receiver.emails.len();
        if let Some(pagerduty) = receiver.pagerduties.get(place) {
            let client = self.client(pagerduty.http_config.as_ref())?;
            return pagerduty::send(pagerduty, &client, &expander, &notification).await;
        }
        place -= receiver.pagerduties.len();
        if let Some(slack) = receiver.slacks.get(place) {
            let client = self.client(slack.http_config.as_ref())?;
            return slack::send(slack, &client, &expander, &notification).await;
        }
        place -= receiver.slacks.len();
        match receiver.webhooks.get(place) {
            Some(webhook) => {
                let client = self.client(webhook.http_config.as_ref())?;
                webhook::send(webhook, &client, &expander, &notification, &self.external_url).await
            }
            None => Err(Failure::never("the receiver has no such place")),
        }
    }
}

/// A digest of the secrets of a client's settings.
fn secrets(settings: &HttpClient) -> u32 {
    let mut text = String::new();
    if let Some(basic) = &settings.basic_auth {
        text.push_str(&basic.password.0);
    }
    if let Some(authorization) = &settings.authorization {
        text.push_str(&authorization.credentials.0);
    }
    if let Some(oauth2) = &settings.oauth2 {
        text.push_str(&oauth2.client_secret.0);
    }
    crc32fast::hash(text.as_bytes())
}

/// Shared, so that a delivery may outlive a call.
#[derive(Clone, Debug)]
pub struct Shared(pub Arc<Outside>);

impl Deliver for Shared {
    fn deliver(&self, notification: Notification) -> BoxFuture<'static, Result<Kept, Failure>> {
        Box::pin(self.0.clone().try_once(notification))
    }
}
