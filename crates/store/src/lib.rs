//! Bytes and revisions: get, range, compare-and-commit, watch, compact; embedded or etcd.
//!
//! ```text
//!   commit(Txn) ──▶ one revision ──▶ entries (key, value, create_revision, mod_revision, version)
//!                        │
//!                        └──▶ watches of a prefix, resumed from any revision that was not compacted
//! ```
//!
//! The model is etcd's: one revision counter for the whole store, multi-version entries ordered by key, transactions that
//! compare and then write under one revision, watches that resume, and compaction that forgets superseded versions.
//! [`Store`] is a closed choice of two implementations held to the same contract by the tests in `tests/it/`:
//!
//! * [`embedded`] keeps everything in memory and on disk as a checkpoint and a log: one process, one directory.
//! * [`etcd`] speaks etcd's v3 protocol, so that several API servers can share one cluster of etcd.
//!
//! What [`Store::commit`] answered is on disk. Values are shared [`bytes::Bytes`]: the embedded store holds a value once, and
//! everything that was read from it or watched refers to the same memory.
//!
//! The model is described in <https://etcd.io/docs/v3.6/learning/data_model/> and
//! <https://etcd.io/docs/v3.6/learning/api_guarantees/>.

mod data;
mod error;
mod handle;
mod watch;

pub mod embedded;
pub mod etcd;

pub use data::{Backup, Batch, Compare, Entry, Event, KEY_BYTES, Op, Outcome, Page, Revision, TXN_BYTES, TXN_OPS, Txn};
pub use error::{Error, Result};
pub use handle::Store;
pub use watch::{Prompt, Watch};
