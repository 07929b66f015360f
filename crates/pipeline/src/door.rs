//! What runs have left over HTTP, below `/pipelines` of the console's port: logs here, tests and artifacts in [`crate::left::door`].
//!
//! ```text
//! GET /pipelines/NAMESPACE/RUN/log?from=BYTE&step=ID&stage=ID&most=BYTES&follow=true
//! ```
//!
//! The answer is text from that byte on, with `x-log-bytes`, how long the log (of the step, of the stage) is then, and
//! `x-log-next`, where to go on. With `follow` the answer ends with the run. Who asks shows a token of the cluster, and needs the right
//! to `get` `pipelineruns/log`.

use std::sync::Arc;

use access::gate::{Gate, User};
use bytes::Bytes;
use client::cache::Key;
use futures::StreamExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use serve::{Body, Peer, body};

use crate::{
    kind::{PipelineRun, Runs},
    left,
    operate::Pipelines,
    record::{
        Record,
        log::{self, Whose, number},
    },
};

/// Bytes of an answer that follows nothing.
const MOST: usize = 4 << 20;
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// What is not answered.
struct No(StatusCode, String);

/// What is asked of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    whose: Whose,
    from: u64,
    most: usize,
    follow: bool,
}

impl Wanted {
    fn of(query: &str) -> Result<Self, String> {
        let mut wanted = Self { whose: Whose::All, from: 0, most: MOST, follow: false };
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = decoded(value);
            let parse = |value: &str| value.parse::<u64>().map_err(|_| format!("{name} is no number"));
            match name {
                "from" => wanted.from = parse(&value)?,
                "most" => wanted.most = usize::try_from(parse(&value)?).unwrap_or(MOST).min(MOST),
                "step" => wanted.whose = Whose::Step(number(&value)),
                "stage" => wanted.whose = Whose::Stage(number(&value)),
                "follow" => wanted.follow = value == "true" || value == "1",
                _ => {}
            }
        }
        Ok(wanted)
    }
}

fn decoded(value: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'+' => out.push(b' '),
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                _ => out.push(b'?'),
            },
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Pipelines {
    /// Answers a request whose path, without `/pipelines`, is `path`.
    pub async fn answer(&self, gate: &Gate, path: &str, request: Request<Body>) -> Response<Body> {
        // What it carries is not looked at.
        let (parts, _) = request.into_parts();
        if let Some((key, wanted)) = left::door::route(path) {
            let door = left::door::Door::new(gate.clone(), self.runs().clone(), self.0.records.clone());
            return door.answer(&key, wanted, &parts).await;
        }
        match self.log(gate, path, &parts).await {
            Ok(response) => response,
            Err(No(status, text)) => {
                let mut response = Response::new(body::full(format!("{text}\n")));
                *response.status_mut() = status;
                response
            }
        }
    }

    async fn log(&self, gate: &Gate, path: &str, request: &Parts) -> Result<Response<Body>, No> {
        let names: Vec<&str> = path.trim_matches('/').split('/').collect();
        let [namespace, name, "log"] = names[..] else {
            return Err(No(
                StatusCode::NOT_FOUND,
                "of a run there are log, tests and artifacts: /pipelines/NAMESPACE/RUN/log".into(),
            ));
        };
        if request.method != Method::GET {
            return Err(No(StatusCode::METHOD_NOT_ALLOWED, "a log is read with GET".into()));
        }
        let refused = |refusal: access::gate::Refusal| No(refusal.status(), refusal.to_string());
        let user = gate.who(request.extensions.get::<Peer>(), &request.headers).await.map_err(refused)?;
        self.may_read(gate, &user, namespace, name).await.map_err(refused)?;
        let wanted = Wanted::of(request.uri.query().unwrap_or_default());
        let wanted = wanted.map_err(|text| No(StatusCode::BAD_REQUEST, text))?;
        let run = self.runs().get(&Key::new(namespace, name));
        let run = run.ok_or_else(|| No(StatusCode::NOT_FOUND, format!("there is no run {namespace}/{name}")))?;
        self.text(&run, wanted).await
    }

    /// Whether somebody may read the log of a run.
    ///
    /// # Errors
    /// They may not.
    pub async fn may_read(
        &self,
        gate: &Gate,
        user: &User,
        namespace: &str,
        name: &str,
    ) -> Result<(), access::gate::Refusal> {
        let attributes = ResourceAttributes {
            group: Some(client::own::GROUP.to_owned()),
            resource: Some(<Runs as client::own::Kind>::PLURAL.to_owned()),
            subresource: Some("log".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            verb: Some("get".to_owned()),
            ..ResourceAttributes::default()
        };
        gate.may_do(user, attributes).await
    }

    async fn text(&self, run: &Arc<PipelineRun>, wanted: Wanted) -> Result<Response<Body>, No> {
        let record = self.record(run);
        let record = record.ok_or_else(|| No(StatusCode::NOT_FOUND, "the run has no record".into()))?;
        // Before it is read: what is written in between is told.
        let followed = if wanted.follow { self.followed(run) } else { None };
        let (text, bytes) = read(&record, &wanted, wanted.most).await?;
        let next = wanted.from + text.len() as u64;
        let mut response = match followed {
            None => Response::new(body::full(text)),
            Some(followed) => {
                let state = (record, Wanted { from: next, ..wanted }, followed, Some(Bytes::from(text)));
                let pieces = futures::stream::unfold(state, |(record, mut wanted, mut followed, first)| async move {
                    if let Some(first) = first.filter(|first| !first.is_empty()) {
                        return Some((Ok(first), (record, wanted, followed, None)));
                    }
                    loop {
                        followed.mark_unchanged();
                        let Ok((text, _)) = read(&record, &wanted, PIECE).await else { return None };
                        if !text.is_empty() {
                            wanted.from += text.len() as u64;
                            return Some((Ok(Bytes::from(text)), (record, wanted, followed, None)));
                        }
                        if followed.changed().await.is_err() {
                            // The run has ended: what it wrote last may not be read yet.
                            let Ok((text, _)) = read(&record, &wanted, PIECE).await else { return None };
                            if text.is_empty() {
                                return None;
                            }
                            wanted.from += text.len() as u64;
                            return Some((Ok(Bytes::from(text)), (record, wanted, followed, None)));
                        }
                    }
                });
                Response::new(body::stream(pieces.boxed()))
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-log-bytes", bytes.into());
        headers.insert("x-log-next", next.into());
        Ok(response)
    }
}

async fn read(record: &Record, wanted: &Wanted, most: usize) -> Result<(Vec<u8>, u64), No> {
    let (record, whose, from) = (record.clone(), wanted.whose, wanted.from);
    let read = tokio::task::spawn_blocking(move || log::read(&record, whose, from, most)).await;
    let broken =
        |error: &dyn std::fmt::Display| No(StatusCode::INTERNAL_SERVER_ERROR, format!("read the log: {error}"));
    read.map_err(|error| broken(&error))?.map_err(|error| broken(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_of_a_log_is_wanted() {
        let wanted = Wanted::of("from=7&step=3%2F0&follow=true&most=10").unwrap();
        assert_eq!(wanted, Wanted { whose: Whose::Step(number("3/0")), from: 7, most: 10, follow: true });
        assert_eq!(Wanted::of("most=999999999").unwrap().most, MOST);
        assert!(Wanted::of("from=x").is_err());
    }
}
