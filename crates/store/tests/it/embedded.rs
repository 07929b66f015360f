//! The embedded store: the contract, and what it keeps from one opening to the next.

use std::path::Path;

use bytes::Bytes;
use store::{Error, Event, Op, Outcome, Revision, Store, Txn, embedded::Options};

use crate::contract;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::embedded(&dir.path().join("store"), Options::default()).await.expect("open");
    assert_eq!(store.revision().await.expect("revision"), Revision::INITIAL);
    contract::check(store).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let open = || Store::embedded(dir.path(), Options::default());
    let mut revisions = Vec::new();
    for round in 0..5 {
        let store = open().await.expect("open");
        for number in 0..20 {
            let txn = Txn::put(format!("/{round}/{number}"), format!("value {number}"), Revision::ABSENT);
            let Outcome::Committed(revision) = store.commit(txn).await.expect("commit") else { panic!("conflict") };
            revisions.push(revision);
        }
        let page = store.range("/", None, None, 0).await.expect("range");
        let mut found: Vec<_> = page.entries.iter().map(|entry| entry.mod_revision).collect();
        found.sort_unstable();
        assert_eq!(found, revisions);
    }
}

#[tokio::test]
async fn a_directory_is_opened_once_and_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().expect("temporary directory");
    let dir = parent.path().join("deep/store");
    let store = Store::embedded(&dir, Options::default()).await.expect("open");
    let error = Store::embedded(&dir, Options::default()).await.expect_err("opened twice");
    assert!(
        matches!(&error, Error::Locked { holder, .. } if holder.contains(&std::process::id().to_string())),
        "{error}"
    );
    let mode = |path: &std::path::Path| path.metadata().expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in dir.read_dir().expect("list") {
        let path = entry.expect("entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(store);
    Store::embedded(&dir, Options::default()).await.expect("open after it was closed");
}

async fn put(store: &Store, key: &str, value: impl Into<Bytes>) -> Revision {
    let op = Op::Put { key: key.into(), value: value.into() };
    match store.commit(Txn { compare: vec![], ops: vec![op] }).await.expect("commit") {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict(current) => panic!("conflict with {current:?}"),
    }
}

fn size(dir: &Path) -> u64 {
    let length = |entry: std::io::Result<std::fs::DirEntry>| match entry.expect("entry").metadata() {
        Ok(metadata) => metadata.len(),
        // Written anew meanwhile, in the background.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => panic!("metadata: {error}"),
    };
    dir.read_dir().expect("list").map(length).sum()
}

#[tokio::test]
async fn the_past_and_its_compaction_are_there_after_opening_again() {
    let dir = tempfile::tempdir().expect("temporary directory");
    // Once from the log alone, and once from a checkpoint.
    for checkpoint in [false, true] {
        let dir = dir.path().join(checkpoint.to_string());
        let open = || Store::embedded(&dir, Options::default());
        let store = open().await.expect("open");
        let one = put(&store, "/a", "1").await;
        let two = put(&store, "/a", "2").await;
        let three = put(&store, "/b", "1").await;
        store.commit(Txn { compare: vec![], ops: vec![Op::Delete { key: "/a".into() }] }).await.expect("commit");
        store.compact(two).await.expect("compact");
        if checkpoint {
            store.backup(&mut tokio::io::sink()).await.expect("backup");
        }
        drop(store);

        let store = open().await.expect("open");
        let error = store.range("/", None, Some(one), 0).await.expect_err("read what was compacted");
        assert!(matches!(error, Error::Compacted { oldest } if oldest == two), "{error}");
        let page = store.range("/", None, Some(three), 0).await.expect("range");
        assert_eq!(page.entries.len(), 2);
        let mut watch = store.watch("/", two).await.expect("watch");
        let batch = watch.next().await.expect("next batch");
        let [Event::Put { entry, prev: None }, Event::Delete { key, prev: Some(prev), .. }] = &batch.events[..] else {
            panic!("{batch:?}");
        };
        assert_eq!((&*entry.key, &**key, &prev.value[..], prev.version), ("/b", "/a", &b"2"[..], 2));
    }
}

#[tokio::test]
async fn files_stay_bounded_however_much_is_written() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = Options { checkpoint_bytes: 8 << 20, ..Options::default() };
    let store = Store::embedded(dir.path(), options).await.expect("open");
    let mut largest = 0;
    for round in 0..30u32 {
        // 3 MB that replace the 3 MB before.
        for number in 0..30 {
            put(&store, &format!("/{number}"), vec![round as u8; 100_000]).await;
        }
        let revision = store.revision().await.expect("revision");
        store.compact(revision).await.expect("compact");
        largest = largest.max(size(dir.path()));
    }
    // Two checkpoints of 3 MB, the log up to four times its measure while one is written, a segment ahead.
    assert!(largest < 6 * (8 << 20) + 8_000_000, "{largest} bytes");
    let Store::Embedded(engine) = &store else { unreachable!() };
    let stats = engine.stats();
    assert!((5..=12).contains(&stats.checkpoints), "{stats:?}");
    drop(store);
    let store = Store::embedded(dir.path(), options).await.expect("open");
    let page = store.range("/", None, None, 0).await.expect("range");
    assert!(page.entries.len() == 30 && page.entries.iter().all(|entry| entry.value[..] == [29; 100_000]));
}

