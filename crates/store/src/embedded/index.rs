//! The index: every retained version of every key, in memory, ordered by key; and the history of changes by revision.
//!
//! ```text
//! keys     /a ─▶ v5, v9        history   (compacted) … 7 /b │ 8 /c │ 9 /a │ 10 /b (deleted)
//!          /b ─▶ v7, †10                     ▲                                 ▲
//!          /c ─▶ v8                      compacted                          revision
//! ```
//!
//! Only the writer changes it. A read at a revision sees, of each key, the last version that is not newer. Compaction first
//! raises `compacted`, which is all that readers look at, and then removes in small steps (`sweep`) what nobody can ask for
//! any more: versions that another one not newer than `compacted` supersedes.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry as Slot},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;

use crate::{Entry, Event, Op, Revision};

use super::record::Place;

/// What a key, a version and a change cost beyond their bytes, roughly.
const OVERHEAD: u64 = 128;

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The revision that wrote it.
    pub modified: u64,
    /// The revision that created the key.
    pub created: u64,
    /// Writes since the key was created; zero for a deletion.
    pub version: u64,
    /// The value; none for a deletion.
    pub value: Option<Bytes>,
}

impl Version {
    /// This version as an entry; none for a deletion.
    pub fn entry(&self, key: &Arc<str>) -> Option<Entry> {
        Some(Entry {
            key: key.clone(),
            value: self.value.clone()?,
            create_revision: Revision::new(self.created),
            mod_revision: Revision::new(self.modified),
            version: self.version,
        })
    }

    fn cost(&self) -> u64 {
        OVERHEAD + self.value.as_ref().map_or(0, |value| value.len() as u64)
    }
}

/// The retained versions of a key: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    last: Version,
    /// Oldest first.
    older: Vec<Version>,
}

impl Chain {
    /// A chain of one version.
    pub fn new(last: Version) -> Self {
        Self { last, older: Vec::new() }
    }

    /// Appends a newer version.
    pub fn push(&mut self, version: Version) {
        debug_assert!(version.modified > self.last.modified);
        self.older.push(std::mem::replace(&mut self.last, version));
    }

    /// The newest version.
    pub fn last(&self) -> &Version {
        &self.last
    }

    /// All versions, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.older.iter().chain(std::iter::once(&self.last))
    }

    /// The version that a read at `revision` sees.
    fn at(&self, revision: u64) -> Option<&Version> {
        if self.last.modified <= revision {
            return Some(&self.last);
        }
        let newer = self.older.partition_point(|version| version.modified <= revision);
        newer.checked_sub(1).map(|last| &self.older[last])
    }

    /// Removes what no read at `boundary` or later sees; returns the bytes freed, and whether anything is left.
    fn trim(&mut self, boundary: u64) -> (u64, bool) {
        let kept = if self.last.modified <= boundary {
            self.older.len()
        } else {
            let newer = self.older.partition_point(|version| version.modified <= boundary);
            // The newest one that is not newer than the boundary is what a read there sees; a deletion reads as absence.
            match newer.checked_sub(1) {
                Some(last) if self.older[last].value.is_some() => last,
                _ => newer,
            }
        };
        let mut freed: u64 = self.older.drain(..kept).map(|version| version.cost()).sum();
        if self.older.is_empty() {
            self.older.shrink_to_fit();
        }
        let gone = self.last.modified <= boundary && self.last.value.is_none();
        if gone {
            freed += self.last.cost();
        }
        (freed, !gone)
    }
}

#[derive(Debug)]
struct Change {
    revision: u64,
    key: Arc<str>,
}

/// The index. See the page of this module.
#[derive(Debug)]
pub struct Index {
    keys: BTreeMap<Arc<str>, Chain>,
    /// In revision order; swept up to `compacted` at the latest some time after it was raised.
    history: VecDeque<Change>,
    revision: u64,
    compacted: u64,
    /// The log frame that was applied last.
    at: Place,
    /// Bytes of all versions.
    total: u64,
    /// Bytes of versions that a newer one supersedes, and of deletions.
    superseded: u64,
}

/// Where a page continues.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// After this key.
    After(Arc<str>),
    /// Nowhere: it is complete.
    Done,
}

/// A page being collected.
#[derive(Debug, Default)]
pub struct Collected {
    /// Entries so far.
    pub entries: Vec<Entry>,
    /// Entries counted so far, those beyond the limit too.
    pub count: u64,
}

impl Index {
    /// An empty index.
    pub fn new() -> Self {
        Self::at(Revision::INITIAL.get(), 0, Place::default(), BTreeMap::new())
    }

    /// An index of these keys, such as a checkpoint holds.
    pub fn at(revision: u64, compacted: u64, at: Place, mut keys: BTreeMap<Arc<str>, Chain>) -> Self {
        let mut history = Vec::new();
        let (mut total, mut superseded) = (0, 0);
        keys.retain(|key, chain| {
            if !chain.trim(compacted).1 {
                return false;
            }
            let mut previous = None;
            for version in chain.versions() {
                if version.modified > compacted {
                    history.push(Change { revision: version.modified, key: key.clone() });
                }
                total += version.cost();
                superseded += previous.replace(version.cost()).unwrap_or(0);
            }
            if chain.last.value.is_none() {
                superseded += chain.last.cost();
            }
            true
        });
        history.sort_by_key(|change| change.revision);
        Self { keys, history: history.into(), revision, compacted, at, total, superseded }
    }

    /// The revision of the last write.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest revision that can be read.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// The log frame that was applied last.
    pub fn place(&self) -> Place {
        self.at
    }

