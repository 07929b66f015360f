//! When keys get their turns.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use counts::counter::Counts;
use task::Task;

use super::{Next, Queue};

#[tokio::test(start_paused = true)]
async fn a_key_added_twice_gets_one_turn_and_a_failed_one_is_repeated() {
    let task = Task::root("test");
    let queue = Queue::new(&task);
    queue.add("a");
    queue.add("a");
    queue.add("b");
    let turns: Arc<Mutex<Vec<&str>>> = Arc::default();
    let log = turns.clone();
    queue.run("test", 1, move |key| {
        let mut log = log.lock().unwrap();
        log.push(key);
        let failed = key == "b" && log.iter().filter(|turn| **turn == "b").count() < 3;
        async move { if failed { Err("not yet") } else { Ok(Next::Done) } }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*turns.lock().unwrap(), ["a", "b", "b", "b"]);
    assert!(task.drain(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_waits_for_ever_does_not_hold_up_the_end() {
    let task = Task::root("test");
    let queue = Queue::new(&task);
    queue.add("a");
    queue.run("test", 1, |_| std::future::pending::<Result<Next, &str>>());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(task.drain(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_two_delays_counts() {
    let task = Task::root("test");
    let queue = Queue::new(&task);
    queue.add_after("a", Duration::from_secs(10));
    queue.add_after("a", Duration::from_secs(1));
    queue.add_after("a", Duration::from_secs(5));
    let turns: Arc<Mutex<usize>> = Arc::default();
    let count = turns.clone();
    queue.run("test", 2, move |_| {
        *count.lock().unwrap() += 1;
        async move { Ok::<_, String>(Next::Done) }
    });
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(*turns.lock().unwrap(), 1);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(*turns.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_never_in_work_twice_at_a_time() {
    let task = Task::root("test");
    let queue = Queue::new(&task);
    let working: Arc<Mutex<(usize, usize)>> = Arc::default();
    let count = working.clone();
    queue.run("test", 4, move |_| {
        let count = count.clone();
        async move {
            {
                let mut count = count.lock().unwrap();
                count.0 += 1;
                assert_eq!(count.0, 1);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            let mut count = count.lock().unwrap();
            count.0 -= 1;
            count.1 += 1;
            Ok::<_, String>(Next::Done)
        }
    });
    for _ in 0..5 {
        queue.add("a");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*working.lock().unwrap(), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_queue_does_is_counted_under_its_name() {
    let task = Task::root("test");
    let queue = Queue::new(&task);
    queue.add("early");
    queue.run("counted", 1, |key| async move { if key == "bad" { Err("no") } else { Ok(Next::Done) } });
    tokio::time::sleep(Duration::from_secs(1)).await;
    queue.add("late");
    queue.add("bad");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut page = counts::page::Page::default();
    Counts::process().write(&mut page, "workqueue_");
    let text = page.text();
    for line in [
        "workqueue_adds_total{name=\"counted\"} 3",
        "workqueue_depth{name=\"counted\"} 0",
        "workqueue_retries_total{name=\"counted\"} 1",
        "workqueue_queue_duration_seconds_count{name=\"counted\"} 3",
        "workqueue_work_duration_seconds_count{name=\"counted\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(task.drain(Duration::from_secs(1)).await);
}
