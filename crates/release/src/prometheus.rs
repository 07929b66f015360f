//! Questions in PromQL over HTTP, and what their answers mean: as with alerts, an expression holds where it has a result.
//!
//! See <https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries>.

use std::{fmt::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use http::{Request, header};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use serve::{Body, body};
use task::Task;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::kind::{Metric, Spec, Verdict};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer at most.
const MOST: usize = 1 << 20;
/// Bytes of what is said of an answer at most.
const SAID: usize = 300;

/// A Prometheus.
#[derive(Clone, Debug)]
pub struct Prometheus {
    task: Task,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Prometheus {
    /// The one that answers plain HTTP at `address`. Connections run below `task`.
    pub fn new(task: &Task, address: SocketAddr) -> Self {
        Self { task: task.clone(), address, tls: None }
    }

    /// The one that answers at `address` over TLS, and knows who asks by the certificate in `tls`.
    pub fn secure(task: &Task, address: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        Self { task: task.clone(), address, tls: Some(tls) }
    }

    /// What a metric says now, and the same in words.
    pub async fn judge(&self, namespace: &str, spec: &Spec, metric: &Metric) -> (Verdict, String) {
        let mut judged = (Verdict::Unknown, "nothing was asked".to_owned());
        let questions = [(&metric.failure, Verdict::Failure), (&metric.success, Verdict::Success)];
        for (query, meaning) in questions {
            let Some(query) = query else { continue };
            let asked = filled(query, namespace, spec);
            match self.holds(&asked).await {
                Ok(Some(result)) => return (meaning, format!("{result} of {asked}")),
                Ok(None) if meaning == Verdict::Failure && metric.success.is_none() => {
                    judged = (Verdict::Success, "no failure".to_owned());
                }
                Ok(None) if meaning == Verdict::Success && metric.failure.is_none() => {
                    judged = (Verdict::Failure, format!("no result of {asked}"));
                }
                Ok(None) => judged = (Verdict::Unknown, format!("no result of {asked}")),
                Err(error) => return (Verdict::Unknown, format!("{error:#}")),
            }
        }
        judged.1.truncate(judged.1.floor_char_boundary(SAID));
        judged
    }

    /// The first result of an expression, if it has any.
    async fn holds(&self, query: &str) -> Result<Option<String>> {
        let asking = self.ask(query);
        let answer = tokio::time::timeout(PATIENCE, asking).await.context("ask Prometheus: no answer in time")??;
        result(&answer)
    }

    async fn ask(&self, query: &str) -> Result<Value> {
        let stream = TcpStream::connect(self.address).await.context("connect to Prometheus")?;
        let mut sender = match &self.tls {
            None => self.over(stream).await?,
            Some(tls) => {
                let name = ServerName::IpAddress(self.address.ip().into());
                let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
                self.over(stream.context("connect to Prometheus over TLS")?).await?
            }
        };
        let request = Request::post("/api/v1/query")
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body::full(format!("query={}", encoded(query))))?;
        let answer = sender.send_request(request).await.context("ask Prometheus")?;
        let status = answer.status();
        let answer = answer.map(|body| {
            use http_body_util::BodyExt;
            body.map_err(Into::into).boxed_unsync()
        });
        let text = body::read(answer.into_body(), MOST).await.context("read Prometheus' answer")?;
        serde_json::from_slice(&text).with_context(|| format!("Prometheus answers {status} and no JSON"))
    }

    async fn over(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<SendRequest<Body>> {
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        self.task.spawn_until_cancelled("question", async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "question to Prometheus");
            }
        });
        Ok(sender)
    }
}

