//! What targets are asked for, and what their answers are.
//!
//! See <https://prometheus.io/docs/instrumenting/content_negotiation/>.

use crate::config::scrape::{Escaping, Protocol};

/// How an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text, 0.0.4 and 1.0.0.
    Text,
    /// OpenMetrics.
    OpenMetrics,
    /// Protocol buffers.
    Protobuf,
}

/// The `Accept` header.
pub fn accept(protocols: &[Protocol], escaping: &Escaping) -> String {
    let mut weight = 7;
    let mut parts = Vec::new();
    for protocol in protocols {
        let named = matches!(protocol, Protocol::Text100 | Protocol::OpenMetrics100);
        let escaping = if named { format!(";escaping={escaping}") } else { String::new() };
        parts.push(format!("{}{escaping};q=0.{weight}", protocol.header()));
        weight -= 1;
    }
    parts.push(format!("*/*;q=0.{weight}"));
    parts.join(",")
}

fn of_protocol(protocol: &Protocol) -> Option<Format> {
    match protocol {
        Protocol::Protobuf => Some(Format::Protobuf),
        Protocol::Text004 | Protocol::Text100 => Some(Format::Text),
        Protocol::OpenMetrics001 | Protocol::OpenMetrics100 => Some(Format::OpenMetrics),
        Protocol::OpenMetrics200 | Protocol::Unset | Protocol::Unknown(_) => None,
    }
}

/// What an answer is by its `Content-Type`, or what it is taken for.
pub fn format(content_type: &str, fallback: &Protocol) -> Result<Format, String> {
    let quoted = tsdb::labels::quote(content_type);
    let fall_back = |reason: String| of_protocol(fallback).ok_or(reason);
    if content_type.is_empty() {
        return fall_back(
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
                .to_owned(),
        );
    }
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"[]?=".contains(&b))
    };
    let mut version = String::new();
    let mut sound = media.split('/').count() <= 2 && media.split('/').all(token);
    for parameter in parts.filter(|part| !part.is_empty()) {
        match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("version") => {
                value.trim().trim_matches('"').clone_into(&mut version);
            }
            Some(_) => {}
            None => sound = false,
        }
    }
    if !sound {
        return fall_back(format!("cannot parse Content-Type {quoted} and no fallback_scrape_protocol for target"));
    }
    match media.as_str() {
        "application/openmetrics-text" if version == "2.0.0" => fall_back(format!(
            "received OpenMetrics 2.0 Content-Type {quoted}, but the openmetrics2 feature flag is not enabled and no fallback_scrape_protocol specified for target"
        )),
        "application/openmetrics-text" => Ok(Format::OpenMetrics),
        "application/vnd.google.protobuf" => Ok(Format::Protobuf),
        "text/plain" => Ok(Format::Text),
        _ => fall_back(format!(
            "received unsupported Content-Type {quoted} and no fallback_scrape_protocol specified for target"
        )),
    }
}
