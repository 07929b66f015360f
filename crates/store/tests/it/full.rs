//! A full disk: commits fail with a clear error, nothing acknowledged is lost, and it goes on once there is space.

use std::{fs, path::Path, process::Command};

use store::{Error, Outcome, Revision, Store, Txn, embedded::Options};

/// A small file system of its own.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "madang-test"]).arg(dir.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        assert!(std::env::var_os("CI").is_none(), "a small file system cannot be mounted");
        eprintln!("did not run: a small file system cannot be mounted without root");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

async fn put(store: &Store, number: u32) -> Result<(), Error> {
    let outcome = store.commit(Txn::put(format!("/{number:06}"), vec![number as u8; 20_000], Revision::ABSENT)).await?;
    assert!(matches!(outcome, Outcome::Committed(_)));
    Ok(())
}

#[tokio::test]
async fn a_full_disk_fails_commits_and_loses_nothing() {
    let Some(small) = Small::mount(256) else { return };
    let (dir, ballast) = (small.path().join("store"), small.path().join("ballast"));
    let options = Options { checkpoint_bytes: 8 << 20, ..Options::default() };
    let store = Store::embedded(&dir, options).await.expect("open");
    let mut number = 0;
    for round in 0..3 {
        // Whatever is left of the disk goes to someone else.
        let mut filled = fs::File::create(&ballast).expect("create");
        while std::io::Write::write_all(&mut filled, &[1; 65536]).is_ok() {}
        let error = loop {
            match put(&store, number).await {
                Ok(()) => number += 1,
                Err(error) => break error,
            }
            assert!(number < 5000, "the disk never got full");
        };
        assert!(matches!(&error, Error::Full(text) if text.contains("No space left")), "{error:?}");
        // It still fails, reads still work, and what was acknowledged is there.
        assert!(matches!(put(&store, number).await, Err(Error::Full(_))));
        let page = store.range("/", None, None, 0).await.expect("range");
        assert_eq!(page.entries.len() as u32, number, "round {round}");
        drop(filled);
        fs::remove_file(&ballast).expect("remove");
        // Space is there again.
        for _ in 0..20 {
            put(&store, number).await.expect("commit once there is space");
            number += 1;
        }
    }
    // Being closed and opened on a full disk loses nothing either.
    let mut filled = fs::File::create(&ballast).expect("create");
    while std::io::Write::write_all(&mut filled, &[1; 65536]).is_ok() {}
    drop(store);
    let store = Store::embedded(&dir, options).await.expect("open on a full disk");
    assert_eq!(store.range("/", None, None, 0).await.expect("range").entries.len() as u32, number);
    drop(store);
}
