//! What a parent promises about its children.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::Task;

#[tokio::test]
async fn cancelling_a_parent_ends_its_children() {
    let root = Task::root("root");
    let child = root.child("a").child("b");
    let ended = Arc::new(AtomicBool::new(false));
    let (inner, flag) = (child.clone(), ended.clone());
    child.spawn("wait", async move {
        inner.cancelled().await;
        flag.store(true, Ordering::SeqCst);
    });
    assert!(root.drain(Duration::from_secs(5)).await);
    assert!(ended.load(Ordering::SeqCst));
    assert_eq!(child.name(), "root/a/b");
}

#[tokio::test]
async fn draining_drops_what_does_not_end_in_time() {
    let root = Task::root("root");
    let stuck = root.child("stuck").spawn("for ever", std::future::pending());
    assert!(!root.drain(Duration::from_millis(10)).await);
    tokio::task::yield_now().await;
    assert!(stuck.is_finished());
}

#[tokio::test(start_paused = true)]
async fn work_that_nobody_misses_does_not_hold_up_the_end() {
    let root = Task::root("root");
    let stuck = root.child("loops").spawn_until_cancelled("for ever", std::future::pending());
    tokio::task::yield_now().await;
    assert!(!stuck.is_finished());
    assert!(root.drain(Duration::from_secs(5)).await);
    assert!(stuck.is_finished());
}

#[tokio::test]
async fn a_cancelled_child_leaves_its_siblings_running() {
    let root = Task::root("root");
    let (one, two) = (root.child("one"), root.child("two"));
    one.cancel();
    assert!(one.is_cancelled());
    assert!(!two.is_cancelled());
}
