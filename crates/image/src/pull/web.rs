//! Requests to servers that are no registries, by the same connections: proxies, certificates and names of this machine.
//!
//! For sources of builds: files of the web, repositories.

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, PROXY_AUTHORIZATION, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use super::{
    Patience, Pull,
    connect::Connector,
    session::{AGENT, REDIRECTS, causes, parse_uri, resolve},
};

/// The body of an answer; a piece that does not come in time is an error.
pub type Body = BoxStream<'static, io::Result<Bytes>>;

/// A client. Clones share connections.
#[derive(Clone)]
pub struct Web {
    client: Arc<Client<Connector, Full<Bytes>>>,
    connector: Connector,
    patience: Patience,
}

impl Web {
    /// Speaks with servers as pulls do.
    pub fn new(pull: &Pull) -> anyhow::Result<Self> {
        let connector = Connector::new(pull)?;
        Ok(Self {
            client: Arc::new(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(4).build(connector.clone())),
            connector,
            patience: pull.patience.clone(),
        })
    }

    /// Connects to a server that speaks something else than HTTP; where only others may be reached, not to this machine itself. No
    /// proxy is between.
    pub async fn connect(&self, host: &str, port: u16) -> anyhow::Result<tokio::net::TcpStream> {
        self.connector.plainly(host, port).await
    }

    /// Sends a request, once more where nobody answered, and follows redirects. What it shows to authorise itself goes to
    /// nobody else than the host it is for; from HTTPS nothing leads to HTTP. The URL that answered, and the answer,
    /// whatever its status.
    pub async fn send(&self, request: Request<Bytes>) -> anyhow::Result<(Uri, Response<Body>)> {
        let (mut parts, mut body) = request.into_parts();
        parts.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let mut uri = parse_uri(&parts.uri.to_string())?;
        for _ in 0..=REDIRECTS {
            let answer = self.once(&parts, &uri, &body).await?;
            let status = answer.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return Ok((uri, answer.map(|body| pieces(body, self.patience.answer))));
            }
            let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = resolve(&uri, location.with_context(|| format!("{uri} redirects without saying where"))?)?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                bail!("{uri} redirects to {next}, which is not encrypted");
            }
            if (uri.scheme(), uri.authority()) != (next.scheme(), next.authority()) {
                parts.headers.remove(AUTHORIZATION);
            }
            let keeps = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            if parts.method == Method::POST && !keeps {
                (parts.method, body) = (Method::GET, Bytes::new());
                parts.headers.remove(CONTENT_TYPE);
                parts.headers.remove(CONTENT_LENGTH);
            }
            uri = next;
        }
        bail!("{uri} redirects more than {REDIRECTS} times")
    }

    async fn once(&self, parts: &http::request::Parts, uri: &Uri, body: &Bytes) -> anyhow::Result<Response<Incoming>> {
        let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let limit = self.patience.connect + self.patience.answer;
        let mut tried = 0;
        loop {
            tried += 1;
            let mut request = Request::new(Full::new(body.clone()));
            (*request.method_mut(), *request.uri_mut()) = (parts.method.clone(), uri.clone());
            request.headers_mut().clone_from(&parts.headers);
            if let Some(authorization) = self.connector.proxy_authorization(uri) {
                request.headers_mut().insert(PROXY_AUTHORIZATION, HeaderValue::from_str(authorization)?);
            }
            let error = match tokio::time::timeout(limit, self.client.request(request)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => anyhow!("ask {host}: {}", causes(&error)),
                Err(_) => anyhow!("ask {host}: no answer in time"),
            };
            if tried == self.patience.tries.clamp(1, 2) {
                return Err(error);
            }
            tokio::time::sleep(self.patience.pause).await;
        }
    }
}

fn pieces(body: Incoming, patience: Duration) -> Body {
    Box::pin(stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        loop {
            let error = match tokio::time::timeout(patience, body.frame()).await {
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, "the answer has stalled"),
                Ok(None) => return None,
                Ok(Some(Err(error))) => io::Error::other(causes(&error)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => return Some((Ok(bytes), Some(body))),
                    Err(_) => continue,
                },
            };
            return Some((Err(error), None));
        }
    }))
}
