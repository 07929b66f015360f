//! The HTTP API: Prometheus' paths, its JSON, its errors.
//!
//! ```text
//! request ─ door: may they? ─ form ─ route ─▶ Answer ─ reply: envelope, pieces, gzip
//! ```
//!
//! See <https://prometheus.io/docs/prometheus/latest/querying/api/> and
//! <https://prometheus.io/docs/prometheus/latest/management_api/>.
//!
//! - [`door`]: who may come in
//! - `form`, `parameter`: what was asked
//! - `json`, `columns`, `reply`: how it is answered
//! - `query`, `series`, `targets`, `rules`, `status`, `admin`: the API
//! - `federate`, [`exposed`]: what others scrape here
//! - [`notices`]: what is wrong now

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts as Head};
use serve::{Body, body};

use crate::{
    Metrics,
    remote::{otlp, receive, serve_read},
    shown::Parts,
};

pub mod door;

mod form;

mod parameter;

mod json;

mod columns;

mod reply;

mod query;

mod series;

mod targets;

mod rules;

mod status;

mod admin;

mod federate;

pub mod exposed;

pub mod notices;

use door::{Door, Right};
use form::Form;
use reply::{Answer, Failure};

/// What answers get to see of a request.
struct Asked<'a> {
    metrics: &'a Metrics,
    parts: Arc<Parts>,
    /// Whether an answer may be columns.
    columns: bool,
}

/// Answers a request that came in by `door`.
pub async fn answer(metrics: &Metrics, door: &Door, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let started = Instant::now();
    if let Err((status, message)) = door.admit(&head, right(&head)).await {
        return plain(status, format!("{message}\n"));
    }
    let origin = head.headers.get(header::ORIGIN).cloned();
    let is_head = head.method == Method::HEAD;
    let (handler, mut response) = route(metrics, head, body).await;
    metrics.counters().answered(handler, response.status().as_u16(), started.elapsed());
    if let Some(origin) = origin {
        // The door has seen that it may ask.
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if is_head {
        *response.body_mut() = body::empty();
    }
    response
}

fn right(head: &Head) -> Right {
    let path = head.uri.path();
    let change = path.starts_with("/api/v1/admin/") || matches!(path, "/-/quit" | "/-/reload");
    let written = path == "/api/v1/write" || path.starts_with("/api/v1/otlp/");
    match (change, written, &head.method) {
        (true, ..) if head.method != Method::GET => Right::Change,
        (_, true, _) => Right::Write,
        _ if path.starts_with("/alertmanager/") && head.method != Method::GET => Right::Change,
        _ => Right::Read,
    }
}

/// Answers, and says which handler it was, for counting.
async fn route(metrics: &Metrics, head: Head, body: Body) -> (&'static str, Response<Body>) {
    let path = head.uri.path().to_owned();
    let read = matches!(head.method, Method::GET | Method::HEAD);
    let posted = matches!(head.method, Method::POST | Method::PUT);
    if let Some(api) = path.strip_prefix("/api/v1/") {
        if head.method == Method::OPTIONS {
            return ("/api/v1/*path", options());
        }
        return api_route(metrics, api, head, body).await;
    }
    match path.as_str() {
        "/-/healthy" if read => ("/-/healthy", said("Prometheus Server is Healthy.\n")),
        "/-/ready" if read => ("/-/ready", said("Prometheus Server is Ready.\n")),
        "/-/quit" if posted => ("/-/quit", admin::quit(metrics)),
        "/-/reload" if posted => ("/-/reload", admin::reload(metrics).await),
        "/-/quit" | "/-/reload" if read => ("/-/quit", admin::only_post()),
        "/metrics" if read => ("/metrics", exposition(metrics, &head)),
        "/version" if read => ("/version", said(format!("{}\n", status::version()))),
        "/federate" if read => {
            let asked = Asked { metrics, parts: metrics.parts(), columns: false };
            let response = match Form::read(&head, body).await {
                Ok(form) => federate::federate(&asked, &form, &head.headers).await,
                Err(error) => plain(StatusCode::BAD_REQUEST, format!("error parsing form values: {error}\n")),
            };
            ("/federate", response)
        }
        "/alertmanager" => ("/alertmanager", alertmanager(metrics, "/", head, body).await),
        below if below.starts_with("/alertmanager/") => {
            let rest = below["/alertmanager".len()..].to_owned();
            ("/alertmanager", alertmanager(metrics, &rest, head, body).await)
        }
        "/" | "/graph" | "/query" | "/alerts" | "/targets" | "/rules" | "/status" if read => {
            ("/", page(metrics, &path))
        }
        _ => ("/*path", plain(StatusCode::NOT_FOUND, "404 page not found\n")),
    }
}

/// Methods of a path of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Methods {
    Get,
    Both,
    Change,
    Post,
}

