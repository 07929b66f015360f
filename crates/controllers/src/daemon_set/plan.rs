//! Which nodes get a pod and which pods go: pure functions.
//!
//! ```text
//! manage: a pod on each node that is to have one, none elsewhere, ended ones replaced
//! update: old pods replaced by new ones, as many at a time as may be missing, or with surge as many as may be too many
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::placement::{allows, untolerated};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, DaemonSetStatus},
    core::v1::{
        Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
    },
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{
    deployment::plan::share,
    history::HASH,
    pods::{Availability, availability, is_ready, phase},
};

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Nodes that get a pod.
    pub create: Vec<String>,
    /// Pods that go.
    pub delete: Vec<Arc<Pod>>,
    /// Of those that go, the ones that ended: each with whether it ended well.
    pub ended: Vec<(Arc<Pod>, bool)>,
    /// When time alone changes something.
    pub again: Option<Duration>,
}

/// What is known.
#[derive(Debug)]
pub struct Known<'a> {
    /// The object.
    pub set: &'a DaemonSet,
    /// The hash of its present template.
    pub hash: &'a str,
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// The time.
    pub now: Timestamp,
}

/// The tolerations that pods of daemon sets have beside those of their template.
pub fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let mut rules = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        rules.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    for (key, effect) in rules {
        let new = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        let covers = |known: &Toleration| {
            known.key == new.key && known.effect == new.effect && known.operator.as_deref() == Some("Exists")
        };
        if !all.iter().any(covers) {
            all.push(new);
        }
    }
    all
}

/// Binds a pod to a node by its affinity, so that the scheduler places it there or nowhere.
pub fn pin(spec: &mut PodSpec, node: &str) {
    let field = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required = &mut affinity.required_during_scheduling_ignored_during_execution;
    match required.as_mut().filter(|required| !required.node_selector_terms.is_empty()) {
        Some(required) => {
            for term in &mut required.node_selector_terms {
                term.match_fields = Some(vec![field.clone()]);
            }
        }
        None => {
            let term = NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None };
            *required = Some(NodeSelector { node_selector_terms: vec![term] });
        }
    }
}

/// The node that a pod is on or bound to by [`pin`].
pub fn node_of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        return Some(node);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields
        .filter(|field| field.key == "metadata.name" && field.operator == "In")
        .find_map(|field| field.values.as_ref()?.first().map(String::as_str))
}

/// Whether a node is to have a pod, and whether one that is there may stay.
pub fn suits(set: &DaemonSet, node: &Node) -> (bool, bool) {
    let Some(spec) = &set.spec.template.spec else { return (false, false) };
    let name = spec.node_name.as_deref().unwrap_or_default();
    if !name.is_empty() && node.metadata.name.as_deref() != Some(name) || !allows(spec, node) {
        return (false, false);
    }
    let tolerations = tolerations(spec);
    let stays = untolerated(node, &["NoExecute"], &tolerations).is_none();
    (stays && untolerated(node, &["NoSchedule"], &tolerations).is_none(), stays)
}

fn is_new(pod: &Pod, hash: &str) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)).is_some_and(|own| own == hash)
}

/// How many pods may be missing and how many too many while old ones are replaced, of `wanted`.
fn limits(set: &DaemonSet, wanted: i32) -> (i32, i32) {
    let strategy = set.spec.update_strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let one = IntOrString::Int(1);
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).map_or(0, |surge| share(surge, wanted, true));
    let missing = share(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&one), wanted, true);
    // Were none allowed, nothing would ever be replaced.
    (if missing == 0 && surge == 0 { 1 } else { missing }, surge)
}

