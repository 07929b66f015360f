//! Bounds of a script, and how much of them is used.
//!
//! A script may not run for ever, nest without end or fill memory. Steps and computing time are counted for all branches of a
//! script together; depth for each. Memory is what strings, lists and maps hold: each is charged when it grows and
//! released when it is dropped. Time spent in steps of the host does not count.

use std::{
    cell::RefCell,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Expressions and statements evaluated.
    pub steps: u64,
    /// Calls within calls, and values within values as they are evaluated.
    pub depth: usize,
    /// Bytes held.
    pub memory: usize,
    /// Bytes of one string.
    pub text: usize,
    /// Elements of one list or map.
    pub elements: usize,
    /// Computing time.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: 50_000_000,
            depth: 600,
            memory: 128 << 20,
            text: 32 << 20,
            elements: 1_000_000,
            time: Duration::from_secs(60),
        }
    }
}

/// Stack that a thread needs for [`Limits::depth`] in any build.
pub const STACK: usize = 128 << 20;

/// Memory in use.
#[derive(Debug, Default)]
pub struct Meter(AtomicUsize);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Meter>>> = const { RefCell::new(None) };
}

impl Meter {
    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Charges what this thread makes from now on to a meter; gives the one before.
    pub(crate) fn enter(meter: Option<Arc<Meter>>) -> Option<Arc<Meter>> {
        CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), meter))
    }
}

/// What one value has been charged.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    meter: Option<Arc<Meter>>,
    bytes: AtomicUsize,
}

impl Charge {
    pub(crate) fn new(bytes: usize) -> Self {
        let meter = CURRENT.with(|current| current.borrow().clone());
        if let Some(meter) = &meter {
            meter.0.fetch_add(bytes, Relaxed);
        }
        Self { meter, bytes: AtomicUsize::new(bytes) }
    }

    pub(crate) fn set(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Relaxed);
        if let Some(meter) = &self.meter {
            if bytes >= before {
                meter.0.fetch_add(bytes - before, Relaxed);
            } else {
                meter.0.fetch_sub(before - bytes, Relaxed);
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Steps and time, and whose turn it is: of a script's branches, one computes at a time, and gives way only while a step of the
/// host is under way. So what runs in which order does not depend on the machine's processors.
#[derive(Debug)]
pub(crate) struct Turn {
    limits: Limits,
    pub(crate) meter: Arc<Meter>,
    steps: AtomicU64,
    taken: Mutex<Clock>,
    free: Condvar,
}

#[derive(Debug)]
struct Clock {
    since: Option<Instant>,
    used: Duration,
}

impl Turn {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            meter: Arc::default(),
            steps: AtomicU64::new(0),
            taken: Mutex::new(Clock { since: None, used: Duration::ZERO }),
            free: Condvar::new(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn take(&self) {
        let mut clock = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while clock.since.is_some() {
            clock = self.free.wait(clock).unwrap_or_else(PoisonError::into_inner);
        }
        clock.since = Some(Instant::now());
    }

    pub(crate) fn give(&self) {
        let mut clock = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = clock.since.take() {
            clock.used += since.elapsed();
        }
        drop(clock);
        self.free.notify_one();
    }

    /// Counts a step; what is wrong, where a bound is reached.
    pub(crate) fn step(&self) -> Option<String> {
        let steps = self.steps.fetch_add(1, Relaxed);
        if steps >= self.limits.steps {
            return Some(format!("the script has taken {} steps, which is its limit", self.limits.steps));
        }
        if self.meter.used() > self.limits.memory {
            return Some(format!("the script holds more than {} bytes, which is its limit", self.limits.memory));
        }
        if steps % 1024 == 1023 {
            let clock = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let used = clock.used + clock.since.map_or(Duration::ZERO, |since| since.elapsed());
            if used > self.limits.time {
                return Some(format!("the script has computed for {:?}, which is its limit", self.limits.time));
            }
        }
        None
    }
}
