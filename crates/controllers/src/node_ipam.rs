//! Gives each node its part of the pods' network: the lowest free one, kept in `spec.podCIDR`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use client::{
    cache::Key,
    queue::{Next, Queue},
};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use task::Task;

use crate::{Config, caches::Caches};

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches, config: &Config) {
    let queue: Queue<Key> = Queue::new(task);
    let add = queue.clone();
    caches.nodes.listen(move |change| {
        if change.new.as_ref().is_some_and(|node| cidr_of(node).is_none()) {
            add.add(change.key.clone());
        }
    });
    let (nodes, config, api) = (caches.nodes.clone(), config.clone(), Api::<Node>::all(client.clone()));
    let given: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    // One worker: two at a time could pick the same part.
    queue.run("node ipam", 1, move |key| {
        let (nodes, config, api, given) = (nodes.clone(), config.clone(), api.clone(), given.clone());
        async move {
            nodes.ready().await;
            let Some(node) = nodes.get(&key) else { return Ok::<_, Error>(Next::Done) };
            if cidr_of(&node).is_some() {
                return Ok(Next::Done);
            }
            let all = nodes.list();
            let free = {
                // What was given a moment ago may not have reached the cache yet.
                let mut given = given.lock().expect("parts given");
                given.retain(|name, _| nodes.get(&Key::new("", name)).is_some_and(|node| cidr_of(&node).is_none()));
                let seen = all.iter().filter_map(|node| cidr_of(node));
                let taken: BTreeSet<&str> = seen.chain(given.values().map(String::as_str)).collect();
                free_part(config.cluster_cidr, config.node_prefix, &taken).ok_or(Error::Full)?
            };
            let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"podCIDR": free, "podCIDRs": [free]}});
            api.patch(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
            given.lock().expect("parts given").insert(key.name.to_string(), free);
            Ok(Next::Done)
        }
    });
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the pods' network has no part left for this node")]
    Full,
    #[error(transparent)]
    Api(#[from] kube::Error),
}

fn cidr_of(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|cidr| !cidr.is_empty())
}

/// The lowest part of `prefix` bits within `network` that is not `taken`.
fn free_part(network: (Ipv4Addr, u8), prefix: u8, taken: &BTreeSet<&str>) -> Option<String> {
    let prefix = prefix.max(network.1).min(32);
    let step = 1u64 << (32 - prefix);
    let (first, size) = (u64::from(u32::from(network.0)), 1u64 << (32 - network.1));
    (first..first + size).step_by(usize::try_from(step).ok()?).find_map(|address| {
        let cidr = format!("{}/{prefix}", Ipv4Addr::from(u32::try_from(address).ok()?));
        (!taken.contains(cidr.as_str())).then_some(cidr)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_part_is_taken_until_there_is_none() {
        let network = (Ipv4Addr::new(10, 42, 0, 0), 16);
        let taken = BTreeSet::from(["10.42.0.0/22", "10.42.8.0/22"]);
        assert_eq!(free_part(network, 22, &taken).as_deref(), Some("10.42.4.0/22"));
        let small = (Ipv4Addr::new(10, 0, 0, 0), 24);
        assert_eq!(free_part(small, 22, &BTreeSet::new()).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(free_part(small, 22, &BTreeSet::from(["10.0.0.0/24"])), None);
    }
}
