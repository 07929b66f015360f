//! Who owns whom, and what follows from it: no I/O.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
};

use kube::api::PropagationPolicy;

/// A uid as 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(u128);

impl Uid {
    /// Reads the text form; other text than that of a UUID is hashed into one, since uids are opaque.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        u128::from_str_radix(&digits, 16).ok().filter(|_| text.len() == 36).map(Self)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What names an object for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// `v1` or `GROUP/VERSION`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Empty where there is none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One owner of an object.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its uid, which alone counts.
    pub uid: Uid,
    /// Where to ask for it; namespaced owners are in the namespace of what they own.
    pub item: Item,
    /// Whether its foreground deletion waits for this object.
    pub blocks: bool,
}

/// An object that owns, is owned, or is being deleted with a finalizer of this controller.
#[derive(Clone, Debug)]
pub struct Node {
    /// API group.
    pub group: String,
    /// Resource name.
    pub plural: String,
    /// Its name.
    pub item: Item,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// Whether it is being deleted.
    pub leaving: bool,
    /// Whether it carries the finalizer `foregroundDeletion`.
    pub foreground: bool,
    /// Whether it carries the finalizer `orphan`.
    pub orphan: bool,
}

/// What to do next about an object.
#[derive(Debug)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Delete it.
    Delete {
        /// The object.
        item: Item,
        /// What is to become of its own dependents.
        policy: PropagationPolicy,
    },
    /// It stands in a circle of owners that are all to go: let no owner wait for it, then delete it in the foreground.
    BreakCircle {
        /// The object.
        item: Item,
        /// Its owners.
        owners: Vec<Uid>,
    },
    /// Some of its owners are gone: take them off its list.
    DropOwners {
        /// The object.
        item: Item,
        /// The owners that are gone.
        gone: Vec<Uid>,
    },
    /// Nothing holds its deletion up: remove `foregroundDeletion`.
    Unblock {
        /// The object.
        item: Item,
    },
    /// Take it off the lists of its dependents, then remove `orphan`.
    Orphan {
        /// The object.
        item: Item,
        /// Its dependents.
        dependents: Vec<(Uid, Item)>,
    },
    /// Look at each of its dependents.
    DeleteDependents {
        /// Their uids.
        dependents: Vec<Uid>,
    },
}

/// All objects, as far as they matter here.
#[derive(Debug, Default)]
pub struct Graph {
    /// Uids of objects that are there.
    known: HashSet<Uid>,
    /// Uids of owners that were asked for and are not there.
    absent: HashSet<Uid>,
    nodes: HashMap<Uid, Node>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    /// Takes an object in; returns the objects to look at.
    pub fn put(&mut self, uid: Uid, node: Node) -> Vec<Uid> {
        self.known.insert(uid);
        self.absent.remove(&uid);
        self.unlink(uid);
        for owner in &node.owners {
            self.dependents.entry(owner.uid).or_default().insert(uid);
        }
        let matters = !node.owners.is_empty() || node.leaving || node.foreground || node.orphan;
        let mut look = Vec::new();
        if matters {
            look.push(uid);
            if node.leaving && node.foreground {
                look.extend(self.dependents.get(&uid).into_iter().flatten());
            }
            // An owner that is being deleted in the foreground may have waited for this change.
            let waiting =
                |owner: &&Owner| self.nodes.get(&owner.uid).is_some_and(|owner| owner.leaving && owner.foreground);
            look.extend(node.owners.iter().filter(waiting).map(|owner| owner.uid));
            self.nodes.insert(uid, node);
        } else if self.dependents.contains_key(&uid) {
            self.nodes.insert(uid, node);
        } else {
            self.nodes.remove(&uid);
        }
        look
    }

    /// Takes an object out; returns the objects to look at: those that it owned, and owners that waited for it.
    pub fn remove(&mut self, uid: Uid) -> Vec<Uid> {
        self.known.remove(&uid);
        self.absent.insert(uid);
        if self.absent.len() > 10_000 {
            self.absent.retain(|uid| self.dependents.contains_key(uid));
        }
        self.unlink(uid);
        let owners = self.nodes.remove(&uid).map(|node| node.owners).unwrap_or_default();
        let mut look: Vec<Uid> = self.dependents.get(&uid).into_iter().flatten().copied().collect();
        look.extend(owners.iter().map(|owner| owner.uid).filter(|owner| self.nodes.contains_key(owner)));
        look
    }

