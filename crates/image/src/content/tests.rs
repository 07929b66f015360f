//! Uploads become blobs whole or not at all.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use futures::stream;

use super::*;

type Pieces = stream::Iter<std::vec::IntoIter<Result<Bytes, String>>>;

fn body(pieces: &[&'static str]) -> Pieces {
    stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect::<Vec<_>>())
}

fn broken(piece: &'static str) -> Pieces {
    stream::iter(vec![Ok(Bytes::from_static(piece.as_bytes())), Err("reset".to_owned())])
}

async fn open(dir: &Path) -> Content {
    Content::open(dir, Options::default()).await.unwrap()
}

#[tokio::test]
async fn an_upload_in_pieces_becomes_a_read_only_blob() {
    let dir = tempfile::tempdir().unwrap();
    let content = open(dir.path()).await;
    let id = content.begin(Algorithm::Sha256).await.unwrap();
    assert_eq!(content.append(&id, Some(0), body(&["he", "ll"])).await.unwrap(), 4);
    assert!(matches!(content.append(&id, Some(3), body(&["x"])).await, Err(Error::Offset { here: 4 })));
    assert_eq!(content.append(&id, None, body(&["o"])).await.unwrap(), 5);
    let digest = Digest::sha256(b"hello");
    assert_eq!(content.finish(&id, &digest).await.unwrap(), 5);
    let blob = content.path(&digest);
    assert_eq!(std::fs::read(&blob).unwrap(), b"hello");
    assert_eq!(blob.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    assert!(matches!(content.received(&id).await, Err(Error::Unknown)));
    assert_eq!(content.list().await.unwrap(), [digest]);
}

#[tokio::test]
async fn another_algorithm_at_the_end_is_checked_too() {
    let dir = tempfile::tempdir().unwrap();
    let content = open(dir.path()).await;
    let id = content.begin(Algorithm::Sha256).await.unwrap();
    content.append(&id, None, body(&["hello"])).await.unwrap();
    let digest = Digest::of(Algorithm::Sha512, b"hello");
    assert_eq!(content.finish(&id, &digest).await.unwrap(), 5);
    assert!(content.path(&digest).exists());
}

#[tokio::test]
async fn content_with_another_digest_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let content = open(dir.path()).await;
    let id = content.begin(Algorithm::Sha256).await.unwrap();
    content.append(&id, None, body(&["hello"])).await.unwrap();
    assert!(matches!(content.finish(&id, &Digest::sha256(b"other")).await, Err(Error::Digest { .. })));
    assert!(matches!(content.received(&id).await, Err(Error::Unknown)));
    assert_eq!(std::fs::read_dir(dir.path().join(UPLOADS)).unwrap().count(), 0);
    assert!(matches!(content.put(&Digest::sha256(b"a"), Bytes::from_static(b"b")).await, Err(Error::Digest { .. })));
    assert!(content.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_came_before_a_break_or_a_restart_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let content = open(dir.path()).await;
    let id = content.begin(Algorithm::Sha256).await.unwrap();
    assert!(matches!(content.append(&id, None, broken("hel")).await, Err(Error::Broken(_))));
    assert_eq!(content.received(&id).await.unwrap(), 3);
    drop(content);
    let content = open(dir.path()).await;
    assert_eq!(content.append(&id, Some(3), body(&["lo"])).await.unwrap(), 5);
    content.finish(&id, &Digest::sha256(b"hello")).await.unwrap();
}

#[tokio::test]
async fn what_the_other_store_has_is_linked() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = open(one.path()).await;
    let digest = Digest::sha256(b"hello");
    first.put(&digest, Bytes::from_static(b"hello")).await.unwrap();
    let options = Options { twin: Some(one.path().join(BLOBS)), ..Options::default() };
    let second = Content::open(two.path(), options).await.unwrap();
    let id = second.begin(Algorithm::Sha256).await.unwrap();
    second.append(&id, None, body(&["hello"])).await.unwrap();
    second.finish(&id, &digest).await.unwrap();
    assert_eq!(second.path(&digest).metadata().unwrap().ino(), first.path(&digest).metadata().unwrap().ino());
    first.remove(&digest).await.unwrap();
    assert_eq!(std::fs::read(second.path(&digest)).unwrap(), b"hello");
}

#[tokio::test]
async fn bounds_hold() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { blob_bytes: 4, uploads: 1, stall: Duration::from_millis(20), ..Options::default() };
    let content = Content::open(dir.path(), options).await.unwrap();
    let id = content.begin(Algorithm::Sha256).await.unwrap();
    assert!(matches!(content.begin(Algorithm::Sha256).await, Err(Error::Crowded)));
    let endless = stream::pending::<Result<Bytes, String>>();
    assert!(matches!(content.append(&id, None, endless).await, Err(Error::Broken(_))));
    assert!(matches!(content.append(&id, None, body(&["hello"])).await, Err(Error::TooLarge { limit: 4 })));
    let id = content.begin(Algorithm::Sha256).await.unwrap();
    content.cancel(&id).await.unwrap();
    assert!(matches!(content.cancel(&id).await, Err(Error::Unknown)));
    for id in ["", "../lock", "zz", "00000000000000000000000000000000"] {
        assert!(matches!(content.received(id).await, Err(Error::Unknown)), "{id}");
    }
}

#[tokio::test]
async fn two_processes_do_not_share_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let _content = open(dir.path()).await;
    assert!(Content::open(dir.path(), Options::default()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_socket_holds_becomes_a_blob_and_what_it_does_not_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let content =
        Content::open(dir.path(), Options { stall: Duration::from_secs(1), ..Options::default() }).await.unwrap();
    let bytes: Vec<u8> = (0..2_500_000_u32).map(|at| (at / 7) as u8).collect();
    let (mut theirs, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let sent = bytes.clone();
    let sending = std::thread::spawn(move || {
        // Part of what is before is the upload's, and what follows is somebody else's.
        theirs.write_all(&sent[1000..]).unwrap();
        theirs.write_all(b"after").unwrap();
        theirs
    });
    let id = content.begin(Algorithm::Sha256).await.unwrap();
    let before = vec![Bytes::copy_from_slice(&bytes[..1000])];
    let left = bytes.len() as u64 - 1000;
    let rest = |before, left| Rest { before, socket: ours.try_clone().unwrap().into(), left };
    let here = content.append_from(&id, Some(0), rest(before, left)).await.unwrap();
    assert_eq!(here, bytes.len() as u64);
    let theirs = sending.join().unwrap();
    let mut after = [0; 5];
    io::Read::read_exact(&mut &ours, &mut after).unwrap();
    assert_eq!(&after, b"after");
    let digest = Digest::sha256(&bytes);
    content.finish(&id, &digest).await.unwrap();
    assert!(std::fs::read(content.path(&digest)).unwrap() == bytes);
    // Nothing comes; nothing will come; not at that place; larger than it may be.
    let id = content.begin(Algorithm::Sha256).await.unwrap();
    let from = |at| content.append_from(&id, at, rest(Vec::new(), 10));
    assert!(matches!(from(None).await, Err(Error::Broken(reason)) if reason.contains("too long")));
    drop(theirs);
    assert!(matches!(from(None).await, Err(Error::Broken(reason)) if reason.contains("ended")));
    assert!(matches!(from(Some(7)).await, Err(Error::Offset { here: 0 })));
    let endless = content.append_from(&id, None, rest(Vec::new(), u64::MAX)).await;
    assert!(matches!(endless, Err(Error::TooLarge { .. })));
}
