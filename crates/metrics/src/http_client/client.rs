//! Requests with credentials, additional headers and redirects.

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};

use super::{
    connect::Connect,
    settings::HttpClient,
    tls::{Trust, read_file},
    token::Tokens,
};

/// Redirects that are followed at most.
const REDIRECTS: usize = 10;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_mins(5);

/// Headers that are not sent to another host.
const SENSITIVE: [&str; 6] =
    ["authorization", "www-authenticate", "cookie", "cookie2", "proxy-authorization", "proxy-authenticate"];

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// What is configured cannot be used: a file is missing, a token is not granted.
    #[error("{method} \"{url}\": {reason}")]
    Configured {
        /// The method as Go writes it.
        method: String,
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The other side cannot be reached, or does not speak HTTP.
    #[error("{method} \"{url}\": {reason}")]
    Unreachable {
        /// The method as Go writes it.
        method: String,
        /// The address.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

/// Connections without anything configured on top.
#[derive(Clone, Debug)]
pub struct Wire {
    http: legacy::Client<Connect, Full<Bytes>>,
    connect: Connect,
}

impl Wire {
    /// Connections made by `connect`.
    pub fn new(connect: Connect) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(Duration::from_mins(1))
            .build(connect.clone());
        Self { http, connect }
    }

    /// Sends a request once.
    pub async fn send(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let extra = self.connect.proxy_headers(&uri);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        for (name, value) in extra {
            put(request.headers_mut(), &name, &value)?;
        }
        self.http.request(request).await.map_err(|error| innermost(&error))
    }
}

/// The last of the reasons: the others say only in which layer it was.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} cannot be the name of a header"))?;
    let mut value =
        HeaderValue::try_from(value).map_err(|_| format!("header {name} holds characters that no header can carry"))?;
    value.set_sensitive(true);
    headers.append(name, value);
    Ok(())
}

/// A client as configured. Clones share connections and tokens.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: HttpClient,
    wire: Wire,
    tokens: Option<Tokens>,
}

impl Client {
    /// A client. Files are read when a request needs them.
    pub fn new(settings: &HttpClient) -> Result<Self, String> {
        Self::build(settings, None)
    }

    /// A client whose requests all go to a socket of this machine.
    pub fn of_socket(settings: &HttpClient, socket: PathBuf) -> Result<Self, String> {
        Self::build(settings, Some(socket))
    }

    fn build(settings: &HttpClient, socket: Option<PathBuf>) -> Result<Self, String> {
        let mut settings = settings.clone();
        settings.validate()?;
        let trust = Trust::new(settings.tls_config.clone(), settings.enable_http2);
        let wire = Wire::new(Connect::new(&settings.proxy, trust, socket)?);
        let tokens = settings.oauth2.as_ref().map(Tokens::new).transpose()?;
        Ok(Self(Arc::new(Inner { settings, wire, tokens })))
    }

    /// What it was made of.
    pub fn settings(&self) -> &HttpClient {
        &self.0.settings
    }

    /// GET.
    pub async fn get(&self, uri: Uri, headers: HeaderMap) -> Result<Response<Incoming>, Failure> {
        self.send(Method::GET, uri, headers, Bytes::new()).await
    }

