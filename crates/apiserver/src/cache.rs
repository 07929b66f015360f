//! The watch cache of one resource: every object in key order, the latest changes, and those who watch.
//!
//! ```text
//! store ── feed ──> apply ──┬─> objects      lists and gets
//!                           ├─> log          watches that resume
//!                           └─> watchers     a bounded queue each; whoever lets it fill is ended
//! ```
//!
//! All caches are fed by one task from one watch of the store, so one number, [`Applied`], says up to which revision all of
//! them are complete. Nothing here waits or wakes up without a change.
//!
//! Semantics of revisions: <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Bound,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::{object::Object, scan, selection::Selection, wire::Wire};

/// Changes kept for watches that resume, and the bytes that they may hold; older ones are read from the store.
const LOG_CHANGES: usize = 1024;
const LOG_BYTES: usize = 1024 * 1024;

/// Changes that wait for one watcher. A slower one is ended, and resumes where it was.
const QUEUE: usize = 4096;

/// The revision up to which every cache is complete.
#[derive(Debug)]
pub struct Applied(watch::Sender<u64>);

impl Applied {
    /// Starting at `revision`.
    pub fn new(revision: u64) -> Self {
        Self(watch::Sender::new(revision))
    }

    /// The revision now.
    pub fn get(&self) -> u64 {
        *self.0.borrow()
    }

    /// Moves on; never back.
    pub fn advance(&self, revision: u64) {
        self.0.send_if_modified(|current| {
            let newer = revision > *current;
            *current = revision.max(*current);
            newer
        });
    }

    /// Resolves once `revision` is applied; `false` if that takes longer than `within`.
    pub async fn reached(&self, revision: u64, within: Duration) -> bool {
        if self.get() >= revision {
            return true;
        }
        let mut receiver = self.0.subscribe();
        tokio::time::timeout(within, receiver.wait_for(|current| *current >= revision)).await.is_ok_and(|ok| ok.is_ok())
    }

    /// Resolves at the next change after `revision`.
    pub async fn beyond(&self, revision: u64) {
        let mut receiver = self.0.subscribe();
        let _ = receiver.wait_for(|current| *current > revision).await;
    }
}

/// One change as the store reported it.
#[derive(Debug, Clone)]
pub struct Change {
    /// The object after the change; for a deletion the last state, at the revision of the deletion.
    pub object: Arc<Object>,
    /// The object before; none for a creation.
    pub previous: Option<Arc<Object>>,
    /// Whether the object is gone.
    pub deleted: bool,
}

/// How a watcher sees a change, which depends on what it selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The object appeared, or began to match.
    Added,
    /// It matched before and after.
    Modified,
    /// It was deleted, or no longer matches.
    Deleted,
}

impl Shown {
    /// The `type` of a watch event.
    pub fn name(self) -> &'static str {
        match self {
            Shown::Added => "ADDED",
            Shown::Modified => "MODIFIED",
            Shown::Deleted => "DELETED",
        }
    }
}

impl Change {
    /// How it looks to someone who selects `selection`; `None` if it does not concern them.
    pub fn shown(&self, selection: &Selection) -> Option<Shown> {
        if !selection.covers(self.object.key()) {
            return None;
        }
        let before = self.previous.as_ref().is_some_and(|object| selection.matches(object));
        let after = !self.deleted && selection.matches(&self.object);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(Shown::Added),
            (true, true) => Some(Shown::Modified),
            (true, false) => Some(Shown::Deleted),
        }
    }

    /// The object to show: the new one, or for [`Shown::Deleted`] the one that matched last, at this revision.
    pub fn subject(&self, shown: Shown) -> Arc<Object> {
        match (&self.previous, shown, self.deleted) {
            (Some(previous), Shown::Deleted, false) => previous.at(self.object.revision()),
            _ => self.object.clone(),
        }
    }
}

/// A change on its way to watchers, with the bytes that were already made of it.
#[derive(Debug)]
pub struct Live {
    /// The change.
    pub change: Change,
    frames: Mutex<Vec<(Shown, Wire, Bytes)>>,
}

impl Live {
    /// Of a change.
    pub fn new(change: Change) -> Arc<Self> {
        Arc::new(Self { change, frames: Mutex::default() })
    }

    /// The bytes of this change as seen so, in that encoding: made once by `encode`, then shared.
    pub fn frame(&self, shown: Shown, wire: Wire, encode: impl FnOnce(&Change) -> Bytes) -> Bytes {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, bytes)) = frames.iter().find(|(own, encoding, _)| *own == shown && *encoding == wire) {
            return bytes.clone();
        }
        let bytes = encode(&self.change);
        frames.push((shown, wire, bytes.clone()));
        bytes
    }
}

/// What a watcher receives.
pub type Delivery = (Shown, Arc<Live>);

/// A part of the objects, in key order.
#[derive(Debug, Default)]
pub struct Listed {
    /// The revision at which this was the state.
    pub revision: u64,
    /// The objects that matched.
    pub objects: Vec<Arc<Object>>,
    /// Whether more follow, past the limit.
    pub more: bool,
    /// How many follow; only known when nothing but keys was selected by.
    pub remaining: Option<u64>,
}