/// The first result of an answer.
fn result(answer: &Value) -> Result<Option<String>> {
    if answer["status"] != "success" {
        bail!("Prometheus: {}", answer["error"].as_str().unwrap_or("no error is told"));
    }
    let data = &answer["data"];
    match data["resultType"].as_str() {
        Some("scalar") => Ok(data["result"][1].as_str().filter(|value| *value != "0").map(str::to_owned)),
        Some("vector") => {
            let first = data["result"].as_array().and_then(|all| all.first());
            Ok(first.map(|one| one["value"][1].as_str().unwrap_or("a histogram").to_owned()))
        }
        other => bail!("Prometheus: an expression of type {} judges nothing", other.unwrap_or("none")),
    }
}

/// A query with the names of this release in it.
pub fn filled(query: &str, namespace: &str, spec: &Spec) -> String {
    let names = [
        ("$(namespace)", namespace),
        ("$(route)", &spec.route.name),
        ("$(stable)", &spec.stable.name),
        ("$(canary)", &spec.canary.name),
    ];
    // Names are DNS labels: nothing in them can end a string of PromQL.
    names.iter().fold(query.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_expression_holds_where_it_has_a_result() {
        let vector = |result: Value| json!({"status": "success", "data": {"resultType": "vector", "result": result}});
        assert_eq!(result(&vector(json!([]))).unwrap(), None);
        let one = json!([{"metric": {}, "value": [1, "0.2"]}]);
        assert_eq!(result(&vector(one)).unwrap().as_deref(), Some("0.2"));
        let scalar = |value: &str| json!({"status": "success", "data": {"resultType": "scalar", "result": [1, value]}});
        assert_eq!(result(&scalar("0")).unwrap(), None);
        assert_eq!(result(&scalar("1")).unwrap().as_deref(), Some("1"));
        assert!(result(&json!({"status": "error", "error": "parse error"})).unwrap_err().to_string().contains("parse"));
        assert!(result(&json!({"status": "success", "data": {"resultType": "matrix"}})).is_err());
    }

    #[test]
    fn names_are_filled_in_and_queries_encoded() {
        let mut spec = Spec::default();
        spec.canary.name = "v2".into();
        assert_eq!(filled("up{s=\"$(canary)\",n=\"$(namespace)\"}", "shop", &spec), "up{s=\"v2\",n=\"shop\"}");
        assert_eq!(encoded("a b&c=d"), "a%20b%26c%3Dd");
    }

    #[tokio::test]
    async fn verdicts_come_over_http() {
        let task = Task::root("test");
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = |request: Request<serve::Body>| async move {
            let text = body::read(request.into_body(), MOST).await.unwrap_or_default();
            let holds = text.starts_with(b"query=good");
            let result = if holds { json!([{"metric": {}, "value": [1, "7"]}]) } else { json!([]) };
            let answer = json!({"status": "success", "data": {"resultType": "vector", "result": result}});
            http::Response::new(body::full(answer.to_string()))
        };
        task.spawn("prometheus", serve::http::serve(task.clone(), listener, None, <_>::default(), handler));
        let prometheus = Prometheus::new(&task, address);
        let judged = async |success: Option<&str>, failure: Option<&str>| {
            let metric =
                Metric { success: success.map(Into::into), failure: failure.map(Into::into), ..Metric::default() };
            prometheus.judge("shop", &Spec::default(), &metric).await.0
        };
        assert_eq!(judged(Some("good"), None).await, Verdict::Success);
        assert_eq!(judged(Some("bad"), None).await, Verdict::Failure);
        assert_eq!(judged(None, Some("good")).await, Verdict::Failure);
        assert_eq!(judged(None, Some("bad")).await, Verdict::Success);
        assert_eq!(judged(Some("bad"), Some("bad")).await, Verdict::Unknown);
        assert_eq!(judged(Some("good"), Some("bad")).await, Verdict::Success);
        assert_eq!(judged(Some("good"), Some("good")).await, Verdict::Failure);
        task.cancel();
        let nobody = Prometheus::new(&task, "127.0.0.1:1".parse().unwrap());
        let metric = Metric { success: Some("good".into()), ..Metric::default() };
        assert_eq!(nobody.judge("shop", &Spec::default(), &metric).await.0, Verdict::Unknown);
    }
}
