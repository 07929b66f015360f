//! Sub-resources that lead elsewhere: logs, exec, attach and port-forward to the node of a pod, proxies to nodes, pods and
//! services.
//!
//! ```text
//! GET .../pods/a/log?container=c&follow=true  ─>  https://NODE:10250/containerLogs/web/a/c?follow=true
//! POST .../pods/a/exec?command=sh&stdin=1     ─>  https://NODE:10250/exec/web/a/c?command=sh&input=1
//! GET .../services/http:b:80/proxy/x          ─>  http://POD ADDRESS:PORT/x
//! ```
//!
//! The request is handed on and its answer streamed back; an upgraded connection becomes two byte pipes.
//!
//! <https://kubernetes.io/docs/concepts/architecture/control-plane-node-communication/#control-plane-to-node>

use std::{net::IpAddr, sync::Arc};

use api::{
    kinds::Sub,
    meta::{self, View},
    status::Status,
    validate::FieldError,
};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use rustls::pki_types::ServerName;
use serde_json::{Map, Value};
use serve::{
    body,
    body::Body,
    stream::websocket,
    tunnel::{self, Target},
};

use crate::{
    admission::Operation, auth::rbac::Wanted, call::Call, encode, read, registry::Resource, server::Server, webhook,
};

mod links;
mod proxy;
pub mod trust;

/// Whether a sub-resource is answered here.
pub fn is_stream(sub: &Sub) -> bool {
    sub.kind.ends_with("Options") || sub.name == "log"
}

/// Hands a request on.
pub async fn answer(
    server: &Arc<Server>,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
    sub: &Sub,
) -> Result<Response<Body>, Status> {
    if sub.name == "proxy" {
        admit(server, call, resource, version, sub).await?;
        return proxy::answer(server, call, resource, version).await;
    }
    if !sub.verbs.contains(&call.info.verb.as_str()) {
        return Err(Status::method_not_supported(resource.versions[version].kind.resource(), &call.info.verb));
    }
    server.fresh().await?;
    let info = &call.info;
    let object = read::find(resource, version, &info.namespace, &info.name)?;
    let pod = encode::tree(resource, &resource.versions[version], &object).into_owned();
    if sub.name == "log" {
        return log(server, call, &pod).await;
    }
    if call.parts.method == Method::GET {
        // A WebSocket begins with GET, but acts like the POST of other clients.
        let wanted = Wanted { verb: "create", ..Wanted::of(info) };
        server.authorize(&call.user, &wanted).await?;
    }
    admit(server, call, resource, version, sub).await?;
    let all: Vec<(&str, String)> = match sub.name {
        "exec" | "attach" => {
            let flag = |name: &str| {
                call.query.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
            };
            if !["stdin", "stdout", "stderr"].into_iter().any(flag) {
                let why = "you must specify at least 1 of stdin, stdout, stderr";
                return Err(Status::bad_request(why));
            }
            let names = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
            let flags = names.into_iter().filter(|(name, _)| flag(name)).map(|(_, name)| (name, "1".to_owned()));
            let command = call.query.all("command").map(|word| ("command", word.to_owned()));
            if sub.name == "exec" && call.query.get("command").is_none() {
                return Err(Status::bad_request("you must specify at least 1 command for the container"));
            }
            if sub.name == "exec" { flags.chain(command).collect() } else { flags.collect() }
        }
        _ => call.query.all("ports").map(|port| ("port", port.to_owned())).collect(),
    };
    let name = meta::name(&pod);
    let path = match sub.name {
        "portforward" => format!("/portForward/{}/{name}", info.namespace),
        action => format!("/{action}/{}/{name}/{}", info.namespace, container(&pod, call)?),
    };
    let node = View::new(&pod).at("spec").text("nodeName");
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let target = node_target(server, node).await?;
    hand_on(server, call, &target, &with_query(&path, &all)).await
}

/// Asks admission whether somebody may connect; the parameters of the connection are the object that it looks at.
async fn admit(
    server: &Server,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
    sub: &Sub,
) -> Result<(), Status> {
    let mut options = Map::new();
    options.insert("kind".to_owned(), sub.kind.into());
    options.insert("apiVersion".to_owned(), "v1".into());
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        let given =
            call.query.get(flag).is_some_and(|text| !matches!(text.to_ascii_lowercase().as_str(), "false" | "0"));
        if given {
            options.insert(flag.to_owned(), true.into());
        }
    }
    let command: Vec<&str> = call.query.all("command").collect();
    if !command.is_empty() {
        options.insert("command".to_owned(), command.into());
    }
    let ports: Vec<i64> = call.query.all("ports").filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        options.insert("ports".to_owned(), ports.into());
    }
    for (member, text) in
        [("container", call.query.get("container").unwrap_or_default()), ("path", call.info.rest.as_str())]
    {
        if !text.is_empty() {
            options.insert(member.to_owned(), text.into());
        }
    }
    let target = crate::write::Target { sub: sub.name, ..crate::write::Target::of(call, resource, version) };
    let attributes = target.attributes(call, Operation::Connect, false);
    let mut options = Value::Object(options);
    webhook::act(server, &attributes, &mut options).await
}

