//! Requests through a proxy that answers for a registry whose name nobody else knows.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::net::TcpListener;

use super::*;

/// Reads the head of a request.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";

/// A client whose proxy is on this machine, with a password.
async fn setting() -> (TcpListener, Client<Connector, Full<Bytes>>, Connector) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://me:secret@{}", listener.local_addr().unwrap());
    let proxies = Proxies::read(|name| name.ends_with("_PROXY").then(|| url.clone()).filter(|_| name != "NO_PROXY"));
    let registries = Registries::parse("configs: {registry.test: {tls: {insecure_skip_verify: true}}}").unwrap();
    let pull = Pull { registries: Arc::new(registries), trust: Trust::Configured, ..Pull::default() };
    let connector = Connector::through_proxies(&pull, proxies.unwrap());
    (listener, Client::builder(TokioExecutor::new()).build(connector.clone()), connector)
}

async fn ask(client: &Client<Connector, Full<Bytes>>, url: &str) -> Result<Bytes, String> {
    let request = Request::get(url).body(Full::default()).unwrap();
    let answer = client.request(request).await.map_err(|error| format!("{:?}", anyhow::Error::from(error)))?;
    Ok(answer.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let (listener, client, _) = setting().await;
    let certified = rcgen::generate_simple_self_signed(["registry.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let proxy = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let connect = head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").await.unwrap();
        let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(stream).await.unwrap();
        let request = head(&mut stream).await;
        stream.write_all(ANSWER).await.unwrap();
        stream.shutdown().await.unwrap();
        (connect, request)
    };
    let ((connect, request), answer) = tokio::join!(proxy, ask(&client, "https://registry.test/v2/"));
    assert_eq!(answer.unwrap(), "hi");
    assert!(connect.starts_with("CONNECT registry.test:443 HTTP/1.1\r\n"), "{connect}");
    assert!(connect.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{connect}");
    assert!(request.starts_with("GET /v2/ HTTP/1.1\r\n"), "{request}");
    assert!(!request.to_lowercase().contains("proxy-authorization"), "{request}");
}

#[tokio::test]
async fn plain_http_is_asked_for_by_its_whole_url() {
    let (listener, client, connector) = setting().await;
    let proxy = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = head(&mut stream).await;
        stream.write_all(ANSWER).await.unwrap();
        request
    };
    let (request, answer) = tokio::join!(proxy, ask(&client, "http://registry.test/v2/"));
    assert_eq!(answer.unwrap(), "hi");
    assert!(request.starts_with("GET http://registry.test/v2/ HTTP/1.1\r\n"), "{request}");
    let shown = |url: &str| connector.proxy_authorization(&url.parse().unwrap()).map(str::to_owned);
    assert_eq!(shown("http://registry.test/").as_deref(), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(shown("https://registry.test/"), None);
    assert_eq!(shown("http://127.0.0.1:5000/"), None);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named() {
    let (listener, client, _) = setting().await;
    let proxy = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
    };
    let (_, answer) = tokio::join!(proxy, ask(&client, "https://registry.test/v2/"));
    let error = answer.unwrap_err();
    assert!(error.contains("refuses to connect to registry.test:443") && error.contains("407"), "{error}");
}