const PATHS: &[(&str, &str, Methods)] = &[
    ("query", "/api/v1/query", Methods::Both),
    ("query_range", "/api/v1/query_range", Methods::Both),
    ("query_exemplars", "/api/v1/query_exemplars", Methods::Both),
    ("format_query", "/api/v1/format_query", Methods::Both),
    ("parse_query", "/api/v1/parse_query", Methods::Both),
    ("labels", "/api/v1/labels", Methods::Both),
    ("series", "/api/v1/series", Methods::Both),
    ("scrape_pools", "/api/v1/scrape_pools", Methods::Get),
    ("scrape_pools/config", "/api/v1/scrape_pools/config", Methods::Get),
    ("targets", "/api/v1/targets", Methods::Get),
    ("targets/metadata", "/api/v1/targets/metadata", Methods::Get),
    ("targets/relabel_steps", "/api/v1/targets/relabel_steps", Methods::Get),
    ("alertmanagers", "/api/v1/alertmanagers", Methods::Get),
    ("metadata", "/api/v1/metadata", Methods::Get),
    ("alerts", "/api/v1/alerts", Methods::Get),
    ("rules", "/api/v1/rules", Methods::Get),
    ("features", "/api/v1/features", Methods::Get),
    ("notifications", "/api/v1/notifications", Methods::Get),
    ("status/config", "/api/v1/status/config", Methods::Get),
    ("status/flags", "/api/v1/status/flags", Methods::Get),
    ("status/runtimeinfo", "/api/v1/status/runtimeinfo", Methods::Get),
    ("status/buildinfo", "/api/v1/status/buildinfo", Methods::Get),
    ("status/tsdb", "/api/v1/status/tsdb", Methods::Get),
    ("status/tsdb/blocks", "/api/v1/status/tsdb/blocks", Methods::Get),
    ("status/walreplay", "/api/v1/status/walreplay", Methods::Get),
    ("admin/tsdb/delete_series", "/api/v1/admin/tsdb/delete_series", Methods::Change),
    ("admin/tsdb/clean_tombstones", "/api/v1/admin/tsdb/clean_tombstones", Methods::Change),
    ("admin/tsdb/snapshot", "/api/v1/admin/tsdb/snapshot", Methods::Change),
];

async fn api_route(metrics: &Metrics, api: &str, head: Head, body: Body) -> (&'static str, Response<Body>) {
    if api == "notifications/live" && head.method == Method::GET {
        return ("/api/v1/notifications/live", metrics.notices().live());
    }
    if let "write" | "read" | "otlp/v1/metrics" = api {
        if head.method != Method::POST {
            return ("/api/v1/*path", wrong_method(Methods::Post));
        }
        return match api {
            "write" => ("/api/v1/write", receive::receive(metrics, &head, body).await),
            "read" => ("/api/v1/read", serve_read::read(metrics, body).await),
            _ => ("/api/v1/otlp/v1/metrics", otlp::receive(metrics, &head, body).await),
        };
    }
    let values = api.strip_prefix("label/").and_then(|rest| rest.strip_suffix("/values"));
    let (handler, methods) = match values {
        Some(name) if !name.contains('/') => ("/api/v1/label/:name/values", Methods::Get),
        _ => match PATHS.iter().find(|row| row.0 == api) {
            Some(row) => (row.1, row.2),
            None => return ("/*path", plain(StatusCode::NOT_FOUND, "404 page not found\n")),
        },
    };
    let fits = match methods {
        Methods::Get => head.method == Method::GET,
        Methods::Both => matches!(head.method, Method::GET | Method::POST),
        Methods::Change => matches!(head.method, Method::POST | Method::PUT),
        Methods::Post => head.method == Method::POST,
    };
    if !fits {
        return (handler, wrong_method(methods));
    }
    let asked = Asked { metrics, parts: metrics.parts(), columns: columns::takes(&head.headers) };
    let answer = match Form::read(&head, body).await {
        Err(error) => Err(Failure::bad(format!("error parsing form values: {error}"))),
        Ok(form) => match values {
            Some(name) => match form::unescape(name, false) {
                Ok(name) => series::values(&asked, &form, &name).await,
                Err(error) => Err(Failure::bad(error)),
            },
            None => answered(&asked, api, &form).await,
        },
    };
    (handler, reply::respond(answer, &head.headers))
}