async fn log(server: &Arc<Server>, call: &Call, pod: &Value) -> Result<Response<Body>, Status> {
    let mut all: Vec<(&str, String)> = Vec::new();
    let mut errors = Vec::new();
    for name in ["follow", "previous", "timestamps"] {
        if call.query.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0")) {
            all.push((name, "true".to_owned()));
        }
    }
    for (name, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        let Some(text) = call.query.get(name) else { continue };
        let number: i64 = text
            .parse()
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        if number < least {
            errors.push(FieldError::invalid(name, number, why));
        }
        all.push((name, number.to_string()));
    }
    if let Some(time) = call.query.get("sinceTime") {
        if time.parse::<jiff::Timestamp>().is_err() {
            return Err(Status::bad_request(format!(
                "parsing time {time:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {time:?}"
            )));
        }
        if call.query.get("sinceSeconds").is_some() {
            errors.push(FieldError::forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
        }
        all.push(("sinceTime", time.to_owned()));
    }
    let stream = call.query.get("stream").filter(|stream| !stream.is_empty()).unwrap_or("All");
    if !matches!(stream, "All" | "Stdout" | "Stderr") {
        errors.push(FieldError::not_supported("stream", stream, &["All", "Stderr", "Stdout"]));
    } else if stream != "All" {
        if call.query.get("tailLines").is_some() {
            errors.push(FieldError::forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now"));
        }
        all.push(("stream", stream.to_owned()));
    }
    if !errors.is_empty() {
        let kind = meta::Qualified { group: "", name: "PodLogOptions" };
        return Err(Status::invalid(kind, meta::name(pod), &errors));
    }
    let container = container(pod, call)?;
    let node = View::new(pod).at("spec").text("nodeName");
    if node.is_empty() {
        return Ok(call.stream(200, HeaderValue::from_static("text/plain"), body::empty()));
    }
    let target = node_target(server, node).await?;
    let path = format!("/containerLogs/{}/{}/{container}", call.info.namespace, meta::name(pod));
    // Browsers read logs as messages; the node is asked the plain way for them too.
    let browser = websocket::is_websocket(&call.parts.headers);
    let path = with_query(&path, &all);
    let mut request = outgoing(call, &path)?;
    if browser {
        for name in [header::UPGRADE, header::CONNECTION, header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_VERSION] {
            request.headers_mut().remove(name);
        }
        request.headers_mut().remove(header::SEC_WEBSOCKET_PROTOCOL);
    }
    let answer = forward(server, request, &target, &path).await?;
    if answer.status().is_success() {
        if !browser {
            return Ok(answer);
        }
        let mut request = Request::from_parts(call.parts.clone(), body::empty());
        return websocket::body_as_messages(&server.task, &mut request, answer.into_body(), true)
            .map_err(|error| Status::bad_request(error.to_string()));
    }
    Err(refused(answer, meta::Qualified { group: "", name: "pods/log" }, meta::name(pod)).await)
}

/// Bytes of a node's refusal that are passed on.
const REFUSAL: usize = 50_000;

/// What a node says in plain text, as a Status.
async fn refused(answer: Response<Body>, resource: meta::Qualified<'_>, name: &str) -> Status {
    let code = answer.status().as_u16();
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while let Some(Ok(frame)) = body.frame().await {
        let data = frame.into_data().unwrap_or_default();
        text.extend_from_slice(&data[..data.len().min(REFUSAL - text.len())]);
    }
    let text = String::from_utf8_lossy(&text);
    match code {
        400 => Status::bad_request(text),
        500 => Status::internal(text),
        _ => Status::generic(code, "", resource, name, &text),
    }
}

/// The container that a request means.
fn container(pod: &Value, call: &Call) -> Result<String, Status> {
    let spec = View::new(pod).at("spec");
    let names = |list: &str| -> Vec<&str> { spec.list(list).map(|container| container.text("name")).collect() };
    let (containers, inits, debugs) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let name = meta::name(pod);
    match call.query.get("container").filter(|wanted| !wanted.is_empty()) {
        Some(wanted) if [&containers, &inits, &debugs].iter().any(|list| list.contains(&wanted)) => {
            Ok(wanted.to_owned())
        }
        Some(wanted) => Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        None => match containers.as_slice() {
            [only] => Ok((*only).to_owned()),
            [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
            several => {
                let mut text = format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    several.join(" ")
                );
                for (list, what) in [(&inits, "init"), (&debugs, "ephemeral")] {
                    if !list.is_empty() {
                        text.push_str(&format!(" or one of the {what} containers: [{}]", list.join(" ")));
                    }
                }
                Err(Status::bad_request(text))
            }
        },
    }
}

/// Where a node's own API is.
async fn node_target(server: &Server, name: &str) -> Result<Target, Status> {
    let Some(node) = server.find("", "nodes", "", name).await? else {
        return Err(Status::not_found(meta::Qualified { group: "", name: "nodes" }, name));
    };
    let node = node.value();
    let status = View::new(&node).at("status");
    let address = node_address(status).ok_or_else(|| {
        Status::internal(format!("no preferred addresses found; known addresses: {}", status.at("addresses").value()))
    })?;
    let port = status.at("daemonEndpoints").at("kubeletEndpoint").int("Port").and_then(|port| u16::try_from(port).ok());
    let tls = match &server.config.node_tls {
        None => None,
        Some(config) => {
            let name = ServerName::try_from(address.clone()).map_err(Status::internal)?;
            Some((config.clone(), name))
        }
    };
    Ok(Target { host: address, port: port.filter(|port| *port != 0).unwrap_or(10250), tls })
}

/// The address at which a node is reached, in upstream's order of preference.
fn node_address(status: View<'_>) -> Option<String> {
    ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"].into_iter().find_map(|kind| {
        let found = status.list("addresses").find(|address| address.text("type") == kind)?;
        Some(found.text("address")).filter(|address| !address.is_empty()).map(str::to_owned)
    })
}

