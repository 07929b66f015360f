//! Removes pods that nobody else would: of nodes that are gone, unscheduled ones that were deleted, and the oldest ended
//! ones once there are very many.

use client::{
    cache::Key,
    queue::{Next, Queue},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
};
use task::Task;

use crate::caches::Caches;

/// Ended pods kept at most.
const ENDED: usize = 12_500;

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    // One key for all: the rules look at all pods together.
    let all = || Key::new("", "pods");
    let (from_nodes, from_pods) = (queue.clone(), queue.clone());
    caches.nodes.listen(move |change| {
        if change.new.is_none() {
            from_nodes.add(all());
        }
    });
    caches.pods.listen(move |change| {
        let Some(pod) = &change.new else { return };
        let unscheduled = node_of(pod).is_none() && pod.metadata.deletion_timestamp.is_some();
        if unscheduled || change.old.is_none() {
            from_pods.add_after(all(), std::time::Duration::from_millis(if unscheduled { 0 } else { 20_000 }));
        }
    });
    let (client, caches) = (client.clone(), caches.clone());
    queue.run("pod garbage", 1, move |_| {
        let (client, caches) = (client.clone(), caches.clone());
        async move {
            caches.pods.ready().await;
            caches.nodes.ready().await;
            let pods = caches.pods.list();
            let mut ended: Vec<_> =
                pods.iter().filter(|pod| matches!(crate::pods::phase(pod), "Succeeded" | "Failed")).collect();
            ended.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
            let surplus = ended.len().saturating_sub(ENDED);
            let doomed = pods.iter().filter(|pod| match node_of(pod) {
                None => pod.metadata.deletion_timestamp.is_some(),
                Some(node) => caches.nodes.get(&Key::new("", node)).is_none(),
            });
            for pod in doomed.chain(ended[..surplus].iter().copied()) {
                remove(&client, pod).await?;
            }
            Ok::<_, kube::Error>(Next::Done)
        }
    });
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

async fn remove(client: &Client, pod: &Pod) -> kube::Result<()> {
    let meta = &pod.metadata;
    let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) else { return Ok(()) };
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    match Api::<Pod>::namespaced(client.clone(), namespace).delete(name, &params).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}
