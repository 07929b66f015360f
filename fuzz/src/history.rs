//! Histories of repositories elsewhere: commits and directories that strangers made, and what is told of them.
//!
//! An input is a text, of which a pack is made that is whole: a line `tree` or `commit` begins an object, and a number in it is the id
//! of the object of that number. So mutations make other histories, and not only packs whose checksums are wrong.

use std::{
    collections::BTreeSet,
    io::{self, Seek, Write},
};

use flate2::{Compression, write::ZlibEncoder};
use git::{
    Limits,
    changes::told,
    id::{Format, Id},
    pack::Pack,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::targets::{about, kind};

/// Words of such texts.
pub const WORDS: &[&str] = &[
    "tree\n",
    "commit\n",
    "\n100644 ",
    "\n100755 ",
    "\n120000 ",
    "\n40000 ",
    "\n160000 ",
    "\ntree 0\n",
    "\nparent 1\n",
    "\nauthor ",
    "\ncommitter a <b> 1 +0000\n",
    " #1\n",
    " 0\n",
    " 2\n",
    " 999\n",
    ".git",
    "..",
    "/",
    "<",
    ">",
    "\0",
    "-9223372036854775808 +0000",
];

/// Objects of a history.
const OBJECTS: usize = 1_000;
/// What a history may be.
const LIMITS: Limits = Limits {
    pack: 8 << 20,
    objects: OBJECTS as u32,
    object: 1 << 20,
    unpacked: 8 << 20,
    entries: 1_000,
    checkout: 0,
    repository: 0,
    modules: 0,
};

/// One of its objects.
struct Made {
    commit: bool,
    id: [u8; 20],
    content: Vec<u8>,
}

fn hash(bytes: &[u8]) -> [u8; 20] {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().try_into().expect("20 bytes")
}

/// The id that a word stands for: of an object before, of none (`999`), of a file (`#1`).
fn named(word: &[u8], before: &[Made]) -> Option<[u8; 20]> {
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<usize>().ok();
    match word.strip_prefix(b"#") {
        Some(digits) => number(digits).map(|number| [number.to_le_bytes()[0]; 20]),
        None => number(word).map(|number| before.get(number).map_or([0xff; 20], |object| object.id)),
    }
}

/// An entry of a directory; what is none stands as it is.
fn entry(line: &[u8], before: &[Made]) -> Vec<u8> {
    let at = line.iter().rposition(|byte| *byte == b' ');
    match at.and_then(|at| Some((&line[..at], named(&line[at + 1..], before)?))) {
        Some((start, id)) => [start, b"\0", &id].concat(),
        None => line.to_vec(),
    }
}

/// A line of a commit.
fn header(line: &[u8], before: &[Made]) -> Vec<u8> {
    for word in [&b"tree "[..], b"parent "] {
        if let Some(id) = line.strip_prefix(word).and_then(|rest| named(rest, before)) {
            let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            return [word, hex.as_bytes(), b"\n"].concat();
        }
    }
    [line, b"\n"].concat()
}

fn made(input: &[u8]) -> Vec<Made> {
    let mut all: Vec<Made> = Vec::new();
    let mut present: Option<(bool, Vec<u8>)> = None;
    let end = |present: Option<(bool, Vec<u8>)>, all: &mut Vec<Made>| {
        let Some((commit, content)) = present else { return };
        let head = format!("{} {}\0", if commit { "commit" } else { "tree" }, content.len());
        let id = hash(&[head.as_bytes(), &content].concat());
        all.push(Made { commit, id, content });
    };
    let input = input.strip_suffix(b"\n").unwrap_or(input);
    for line in input.split(|byte| *byte == b'\n') {
        if matches!(line, b"tree" | b"commit") {
            end(present.take(), &mut all);
            if all.len() == OBJECTS {
                return all;
            }
            present = Some((line == b"commit", Vec::new()));
            continue;
        }
        match &mut present {
            Some((true, content)) => content.extend(header(line, &all)),
            Some((false, content)) => content.extend(entry(line, &all)),
            None => {}
        }
    }
    end(present, &mut all);
    all
}

fn pack(objects: &[Made]) -> io::Result<Vec<u8>> {
    let mut out = b"PACK\0\0\0\x02".to_vec();
    out.extend_from_slice(&(objects.len() as u32).to_be_bytes());
    for object in objects {
        let number = if object.commit { 1 } else { 2 };
        let (mut size, mut byte) = (object.content.len() >> 4, number << 4 | (object.content.len() & 0xf) as u8);
        while size > 0 {
            out.push(byte | 0x80);
            (byte, size) = ((size & 0x7f) as u8, size >> 7);
        }
        out.push(byte);
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&object.content)?;
        out.extend(encoder.finish()?);
    }
    let sum = hash(&out);
    out.extend_from_slice(&sum);
    Ok(out)
}

/// What happened between the first commit and the last.
pub fn changes(input: &[u8]) -> String {
    let objects = made(input);
    let mut commits = objects.iter().filter(|object| object.commit).filter_map(|object| Id::new(&object.id));
    let Some(old) = commits.next() else { return "no commit".to_owned() };
    let new = commits.next_back().unwrap_or(old);
    let written = || {
        let mut file = tempfile::tempfile()?;
        file.write_all(&pack(&objects)?)?;
        file.rewind()?;
        io::Result::Ok(file)
    };
    let Ok(file) = written() else { return "no file".to_owned() };
    let pack = match Pack::read(file, Format::Sha1, LIMITS) {
        Ok(pack) => pack,
        Err(error) => return format!("pack {}", kind(&error.to_string())),
    };
    let told = match told(&pack, old, new, &LIMITS) {
        Ok(told) => told,
        Err(error) => return format!("error {}", kind(&error.to_string())),
    };
    let ids: BTreeSet<String> = told.iter().map(|change| change.id.to_string()).collect();
    assert!(ids.len() == told.len() && !ids.contains(&old.to_string()), "{ids:?}");
    let paths: Vec<_> = told.iter().flat_map(|change| &change.paths).collect();
    assert!(paths.len() <= 20_000 && told.iter().all(|change| change.message.len() <= 3 * (16 << 10)));
    for (_, path) in &paths {
        assert!(path.split('/').all(|part| !matches!(part, "" | "." | ".." | ".git")), "{path:?}");
    }
    let hows: BTreeSet<String> = paths.iter().map(|(how, _)| format!("{how:?}")).collect();
    format!("{} {} {hows:?}", about(told.len()), about(paths.len()))
}
