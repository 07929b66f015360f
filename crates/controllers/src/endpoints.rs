//! Endpoints: the older form of a Service's addresses, one object a Service.

use std::{collections::BTreeMap, sync::Arc};

use client::{
    cache::Key,
    queue::{Next, Queue},
    selector::holds,
};
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use kube::{Api, Client, api::PostParams};
use task::Task;

use crate::{
    caches::Caches,
    endpoint_slice::{has_selector, resolve, subdomain_of, watch_services_and_pods},
    pods::{is_ready, phase},
};

/// Addresses in one object at most.
const CAPACITY: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    watch_services_and_pods(&queue, caches);
    let endpoints = caches.endpoints.clone();
    let (client, caches) = (client.clone(), caches.clone());
    queue.run("endpoints", 2, move |key| {
        let (client, caches, endpoints) = (client.clone(), caches.clone(), endpoints.clone());
        async move {
            caches.pods.ready().await;
            endpoints.ready().await;
            let api: Api<Endpoints> = Api::namespaced(client, &key.namespace);
            let existing = endpoints.get(&key);
            let Some(service) = caches.services.get(&key) else {
                // Endpoints bear the name of their Service and go with it.
                if existing.is_some() {
                    match api.delete(&key.name, &Default::default()).await {
                        Err(kube::Error::Api(status)) if status.code == 404 => {}
                        other => drop(other?),
                    }
                }
                return Ok(Next::Done);
            };
            if !has_selector(&service) || service.metadata.deletion_timestamp.is_some() {
                return Ok(Next::Done);
            }
            let wanted = wanted(&service, &caches.pods.list_in(&key.namespace));
            let done = match existing {
                None => api.create(&PostParams::default(), &wanted).await.map(drop),
                Some(old) if same(&old, &wanted) => Ok(()),
                Some(old) => {
                    let mut changed = wanted;
                    changed.metadata.resource_version = old.metadata.resource_version.clone();
                    api.replace(&key.name, &PostParams::default(), &changed).await.map(drop)
                }
            };
            match done {
                // The namespace ends.
                Err(kube::Error::Api(status)) if status.code == 403 || status.code == 404 => Ok(Next::Done),
                other => other.map(|()| Next::Done),
            }
        }
    });
}

fn same(old: &Endpoints, wanted: &Endpoints) -> bool {
    old.subsets.clone().unwrap_or_default() == wanted.subsets.clone().unwrap_or_default()
        && old.metadata.labels == wanted.metadata.labels
        && old.metadata.annotations.as_ref().and_then(|all| all.get(OVER_CAPACITY))
            == wanted.metadata.annotations.as_ref().and_then(|all| all.get(OVER_CAPACITY))
}

/// The object that follows from a Service and the pods of its namespace.
fn wanted(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
    type Ports = Vec<(Option<String>, i32, String)>;
    let mut groups: BTreeMap<Ports, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let spec = service.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let unready_too = spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let mut total = 0;
    let selected = pods.iter().filter(|pod| holds(&selector, pod.metadata.labels.as_ref()));
    for pod in selected {
        let address =
            pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|address| !address.is_empty());
        let leaving = pod.metadata.deletion_timestamp.is_some();
        let Some(address) = address.filter(|_| !matches!(phase(pod), "Succeeded" | "Failed")) else { continue };
        if (leaving && !unready_too) || total == CAPACITY {
            continue;
        }
        total += 1;
        let address = EndpointAddress {
            ip: address,
            hostname: subdomain_of(service, pod),
            node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".into()),
                namespace: pod.metadata.namespace.clone(),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
                ..ObjectReference::default()
            }),
        };
        let ports: Ports = spec
            .and_then(|spec| spec.ports.as_deref())
            .unwrap_or_default()
            .iter()
            .filter_map(|port| {
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
                Some((port.name.clone().filter(|name| !name.is_empty()), resolve(port, pod)?, protocol))
            })
            .collect();
        let group = groups.entry(ports).or_default();
        if unready_too || is_ready(pod) { group.0.push(address) } else { group.1.push(address) }
    }
    let some = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        Some(addresses).filter(|all| !all.is_empty())
    };
    let subsets = groups.into_iter().map(|(ports, (ready, unready))| EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(unready),
        ports: Some(
            ports
                .into_iter()
                .map(|(name, port, protocol)| EndpointPort { name, port, protocol: Some(protocol), app_protocol: None })
                .collect::<Vec<_>>(),
        )
        .filter(|all| !all.is_empty()),
    });
    let mut endpoints = Endpoints { subsets: Some(subsets.collect()), ..Endpoints::default() };
    endpoints.metadata.name = service.metadata.name.clone();
    endpoints.metadata.namespace = service.metadata.namespace.clone();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert("endpoints.kubernetes.io/managed-by".into(), "endpoint-controller".into());
    if spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert("service.kubernetes.io/headless".into(), String::new());
    }
    endpoints.metadata.labels = Some(labels);
    if total == CAPACITY {
        endpoints.metadata.annotations = Some([(OVER_CAPACITY.to_owned(), "truncated".to_owned())].into());
    }
    endpoints
}
