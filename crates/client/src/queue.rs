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
    sync::{Arc, Mutex},
    time::Duration,
};

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
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    queued: HashSet<T>,
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

impl<T> Queue<T>
where
    T: Clone + Eq + Hash + Debug + Display + Send + Sync + 'static,
{
    /// An empty queue whose delays run below `task`.
    pub fn new(task: &Task) -> Self {
        let state = State {
            queue: VecDeque::new(),
            queued: HashSet::new(),
            working: HashSet::new(),
            failures: HashMap::new(),
            waiting: HashMap::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), wake: Notify::new(), task: task.clone() }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.0.state.lock().expect("queue lock")
    }

    /// Queues `key` unless it is queued already.
    pub fn add(&self, key: T) {
        let mut state = self.state();
        if state.queued.insert(key.clone()) && !state.working.contains(&key) {
            state.queue.push_back(key);
            self.0.wake.notify_one();
        }
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
                    state.queued.remove(&key);
                    state.working.insert(key.clone());
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
        if state.queued.contains(key) {
            state.queue.push_back(key.clone());
            self.0.wake.notify_one();
        }
        if !failed {
            state.failures.remove(key);
            return None;
        }
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
        for _ in 0..workers {
            let (queue, work, task) = (self.clone(), work.clone(), self.0.task.clone());
            self.0.task.spawn(name, async move {
                while let Some(key) = task.until_cancelled(queue.take()).await {
                    let Some(turn) = task.until_cancelled(work(key.clone())).await else { return };
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
