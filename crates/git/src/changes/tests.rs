//! Histories that are written here, and what is told of them.

use std::io::{Seek, Write};

use flate2::{Compression, write::ZlibEncoder};

use super::*;
use crate::{
    id::{Format, Hasher},
    pack::identify,
};

/// Objects of a pack.
#[derive(Default)]
struct History(Vec<(Kind, Vec<u8>)>);

impl History {
    fn add(&mut self, kind: Kind, content: Vec<u8>) -> Id {
        let id = identify(Format::Sha1, kind, &content).unwrap();
        self.0.push((kind, content));
        id
    }

    fn tree(&mut self, entries: &[(&str, &str, Id)]) -> Id {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            content.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            content.extend_from_slice(id.bytes());
        }
        self.add(Kind::Tree, content)
    }

    fn commit(&mut self, tree: Id, parents: &[Id], time: i64) -> Id {
        let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
        self.add(Kind::Commit, format!("tree {tree}\n{parents}committer A <a@b> {time} +0000\n\nx\n").into_bytes())
    }

    fn pack(&self) -> Pack {
        let mut out = b"PACK\0\0\0\x02".to_vec();
        out.extend_from_slice(&(self.0.len() as u32).to_be_bytes());
        for (kind, content) in &self.0 {
            let number = if *kind == Kind::Commit { 1 } else { 2 };
            let (mut size, mut byte) = (content.len() >> 4, number << 4 | (content.len() & 0xf) as u8);
            while size > 0 {
                out.push(byte | 0x80);
                (byte, size) = ((size & 0x7f) as u8, size >> 7);
            }
            out.push(byte);
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(content).unwrap();
            out.extend(encoder.finish().unwrap());
        }
        let mut hasher = Hasher::new(Format::Sha1);
        hasher.update(&out);
        out.extend_from_slice(hasher.finish().unwrap().bytes());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&out).unwrap();
        file.rewind().unwrap();
        Pack::read(file, Format::Sha1, Limits::default()).unwrap()
    }
}

fn file(number: u8) -> Id {
    Id::new(&[number; 20]).unwrap()
}

#[test]
fn a_commit_says_who_wrote_it_and_why() {
    let content = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor Kim Lee <kim@example.org> 1700000000 +0900\ncommitter X <x> 1 +0000\n\nMend it\n\nAll of it.\n";
    let (author, email, message) = words(content);
    assert_eq!((author.as_str(), email.as_str()), ("Kim Lee", "kim@example.org"));
    assert_eq!(message, "Mend it\n\nAll of it.\n");
    assert_eq!(words(b"").0, "");
    assert_eq!(words(b"author nobody\n\n"), ("nobody".into(), String::new(), String::new()));
}

/// A history whose last commit has directories that are twice in the one above, so often, with something below.
fn doubled(below: &[(&str, &str, Id)], depth: usize, names: [&str; 2]) -> (Pack, Id, Id) {
    let mut history = History::default();
    let first = history.tree(&[("100644", "a", file(1))]);
    let old = history.commit(first, &[], 1);
    let mut tree = history.tree(below);
    for _ in 0..depth {
        tree = history.tree(&[("40000", names[0], tree), ("40000", names[1], tree)]);
    }
    let new = history.commit(tree, &[old], 2);
    (history.pack(), old, new)
}

#[test]
fn directories_that_are_in_others_again_and_again_end() {
    // Nothing is ever told of what is new, so that only what is read can be counted.
    let (pack, old, new) = doubled(&[], 60, ["x", "y"]);
    let limits = Limits { entries: 10_000, ..Limits::default() };
    let told = told(&pack, old, new, &limits).unwrap();
    assert_eq!((told.len(), told[0].paths.as_slice()), (1, [(How::Removed, "a".to_owned())].as_slice()));
}

#[test]
fn paths_are_bounded_by_count_and_by_bytes() {
    let limits = Limits::default();
    let (pack, old, new) = doubled(&[("100644", "f", file(2))], 20, ["x", "y"]);
    assert_eq!(told(&pack, old, new, &limits).unwrap()[0].paths.len(), PATHS);
    let (x, y) = ("x".repeat(250), "y".repeat(250));
    let (pack, old, new) = doubled(&[("100644", "f", file(2))], 100, [&x, &y]);
    let told = told(&pack, old, new, &limits).unwrap();
    let all = &told[0].paths;
    let bytes: usize = all.iter().map(|(_, path)| path.len()).sum();
    assert!(all.len() < PATHS && bytes <= PATH_BYTES && bytes > PATH_BYTES - 26_000, "{} {bytes}", all.len());
}

#[test]
fn what_lies_beyond_the_bounds_is_left_out_and_the_rest_is_told() {
    let mut history = History::default();
    let below = history.tree(&[("100644", "b", file(1))]);
    let mut ids = Vec::new();
    for number in 0..4 {
        let tree = history.tree(&[("100644", "a", file(number)), ("40000", "d", below)]);
        ids.push(history.commit(tree, &ids.last().copied().into_iter().collect::<Vec<_>>(), number.into()));
    }
    let pack = history.pack();
    let paths = |entries: u64| -> Vec<usize> {
        let told = told(&pack, ids[0], ids[3], &Limits { entries, ..Limits::default() }).unwrap();
        told.iter().map(|change| change.paths.len()).collect()
    };
    assert_eq!(paths(1000), [1, 1, 1]);
    // Room for the newest alone: two directories of two entries.
    assert_eq!(paths(4), [1, 0, 0]);
    assert_eq!(paths(0), [0, 0, 0]);
}

#[test]
fn directories_that_are_deeper_than_any_are_refused() {
    let mut history = History::default();
    let first = history.tree(&[]);
    let old = history.commit(first, &[], 1);
    let mut tree = history.tree(&[("100644", "f", file(1))]);
    for _ in 0..=DEEPEST {
        tree = history.tree(&[("40000", "d", tree)]);
    }
    let new = history.commit(tree, &[old], 2);
    assert!(matches!(told(&history.pack(), old, new, &Limits::default()), Err(Error::TooLarge { .. })));
}
