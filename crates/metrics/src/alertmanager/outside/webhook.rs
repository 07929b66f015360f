//! Webhooks: the data of a notification as JSON.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>.

use serde_json::json;

use super::{Expander, Failure, Kept, data, post};
use crate::{
    alertmanager::{center::Notification, config::receivers::Webhook},
    http_client::Client,
};

/// Posts a notification.
pub async fn send(
    webhook: &Webhook,
    client: &Client,
    expander: &Expander<'_>,
    notification: &Notification,
    external_url: &str,
) -> Result<Kept, Failure> {
    let count = notification.job.alerts.len();
    let most =
        if webhook.max_alerts == 0 { count } else { usize::try_from(webhook.max_alerts).unwrap_or(count).min(count) };
    let mut document = data::with(notification, external_url, most).json().map_err(Failure::never)?;
    document["version"] = json!("4");
    document["groupKey"] = json!(notification.flush.key);
    document["truncatedAlerts"] = json!(count - most);
    if !webhook.payload.0.is_null() {
        document = expander.document(&webhook.payload.0)?;
    }
    let url = post::text_or_file(&webhook.url.0, &webhook.url_file).await?;
    let url = expander.text(&url)?;
    if url.is_empty() {
        return Err(Failure::never("webhook URL is empty after templating"));
    }
    let answer = post::json(client, &url, &document, webhook.timeout.0).await?;
    post::check(&answer, &[])?;
    Ok(Kept::new())
}
