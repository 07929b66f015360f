//! The console: which request goes where.

use std::{path::PathBuf, sync::Arc};

use access::gate::{Gate, Refusal as Refused, User};
use anyhow::Result;
use http::{HeaderValue, Method, Request, Response, header, request::Parts};
use serde::Deserialize;
use serde_json::json;
use serve::{Body, body, tunnel::Target};
use task::Task;

use crate::{
    answer::{Refusal, json},
    assets, door,
    grafana::Grafana,
    session::{Place, Sessions, TOKEN},
    upstream::{self, Upstream},
};

/// Bytes of a sign-in.
const SIGN_IN: usize = 16 * 1024;

/// What a console needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its directory: the key of sessions, links that wait to be used.
    pub place: Place,
    /// The API server.
    pub api: Target,
    /// Prometheus' API, if that part runs.
    pub prometheus: Option<Target>,
    /// Files of dashboards; the directory need not be there.
    pub dashboards: PathBuf,
    /// Parts that run, for which there are pages.
    pub parts: Vec<String>,
    /// The version to show.
    pub version: String,
}

/// How requests come in.
#[derive(Clone, Copy, Debug)]
pub struct Entrance {
    /// Only from this machine: `Host` must name it.
    pub local_only: bool,
    /// Over TLS.
    pub secure: bool,
}

struct Inner {
    task: Task,
    gate: Gate,
    sessions: Sessions,
    upstream: Upstream,
    grafana: Grafana,
    parts: Vec<String>,
    version: String,
}

/// The web interface. Clones share everything.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Console")
    }
}

/// What is posted to sign in.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum SignIn {
    Token(String),
    Code(String),
}

impl Console {
    /// A console that asks `gate` who has a token. Connections that it passes on end with `task`.
    pub fn open(task: &Task, gate: Gate, settings: Settings) -> Result<Self> {
        let upstream = Upstream { api: settings.api, prometheus: settings.prometheus };
        Ok(Self(Arc::new(Inner {
            task: task.child("console"),
            gate,
            sessions: Sessions::open(settings.place)?,
            grafana: Grafana::new(settings.dashboards, settings.version.clone()),
            upstream,
            parts: settings.parts,
            version: settings.version,
        })))
    }

    /// Answers one request.
    pub async fn answer(&self, entrance: Entrance, request: Request<Body>) -> Response<Body> {
        match self.answered(entrance, request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        }
    }

    /// A request for data that another part answers at this port, with the token of whoever is signed in instead of the cookie.
    ///
    /// What comes back is data and never a page, so it must go through [`Console::passed`].
    ///
    /// # Errors
    /// What to answer to somebody who may not come in, or is not signed in.
    pub fn admitted(&self, entrance: Entrance, request: Request<Body>) -> Result<Request<Body>, Box<Response<Body>>> {
        let (mut parts, body) = request.into_parts();
        let token = door::admit(&parts, entrance.local_only)
            .and_then(|()| self.token(&parts).ok_or(Refusal::SignIn))
            .and_then(|token| upstream::bearer(&token));
        match token {
            Ok(token) => {
                parts.headers.remove(header::COOKIE);
                parts.headers.insert(header::AUTHORIZATION, token);
                Ok(Request::from_parts(parts, body))
            }
            Err(refusal) => Err(Box::new(refusal.response())),
        }
    }

    /// What another part answers, so that a browser never runs it with the console's rights.
    pub fn passed(mut response: Response<Body>) -> Response<Body> {
        upstream::contain(&mut response);
        response
    }

