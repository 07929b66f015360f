//! TLS: certificates by name, and HTTP/2 where clients ask for it.

use std::sync::Arc;

use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use serve::body;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::bed::{Bed, echo, route};

/// A Secret with a certificate for `host`, and the certificate.
fn secret(name: &str, host: &str) -> (Value, String) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let encoded = |text: &str| serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap();
    let secret = json!({
        "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "type": "kubernetes.io/tls",
        "data": {"tls.crt": encoded(&certificate), "tls.key": encoded(&key)},
    });
    (secret, certificate)
}

fn gateway(listeners: &[(&str, &str)]) -> Value {
    let listener = |(host, secret): &(&str, &str)| {
        json!({
            "name": secret, "hostname": host, "port": 443, "protocol": "HTTPS",
            "tls": {"certificateRefs": [{"name": secret}]},
        })
    };
    json!({
        "kind": "Gateway", "metadata": {"name": "g", "namespace": "shop"},
        "spec": {"gatewayClassName": "c", "listeners": listeners.iter().map(listener).collect::<Vec<_>>()},
    })
}

/// Asks over HTTP/2; the status, or why there was no connection.
async fn ask(bed: &Bed, authority: &str, host: &str) -> Result<u16, String> {
    let tls = serve::tls::client_config(authority.as_bytes(), None, &["h2"]).unwrap();
    let stream = TcpStream::connect(bed.https).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::clone(&tls)).connect(name, stream).await.map_err(|error| error.to_string())?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    bed.task.spawn_until_cancelled("client", async move {
        let _ended = driver.await;
    });
    let request = Request::get(format!("https://{host}/x")).body(body::empty()).unwrap();
    sender.send_request(request).await.map(|answer| answer.status().as_u16()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn each_host_is_shown_its_certificate_and_changes_come_at_once() {
    let mut bed = Bed::new().await;
    let (one, _) = echo(&bed.task, "one").await;
    bed.endpoints("one", &[one]);
    let (a, a_certificate) = secret("a", "a.com");
    let (b, b_certificate) = secret("b", "*.b.com");
    let rules = || route(json!([{"backendRefs": [{"name": "one", "port": 80}]}]));
    bed.serve(&[gateway(&[("a.com", "a"), ("*.b.com", "b")]), a, b.clone(), rules()]);
    assert_eq!(ask(&bed, &a_certificate, "a.com").await, Ok(200));
    assert_eq!(ask(&bed, &b_certificate, "www.b.com").await, Ok(200));
    assert!(ask(&bed, &a_certificate, "www.b.com").await.is_err());
    assert!(ask(&bed, &a_certificate, "c.com").await.is_err());
    let (other, other_certificate) = secret("a", "a.com");
    bed.serve(&[gateway(&[("a.com", "a"), ("*.b.com", "b")]), other, b, rules()]);
    assert!(ask(&bed, &a_certificate, "a.com").await.is_err());
    assert_eq!(ask(&bed, &other_certificate, "a.com").await, Ok(200));
}
