//! The embedded store: the contract, and what it keeps from one opening to the next.

use store::{Error, Outcome, Revision, Store, Txn, embedded::Options};

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