    async fn answered(&self, entrance: Entrance, request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let (mut parts, body) = request.into_parts();
        door::admit(&parts, entrance.local_only)?;
        let path = parts.uri.path().to_owned();
        if path == "/session" {
            return self.session(entrance, &parts, body).await;
        }
        if path == "/api/health" {
            return Ok(self.0.grafana.health());
        }
        if !door::is_data(&parts) {
            return match parts.method {
                Method::GET | Method::HEAD => Ok(assets::answer(&path, &parts.headers)),
                _ => Err(Refusal::NotFound(format!("nothing to {} at {path}", parts.method))),
            };
        }
        // Within a machine, compressing an answer takes longer than passing it on as it is.
        if entrance.local_only {
            parts.headers.remove(header::ACCEPT_ENCODING);
        }
        let token = self.token(&parts).ok_or(Refusal::SignIn)?;
        let inner = &self.0;
        if path.starts_with("/api/") {
            return inner.grafana.answer(&inner.task, &inner.upstream, &parts, body, &token).await;
        }
        let request = Request::from_parts(parts, body);
        if upstream::is_stream(&request) {
            return inner.upstream.stream(&inner.task, request, &token).await;
        }
        inner.upstream.forward(&inner.task, request, &token).await
    }

    /// A program's token goes before a browser's cookie.
    fn token(&self, parts: &Parts) -> Option<String> {
        let host = door::host(&parts.headers, &parts.uri)?;
        upstream::shown(&parts.headers).or_else(|| self.0.sessions.token(&parts.headers, host))
    }

    async fn session(&self, entrance: Entrance, parts: &Parts, body: Body) -> Result<Response<Body>, Refusal> {
        let host = door::host(&parts.headers, &parts.uri).unwrap_or_default();
        match parts.method {
            Method::GET => {
                // Nobody is an answer too: browsers write about refusals as if they were errors.
                let Some(token) = self.token(parts) else { return Ok(json(&json!({"user": null}))) };
                match self.who(&token).await {
                    Ok(user) => Ok(self.shown(&user)),
                    Err(Refusal::SignIn) => Ok(json(&json!({"user": null}))),
                    Err(other) => Err(other),
                }
            }
            Method::POST => {
                let bytes = body::read(body, SIGN_IN).await.map_err(|error| Refusal::Invalid(error.to_string()))?;
                let posted = serde_json::from_slice(&bytes)
                    .map_err(|_| Refusal::Invalid("post {\"token\": ...} or {\"code\": ...}".into()))?;
                let token = match posted {
                    SignIn::Token(token) => token.trim().to_owned(),
                    SignIn::Code(code) => self.taken(&code)?,
                };
                if token.len() > TOKEN {
                    return Err(Refusal::Invalid(format!("the token is longer than {TOKEN} bytes")));
                }
                let user = self.who(&token).await?;
                let set = self.0.sessions.begin(&token, host, entrance.secure);
                let set = set.map_err(|error| Refusal::Unavailable(format!("{error:#}")))?;
                let mut response = self.shown(&user);
                put_cookie(&mut response, &set);
                Ok(response)
            }
            Method::DELETE => {
                let mut response = json(&json!({}));
                put_cookie(&mut response, &Sessions::end(host, entrance.secure));
                Ok(response)
            }
            _ => Err(Refusal::Invalid("a session is read, posted or deleted".into())),
        }
    }

    fn taken(&self, code: &str) -> Result<String, Refusal> {
        match self.0.sessions.take(code) {
            Ok(Some(token)) => Ok(token),
            Ok(None) => {
                Err(Refusal::Forbidden("this link was used or is too old: `madang console` prints a new one".into()))
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "link of the console");
                Err(Refusal::Unavailable(format!("{error:#}")))
            }
        }
    }

    async fn who(&self, token: &str) -> Result<User, Refusal> {
        self.0.gate.who_has(token).await.map_err(|refused| match refused {
            Refused::Unauthorized | Refused::Forbidden { .. } => Refusal::SignIn,
            Refused::Unavailable(error) => Refusal::Unavailable(format!("ask the API server who that is: {error}")),
        })
    }

    fn shown(&self, user: &User) -> Response<Body> {
        json(&json!({
            "user": user.name,
            "groups": user.groups,
            "parts": self.0.parts,
            "version": self.0.version,
        }))
    }
}

fn put_cookie(response: &mut Response<Body>, set: &str) {
    if let Ok(value) = HeaderValue::from_str(set) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}
