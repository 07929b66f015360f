//! Containers of a Docker engine.
//!
//! See <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#docker_sd_config>.

use std::collections::BTreeMap;

use http::{HeaderMap, Uri};
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, de::DeserializeOwned};
use tsdb::labels::{Builder, Labels};

use super::{Teller, label_name, refresh};
use crate::{
    config::discovery::Docker,
    http_client::{Client, HttpClient, token::escape},
    scrape::target::Group,
};

/// Bytes of an answer at most.
const LARGEST: usize = 64 << 20;
/// How many containers may share a network one through the other.
const CHAIN: usize = 16;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Container {
    id: String,
    names: Vec<String>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    labels: Option<BTreeMap<String, String>>,
    ports: Option<Vec<Port>>,
    host_config: HostConfig,
    network_settings: Networks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Port {
    #[serde(rename = "IP")]
    ip: String,
    private_port: u16,
    public_port: u16,
    #[serde(rename = "Type")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Networks {
    networks: Option<BTreeMap<String, Option<Endpoint>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    #[serde(rename = "NetworkID")]
    network: String,
    #[serde(rename = "IPAddress")]
    ip: String,
    #[serde(rename = "GlobalIPv6Address")]
    ipv6: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Network {
    id: String,
    name: String,
    scope: String,
    internal: bool,
    ingress: bool,
    labels: Option<BTreeMap<String, String>>,
}

/// Tells of the containers, until it is dropped.
pub async fn run(settings: Docker, teller: Teller) {
    let (client, base) = match access(&settings) {
        Ok(found) => found,
        Err(error) => {
            teller.failed();
            tracing::error!(host = %settings.host, error, "containers cannot be asked for");
            return;
        }
    };
    refresh("docker", settings.refresh_interval.0, teller, |_| ask(&client, &base, &settings)).await;
}

/// A client, and what stands before the paths.
fn access(settings: &Docker) -> Result<(Client, String), String> {
    let (scheme, rest) =
        settings.host.split_once("://").ok_or_else(|| format!("unable to parse docker host `{}`", settings.host))?;
    match scheme {
        "unix" => Ok((Client::of_socket(&HttpClient::default(), rest.into())?, "http://localhost".to_owned())),
        "tcp" => Ok((Client::new(&HttpClient::default())?, format!("http://{}", rest.trim_end_matches('/')))),
        "http" | "https" => Ok((Client::new(&settings.http)?, settings.host.trim_end_matches('/').to_owned())),
        _ => Err(format!("docker host {}: expected unix, tcp, http or https", settings.host)),
    }
}

async fn get<T: DeserializeOwned>(client: &Client, url: &str) -> Result<T, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let answer = client.get(uri, HeaderMap::new()).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| error.to_string())?.to_bytes();
    if !status.is_success() {
        let said = String::from_utf8_lossy(&body[..body.len().min(512)]).into_owned();
        return Err(format!("{url}: {status}: {said}"));
    }
    serde_json::from_slice(&body).map_err(|error| format!("{url}: {error}"))
}

/// Asks once.
async fn ask(client: &Client, base: &str, settings: &Docker) -> Result<Vec<Group>, String> {
    let mut filters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for filter in &settings.filters {
        filters.entry(&filter.name).or_default().extend(filter.values.iter().map(String::as_str));
    }
    let filters = serde_json::to_string(&filters).map_err(|error| error.to_string())?;
    let asked = async {
        let listed = format!("{base}/containers/json?filters={}", escape(&filters));
        let containers: Vec<Container> =
            get(client, &listed).await.map_err(|error| format!("error while listing containers: {error}"))?;
        let networks: Vec<Network> = get(client, &format!("{base}/networks"))
            .await
            .map_err(|error| format!("error while computing network labels: {error}"))?;
        Ok::<_, String>((containers, networks))
    };
    let limit = settings.refresh_interval.0;
    let (containers, networks) =
        tokio::time::timeout(limit, asked).await.map_err(|_| format!("{base}: context deadline exceeded"))??;
    Ok(vec![Group {
        source: "Docker".to_owned(),
        targets: targets(&containers, &networks, settings),
        labels: Labels::empty(),
    }])
}

/// The labels of a target; later ones replace earlier ones.
fn meta(pairs: &BTreeMap<String, String>, of_network: Option<&BTreeMap<String, String>>) -> Builder {
    let mut builder = Builder::default();
    for (name, value) in pairs.iter().chain(of_network.into_iter().flatten()) {
        builder.set(&format!("__meta_docker_{name}"), value);
    }
    builder
}

