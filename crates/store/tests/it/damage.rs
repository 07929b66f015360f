//! Files that were flipped, cut, or went missing: everything is there, or the store says what is damaged. Never less.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use store::{Error, Op, Outcome, Revision, Store, Txn, embedded::Options};

/// All entries: key, value and revision.
type Entries = BTreeMap<String, (Bytes, u64)>;

fn options() -> Options {
    Options { segment_bytes: 8 << 20, ..Options::default() }
}

/// Makes a store with a checkpoint and a log of some groups after it, and closes it; what it holds.
async fn make(dir: &Path) -> Entries {
    let store = Store::embedded(dir, options()).await.expect("open");
    for number in 0..40u32 {
        put(&store, &format!("/before/{number:03}"), vec![number as u8; 300 + number as usize * 37]).await;
    }
    store.backup(&mut tokio::io::sink()).await.expect("backup");
    for number in 0..40u32 {
        put(&store, &format!("/after/{number:03}"), vec![!number as u8; 100 + number as usize * 211]).await;
    }
    let gone = Txn { compare: vec![], ops: vec![Op::Delete { key: "/before/007".into() }] };
    assert!(matches!(store.commit(gone).await.expect("commit"), Outcome::Committed(_)));
    entries(&store).await
}

async fn put(store: &Store, key: &str, value: Vec<u8>) {
    let outcome = store.commit(Txn::put(key, value, Revision::ABSENT)).await.expect("commit");
    assert!(matches!(outcome, Outcome::Committed(_)));
}

async fn entries(store: &Store) -> Entries {
    let page = store.range("", None, None, 0).await.expect("range");
    page.entries.into_iter().map(|entry| (entry.key.to_string(), (entry.value, entry.mod_revision.get()))).collect()
}

/// The files of a store that was closed, held in memory without the zeros at their ends: they are copied often.
struct Image(Vec<(PathBuf, Vec<u8>, u64)>);

impl Image {
    fn of(dir: &Path) -> Self {
        let files = fs::read_dir(dir).expect("list").map(|entry| {
            let path = entry.expect("entry").path();
            let mut bytes = fs::read(&path).expect("read");
            let length = bytes.len() as u64;
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            (path.file_name().expect("name").into(), bytes, length)
        });
        Self(files.collect())
    }

    fn copy(&self, to: &Path) {
        let _ = fs::remove_dir_all(to);
        fs::create_dir(to).expect("make directory");
        for (name, bytes, length) in &self.0 {
            fs::write(to.join(name), bytes).expect("write");
            cut(&to.join(name), *length);
        }
    }
}

fn file(dir: &Path, prefix: &str) -> PathBuf {
    let mut found: Vec<_> = fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry").path()).collect();
    found.retain(|path| path.file_name().expect("name").to_string_lossy().starts_with(prefix));
    found.sort();
    found.into_iter().next().unwrap_or_else(|| panic!("no {prefix} in {}", dir.display()))
}

/// The end of the log's last group: what is behind it is zeros.
fn end_of_log(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("read");
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("a group") as u64;
    (last + 1).next_multiple_of(4096)
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("write");
}

fn cut(path: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(path).expect("open").set_len(length).expect("cut");
}

