//! EndpointSlice: the addresses behind each Service, in slices of at most 100.
//!
//! ```text
//! Service + pods ─► endpoints grouped by ports ─► kept in the slices they are in ─► rest fills up, then new slices
//! ```
//! A pod's move from not ready to ready changes one slice.
//! <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>

mod plan;

use std::sync::Arc;

use client::{
    cache::{Change, Key},
    queue::{Next, Queue},
    selector::holds,
};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use task::Task;

pub use plan::{resolve, subdomain_of};

use crate::{caches::Caches, expectations::Expectations};

/// The label by which a slice names its Service.
pub const SERVICE: &str = "kubernetes.io/service-name";
/// The label that names the controller that writes a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let expectations: Arc<Expectations> = Arc::default();
    watch_services_and_pods(&queue, caches);
    let (add, expected) = (queue.clone(), expectations.clone());
    caches.slices.listen(move |change| {
        let Some(slice) = change.new.as_ref().or(change.old.as_ref()).filter(|slice| is_ours(slice)) else { return };
        let Some(service) = service_of(slice) else { return };
        if change.old.is_none() {
            expected.created(&service);
        }
        add.add(service);
    });
    let (client, caches) = (client.clone(), caches.clone());
    queue.run("endpoint slice", 2, move |key| {
        let (client, caches, expectations) = (client.clone(), caches.clone(), expectations.clone());
        async move { reconcile(&client, &caches, &expectations, &key).await }
    });
}

/// Queues a Service when it changes, or when a pod that it selects does.
pub fn watch_services_and_pods(queue: &Queue<Key>, caches: &Caches) {
    let add = queue.clone();
    caches.services.listen(move |change| add.add(change.key.clone()));
    let (add, services) = (queue.clone(), caches.services.clone());
    caches.pods.listen(move |change: &Change<Pod>| {
        if !matters(change) {
            return;
        }
        for service in services.list_in(&change.key.namespace) {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|all| !all.is_empty());
            let selects = |pod: &Option<Arc<Pod>>| {
                let labels = pod.as_ref().and_then(|pod| pod.metadata.labels.as_ref());
                labels.is_some() && selector.is_some_and(|selector| holds(selector, labels))
            };
            if selects(&change.old) || selects(&change.new) {
                add.add(Key::of(&*service));
            }
        }
    });
}

/// Whether a change of a pod can change an endpoint.
fn matters(change: &Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let face = |pod: &Pod| {
        let status = pod.status.as_ref();
        (
            pod.metadata.labels.clone(),
            pod.metadata.deletion_timestamp.is_some(),
            status.and_then(|status| status.pod_ip.clone()),
            crate::pods::phase(pod).to_owned(),
            crate::pods::is_ready(pod),
        )
    };
    face(old) != face(new)
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE)?;
    Some(Key::new(slice.metadata.namespace.as_deref()?, name))
}

async fn reconcile(client: &Client, caches: &Caches, expectations: &Expectations, key: &Key) -> kube::Result<Next> {
    caches.pods.ready().await;
    caches.nodes.ready().await;
    caches.slices.ready().await;
    let Some(service) = caches.services.get(key).filter(|service| has_selector(service)) else {
        // Slices of a Service that has gone are garbage of their owner; without a selector they are the user's.
        expectations.forget(key);
        return Ok(Next::Done);
    };
    if service.metadata.deletion_timestamp.is_some() || !expectations.met(key) {
        return Ok(Next::Done);
    }
    let existing: Vec<Arc<EndpointSlice>> = caches
        .slices
        .list_in(&key.namespace)
        .into_iter()
        .filter(|slice| is_ours(slice) && service_of(slice).as_ref() == Some(key))
        .filter(|slice| slice.metadata.deletion_timestamp.is_none())
        .collect();
    let pods = caches.pods.list_in(&key.namespace);
    let nodes = &caches.nodes;
    let zone = |node: &str| {
        let node = nodes.get(&Key::new("", node))?;
        node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").cloned()
    };
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &key.namespace);
    let actions = plan::plan(&service, &pods, zone, &existing);
    let creations = actions.iter().filter(|action| matches!(action, plan::Action::Create(_))).count();
    expectations.expect_creations(key, creations);
    let mut failed = None;
    for action in actions {
        let done = match &action {
            plan::Action::Create(slice) => api.create(&PostParams::default(), slice).await.map(drop),
            plan::Action::Update(slice) => {
                let name = slice.metadata.name.as_deref().unwrap_or_default();
                api.replace(name, &PostParams::default(), slice).await.map(drop)
            }
            plan::Action::Delete(name) => match api.delete(name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(drop),
            },
        };
        if let Err(error) = done {
            if matches!(action, plan::Action::Create(_)) {
                expectations.created(key);
            }
            failed = Some(error);
        }
    }
    match failed {
        // The namespace ends; its slices go with it.
        Some(kube::Error::Api(status)) if status.code == 403 || status.code == 404 => Ok(Next::Done),
        Some(error) => Err(error),
        None => Ok(Next::Done),
    }
}

/// Whether the Service's endpoints are this controller's business.
pub fn has_selector(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| {
        spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
            && spec.type_.as_deref() != Some("ExternalName")
    })
}
