//! Ways to reach an API server: over HTTPS, or in the same process through the same front door.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

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
        http.request(request)
    });
    Ok(kube::Client::new(service, "default"))
}

/// A client whose requests are answered by `handle` in this process.
pub fn in_process<H, F, B>(handle: H) -> kube::Client
where
    H: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = service_fn(move |request: Request<Body>| {
        let answer = handle(request);
        async move { Ok::<_, Infallible>(answer.await) }
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
