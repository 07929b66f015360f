//! Kubernetes' metrics APIs, answered from what was collected: what `kubectl top` and autoscalers ask.
//!
//! ```text
//! kubectl top, autoscaler ─► API server (who? may they?) ─ front proxy's certificate ─► /apis/metrics.k8s.io           usage
//!                                                                                       /apis/custom.metrics.k8s.io    custom
//!                                                                                       /apis/external.metrics.k8s.io  custom
//!                                                              each a query of PromQL ◄─┘
//! ```
//!
//! Only the API server may ask: it has judged already. <https://github.com/kubernetes/metrics>

mod custom;
mod matcher;
mod usage;

use access::gate;
use http::{Method, Request, Response, StatusCode, header};
use jiff::Timestamp;
use kube::{
    Client,
    api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use promql::value::{Answer, Value as Figure};
use serde_json::{Value, json};
use serve::{Body, Peer, body};
use tsdb::labels::Labels;

use crate::{metrics::Metrics, query};

/// Longest text of a metric's name or selector that is taken, in bytes.
const LONGEST: usize = 4096;
/// What the front proxy's authority is called.
pub const FRONT_PROXY: &str = "madang-front-proxy-ca";

/// Answers the API server.
#[derive(Clone)]
pub struct Adapter {
    metrics: Metrics,
    client: Client,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Adapter")
    }
}

/// What goes wrong, as a Status says it.
#[derive(Debug)]
struct Failure {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Failure {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message.to_string())
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 404 => Self::missing(status.message),
            kube::Error::Api(status) if status.code == 400 => Self::bad(status.message),
            error => Self::internal(error),
        }
    }
}

/// An object that figures are of.
struct Named {
    name: String,
    labels: Value,
}

/// The parameters of a request, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(text: &str) -> Result<Self, Failure> {
        if text.len() > LONGEST {
            return Err(Failure::bad("the query is too long"));
        }
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(&name.replace('+', " "))?, decoded(&value.replace('+', " "))?))
        });
        pairs.collect::<Option<_>>().map(Self).ok_or_else(|| Failure::bad("the query is not UTF-8"))
    }

    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }
}

/// Undoes percent-encoding; none for what is no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn list(version: &str, kind: &str, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": version, "metadata": {}, "items": items})
}

fn resources(version: &str, resources: Vec<Value>) -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources})
}

/// A time as objects have it.
fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Adapter {
    /// Answers from `metrics`, and asks for objects through `client`.
    pub fn new(metrics: Metrics, client: Client) -> Self {
        Self { metrics, client }
    }

    /// Answers a request below `/apis/`.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let proxy = request.extensions().get::<Peer>().is_some_and(|peer| gate::is_from(peer, FRONT_PROXY));
        let answer = match (proxy, request.method()) {
            (false, _) => Err(Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")),
            (_, &Method::GET) => self.route(request.uri().path(), request.uri().query().unwrap_or_default()).await,
            _ => {
                let message = "the server does not allow this method on the requested resource";
                Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message))
            }
        };
        let (code, value) = match answer {
            Ok(value) => (StatusCode::OK, value),
            Err(Failure { code, reason, message }) => (
                code,
                json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
                    "reason": reason, "code": code.as_u16(),
                }),
            ),
        };
        let mut response = Response::new(body::full(value.to_string()));
        *response.status_mut() = code;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }

    async fn route(&self, path: &str, query: &str) -> Result<Value, Failure> {
        let query = Query::read(query)?;
        let parts: Option<Vec<String>> = path.trim_matches('/').split('/').map(decoded).collect();
        let parts = parts.filter(|_| path.len() <= LONGEST).ok_or_else(|| Failure::bad("the path is no text"))?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["apis", usage::GROUP, usage::VERSION, rest @ ..] => self.usage(rest, &query).await,
            ["apis", custom::GROUP, version @ ("v1beta1" | "v1beta2"), rest @ ..] => {
                self.custom(version, rest, &query).await
            }
            ["apis", custom::EXTERNAL, "v1beta1", rest @ ..] => self.external(rest, &query).await,
            _ => Err(Failure::missing("the server could not find the requested resource")),
        }
    }

    /// The figures that a query has now.
    async fn figures(&self, text: &str) -> Result<Vec<(Labels, f64)>, Failure> {
        let engine = self.metrics.engine();
        let expr = engine.parse(text).map_err(|error| Failure::bad(format!("{text}: {error}")))?;
        let now = Timestamp::now().as_millisecond();
        let outcome =
            engine.run(expr, query::When::At(now), query::Asked::default()).await.map_err(Failure::internal)?;
        let Answer::Vector(_, samples) = outcome.answer else {
            return Err(Failure::internal(format!("{text} is no vector")));
        };
        let figure = |figure: Figure| match figure {
            Figure::Float(value) => value.is_finite().then_some(value),
            Figure::Histogram(_) => None,
        };
        Ok(samples.into_iter().filter_map(|sample| Some((sample.labels, figure(sample.value)?))).collect())
    }

    /// Names and labels of objects, as the API server has them.
    async fn objects(
        &self,
        (group, version, kind): (&str, &str, &str),
        namespace: Option<&str>,
        (name, selector): (Option<&str>, &str),
    ) -> Result<Vec<Named>, Failure> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let metas = match name {
            Some(name) => vec![api.get_metadata(name).await?.metadata],
            None => {
                let list = api.list_metadata(&ListParams::default().labels(selector)).await?;
                list.items.into_iter().map(|object| object.metadata).collect()
            }
        };
        let named = metas.into_iter().map(|meta| Named {
            // Pods of all namespaces are told apart by both.
            name: match (&meta.namespace, namespace) {
                (Some(own), None) => format!("{own}/{}", meta.name.as_deref().unwrap_or_default()),
                _ => meta.name.clone().unwrap_or_default(),
            },
            labels: json!(meta.labels.unwrap_or_default()),
        });
        Ok(named.collect())
    }
}

/// What is installed in a cluster: which APIs are answered behind the Service `metrics` in `namespace`, and who may read usage.
pub fn objects(namespace: &str, port: u16, authority: &[u8]) -> Vec<Value> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let bundle = STANDARD.encode(authority);
    let service = |group: &str, version: &str, priority: u32| {
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("{version}.{group}")},
            "spec": {
                "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": priority,
                "service": {"name": "metrics", "namespace": namespace, "port": port}, "caBundle": bundle,
            },
        })
    };
    let to = |role: &str| format!("rbac.authorization.k8s.io/aggregate-to-{role}");
    vec![
        service(usage::GROUP, usage::VERSION, 100),
        service(custom::GROUP, "v1beta2", 200),
        service(custom::GROUP, "v1beta1", 100),
        service(custom::EXTERNAL, "v1beta1", 100),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {
                "name": "system:aggregated-metrics-reader",
                "labels": {to("view"): "true", to("edit"): "true", to("admin"): "true"},
            },
            "rules": [{"apiGroups": [usage::GROUP], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
        }),
    ]
}

#[cfg(test)]
mod tests;
