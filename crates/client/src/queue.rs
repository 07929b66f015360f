//! A work queue: each key at most once in the queue and at most once in work, retried with growing delays.
//!
//! ```text
//! add ──► queued ──► in work ──► done
//!           ▲           │ added meanwhile: queued again when done
//!           └─ waiting ◄┘ Next::After, or failed: 5 ms, 10 ms ... 5 min
//! ```

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::{Debug, Display},
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use counts::counter::Counts;
use task::Task;
use tokio::sync::Notify;

/// What to do with a key after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until it is added again.
    Done,
    /// Another turn after this delay.
    After(Duration),
}

/// The queue of one loop. Cloning shares it.
#[derive(Debug)]
pub struct Queue<T>(Arc<Inner<T>>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Inner<T> {
    state: Mutex<State<T>>,
    wake: Notify,
    task: Task,
    /// Under which its work is counted; known once it is worked off.
    name: OnceLock<&'static str>,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    /// Since when.
    queued: HashMap<T, tokio::time::Instant>,
    working: HashSet<T>,
    failures: HashMap<T, u32>,
    /// Due times of delayed keys: only the earliest of a key counts.
    waiting: HashMap<T, tokio::time::Instant>,
}

/// The delay before the first retry; doubled with each further failure.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// Failures with longer delays than this are worth a warning.
const SPEAK_UP: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// Upstream's bounds of the time in a queue and at work: seconds, from ten billionths to ten.
const BOUNDS: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];

impl<T> Queue<T>
where
    T: Clone + Eq + Hash + Debug + Display + Send + Sync + 'static,
{
    /// An empty queue whose delays run below `task`.
    pub fn new(task: &Task) -> Self {
        let state = State {
            queue: VecDeque::new(),
            queued: HashMap::new(),
            working: HashSet::new(),
            failures: HashMap::new(),
            waiting: HashMap::new(),
        };
        let name = OnceLock::new();
        Self(Arc::new(Inner { state: Mutex::new(state), wake: Notify::new(), task: task.clone(), name }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.0.state.lock().expect("queue lock")
    }

    /// Queues `key` unless it is queued already.
    pub fn add(&self, key: T) {
        let mut state = self.state();
        if state.queued.contains_key(&key) {
            return;
        }
        state.queued.insert(key.clone(), tokio::time::Instant::now());
        self.tell(|counts, labels| counts.add("workqueue_adds_total", labels));
        if !state.working.contains(&key) {
            state.queue.push_back(key);
            self.0.wake.notify_one();
        }
        self.depth(&state);
    }

    /// Counts under the queue's name, once it has one.
    fn tell(&self, tell: impl FnOnce(&Counts, &[(&str, &str)])) {
        if let Some(name) = self.0.name.get() {
            tell(Counts::process(), &[("name", name)]);
        }
    }

    fn depth(&self, state: &State<T>) {
        self.tell(|counts, labels| counts.set("workqueue_depth", labels, state.queue.len() as f64));
    }

    /// Queues `key` once `delay` is over, unless it is due earlier already.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let due = tokio::time::Instant::now() + delay;
        {
            let mut state = self.state();
            if state.waiting.get(&key).is_some_and(|earlier| *earlier <= due) {
                return;
            }
            state.waiting.insert(key.clone(), due);
        }
        let queue = self.clone();
        self.0.task.spawn_until_cancelled("delayed key", async move {
            tokio::time::sleep_until(due).await;
            let mine = {
                let mut state = queue.state();
                let mine = state.waiting.get(&key) == Some(&due);
                if mine {
                    state.waiting.remove(&key);
                }
                mine
            };
            if mine {
                queue.add(key);
            }
        });
    }

    async fn take(&self) -> T {
        loop {
            let woken = self.0.wake.notified();
            {
                let mut state = self.state();
                if let Some(key) = state.queue.pop_front() {
                    if let Some(since) = state.queued.remove(&key) {
                        let waited = since.elapsed().as_secs_f64();
                        let name = "workqueue_queue_duration_seconds";
                        self.tell(|counts, labels| counts.observe(name, BOUNDS, labels, waited));
                    }
                    state.working.insert(key.clone());
                    self.depth(&state);
                    if !state.queue.is_empty() {
                        self.0.wake.notify_one();
                    }
                    return key;
                }
            }
            woken.await;
        }
    }

    fn finish(&self, key: &T, failed: bool) -> Option<Duration> {
        let mut state = self.state();
        state.working.remove(key);
        if state.queued.contains_key(key) {
            state.queue.push_back(key.clone());
            self.0.wake.notify_one();
            self.depth(&state);
        }
        if !failed {
            state.failures.remove(key);
            return None;
        }
        self.tell(|counts, labels| counts.add("workqueue_retries_total", labels));
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let delay = FIRST_RETRY.saturating_mul(1u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(LAST_RETRY);
        *failures = failures.saturating_add(1).min(31);
        Some(delay)
    }

    /// Works off the queue with `workers` tasks until the queue's task ends. A failed turn is logged and repeated; a turn
    /// that the end finds at work is dropped, since the next start makes up for it.
    pub fn run<F, R, E>(&self, name: &'static str, workers: usize, work: F)
    where
        F: Fn(T) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Next, E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        if self.0.name.set(name).is_ok() {
            let state = self.state();
            let waiting = state.queued.len() as u64;
            self.tell(|counts, labels| counts.add_many("workqueue_adds_total", labels, waiting));
            self.depth(&state);
        }
        for _ in 0..workers {
            let (queue, work, task) = (self.clone(), work.clone(), self.0.task.clone());
            self.0.task.spawn(name, async move {
                while let Some(key) = task.until_cancelled(queue.take()).await {
                    let began = tokio::time::Instant::now();
                    let Some(turn) = task.until_cancelled(work(key.clone())).await else { return };
                    let took = began.elapsed().as_secs_f64();
                    queue
                        .tell(|counts, labels| counts.observe("workqueue_work_duration_seconds", BOUNDS, labels, took));
                    match &turn {
                        Ok(next) => {
                            queue.finish(&key, false);
                            if let Next::After(delay) = next {
                                queue.add_after(key, *delay);
                            }
                        }
                        Err(error) => {
                            let delay = queue.finish(&key, true).unwrap_or(FIRST_RETRY);
                            if delay > SPEAK_UP {
                                tracing::warn!(turn = name, %key, %error, ?delay, "fails again and again");
                            } else {
                                tracing::debug!(turn = name, %key, %error, ?delay, "will be tried again");
                            }
                            queue.add_after(key, delay);
                        }
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
