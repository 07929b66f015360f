//! What goes into a store and comes out of it.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{Error, Result};

/// The largest sum of key and value bytes that one [`Txn`] may write: 1.5 MiB, etcd's default for a request.
pub const TXN_BYTES: usize = 1536 * 1024;
/// The largest number of comparisons, and of operations, in one [`Txn`]: etcd's default.
pub const TXN_OPS: usize = 128;
/// The longest key, in bytes.
pub const KEY_BYTES: usize = 4096;

/// A point in the history of a store. Zero stands for "absent" where an entry's revision is meant; a new store is at 1 and
/// its first write makes 2, as in etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// What [`Compare::mod_revision`] holds for a key that must not exist.
    pub const ABSENT: Self = Self(0);
    /// The revision of a store that nothing was written to.
    pub const INITIAL: Self = Self(1);

    /// A revision by its number, as read from a resourceVersion.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, as written in a resourceVersion.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Revision {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One version of a key. Cloning shares key and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key: not empty, at most [`KEY_BYTES`].
    pub key: Arc<str>,
    /// The value, shared with the store.
    pub value: Bytes,
    /// The revision that created the key; a key that was deleted and put again is created anew.
    pub create_revision: Revision,
    /// The revision that wrote this version.
    pub mod_revision: Revision,
    /// How many times the key was written since it was created, starting with 1.
    pub version: u64,
}

/// A condition of a [`Txn`]: the key was last written by this revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key to look at.
    pub key: Arc<str>,
    /// Its expected [`Entry::mod_revision`]; [`Revision::ABSENT`] when it must not exist.
    pub mod_revision: Revision,
}

/// A write in a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Creates or replaces an entry.
    Put {
        /// The key to write.
        key: Arc<str>,
        /// The new value.
        value: Bytes,
    },
    /// Removes an entry. Removing an absent one changes nothing.
    Delete {
        /// The key to remove.
        key: Arc<str>,
    },
}

impl Op {
    /// The key that this operation writes.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Writes that happen together, under one revision, if all comparisons hold; otherwise nothing happens. No key may be
/// written twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions; none means "always".
    pub compare: Vec<Compare>,
    /// The writes, whose events appear in this order.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Puts a key that must be at `mod_revision` ([`Revision::ABSENT`] to create it).
    pub fn put(key: impl Into<Arc<str>>, value: impl Into<Bytes>, mod_revision: Revision) -> Self {
        let key = key.into();
        Self {
            compare: vec![Compare { key: key.clone(), mod_revision }],
            ops: vec![Op::Put { key, value: value.into() }],
        }
    }

    /// Deletes a key that must be at `mod_revision`.
    pub fn delete(key: impl Into<Arc<str>>, mod_revision: Revision) -> Self {
        let key = key.into();
        Self { compare: vec![Compare { key: key.clone(), mod_revision }], ops: vec![Op::Delete { key }] }
    }

    /// Key and value bytes that the writes carry.
    pub fn bytes(&self) -> usize {
        let written = |op: &Op| match op {
            Op::Put { key, value } => key.len() + value.len(),
            Op::Delete { key } => key.len(),
        };
        self.ops.iter().map(written).sum()
    }

    /// Refuses what no store takes: keys that are empty, too long or written twice, and what is too large altogether.
    pub(crate) fn check(&self) -> Result<()> {
        let limit = |what, size, limit| match size > limit {
            true => Err(Error::TooLarge { what, size, limit }),
            false => Ok(()),
        };
        limit("number of operations", self.ops.len().max(self.compare.len()), TXN_OPS)?;
        for key in self.ops.iter().map(Op::key).chain(self.compare.iter().map(|compare| &compare.key)) {
            if key.is_empty() {
                return Err(Error::Invalid("a key is empty".into()));
            }
            limit("key", key.len(), KEY_BYTES)?;
        }
        limit("transaction", self.bytes(), TXN_BYTES)?;
        let mut keys: Vec<&str> = self.ops.iter().map(|op| &**op.key()).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::Invalid(format!("key {:?} is written twice", pair[0]))),
            None => Ok(()),
        }
    }
}

/// What became of a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The writes happened under this revision and are on disk. When they changed nothing (no operations, or only
    /// deletions of absent keys), it is the store's revision at that moment.
    Committed(Revision),
    /// A comparison failed: the current entries of the compared keys, in the order of [`Txn::compare`].
    Conflict(Vec<Option<Entry>>),
}

/// The answer to a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The revision that the entries are read at: the one asked for, else the store's at that moment. To continue, ask for
    /// the next page at this revision.
    pub revision: Revision,
    /// Entries in key order.
    pub entries: Vec<Entry>,
    /// Whether there are entries after the last one here.
    pub more: bool,
    /// How many entries there are in all, from the start key of this page to the end of the prefix.
    pub count: u64,
}

/// One change, as a watch sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An entry was created or replaced.
    Put {
        /// What was written; [`Entry::version`] is 1 when it was created.
        entry: Entry,
        /// What it replaced; `None` also where that was compacted.
        prev: Option<Entry>,
    },
    /// An entry was removed.
    Delete {
        /// Its key.
        key: Arc<str>,
        /// The revision that removed it.
        revision: Revision,
        /// What was removed; `None` only where that was compacted.
        prev: Option<Entry>,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Put { entry, .. } => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { entry, .. } => entry.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// The entry before the change.
    pub fn prev(&self) -> Option<&Entry> {
        match self {
            Self::Put { prev, .. } | Self::Delete { prev, .. } => prev.as_ref(),
        }
    }
}

/// A step of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Every event of the watch up to this revision was delivered, those of this batch included. Resume after it.
    pub revision: Revision,
    /// The events in revision order, a revision's events never split between batches. Empty: progress, nothing under the
    /// prefix changed up to `revision`.
    pub events: Vec<Event>,
}

/// A backup that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The revision that it shows.
    pub revision: Revision,
    /// How long it is.
    pub bytes: u64,
}
