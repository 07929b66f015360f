//! Servers that this one asks: webhooks of admission and conversion, and API servers that it stands before.
//!
//! ```text
//! clientConfig: { service: { namespace, name, port, path }, caBundle }  ─> an endpoint of the Service, as NAME.NAMESPACE.svc
//! clientConfig: { url: https://HOST:PORT/PATH, caBundle }               ─> HOST
//! ```
//!
//! The Service's name is what the certificate must carry; which of its endpoints answers is decided anew each time.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#contacting-the-webhook>

use std::{sync::Arc, time::Duration};

use api::{meta::View, selector::Labels, status::Status};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use serve::{
    body,
    tunnel::{self, Target},
};

use crate::{selection::Selection, server::Server};

/// The longest answer that is read, in bytes.
const ANSWER: usize = 16 * 1024 * 1024;
/// Where a machine keeps the authorities that it trusts; used for servers without a bundle of their own.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct Remote {
    place: Place,
    path: String,
    tls: Result<Arc<ClientConfig>, String>,
}

#[derive(Debug, Clone)]
enum Place {
    Service { namespace: String, name: String, port: u16 },
    Host { host: String, port: u16, authority: String },
    Nowhere(String),
}

impl Remote {
    /// Reads a `clientConfig`. What is wrong with it is told by each call, so that a failure policy can decide about it.
    pub fn read(config: View<'_>) -> Self {
        let service = config.at("service");
        let bundle = config.text("caBundle");
        let tls = trusting(bundle, None);
        if service.exists() {
            let port = service.int("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
            let path = service.at("path").as_str().unwrap_or("/");
            let mut remote = Self::service(service.text("namespace"), service.text("name"), port, tls);
            remote.path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            return remote;
        }
        let nowhere = |why: String| Self { place: Place::Nowhere(why), path: String::new(), tls: tls.clone() };
        let url = config.text("url");
        let Ok(uri) = url.parse::<Uri>() else { return nowhere(format!("Unparsable URL: {url:?}")) };
        let Some(authority) = uri.authority().filter(|_| uri.scheme_str() == Some("https")) else {
            return nowhere("webhook configuration must have either service or URL".to_owned());
        };
        let place = Place::Host {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(443),
            authority: authority.to_string(),
        };
        Self { place, path: if uri.path().is_empty() { "/".to_owned() } else { uri.path().to_owned() }, tls }
    }

    /// A Service, reached with these TLS settings.
    pub fn service(namespace: &str, name: &str, port: u16, tls: Result<Arc<ClientConfig>, String>) -> Self {
        let place = Place::Service { namespace: namespace.to_owned(), name: name.to_owned(), port };
        Self { place, path: "/".to_owned(), tls }
    }

    /// The address as messages show it.
    pub fn shown(&self) -> String {
        match &self.place {
            Place::Service { namespace, name, port } => format!("https://{name}.{namespace}.svc:{port}{}", self.path),
            Place::Host { authority, .. } => format!("https://{authority}{}", self.path),
            Place::Nowhere(_) => String::new(),
        }
    }

    /// Where a connection is to be made now, and what `Host` is to say.
    pub fn target(&self, server: &Server) -> Result<(Target, String), String> {
        let tls = self.tls.clone()?;
        let (host, port, name, authority) = match &self.place {
            Place::Nowhere(why) => return Err(why.clone()),
            Place::Host { host, port, authority } => (host.clone(), *port, host.clone(), authority.clone()),
            Place::Service { namespace, name, port } => {
                let (host, number) = endpoint(server, namespace, name, *port)?;
                let name = format!("{name}.{namespace}.svc");
                let authority = format!("{name}:{port}");
                (host, number, name, authority)
            }
        };
        let name = ServerName::try_from(name.clone()).map_err(|error| format!("{name:?}: {error}"))?;
        Ok((Target { host, port, tls: Some((tls, name)) }, authority))
    }

    /// Posts a document and reads the answer, all within `timeout`, of which the server is told if it is `announced`.
    pub async fn post(
        &self,
        server: &Server,
        document: &Value,
        timeout: Duration,
        announced: bool,
    ) -> Result<Value, String> {
        let query = if announced { format!("?timeout={}s", timeout.as_secs()) } else { String::new() };
        let failed = |why: String| format!("Post \"{}{query}\": {why}", self.shown());
        let (target, authority) = self.target(server).map_err(failed)?;
        let mut request = Request::new(body::full(Bytes::from(document.to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("{}{query}", self.path).parse().map_err(|error| failed(format!("{error}")))?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, */*"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
        headers.insert(header::HOST, HeaderValue::from_str(&authority).map_err(|error| failed(error.to_string()))?);
        let length = HeaderValue::from(document.to_string().len());
        headers.insert(header::CONTENT_LENGTH, length);
        let answered = async {
            let answer = tunnel::forward(&server.task, request, &target).await.map_err(|error| error.to_string())?;
            let code = answer.status();
            let bytes = crate::call::collect(answer.into_body(), ANSWER).await.map_err(|error| error.to_string())?;
            Ok((code, bytes))
        };
        let (code, bytes) = match tokio::time::timeout(timeout, answered).await {
            Err(_) => return Err(failed("context deadline exceeded".to_owned())),
            Ok(Err(error)) => return Err(failed(error)),
            Ok(Ok(answer)) => answer,
        };
        if !code.is_success() {
            return Err(refusal(code.as_u16(), &bytes));
        }
        api::json::parse(&bytes).map(|parsed| parsed.value).map_err(|error| format!("decode the answer: {error}"))
    }
}

/// What a server says with an error code, as upstream's client words it.
fn refusal(code: u16, bytes: &Bytes) -> String {
    let status = serde_json::from_slice::<Value>(bytes).ok().and_then(|value| Status::from_value(&value));
    match (status, code) {
        (Some(status), _) => status.message().to_owned(),
        (None, 404) => "the server could not find the requested resource".to_owned(),
        (None, _) => {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2048)]).trim().to_owned();
            let shown = if text.is_empty() { "unknown".to_owned() } else { text };
            format!("an error on the server ({shown:?}, code {code}) has prevented the request from succeeding")
        }
    }
}

/// TLS settings that trust a bundle (PEM in base64), or what the machine trusts where it is empty.
pub fn trusting(bundle: &str, identity: Option<(&[u8], &[u8])>) -> Result<Arc<ClientConfig>, String> {
    let own = BASE64_STANDARD.decode(bundle).map_err(|error| format!("caBundle: {error}"))?;
    let pem = if own.iter().all(u8::is_ascii_whitespace) {
        let found = AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok());
        found.ok_or("there is no caBundle, and this machine has no certificate authorities")?
    } else {
        own
    };
    serve::tls::client_config(&pem, identity, &["http/1.1"]).map_err(|error| format!("caBundle: {error}"))
}

/// An address that answers for a port of a Service: one of its ready endpoints, or what it is another name of.
pub fn endpoint(server: &Server, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String> {
    let find = || -> Result<Vec<(String, u16)>, Status> {
        let services = server.resource("", "services")?;
        let Some(service) = services.cache.get(&services.key(namespace, name)) else {
            return Err(Status::not_found(api::meta::Qualified { group: "", name: "services" }, name));
        };
        let service = service.value();
        let spec = View::new(&service).at("spec");
        if spec.text("type") == "ExternalName" {
            return Ok(vec![(spec.text("externalName").to_owned(), port)]);
        }
        let wanted = spec.list("ports").find(|item| item.int("port") == Some(i64::from(port)));
        let Some(wanted) = wanted else {
            return Err(Status::service_unavailable(format!("no service port {port} found for service {name:?}")));
        };
        let slices = server.resource("discovery.k8s.io", "endpointslices")?;
        let labels = Labels::parse(&format!("kubernetes.io/service-name={name}")).map_err(Status::internal)?;
        let mut found = Vec::new();
        for slice in slices.cache.all(&Selection::labelled(&slices.scope(namespace), labels)) {
            let slice = slice.value();
            let view = View::new(&slice);
            let number = view.list("ports").find(|item| item.text("name") == wanted.text("name"));
            let number = number.and_then(|item| item.int("port")).and_then(|number| u16::try_from(number).ok());
            for endpoint in view.list("endpoints") {
                if endpoint.at("conditions").bool("ready") != Some(false)
                    && let Some(number) = number
                {
                    found.extend(endpoint.list("addresses").map(|address| (address.string().to_owned(), number)));
                }
            }
        }
        Ok(found)
    };
    let mut found = find().map_err(|status| status.message().to_owned())?;
    if found.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    Ok(found.swap_remove(server.random() as usize % found.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn client_configs_name_a_service_or_a_host() {
        let bundle = {
            let key = rcgen::KeyPair::generate().unwrap();
            let pem = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
            BASE64_STANDARD.encode(pem)
        };
        let shown = |config: Value| Remote::read(View::new(&config)).shown();
        let service = json!({"namespace": "a", "name": "b", "path": "/c"});
        assert_eq!(shown(json!({"service": service, "caBundle": bundle})), "https://b.a.svc:443/c");
        assert_eq!(shown(json!({"url": "https://h:8443/x"})), "https://h:8443/x");
        let bad = Remote::read(View::new(&json!({"url": "http://h/x", "caBundle": bundle}))).place;
        assert!(matches!(bad, Place::Nowhere(_)));
        assert!(trusting("%", None).is_err() && trusting(&bundle, None).is_ok());
    }

    #[test]
    fn refusals_are_told_as_the_server_words_them() {
        let status = Status::bad_request("no such thing").to_value().to_string();
        assert_eq!(refusal(400, &Bytes::from(status)), "no such thing");
        assert!(refusal(500, &Bytes::from_static(b"oops")).contains("\"oops\", code 500"));
    }
}
