//! The task tree itself: a cancellation token and a set of running futures a node.

use std::{
    future::Future,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, task::AbortHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A node of the task tree. Cloning gives another handle to the same node.
#[derive(Clone)]
pub struct Task(Arc<Node>);

struct Node {
    name: String,
    token: CancellationToken,
    tracker: TaskTracker,
    parts: Mutex<Vec<(&'static str, AbortHandle)>>,
    children: Mutex<Vec<Weak<Node>>>,
    /// Keeps the path to the root alive, by which draining finds this node.
    _parent: Option<Task>,
}

/// A future that was started with [`Task::spawn`].
#[derive(Debug)]
pub struct Running(AbortHandle);

impl Running {
    /// Drops the future at its next suspension point.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether the future has ended, by itself or by [`Running::abort`].
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("name", &self.0.name).field("running", &self.0.tracker.len()).finish()
    }
}

impl Task {
    /// The root of a new tree.
    pub fn root(name: impl Into<String>) -> Self {
        Self::node(name.into(), CancellationToken::new(), None)
    }

    /// A child, cancelled and drained with this task. Its name is the path from the root.
    pub fn child(&self, name: impl AsRef<str>) -> Self {
        let child =
            Self::node(format!("{}/{}", self.0.name, name.as_ref()), self.0.token.child_token(), Some(self.clone()));
        let mut children = self.0.children.lock().expect("task tree lock");
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&child.0));
        child
    }

    fn node(name: String, token: CancellationToken, parent: Option<Task>) -> Self {
        Self(Arc::new(Node {
            name,
            token,
            tracker: TaskTracker::new(),
            parts: Mutex::default(),
            children: Mutex::default(),
            _parent: parent,
        }))
    }

    /// The path from the root, for logs.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs `future` as part of this task. It ends by itself, soon after [`Task::cancelled`] resolves, or is dropped by
    /// [`Task::drain`]. It keeps the task itself alive while it runs.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Running
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_on(&Handle::current(), name, future)
    }

    /// [`Task::spawn`] on another runtime than the caller's.
    pub fn spawn_on<F>(&self, runtime: &Handle, name: &'static str, future: F) -> Running
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let keep = self.clone();
        let named = async move {
            future.await;
            tracing::trace!(task = %keep.0.name, part = name, "ended");
        };
        let abort = self.0.tracker.spawn_on(named, runtime).abort_handle();
        let mut parts = self.0.parts.lock().expect("task part lock");
        if parts.len() == parts.capacity() {
            parts.retain(|(_, part)| !part.is_finished());
        }
        parts.push((name, abort.clone()));
        Running(abort)
    }

    /// Like [`Task::spawn`], for work that nobody misses: it is dropped as soon as this task is cancelled. What it was
    /// about to do must be safe to leave half-done.
    pub fn spawn_until_cancelled<F>(&self, name: &'static str, future: F) -> Running
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = self.0.token.clone();
        self.spawn(name, async move {
            let _ = token.run_until_cancelled_owned(future).await;
        })
    }

    /// Runs `future` until it ends or this task is cancelled; `None` when it was cancelled first.
    pub async fn until_cancelled<F: Future>(&self, future: F) -> Option<F::Output> {
        self.0.token.run_until_cancelled(future).await
    }

    /// Asks this task and all below it to end.
    pub fn cancel(&self) {
        self.0.token.cancel();
    }

    /// Resolves once this task or one above it was cancelled.
    pub async fn cancelled(&self) {
        self.0.token.cancelled().await;
    }

    /// Whether this task or one above it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// Cancels, waits for everything below to end, and drops what is still running after `deadline`.
    /// Returns whether all ended by themselves.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.cancel();
        let nodes = self.subtree();
        let all = async {
            for node in &nodes {
                node.tracker.close();
                node.tracker.wait().await;
            }
        };
        if tokio::time::timeout(deadline, all).await.is_ok() {
            return true;
        }
        for node in &nodes {
            let mut parts = node.parts.lock().expect("task part lock");
            let left: Vec<&str> = parts.iter().filter(|(_, part)| !part.is_finished()).map(|(name, _)| *name).collect();
            if !left.is_empty() {
                tracing::warn!(task = %node.name, ?left, "did not end in time");
            }
            parts.drain(..).for_each(|(_, part)| part.abort());
        }
        false
    }

    fn subtree(&self) -> Vec<Arc<Node>> {
        let mut found = vec![self.0.clone()];
        let mut next = 0;
        while next < found.len() {
            let children: Vec<_> =
                found[next].children.lock().expect("task tree lock").iter().filter_map(Weak::upgrade).collect();
            found.extend(children);
            next += 1;
        }
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests;