    /// The keys alone.
    pub fn into_keys(self) -> BTreeMap<Arc<str>, Chain> {
        self.keys
    }

    /// Notes the log frame that was applied last.
    pub fn set_place(&mut self, at: Place) {
        self.at = at;
    }

    /// Keys, those whose deletion is remembered too.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes of everything retained, and of what of it is superseded.
    pub fn weight(&self) -> (u64, u64) {
        (self.total, self.superseded)
    }

    /// The current entry of a key.
    pub fn get(&self, key: &str) -> Option<Entry> {
        let (key, chain) = self.keys.get_key_value(key)?;
        chain.last.entry(key)
    }

    /// The newest version of a key, be it a deletion.
    pub fn last(&self, key: &str) -> Option<&Version> {
        self.keys.get(key).map(|chain| &chain.last)
    }

    /// Continues a page over the keys under `prefix` from `start`, as of `revision`; looks at no more than `steps` keys.
    pub fn collect(
        &self,
        prefix: &str,
        start: Bound<&str>,
        revision: u64,
        limit: usize,
        steps: usize,
        page: &mut Collected,
    ) -> Next {
        for (step, (key, chain)) in self.keys.range::<str, _>((start, Bound::Unbounded)).enumerate() {
            if !key.starts_with(prefix) {
                break;
            }
            if let Some(version) = chain.at(revision).filter(|version| version.value.is_some()) {
                if limit == 0 || page.entries.len() < limit {
                    page.entries.extend(version.entry(key));
                }
                page.count += 1;
            }
            if step + 1 >= steps {
                return Next::After(key.clone());
            }
        }
        Next::Done
    }

    /// Chains from `start` on, for a checkpoint.
    pub fn chains(&self, start: Bound<&str>) -> impl Iterator<Item = (&Arc<str>, &Chain)> {
        self.keys.range::<str, _>((start, Bound::Unbounded))
    }

    /// The changes under `prefix` after a revision, and the revision up to which those are all. Stops at a revision's end
    /// once it has `events` of them or looked at `steps` changes.
    pub fn changes(&self, prefix: &str, after: u64, events: usize, steps: usize) -> (Vec<Event>, u64) {
        let mut found = Vec::new();
        let first = self.history.partition_point(|change| change.revision <= after);
        let mut through = after;
        for (step, change) in self.history.range(first..).enumerate() {
            if change.revision != through {
                if found.len() >= events || step >= steps {
                    return (found, through);
                }
                through = change.revision;
            }
            if change.key.starts_with(prefix) {
                found.extend(self.event(change));
            }
        }
        (found, self.revision.max(after))
    }

    /// The first revision after `after` that changed something under `prefix`.
    pub fn first_change(&self, prefix: &str, after: u64) -> Option<u64> {
        let first = self.history.partition_point(|change| change.revision <= after);
        self.history.range(first..).find(|change| change.key.starts_with(prefix)).map(|change| change.revision)
    }

    fn event(&self, change: &Change) -> Option<Event> {
        let (key, chain) = self.keys.get_key_value(&change.key)?;
        let version = chain.at(change.revision).filter(|version| version.modified == change.revision)?;
        let prev = chain.at(change.revision - 1).and_then(|version| version.entry(key));
        Some(match version.entry(key) {
            Some(entry) => Event::Put { entry, prev },
            None => Event::Delete { key: key.clone(), revision: Revision::new(change.revision), prev },
        })
    }

    /// Does the writes of a transaction under `revision`. Deletions of absent keys must have been left out.
    pub fn apply(&mut self, revision: u64, ops: Vec<Op>) {
        debug_assert!(revision > self.revision);
        self.revision = revision;
        for op in ops {
            let (key, value) = match op {
                Op::Put { key, value } => (key, Some(value)),
                Op::Delete { key } => (key, None),
            };
            let mut version = Version { modified: revision, created: revision, version: 1, value };
            let deleted = version.value.is_none();
            self.total += version.cost();
            if deleted {
                (version.created, version.version) = (0, 0);
                self.superseded += version.cost();
            }
            // The key that is there already is the one to share.
            let key = match self.keys.entry(key) {
                Slot::Vacant(slot) => {
                    let key = slot.key().clone();
                    slot.insert(Chain::new(version));
                    key
                }
                Slot::Occupied(mut slot) => {
                    let before = slot.get().last();
                    if before.value.is_some() {
                        self.superseded += before.cost();
                        if !deleted {
                            (version.created, version.version) = (before.created, before.version + 1);
                        }
                    }
                    slot.get_mut().push(version);
                    slot.key().clone()
                }
            };
            self.history.push_back(Change { revision, key });
        }
    }

    /// The revision in the middle of the history, to which an index that grew too large is compacted.
    pub fn middle(&self) -> Option<u64> {
        self.history.get(self.history.len() / 2).map(|change| change.revision)
    }

    /// Makes everything older than what a read at `revision` sees unreadable.
    pub fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision);
    }

    /// Removes what a compaction made unreadable, in up to `steps` steps; whether there is more to do.
    pub fn sweep(&mut self, steps: usize) -> bool {
        let boundary = self.compacted;
        for _ in 0..steps {
            let Some(change) = self.history.front().filter(|change| change.revision <= boundary) else {
                if self.history.capacity() > 4096 && self.history.len() < self.history.capacity() / 4 {
                    self.history.shrink_to(self.history.len() * 2);
                }
                return false;
            };
            if let Some(chain) = self.keys.get_mut(&change.key) {
                let (freed, left) = chain.trim(boundary);
                self.total -= freed;
                self.superseded -= freed;
                if !left {
                    self.keys.remove(&change.key);
                }
            }
            self.history.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests;
