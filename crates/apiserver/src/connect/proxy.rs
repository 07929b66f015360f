//! `proxy` of nodes, pods and services: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.

use std::sync::Arc;

use api::{
    meta::{Qualified, View},
    selector::Labels,
    status::Status,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use rustls::pki_types::ServerName;
use serve::{
    body,
    body::Body,
    tunnel::{self, Target},
};

use super::{links, may_reach, node_address, node_target, outgoing, trust};
use crate::{call::Call, registry::Resource, selection::Selection, server::Server};

/// Pages longer than this come through without their links rewritten.
const PAGE: usize = 16 * 1024 * 1024;

/// Hands a request on.
pub async fn answer(
    server: &Arc<Server>,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
) -> Result<Response<Body>, Status> {
    let info = &call.info;
    let kind = &resource.versions[version].kind;
    server.fresh().await?;
    let place = Place::parse(&info.name)
        .ok_or_else(|| Status::bad_request(format!("invalid {} request {:?}", kind.singular, info.name)))?;
    let target = match kind.plural {
        "nodes" => node(server, &place).await?,
        "pods" => pod(server, &info.namespace, &place).await?,
        _ => service(server, &info.namespace, &place).await?,
    };
    let upgrade = tunnel::is_upgrade(call.headers());
    if info.rest.is_empty() && !upgrade && matches!(call.parts.method, Method::GET | Method::HEAD) {
        // Relative links of the page count from here on.
        let query = call.parts.uri.query().map_or(String::new(), |query| format!("?{query}"));
        let mut response = call.stream(301, HeaderValue::from_static("text/html; charset=utf-8"), body::empty());
        if let Ok(value) = HeaderValue::from_str(&format!("{}/{query}", info.path)) {
            response.headers_mut().insert(header::LOCATION, value);
        }
        return Ok(response);
    }
    let path = if info.rest.is_empty() { "/" } else { &info.rest };
    let query = call.parts.uri.query().map_or(String::new(), |query| format!("?{query}"));
    let prefix = info.path.strip_suffix(info.rest.as_str()).unwrap_or(&info.path);
    let mut request = outgoing(call, &format!("{path}{query}"))?;
    let host = call.header(header::HOST).to_owned();
    for (name, value) in [("x-forwarded-uri", info.path.as_str()), ("x-forwarded-host", host.as_str())] {
        if let Ok(value) = HeaderValue::from_str(value) {
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    let response = match tunnel::forward(&server.task, request, &target).await {
        Ok(response) => response,
        Err(error) => {
            return Err(Status::service_unavailable(format!("error trying to reach service: {error}")));
        }
    };
    Ok(rewritten(call, response, prefix).await)
}

/// Links and redirects of an answer, led through the proxy.
async fn rewritten(call: &Call, mut response: Response<Body>, prefix: &str) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    if let Some(location) = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok())
        && let Ok(value) = HeaderValue::from_str(&links::link(location, prefix))
    {
        response.headers_mut().insert(header::LOCATION, value);
    }
    if call.parts.method == Method::HEAD || !is_short_page(response.headers()) {
        return response;
    }
    let (mut parts, whole) = response.into_parts();
    match crate::call::collect(whole, PAGE).await {
        Ok(bytes) => {
            let new = links::rewrite(&String::from_utf8_lossy(&bytes), prefix);
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, body::full(new))
        }
        Err(status) => call.status(&status),
    }
}

/// Whether an answer is a page whose links can be rewritten.
fn is_short_page(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text(header::CONTENT_TYPE).split(';').next() == Some("text/html")
        && matches!(text(header::CONTENT_ENCODING), "" | "identity")
        && text(header::CONTENT_LENGTH).parse::<usize>().is_ok_and(|len| len <= PAGE)
}

/// What a proxied name means.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    tls: bool,
    name: String,
    port: String,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return None;
        }
        Some(Self { tls: scheme == "https", name: name.to_owned(), port: port.to_owned() })
    }

    fn target(&self, host: String, port: u16) -> Result<Target, Status> {
        let tls = if self.tls {
            let name = ServerName::try_from(host.clone()).map_err(Status::internal)?;
            Some((trust::anyone().map_err(Status::internal)?, name))
        } else {
            None
        };
        Ok(Target { host, port, tls })
    }
}