fn rolls(set: &DaemonSet) -> bool {
    set.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

impl Known<'_> {
    /// Pods by node, in order of their age; those that have ended and are being deleted are left out.
    fn by_node(&self) -> BTreeMap<&str, Vec<&Arc<Pod>>> {
        let mut all: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
        for pod in self.pods {
            let gone = pod.metadata.deletion_timestamp.is_some() && matches!(phase(pod), "Succeeded" | "Failed");
            if let Some(node) = node_of(pod).filter(|_| !gone) {
                all.entry(node).or_default().push(pod);
            }
        }
        for pods in all.values_mut() {
            pods.sort_by_key(|pod| {
                let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some();
                (!placed, pod.metadata.creation_timestamp.as_ref().map(|time| time.0), pod.metadata.name.clone())
            });
        }
        all
    }

    fn available(&self, pod: &Pod) -> bool {
        availability(pod, self.set.spec.min_ready_seconds.unwrap_or(0), self.now) == Availability::Yes
    }

    fn wanted(&self) -> i32 {
        let wanted = self.nodes.iter().filter(|node| suits(self.set, node).0).count();
        i32::try_from(wanted).unwrap_or(i32::MAX)
    }

    /// What is to be done. `patience` tells how long an ended pod of a node is still left, if at all.
    pub fn plan(&self, patience: impl Fn(&str) -> Option<Duration>) -> Plan {
        let mut plan = self.manage(patience);
        if plan.create.is_empty() && plan.delete.is_empty() && rolls(self.set) {
            self.update(&mut plan);
        }
        for pod in self.pods {
            let least = self.set.spec.min_ready_seconds.unwrap_or(0);
            if let Availability::In(left) = availability(pod, least, self.now) {
                plan.again = Some(plan.again.map_or(left, |sooner| sooner.min(left)));
            }
        }
        plan
    }

    fn manage(&self, patience: impl Fn(&str) -> Option<Duration>) -> Plan {
        let mut plan = Plan::default();
        let mut by_node = self.by_node();
        let surge = rolls(self.set) && limits(self.set, self.wanted()).1 > 0;
        for node in self.nodes {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let (wanted, stays) = suits(self.set, node);
            let Some(pods) = by_node.remove(name) else {
                if wanted {
                    plan.create.push(name.to_owned());
                }
                continue;
            };
            let live: Vec<&Arc<Pod>> =
                pods.iter().copied().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect();
            if !stays {
                plan.delete.extend(live.into_iter().cloned());
                continue;
            }
            let mut running = Vec::new();
            for pod in live {
                match phase(pod) {
                    "Failed" => match patience(name) {
                        Some(left) => plan.again = Some(plan.again.map_or(left, |sooner| sooner.min(left))),
                        None => plan.ended.push((pod.clone(), false)),
                    },
                    "Succeeded" => plan.ended.push((pod.clone(), true)),
                    _ => running.push(pod),
                }
            }
            if !surge {
                plan.delete.extend(running.into_iter().skip(1).cloned());
                continue;
            }
            if running.is_empty() {
                // With surge a new pod does not wait for the end of the old one.
                let replaced = pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_some());
                if wanted && replaced {
                    plan.create.push(name.to_owned());
                }
                continue;
            }
            let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| is_new(pod, self.hash));
            if let (Some(new), Some(old)) = (new.first(), old.first())
                && (!is_ready(old) || self.available(new))
            {
                plan.delete.push(Arc::clone(old));
            }
            plan.delete.extend(new.into_iter().skip(1).chain(old.into_iter().skip(1)).cloned());
        }
        // Pods that wait for a node which is gone.
        let unplaced = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_none();
        let lost = by_node.into_values().flatten();
        plan.delete.extend(lost.filter(|pod| unplaced(pod) && pod.metadata.deletion_timestamp.is_none()).cloned());
        plan.delete.extend(plan.ended.iter().map(|(pod, _)| pod.clone()));
        plan
    }

    fn update(&self, plan: &mut Plan) {
        let (may_miss, may_exceed) = limits(self.set, self.wanted());
        let by_node = self.by_node();
        let on: Vec<(&str, Option<&Arc<Pod>>, Option<&Arc<Pod>>)> = by_node
            .iter()
            .map(|(node, pods)| {
                let live = || pods.iter().copied().filter(|pod| pod.metadata.deletion_timestamp.is_none());
                let new = live().find(|pod| is_new(pod, self.hash));
                (*node, new, live().find(|pod| !is_new(pod, self.hash)))
            })
            .collect();
        if may_exceed == 0 {
            let mut missing = 0;
            let (mut broken, mut sound) = (Vec::new(), Vec::new());
            for (_, new, old) in on {
                match (new, old) {
                    (Some(new), None) => missing += i32::from(!self.available(new)),
                    (None, Some(old)) if !self.available(old) => {
                        missing += 1;
                        broken.push(old.clone());
                    }
                    (None, Some(old)) => sound.push(old.clone()),
                    (None, None) | (Some(_), Some(_)) => missing += 1,
                }
            }
            // What does not work can go at once; what works goes as far as the limit allows.
            sound.truncate(usize::try_from(may_miss - missing).unwrap_or(0));
            plan.delete.extend(broken.into_iter().chain(sound));
            return;
        }
        let node = |name: &str| self.nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name));
        let (mut exceeding, mut available) = (0, 0);
        let (mut unwanted, mut allowed, mut candidates) = (Vec::new(), Vec::new(), Vec::new());
        for (name, new, old) in on {
            available += i32::from(old.or(new).is_some_and(|pod| self.available(pod)));
            match (new, old) {
                (_, None) => {}
                (None, Some(old)) => {
                    let wanted = node(name).is_some_and(|node| suits(self.set, node).0);
                    match (self.available(old), wanted) {
                        (false, false) => plan.delete.push(old.clone()),
                        (true, false) => unwanted.push(old.clone()),
                        (false, true) => allowed.push(name.to_owned()),
                        (true, true) => candidates.push(name.to_owned()),
                    }
                }
                (Some(new), Some(_)) if !self.available(new) => exceeding += 1,
                (Some(_), Some(old)) => plan.delete.push(old.clone()),
            }
        }
        unwanted.truncate(usize::try_from(available - self.wanted()).unwrap_or(0));
        plan.delete.extend(unwanted);
        candidates.truncate(usize::try_from(may_exceed - exceeding).unwrap_or(0));
        plan.create.extend(allowed.into_iter().chain(candidates));
    }

    /// The status that follows.
    pub fn status(&self, collisions: Option<i32>) -> DaemonSetStatus {
        let by_node = self.by_node();
        let mut status = DaemonSetStatus::default();
        let (mut available, mut updated) = (0, 0);
        for node in self.nodes {
            let (wanted, _) = suits(self.set, node);
            let pods = by_node.get(node.metadata.name.as_deref().unwrap_or_default());
            if !wanted {
                status.number_misscheduled += i32::from(pods.is_some());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(pods) = pods else { continue };
            status.current_number_scheduled += 1;
            // With surge there are two for a while: the older one counts.
            let Some(first) = pods.iter().min_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
            else {
                continue;
            };
            if is_ready(first) {
                status.number_ready += 1;
                available += i32::from(self.available(first));
            }
            updated += i32::from(is_new(first, self.hash));
        }
        status.updated_number_scheduled = Some(updated).filter(|count| *count > 0);
        status.number_available = Some(available).filter(|count| *count > 0);
        status.number_unavailable = Some(status.desired_number_scheduled - available).filter(|count| *count > 0);
        status.observed_generation = self.set.metadata.generation;
        status.collision_count = collisions;
        status.conditions = self.set.status.as_ref().and_then(|status| status.conditions.clone());
        status
    }
}

#[cfg(test)]
mod tests;
