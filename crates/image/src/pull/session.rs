//! Requests to one endpoint: authorised, redirected, tried again.
//!
//! ```text
//! request ─► 2xx ─► answer
//!    ▲  ├──► 401 ─► token or password by the challenge ─► again
//!    │  │      └──► that was not enough ─► next credentials ─► … ─► denied
//!    │  ├──► 3xx ─► elsewhere, without credentials there
//!    │  └──► 429, 5xx, broken ─► pause ─┐
//!    └──────────────────────────────────┘
//! ```

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::anyhow;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::TryStreamExt;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, PROXY_AUTHORIZATION, RANGE,
        RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
    },
};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use oci::{distribution::Errors, query::encoded};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{
    Credentials, Error, Patience,
    challenge::Challenge,
    connect::Connector,
    registries::{Endpoint, Scheme},
};

/// Most redirects followed for one request.
pub(super) const REDIRECTS: usize = 6;
/// Most bytes of a token or of a refusal.
const SMALL_BODY: usize = 1 << 20;
pub(super) const AGENT: &str = concat!("madang/", env!("CARGO_PKG_VERSION"));
/// Bytes read of a blob that is sent, at a time.
const PIECE: usize = 256 << 10;

/// What requests carry.
pub(crate) type Payload = UnsyncBoxBody<Bytes, io::Error>;
/// Connections of one pull or push.
pub(crate) type Connections = Arc<Client<Connector, Payload>>;

/// One endpoint of a pull or push.
pub(crate) struct Session {
    client: Connections,
    connector: Connector,
    patience: Patience,
    endpoint: Endpoint,
    /// `https` or `http`.
    scheme: &'static str,
    /// Tried in order; after them none, unless they are what is to be judged.
    credentials: Vec<Credentials>,
    judged: bool,
    /// What a token has to allow, whatever the challenge names: `repository:NAME:pull,push`.
    scopes: Vec<String>,
    authorization: tokio::sync::Mutex<Authorization>,
}

/// What requests show at present.
#[derive(Default)]
struct Authorization {
    header: Option<HeaderValue>,
    expires: Option<Instant>,
    /// Which of the credentials it comes from.
    chosen: usize,
}

/// What to ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub method: Method,
    /// Below the repository: `manifests/latest`.
    pub path: String,
    pub accept: Option<&'static str>,
    /// The first byte wanted, of a blob that breaks off.
    pub from: u64,
    /// What is sent along.
    pub content: Content,
    /// Where the registry said to go on, instead of `path`.
    pub place: Option<Uri>,
    /// Not tried again when the connection breaks.
    pub once: bool,
}

/// What is sent along.
#[derive(Clone, Default)]
pub(crate) enum Content {
    #[default]
    Nothing,
    /// A manifest, with its media type.
    Document(String, Bytes),
    /// A file from `from` to its end at `size`; `told` hears how far it is.
    Blob { file: PathBuf, from: u64, size: u64, told: Arc<dyn Fn(u64) + Send + Sync> },
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Document(media_type, bytes) => write!(f, "{media_type} of {} bytes", bytes.len()),
            Self::Blob { file, from, size, .. } => write!(f, "{} from {from} to {size}", file.display()),
        }
    }
}

