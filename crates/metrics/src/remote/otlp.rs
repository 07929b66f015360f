//! Samples that come by OpenTelemetry's protocol: `/api/v1/otlp/v1/metrics`, as protocol buffers or JSON.
//!
//! ```text
//! body ─ bounded ─ gzip, bounded ─ message | json ─▶ Request ─ translate, name ─▶ series ─▶ Batch ─▶ storage, synced ─▶ 200
//! ```
//!
//! How names and attributes become those of Prometheus is configured (`otlp` of the configuration). A request that cannot
//! be translated is refused as a whole; of one that can, samples that storage refuses do not keep the others out.
//!
//! - [`message`]: what a request holds, as protocol buffers
//! - [`json`]: the same as JSON
//! - [`name`]: names of metrics, labels and units
//! - [`translate`]: points as series
//!
//! See <https://opentelemetry.io/docs/specs/otlp/> and
//! <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>.

use std::{
    collections::BTreeMap,
    io::Read,
    sync::{Mutex, PoisonError},
};

use http::{Response, StatusCode, header, request::Parts};
use serve::Body;

use super::{
    LARGEST, Refused,
    receive::{AHEAD, Outcome, Taken, Version, WORDS},
};
use crate::{Metrics, query::millis, summary, web::plain};

pub mod message;

pub mod json;

pub mod name;

pub mod translate;

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

/// What became of requests, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    warnings: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    fn warned(&self, warnings: &[translate::Warning]) {
        let mut counts = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in warnings {
            *counts.entry(warning.category).or_default() += 1;
        }
    }

    /// Adds them in the text format.
    pub fn expose(&self, out: &mut String) {
        let counts = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.is_empty() {
            return;
        }
        let name = "prometheus_api_otlp_translation_warnings_total";
        summary::head(name, "counter", "Warnings while OTLP metrics were translated, by category.", out);
        for (category, count) in counts.iter() {
            out.push_str(&format!("{name}{{category=\"{category}\"}} {count}\n"));
        }
    }
}

/// `/api/v1/otlp/v1/metrics`
pub async fn receive(metrics: &Metrics, parts: &Parts, body: Body) -> Response<Body> {
    if !metrics.settings().web.otlp_receiver {
        let text = "otlp write receiver needs to be enabled with --web.enable-otlp-receiver\n";
        return plain(StatusCode::NOT_FOUND, text);
    }
    match store(metrics, parts, body).await {
        Ok(Outcome { wrong, .. }) if wrong.is_empty() => {
            let mut response = Response::new(serve::body::empty());
            *response.status_mut() = StatusCode::OK;
            response
        }
        Ok(Outcome { wrong, .. }) => plain(StatusCode::BAD_REQUEST, format!("{}\n", cut(wrong.join("\n")))),
        Err((status, text)) => {
            tracing::warn!(%status, "otlp request: {text}");
            plain(status, format!("{}\n", cut(text)))
        }
    }
}

/// Words for an answer, not longer than those need be.
fn cut(mut words: String) -> String {
    if let Some(at) = words.char_indices().map(|(at, _)| at).find(|at| *at >= WORDS) {
        words.truncate(at);
    }
    words
}

/// How the body is written, and whether it is compressed.
fn form(parts: &Parts) -> Result<(Form, bool), Refused> {
    let value = |name| parts.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let kind = value(header::CONTENT_TYPE).unwrap_or_default();
    let form = match kind.as_ref() {
        "application/x-protobuf" => Form::Protobuf,
        "application/json" => Form::Json,
        other => {
            let text =
                format!("unsupported content type: {other}, supported: [application/json, application/x-protobuf]");
            return Err((StatusCode::BAD_REQUEST, text));
        }
    };
    match value(header::CONTENT_ENCODING).unwrap_or_default().as_ref() {
        "" => Ok((form, false)),
        "gzip" => Ok((form, true)),
        other => {
            let text = format!("unsupported compression: {other}. Only \"gzip\" or no compression supported");
            Err((StatusCode::BAD_REQUEST, text))
        }
    }
}

async fn store(metrics: &Metrics, parts: &Parts, body: Body) -> Result<Outcome, Refused> {
    let (form, packed) = form(parts)?;
    let held = metrics.room().plain(body).await?;
    let loaded = metrics.loaded();
    let settings = translate::Settings::new(
        &loaded.otlp,
        metrics.settings().query.lookback,
        metrics.engine().features().type_and_unit,
        metrics.settings().web.otlp_native_delta,
    );
    let metrics = metrics.clone();
    let stored = tokio::task::spawn_blocking(move || {
        let bad = |text: String| (StatusCode::BAD_REQUEST, text);
        let unpacked;
        let bytes = match packed {
            true => {
                unpacked = unpack(&held.bytes).map_err(bad)?;
                &unpacked
            }
            false => &held.bytes,
        };
        let request = match form {
            Form::Protobuf => message::read(bytes).map_err(|wrong| bad(wrong.to_string()))?,
            Form::Json => json::read(bytes).map_err(bad)?,
        };
        let storage = metrics.storage();
        let latest = jiff::Timestamp::now().as_millisecond().saturating_add(millis(AHEAD));
        let mut taken = Taken::new(storage, latest, metrics.settings().web.created_zeros);
        let done = translate::translate(&request, &settings, &mut |series| taken.add(series, Version::Otlp))
            .map_err(|wrong| bad(wrong.to_string()))?;
        if !done.warnings.is_empty() {
            metrics.otlp().warned(&done.warnings);
            let (count, first) = (done.warnings.len(), &done.warnings[0].text);
            tracing::warn!(count, "otlp metrics were translated with warnings, the first of them: {first}");
        }
        if !done.errors.is_empty() {
            return Err((StatusCode::INTERNAL_SERVER_ERROR, done.errors.join("\n")));
        }
        taken.commit()
    });
    stored.await.unwrap_or_else(|error| Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())))
}

/// What gzip holds; the bound of a request holds for it too.
fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(bytes).take(LARGEST as u64 + 1);
    reader.read_to_end(&mut out).map_err(|error| format!("gzip: {error}"))?;
    if out.len() > LARGEST { Err(format!("decoded size exceeds the {LARGEST} bytes limit")) } else { Ok(out) }
}