/// Opens the store in `dir`: whether it was there whole. Damage that is found must name a file and a way out.
async fn check(dir: &Path, expected: &Entries, what: &str) -> bool {
    match Store::embedded(dir, options()).await {
        Ok(store) => {
            assert!(entries(&store).await == *expected, "{what}: it opens with something else than was acknowledged");
            // It must go on, and what it takes then must be there as well.
            put(&store, "/more", vec![1]).await;
            drop(store);
            let store = Store::embedded(dir, options()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(entries(&store).await.remove("/more").is_some(), "{what}: a later write is lost");
            true
        }
        Err(Error::Damaged { file, reason, way_out, .. }) => {
            assert!(file.starts_with(dir), "{what}: {}", file.display());
            assert!(!reason.is_empty() && way_out.contains("madang restore"), "{what}: {reason}; {way_out}");
            false
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

#[tokio::test]
async fn a_flipped_byte_is_harmless_or_found() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let expected = make(&whole).await;
    let image = Image::of(&whole);
    let (mut found, mut harmless) = (0, 0);
    for name in ["log-", "checkpoint-", "synced"] {
        let path = file(&whole, name);
        let length = if name == "log-" { end_of_log(&path) } else { path.metadata().expect("metadata").len() };
        // Every field of the first headers, and then places all over the file.
        let steps = (0..64).chain((64..length).step_by((length as usize / 60) | 1)).chain([length - 1]);
        for offset in steps {
            image.copy(&broken);
            flip(&file(&broken, name), offset);
            match check(&broken, &expected, &format!("{name} flipped at {offset}")).await {
                true => harmless += 1,
                false => found += 1,
            }
        }
    }
    println!("{found} flips found, {harmless} in unused space");
    assert!(found > 100 && harmless > 0);
}

#[tokio::test]
async fn a_flip_of_any_byte_of_the_last_group_is_found() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let expected = make(&whole).await;
    let image = Image::of(&whole);
    // The deletion that `make` ends with: a header of 64 bytes and a record of a key and a few numbers.
    let start = end_of_log(&file(&whole, "log-")) - 4096;
    for offset in start..start + 64 + 11 {
        image.copy(&broken);
        flip(&file(&broken, "log-"), offset);
        assert!(!check(&broken, &expected, &format!("flipped at {offset}")).await, "a flip at {offset} was not found");
    }
}

#[tokio::test]
async fn what_stands_behind_the_last_group_does_not_matter() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let expected = make(&whole).await;
    let image = Image::of(&whole);
    let log = file(&whole, "log-");
    let (end, length) = (end_of_log(&log), log.metadata().expect("metadata").len());
    for offset in [end, end + 1, end + 63, end + 64, end + 4096, end + 8192 + 17, length - 1] {
        image.copy(&broken);
        flip(&file(&broken, "log-"), offset);
        assert!(check(&broken, &expected, &format!("flipped at {offset}")).await);
    }
    for cut_at in [end, end + 1, end + 4095, end + 4096, length - 4097, length - 1] {
        image.copy(&broken);
        cut(&file(&broken, "log-"), cut_at);
        assert!(check(&broken, &expected, &format!("cut at {cut_at}")).await);
    }
    // What a crash can leave: the parts of a group that was being written, in any mixture with what was there before.
    let bytes = fs::read(&log).expect("read");
    let group = &bytes[(end - 16 * 4096) as usize..end as usize];
    for mixture in 1..64u32 {
        image.copy(&broken);
        let file = fs::OpenOptions::new().write(true).open(file(&broken, "log-")).expect("open");
        for block in (0..16).filter(|block| mixture >> (block % 6) & 1 == 1) {
            let from = &group[block * 4096..][..4096];
            file.write_all_at(from, end + block as u64 * 4096).expect("write");
        }
        assert!(check(&broken, &expected, &format!("mixture {mixture}")).await);
    }
    // Any bytes at all, such as a segment used again has.
    image.copy(&broken);
    let noise: Vec<u8> = (0..length - end).map(|number| ((number * 2_654_435_761) >> 7) as u8).collect();
    let file = fs::OpenOptions::new().write(true).open(file(&broken, "log-")).expect("open");
    file.write_all_at(&noise, end).expect("write");
    assert!(check(&broken, &expected, "noise").await);
}

#[tokio::test]
async fn a_cut_file_is_harmless_or_found() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let expected = make(&whole).await;
    let image = Image::of(&whole);
    for name in ["log-", "checkpoint-", "synced"] {
        let path = file(&whole, name);
        let length = if name == "log-" { end_of_log(&path) } else { path.metadata().expect("metadata").len() };
        for offset in (0..length).step_by((length as usize / 40) | 1).chain([length.saturating_sub(4096)]) {
            image.copy(&broken);
            cut(&file(&broken, name), offset);
            let opened = check(&broken, &expected, &format!("{name} cut at {offset}")).await;
            // The last block of a frame is not all used, and of the end mark one copy is enough.
            assert!(!opened || offset + 4096 > length, "{name} cut at {offset} of {length} was not found");
        }
    }
}

#[tokio::test]
async fn a_missing_file_is_found() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let expected = make(&whole).await;
    let image = Image::of(&whole);
    // The log still reaches back to the beginning, so that the checkpoint can be spared.
    for (name, spared) in [("log-", false), ("checkpoint-", true), ("synced", false), ("lock", true)] {
        image.copy(&broken);
        fs::remove_file(file(&broken, name)).expect("remove");
        assert_eq!(check(&broken, &expected, &format!("without {name}")).await, spared, "without {name}");
    }
}

#[tokio::test]
async fn a_checkpoint_without_which_something_would_be_missing_is_missed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (whole, out) = (dir.path().join("whole"), dir.path().join("out"));
    let store = Store::embedded(&whole, options()).await.expect("open");
    for number in 0..20 {
        put(&store, &format!("/before/{number:03}"), vec![7; 1_000_000]).await;
    }
    store.backup(&mut tokio::io::sink()).await.expect("backup");
    put(&store, "/after", vec![1]).await;
    let expected = entries(&store).await;
    drop(store);
    assert_eq!(file(&whole, "log-").file_name().expect("name"), "log-0000000000000003", "the log was not cut");
    fs::remove_file(file(&whole, "checkpoint-")).expect("remove");
    assert!(!check(&whole, &expected, "without its checkpoint").await);
    let salvaged = Store::salvage(&whole, &out).expect("salvage");
    assert!(salvaged.entries < 21 && !salvaged.lost.is_empty(), "{salvaged:?}");
    let store = Store::embedded(&out, options()).await.expect("open what was salvaged");
    assert_eq!(entries(&store).await.get("/after"), expected.get("/after"));
}

