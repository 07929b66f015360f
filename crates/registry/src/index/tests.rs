//! What was committed is there after any end.

use std::{fs, io::Write};

use super::*;

fn entry(content: &[u8]) -> Entry {
    Entry { digest: Digest::sha256(content), size: content.len() as u64 }
}

fn pushed(repository: &str, tag: &str) -> Vec<Change> {
    let repository = repository.to_owned();
    let digest = Digest::sha256(tag.as_bytes());
    let manifest = Manifest {
        media_type: oci::media::OCI_MANIFEST.into(),
        size: 1,
        refers: vec![entry(b"layer")],
        subject: Some(Digest::sha256(b"subject")),
        artifact_type: None,
    };
    vec![
        Change::Link { repository: repository.clone(), blob: entry(b"layer") },
        Change::Store { repository: repository.clone(), digest: digest.clone(), manifest },
        Change::Tag { repository, tag: tag.into(), digest },
    ]
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn all(index: &Index) -> Vec<Change> {
    index.state().changes()
}

#[test]
fn committed_changes_are_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let index = block_on(Index::open(dir.path())).unwrap();
    block_on(index.commit(pushed("a", "v1"))).unwrap();
    block_on(index.commit(pushed("b/c", "v2"))).unwrap();
    block_on(index.commit(vec![Change::Untag { repository: "a".into(), tag: "v1".into() }])).unwrap();
    let before = all(&index);
    assert!(block_on(Index::open(dir.path())).is_err(), "two processes share an index");
    drop(index);
    let index = block_on(Index::open(dir.path())).unwrap();
    assert_eq!(all(&index), before);
    assert!(index.state().uses(&Digest::sha256(b"layer")));
}

#[test]
fn a_torn_end_is_cut_off_and_other_damage_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index.journal");
    let index = block_on(Index::open(dir.path())).unwrap();
    block_on(index.commit(pushed("a", "v1"))).unwrap();
    let one = fs::metadata(&file).unwrap().len() as usize;
    block_on(index.commit(pushed("a", "v2"))).unwrap();
    drop(index);
    let whole = fs::read(&file).unwrap();
    for cut in one..whole.len() - 1 {
        fs::write(&file, &whole[..cut]).unwrap();
        let index = block_on(Index::open(dir.path())).unwrap();
        let tags: Vec<_> = index.state().repositories["a"].tags.keys().cloned().collect();
        assert_eq!(tags, ["v1"], "cut at {cut}");
        // What comes after the cut is readable.
        drop(index);
    }
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    fs::write(&file, &damaged).unwrap();
    let error = format!("{:#}", block_on(Index::open(dir.path())).err().unwrap());
    assert!(error.contains("damaged at byte 0"), "{error}");
    fs::write(&file, &whole).unwrap();
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"\0\0\0\0\n\0\0").unwrap();
    let index = block_on(Index::open(dir.path())).unwrap();
    block_on(index.commit(pushed("a", "v3"))).unwrap();
    drop(index);
    assert_eq!(block_on(Index::open(dir.path())).unwrap().state().repositories["a"].tags.len(), 3);
}

#[test]
fn the_file_does_not_grow_without_bound() {
    let dir = tempfile::tempdir().unwrap();
    let index = block_on(Index::open(dir.path())).unwrap();
    block_on(async {
        for round in 0..40 {
            let changes = (0..200).flat_map(|number| pushed("a", &format!("{round}-{number}"))).collect();
            index.commit(changes).await.unwrap();
            let forget = (0..200).map(|number| Change::Forget {
                repository: "a".into(),
                digest: Digest::sha256(format!("{round}-{number}").as_bytes()),
            });
            index.commit(forget.collect()).await.unwrap();
        }
    });
    assert!(fs::metadata(dir.path().join("index.journal")).unwrap().len() < 3 << 20);
    drop(index);
    let index = block_on(Index::open(dir.path())).unwrap();
    assert_eq!(index.state().repositories["a"].loose(), [Digest::sha256(b"layer")]);
    assert!(index.state().repositories["a"].referrers.is_empty());
}

#[test]
fn a_repository_without_anything_is_none() {
    let mut state = State::default();
    for change in pushed("a", "v1") {
        assert!(state.lacks(&change));
        state.apply(change.clone());
        assert!(!state.lacks(&change));
    }
    state.apply(Change::Forget { repository: "a".into(), digest: Digest::sha256(b"v1") });
    assert!(state.repositories["a"].tags.is_empty());
    state.apply(Change::Unlink { repository: "a".into(), digest: Digest::sha256(b"layer") });
    assert!(state.repositories.is_empty() && !state.uses(&Digest::sha256(b"layer")));
}
