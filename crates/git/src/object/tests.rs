//! Objects, and trees that should not be.

use super::*;

fn entry(mode: &str, name: &[u8]) -> Vec<u8> {
    [mode.as_bytes(), b" ", name, b"\0", &[7; 20]].concat()
}

#[test]
fn a_tree_is_read_in_its_order() {
    let content = [entry("100644", b"a"), entry("100755", b"b"), entry("120000", b"c"), entry("40000", b"d")].concat();
    let entries = tree(&content, Format::Sha1).unwrap();
    let modes: Vec<Mode> = entries.iter().map(|entry| entry.mode).collect();
    let (plain, run) = (Mode::File { executable: false }, Mode::File { executable: true });
    assert_eq!(modes, [plain, run, Mode::Link, Mode::Directory]);
    assert_eq!(entries[3].name, "d");
    assert_eq!(entries[0].id, Id::new(&[7; 20]).unwrap());
}

#[test]
fn names_that_leave_their_directory_are_refused() {
    for name in ["", ".", "..", "a/b", "/etc", ".git", ".GIT", ".Git", ".g\u{200c}it", ".git ", "git~1", ".git."] {
        let content = entry("100644", name.as_bytes());
        assert!(tree(&content, Format::Sha1).is_err(), "{name:?} was let in");
    }
    assert!(tree(&entry("100644", b"\xff"), Format::Sha1).is_err());
    assert!(tree(&entry("100644", &[b'a'; 256]), Format::Sha1).is_err());
    for name in [".gitignore", ".github", "git", "...", "a.git"] {
        assert!(tree(&entry("100644", name.as_bytes()), Format::Sha1).is_ok(), "{name:?} was refused");
    }
}

#[test]
fn a_tree_that_ends_early_is_an_error() {
    let whole = entry("100644", b"name");
    for end in 1..whole.len() {
        assert!(tree(&whole[..end], Format::Sha1).is_err(), "{end}");
    }
    assert!(tree(&entry("170000", b"a"), Format::Sha1).is_err());
}

#[test]
fn a_commit_has_a_tree_parents_and_a_time() {
    let (tree, parent) = ("1".repeat(40), "2".repeat(40));
    let text =
        format!("tree {tree}\nparent {parent}\nauthor A <a@x> 1 +0000\ncommitter B <b@x> 1700000000 +0900\n\ntree x\n");
    let commit = Commit::parse(text.as_bytes()).unwrap();
    assert_eq!(commit.tree.to_string(), tree);
    assert_eq!(commit.parents, [Id::parse(&parent).unwrap()]);
    assert_eq!(commit.time, 1_700_000_000);
    assert!(Commit::parse(b"author A <a@x> 1 +0000\n\n").is_err());
    assert_eq!(tagged(format!("object {tree}\ntype commit\n\n").as_bytes()).unwrap().to_string(), tree);
}
