//! What the table shall hold, and how to get there from what it holds.
//!
//! Two services may claim the same key (an external address, say): the one that had it first keeps it, and the other
//! waits. All of this is bookkeeping without I/O: [`Desired::plan`] says which elements change, [`Desired::commit`]
//! makes them count.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    ServicePort, Services,
    service::{Change, Front, Key, fronts},
    table::{Chain, Changes, Element, Value, elements},
};

/// Chains for this many endpoints stay when no service needs them any more.
const KEPT_CHAINS: u32 = 64;

#[derive(Clone, Debug)]
struct Held {
    owner: Arc<str>,
    front: Front,
}

/// What the table shall hold.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    services: Services,
    fronts: HashMap<Key, Held>,
    /// Services that claim a key that another has.
    waiting: HashMap<Key, BTreeSet<Arc<str>>>,
    /// Elements that are of no service: the node's own addresses, host ports, pods.
    others: BTreeSet<Element>,
    /// How many elements lead to a chain. Those that nothing leads to are still there.
    chains: HashMap<Chain, usize>,
}

/// A change that was worked out and not made yet.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) changes: Changes,
    /// Chains to make before, and to remove after.
    pub(crate) new_chains: Vec<Chain>,
    pub(crate) old_chains: Vec<Chain>,
    fronts: HashMap<Key, Option<Held>>,
    services: HashMap<Arc<str>, Option<Arc<[ServicePort]>>>,
    waiting: HashMap<Key, BTreeSet<Arc<str>>>,
    others: (Vec<Element>, Vec<Element>),
}

impl Plan {
    /// Keys whose front is made, changed or removed.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.fronts.keys().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.services.is_empty()
    }
}