#[tokio::test]
async fn files_of_two_stores_are_not_mixed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (one, two, broken) = (dir.path().join("one"), dir.path().join("two"), dir.path().join("broken"));
    let expected = make(&one).await;
    let image = Image::of(&one);
    make(&two).await;
    for name in ["log-", "checkpoint-", "synced"] {
        image.copy(&broken);
        fs::copy(file(&two, name), file(&broken, name)).expect("copy");
        assert!(!check(&broken, &expected, &format!("{name} of another store")).await, "{name} was taken");
    }
}

#[tokio::test]
async fn a_backup_taken_while_writing_restores_to_one_moment() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (whole, restored, file) = (dir.path().join("whole"), dir.path().join("restored"), dir.path().join("backup"));
    let store = Store::embedded(&whole, options()).await.expect("open");
    let writer = {
        let store = store.clone();
        async move {
            for number in 0..500u32 {
                // Two keys that are always written together.
                let op = |side: &str| Op::Put {
                    key: format!("/{side}/{}", number % 50).into(),
                    value: number.to_string().into(),
                };
                store.commit(Txn { compare: vec![], ops: vec![op("left"), op("right")] }).await.expect("commit");
            }
        }
    };
    let backup = async {
        while store.revision().await.expect("revision").get() < 100 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let mut out = tokio::fs::File::create(&file).await.expect("create");
        store.backup(&mut out).await.expect("backup")
    };
    let ((), backup) = tokio::join!(writer, backup);
    assert_eq!(backup.bytes, file.metadata().expect("metadata").len());
    let made = Store::restore(&file, &restored).expect("restore");
    assert_eq!(made.revision, backup.revision);
    let copy = Store::embedded(&restored, options()).await.expect("open what was restored");
    let expected: Entries = {
        let page = store.range("", None, Some(backup.revision), 0).await.expect("range");
        page.entries.into_iter().map(|entry| (entry.key.to_string(), (entry.value, entry.mod_revision.get()))).collect()
    };
    let found = entries(&copy).await;
    assert_eq!(found.len() as u64, made.entries);
    assert!(found == expected);
    for (key, (value, _)) in &found {
        if let Some(number) = key.strip_prefix("/left/") {
            assert_eq!(&found[&format!("/right/{number}")].0, value);
        }
    }
    // Revisions that were given out after the backup do not come again, and whoever knows them must list anew.
    assert!(copy.revision().await.expect("revision") > store.revision().await.expect("revision"));
    let error =
        copy.watch("/", store.revision().await.expect("revision")).await.expect_err("watched from another past");
    assert!(matches!(error, Error::Compacted { .. }), "{error}");
    put(&copy, "/more", vec![1]).await;

    let error = Store::restore(&file, &restored).expect_err("restored over a store");
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    flip(&file, 4096 + 100);
    let error = Store::restore(&file, &dir.path().join("other")).expect_err("restored a damaged backup");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_whole_store_is_salvaged_whole() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (whole, out) = (dir.path().join("whole"), dir.path().join("out"));
    let expected = make(&whole).await;
    let salvaged = Store::salvage(&whole, &out).expect("salvage");
    assert_eq!((salvaged.lost, salvaged.entries), (vec![], expected.len() as u64));
    let store = Store::embedded(&out, options()).await.expect("open");
    assert!(entries(&store).await == expected);
}

#[tokio::test]
async fn what_can_be_read_of_a_damaged_store_is_salvaged_and_the_rest_is_listed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (whole, broken, out) = (dir.path().join("whole"), dir.path().join("broken"), dir.path().join("out"));
    let expected = make(&whole).await;
    let image = Image::of(&whole);
    for name in ["log-", "checkpoint-", "synced"] {
        let path = file(&whole, name);
        let length = if name == "log-" { end_of_log(&path) } else { path.metadata().expect("metadata").len() };
        for (offset, cuts) in (0..length).step_by((length as usize / 25) | 1).flat_map(|at| [(at, false), (at, true)]) {
            image.copy(&broken);
            match cuts {
                true => cut(&file(&broken, name), offset),
                false => flip(&file(&broken, name), offset),
            }
            let opens = check(&broken, &expected, "before salvage").await;
            if opens {
                continue;
            }
            let _ = fs::remove_dir_all(&out);
            let salvaged = Store::salvage(&broken, &out).expect("salvage");
            let what = format!("{name} {} at {offset}: {:?}", if cuts { "cut" } else { "flipped" }, salvaged.lost);
            let store = Store::embedded(&out, options()).await.expect("open what was salvaged");
            let found = entries(&store).await;
            let missing = expected.iter().filter(|(key, entry)| found.get(*key) != Some(entry)).count();
            let extra = found.keys().filter(|key| !expected.contains_key(*key)).count();
            // A lost deletion brings its entry back; nothing else may come from nowhere.
            assert!(extra == 0 || (extra == 1 && found.contains_key("/before/007")), "{what}");
            assert!(missing + extra == 0 || !salvaged.lost.is_empty(), "{what}: {missing} missing, {extra} extra");
            if name == "log-" && !cuts {
                assert!(missing + extra <= 1 && salvaged.lost.len() == 1, "{what}: {missing} missing, {extra} extra");
            }
            if name == "synced" {
                assert_eq!(missing + extra, 0, "{what}");
            }
        }
    }
}
