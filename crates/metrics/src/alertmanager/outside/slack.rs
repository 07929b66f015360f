//! Slack: a message with an attachment.
//!
//! See <https://prometheus.io/docs/alerting/latest/configuration/#slack_config> and
//! <https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments>.

use serde_json::{Map, Value, json};

use super::{Expander, Failure, Kept, post};
use crate::{
    alertmanager::{center::Notification, config::receivers::slack::Slack},
    http_client::Client,
};

/// Longest title, in characters.
const TITLE: usize = 1024;

/// Puts a text in unless it is empty.
fn put(object: &mut Map<String, Value>, name: &str, text: String) {
    if !text.is_empty() {
        object.insert(name.to_owned(), Value::String(text));
    }
}

fn attachment(slack: &Slack, expander: &Expander<'_>) -> Result<Value, Failure> {
    let mut out = Map::new();
    put(&mut out, "title", post::shortened(expander.text(&slack.title)?, TITLE));
    for (name, text) in [
        ("title_link", &slack.title_link),
        ("pretext", &slack.pretext),
        ("callback_id", &slack.callback_id),
        ("image_url", &slack.image_url),
        ("thumb_url", &slack.thumb_url),
        ("footer", &slack.footer),
        ("color", &slack.color),
    ] {
        put(&mut out, name, expander.text(text)?);
    }
    out.insert("text".to_owned(), json!(expander.text(&slack.text)?));
    out.insert("fallback".to_owned(), json!(expander.text(&slack.fallback)?));
    let marked: Vec<&str> = match slack.mrkdwn_in.as_slice() {
        [] => vec!["fallback", "pretext", "text"],
        some => some.iter().map(String::as_str).collect(),
    };
    out.insert("mrkdwn_in".to_owned(), json!(marked));
    let mut fields = Vec::new();
    for field in &slack.slack_fields {
        let (title, value) = (expander.text(&field.title)?, expander.text(&field.value)?);
        fields.push(json!({"title": title, "value": value, "short": field.short.unwrap_or(slack.short_fields)}));
    }
    if !fields.is_empty() {
        out.insert("fields".to_owned(), Value::Array(fields));
    }
    let mut actions = Vec::new();
    for action in &slack.actions {
        let mut one = Map::new();
        for (name, text) in [
            ("type", &action.kind),
            ("text", &action.text),
            ("url", &action.url),
            ("style", &action.style),
            ("name", &action.name),
            ("value", &action.value),
        ] {
            put(&mut one, name, expander.text(text)?);
        }
        if let Some(confirm) = &action.confirm {
            let mut asked = Map::new();
            for (name, text) in [
                ("text", &confirm.text),
                ("title", &confirm.title),
                ("ok_text", &confirm.ok_text),
                ("dismiss_text", &confirm.dismiss_text),
            ] {
                put(&mut asked, name, expander.text(text)?);
            }
            one.insert("confirm".to_owned(), Value::Object(asked));
        }
        actions.push(Value::Object(one));
    }
    if !actions.is_empty() {
        out.insert("actions".to_owned(), Value::Array(actions));
    }
    Ok(Value::Object(out))
}

/// Posts a message, or changes the one that was posted before for the group.
pub async fn send(
    slack: &Slack,
    client: &Client,
    expander: &Expander<'_>,
    notification: &Notification,
) -> Result<Kept, Failure> {
    let mut url = post::text_or_file(&slack.api_url.0, &slack.api_url_file).await?;
    let mut message = Map::new();
    put(&mut message, "channel", expander.text(&slack.channel)?);
    put(&mut message, "username", expander.text(&slack.username)?);
    put(&mut message, "icon_emoji", expander.text(&slack.icon_emoji)?);
    put(&mut message, "icon_url", expander.text(&slack.icon_url)?);
    put(&mut message, "text", expander.text(&slack.message_text)?);
    if slack.link_names {
        message.insert("link_names".to_owned(), Value::Bool(true));
    }
    message.insert("attachments".to_owned(), Value::Array(vec![attachment(slack, expander)?]));
    let kept = &notification.job.entry.kept;
    if slack.update_message
        && let (Some(time), Some(channel)) = (kept.get("threadTs"), kept.get("channelId"))
    {
        url = url.replace("chat.postMessage", "chat.update");
        message.insert("ts".to_owned(), json!(time));
        message.insert("channel".to_owned(), json!(channel));
    }
    let channel = message.get("channel").and_then(Value::as_str).unwrap_or_default().to_owned();
    let in_channel =
        |failure: Failure| Failure { reason: format!("channel {channel:?}: {}", failure.reason), ..failure };
    let answer = post::json(client, &url, &Value::Object(message), slack.timeout.0).await?;
    post::check(&answer, &[429]).map_err(in_channel)?;
    if !answer.json {
        if &*answer.body == b"ok" {
            return Ok(Kept::new());
        }
        let told = String::from_utf8_lossy(&answer.body);
        return Err(in_channel(Failure::never(format!("received an error response from Slack: {told}"))));
    }
    let told: Value = serde_json::from_slice(&answer.body)
        .map_err(|error| in_channel(Failure::later(format!("could not unmarshal JSON response: {error}"))))?;
    if told["ok"] != Value::Bool(true) {
        let error = told["error"].as_str().unwrap_or_default();
        return Err(in_channel(Failure::never(format!("error response from Slack: {error}"))));
    }
    let mut kept = Kept::new();
    if let (true, Some(time), Some(channel)) = (slack.update_message, told["ts"].as_str(), told["channel"].as_str()) {
        kept.insert("threadTs".to_owned(), time.to_owned());
        kept.insert("channelId".to_owned(), channel.to_owned());
    }
    Ok(kept)
}