impl Session {
    pub async fn open(
        client: Connections,
        connector: Connector,
        patience: Patience,
        endpoint: Endpoint,
        credentials: Vec<Credentials>,
    ) -> Result<Self, Error> {
        let scopes = vec![format!("repository:{}:pull", endpoint.repository)];
        let scheme = match endpoint.base.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Either => {
                let uri = parse_uri(&format!("https://{}/", endpoint.base.authority))?;
                match connector.speaks_tls(&uri).await {
                    Ok(true) => "https",
                    Ok(false) => "http",
                    Err(error) => return Err(Error::Unavailable(format!("{error:#}"))),
                }
            }
        };
        let authorization = Default::default();
        Ok(Self { client, connector, patience, endpoint, scheme, credentials, judged: false, scopes, authorization })
    }

    /// A session that may also push, and read the repositories `others` of the same registry.
    pub fn writing(mut self, others: &[String]) -> Self {
        self.scopes = vec![format!("repository:{}:pull,push", self.endpoint.repository)];
        self.scopes.extend(others.iter().map(|other| format!("repository:{other}:pull")));
        self
    }

    /// Asks the registry's front door, which tells whether the credentials are good, as far as it wants any.
    pub async fn knock(mut self) -> Result<(), Error> {
        self.scopes.clear();
        // That nobody in particular is let in makes no password right.
        self.judged = true;
        let base = &self.endpoint.base;
        let place = parse_uri(&format!("{}://{}{}/", self.scheme, base.authority, base.path))?;
        let ask = Ask { path: "login".into(), place: Some(place), ..Ask::default() };
        self.ask(&ask).await.map(drop)
    }

    /// A client for all sessions of a pull: they share connections.
    pub fn client(connector: Connector) -> Connections {
        Arc::new(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(4).build(connector))
    }

    /// Whom this speaks to.
    pub fn authority(&self) -> &str {
        &self.endpoint.base.authority
    }

    fn url(&self, ask: &Ask) -> String {
        let Endpoint { base, repository, mirror_of, .. } = &self.endpoint;
        let mut url = format!("{}://{}{}/{repository}/{}", self.scheme, base.authority, base.path, ask.path);
        if let Some(registry) = mirror_of {
            let separator = if ask.path.contains('?') { '&' } else { '?' };
            url += &format!("{separator}ns={}", encoded(registry));
        }
        url
    }

    /// How long and how often.
    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Where an answer says to go on.
    pub fn place(&self, answer: &Response<Incoming>) -> Result<Uri, Error> {
        let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.ok_or_else(|| anyhow!("{} does not say where to upload to", self.authority()))?;
        resolve(&parse_uri(&self.url(&Ask { path: "blobs/uploads/".into(), ..Ask::default() }))?, location)
    }

    /// Asks until there is an answer: success, or a refusal that asking again does not change.
    pub async fn ask(&self, ask: &Ask) -> Result<Response<Incoming>, Error> {
        let (mut tried, mut heard) = (0, Instant::now());
        // Each challenge either refreshes a token or moves on to the next credentials.
        let mut challenges = self.credentials.len() + 2;
        loop {
            tried += 1;
            let shown = self.authorization.lock().await.header.clone();
            let answer = self.follow(ask, shown.clone()).await;
            if answer.is_ok() {
                heard = Instant::now();
            }
            let problem = match answer {
                Ok(answer) => match answer.status() {
                    status if status.is_success() => return Ok(answer),
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if challenges > 0 => {
                        let challenge = challenge(answer.headers());
                        let denied = refusal(ask, answer).await;
                        challenges -= 1;
                        self.authorise(shown, challenge, denied).await?;
                        tried -= 1;
                        continue;
                    }
                    StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::REQUEST_TIMEOUT
                    | StatusCode::INTERNAL_SERVER_ERROR
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT => {
                        let wait = retry_after(answer.headers());
                        (refusal(ask, answer).await, wait)
                    }
                    _ => return Err(refusal(ask, answer).await),
                },
                Err(error @ Error::Unavailable(_)) => (error, None),
                Err(error) => return Err(error),
            };
            let (error, wait) = problem;
            if ask.once || tried >= self.patience.tries || heard.elapsed() >= self.patience.silence {
                return Err(error);
            }
            tracing::debug!(%error, tried, "registry is asked again");
            tokio::time::sleep(self.pause(tried, wait)).await;
        }
    }

    /// How long to wait before the next try.
    pub fn pause(&self, tried: u32, asked: Option<Duration>) -> Duration {
        let usual = self.patience.pause.saturating_mul(1 << tried.saturating_sub(1).min(16));
        asked.unwrap_or(usual).min(self.patience.longest_pause)
    }

    /// One request with its redirects. Credentials are shown to the endpoint's own host only.
    async fn follow(&self, ask: &Ask, authorization: Option<HeaderValue>) -> Result<Response<Incoming>, Error> {
        let own = parse_uri(&self.url(ask))?;
        let home = (own.scheme_str().map(str::to_owned), own.authority().cloned());
        let mut uri = ask.place.clone().unwrap_or(own);
        if self.scheme == "https" && uri.scheme_str() != Some("https") {
            return Err(anyhow!("{} sends uploads to {uri}, which is not encrypted", self.authority()).into());
        }
        for _ in 0..REDIRECTS {
            let mut request = Request::builder().method(&ask.method).uri(&uri);
            let headers = request.headers_mut().ok_or_else(|| anyhow!("request for {uri}"))?;
            if let Some(accept) = ask.accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            if ask.from > 0 {
                headers.insert(RANGE, HeaderValue::try_from(format!("bytes={}-", ask.from)).map_err(|e| anyhow!(e))?);
            }
            let at_home = (uri.scheme_str().map(str::to_owned), uri.authority().cloned()) == home;
            if let Some(authorization) = authorization.as_ref().filter(|_| at_home) {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let pulse = Arc::new(Pulse::default());
            let body = ask.content.body(headers, &pulse).await?;
            let request = request.body(body).map_err(|error| anyhow!(error))?;
            let answer = self.send(request, &pulse).await?;
            if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let Some(location) = location else {
                return Err(anyhow!("{uri} redirects without saying where").into());
            };
            let next = resolve(&uri, location)?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(anyhow!("{uri} redirects to {next}, which is not encrypted").into());
            }
            uri = next;
        }
        Err(anyhow!("{uri} redirects more than {REDIRECTS} times").into())
    }

    async fn send(&self, mut request: Request<Payload>, pulse: &Pulse) -> Result<Response<Incoming>, Error> {
        let uri = request.uri().clone();
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(authorization) = self.connector.proxy_authorization(&uri) {
            let value = HeaderValue::from_str(authorization).map_err(|error| anyhow!(error))?;
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default().to_owned();
        let failed = |text: String| Error::Unavailable(format!("ask {host}: {text}"));
        let limit = self.patience.connect + self.patience.answer;
        let answer = self.client.request(request);
        tokio::pin!(answer);
        let mut beats = pulse.beats();
        // What is sent may take long, as long as some of it is taken.
        loop {
            match tokio::time::timeout(limit, answer.as_mut()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => return Err(failed(causes(&error))),
                Err(_) if pulse.beats() == beats => return Err(failed("no answer in time".into())),
                Err(_) => beats = pulse.beats(),
            }
        }
    }

    /// Makes the next request show more than `shown`, which was not enough, or fails with `denied`.
    async fn authorise(
        &self,
        shown: Option<HeaderValue>,
        challenge: Option<Challenge>,
        denied: Error,
    ) -> Result<(), Error> {
        let mut state = self.authorization.lock().await;
        if state.header != shown {
            // Another request has done so meanwhile.
            return Ok(());
        }
        if shown.is_some() && state.expires.is_none_or(|expires| Instant::now() < expires) {
            state.chosen += 1;
        }
        let Some(challenge) = challenge else { return Err(denied) };
        let mut last = denied;
        while state.chosen < self.credentials.len() + usize::from(!self.judged) {
            let credentials = self.credentials.get(state.chosen);
            match self.header_for(&challenge, credentials).await {
                Ok(Some((header, lifetime))) => {
                    state.header = Some(header);
                    state.expires = lifetime.map(|lifetime| Instant::now() + lifetime);
                    return Ok(());
                }
                // Without credentials there is nothing to show to who wants a password.
                Ok(None) => {}
                // What nobody is told says less than what somebody was.
                Err(Error::Denied(_)) if credentials.is_none() && !self.credentials.is_empty() => {}
                Err(error @ Error::Denied(_)) => last = error,
                Err(error) => return Err(error),
            }
            state.chosen += 1;
        }
        Err(last)
    }

    /// The header that answers a challenge, and how long it is good for; nothing where credentials are needed.
    async fn header_for(
        &self,
        challenge: &Challenge,
        credentials: Option<&Credentials>,
    ) -> Result<Option<(HeaderValue, Option<Duration>)>, Error> {
        let (text, lifetime) = match (challenge, credentials) {
            (_, Some(Credentials::Token(token))) => (format!("Bearer {token}"), None),
            (Challenge::Basic, Some(Credentials::Password { username, password })) => (basic(username, password), None),
            (Challenge::Basic, _) => return Ok(None),
            (Challenge::Bearer { realm, service, scope }, credentials) => {
                let (token, lifetime) = self.token(realm, service.as_deref(), scope.as_deref(), credentials).await?;
                (format!("Bearer {token}"), Some(lifetime))
            }
        };
        let mut header = HeaderValue::try_from(text).map_err(|_| anyhow!("credentials that no header can hold"))?;
        header.set_sensitive(true);
        Ok(Some((header, lifetime)))
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<(String, Duration), Error> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
            #[serde(default)]
            expires_in: Option<f64>,
        }
        let scopes = merged(&self.scopes, scope.unwrap_or_default());
        let mut query: Vec<(&str, &str)> = scopes.iter().map(|scope| ("scope", scope.as_str())).collect();
        query.extend(service.map(|service| ("service", service)));
        let place = parse_uri(realm)?;
        if self.scheme == "https" && place.scheme_str() != Some("https") {
            return Err(anyhow!("{} gives tokens at {realm}, which is not encrypted", self.authority()).into());
        }
        let request = match credentials {
            Some(Credentials::Identity(refresh)) => {
                let together = scopes.join(" ");
                query.retain(|(key, _)| *key != "scope");
                query.extend([("grant_type", "refresh_token"), ("client_id", "madang"), ("refresh_token", refresh)]);
                query.push(("scope", &together));
                let request = Request::post(place).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
                request.body(whole(form(&query)))
            }
            _ => {
                let separator = if realm.contains('?') { '&' } else { '?' };
                let mut request = Request::get(format!("{realm}{separator}{}", form(&query)));
                if let Some(Credentials::Password { username, password }) = credentials {
                    request = request.header(AUTHORIZATION, basic(username, password));
                }
                request.body(whole(Bytes::new()))
            }
        };
        let request = request.map_err(|error| anyhow!("ask for a token at {realm}: {error}"))?;
        let answer = self.send(request, &Pulse::default()).await?;
        let status = answer.status();
        let body = small_body(answer).await;
        if !status.is_success() {
            let reason = Errors::parse(&body).map_or_else(|| status.to_string(), |errors| errors.to_string());
            let text = format!("token for {}/{}: {reason}", self.authority(), self.endpoint.repository);
            return Err(match status {
                StatusCode::TOO_MANY_REQUESTS => Error::Unavailable(text),
                status if status.is_server_error() => Error::Unavailable(text),
                _ => Error::Denied(text),
            });
        }
        let token: Token = serde_json::from_slice(&body)
            .map_err(|error| anyhow!("read the token of {}: {error}", self.authority()))?;
        let seconds = token.expires_in.filter(|seconds| seconds.is_finite()).unwrap_or(60.0).clamp(5.0, 86_400.0);
        match token.token.filter(|token| !token.is_empty()).or(token.access_token) {
            // A little early, so that it does not expire on the way.
            Some(token) => Ok((token, Duration::from_secs_f64(seconds * 0.9))),
            None => Err(anyhow!("{} gave no token", self.authority()).into()),
        }
    }

    /// Waits for the next piece of a body.
    pub async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>, String> {
        loop {
            match tokio::time::timeout(self.patience.answer, body.frame()).await {
                Err(_) => return Err("it has stalled".into()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(causes(&error)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
                    _ => {}
                },
            }
        }
    }
}

