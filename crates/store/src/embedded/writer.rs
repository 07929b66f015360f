//! The writer: one thread that turns waiting transactions into groups, and the only one that changes the index.
//!
//! ```text
//! commit ─┐                 ┌─ compare with index and the group so far ─┐
//! commit ─┼─▶ queue ─▶ group ┤  append to the frame, next revision        ├─▶ sync ─▶ apply to index ─▶ wake watches ─▶ answer
//! commit ─┘                 └─ (all that waits, up to a size)            ┘
//! ```
//!
//! While one group is being synced the next one gathers, so the more there is to commit the more commits share a sync. All
//! answers of a group wait for its sync, conflicts too: they may tell of what the same group writes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex},
};

use tokio::sync::oneshot;

use crate::{Compare, Entry, Error, Op, Outcome, Result, Revision, Txn};

use super::{
    Shared,
    frame::Frame,
    index::{Index, Version},
    log::Log,
    record,
};

/// Bytes after which a group takes no more.
const GROUP: usize = 1 << 20;
/// Bytes that may wait: many times what a burst of the largest requests brings.
const WAITING: usize = 256 << 20;

/// What is waiting to be written.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    bytes: usize,
    closed: bool,
}

/// A wish.
#[derive(Debug)]
pub enum Work {
    /// A transaction, checked.
    Txn(Txn),
    /// A compaction.
    Compact(Revision),
}

#[derive(Debug)]
struct Request {
    work: Work,
    reply: oneshot::Sender<Result<Outcome>>,
}

impl Request {
    fn bytes(&self) -> usize {
        match &self.work {
            Work::Txn(txn) => txn.bytes() + 64,
            Work::Compact(_) => 64,
        }
    }
}

impl Queue {
    /// Puts work at the end of the queue.
    pub fn submit(&self, work: Work) -> Result<oneshot::Receiver<Result<Outcome>>> {
        let (reply, answer) = oneshot::channel();
        let request = Request { work, reply };
        let mut state = self.state.lock().expect("commit queue lock");
        if state.closed {
            return Err(Error::Unavailable("it was closed".into()));
        }
        if state.bytes > WAITING {
            return Err(Error::Unavailable("too much is waiting to be written".into()));
        }
        state.bytes += request.bytes();
        state.requests.push_back(request);
        if state.requests.len() == 1 {
            self.arrived.notify_one();
        }
        Ok(answer)
    }

    /// Takes no more; what waits is still written.
    pub fn close(&self) {
        self.state.lock().expect("commit queue lock").closed = true;
        self.arrived.notify_all();
    }

    /// Waits for requests and takes as many as make a group; none once it is closed and empty.
    fn take(&self) -> Option<Vec<Request>> {
        let mut state = self.state.lock().expect("commit queue lock");
        while state.requests.is_empty() {
            if state.closed {
                return None;
            }
            state = self.arrived.wait(state).expect("commit queue lock");
        }
        let (mut count, mut bytes) = (0, 0);
        for request in &state.requests {
            count += 1;
            bytes += request.bytes();
            if bytes >= GROUP {
                break;
            }
        }
        state.bytes -= bytes;
        Some(state.requests.drain(..count).collect())
    }
}

/// Runs until the queue is closed and empty.
pub fn run(shared: &Arc<Shared>, mut log: Log) {
    let mut frame = Frame::new();
    while let Some(requests) = shared.queue.take() {
        let mut group = Group::gather(&shared.index(), &mut frame, requests);
        if group.writes.is_empty() {
            group.answer();
            continue;
        }
        let appended = shared.keeper.make_room(shared).and_then(|()| log.append(&mut frame, group.revision));
        match appended {
            Ok((place, took)) => {
                shared.stats.synced(group.writes.len(), took);
                {
                    let mut index = shared.index.write().expect("index lock");
                    for write in group.writes.drain(..) {
                        write.apply(shared, &mut index);
                    }
                    index.set_place(place);
                }
                shared.keeper.logged(shared, frame.len() as u64);
            }
            Err(error) => group.fail(&error),
        }
        group.answer();
        frame.clear();
    }
    log.close();
}