/// The changes from a revision on.
#[derive(Debug)]
pub struct Subscription {
    /// Already there: objects for the initial state, or changes since the revision.
    pub replay: VecDeque<Delivery>,
    /// What follows; closed when the watcher was too slow.
    pub live: mpsc::Receiver<Delivery>,
    /// The revision of the initial state, or the one resumed from.
    pub revision: u64,
    /// Keeps the watcher registered.
    pub registration: Registration,
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the present objects.
    Now,
    /// With the changes after that revision.
    After(u64),
}

/// The log does not reach back that far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOld {
    /// The log holds every change after this revision.
    pub floor: u64,
}

/// The objects of one resource.
#[derive(Debug)]
pub struct Cache {
    state: Arc<RwLock<State>>,
    applied: Arc<Applied>,
    generation: AtomicU64,
}

/// Keys of pods by the node that they are on. Other resources have none.
type Nodes = HashMap<String, BTreeSet<Arc<str>>>;

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    nodes: Option<Nodes>,
    log: VecDeque<Change>,
    log_bytes: usize,
    /// Every change after this revision is in `log`.
    floor: u64,
    /// The revision of the last change.
    last: u64,
    watchers: BTreeMap<u64, Watcher>,
    next_watcher: u64,
}

#[derive(Debug)]
struct Watcher {
    selection: Arc<Selection>,
    queue: mpsc::Sender<Delivery>,
}

/// Ends a watcher when dropped.
#[derive(Debug)]
pub struct Registration {
    state: Arc<RwLock<State>>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        write(&self.state).watchers.remove(&self.id);
    }
}

