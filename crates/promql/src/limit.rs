//! What a query may cost, and how it is ended.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::storage::StorageError;

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// It was cancelled.
    #[error("query was canceled in {0}")]
    Cancelled(&'static str),
    /// It took too long.
    #[error("query timed out in {0}")]
    TimedOut(&'static str),
    /// It would hold more samples at once than allowed.
    #[error("query processing would load too many samples into memory in {0}")]
    TooManySamples(&'static str),
    /// Storage failed.
    #[error("expanding series: {0}")]
    Storage(StorageError),
    /// The series are not such that it could be answered.
    #[error("{0}")]
    Failed(String),
}

/// Ends a query from elsewhere. Clones end the same query.
#[derive(Clone, Debug, Default)]
pub struct Canceller(Arc<AtomicBool>);

impl Canceller {
    /// Ends the query as soon as it notices.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a query may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most samples held at once; a float takes 16 bytes, a histogram counts as many samples as fit into it.
    pub samples: usize,
    /// Longest time.
    pub time: Duration,
    /// Who may cancel it.
    pub canceller: Canceller,
}

impl Default for Limits {
    /// Prometheus' own: 50 million samples, two minutes.
    fn default() -> Self {
        Self { samples: 50_000_000, time: Duration::from_secs(120), canceller: Canceller::default() }
    }
}

/// Where a query is when it is ended.
const PHASE: &str = "expression evaluation";

/// What a query has cost so far.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    started: Instant,
    held: Cell<usize>,
    peak: Cell<usize>,
    read: Cell<u64>,
}

impl Meter {
    pub(crate) fn new(limits: Limits) -> Self {
        let zero = || Cell::new(0);
        Self { limits, started: Instant::now(), held: zero(), peak: zero(), read: Cell::new(0) }
    }

    /// Fails where the query is to end.
    pub(crate) fn check(&self) -> Result<(), EvalError> {
        if self.limits.canceller.0.load(Ordering::Relaxed) {
            return Err(EvalError::Cancelled(PHASE));
        }
        if self.started.elapsed() > self.limits.time {
            return Err(EvalError::TimedOut(PHASE));
        }
        Ok(())
    }

    /// Says that so many samples are held from now on.
    pub(crate) fn hold(&self, samples: usize) -> Result<(), EvalError> {
        let held = self.held.get().saturating_add(samples);
        self.held.set(held);
        self.peak.set(self.peak.get().max(held));
        if held > self.limits.samples { Err(EvalError::TooManySamples(PHASE)) } else { Ok(()) }
    }

    /// Says that so many are no longer held.
    pub(crate) fn release(&self, samples: usize) {
        self.held.set(self.held.get().saturating_sub(samples));
    }

    /// Says that so many samples came from storage.
    pub(crate) fn count_read(&self, samples: usize) {
        self.read.set(self.read.get() + samples as u64);
    }

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics { read: self.read.get(), peak: self.peak.get() as u64, time: self.started.elapsed() }
    }
}

/// What a query has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Samples that came from storage.
    pub read: u64,
    /// Most samples held at once.
    pub peak: u64,
    /// How long it took.
    pub time: Duration,
}