#[tokio::test]
async fn a_watch_that_is_too_slow_ends_instead_of_filling_memory() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = Options { history_bytes: 1 << 20, ..Options::default() };
    let store = Store::embedded(dir.path(), options).await.expect("open");
    let mut slow = store.watch("/a", Revision::INITIAL).await.expect("watch");
    let mut quiet = store.watch("/quiet", Revision::INITIAL).await.expect("watch");
    let Store::Embedded(engine) = &store else { unreachable!() };
    for number in 0..400u32 {
        put(&store, "/a", vec![number as u8; 20_000]).await;
        assert!(engine.stats().history_bytes < 4 << 20, "{:?}", engine.stats());
    }
    let error = slow.next().await.expect_err("a slow watch went on");
    let Error::Compacted { oldest } = error else { panic!("{error}") };
    let mut again = store.watch("/a", oldest).await.expect("watch from the oldest revision");
    again.next().await.expect("next batch");
    put(&store, "/quiet", "1").await;
    assert_eq!(quiet.next().await.expect("next batch").events.len(), 1);
}

#[tokio::test]
async fn a_commit_is_synced_and_many_share_a_sync() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::embedded(dir.path(), Options::default()).await.expect("open");
    let Store::Embedded(engine) = &store else { unreachable!() };
    for number in 0..10 {
        put(&store, &format!("/{number}"), "1").await;
        assert_eq!(engine.stats().syncs, number + 1);
    }
    let mut set = tokio::task::JoinSet::new();
    for number in 0..500 {
        let store = store.clone();
        set.spawn(async move { put(&store, &format!("/many/{number}"), "1").await });
    }
    set.join_all().await;
    let stats = engine.stats();
    assert_eq!(stats.writes, 510);
    assert!(stats.syncs < 100 && !stats.sync_time.is_zero(), "{stats:?}");
}

#[tokio::test]
async fn values_are_held_once() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::embedded(dir.path(), Options::default()).await.expect("open");
    let mut watch = store.watch("/", Revision::INITIAL).await.expect("watch");
    put(&store, "/a", vec![1; 1000]).await;
    let again = store.range("/", None, None, 0).await.expect("range").entries.remove(0);
    let read = store.get("/a").await.expect("get").0.expect("entry");
    let batch = watch.next().await.expect("next batch");
    let Event::Put { entry, .. } = &batch.events[0] else { panic!("{batch:?}") };
    assert_eq!((read.value.as_ptr(), entry.value.as_ptr()), (again.value.as_ptr(), again.value.as_ptr()));
}

#[tokio::test]
async fn a_watch_of_a_closed_store_ends() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::embedded(dir.path(), Options::default()).await.expect("open");
    let mut watch = store.watch("/", Revision::INITIAL).await.expect("watch");
    drop(store);
    assert!(matches!(watch.next().await, Err(Error::Unavailable(_))));
    // The watch that is left does not keep the directory.
    Store::embedded(dir.path(), Options::default()).await.expect("open");
}
