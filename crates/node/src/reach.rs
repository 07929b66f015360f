//! Knocking at a container's doors: HTTP, TCP and gRPC health checks, as probes and hooks use them.
//!
//! A connection a request: a probe must not be answered by an old connection to a process that has gone.
//! Certificates are not checked: the other end is known by its address.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use image::names::Names;
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use rustls::{ClientConfig, pki_types::ServerName};
use task::Task;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// Bytes of an answer that are looked at.
const BODY_LIMIT: usize = 10 * 1024;
const REDIRECTS: usize = 10;

/// Who knocks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Carries the connections.
    pub task: Task,
    /// Finds hosts by name.
    pub names: Names,
    /// How it calls itself.
    pub agent: &'static str,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status; of the first redirect that leads to another host, where there is one.
    pub status: u16,
    /// The beginning of its body.
    pub body: String,
}

/// The number of a port that may be named in the container.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let ports = container.ports.as_deref().unwrap_or_default();
            let named = ports.iter().find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .with_context(|| format!("couldn't find port: {port:?}"))
}

/// Opens a TCP connection and closes it.
pub async fn tcp(address: SocketAddr, limit: Duration) -> Result<()> {
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => bail!("dial tcp {address}: connect: {}", reason(&error)),
        Err(_) => bail!("dial tcp {address}: i/o timeout"),
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        _ => error.to_string(),
    }
}

/// Sends the request that `action` describes to a container of the pod at `pod_ip`.
pub async fn http(
    caller: &Caller,
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: IpAddr,
    limit: Duration,
) -> Result<Answer> {
    let port = port(&action.port, container)?;
    let secure = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let host = match action.host.as_deref() {
        Some(host) if !host.is_empty() => host.to_owned(),
        _ if pod_ip.is_ipv6() => format!("[{pod_ip}]"),
        _ => pod_ip.to_string(),
    };
    let path = action.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let scheme = if secure { "https" } else { "http" };
    let url = format!("{scheme}://{host}:{port}{slash}{path}");
    let attempt = async {
        let mut target: Uri = url.parse().with_context(|| format!("invalid address {url:?}"))?;
        for _ in 0..REDIRECTS {
            let answer = send(caller, &target, action).await?;
            let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let redirected = answer.status().is_redirection() && answer.status() != StatusCode::NOT_MODIFIED;
            let next = location.filter(|_| redirected).and_then(|location| follow(&target, location));
            let status = answer.status().as_u16();
            match next {
                // Another host is not this container's business: reaching it so far is good enough.
                Some(next) if next.host() == target.host() => target = next,
                _ => {
                    let body = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
                    let body = body.map(|whole| whole.to_bytes()).unwrap_or_default();
                    return Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() });
                }
            }
        }
        bail!("stopped after {REDIRECTS} redirects")
    };
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result.map_err(|error| anyhow!("Get \"{url}\": {error:#}")),
        Err(_) => bail!("Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
    }
}

fn follow(from: &Uri, location: &str) -> Option<Uri> {
    let to: Uri = location.parse().ok()?;
    if to.host().is_some() {
        return Some(to);
    }
    let mut parts = from.clone().into_parts();
    let path = if location.starts_with('/') {
        location.to_owned()
    } else {
        let base = from.path().rsplit_once('/').map_or("", |(base, _)| base);
        format!("{base}/{location}")
    };
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

async fn connect(caller: &Caller, target: &Uri) -> Result<TcpStream> {
    let secure = target.scheme_str() == Some("https");
    let host = target.host().context("no host in address")?;
    let port = target.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    caller.names.connect(plain, port).await.map_err(|error| match plain.parse::<IpAddr>() {
        Ok(ip) => anyhow!("dial tcp {}: connect: {}", SocketAddr::new(ip, port), reason(&error)),
        Err(_) => anyhow!("dial tcp {plain}:{port}: {}", reason(&error)),
    })
}

async fn send(caller: &Caller, target: &Uri, action: &HTTPGetAction) -> Result<Response<Incoming>> {
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path).body(Full::new(Bytes::new())).context("build request")?;
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(caller.agent));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let authority = target.authority().context("no host in address")?.as_str();
    headers.insert(header::HOST, HeaderValue::try_from(authority).context("host header")?);
    let mut own = http::HeaderMap::new();
    for field in action.http_headers.iter().flatten() {
        let name = HeaderName::try_from(field.name.as_str()).with_context(|| format!("header {:?}", field.name))?;
        let value = HeaderValue::try_from(field.value.as_str()).with_context(|| format!("header {:?}", field.name))?;
        own.append(name, value);
    }
    for name in own.keys() {
        headers.remove(name);
    }
    headers.extend(own);
    let socket = connect(caller, target).await?;
    if target.scheme_str() == Some("https") {
        let host = target.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).context("server name")?;
        let connector = tokio_rustls::TlsConnector::from(trusting()?);
        let stream = connector.connect(name, socket).await.context("tls")?;
        exchange(&caller.task, stream, request).await
    } else {
        exchange(&caller.task, socket, request).await
    }
}

