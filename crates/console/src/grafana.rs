//! Grafana's HTTP API, as far as its clients read and write dashboards and ask for data.
//!
//! | call | does |
//! |---|---|
//! | `GET /api/health` | says that it runs |
//! | `GET /api/search` | finds dashboards by words, tags and uid |
//! | `GET /api/dashboards/uid/UID` | reads one |
//! | `POST /api/dashboards/db` | keeps one, in a ConfigMap labelled `grafana_dashboard` |
//! | `DELETE /api/dashboards/uid/UID` | removes one that is kept so |
//! | `GET /api/dashboards/tags`, `/api/folders`, `/api/org` | lists |
//! | `GET /api/datasources`, `.../uid/UID`, `.../name/NAME` | the one source that there is |
//! | `POST /api/ds/query` | asks Prometheus, and answers in data frames |
//!
//! <https://grafana.com/docs/grafana/latest/developers/http_api/>

use std::path::PathBuf;

use http::{Method, Response, request::Parts};
use serde_json::{Value, json};
use serve::{Body, body};
use task::Task;

use crate::{
    answer::{Refusal, json},
    upstream::Upstream,
};

mod dashboards;
mod frames;

/// Bytes of a request: a dashboard has to fit into a ConfigMap.
const BODY: usize = 2 << 20;
/// The uid of the one data source.
const SOURCE: &str = "prometheus";

/// Dashboards and where they lie.
#[derive(Debug)]
pub struct Grafana {
    files: PathBuf,
    version: String,
}

impl Grafana {
    /// Grafana's API over the files in that directory, the cluster's ConfigMaps and what is built in.
    pub fn new(files: PathBuf, version: String) -> Self {
        Self { files, version }
    }

    /// `GET /api/health`, for which nobody signs in.
    pub fn health(&self) -> Response<Body> {
        json(&json!({"database": "ok", "version": self.version, "commit": "", "enterpriseCommit": ""}))
    }

    /// Answers one call as the person with `token`.
    pub async fn answer(
        &self,
        task: &Task,
        upstream: &Upstream,
        parts: &Parts,
        body: Body,
        token: &str,
    ) -> Result<Response<Body>, Refusal> {
        let path: Vec<&str> = parts.uri.path().trim_start_matches("/api/").trim_end_matches('/').split('/').collect();
        let asked = dashboards::Asked { task, upstream, token, files: &self.files };
        match (&parts.method, &path[..]) {
            (&Method::GET, ["search"]) => {
                let wanted = dashboards::Search::of(parts.uri.query().unwrap_or_default());
                Ok(json(&Value::Array(asked.search(&wanted).await?)))
            }
            (&Method::GET, ["dashboards", "uid", uid]) => Ok(json(&asked.read(uid).await?)),
            (&Method::DELETE, ["dashboards", "uid", uid]) => Ok(json(&asked.remove(uid).await?)),
            (&Method::POST, ["dashboards", "db"]) => Ok(json(&asked.keep(&posted(body).await?).await?)),
            (&Method::GET, ["dashboards", "tags"]) => Ok(json(&Value::Array(asked.tags().await?))),
            (&Method::GET, ["dashboards", "home"]) => Ok(json(&json!({"redirectUri": "/"}))),
            (&Method::GET, ["folders"]) => Ok(json(&json!([]))),
            (&Method::GET, ["org"]) => Ok(json(&json!({"id": 1, "name": "Madang"}))),
            (&Method::GET, ["datasources"]) => Ok(json(&json!([source()]))),
            (&Method::GET, ["datasources", "uid", SOURCE] | ["datasources", "name", "Prometheus"]) => {
                Ok(json(&source()))
            }
            (&Method::POST, ["ds", "query"]) => {
                let posted = posted(body).await?;
                Ok(json(&frames::answer(task, upstream, token, &posted).await?))
            }
            _ => Err(Refusal::NotFound(format!("{} {} is not served here", parts.method, parts.uri.path()))),
        }
    }
}

async fn posted(body: Body) -> Result<Value, Refusal> {
    let bytes = body::read(body, BODY).await.map_err(|error| Refusal::Invalid(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| Refusal::Invalid(format!("read the request: {error}")))
}

fn source() -> Value {
    json!({
        "id": 1, "uid": SOURCE, "orgId": 1, "name": "Prometheus", "type": "prometheus", "typeName": "Prometheus",
        "access": "proxy", "url": "/prometheus", "isDefault": true, "readOnly": true, "basicAuth": false,
        "jsonData": {"httpMethod": "POST"},
    })
}
