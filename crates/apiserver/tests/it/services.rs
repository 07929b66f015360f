//! Addresses and ports of Services.

use crate::*;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    api::patch::merge(&mut service, &json!({ "spec": spec })).unwrap();
    service
}

async fn make(cluster: &Cluster, name: &str, spec: Value) -> Answer {
    cluster.post(SERVICES, service(name, spec)).await
}

#[tokio::test]
async fn the_service_of_the_api_is_there_from_the_start() {
    let cluster = Cluster::start().await;
    let service = cluster.get(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.1");
    let slice = cluster.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await.ok();
    assert_eq!(slice["ports"][0]["port"], 6443);
    cluster.get("/apis/networking.k8s.io/v1/ipaddresses/10.43.0.1").await.ok();
}

#[tokio::test]
async fn addresses_are_taken_and_freed_with_their_service() {
    let cluster = Cluster::start().await;
    let made = make(&cluster, "a", json!({})).await.ok();
    let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.43."), "{ip}");
    assert_eq!(made["spec"]["clusterIPs"], json!([ip]));
    let path = format!("/apis/networking.k8s.io/v1/ipaddresses/{ip}");
    assert_eq!(cluster.get(&path).await.ok()["spec"]["parentRef"]["name"], "a");
    make(&cluster, "b", json!({"clusterIP": ip})).await.refused(422, "Invalid", "provided IP is already allocated");
    make(&cluster, "b", json!({"clusterIP": "10.99.0.1"})).await.refused(422, "Invalid", "is not in the valid range");
    make(&cluster, "b", json!({"clusterIP": "10.43.0.0"})).await.refused(422, "Invalid", "is not in the valid range");
    let updated = cluster.patch(&format!("{SERVICES}/a"), json!({"spec": {"selector": {"c": "d"}}})).await.ok();
    assert_eq!(updated["spec"]["clusterIP"], *ip);
    cluster.delete(&format!("{SERVICES}/a")).await.ok();
    cluster.get(&path).await.refused(404, "NotFound", "");
    let fixed = make(&cluster, "b", json!({"clusterIP": ip})).await.ok();
    assert_eq!(fixed["spec"]["clusterIP"], *ip);
    let headless = make(&cluster, "h", json!({"clusterIP": "None"})).await.ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn node_ports_are_taken_and_freed_with_the_type() {
    let cluster = Cluster::start().await;
    let made = make(&cluster, "a", json!({"type": "NodePort"})).await.ok();
    let port = made["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30000..=32767).contains(&port));
    let fixed = |port: i64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    make(&cluster, "b", fixed(port)).await.refused(422, "Invalid", "provided port is already allocated");
    make(&cluster, "b", fixed(80)).await.refused(
        422,
        "Invalid",
        "provided port is not in the valid range. The range of valid ports is 30000-32767",
    );
    let changed = cluster.patch(&format!("{SERVICES}/a"), json!({"spec": {"type": "ClusterIP"}})).await.ok();
    assert!(changed["spec"]["ports"][0].get("nodePort").is_none());
    let taken = make(&cluster, "b", fixed(port)).await.ok();
    assert_eq!(taken["spec"]["ports"][0]["nodePort"], port);
    let both = json!({"type": "NodePort", "ports": [
        {"name": "tcp", "port": 53, "protocol": "TCP"}, {"name": "udp", "port": 53, "protocol": "UDP"},
    ]});
    let both = make(&cluster, "dns", both).await.ok();
    assert_eq!(both["spec"]["ports"][0]["nodePort"], both["spec"]["ports"][1]["nodePort"]);
    cluster.delete(&format!("{SERVICES}/dns")).await.ok();
    let external = make(&cluster, "x", json!({"type": "ExternalName", "externalName": "example.com"})).await.ok();
    assert!(external["spec"].get("clusterIP").is_none_or(|ip| ip == ""));
}

#[tokio::test]
async fn the_cluster_has_one_address_family() {
    let cluster = Cluster::start().await;
    make(&cluster, "a", json!({"ipFamilyPolicy": "RequireDualStack"})).await.refused(
        422,
        "Invalid",
        "not configured for dual-stack",
    );
    make(&cluster, "a", json!({"ipFamilies": ["IPv6"]})).await.refused(
        422,
        "Invalid",
        "not configured on this cluster",
    );
    let made = make(&cluster, "a", json!({"ipFamilyPolicy": "PreferDualStack"})).await.ok();
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4"]));
}

#[tokio::test]
async fn many_services_at_once_get_different_addresses() {
    let cluster = Cluster::start().await;
    let all = (0..60).map(|at| {
        let cluster = &cluster;
        async move { make(cluster, &format!("s{at}"), json!({"type": "NodePort"})).await.ok() }
    });
    let made = futures::future::join_all(all).await;
    let ips: std::collections::BTreeSet<_> =
        made.iter().map(|service| service["spec"]["clusterIP"].to_string()).collect();
    let ports: std::collections::BTreeSet<_> =
        made.iter().map(|service| service["spec"]["ports"][0]["nodePort"].as_i64()).collect();
    assert_eq!((ips.len(), ports.len()), (60, 60));
}

#[tokio::test]
async fn a_dry_run_takes_nothing() {
    let cluster = Cluster::start().await;
    let made =
        cluster.post(&format!("{SERVICES}?dryRun=All"), service("a", json!({"clusterIP": "10.43.0.77"}))).await.ok();
    assert_eq!(made["spec"]["clusterIP"], "10.43.0.77");
    cluster.get("/apis/networking.k8s.io/v1/ipaddresses/10.43.0.77").await.refused(404, "NotFound", "");
}