fn read(state: &RwLock<State>) -> RwLockReadGuard<'_, State> {
    state.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(state: &RwLock<State>) -> RwLockWriteGuard<'_, State> {
    state.write().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    /// With the state of the store at `revision`.
    pub fn new(applied: Arc<Applied>, revision: u64, objects: impl IntoIterator<Item = Arc<Object>>) -> Self {
        let objects = objects.into_iter().map(|object| (object.key().clone(), object)).collect();
        Self::with(applied, State { objects, floor: revision, last: revision, ..State::default() })
    }

    /// An empty one of pods, which can be found by the node that they are on.
    pub fn of_pods(applied: Arc<Applied>, revision: u64) -> Self {
        Self::with(applied, State { nodes: Some(Nodes::new()), floor: revision, last: revision, ..State::default() })
    }

    fn with(applied: Arc<Applied>, state: State) -> Self {
        Self { state: Arc::new(RwLock::new(state)), applied, generation: AtomicU64::new(1) }
    }

    /// A number that grows with every change: whoever works something out from the objects keeps it until then.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        read(&self.state).objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many watchers there are.
    pub fn watchers(&self) -> usize {
        read(&self.state).watchers.len()
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        read(&self.state).objects.get(key).cloned()
    }

    /// Whether a key with that prefix exists.
    pub fn any_below(&self, prefix: &str) -> bool {
        let state = read(&self.state);
        let mut range = state.objects.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        range.next().is_some_and(|(key, _)| key.starts_with(prefix))
    }

    /// All objects that are selected.
    pub fn all(&self, selection: &Selection) -> Vec<Arc<Object>> {
        self.list(selection, None, 0).objects
    }

    /// At most `limit` of the selected objects (0: all), from the key behind `after` on.
    pub fn list(&self, selection: &Selection, after: Option<&str>, limit: usize) -> Listed {
        let applied = self.applied.get();
        let state = read(&self.state);
        let mut listed = Listed { revision: applied.max(state.last), ..Listed::default() };
        let prefix = selection.prefix();
        if let Some(key) = selection.exact() {
            listed.objects.extend(state.objects.get(key).filter(|object| selection.matches(object)).cloned());
            return listed;
        }
        if let (Some(node), Some(nodes), None, 0) = (selection.node(), &state.nodes, after, limit) {
            let keys = nodes.get(node).into_iter().flatten().filter(|key| key.starts_with(prefix));
            let objects = keys.filter_map(|key| state.objects.get(key));
            listed.objects.extend(objects.filter(|object| selection.matches(object)).cloned());
            return listed;
        }
        let end = behind(prefix);
        let from = match after {
            // A continue token is the client's word: it may lie anywhere.
            Some(key) if end.as_deref().is_some_and(|end| key >= end) => return listed,
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        // The end is looked up once: comparing every key with the prefix would touch every key's memory.
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut range = state.objects.range::<str, _>((from, end));
        if limit == 0 && selection.is_plain() && after.is_none() {
            listed.objects.reserve(state.objects.len());
        }
        for (_, object) in range.by_ref() {
            if selection.is_plain() || selection.matches(object) {
                if limit > 0 && listed.objects.len() == limit {
                    listed.more = true;
                    listed.remaining = selection.is_plain().then(|| range.count() as u64 + 1);
                    break;
                }
                listed.objects.push(object.clone());
            }
        }
        listed
    }

    /// Registers a watcher. The replay and the queue together hold every change from the start on, each once.
    pub fn watch(&self, selection: Arc<Selection>, start: Start) -> Result<Subscription, TooOld> {
        let applied = self.applied.get();
        let mut state = write(&self.state);
        let revision = applied.max(state.last);
        let mut replay = VecDeque::new();
        let revision = match start {
            Start::Now => {
                let objects = present(&state, &selection);
                replay.extend(objects.map(|object| {
                    (Shown::Added, Live::new(Change { object: object.clone(), previous: None, deleted: false }))
                }));
                revision
            }
            Start::After(after) if after < state.floor => return Err(TooOld { floor: state.floor }),
            Start::After(after) => {
                let newer = state.log.partition_point(|change| change.object.revision() <= after);
                for change in state.log.range(newer..) {
                    if let Some(shown) = change.shown(&selection) {
                        replay.push_back((shown, Live::new(change.clone())));
                    }
                }
                after
            }
        };
        let (queue, live) = mpsc::channel(QUEUE);
        let id = state.next_watcher;
        state.next_watcher += 1;
        state.watchers.insert(id, Watcher { selection, queue });
        Ok(Subscription { replay, live, revision, registration: Registration { state: self.state.clone(), id } })
    }

    /// Takes in one object's change: its state after, or `None` if it was deleted at `revision`.
    pub fn apply(&self, key: &Arc<str>, object: Option<Arc<Object>>, revision: u64) {
        let mut state = write(&self.state);
        let state = &mut *state;
        let previous = match &object {
            Some(object) => state.objects.insert(key.clone(), object.clone()),
            None => state.objects.remove(key),
        };
        if let Some(nodes) = &mut state.nodes {
            reindex(nodes, key, previous.as_deref(), object.as_deref());
        }
        state.last = state.last.max(revision);
        let deleted = object.is_none();
        let Some(object) = object.or_else(|| previous.as_ref().map(|previous| previous.at(revision))) else { return };
        let change = Change { object, previous, deleted };
        self.generation.fetch_add(1, Ordering::AcqRel);
        state.deliver(&change);
        state.log_bytes += change.object.bytes().len();
        state.log.push_back(change);
        while state.log.len() > LOG_CHANGES || state.log_bytes > LOG_BYTES && state.log.len() > 1 {
            let Some(oldest) = state.log.pop_front() else { break };
            state.log_bytes -= oldest.object.bytes().len();
            state.floor = oldest.object.revision();
        }
    }

    /// Replaces everything, after the feed was interrupted for so long that changes may be missing.
    /// Watchers learn the difference as changes at `revision`.
    pub fn replace(&self, objects: BTreeMap<Arc<str>, Arc<Object>>, revision: u64) {
        let gone: Vec<Arc<str>> = {
            let state = read(&self.state);
            state.objects.keys().filter(|key| !objects.contains_key(*key)).cloned().collect()
        };
        for key in gone {
            self.apply(&key, None, revision);
        }
        for (key, object) in objects {
            if self.get(&key).is_none_or(|own| own.revision() != object.revision()) {
                let revision = object.revision();
                self.apply(&key, Some(object), revision);
            }
        }
        let mut state = write(&self.state);
        state.log.clear();
        state.log_bytes = 0;
        state.floor = revision;
        state.last = state.last.max(revision);
    }

    /// Ends all watchers, because the resource is no longer served or the server stops.
    pub fn end_watches(&self) {
        write(&self.state).watchers.clear();
    }
}

/// Moves a pod to the node that it is on now.
fn reindex(nodes: &mut Nodes, key: &Arc<str>, before: Option<&Object>, after: Option<&Object>) {
    let node = |object: Option<&Object>| {
        object.and_then(|object| scan::text(object.bytes(), &["spec", "nodeName"])).filter(|node| !node.is_empty())
    };
    let (before, after) = (node(before), node(after));
    if before == after {
        return;
    }
    if let Some(before) = before
        && let Some(keys) = nodes.get_mut(&before)
    {
        keys.remove(key);
        if keys.is_empty() {
            nodes.remove(&before);
        }
    }
    if let Some(after) = after {
        nodes.entry(after).or_default().insert(key.clone());
    }
}

/// The least key that is greater than all keys that begin with `prefix`; none where there is no greater one.
fn behind(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn present<'a>(state: &'a State, selection: &'a Selection) -> impl Iterator<Item = &'a Arc<Object>> {
    let prefix = selection.prefix();
    state
        .objects
        .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
        .map(|(_, object)| object)
        .filter(|object| selection.covers(object.key()) && selection.matches(object))
}

impl State {
    fn deliver(&mut self, change: &Change) {
        if self.watchers.is_empty() {
            return;
        }
        let mut live: Option<Arc<Live>> = None;
        let mut slow = Vec::new();
        for (id, watcher) in &self.watchers {
            let Some(shown) = change.shown(&watcher.selection) else { continue };
            let live = live.get_or_insert_with(|| Live::new(change.clone()));
            if watcher.queue.try_send((shown, live.clone())).is_err() {
                slow.push(*id);
            }
        }
        for id in slow {
            self.watchers.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