/// Counts the pieces of a body that were taken.
#[derive(Default)]
struct Pulse(AtomicU64);

impl Pulse {
    fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Content {
    /// The body of one try, and what the headers say of it.
    async fn body(&self, headers: &mut HeaderMap, pulse: &Arc<Pulse>) -> Result<Payload, Error> {
        match self {
            Self::Nothing => Ok(whole(Bytes::new())),
            Self::Document(media_type, bytes) => {
                headers.insert(CONTENT_TYPE, HeaderValue::try_from(media_type).map_err(|error| anyhow!(error))?);
                Ok(whole(bytes.clone()))
            }
            Self::Blob { file, from, size, told } => {
                let named = |error: io::Error| anyhow!("read {}: {error}", file.display());
                let mut opened = tokio::fs::File::open(file).await.map_err(named)?;
                opened.seek(io::SeekFrom::Start(*from)).await.map_err(named)?;
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                headers.insert(CONTENT_LENGTH, HeaderValue::from(size.saturating_sub(*from)));
                // Of a whole blob the range says nothing, and some registries refuse it.
                if *from > 0 {
                    let range = format!("{from}-{}", size.saturating_sub(1));
                    headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).map_err(|error| anyhow!(error))?);
                }
                let (pulse, told, mut at) = (pulse.clone(), told.clone(), *from);
                let pieces = tokio_util::io::ReaderStream::with_capacity(opened.take(size - from), PIECE);
                let frames = pieces.map_ok(move |piece| {
                    pulse.0.fetch_add(1, Ordering::Relaxed);
                    at += piece.len() as u64;
                    told(at);
                    Frame::data(piece)
                });
                Ok(StreamBody::new(frames).boxed_unsync())
            }
        }
    }
}

