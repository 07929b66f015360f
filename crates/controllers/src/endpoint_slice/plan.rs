//! Which slices a Service should have, given those that it has.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use client::selector::holds;
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::OwnerReference, util::intstr::IntOrString},
};

use super::{HEADLESS, MANAGED_BY, MANAGER, SERVICE};
use crate::pods::{is_ready, phase};

/// Endpoints in one slice at most.
const SIZE: usize = 100;

/// One write.
#[derive(Debug)]
pub enum Action {
    /// A new slice.
    Create(Box<EndpointSlice>),
    /// An existing one with other contents.
    Update(Box<EndpointSlice>),
    /// One that is not needed any more, by name.
    Delete(String),
}

/// The ports of a group of endpoints: name, protocol, number, application protocol.
type Ports = Vec<(Option<String>, String, Option<i32>, Option<String>)>;

/// Compares what is with what should be; `zone` gives the zone of a node.
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    zone: impl Fn(&str) -> Option<String>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<Action> {
    let mut groups: BTreeMap<Ports, BTreeMap<String, Endpoint>> = BTreeMap::new();
    let spec = service.spec.as_ref();
    let unready_too = spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let selector = spec.and_then(|spec| spec.selector.clone()).unwrap_or_default();
    for pod in pods.iter().filter(|pod| holds(&selector, pod.metadata.labels.as_ref())) {
        if let Some(endpoint) = endpoint(service, pod, unready_too, &zone) {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            groups.entry(ports(service, pod)).or_default().insert(uid, endpoint);
        }
    }
    let labels = labels(service);
    let mut actions = Vec::new();
    let mut spare: Vec<&Arc<EndpointSlice>> = Vec::new();
    let mut by_ports: HashMap<Ports, Vec<&Arc<EndpointSlice>>> = HashMap::new();
    for slice in existing {
        let own: Ports = slice_ports(slice);
        if groups.contains_key(&own) { by_ports.entry(own).or_default().push(slice) } else { spare.push(slice) }
    }
    if groups.is_empty() {
        // A Service without endpoints keeps one empty slice, by which others see that it was looked at.
        match spare.split_first() {
            None => actions.push(Action::Create(Box::new(slice(service, &labels, &Vec::new(), Vec::new())))),
            Some((first, rest)) => {
                if first.endpoints.iter().any(|all| !all.is_empty()) {
                    let mut emptied = (***first).clone();
                    emptied.endpoints = Some(Vec::new());
                    emptied.metadata.labels = Some(labels);
                    actions.push(Action::Update(Box::new(emptied)));
                }
                actions.extend(rest.iter().map(|slice| delete(slice)));
            }
        }
        return actions;
    }
    for (ports, mut wanted) in groups {
        let mut filled: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
        for slice in by_ports.remove(&ports).unwrap_or_default() {
            let kept = slice.endpoints.iter().flatten().filter_map(|endpoint| {
                let uid = endpoint.target_ref.as_ref()?.uid.as_ref()?;
                wanted.remove(uid)
            });
            filled.push((slice, kept.collect()));
        }
        let mut rest = wanted.into_values();
        for (_, endpoints) in &mut filled {
            let room = SIZE.saturating_sub(endpoints.len());
            endpoints.extend(rest.by_ref().take(room));
        }
        for (old, endpoints) in filled {
            if endpoints.is_empty() {
                actions.push(delete(old));
            } else if old.endpoints.as_ref() != Some(&endpoints) || old.metadata.labels.as_ref() != Some(&labels) {
                let mut changed = (**old).clone();
                changed.endpoints = Some(endpoints);
                changed.metadata.labels = Some(labels.clone());
                actions.push(Action::Update(Box::new(changed)));
            }
        }
        loop {
            let endpoints: Vec<Endpoint> = rest.by_ref().take(SIZE).collect();
            if endpoints.is_empty() {
                break;
            }
            // A slice of other ports can be used again.
            let new = slice(service, &labels, &ports, endpoints);
            match spare.pop() {
                None => actions.push(Action::Create(Box::new(new))),
                Some(old) => {
                    let mut changed = (**old).clone();
                    (changed.endpoints, changed.ports) = (new.endpoints, new.ports);
                    changed.metadata.labels = Some(labels.clone());
                    actions.push(Action::Update(Box::new(changed)));
                }
            }
        }
    }
    actions.extend(spare.into_iter().map(delete));
    actions
}

fn delete(slice: &Arc<EndpointSlice>) -> Action {
    Action::Delete(slice.metadata.name.clone().unwrap_or_default())
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    unready_too: bool,
    zone: impl Fn(&str) -> Option<String>,
) -> Option<Endpoint> {
    let address = pod.status.as_ref()?.pod_ip.clone().filter(|address| !address.is_empty())?;
    if matches!(phase(pod), "Succeeded" | "Failed") {
        return None;
    }
    let (ready, leaving) = (is_ready(pod), pod.metadata.deletion_timestamp.is_some());
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(unready_too || (ready && !leaving)),
            serving: Some(unready_too || ready),
            terminating: Some(leaving),
        }),
        hostname: subdomain_of(service, pod),
        zone: node.as_deref().and_then(zone),
        node_name: node,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// The pod's host name, if the Service is its subdomain: then it has a DNS name of its own.
pub fn subdomain_of(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|name| !name.is_empty())?;
    (spec.subdomain == service.metadata.name).then_some(hostname)
}

/// The port of `pod` that a Service's port leads to; `None` if the pod names no such port.
pub fn resolve(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match port.target_port.as_ref() {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(if *number == 0 { port.port } else { *number }),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            spec.containers
                .iter()
                .chain(spec.init_containers.iter().flatten().filter(|container| container.restart_policy.is_some()))
                .flat_map(|container| container.ports.iter().flatten())
                .find(|own| own.name.as_ref() == Some(name) && own.protocol.as_deref().unwrap_or("TCP") == protocol)
                .map(|own| own.container_port)
        }
    }
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut found: Ports = ports
        .iter()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            Some((
                Some(port.name.clone().unwrap_or_default()),
                protocol,
                Some(resolve(port, pod)?),
                port.app_protocol.clone(),
            ))
        })
        .collect();
    found.sort();
    found
}

fn slice_ports(slice: &EndpointSlice) -> Ports {
    let ports = slice.ports.iter().flatten();
    let mut found: Ports = ports
        .map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            (Some(port.name.clone().unwrap_or_default()), protocol, port.port, port.app_protocol.clone())
        })
        .collect();
    found.sort();
    found
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE.into(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}

fn slice(
    service: &Service,
    labels: &BTreeMap<String, String>,
    ports: &Ports,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut slice = EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: Some(endpoints),
        ports: Some(
            ports
                .iter()
                .cloned()
                .map(|(name, protocol, port, app_protocol)| EndpointPort {
                    name,
                    protocol: Some(protocol),
                    port,
                    app_protocol,
                })
                .collect(),
        ),
        ..EndpointSlice::default()
    };
    slice.metadata.generate_name = Some(format!("{name}-"));
    slice.metadata.namespace = service.metadata.namespace.clone();
    slice.metadata.labels = Some(labels.clone());
    slice.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Service".into(),
        name,
        uid: service.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    slice
}

#[cfg(test)]
mod tests;