#[derive(Debug)]
enum Write {
    Txn(u64, Vec<Op>),
    Compact(u64),
}

impl Write {
    fn apply(self, shared: &Shared, index: &mut Index) {
        match self {
            Self::Txn(revision, ops) => {
                ops.iter().for_each(|op| shared.hub.touch(op.key(), revision));
                index.apply(revision, ops);
            }
            Self::Compact(revision) => {
                index.compact(revision);
                shared.keeper.sweep();
            }
        }
    }
}

/// Requests that share a sync.
struct Group {
    writes: Vec<Write>,
    replies: Vec<(oneshot::Sender<Result<Outcome>>, Result<Outcome>)>,
    revision: u64,
    compacted: u64,
    /// What the group writes, by key.
    changed: HashMap<Arc<str>, Version>,
}

impl Group {
    fn gather(index: &Index, frame: &mut Frame, requests: Vec<Request>) -> Self {
        let mut group = Self {
            writes: Vec::with_capacity(requests.len()),
            replies: Vec::with_capacity(requests.len()),
            revision: index.revision(),
            compacted: index.compacted(),
            changed: HashMap::new(),
        };
        for Request { work, reply } in requests {
            let outcome = match work {
                Work::Txn(txn) => Ok(group.txn(index, frame, txn)),
                Work::Compact(revision) => group.compact(frame, revision.get()),
            };
            group.replies.push((reply, outcome));
        }
        group
    }

    fn txn(&mut self, index: &Index, frame: &mut Frame, txn: Txn) -> Outcome {
        if txn.compare.iter().any(|compare| self.modified(index, &compare.key) != compare.mod_revision.get()) {
            let current = |Compare { key, .. }: &Compare| self.current(index, key);
            return Outcome::Conflict(txn.compare.iter().map(current).collect());
        }
        let mut ops = txn.ops;
        ops.retain(|op| matches!(op, Op::Put { .. }) || self.modified(index, op.key()) != 0);
        if ops.is_empty() {
            return Outcome::Committed(Revision::new(self.revision));
        }
        self.revision += 1;
        for op in &ops {
            let before =
                self.changed.get(op.key()).or_else(|| index.last(op.key())).filter(|last| last.value.is_some());
            let (created, version) = before.map_or((self.revision, 0), |last| (last.created, last.version));
            let value = match op {
                Op::Put { value, .. } => Some(value.clone()),
                Op::Delete { .. } => None,
            };
            let next = Version { modified: self.revision, created, version: version + 1, value };
            self.changed.insert(op.key().clone(), next);
        }
        record::put_txn(frame.payload(), self.revision, &ops);
        self.writes.push(Write::Txn(self.revision, ops));
        Outcome::Committed(Revision::new(self.revision))
    }

    fn compact(&mut self, frame: &mut Frame, revision: u64) -> Result<Outcome> {
        if revision > self.revision {
            return Err(Error::FutureRevision { asked: Revision::new(revision) });
        }
        if revision <= self.compacted {
            return Err(Error::Compacted { oldest: Revision::new(self.compacted) });
        }
        self.compacted = revision;
        record::put_compact(frame.payload(), revision);
        self.writes.push(Write::Compact(revision));
        Ok(Outcome::Committed(Revision::new(self.revision)))
    }

    /// The revision that wrote the key last; 0 when it is absent.
    fn modified(&self, index: &Index, key: &str) -> u64 {
        let last = self.changed.get(key).or_else(|| index.last(key)).filter(|last| last.value.is_some());
        last.map_or(0, |last| last.modified)
    }

    fn current(&self, index: &Index, key: &Arc<str>) -> Option<Entry> {
        match self.changed.get(key) {
            Some(version) => version.entry(key),
            None => index.get(key),
        }
    }

    fn fail(&mut self, error: &Error) {
        self.writes.clear();
        self.replies.iter_mut().for_each(|(_, outcome)| *outcome = Err(error.clone()));
    }

    fn answer(self) {
        for (reply, outcome) in self.replies {
            // Whoever asked may be gone.
            let _ = reply.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests;
