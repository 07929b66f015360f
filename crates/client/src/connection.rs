//! Ways to reach an API server: over HTTPS, or in the same process through the same front door.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use counts::counter::Counts;
use http::{HeaderValue, Request, Response, Uri, header, uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use kube::client::Body;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::service_fn;

/// Who the client is.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A client certificate (chain, end entity first) and its key, PEM.
    Certificate {
        /// The chain.
        chain: Vec<u8>,
        /// The private key.
        key: Vec<u8>,
    },
    /// A bearer token.
    Token(String),
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's address is no `https://HOST:PORT`.
    #[error("server {0:?}: expected https://HOST:PORT")]
    Server(String),
    /// The certificates or the key are unusable.
    #[error("client of {0}: {1}")]
    Tls(String, serve::tls::Error),
    /// The token cannot stand in a header.
    #[error("bearer token holds characters that no header can carry")]
    Token,
}

/// A client of the API server at `server` (`https://HOST:PORT`), trusting only `authority` (PEM). Requests share one
/// HTTP/2 connection, which is made anew when it breaks.
pub fn https(server: &str, authority: &[u8], credentials: &Credentials) -> Result<kube::Client, Error> {
    https_as("madang", server, authority, credentials)
}

/// The same under a name of its own: the user agent, under which objects' fields are owned that the client writes.
pub fn https_as(
    agent: &'static str,
    server: &str,
    authority: &[u8],
    credentials: &Credentials,
) -> Result<kube::Client, Error> {
    let wrong = || Error::Server(server.to_owned());
    let base: Uri = server.parse().map_err(|_| wrong())?;
    let host = base.host().ok_or_else(wrong)?.to_owned();
    if base.scheme() != Some(&uri::Scheme::HTTPS) {
        return Err(wrong());
    }
    let identity = match credentials {
        Credentials::Certificate { chain, key } => Some((chain.as_slice(), key.as_slice())),
        Credentials::Token(_) => None,
    };
    let bearer = match credentials {
        Credentials::Token(token) => {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Error::Token)?;
            value.set_sensitive(true);
            Some(value)
        }
        Credentials::Certificate { .. } => None,
    };
    let tls = serve::tls::client_config(authority, identity, &["h2", "http/1.1"])
        .map_err(|error| Error::Tls(server.to_owned(), error))?;
    let port = base.port_u16().unwrap_or(443);
    let dial = service_fn(move |_: Uri| Box::pin(dial(host.clone(), port, tls.clone())));
    let http: Client<_, Body> =
        Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).timer(TokioTimer::new()).build(dial);
    let service = service_fn(move |mut request: Request<Body>| {
        let mut parts = base.clone().into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        if let Ok(target) = Uri::from_parts(parts) {
            *request.uri_mut() = target;
        }
        request.headers_mut().entry(header::USER_AGENT).or_insert(HeaderValue::from_static(agent));
        if let Some(bearer) = &bearer {
            request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
        }
        let call = Call::new(&request, authority_of(&base));
        let answer = http.request(request);
        async move {
            let answer = answer.await;
            call.done(Counts::process(), answer.as_ref().ok().map(|answer| answer.status().as_u16()));
            answer
        }
    });
    Ok(kube::Client::new(service, "default"))
}

/// A request on its way, to be counted under upstream's names.
struct Call {
    method: http::Method,
    host: String,
    began: Instant,
}

impl Call {
    fn new(request: &Request<Body>, host: String) -> Self {
        Self { method: request.method().clone(), host, began: Instant::now() }
    }

    /// Counts it; without a status it never was answered.
    fn done(self, counts: &Counts, status: Option<u16>) {
        let code = status.map_or_else(|| "<error>".to_owned(), |status| status.to_string());
        let (method, host) = (self.method.as_str(), self.host.as_str());
        counts.add("rest_client_requests_total", &[("code", &code), ("host", host), ("method", method)]);
        let took = self.began.elapsed().as_secs_f64();
        let labels = [("host", host), ("verb", method)];
        counts.observe("rest_client_request_duration_seconds", BOUNDS, &labels, took);
    }
}

/// Upstream's bounds of the time that requests take, seconds.
const BOUNDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

fn authority_of(base: &Uri) -> String {
    base.authority().map(ToString::to_string).unwrap_or_default()
}

/// A client whose requests are answered by `handle` in this process.
pub fn in_process<H, F, B>(handle: H) -> kube::Client
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    in_process_counted(Counts::process(), handle)
}

/// The same; its requests are counted in `counts`, for there are several clients in one process.
pub fn in_process_counted<H, F, B>(counts: &Counts, handle: H) -> kube::Client
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let counts = counts.clone();
    let service = service_fn(move |request: Request<Body>| {
        let (call, counts) = (Call::new(&request, "in-process".to_owned()), counts.clone());
        let answer = handle(request);
        async move {
            let answer = answer.await;
            call.done(&counts, Some(answer.status().as_u16()));
            Ok::<_, Infallible>(answer)
        }
    });
    kube::Client::new(service, "default")
}

async fn dial(host: String, port: u16, tls: Arc<ClientConfig>) -> io::Result<Dialled> {
    let socket = TcpStream::connect((host.as_str(), port)).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = TlsConnector::from(tls).connect(name, socket).await?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Dialled { stream: TokioIo::new(stream), h2 })
}

/// A connection to the API server, and which HTTP it speaks.
struct Dialled {
    stream: TokioIo<TlsStream<TcpStream>>,
    h2: bool,
}

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        if self.h2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Dialled {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl Write for Dialled {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