fn targets(containers: &[Container], networks: &[Network], settings: &Docker) -> Vec<Labels> {
    let by_id: BTreeMap<&str, &Container> =
        containers.iter().map(|container| (container.id.as_str(), container)).collect();
    let mut of_networks: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for network in networks {
        let mut pairs = BTreeMap::from([
            ("network_id".to_owned(), network.id.clone()),
            ("network_name".to_owned(), network.name.clone()),
            ("network_scope".to_owned(), network.scope.clone()),
            ("network_internal".to_owned(), network.internal.to_string()),
            ("network_ingress".to_owned(), network.ingress.to_string()),
        ]);
        for (name, value) in network.labels.iter().flatten() {
            pairs.insert(format!("network_label_{}", label_name(name)), value.clone());
        }
        of_networks.insert(&network.id, pairs);
    }
    let mut targets = Vec::new();
    for container in containers {
        let Some(name) = container.names.first() else { continue };
        let mut common = BTreeMap::from([
            ("container_id".to_owned(), container.id.clone()),
            ("container_name".to_owned(), name.clone()),
            ("container_network_mode".to_owned(), container.host_config.network_mode.clone()),
            ("container_image".to_owned(), container.image.clone()),
            ("container_image_id".to_owned(), container.image_id.clone()),
        ]);
        for (name, value) in container.labels.iter().flatten() {
            common.insert(format!("container_label_{}", label_name(name)), value.clone());
        }
        let of =
            |container: &Container| container.network_settings.networks.as_ref().is_some_and(|all| !all.is_empty());
        let mut owner = container;
        for _ in 0..CHAIN {
            if of(owner) {
                break;
            }
            let shared = owner.host_config.network_mode.strip_prefix("container:").and_then(|id| by_id.get(id));
            match shared {
                Some(other) => owner = other,
                None => break,
            }
        }
        let joined = owner.network_settings.networks.iter().flatten().filter_map(|(_, endpoint)| endpoint.as_ref());
        let first = if settings.match_first_network { 1 } else { usize::MAX };
        for endpoint in joined.take(first) {
            let ip = if endpoint.ip.is_empty() { &endpoint.ipv6 } else { &endpoint.ip };
            let of_network = of_networks.get(endpoint.network.as_str());
            let address = |port: i64| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
            let ports = container.ports.iter().flatten().filter(|port| port.kind == "tcp");
            let before = targets.len();
            for port in ports {
                let mut labels = meta(&common, of_network);
                labels
                    .set("__meta_docker_network_ip", ip)
                    .set("__meta_docker_port_private", &port.private_port.to_string())
                    .set("__address__", &address(port.private_port.into()));
                if port.public_port > 0 {
                    labels
                        .set("__meta_docker_port_public", &port.public_port.to_string())
                        .set("__meta_docker_port_public_ip", &port.ip);
                }
                targets.push(labels.labels());
            }
            if targets.len() == before {
                let host = container.host_config.network_mode == "host";
                let address = if host { settings.host_networking_host.clone() } else { address(settings.port) };
                let mut labels = meta(&common, of_network);
                labels.set("__meta_docker_network_ip", ip).set("__address__", &address);
                targets.push(labels.labels());
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_become_targets_by_network_and_port() {
        let containers = r#"[
            {"Id":"a","Names":["/web"],"Image":"nginx","ImageID":"sha256:1","Labels":{"com.example/x":"y"},
             "HostConfig":{"NetworkMode":"bridge"},
             "Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":53,"Type":"udp"}],
             "NetworkSettings":{"Networks":{"bridge":{"NetworkID":"n1","IPAddress":"172.17.0.2"},"z":{"NetworkID":"n2","IPAddress":"10.0.0.2"}}}},
            {"Id":"b","Names":["/host"],"HostConfig":{"NetworkMode":"host"},"Ports":null,
             "NetworkSettings":{"Networks":{"host":{"NetworkID":"n3","IPAddress":""}}}},
            {"Id":"c","Names":["/beside"],"HostConfig":{"NetworkMode":"container:a"},"NetworkSettings":{"Networks":{}}}
        ]"#;
        let networks = r#"[{"Id":"n1","Name":"bridge","Scope":"local","Labels":{"k":"v"}}]"#;
        let containers: Vec<Container> = serde_json::from_str(containers).unwrap();
        let networks: Vec<Network> = serde_json::from_str(networks).unwrap();
        let found = targets(&containers, &networks, &Docker::default());
        let addresses: Vec<&str> = found.iter().map(|labels| labels.get("__address__")).collect();
        assert_eq!(addresses, ["172.17.0.2:80", "localhost", "172.17.0.2:80"]);
        assert_eq!(found[0].get("__meta_docker_container_label_com_example_x"), "y");
        assert_eq!(found[0].get("__meta_docker_network_label_k"), "v");
        assert_eq!(found[0].get("__meta_docker_port_public"), "8080");
        let all = targets(&containers, &networks, &Docker { match_first_network: false, ..Docker::default() });
        assert_eq!(all.len(), 5);
        assert!(all[1].get("__address__") == "10.0.0.2:80");
    }
}