fn whole(bytes: impl Into<Bytes>) -> Payload {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The scopes to ask for: what is wanted, and of the challenge what that does not cover.
fn merged(wanted: &[String], challenged: &str) -> Vec<String> {
    let resource = |scope: &str| scope.rsplit_once(':').map_or(scope, |(resource, _)| resource).to_owned();
    let mut scopes = wanted.to_vec();
    for scope in challenged.split(' ').filter(|scope| !scope.is_empty()) {
        let same = scopes.iter_mut().find(|other| resource(other) == resource(scope));
        match same {
            None => scopes.push(scope.to_owned()),
            Some(other) => {
                let actions = scope.rsplit_once(':').map_or("", |(_, actions)| actions);
                for action in actions.split(',') {
                    let (_, have) = other.rsplit_once(':').unwrap_or_default();
                    if !have.split(',').any(|own| own == action) {
                        *other = format!("{other},{action}");
                    }
                }
            }
        }
    }
    scopes
}

fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut challenges: Vec<_> = values.filter_map(Challenge::parse).collect();
    challenges.sort_by_key(|challenge| *challenge == Challenge::Basic);
    challenges.into_iter().next()
}

/// An answer that is no success, as an error.
async fn refusal(ask: &Ask, answer: Response<Incoming>) -> Error {
    let status = answer.status();
    // Answers to HEAD say why in their headers alone: RFC 6750, section 3.1.
    let mut challenges = answer.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let limited = challenges.any(|value| value.contains("error=\"insufficient_scope\""));
    let body = small_body(answer).await;
    let reason = match (Errors::parse(&body), limited) {
        (Some(errors), _) => errors.to_string(),
        (None, true) => "denied: the credentials do not allow it".to_owned(),
        (None, false) => status.to_string(),
    };
    let text = format!("{}: {reason}", ask.path);
    match status {
        StatusCode::NOT_FOUND => Error::NotFound(ask.path.clone()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied(text),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Error::Unavailable(text),
        status if status.is_server_error() => Error::Unavailable(text),
        _ => Error::Other(anyhow!(text)),
    }
}

async fn small_body(answer: Response<Incoming>) -> Bytes {
    let read = Limited::new(answer.into_body(), SMALL_BODY).collect();
    match tokio::time::timeout(Duration::from_secs(30), read).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    }
}