impl Desired {
    /// What must be done to get from the services there are to `wanted`, which are all.
    pub(crate) fn differences(&self, wanted: &Services) -> Vec<Change> {
        let gone = self.services.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name.clone(), None));
        let changed = wanted.iter().filter(|(name, ports)| !same(self.services.get(*name), ports));
        gone.chain(changed.map(|(name, ports)| (name.clone(), Some(ports.clone())))).collect()
    }

    /// Works out a change of some services and of elements that are of none.
    pub(crate) fn plan(
        &self,
        services: impl IntoIterator<Item = Change>,
        remove: Vec<Element>,
        add: Vec<Element>,
    ) -> Plan {
        let mut plan = Plan::default();
        for (name, ports) in services {
            self.plan_service(&mut plan, name, ports);
        }
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (key, held) in &plan.fronts {
            old.clear();
            new.clear();
            let before = self.fronts.get(key);
            if let Some(before) = before {
                elements(*key, &before.front, &mut old);
            }
            if let Some(held) = held {
                elements(*key, &held.front, &mut new);
            }
            plan.changes.compare(&old, &new);
        }
        let remove: Vec<Element> = remove.into_iter().filter(|element| self.others.contains(element)).collect();
        let add: Vec<Element> = add
            .into_iter()
            .filter(|element| !self.others.contains(element) || remove.contains(element))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        plan.changes.remove.extend(&remove);
        plan.changes.add.extend(&add);
        plan.others = (remove, add);
        self.plan_chains(&mut plan);
        plan
    }

    fn plan_service(&self, plan: &mut Plan, name: Arc<str>, ports: Option<Arc<[ServicePort]>>) {
        let before = match plan.services.get(&name) {
            Some(planned) => planned.clone(),
            None => self.services.get(&name).cloned(),
        };
        let wanted = ports.as_deref().map(fronts).unwrap_or_default();
        plan.services.insert(name.clone(), ports);
        let still: HashSet<Key> = wanted.iter().map(|(key, _)| *key).collect();
        for (key, _) in before.as_deref().map(fronts).unwrap_or_default() {
            if !still.contains(&key) {
                self.release(plan, &name, key);
            }
        }
        for (key, front) in wanted {
            let holder = self.holder(plan, key);
            match holder {
                Some(held) if held.owner != name => {
                    if self.waiting_for(plan, key).insert(name.clone()) {
                        tracing::warn!(service = %name, holder = %held.owner, ?key, "two services claim one address");
                    }
                }
                holder => {
                    let front = match holder {
                        Some(held) => front.placed_like(&held.front),
                        None => front,
                    };
                    plan.fronts.insert(key, Some(Held { owner: name.clone(), front }));
                }
            }
        }
    }

    fn release(&self, plan: &mut Plan, name: &Arc<str>, key: Key) {
        if self.holder(plan, key).is_none_or(|held| held.owner != *name) {
            self.waiting_for(plan, key).remove(name);
            return;
        }
        let next = self.waiting_for(plan, key).pop_first();
        let held = next.and_then(|owner| {
            let ports = match plan.services.get(&owner) {
                Some(planned) => planned.clone(),
                None => self.services.get(&owner).cloned(),
            };
            let (_, front) = fronts(ports.as_deref()?).into_iter().find(|(found, _)| *found == key)?;
            Some(Held { owner, front })
        });
        plan.fronts.insert(key, held);
    }

    fn holder(&self, plan: &Plan, key: Key) -> Option<Held> {
        match plan.fronts.get(&key) {
            Some(planned) => planned.clone(),
            None => self.fronts.get(&key).cloned(),
        }
    }

    fn waiting_for<'p>(&self, plan: &'p mut Plan, key: Key) -> &'p mut BTreeSet<Arc<str>> {
        plan.waiting.entry(key).or_insert_with(|| self.waiting.get(&key).cloned().unwrap_or_default())
    }

    fn plan_chains(&self, plan: &mut Plan) {
        let mut uses: HashMap<Chain, isize> = HashMap::new();
        for (elements, by) in [(&plan.changes.remove, -1), (&plan.changes.add, 1)] {
            for element in elements {
                if let Value::Chain(chain) = element.value {
                    *uses.entry(chain).or_default() += by;
                }
            }
        }
        for (chain, by) in uses {
            match self.chains.get(&chain) {
                // One that a change both takes from and gives to may come out even, and still be new.
                None => plan.new_chains.push(chain),
                Some(count) if count.saturating_add_signed(by) == 0 && !kept(chain) => plan.old_chains.push(chain),
                Some(_) => {}
            }
        }
    }

    /// Makes a plan count. The kernel must have it, or get all of [`Desired::all`] next.
    pub(crate) fn commit(&mut self, plan: Plan) {
        for (name, ports) in plan.services {
            match ports {
                Some(ports) => self.services.insert(name, ports),
                None => self.services.remove(&name),
            };
        }
        for (key, held) in plan.fronts {
            match held {
                Some(held) => self.fronts.insert(key, held),
                None => self.fronts.remove(&key),
            };
        }
        for (key, names) in plan.waiting {
            if names.is_empty() {
                self.waiting.remove(&key);
            } else {
                self.waiting.insert(key, names);
            }
        }
        for element in plan.others.0 {
            self.others.remove(&element);
        }
        self.others.extend(plan.others.1);
        for chain in plan.new_chains {
            self.chains.insert(chain, 0);
        }
        for (elements, by) in [(&plan.changes.remove, -1), (&plan.changes.add, 1)] {
            for element in elements {
                if let Value::Chain(chain) = element.value {
                    let count = self.chains.entry(chain).or_default();
                    *count = count.saturating_add_signed(by);
                }
            }
        }
        for chain in plan.old_chains {
            self.chains.remove(&chain);
        }
    }

    /// Takes up elements that a former process left in the table.
    pub(crate) fn adopt(&mut self, found: impl IntoIterator<Item = Element>) {
        self.others.extend(found);
    }

    /// Elements that are of no service.
    pub(crate) fn others(&self) -> &BTreeSet<Element> {
        &self.others
    }

    /// All elements, for a table made anew, and the chains that they need.
    pub(crate) fn all(&mut self) -> (Changes, Vec<Chain>) {
        let mut add = Vec::with_capacity(self.fronts.len() * 5 + self.others.len());
        add.extend(&self.others);
        for (key, held) in &self.fronts {
            elements(*key, &held.front, &mut add);
        }
        self.chains.clear();
        for element in &add {
            if let Value::Chain(chain) = element.value {
                *self.chains.entry(chain).or_default() += 1;
            }
        }
        (Changes { remove: Vec::new(), add }, self.chains.keys().copied().collect())
    }

    /// The front that a connection to `key` meets.
    pub(crate) fn front(&self, key: Key) -> Option<&Front> {
        self.fronts.get(&key).map(|held| &held.front)
    }

    /// All keys of services.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.fronts.keys().copied()
    }
}

fn kept(chain: Chain) -> bool {
    chain.count <= KEPT_CHAINS && chain.affinity.is_none()
}

fn same(old: Option<&Arc<[ServicePort]>>, new: &Arc<[ServicePort]>) -> bool {
    old.is_some_and(|old| Arc::ptr_eq(old, new) || old == new)
}

#[cfg(test)]
mod tests;