    fn unlink(&mut self, uid: Uid) {
        let Some(node) = self.nodes.get(&uid) else { return };
        for owner in &node.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(&uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }

    /// After a new list of one kind: takes out what it lacks.
    pub fn keep_only(&mut self, group: &str, plural: &str, listed: &[Uid]) -> Vec<Uid> {
        let listed: HashSet<&Uid> = listed.iter().collect();
        let gone: Vec<Uid> = self
            .nodes
            .iter()
            .filter(|(uid, node)| node.group == group && node.plural == plural && !listed.contains(uid))
            .map(|(uid, _)| *uid)
            .collect();
        gone.into_iter().flat_map(|uid| self.remove(uid)).collect()
    }

    /// Owners of an object of which it is not known whether they are there.
    pub fn unknown_owners(&self, uid: Uid) -> Vec<Owner> {
        let Some(node) = self.nodes.get(&uid) else { return Vec::new() };
        node.owners
            .iter()
            .filter(|owner| !self.known.contains(&owner.uid) && !self.absent.contains(&owner.uid))
            .cloned()
            .collect()
    }

    /// Notes what the API server said of an owner.
    pub fn learn(&mut self, uid: Uid, there: bool) {
        if there {
            self.known.insert(uid)
        } else {
            self.absent.insert(uid)
        };
    }

    /// What to do about an object.
    pub fn decide(&self, uid: Uid) -> Step {
        let Some(node) = self.nodes.get(&uid) else { return Step::Nothing };
        let item = node.item.clone();
        let dependents = || self.dependents.get(&uid).into_iter().flatten().copied();
        if node.leaving && node.orphan {
            let dependents = dependents().filter_map(|uid| Some((uid, self.nodes.get(&uid)?.item.clone()))).collect();
            return Step::Orphan { item, dependents };
        }
        if node.leaving && node.foreground {
            let blocking: Vec<Uid> = dependents().filter(|dependent| self.blocks(*dependent, uid)).collect();
            if blocking.is_empty() {
                return Step::Unblock { item };
            }
            let undecided: Vec<Uid> =
                blocking.into_iter().filter(|uid| self.nodes.get(uid).is_some_and(|node| !node.leaving)).collect();
            return Step::DeleteDependents { dependents: undecided };
        }
        if node.leaving || node.owners.is_empty() {
            return Step::Nothing;
        }
        let leaving_foreground = |uid: &Uid| self.nodes.get(uid).is_some_and(|owner| owner.leaving && owner.foreground);
        let (present, gone): (Vec<&Owner>, Vec<&Owner>) =
            node.owners.iter().partition(|owner| !self.absent.contains(&owner.uid));
        let waiting = present.iter().filter(|owner| leaving_foreground(&owner.uid)).count();
        if present.len() > waiting {
            // Somebody else still wants it: it only forgets those that are gone or wait for it to go.
            let dropped: Vec<Uid> = gone
                .iter()
                .map(|owner| owner.uid)
                .chain(present.iter().map(|owner| owner.uid).filter(leaving_foreground))
                .collect();
            return if dropped.is_empty() { Step::Nothing } else { Step::DropOwners { item, gone: dropped } };
        }
        let policy = if waiting > 0 && self.dependents.contains_key(&uid) {
            let blocks = node.owners.iter().any(|owner| owner.blocks);
            if blocks && dependents().any(|dependent| leaving_foreground(&dependent)) {
                return Step::BreakCircle { item, owners: node.owners.iter().map(|owner| owner.uid).collect() };
            }
            PropagationPolicy::Foreground
        } else if node.orphan {
            PropagationPolicy::Orphan
        } else if node.foreground {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        Step::Delete { item, policy }
    }

    fn blocks(&self, dependent: Uid, owner: Uid) -> bool {
        self.nodes
            .get(&dependent)
            .is_some_and(|node| node.owners.iter().any(|candidate| candidate.uid == owner && candidate.blocks))
    }
}

#[cfg(test)]
mod tests;
