//! Tests of `filesync`.

use std::os::unix::fs::MetadataExt;

use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn entry(path: &str, mode: u32, size: i64, link: &str) -> Packet {
    let stat = Stat { path: path.into(), mode, size, link: link.into(), modified: 1_500_000_000, ..Stat::default() };
    Packet { kind: PacketType::Stat.into(), stat: Some(stat), ..Packet::default() }
}

fn end_of_list() -> Packet {
    Packet { kind: PacketType::Stat.into(), ..Packet::default() }
}

fn data(number: u32, bytes: &'static [u8]) -> Packet {
    Packet { kind: PacketType::Data.into(), id: number, data: Bytes::from_static(bytes), ..Packet::default() }
}

/// What comes of packets, and what was asked for.
fn run(root: &Path, packets: Vec<Packet>) -> (anyhow::Result<Received>, Vec<Packet>) {
    let (sender, mut said) = mpsc::channel(100);
    let (give, arrived) = mpsc::channel(100);
    for packet in packets {
        give.try_send(packet).unwrap();
    }
    drop(give);
    let received = Receiver::new(root.to_owned(), sender).run(arrived, |_| {});
    let mut asked = Vec::new();
    while let Ok(packet) = said.try_recv() {
        asked.push(packet);
    }
    (received, asked)
}

