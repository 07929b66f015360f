//! What a StatefulSet does next with its pods: a pure function.
//!
//! ```text
//! each ordinal from the first: make, replace what has ended, mend ─► wait until it is available (OrderedReady)
//! pods past the last ordinal, from the highest: delete ─► wait until it is gone (OrderedReady)
//! old pods from the highest ordinal down to the partition: delete, as many as may be unavailable
//! ```
//! With `Parallel` nothing waits for another but the update.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::identity::{labelled, ordinal, range, revision};
use crate::{
    deployment::plan::share,
    pods::{Availability, availability, phase},
};

/// What is known.
#[derive(Debug)]
pub struct Known<'a> {
    /// The object.
    pub set: &'a StatefulSet,
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// The name of the revision that the pods were of.
    pub current: &'a str,
    /// The name of the revision that they are to be of.
    pub update: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Make the pod of an ordinal, of the current or of the update's revision.
    Create {
        /// The ordinal.
        ordinal: i32,
        /// Of the update's revision.
        updated: bool,
    },
    /// Make claims that a pod waits for.
    Claims(i32),
    /// Put a pod's labels right.
    Mend(Arc<Pod>, i32),
    /// Delete a pod.
    Delete(Arc<Pod>),
}

/// What is to be done, and the status that follows.
#[derive(Debug)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// Without collision count and conditions.
    pub status: StatefulSetStatus,
    /// When time alone changes something.
    pub again: Option<Duration>,
}

fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