async fn exchange<S>(task: &Task, stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    task.spawn("request", async move {
        let _ = connection.await;
    });
    Ok(sender.send_request(request).await?)
}

fn trusting() -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(serve::trust::anybody(provider))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Asks a gRPC server whether `service` is healthy. <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>
pub async fn grpc(caller: &Caller, address: SocketAddr, service: &str, limit: Duration) -> Result<()> {
    let attempt = async {
        let socket = TcpStream::connect(address)
            .await
            .map_err(|error| anyhow!("dial tcp {address}: connect: {}", reason(&error)))?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
        caller.task.spawn("request", async move {
            let _ = connection.await;
        });
        let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, caller.agent)
            .body(Full::new(health_request(service)))
            .context("build request")?;
        let answer = sender.send_request(request).await?;
        let code =
            |headers: &http::HeaderMap| headers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse().ok());
        let early: Option<u32> = code(answer.headers());
        let whole = Limited::new(answer.into_body(), BODY_LIMIT).collect().await.map_err(|error| anyhow!("{error}"))?;
        let status = whole.trailers().and_then(code).or(early).unwrap_or(0);
        match status {
            0 => {}
            12 => bail!("this server does not implement the grpc health protocol (grpc.health.v1.Health)"),
            status => bail!("rpc error: code = {status}"),
        }
        match health_status(&whole.to_bytes()) {
            1 => Ok(()),
            other => {
                let name = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].get(other).unwrap_or(&"UNKNOWN");
                bail!("service unhealthy (responded with {name:?})")
            }
        }
    };
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => bail!("timeout: failed to connect service {address:?} within {limit:?}: context deadline exceeded"),
    }
}

/// A length-prefixed `HealthCheckRequest { service = 1 }`.
fn health_request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length).unwrap_or(0));
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(0));
    frame.put_slice(&message);
    frame.freeze()
}

/// `status = 1` of a length-prefixed `HealthCheckResponse`.
fn health_status(frame: &[u8]) -> usize {
    let message = frame.get(5..).unwrap_or_default();
    match message {
        [0x08, value, ..] => usize::from(*value),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn ports_are_found_by_number_and_by_name() {
        let container: Container =
            serde_json::from_value(json!({"name": "a", "ports": [{"name": "web", "containerPort": 8080}]})).unwrap();
        assert_eq!(port(&IntOrString::Int(80), &container).unwrap(), 80);
        assert_eq!(port(&IntOrString::String("web".into()), &container).unwrap(), 8080);
        assert!(port(&IntOrString::String("none".into()), &container).is_err());
        assert!(port(&IntOrString::Int(70000), &container).is_err());
    }

    #[test]
    fn health_messages_have_the_wire_form() {
        assert_eq!(&health_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&health_request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(health_status(&[0, 0, 0, 0, 2, 8, 1]), 1);
        assert_eq!(health_status(&[0, 0, 0, 0, 0]), 0);
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_only() {
        let task = Task::root("test");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        task.spawn("server", async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut buffer = vec![0; 2048];
                let read = socket.read(&mut buffer).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                let answer = if text.starts_with("GET /near ") {
                    "HTTP/1.1 302 Found\r\nlocation: /good\r\ncontent-length: 0\r\n\r\n".to_owned()
                } else if text.starts_with("GET /far ") {
                    "HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n".to_owned()
                } else {
                    let body = if text.contains("x-test: 1") { "header seen" } else { "good" };
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                };
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        let container = Container::default();
        let get = |path: &str, headers: serde_json::Value| {
            let action: HTTPGetAction =
                serde_json::from_value(json!({"port": address.port(), "path": path, "httpHeaders": headers})).unwrap();
            let caller = Caller { task: task.clone(), names: Names::default(), agent: "kube-probe/1.37" };
            let container = container.clone();
            async move { http(&caller, &action, &container, address.ip(), Duration::from_secs(5)).await }
        };
        assert_eq!(get("/near", json!([])).await.unwrap(), Answer { status: 200, body: "good".into() });
        assert_eq!(get("/far", json!([])).await.unwrap().status, 302);
        let seen = get("/", json!([{"name": "X-Test", "value": "1"}])).await.unwrap();
        assert_eq!(seen.body, "header seen");
        task.drain(Duration::from_millis(100)).await;
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = tcp(address, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("dial tcp {address}: connect: connection refused"));
    }
}
