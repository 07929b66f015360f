//! Streams as archivers and attackers send them.

use super::*;

fn tar_of(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        // Written as it is: the crate would refuse what an attacker sends.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn text(parcel: &Parcel, path: &str) -> String {
    let entry = parcel.entries.iter().find(|entry| entry.path == path).unwrap();
    io::read_to_string(parcel.read(entry, 0).unwrap()).unwrap()
}

#[test]
fn what_is_kept_is_found_again_and_sent() {
    let dir = tempfile::tempdir().unwrap();
    let stream = tar_of(&[("./a/b.txt", b"one", 0o644), ("run.sh", b"two", 0o755), ("no.log", b"three", 0o644)]);
    let kept =
        keep(dir.path(), "stash x", stream.as_slice(), Limits::default(), |path| !path.ends_with("log")).unwrap();
    let found = open(dir.path(), "stash x").unwrap().unwrap();
    assert_eq!(kept.entries, found.entries);
    let told: Vec<(&str, u64, bool)> =
        found.entries.iter().map(|entry| (entry.path.as_str(), entry.size, entry.runs)).collect();
    assert_eq!(told, [("a/b.txt", 3, false), ("run.sh", 3, true)]);
    assert_eq!(text(&found, "run.sh"), "two");
    assert_eq!(found.entries[0].sha256, "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");
    assert_eq!(io::read_to_string(found.read(&found.entries[0], 2).unwrap()).unwrap(), "e");
    let mut sent = Vec::new();
    found.send(&mut sent).unwrap();
    let again = keep(dir.path(), "other", sent.as_slice(), Limits::default(), |_| true).unwrap();
    assert_eq!(again.entries, found.entries);
    assert!(open(dir.path(), "stash y").unwrap().is_none());
    remove(dir.path(), "stash x").unwrap();
    assert!(open(dir.path(), "stash x").unwrap().is_none());
}

#[test]
fn long_paths_and_links_are_sent_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = format!("{}/file", "deep/".repeat(60).trim_end_matches('/'));
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    builder.append_data(&mut header, &path, b"x".as_slice()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "link", format!("../{path}")).unwrap();
    let stream = builder.into_inner().unwrap();
    let kept = keep(dir.path(), "x", stream.as_slice(), Limits::default(), |_| true).unwrap();
    assert_eq!(kept.entries[0].path, path);
    let mut sent = Vec::new();
    kept.send(&mut sent).unwrap();
    let again = keep(dir.path(), "y", sent.as_slice(), Limits::default(), |_| true).unwrap();
    assert_eq!(again.entries, kept.entries);
}

#[test]
fn a_later_parcel_of_a_name_replaces_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    for round in ["one", "two"] {
        let stream = tar_of(&[("a", round.as_bytes(), 0o644), ("a", b"last", 0o644)]);
        keep(dir.path(), "x", stream.as_slice(), Limits::default(), |_| true).unwrap();
    }
    let found = open(dir.path(), "x").unwrap().unwrap();
    assert_eq!((found.entries.len(), text(&found, "a").as_str()), (1, "last"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn hostile_paths_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    for path in ["../x", "/etc/passwd", "a/../../x", "a//b", "..", "a/./b", "./", ""] {
        let stream = tar_of(&[("good", b"x", 0o644), (path, b"x", 0o644)]);
        let error = keep(&inner, "x", stream.as_slice(), Limits::default(), |_| true).unwrap_err();
        assert!(matches!(error, Error::Path(_)), "{path}: {error}");
        assert!(open(&inner, "x").unwrap().is_none(), "{path}");
    }
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // Names of parcels are text too.
    keep(&inner, "../../up", tar_of(&[("a", b"x", 0o644)]).as_slice(), Limits::default(), |_| true).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(clean(&[0xff, b'a']).is_err());
    assert!(clean(&b"a/".repeat(300)).is_err());
    assert_eq!(clean("위/a\nb".as_bytes()).unwrap(), "위/a\nb");
}

#[test]
fn devices_and_second_names_are_refused_and_links_are_text() {
    let dir = tempfile::tempdir().unwrap();
    let special = |kind: tar::EntryType, target: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        builder.append_link(&mut header, "a", target).unwrap();
        keep(dir.path(), "x", builder.into_inner().unwrap().as_slice(), Limits::default(), |_| true)
    };
    for kind in [tar::EntryType::Link, tar::EntryType::Char, tar::EntryType::Block, tar::EntryType::Fifo] {
        assert!(matches!(special(kind, "b").unwrap_err(), Error::Path(_)), "{kind:?}");
    }
    let kept = special(tar::EntryType::Symlink, "/etc/passwd").unwrap();
    assert_eq!(kept.entries[0].link.as_deref(), Some("/etc/passwd"));
    assert_eq!(text(&kept, "a"), "");
}

#[test]
fn parcels_are_bounded_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<(String, Vec<u8>)> = (0..5).map(|n| (format!("f{n}"), vec![b'x'; 1000])).collect();
    let files: Vec<(&str, &[u8], u32)> =
        files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice(), 0o644)).collect();
    let stream = tar_of(&files);
    let tried = |files, bytes| keep(dir.path(), "x", stream.as_slice(), Limits { files, bytes }, |_| true);
    assert!(matches!(tried(4, 1 << 20), Err(Error::TooLarge { what: "files", .. })));
    assert!(matches!(tried(10, 4999), Err(Error::TooLarge { what: "bytes", .. })));
    assert_eq!(tried(5, 5000).unwrap().entries.len(), 5);
    for length in [100, 512 + 500, 1536 + 512 + 10] {
        let broken = keep(dir.path(), "broken", &stream[..length], Limits::default(), |_| true);
        assert!(matches!(broken, Err(Error::Io(_))), "{length}");
    }
}
