//! PagerDuty: an event that opens or closes an incident, one for each group.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#pagerduty_config> and
//! <https://developer.pagerduty.com/docs/send-alert-event>.

use serde_json::{Map, Value, json};

use super::{Expander, Failure, Kept, data, post};
use crate::{
    alertmanager::{center::Notification, config::receivers::pagerduty::PagerDuty},
    http_client::Client,
};

/// Where events of version 1 are taken.
const VERSION_1: &str = "https://events.pagerduty.com/generic/2010-04-15/create_event.json";

/// Largest event, in bytes.
const LARGEST: usize = 512_000;

fn put(object: &mut Value, name: &str, text: String) {
    if !text.is_empty() {
        object[name] = Value::String(text);
    }
}

fn details(pagerduty: &PagerDuty, expander: &Expander<'_>) -> Result<Value, Failure> {
    let details = pagerduty.details.iter().map(|(name, text)| Ok((name.clone(), expander.document(&text.0)?)));
    Ok(Value::Object(details.collect::<Result<Map<_, _>, Failure>>()?))
}

/// Makes an event small enough.
fn bounded(mut event: Value, at: &str) -> Value {
    if event.to_string().len() > LARGEST {
        let told = "Custom details have been removed because the original event exceeds the maximum size of 512KB";
        if let Some(details) = event.pointer_mut(at) {
            *details = json!({ "error": told });
        }
    }
    event
}

/// Posts an event.
pub async fn send(
    pagerduty: &PagerDuty,
    client: &Client,
    expander: &Expander<'_>,
    notification: &Notification,
) -> Result<Kept, Failure> {
    let action = if data::is_firing(notification) { "trigger" } else { "resolve" };
    let details = details(pagerduty, expander)?;
    let first = !pagerduty.service_key.0.is_empty() || !pagerduty.service_key_file.is_empty();
    let key = data::hash(&notification.flush.key);
    let text = |text: &str| expander.text(text);
    let answer = if first {
        let service = post::text_or_file(&pagerduty.service_key.0, &pagerduty.service_key_file).await?;
        let service = text(&service)?;
        if service.is_empty() {
            return Err(Failure::never("service key cannot be empty"));
        }
        let mut event = json!({
            "service_key": service,
            "event_type": action,
            "incident_key": key,
            "description": post::shortened(text(&pagerduty.description)?, 1024),
            "details": details,
        });
        if action == "trigger" {
            put(&mut event, "client", text(&pagerduty.client)?);
            put(&mut event, "client_url", text(&pagerduty.client_url)?);
        }
        post::json(client, VERSION_1, &bounded(event, "/details"), pagerduty.timeout.0).await?
    } else {
        let routing = post::text_or_file(&pagerduty.routing_key.0, &pagerduty.routing_key_file).await?;
        let routing = text(&routing)?;
        if routing.is_empty() {
            return Err(Failure::never("routing key cannot be empty"));
        }
        let severity = if pagerduty.severity.is_empty() { "error".to_owned() } else { text(&pagerduty.severity)? };
        let mut payload = json!({
            "summary": post::shortened(text(&pagerduty.description)?, 1024),
            "source": text(&pagerduty.source)?,
            "severity": severity,
            "custom_details": details,
        });
        for (name, value) in
            [("class", &pagerduty.class), ("component", &pagerduty.component), ("group", &pagerduty.group)]
        {
            put(&mut payload, name, text(value)?);
        }
        let mut event = json!({
            "routing_key": routing,
            "event_action": action,
            "dedup_key": key,
            "payload": payload,
        });
        put(&mut event, "client", text(&pagerduty.client)?);
        put(&mut event, "client_url", text(&pagerduty.client_url)?);
        let mut images = Vec::new();
        for image in &pagerduty.images {
            let src = text(&image.src)?;
            if !src.is_empty() {
                images.push(json!({"src": src, "alt": text(&image.alt)?, "href": text(&image.href)?}));
            }
        }
        let mut links = Vec::new();
        for link in &pagerduty.links {
            let href = text(&link.href)?;
            if !href.is_empty() {
                links.push(json!({"href": href, "text": text(&link.text)?}));
            }
        }
        for (name, list) in [("images", images), ("links", links)] {
            if !list.is_empty() {
                event[name] = Value::Array(list);
            }
        }
        let event = bounded(event, "/payload/custom_details");
        post::json(client, &pagerduty.url.0, &event, pagerduty.timeout.0).await?
    };
    post::check(&answer, if first { &[403] } else { &[429] })?;
    Ok(Kept::new())
}