async fn answered(asked: &Asked<'_>, api: &str, form: &Form) -> Answer {
    match api {
        "query" => query::instant(asked, form).await,
        "query_range" => query::range(asked, form).await,
        "query_exemplars" => query::exemplars(asked, form),
        "format_query" => query::format(asked, form),
        "parse_query" => query::parse(asked, form),
        "labels" => series::names(asked, form).await,
        "series" => series::series(asked, form).await,
        "scrape_pools" => targets::pools(asked),
        "scrape_pools/config" => targets::pool_config(asked, form),
        "targets" => targets::targets(asked, form),
        "targets/metadata" => targets::target_metadata(asked, form),
        "targets/relabel_steps" => targets::relabel(asked, form),
        "alertmanagers" => rules::alertmanagers(asked),
        "metadata" => targets::metadata(asked, form),
        "alerts" => rules::alerts(asked),
        "rules" => rules::rules(asked, form),
        "features" => status::features(asked),
        "notifications" => asked.metrics.notices().list(),
        "status/config" => status::config(asked),
        "status/flags" => status::flags(asked),
        "status/runtimeinfo" => status::runtime(asked),
        "status/buildinfo" => status::build(),
        "status/tsdb" => status::tsdb(asked, form).await,
        "status/tsdb/blocks" => status::blocks(asked),
        "status/walreplay" => status::replay(),
        "admin/tsdb/delete_series" => admin::delete(asked, form).await,
        "admin/tsdb/clean_tombstones" => admin::clean(asked).await,
        "admin/tsdb/snapshot" => admin::snapshot(asked, form).await,
        _ => Err(Failure::new(reply::Kind::NotFound, "no such path")),
    }
}

fn options() -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let allowed = "Accept, Authorization, Content-Type, Origin";
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
    response
}

fn wrong_method(methods: Methods) -> Response<Body> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    let allowed = match methods {
        Methods::Get => "GET, OPTIONS",
        Methods::Both => "GET, OPTIONS, POST",
        Methods::Change => "OPTIONS, POST, PUT",
        Methods::Post => "OPTIONS, POST",
    };
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

async fn alertmanager(metrics: &Metrics, path: &str, mut head: Head, body: Body) -> Response<Body> {
    let Some(handler) = metrics.parts().alertmanager.clone() else {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    match format!("{path}{query}").parse() {
        Ok(uri) => head.uri = uri,
        Err(_) => return plain(StatusCode::BAD_REQUEST, "400 bad request\n"),
    }
    handler(Request::from_parts(head, body)).await
}

/// Pages are the console's; without one, a page that says where things are.
fn page(metrics: &Metrics, path: &str) -> Response<Body> {
    let Some(console) = &metrics.settings().web.console else {
        let text = "<!doctype html><meta charset=utf-8><title>metrics</title><p>Prometheus' API is at \
                    <a href=/api/v1/status/buildinfo>/api/v1</a>, own metrics at <a href=/metrics>/metrics</a>.\n";
        let mut response = plain(StatusCode::OK, text);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        return response;
    };
    let mut response = Response::new(body::empty());
    match HeaderValue::from_str(&format!("{}{path}", console.trim_end_matches('/'))) {
        Ok(location) => {
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert(header::LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

fn exposition(metrics: &Metrics, head: &Head) -> Response<Body> {
    let text = exposed::text(metrics).into_bytes();
    reply::sized(text, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", &head.headers)
}

fn said(text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(text.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Text that says what is wrong.
pub(crate) fn plain(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = said(text);
    *response.status_mut() = status;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