    /// Sends a request, and follows redirects if that is configured. There is no time limit on it: drop it when it takes
    /// too long. A host without scheme is none.
    pub async fn send(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let first = uri.clone();
        let (mut method, mut uri, mut headers, mut body) = (method, uri, headers, body);
        let shown = |method: &Method| {
            let name = method.as_str();
            name.chars().take(1).chain(name.chars().skip(1).flat_map(char::to_lowercase)).collect::<String>()
        };
        let mut foreign = false;
        for hop in 0.. {
            let failed = |reason: String| Failure::Unreachable { method: shown(&method), url: uri.to_string(), reason };
            let mut sent = headers.clone();
            self.dress(&mut sent, foreign).await.map_err(|reason| Failure::Configured {
                method: shown(&method),
                url: uri.to_string(),
                reason,
            })?;
            let answer = self.0.wire.send(method.clone(), uri.clone(), sent, body.clone()).await.map_err(failed)?;
            if !self.0.settings.follow_redirects || !is_redirect(answer.status()) {
                return Ok(answer);
            }
            let Some(location) = answer.headers().get(header::LOCATION) else { return Ok(answer) };
            if hop >= REDIRECTS {
                return Err(failed(format!("stopped after {REDIRECTS} redirects")));
            }
            let location = location.to_str().map_err(|error| failed(format!("Location header: {error}")))?;
            let next = resolve(&uri, location)
                .ok_or_else(|| failed(format!("failed to parse Location header {location:?}")))?;
            if !matches!(answer.status().as_u16(), 307 | 308) && method != Method::HEAD && method != Method::GET {
                method = Method::GET;
                body = Bytes::new();
                headers.remove(header::CONTENT_TYPE);
                headers.remove(header::CONTENT_ENCODING);
            }
            foreign = foreign || !same_site(&next, &first);
            uri = next;
        }
        unreachable!("the loop ends by itself")
    }

    /// Adds what is configured; not what is secret when the request goes elsewhere than it was meant for.
    async fn dress(&self, headers: &mut HeaderMap, foreign: bool) -> Result<(), String> {
        let settings = &self.0.settings;
        for (name, header) in &settings.http_headers {
            for value in header.values.iter().chain(header.secrets.iter().map(|secret| &secret.0)) {
                put(headers, name, value)?;
            }
            for file in &header.files {
                let value =
                    read_file(file).await.map_err(|error| format!("unable to read headers file {file}: {error}"))?;
                put(headers, name, &value)?;
            }
        }
        if foreign {
            for name in SENSITIVE {
                headers.remove(name);
            }
            return Ok(());
        }
        if headers.contains_key(header::AUTHORIZATION) {
            return Ok(());
        }
        if let Some(authorization) = &settings.authorization {
            let credentials = secret(
                &authorization.credentials.0,
                &authorization.credentials_file,
                &authorization.credentials_ref,
                "authorization credentials",
            )
            .await?;
            return put(headers, "authorization", &format!("{} {credentials}", authorization.kind));
        }
        if let Some(basic) = &settings.basic_auth {
            let name =
                secret(&basic.username, &basic.username_file, &basic.username_ref, "basic auth username").await?;
            let password =
                secret(&basic.password.0, &basic.password_file, &basic.password_ref, "basic auth password").await?;
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
            return put(headers, "authorization", &format!("Basic {pair}"));
        }
        if let Some(tokens) = &self.0.tokens {
            return put(headers, "authorization", &tokens.header().await?);
        }
        Ok(())
    }
}

async fn secret(text: &str, file: &str, name: &str, what: &str) -> Result<String, String> {
    if !name.is_empty() {
        return Err(format!("unable to read {what}: cannot use secret ref without manager"));
    }
    match file {
        "" => Ok(text.to_owned()),
        file => read_file(file).await.map_err(|error| format!("unable to read {what}: {error}")),
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether `uri` is at the host of `first` or below it.
fn same_site(uri: &Uri, first: &Uri) -> bool {
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_lowercase();
    let (host, first) = (host(uri), host(first));
    host == first
        || (!host.contains([':', '%'])
            && !first.is_empty()
            && host.strip_suffix(&first).is_some_and(|rest| rest.ends_with('.')))
}

/// What a `Location` means.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?.as_str());
    let text = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let dir = base.path().rsplit_once('/').map_or("", |parts| parts.0);
        format!("{scheme}://{authority}{dir}/{location}")
    };
    let uri: Uri = text.parse().ok()?;
    matches!(uri.scheme_str(), Some("http" | "https")).then_some(uri)
}