fn number(port: &str) -> Result<u16, Status> {
    port.parse().map_err(|_| Status::bad_request(format!("invalid port {port:?}")))
}

async fn node(server: &Server, place: &Place) -> Result<Target, Status> {
    let target = node_target(server, &place.name).await?;
    if place.port.is_empty() || place.port.parse() == Ok(target.port) {
        return Ok(target);
    }
    let Some(node) = server.find("", "nodes", "", &place.name).await? else {
        return Err(Status::not_found(Qualified { group: "", name: "nodes" }, &place.name));
    };
    let node = node.value();
    let address = node_address(View::new(&node).at("status")).unwrap_or_default();
    if !may_reach(&address) {
        return Err(Status::bad_request("address not allowed"));
    }
    place.target(address, number(&place.port)?)
}

async fn pod(server: &Server, namespace: &str, place: &Place) -> Result<Target, Status> {
    let Some(pod) = server.find("", "pods", namespace, &place.name).await? else {
        return Err(Status::not_found(Qualified { group: "", name: "pods" }, &place.name));
    };
    let pod = pod.value();
    let view = View::new(&pod);
    let address = view.at("status").list("podIPs").next().map_or("", |ip| ip.text("ip"));
    if !may_reach(address) {
        return Err(Status::bad_request("address not allowed"));
    }
    let port = if place.port.is_empty() {
        let first = view.at("spec").list("containers").find_map(|container| container.list("ports").next());
        match first.and_then(|port| port.int("containerPort")).and_then(|port| u16::try_from(port).ok()) {
            Some(port) => port,
            None if place.tls => 443,
            None => 80,
        }
    } else {
        number(&place.port)?
    };
    place.target(address.to_owned(), port)
}

async fn service(server: &Server, namespace: &str, place: &Place) -> Result<Target, Status> {
    let Some(service) = server.find("", "services", namespace, &place.name).await? else {
        return Err(Status::not_found(Qualified { group: "", name: "services" }, &place.name));
    };
    let service = service.value();
    let name = &place.name;
    let mut wanted = place.port.clone();
    if let Ok(number) = place.port.parse::<i64>() {
        let ports = View::new(&service).at("spec").list("ports").find(|port| port.int("port") == Some(number));
        let Some(port) = ports else {
            let text = format!("no service port {number} found for service {name:?}");
            return Err(Status::service_unavailable(text));
        };
        wanted = port.text("name").to_owned();
    }
    let none = || Status::service_unavailable(format!("no endpoints available for service {name:?}"));
    let resource = server.resource("discovery.k8s.io", "endpointslices")?;
    let labels = Labels::parse(&format!("kubernetes.io/service-name={name}")).map_err(Status::internal)?;
    let slices = resource.cache.all(&Selection::labelled(&resource.scope(namespace), labels));
    let mut found: Vec<(String, u16)> = Vec::new();
    for slice in slices {
        let slice = slice.value();
        let view = View::new(&slice);
        let port = view.list("ports").find(|port| port.text("name") == wanted);
        let Some(port) = port.and_then(|port| port.int("port")).and_then(|port| u16::try_from(port).ok()) else {
            continue;
        };
        for endpoint in view.list("endpoints") {
            if endpoint.at("conditions").bool("ready") == Some(false) || endpoint.at("targetRef").text("kind") != "Pod"
            {
                continue;
            }
            let addresses = endpoint.list("addresses").map(View::string);
            found.extend(addresses.filter(|address| may_reach(address)).map(|address| (address.to_owned(), port)));
        }
    }
    if found.is_empty() {
        return Err(none());
    }
    let (address, port) = found.swap_remove(server.random() as usize % found.len());
    place.target(address, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_scheme_and_port() {
        let place = |tls, name: &str, port: &str| Some(Place { tls, name: name.to_owned(), port: port.to_owned() });
        assert_eq!(Place::parse("a"), place(false, "a", ""));
        assert_eq!(Place::parse("a:80"), place(false, "a", "80"));
        assert_eq!(Place::parse("https:a:web"), place(true, "a", "web"));
        assert_eq!(Place::parse("https:a:"), place(true, "a", ""));
        assert_eq!(Place::parse("ftp:a:1"), None);
        assert_eq!(Place::parse("a:b:c:d"), None);
        assert_eq!(Place::parse(":80"), None);
    }
}
