//! Which way to the API server: that of the cluster in which this runs, one that the configuration names, or one that a
//! kubeconfig names.

use std::path::Path;

use base64::Engine;
use http::{Request, Uri};
use http_body_util::BodyExt;
use task::Task;
use tower::service_fn;

use super::{super::Cluster, caches::Caches};
use crate::{
    config::{
        discovery::Kubernetes,
        units::{Secret, join},
    },
    http_client::{
        Client, HttpClient,
        settings::{Authorization, BasicAuth},
    },
    yaml::{self, Node},
};

/// Where pods find their token and the cluster's authority.
const POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The caches to look at, and the namespace that is one's own.
pub fn caches(task: &Task, settings: &Kubernetes, cluster: Option<&Cluster>) -> Result<(Caches, String), String> {
    if !settings.kubeconfig_file.is_empty() {
        let (server, http) = kubeconfig(&settings.kubeconfig_file)?;
        return Ok((Caches::new(task, over(&server, &http)?), String::new()));
    }
    if !settings.api_server.0.is_empty() {
        return Ok((Caches::new(task, over(&settings.api_server.0, &settings.http)?), String::new()));
    }
    if let Some(cluster) = cluster {
        return Ok((cluster.caches.clone(), cluster.namespace.clone()));
    }
    let variable = |name: &str| {
        std::env::var(name).map_err(|_| format!("unable to load in-cluster configuration, {name} must be defined"))
    };
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let mut http = HttpClient::default();
    http.tls_config.ca_file = format!("{POD}/ca.crt");
    http.authorization = Some(Authorization {
        kind: "Bearer".to_owned(),
        credentials_file: format!("{POD}/token"),
        ..Authorization::default()
    });
    let namespace = std::fs::read_to_string(format!("{POD}/namespace")).unwrap_or_default().trim().to_owned();
    Ok((Caches::new(task, over(&format!("https://{host}:{port}"), &http)?), namespace))
}

/// A client of the API server at `server`, spoken to as configured.
pub fn over(server: &str, http: &HttpClient) -> Result<kube::Client, String> {
    let base: Uri = server.trim_end_matches('/').parse().map_err(|error| format!("api server {server}: {error}"))?;
    if base.host().is_none() || base.scheme().is_none() {
        return Err(format!("api server {server}: expected https://HOST:PORT"));
    }
    let client = Client::new(http)?;
    let prefix = base.path().trim_end_matches('/').to_owned();
    let service = service_fn(move |request: Request<kube::client::Body>| {
        let (client, base, prefix) = (client.clone(), base.clone(), prefix.clone());
        async move {
            let (head, body) = request.into_parts();
            let mut parts = base.into_parts();
            let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
            parts.path_and_query = Some(format!("{prefix}{path}").parse().map_err(std::io::Error::other)?);
            let uri = Uri::from_parts(parts).map_err(std::io::Error::other)?;
            let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
            client.send(head.method, uri, head.headers, body).await.map_err(std::io::Error::other)
        }
    });
    Ok(kube::Client::new(service, "default"))
}

/// Server and settings of a kubeconfig's current context.
fn kubeconfig(file: &str) -> Result<(String, HttpClient), String> {
    let wrong = |what: &str| format!("kubeconfig {file}: {what}");
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error.to_string()))?;
    let all = yaml::parse(&text).map_err(|error| wrong(&error))?.ok_or_else(|| wrong("it is empty"))?;
    let text = |node: Option<&Node>| node.and_then(Node::text).unwrap_or_default().to_owned();
    let named = |list: &str, name: &str, what: &str| match all.get(list).map(|node| &node.kind) {
        Some(yaml::Kind::List(items)) => items
            .iter()
            .find(|item| item.get("name").and_then(Node::text) == Some(name))
            .and_then(|item| item.get(what))
            .cloned()
            .ok_or_else(|| wrong(&format!("there is no {what} {name:?}"))),
        _ => Err(wrong(&format!("there are no {list}"))),
    };
    let context = named("contexts", &text(all.get("current-context")), "context")?;
    let cluster = named("clusters", &text(context.get("cluster")), "cluster")?;
    let user = named("users", &text(context.get("user")), "user")?;
    if user.get("exec").is_some() || user.get("auth-provider").is_some() {
        return Err(wrong("users who log in by a program are not supported; use a token or a certificate"));
    }
    let dir = Path::new(file).parent().unwrap_or(Path::new("."));
    let data = |node: &Node, name: &str| {
        let packed = text(node.get(name));
        let bytes = base64::engine::general_purpose::STANDARD.decode(packed.trim());
        bytes
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|error| wrong(&format!("{name}: {error}")))
    };
    let path = |node: &Node, name: &str| {
        let mut path = text(node.get(name));
        join(dir, &mut path);
        path
    };
    let mut http = HttpClient::default();
    let tls = &mut http.tls_config;
    tls.ca = data(&cluster, "certificate-authority-data")?;
    if tls.ca.is_empty() {
        tls.ca_file = path(&cluster, "certificate-authority");
    }
    tls.server_name = text(cluster.get("tls-server-name"));
    tls.insecure_skip_verify = text(cluster.get("insecure-skip-tls-verify")) == "true";
    tls.cert = data(&user, "client-certificate-data")?;
    if tls.cert.is_empty() {
        tls.cert_file = path(&user, "client-certificate");
    }
    tls.key = Secret(data(&user, "client-key-data")?);
    if tls.key.0.is_empty() {
        tls.key_file = path(&user, "client-key");
    }
    let (token, token_file) = (text(user.get("token")), path(&user, "tokenFile"));
    let (username, password) = (text(user.get("username")), text(user.get("password")));
    if !token.is_empty() || !token_file.is_empty() {
        http.authorization = Some(Authorization {
            kind: "Bearer".to_owned(),
            credentials: Secret(if token_file.is_empty() { token } else { String::new() }),
            credentials_file: token_file,
            credentials_ref: String::new(),
        });
    } else if !username.is_empty() {
        http.basic_auth = Some(BasicAuth { username, password: Secret(password), ..BasicAuth::default() });
    }
    let server = text(cluster.get("server"));
    if server.is_empty() {
        return Err(wrong("the cluster names no server"));
    }
    Ok((server, http))
}
