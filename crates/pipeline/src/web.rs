//! Requests to the web, for repositories elsewhere and for `httpRequest`.
//!
//! Scripts say where they go, and this process stands where scripts do not: on the machine itself. So nothing is asked that only the
//! machine can reach, its own loopback and link-local addresses, whatever name leads there; redirections are judged likewise.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use http::{HeaderValue, Method, Request, Response, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Redirections that are followed.
const REDIRECTIONS: usize = 10;
/// How long connecting may take, and the head of an answer.
const CONNECT: Duration = Duration::from_secs(20);
const HEAD: Duration = Duration::from_secs(300);

static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(rustls::ALL_VERSIONS);
    let builder = builder.expect("ring has these versions");
    let mut config = builder.with_root_certificates(serve::trust::host_roots()).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
});

/// Whether an address is for this machine alone.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_unspecified() || address.is_link_local() || address.is_broadcast()
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_private(address.into()),
            None => address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local(),
        },
    }
}

fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// Sends a request, follows redirections, and tells who answered at last.
///
/// # Errors
/// Nobody answers, or nobody may be asked there.
pub async fn exchange(request: Request<Bytes>) -> io::Result<(Uri, Response<git::remote::Body>)> {
    let (mut parts, mut body) = request.into_parts();
    for _ in 0..=REDIRECTIONS {
        let mut asked = Request::new(body.clone());
        *asked.method_mut() = parts.method.clone();
        *asked.uri_mut() = parts.uri.clone();
        *asked.headers_mut() = parts.headers.clone();
        let response = send(asked).await?;
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location.filter(|_| matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308))
        else {
            return Ok((parts.uri, response));
        };
        let target =
            resolved(&parts.uri, location).ok_or_else(|| io::Error::other(format!("redirected to {location:?}")))?;
        if target.authority() != parts.uri.authority() {
            parts.headers.remove(header::AUTHORIZATION);
            parts.headers.remove(header::COOKIE);
        }
        let again = matches!(response.status().as_u16(), 307 | 308) || parts.method == Method::GET;
        if !again && parts.method != Method::HEAD {
            parts.method = Method::GET;
            body = Bytes::new();
        }
        parts.uri = target;
    }
    Err(io::Error::other("redirected too often"))
}

/// Where a redirection leads.
fn resolved(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return location.parse().ok();
    }
    let authority = from.authority()?.as_str();
    let path = match location.strip_prefix('/') {
        Some(rest) => format!("/{rest}"),
        None => format!("{}/{location}", from.path().rsplit_once('/').map_or("", |(before, _)| before)),
    };
    format!("{}://{authority}{path}", from.scheme_str()?).parse().ok()
}

async fn send(mut request: Request<Bytes>) -> io::Result<Response<git::remote::Body>> {
    let uri = request.uri().clone();
    let host = uri.host().ok_or_else(|| io::Error::other("an address without a host"))?.to_owned();
    let secure = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(io::Error::other(format!("{uri} is neither https nor http"))),
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let socket = connect(&bare, port).await?;
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let value = HeaderValue::from_str(authority).map_err(io::Error::other)?;
    request.headers_mut().insert(header::HOST, value);
    request.headers_mut().entry(header::USER_AGENT).or_insert(HeaderValue::from_static("madang"));
    *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse().map_err(io::Error::other)?;
    if !secure {
        return converse(socket, request).await;
    }
    let name = ServerName::try_from(bare).map_err(io::Error::other)?;
    let stream = tokio::time::timeout(CONNECT, TlsConnector::from(TLS.clone()).connect(name, socket)).await;
    converse(stream.map_err(|_| late(&host))??, request).await
}

/// Connects to a host that is not this machine itself. An IPv6 address has no brackets.
///
/// # Errors
/// Nobody answers in time, or nobody may be asked there.
pub(crate) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let found = tokio::time::timeout(CONNECT, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| late(host))??;
    let addresses: Vec<SocketAddr> = found.filter(|address| !is_private(address.ip())).collect();
    if addresses.is_empty() {
        return Err(refused(format!("{host} is this machine itself, which pipelines cannot ask")));
    }
    let socket = tokio::time::timeout(CONNECT, TcpStream::connect(&*addresses)).await.map_err(|_| late(host))??;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn late(host: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{host} does not answer"))
}

async fn converse<S>(stream: S, request: Request<Bytes>) -> io::Result<Response<git::remote::Body>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(io::Error::other)?;
    // The connection is carried on by whoever reads the answer: it lives as long as that.
    let mut connection = Box::pin(connection.fuse());
    let mut answer = Box::pin(sender.send_request(request.map(Full::new)));
    let head = async {
        loop {
            tokio::select! {
                answer = &mut answer => return answer.map_err(io::Error::other),
                ended = &mut connection => ended.map_err(io::Error::other)?,
            }
        }
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let response = tokio::time::timeout(HEAD, head).await.map_err(late)??;
    let (parts, body) = response.into_parts();
    let mut body = body.into_data_stream().map_err(io::Error::other);
    let pieces = futures::stream::poll_fn(move |context| {
        // An error of the connection is one of the body, too.
        let _ = std::future::Future::poll(connection.as_mut(), context);
        body.poll_next_unpin(context)
    });
    Ok(Response::from_parts(parts, pieces.boxed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_machine_are_not_asked() {
        for (address, private) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("0.0.0.0", true),
            ("169.254.169.254", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("fe80::1", true),
            ("10.42.0.7", false),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }

    #[test]
    fn redirections_lead_where_they_say() {
        let from: Uri = "https://a.example/b/c?d".parse().unwrap();
        for (location, expected) in [
            ("https://other.example/x", "https://other.example/x"),
            ("/x?y", "https://a.example/x?y"),
            ("x", "https://a.example/b/x"),
        ] {
            assert_eq!(resolved(&from, location).unwrap().to_string(), expected);
        }
    }
}