/// Seconds; a date is rare and taken as nothing said.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

fn form(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect::<Vec<_>>().join("&")
}

pub(super) fn parse_uri(text: &str) -> Result<Uri, Error> {
    let uri: Uri = text.parse().map_err(|error| anyhow!("URL {text}: {error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(uri),
        _ => Err(anyhow!("URL {text}: not of HTTP").into()),
    }
}

/// Where a redirect leads: a URL, or a path on the same host.
pub(super) fn resolve(from: &Uri, location: &str) -> Result<Uri, Error> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return parse_uri(location.split('#').next().unwrap_or_default());
    }
    let foreign = location.split_once("://").is_some_and(|(scheme, _)| !scheme.contains(['/', '?', '#']));
    if foreign {
        return Err(anyhow!("{from} redirects to {location}, which is not of HTTP").into());
    }
    let scheme = from.scheme_str().unwrap_or("https");
    if let Some(rest) = location.strip_prefix("//") {
        return parse_uri(&format!("{scheme}://{rest}"));
    }
    let authority = from.authority().map(|authority| authority.as_str()).unwrap_or_default();
    match location.starts_with('/') {
        true => parse_uri(&format!("{scheme}://{authority}{location}")),
        false => {
            let base = from.path().rsplit_once('/').map_or("", |(base, _)| base);
            parse_uri(&format!("{scheme}://{authority}{base}/{location}"))
        }
    }
}

/// An error with all that caused it, without repeating what is already said.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_adds_to_what_a_token_has_to_allow() {
        let wanted = ["repository:a/b:pull,push".to_owned(), "repository:c:pull".to_owned()];
        for (challenged, expected) in [
            ("", "repository:a/b:pull,push repository:c:pull"),
            ("repository:a/b:pull", "repository:a/b:pull,push repository:c:pull"),
            ("repository:a/b:delete", "repository:a/b:pull,push,delete repository:c:pull"),
            ("registry:catalog:*", "repository:a/b:pull,push repository:c:pull registry:catalog:*"),
        ] {
            assert_eq!(merged(&wanted, challenged).join(" "), expected);
        }
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let from: Uri = "https://a.io/v2/x/blobs/y".parse().unwrap();
        for (location, expected) in [
            ("https://b.io/z?q=1#f", "https://b.io/z?q=1"),
            ("//b.io/z", "https://b.io/z"),
            ("/z", "https://a.io/z"),
            ("z", "https://a.io/v2/x/blobs/z"),
        ] {
            assert_eq!(resolve(&from, location).unwrap().to_string(), expected);
        }
        assert!(resolve(&from, "http://").is_err());
        assert!(resolve(&from, "file:///etc/passwd").is_err());
        assert!(resolve(&from, "x?to=file:///y").is_ok());
    }
}