impl Known<'_> {
    fn availability(&self, pod: &Pod) -> Availability {
        if phase(pod) != "Running" {
            return Availability::No;
        }
        availability(pod, self.set.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    fn sound(&self, pod: &Pod) -> bool {
        self.availability(pod) == Availability::Yes && !is_leaving(pod)
    }

    fn rolling(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
    }

    fn partition(&self) -> Option<i32> {
        let rolling = self.set.spec.update_strategy.as_ref()?.rolling_update.as_ref()?;
        Some(rolling.partition.unwrap_or(0))
    }

    fn parallel(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    /// How many pods may be unavailable during an update.
    fn may_miss(&self) -> i32 {
        let rolling = self.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let one = IntOrString::Int(1);
        let amount = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&one);
        share(amount, self.set.spec.replicas.unwrap_or(1), true).max(1)
    }

    /// Whether the pod of an ordinal that is missing is to be of the update's revision.
    fn updated(&self, ordinal: i32) -> bool {
        let (start, _) = range(self.set);
        let current = self.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0);
        match self.partition() {
            Some(partition) => ordinal >= start + partition,
            None => !(self.rolling() && ordinal < start + current),
        }
    }

    /// Decides.
    pub fn plan(&self) -> Plan {
        let (start, end) = range(self.set);
        let mut slots: Vec<Option<Arc<Pod>>> = vec![None; usize::try_from(end - start).unwrap_or(0)];
        let mut condemned: Vec<(i32, Arc<Pod>)> = Vec::new();
        for pod in self.pods {
            let Some(ordinal) = ordinal(self.set, pod) else { continue };
            let slot = usize::try_from(ordinal - start).ok().and_then(|at| slots.get_mut(at));
            match slot {
                Some(slot) => *slot = Some(pod.clone()),
                None => condemned.push((ordinal, pod.clone())),
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        let mut plan = Plan { actions: Vec::new(), status: self.status(), again: self.again() };
        if self.set.metadata.deletion_timestamp.is_some() {
            return plan;
        }
        if self.fill(&slots, start, &mut plan.actions)
            && self.shrink(&slots, &condemned, &mut plan.actions)
            && self.rolling()
        {
            let doomed = self.roll(&slots);
            let fewer = i32::try_from(doomed.len()).unwrap_or(0);
            let current = plan.status.current_replicas.unwrap_or(0);
            plan.status.current_replicas = Some((current - fewer).max(0)).filter(|count| *count > 0);
            plan.actions.extend(doomed.into_iter().map(Action::Delete));
        }
        self.conclude(&mut plan.status);
        plan
    }

    /// Fills the ordinals; returns whether nothing has to be waited for.
    fn fill(&self, slots: &[Option<Arc<Pod>>], start: i32, actions: &mut Vec<Action>) -> bool {
        let ordered = !self.parallel();
        for (ordinal, slot) in (start..).zip(slots) {
            let Some(pod) = slot else {
                actions.push(Action::Create { ordinal, updated: self.updated(ordinal) });
                if ordered {
                    return false;
                }
                continue;
            };
            match phase(pod) {
                "Failed" | "Succeeded" => {
                    if !is_leaving(pod) {
                        actions.push(Action::Delete(pod.clone()));
                    }
                    if ordered {
                        return false;
                    }
                    continue;
                }
                "Pending" => actions.push(Action::Claims(ordinal)),
                _ => {}
            }
            if ordered && !self.sound(pod) {
                return false;
            }
            if !labelled(pod, ordinal) {
                actions.push(Action::Mend(pod.clone(), ordinal));
            }
        }
        true
    }

    /// Deletes pods that are too many; returns whether nothing has to be waited for.
    fn shrink(&self, slots: &[Option<Arc<Pod>>], condemned: &[(i32, Arc<Pod>)], actions: &mut Vec<Action>) -> bool {
        let ordered = !self.parallel();
        let lowest = condemned.iter().rev().map(|(_, pod)| pod);
        let first_unsound = slots.iter().flatten().chain(lowest).find(|pod| !self.sound(pod));
        for (_, pod) in condemned {
            if is_leaving(pod) {
                if ordered {
                    return false;
                }
                continue;
            }
            let first = first_unsound.is_some_and(|first| first.metadata.uid == pod.metadata.uid);
            if ordered && self.availability(pod) != Availability::Yes && !first {
                return false;
            }
            actions.push(Action::Delete(pod.clone()));
            if ordered {
                return false;
            }
        }
        true
    }

    /// Old pods to delete.
    fn roll(&self, slots: &[Option<Arc<Pod>>]) -> Vec<Arc<Pod>> {
        let may_miss = self.may_miss();
        let old = |pod: &Pod| revision(pod) != self.update && !is_leaving(pod);
        let missing = slots.iter().filter(|slot| slot.as_ref().is_none_or(|pod| !self.sound(pod))).count();
        let mut missing = i32::try_from(missing).unwrap_or(i32::MAX);
        let from = usize::try_from(self.partition().unwrap_or(0)).unwrap_or(0).min(slots.len());
        let candidates = || slots[from..].iter().rev().flatten().filter(|pod| old(pod));
        let mut doomed: Vec<Arc<Pod>> = Vec::new();
        if self.parallel() {
            // What does not work anyway can go at once.
            let broken = slots.iter().flatten().any(|pod| !self.sound(pod) && old(pod));
            if missing >= may_miss && !broken {
                return doomed;
            }
            doomed.extend(candidates().filter(|pod| self.availability(pod) != Availability::Yes).cloned());
        }
        for pod in candidates() {
            if missing >= may_miss {
                break;
            }
            if !doomed.iter().any(|known| Arc::ptr_eq(known, pod)) {
                // One that is unavailable already is counted among the missing.
                if self.sound(pod) {
                    missing += 1;
                }
                doomed.push(pod.clone());
            }
        }
        doomed
    }

    fn again(&self) -> Option<Duration> {
        let left = self.pods.iter().filter_map(|pod| match self.availability(pod) {
            Availability::In(left) => Some(left),
            _ => None,
        });
        left.min()
    }

    fn status(&self) -> StatefulSetStatus {
        let count = |test: &dyn Fn(&Pod) -> bool| {
            let found = self.pods.iter().filter(|pod| ordinal(self.set, pod).is_some() && test(pod)).count();
            i32::try_from(found).unwrap_or(i32::MAX)
        };
        let some = |count: i32| Some(count).filter(|count| *count > 0);
        let ready = |pod: &Pod| phase(pod) == "Running" && crate::pods::is_ready(pod);
        StatefulSetStatus {
            replicas: count(&|pod| !phase(pod).is_empty()),
            ready_replicas: some(count(&ready)),
            // This field is always there.
            available_replicas: Some(count(&|pod| self.availability(pod) == Availability::Yes)),
            current_replicas: some(count(&|pod| !is_leaving(pod) && revision(pod) == self.current)),
            updated_replicas: some(count(&|pod| !is_leaving(pod) && revision(pod) == self.update)),
            current_revision: Some(self.current.to_owned()),
            update_revision: Some(self.update.to_owned()),
            observed_generation: self.set.metadata.generation,
            collision_count: None,
            conditions: None,
        }
    }

    /// Once all pods are new and ready, the update's revision is the current one.
    fn conclude(&self, status: &mut StatefulSetStatus) {
        let wanted = self.set.spec.replicas.unwrap_or(1);
        let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
        if self.rolling() && all(status.updated_replicas) && all(status.ready_replicas) && status.replicas == wanted {
            status.current_replicas = status.updated_replicas;
            status.current_revision.clone_from(&status.update_revision);
        }
    }
}

#[cfg(test)]
mod tests;