#[test]
fn a_tree_is_written_as_it_was_sent() {
    let place = directory();
    let root = place.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let packets = vec![
        entry("dir", mode::DIRECTORY | 0o750, 0, ""),
        entry("dir/file", 0o640 | mode::SETUID, 5, ""),
        entry("dir/same", 0o640, 5, "dir/file"),
        entry("empty", 0o600, 0, ""),
        entry("link", mode::SYMLINK | 0o777, 0, "/etc/passwd"),
        end_of_list(),
        data(1, b"he"),
        data(1, b"llo"),
        data(1, b""),
        Packet { kind: PacketType::End.into(), ..Packet::default() },
    ];
    let (received, said) = run(&root, packets);
    assert_eq!(received.unwrap(), Received { entries: 5, bytes: 5 });
    let kinds: Vec<i32> = said.iter().map(|packet| packet.kind).collect();
    assert_eq!(kinds, [i32::from(PacketType::Request), i32::from(PacketType::End)]);
    assert_eq!(std::fs::read(root.join("dir/same")).unwrap(), b"hello");
    let file = root.join("dir/file").metadata().unwrap();
    assert_eq!((file.mode() & 0o7777, file.nlink(), file.mtime(), file.mtime_nsec()), (0o4640, 2, 1, 500_000_000));
    let above = root.join("dir").metadata().unwrap();
    assert_eq!((above.mode() & 0o7777, above.mtime()), (0o750, 1));
    assert_eq!(std::fs::read_link(root.join("link")).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn nothing_is_written_outside_and_nothing_unasked() {
    let hostile: Vec<(Vec<Packet>, &str)> = vec![
        (vec![entry("/etc/x", 0o600, 0, "")], "lead elsewhere"),
        (vec![entry("../x", 0o600, 0, "")], "lead elsewhere"),
        (vec![entry("a/../../x", 0o600, 0, "")], "lead elsewhere"),
        (vec![entry("a//b", 0o600, 0, "")], "lead elsewhere"),
        (vec![entry("./a", 0o600, 0, "")], "lead elsewhere"),
        (vec![entry("", 0o600, 0, "")], "lead elsewhere"),
        (vec![entry("a\0b", 0o600, 0, "")], "lead elsewhere"),
        (vec![entry("a/b", 0o600, 0, "")], "not the directory"),
        (vec![entry("l", mode::SYMLINK, 0, "/tmp"), entry("l/x", 0o600, 0, "")], "not the directory"),
        (vec![entry("l", mode::SYMLINK, 0, "/etc/passwd"), entry("x", 0o600, 1, "l")], "which is no file"),
        (vec![entry("x", 0o600, 1, "../../etc/passwd")], "lead elsewhere"),
        (vec![entry("a", 0o600, 0, ""), entry("a", 0o600, 0, "")], "write a"),
        (vec![entry("a", mode::IRREGULAR, 0, "")], "not known"),
        (vec![data(0, b"x")], "nobody asked"),
        (vec![entry("a", 0o600, 1, ""), data(0, b"x"), data(0, b""), data(0, b"")], "nobody asked"),
        (vec![Packet { kind: 9, ..Packet::default() }], "kind 9"),
        (
            vec![Packet { kind: PacketType::Error.into(), data: Bytes::from_static(b"no"), ..Packet::default() }],
            "says: no",
        ),
        (vec![], "ended early"),
    ];
    for (packets, reason) in hostile {
        let place = directory();
        let shown = format!("{packets:?}");
        let (received, _) = run(place.path(), packets);
        let error = format!("{:#}", received.unwrap_err());
        assert!(error.contains(reason), "{shown}: {error}");
    }
}

#[test]
fn what_is_sent_is_what_is_there() {
    let place = directory();
    let root = place.path();
    std::fs::create_dir(root.join("b")).unwrap();
    std::fs::write(root.join("b/two"), "two").unwrap();
    std::fs::hard_link(root.join("b/two"), root.join("c")).unwrap();
    symlink("b", root.join("a")).unwrap();
    let opened = File::open(root).unwrap();
    let (sender, mut said) = mpsc::channel(100);
    let (requests, wanted) = mpsc::channel(100);
    let request = |kind: PacketType, id| Packet { kind: kind.into(), id, ..Packet::default() };
    requests.try_send(request(PacketType::Request, 2)).unwrap();
    requests.try_send(request(PacketType::End, 0)).unwrap();
    let sending = Sender { root: Root::new(opened.into()), sender, files: HashMap::new(), number: 0 };
    assert_eq!(sending.run(wanted).unwrap(), 3);
    let mut seen = Vec::new();
    while let Ok(packet) = said.try_recv() {
        seen.push(match packet.stat {
            Some(stat) => format!("{} {:o} {}", stat.path, stat.mode & mode::TYPE, stat.link),
            None => format!("{} {:?}", packet.kind, packet.data),
        });
    }
    let expected = [
        format!("a {:o} b", mode::SYMLINK),
        format!("b {:o} ", mode::DIRECTORY),
        "b/two 0 ".to_owned(),
        "c 0 b/two".to_owned(),
        "0 b\"\"".to_owned(),
        "2 b\"two\"".to_owned(),
        "2 b\"\"".to_owned(),
        "3 b\"\"".to_owned(),
    ];
    assert_eq!(seen, expected);
    // A file is sent once.
    let (sender, _said) = mpsc::channel(100);
    let (requests, wanted) = mpsc::channel(100);
    requests.try_send(request(PacketType::Request, 77)).unwrap();
    let opened = File::open(root).unwrap();
    let sending = Sender { root: Root::new(opened.into()), sender, files: HashMap::new(), number: 0 };
    assert!(sending.run(wanted).unwrap_err().to_string().contains("which there is not"));
}

#[test]
fn metadata_that_is_not_ascii_is_encoded() {
    let lists = ["plain".to_owned(), "имя b".to_owned()];
    let encoded = metadata(&[("followpaths", &lists)]).unwrap();
    let values: Vec<_> =
        encoded.get_all("followpaths").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
    assert_eq!(values, ["plain", "%D0%B8%D0%BC%D1%8F%20b"]);
    assert_eq!(encoded.get("followpaths-encoded").unwrap(), "1");
    assert!(metadata(&[("dir-name", &["context".to_owned()])]).unwrap().get("dir-name-encoded").is_none());
    assert!(metadata(&[("dir-name", &["a\nb".to_owned()])]).is_err());
}
