//! Archives, there and back.

use super::*;

fn entry(name: &str, size: u64, kind: u8, link: &str) -> Entry {
    Entry { name: name.into(), mode: 0o755, size, time: 7, kind, link: link.into() }
}

#[test]
fn an_entry_is_read_as_it_was_written() {
    let long = "d/".repeat(80) + "f";
    for entry in [
        entry("a.txt", 0, b'0', ""),
        entry(&long, 0, b'0', ""),
        entry("l", 0, b'2', &"x".repeat(150)),
        entry("d", 0, b'5', ""),
        entry(&"n".repeat(101), 9 << 30, b'0', ""),
    ] {
        let mut bytes = Vec::new();
        entry.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        assert_eq!(next(&mut &bytes[..]).unwrap(), Some(entry));
    }
}

#[test]
fn nothing_is_unpacked_outside() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["../x", "/etc/x", "a/../../x"] {
        let taken = take(directory.path(), &entry(name, 0, b'0', ""), &mut io::empty());
        assert!(matches!(taken, Err(Error::Wrong(_))), "{name}");
    }
}

#[test]
fn what_is_damaged_is_refused() {
    let mut bytes = Vec::new();
    entry("a", 0, b'0', "").write(&mut bytes).unwrap();
    bytes[0] = b'b';
    assert!(next(&mut &bytes[..]).is_err());
    assert!(next(&mut &bytes[..100]).is_err());
    assert_eq!(next(&mut io::empty()).unwrap(), None);
    for records in [&b"x"[..], b"9 path=", b"0 path=a\n", b"99 path=a\n"] {
        assert_eq!(extended(records), None);
    }
}

#[test]
fn a_link_is_replaced_and_not_written_through() {
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("outside");
    fs::write(&outside, "kept").unwrap();
    let within = directory.path().join("within");
    fs::create_dir(&within).unwrap();
    symlink(&outside, within.join("a")).unwrap();
    let content = [b'x'; BLOCK];
    take(&within, &entry("a", 5, b'0', ""), &mut &content[..]).unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
    assert_eq!(fs::read_to_string(within.join("a")).unwrap(), "xxxxx");
}
