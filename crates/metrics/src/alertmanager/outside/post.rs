//! JSON to others, and what their answers mean.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};

use super::Failure;
use crate::http_client::Client;

/// Bytes of an answer that are read at most.
const MOST: usize = 1 << 20;

/// The longest wait for an answer where none is configured.
const PATIENCE: Duration = Duration::from_mins(1);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Whether it is JSON.
    pub json: bool,
    /// Its content.
    pub body: Bytes,
}

/// Posts a document. A timeout of zero means the usual one. Errors do not name the address, which may be secret.
pub async fn json(
    client: &Client,
    url: &str,
    document: &serde_json::Value,
    timeout: Duration,
) -> Result<Answer, Failure> {
    let uri: Uri = url.parse().map_err(|_| Failure::never("the address of the receiver is no URL"))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("Alertmanager/0.34.2 (madang)"));
    let body = Bytes::from(document.to_string() + "\n");
    let asked = async {
        let answer = client.send(Method::POST, uri, headers, body).await;
        let answer = answer.map_err(|failure| Failure::later(redacted(&failure.to_string(), url)))?;
        let status = answer.status();
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let json = kind.is_some_and(|kind| kind.starts_with("application/json"));
        let body = Limited::new(answer.into_body(), MOST).collect().await;
        let body = body.map_err(|error| Failure::later(format!("read the answer: {error}")))?.to_bytes();
        Ok(Answer { status, json, body })
    };
    let patience = if timeout.is_zero() { PATIENCE } else { timeout };
    match tokio::time::timeout(patience, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::later(format!("no answer within {} s", patience.as_secs_f64()))),
    }
}

fn redacted(text: &str, url: &str) -> String {
    text.replace(url, "<redacted>")
}

/// Whether an answer is one of success; others may be tried again if they are the server's fault or one of `again`.
pub fn check(answer: &Answer, again: &[u16]) -> Result<(), Failure> {
    if answer.status.is_success() {
        return Ok(());
    }
    let code = answer.status.as_u16();
    let told = String::from_utf8_lossy(&answer.body);
    let told: String = told.chars().take(1024).collect();
    let separator = if told.is_empty() { "" } else { ": " };
    let reason = format!("unexpected status code {code}{separator}{told}");
    Err(Failure { retry: code / 100 == 5 || again.contains(&code), reason })
}

/// At most so many characters, the last an ellipsis if some are missing.
pub fn shortened(text: String, most: usize) -> String {
    if text.chars().count() <= most {
        return text;
    }
    let mut out: String = text.chars().take(most.saturating_sub(1)).collect();
    out.push('\u{2026}');
    out
}

/// A text that stands in the configuration, or in a file.
pub async fn text_or_file(text: &str, file: &str) -> Result<String, Failure> {
    if !text.is_empty() || file.is_empty() {
        return Ok(text.to_owned());
    }
    let read = tokio::fs::read_to_string(file).await;
    read.map(|text| text.trim().to_owned()).map_err(|error| Failure::never(format!("read {file}: {error}")))
}
