//! Objects and the targets that they are.

use client::cache::Cache;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use serde_json::json;
use tsdb::labels::Labels;

use super::groups::{self, Around};
use crate::config::discovery::Attach;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "web-1", "namespace": "shop", "uid": "u1",
            "labels": {"app.kubernetes.io/name": "web"}, "annotations": {"prometheus.io/scrape": "true"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true}],
        },
        "spec": {"nodeName": "n1", "containers": [
            {"name": "main", "image": "web:1", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}, {"name": "metrics", "containerPort": 9100, "protocol": "TCP"}]},
            {"name": "side", "image": "side:1"},
        ]},
        "status": {"phase": "Running", "podIP": "10.42.0.7", "hostIP": "192.0.2.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "main", "containerID": "x://1", "ready": true, "restartCount": 0, "image": "web:1", "imageID": ""}]},
    }))
    .unwrap()
}

fn around(attach: &Attach) -> Around<'_> {
    Around { attach, pods: None, services: None, nodes: None, spaces: None, sets: None, jobs: None }
}

fn get<'a>(labels: &'a Labels, name: &str) -> &'a str {
    labels.get(&format!("__meta_kubernetes_{name}"))
}

#[test]
fn each_port_of_a_pod_is_a_target_and_a_container_without_ports_is_one_too() {
    let attach = Attach::default();
    let group = groups::pod(&pod(), &around(&attach));
    assert_eq!(group.source, "pod/shop/web-1");
    for (name, value) in [
        ("namespace", "shop"),
        ("pod_name", "web-1"),
        ("pod_ip", "10.42.0.7"),
        ("pod_ready", "true"),
        ("pod_phase", "Running"),
        ("pod_node_name", "n1"),
        ("pod_host_ip", "192.0.2.1"),
        ("pod_uid", "u1"),
        ("pod_controller_kind", "ReplicaSet"),
        ("pod_controller_name", "web"),
        ("pod_label_app_kubernetes_io_name", "web"),
        ("pod_labelpresent_app_kubernetes_io_name", "true"),
        ("pod_annotation_prometheus_io_scrape", "true"),
    ] {
        assert_eq!(get(&group.labels, name), value, "{name}");
    }
    let addresses: Vec<&str> = group.targets.iter().map(|target| target.get("__address__")).collect();
    assert_eq!(addresses, ["10.42.0.7:80", "10.42.0.7:9100", "10.42.0.7"]);
    assert_eq!(get(&group.targets[1], "pod_container_port_name"), "metrics");
    assert_eq!(get(&group.targets[0], "pod_container_id"), "x://1");
    assert_eq!(get(&group.targets[2], "pod_container_name"), "side");
    let starting = Pod { status: None, ..pod() };
    assert!(groups::pod(&starting, &around(&attach)).targets.is_empty());
}

#[test]
fn endpoints_know_their_service_and_pods_and_what_else_these_expose() {
    let endpoints: Endpoints = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "subsets": [{
            "addresses": [{"ip": "10.42.0.7", "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "web-1", "namespace": "shop"}}],
            "notReadyAddresses": [{"ip": "10.42.0.8"}],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        }],
    }))
    .unwrap();
    let service: Service =
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"team": "a"}}}))
            .unwrap();
    let (pods, services) = (Cache::holding([pod()]), Cache::holding([service]));
    let attach = Attach::default();
    let around = Around { pods: Some(&pods), services: Some(&services), ..around(&attach) };
    let group = groups::endpoints(&endpoints, &around);
    assert_eq!((get(&group.labels, "service_name"), get(&group.labels, "service_label_team")), ("web", "a"));
    let seen: Vec<(&str, &str, &str)> = group
        .targets
        .iter()
        .map(|target| (target.get("__address__"), get(target, "endpoint_ready"), get(target, "pod_name")))
        .collect();
    assert_eq!(
        seen,
        [("10.42.0.7:80", "true", "web-1"), ("10.42.0.8:80", "false", ""), ("10.42.0.7:9100", "", "web-1")]
    );
    assert_eq!(get(&group.targets[0], "pod_container_port_name"), "http");
    assert_eq!(get(&group.targets[0], "endpoint_address_target_kind"), "Pod");
}

#[test]
fn a_slice_of_the_second_family_of_addresses_adds_nothing() {
    let slice = |kind: &str| {
        serde_json::from_value(json!({
            "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": kind,
            "endpoints": [{"addresses": ["10.42.0.9"], "conditions": {"ready": true}, "zone": "z"}],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        }))
        .unwrap()
    };
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"]},
    }))
    .unwrap();
    let services = Cache::holding([service]);
    let attach = Attach::default();
    let around = Around { services: Some(&services), ..around(&attach) };
    let first = groups::slice(&slice("IPv4"), &around);
    assert_eq!(first.targets.len(), 1);
    assert_eq!(get(&first.targets[0], "endpointslice_endpoint_conditions_ready"), "true");
    assert_eq!(get(&first.targets[0], "endpointslice_port"), "80");
    assert_eq!(get(&first.labels, "endpointslice_address_type"), "IPv4");
    assert!(groups::slice(&slice("IPv6"), &around).targets.is_empty());
}

#[test]
fn nodes_services_and_ingresses_are_targets_as_in_prometheus() {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "n1", "labels": {"zone": "a"}},
        "spec": {"providerID": "p://1"},
        "status": {
            "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    }))
    .unwrap();
    let group = groups::node(&node).unwrap();
    assert_eq!((group.targets[0].get("__address__"), group.targets[0].get("instance")), ("192.0.2.1:10250", "n1"));
    assert_eq!(get(&group.targets[0], "node_address_Hostname"), "n1");
    assert_eq!((get(&group.labels, "node_condition_ready"), get(&group.labels, "node_provider_id")), ("true", "p://1"));
    let attach = Attach::default();
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.43.0.5", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}, {"ip": "192.0.2.8"}]}},
    }))
    .unwrap();
    let group = groups::service(&service, &around(&attach));
    assert_eq!(group.targets[0].get("__address__"), "web.shop.svc:80");
    assert_eq!(get(&group.targets[0], "service_loadbalancer_ip"), "192.0.2.7,192.0.2.8");
    let ingress = serde_json::from_value(json!({
        "metadata": {"name": "i", "namespace": "shop"},
        "spec": {
            "ingressClassName": "c",
            "tls": [{"hosts": ["*.example.io"]}],
            "rules": [
                {"host": "a.example.io", "http": {"paths": [{"path": "/x", "pathType": "Prefix", "backend": {}}, {"pathType": "Prefix", "backend": {}}]}},
                {"host": "b.io"},
            ],
        },
    }))
    .unwrap();
    let group = groups::ingress(&ingress, &around(&attach));
    let seen: Vec<(&str, &str, &str)> = group
        .targets
        .iter()
        .map(|target| (target.get("__address__"), get(target, "ingress_scheme"), get(target, "ingress_path")))
        .collect();
    assert_eq!(seen, [("a.example.io", "https", "/x"), ("a.example.io", "https", "/"), ("b.io", "http", "/")]);
    assert_eq!(get(&group.labels, "ingress_class_name"), "c");
}