/// A path with a query.
fn with_query(path: &str, parameters: &[(&str, String)]) -> String {
    let mut out = path.to_owned();
    for (at, (name, value)) in parameters.iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        out.push_str(&encoded(value));
    }
    out
}

/// Percent-encodes all but letters, digits and `-_.~`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The request as others get it: without what the caller proved its identity to this server with.
pub fn outgoing(call: &Call, path: &str) -> Result<Request<Body>, Status> {
    let mut parts = call.parts.clone();
    parts.uri = path.parse().map_err(|error| Status::bad_request(format!("path {path:?}: {error}")))?;
    let headers = &mut parts.headers;
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::HOST);
    let impersonated: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in impersonated {
        headers.remove(name);
    }
    let protocols: Vec<String> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .filter(|protocol| !protocol.starts_with("base64url.bearer.authorization.k8s.io."))
        .collect();
    if headers.remove(header::SEC_WEBSOCKET_PROTOCOL).is_some()
        && !protocols.is_empty()
        && let Ok(value) = HeaderValue::from_str(&protocols.join(", "))
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok(Request::from_parts(parts, call.take_body()))
}

async fn hand_on(server: &Arc<Server>, call: &Call, target: &Target, path: &str) -> Result<Response<Body>, Status> {
    forward(server, outgoing(call, path)?, target, path).await
}

async fn forward(
    server: &Arc<Server>,
    request: Request<Body>,
    target: &Target,
    path: &str,
) -> Result<Response<Body>, Status> {
    tunnel::forward(&server.task, request, target).await.map_err(|error| {
        let scheme = if target.tls.is_some() { "https" } else { "http" };
        Status::internal(format!("Get \"{scheme}://{}:{}{path}\": {error}", target.host, target.port))
    })
}

/// Whether requests may be led to an address: never to this machine itself, nor to a link.
fn may_reach(address: &str) -> bool {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            !(ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_unspecified() || ip.is_broadcast())
        }
        Ok(IpAddr::V6(ip)) => {
            !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || ip.segments()[0] & 0xffc0 == 0xfe80)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        let query = [("command", "sh -c 'a&b'".to_owned()), ("tty", "1".to_owned())];
        assert_eq!(with_query("/exec/a", &query), "/exec/a?command=sh%20-c%20%27a%26b%27&tty=1");
        assert_eq!(with_query("/x", &[]), "/x");
    }

    #[test]
    fn proxies_do_not_lead_to_the_machine_itself() {
        for (address, may) in
            [("10.42.0.5", true), ("127.0.0.1", false), ("169.254.1.1", false), ("::1", false), ("x", false)]
        {
            assert_eq!(may_reach(address), may, "{address}");
        }
    }
}
