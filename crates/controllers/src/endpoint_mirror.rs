//! EndpointSlices of Endpoints that users write by hand for a Service without a selector.
//!
//! ```text
//! Endpoints ─► subsets by address family and ports ─► one slice each, owned by the Endpoints
//! ```
//! Not mirrored: Endpoints with the label `endpointslice.kubernetes.io/skip-mirror`, those that serve as a lock of leader
//! election, and those of a Service that is not there or selects its pods.
//! <https://kubernetes.io/docs/concepts/services-networking/service/#endpointslice-mirroring>

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use client::{
    cache::Key,
    queue::{Next, Queue},
};
use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, Endpoints, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use task::Task;

use crate::{
    caches::Caches,
    endpoint_slice::{MANAGED_BY, SERVICE},
    expectations::Expectations,
    hands::is_ending,
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LOCK: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that speak of the Endpoints themselves and are not copied.
const OWN: [&str; 2] =
    ["kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"];
/// Addresses of one subset that are mirrored at most.
const CAPACITY: usize = 1000;

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let expectations: Arc<Expectations> = Arc::default();
    let add = queue.clone();
    // Endpoints written by the cluster's own controller follow a Service with a selector: looked at and left alone.
    caches.endpoints.listen(move |change| add.add(change.key.clone()));
    let (add, endpoints) = (queue.clone(), caches.endpoints.clone());
    caches.services.listen(move |change| {
        if endpoints.get(&change.key).is_some() {
            add.add(change.key.clone());
        }
    });
    let (add, expected) = (queue.clone(), expectations.clone());
    caches.slices.listen(move |change| {
        let Some(slice) = change.new.as_ref().or(change.old.as_ref()).filter(|slice| is_ours(slice)) else { return };
        let Some(key) = of(slice) else { return };
        if change.old.is_none() {
            expected.created(&key);
        }
        add.add(key);
    });
    let (client, caches) = (client.clone(), caches.clone());
    queue.run("endpoint mirror", 2, move |key| {
        let (client, caches, expectations) = (client.clone(), caches.clone(), expectations.clone());
        async move { reconcile(&client, &caches, &expectations, &key).await }
    });
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

fn of(slice: &EndpointSlice) -> Option<Key> {
    Some(Key::new(slice.metadata.namespace.as_deref()?, slice.metadata.labels.as_ref()?.get(SERVICE)?))
}

async fn reconcile(client: &Client, caches: &Caches, expectations: &Expectations, key: &Key) -> kube::Result<Next> {
    caches.services.ready().await;
    caches.slices.ready().await;
    caches.endpoints.ready().await;
    if !expectations.met(key) {
        return Ok(Next::Done);
    }
    let existing: Vec<Arc<EndpointSlice>> = caches
        .slices
        .list_in(&key.namespace)
        .into_iter()
        .filter(|slice| {
            is_ours(slice) && of(slice).as_ref() == Some(key) && slice.metadata.deletion_timestamp.is_none()
        })
        .collect();
    let endpoints = caches.endpoints.get(key);
    let service = caches.services.get(key);
    let wanted = match (&endpoints, &service) {
        (Some(endpoints), Some(service)) if mirrored(endpoints, service) => wanted(endpoints),
        _ => Vec::new(),
    };
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &key.namespace);
    for action in plan(wanted, &existing) {
        match action {
            Action::Create(slice) => {
                expectations.expect_creations(key, 1);
                if let Err(error) = api.create(&PostParams::default(), &slice).await {
                    expectations.created(key);
                    return if is_ending(&error) { Ok(Next::Done) } else { Err(error) };
                }
            }
            Action::Update(slice) => {
                let name = slice.metadata.name.as_deref().unwrap_or_default();
                api.replace(name, &PostParams::default(), &slice).await?;
            }
            Action::Delete(name) => match api.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => drop(other?),
            },
        }
    }
    Ok(Next::Done)
}

/// Whether these Endpoints are to have slices of this controller.
fn mirrored(endpoints: &Endpoints, service: &Service) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta.labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|value| value == "true");
    let locks = meta.annotations.as_ref().is_some_and(|all| all.contains_key(LOCK));
    let selects = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some();
    !skipped && !locks && !selects && meta.deletion_timestamp.is_none()
}

#[derive(Debug)]
enum Action {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(String),
}

/// What tells one slice of a set of Endpoints from another.
type Face = (String, Vec<(String, String, i32, Option<String>)>);

fn face(slice: &EndpointSlice) -> Face {
    let mut ports: Vec<_> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
            (port.name.clone().unwrap_or_default(), protocol, port.port.unwrap_or(0), port.app_protocol.clone())
        })
        .collect();
    ports.sort();
    (slice.address_type.clone(), ports)
}

