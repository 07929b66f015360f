//! What runs have left over HTTP, below `/pipelines/NAMESPACE/RUN/` of the console's port: `tests`, `artifacts`, `artifacts/PATH`.
//!
//! The right to it is that to `get` a run's `pipelineruns/log`. Who asks shows a token; a browser's cookie is the console's, which puts the token
//! of whoever is signed in in its place.

use access::gate::Gate;
use client::{
    cache::{Cache, Key},
    own::{self, Kind},
};
use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::ResourceExt;
use serde_json::{Value as Json, json};
use serve::{Body, Peer, body};

use super::{artifacts, junit::Report, reports, serve as over_http};
use crate::{
    kind::{PipelineRun, Runs},
    record::{Record, Records},
};

/// Names in a path.
const MOST: usize = 200;

/// Serves what runs have left. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Door {
    gate: Gate,
    runs: Cache<PipelineRun>,
    records: Records,
}

/// What is answered instead.
type No = (StatusCode, String);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The test report.
    Tests,
    /// A list of artifacts.
    Artifacts,
    /// The artifact of a path.
    Artifact(String),
}

/// Namespace, run and what of it a path asks for, without `/pipelines` before it.
pub fn route(path: &str) -> Option<(Key, Wanted)> {
    let names: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let [namespace, run, rest @ ..] = names.as_slice() else { return None };
    let wanted = match rest {
        ["tests"] => Wanted::Tests,
        ["artifacts"] => Wanted::Artifacts,
        ["artifacts", path @ ..] if path.len() <= MOST => {
            let bytes = crate::trigger::hook::unescape(path.join("/").replace('+', "%2B").as_bytes());
            Wanted::Artifact(String::from_utf8(bytes).ok()?)
        }
        _ => return None,
    };
    Some((Key::new(namespace, run), wanted))
}

fn broken(error: impl std::fmt::Display) -> No {
    tracing::warn!(error = error.to_string(), "serve what a run has left");
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

impl Door {
    /// Asks `gate` who may.
    pub fn new(gate: Gate, runs: Cache<PipelineRun>, records: Records) -> Self {
        Self { gate, runs, records }
    }

    /// Answers a request for what [`route`] found in it.
    pub async fn answer(&self, key: &Key, wanted: Wanted, request: &Parts) -> Response<Body> {
        match self.answered(key, wanted, request).await {
            Ok(response) => response,
            Err((status, text)) => {
                let mut response = said(&json!({ "message": text }));
                *response.status_mut() = status;
                response
            }
        }
    }

    async fn answered(&self, key: &Key, wanted: Wanted, request: &Parts) -> Result<Response<Body>, No> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "what runs have left is only read".into()));
        }
        let record = self.record(key, request).await?;
        let (headers, with_body): (HeaderMap, bool) = (request.headers.clone(), request.method == Method::GET);
        let read = tokio::task::spawn_blocking(move || match wanted {
            Wanted::Tests => {
                let report = reports::read(&record.reports()).map_err(broken)?.unwrap_or_default();
                Ok(said(&told(&report)))
            }
            Wanted::Artifacts => {
                let all = artifacts::list(&record.artifacts()).map_err(broken)?;
                let one = |path: &str, size: u64, sum: &str| json!({ "path": path, "size": size, "sha256": sum });
                let all: Vec<Json> = all.iter().map(|(_, entry)| one(&entry.path, entry.size, &entry.sha256)).collect();
                Ok(said(&json!({ "artifacts": all })))
            }
            Wanted::Artifact(path) => match artifacts::find(&record.artifacts(), &path).map_err(broken)? {
                Some((parcel, entry)) => over_http::file(&parcel, &entry, &headers, with_body).map_err(broken),
                None => Err((StatusCode::NOT_FOUND, format!("there is no artifact {path}"))),
            },
        });
        read.await.map_err(broken)?
    }

    /// The record of a run that whoever asks may read.
    async fn record(&self, key: &Key, request: &Parts) -> Result<Record, No> {
        let refused = |refusal: access::gate::Refusal| (refusal.status(), refusal.to_string());
        let user = self.gate.who(request.extensions.get::<Peer>(), &request.headers).await.map_err(refused)?;
        let right = ResourceAttributes {
            group: Some(own::GROUP.to_owned()),
            resource: Some(Runs::PLURAL.to_owned()),
            subresource: Some("log".to_owned()),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            verb: Some("get".to_owned()),
            ..ResourceAttributes::default()
        };
        self.gate.may_do(&user, right).await.map_err(refused)?;
        self.runs.ready().await;
        let run = self.runs.get(key).ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no run {key}")))?;
        let record = self.records.of(&run.uid().unwrap_or_default());
        record.ok_or_else(|| (StatusCode::NOT_FOUND, format!("the run {key} has left nothing")))
    }
}

/// A report as pages read it, with its sums.
fn told(report: &Report) -> Json {
    let totals = report.totals();
    json!({
        "total": totals.total, "failed": totals.failed, "skipped": totals.skipped, "passed": totals.passed,
        "seconds": report.seconds(), "suites": report.suites,
    })
}

fn said(value: &Json) -> Response<Body> {
    let mut response = Response::new(body::full(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("private, no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_run_and_what_it_has_left() {
        let told = |path: &str| route(path).map(|(key, wanted)| format!("{key} {wanted:?}"));
        for (path, expected) in [
            ("/yard/shop-1/tests", Some("yard/shop-1 Tests")),
            ("/yard/shop-1/artifacts", Some("yard/shop-1 Artifacts")),
            ("/yard/shop-1/artifacts/a%20b/c+d%2F..%2Fx", Some("yard/shop-1 Artifact(\"a b/c+d/../x\")")),
            ("/yard/shop-1/artifacts/%ff", None),
            ("/yard/shop-1/log", None),
            ("/yard", None),
            ("/x/yard/shop-1/tests", None),
        ] {
            assert_eq!(told(path).as_deref(), expected, "{path}");
        }
        assert_eq!(told(&format!("/a/b/artifacts/{}", "a/".repeat(300))), None);
    }
}
