//! Groups that somebody tells over HTTP.
//!
//! See <https://prometheus.io/docs/prometheus/latest/http_sd/>.

use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt, Limited};
use tsdb::labels::Builder;

use super::{Teller, listed, refresh};
use crate::{config::discovery::Http, http_client::Client, scrape::target::Group};

/// Bytes of an answer at most.
const LARGEST: usize = 64 << 20;

/// Tells of the groups, until it is dropped.
pub async fn run(settings: Http, teller: Teller) {
    let client = match Client::new(&settings.http) {
        Ok(client) => client,
        Err(error) => {
            teller.failed();
            tracing::error!(url = %settings.url, error, "targets cannot be asked for");
            return;
        }
    };
    refresh("http", settings.refresh_interval.0, teller, |_| ask(&client, &settings)).await;
}

/// Asks once.
pub async fn ask(client: &Client, settings: &Http) -> Result<Vec<Group>, String> {
    let uri = settings.url.parse().map_err(|error| format!("{}: {error}", settings.url))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("madang/", env!("CARGO_PKG_VERSION"))));
    if let Ok(seconds) = HeaderValue::try_from(settings.refresh_interval.0.as_secs_f64().to_string()) {
        headers.insert("x-prometheus-refresh-interval-seconds", seconds);
    }
    let asked = async {
        let answer = client.get(uri, headers).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status != ::http::StatusCode::OK {
            return Err(format!("server returned HTTP status {status}"));
        }
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut parts = kind.split(';').map(|part| part.trim().to_ascii_lowercase().replace('"', ""));
        if parts.next().as_deref() != Some("application/json") || !parts.all(|part| part == "charset=utf-8") {
            return Err(format!("unsupported content type {}", tsdb::labels::quote(kind)));
        }
        let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| error.to_string())?;
        Ok(body.to_bytes())
    };
    let body = tokio::time::timeout(settings.refresh_interval.0, asked)
        .await
        .map_err(|_| format!("Get \"{}\": context deadline exceeded", settings.url))??;
    let text = std::str::from_utf8(&body).map_err(|error| error.to_string())?;
    let mut groups = listed::read(text, true, &settings.url)?;
    for group in &mut groups {
        let mut labels = Builder::new(&group.labels);
        labels.set("__meta_url", &settings.url);
        group.labels = labels.labels();
    }
    Ok(groups)
}