/// The slices that the Endpoints amount to.
fn wanted(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<Face, EndpointSlice> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(unready).take(CAPACITY) {
            let family = match address.ip.parse() {
                Ok(IpAddr::V4(_)) => "IPv4",
                Ok(IpAddr::V6(_)) => "IPv6",
                // Validation lets no other in.
                Err(_) => continue,
            };
            let mut slice = slice(endpoints, family);
            slice.ports = Some(ports.clone());
            let slice = groups.entry(face(&slice)).or_insert(slice);
            slice.endpoints.get_or_insert_default().push(endpoint(address, ready));
        }
    }
    groups.into_values().collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn slice(endpoints: &Endpoints, family: &str) -> EndpointSlice {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut slice = EndpointSlice { address_type: family.into(), ..EndpointSlice::default() };
    slice.metadata.generate_name = Some(format!("{name}-"));
    slice.metadata.namespace = endpoints.metadata.namespace.clone();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE.into(), name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    slice.metadata.labels = Some(labels);
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !OWN.contains(&name.as_str()));
    slice.metadata.annotations = Some(annotations).filter(|all| !all.is_empty());
    slice.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Endpoints".into(),
        name,
        uid: endpoints.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    slice
}

/// What turns the existing slices into the wanted ones.
fn plan(wanted: Vec<EndpointSlice>, existing: &[Arc<EndpointSlice>]) -> Vec<Action> {
    let mut left: BTreeMap<Face, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        left.entry(face(slice)).or_default().push(slice);
    }
    let mut actions = Vec::new();
    for mut slice in wanted {
        let Some(old) = left.get_mut(&face(&slice)).and_then(Vec::pop) else {
            actions.push(Action::Create(Box::new(slice)));
            continue;
        };
        let same = old.endpoints == slice.endpoints
            && old.metadata.labels == slice.metadata.labels
            && old.metadata.annotations.clone().unwrap_or_default()
                == slice.metadata.annotations.clone().unwrap_or_default()
            && old.metadata.owner_references == slice.metadata.owner_references;
        if !same {
            slice.metadata.name = old.metadata.name.clone();
            slice.metadata.generate_name = old.metadata.generate_name.clone();
            slice.metadata.resource_version = old.metadata.resource_version.clone();
            actions.push(Action::Update(Box::new(slice)));
        }
    }
    let gone = left.into_values().flatten();
    actions.extend(gone.map(|slice| Action::Delete(slice.metadata.name.clone().unwrap_or_default())));
    actions
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(subsets: Value) -> Endpoints {
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "shop", "uid": "u",
            "labels": {"a": "b"}, "annotations": {OWN[0]: "x", "keep": "y"}}, "subsets": subsets}))
        .unwrap()
    }

    #[test]
    fn addresses_of_one_family_and_the_same_ports_share_a_slice() {
        let subsets = json!([
            {"addresses": [{"ip": "10.0.0.1", "hostname": "one"}, {"ip": "fd00::1"}], "ports": [{"name": "sql", "port": 5432}]},
            {"notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "http", "port": 80}]},
        ]);
        let slices = wanted(&endpoints(subsets));
        let shape: Vec<_> =
            slices.iter().map(|slice| (slice.address_type.as_str(), slice.endpoints.as_ref().unwrap().len())).collect();
        assert_eq!(shape, [("IPv4", 1), ("IPv4", 2), ("IPv6", 1)]);
        let second = &slices[1].endpoints.as_ref().unwrap()[1];
        assert_eq!(second.conditions.as_ref().unwrap().ready, Some(false));
        let meta = &slices[0].metadata;
        assert_eq!(meta.labels.as_ref().unwrap()[SERVICE], "db");
        assert_eq!(meta.annotations.as_ref().unwrap().keys().collect::<Vec<_>>(), ["keep"]);
    }

    #[test]
    fn slices_are_kept_changed_and_deleted_as_endpoints_change() {
        let one = json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]);
        let two = json!([{"addresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80}]}]);
        let mut slices = wanted(&endpoints(one.clone()));
        slices[0].metadata.name = Some("db-1".into());
        let existing = [Arc::new(slices.remove(0))];
        assert!(plan(wanted(&endpoints(one)), &existing).is_empty());
        let changed = plan(wanted(&endpoints(two)), &existing);
        assert!(matches!(&changed[..], [Action::Update(slice)] if slice.metadata.name.as_deref() == Some("db-1")));
        let gone = plan(wanted(&endpoints(json!([]))), &existing);
        assert!(matches!(&gone[..], [Action::Delete(name)] if name == "db-1"));
        assert!(matches!(
            &plan(wanted(&endpoints(json!([{"addresses": [{"ip": "10.0.0.1"}]}]))), &[])[..],
            [Action::Create(_)]
        ));
    }

    #[test]
    fn endpoints_of_a_selecting_service_are_left_alone() {
        let service = |spec: Value| serde_json::from_value::<Service>(json!({"metadata": {}, "spec": spec})).unwrap();
        let mut own = endpoints(json!([]));
        assert!(mirrored(&own, &service(json!({}))));
        assert!(!mirrored(&own, &service(json!({"selector": {"app": "db"}}))));
        own.metadata.labels.get_or_insert_default().insert(SKIP.into(), "true".into());
        assert!(!mirrored(&own, &service(json!({}))));
    }
}
