//! Checkpoints: the whole state at one place of the log, as a file. A backup is one, too.
//!
//! ```text
//! checkpoint-N  │ head │ keys │ keys │ … │ end │        N: sequence of the last group that it includes
//! ```
//!
//! It is written beside the running store under a temporary name, synced, and renamed: a file that bears the name is whole.
//! It holds all versions that are not compacted, in key order, so that reading it builds the index in one pass.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    ops::Bound,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use crate::{Error, Result};

use super::{
    damaged,
    frame::{Found, Frame, Kind, Reader, StoreId},
    index::{Chain, Index, Version},
    record::{self, Head},
};

/// What the names of checkpoints begin with.
pub const PREFIX: &str = "checkpoint-";

/// Payload bytes after which a frame of keys is written.
const FRAME: usize = 256 * 1024;
/// Bytes after which what was written is synced: a large sync at the end would hold up the commits meanwhile.
const SYNC: u64 = 4 << 20;

/// Where the checkpoint that ends with group `sequence` is.
pub fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{sequence:016x}"))
}

/// A checkpoint that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The store it was made of.
    pub id: StoreId,
    /// Its head.
    pub head: Head,
    /// All keys.
    pub keys: BTreeMap<Arc<str>, Chain>,
}

/// Writes the state of `index` into `dir`; its head, and how many bytes it takes.
///
/// The lock is held for one frame's keys at a time. The index may go on meanwhile, but must not be swept.
pub fn write(dir: &Path, id: StoreId, index: &RwLock<Index>) -> Result<(Head, u64)> {
    let head = {
        let index = index.read().expect("index lock");
        Head { revision: index.revision(), compacted: index.compacted(), at: index.place() }
    };
    let target = path(dir, head.at.sequence);
    let temporary = target.with_extension("tmp");
    let written = stream(&temporary, id, &head, index).and_then(|bytes| {
        fs::rename(&temporary, &target)?;
        File::open(dir)?.sync_all()?;
        Ok((head, bytes))
    });
    written.map_err(|error| {
        // A part of a checkpoint would hold space that others need.
        let _ = fs::remove_file(&temporary);
        Error::io(format!("write checkpoint {}", target.display()), error)
    })
}

fn stream(path: &Path, id: StoreId, head: &Head, index: &RwLock<Index>) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let (mut at, mut synced) = (0, 0);
    let mut put = |bytes: &[u8]| {
        file.write_all_at(bytes, at)?;
        at += bytes.len() as u64;
        if at - synced >= SYNC {
            file.sync_data()?;
            synced = at;
        }
        io::Result::Ok(())
    };
    let mut encoder = Encoder::new(id, head.revision);
    put(encoder.head(head))?;
    // The last version written: the next one may be of the same key.
    let mut last: Option<(Arc<str>, u64)> = None;
    while fill(&mut encoder, &index.read().expect("index lock"), head.revision, &mut last) {
        put(encoder.keys())?;
    }
    put(encoder.keys())?;
    put(encoder.end())?;
    file.sync_all()?;
    Ok(at)
}

/// Fills a frame with the versions after `last`; whether there may be more.
fn fill(encoder: &mut Encoder, index: &Index, revision: u64, last: &mut Option<(Arc<str>, u64)>) -> bool {
    let start = last.clone();
    let bound = start.as_ref().map_or(Bound::Unbounded, |(key, _)| Bound::Included(&**key));
    for (key, chain) in index.chains(bound) {
        let written = start.as_ref().filter(|(known, _)| known == key).map_or(0, |(_, modified)| *modified);
        for version in chain.versions().filter(|version| version.modified > written && version.modified <= revision) {
            *last = Some((key.clone(), version.modified));
            if encoder.add(key, version) {
                return true;
            }
        }
    }
    false
}

/// Makes the frames of a checkpoint.
#[derive(Debug)]
pub struct Encoder {
    id: StoreId,
    revision: u64,
    sequence: u64,
    seal: u32,
    frame: Frame,
    /// Whether the frame was handed out.
    sealed: bool,
    last: String,
    keys: u64,
    versions: u64,
}

impl Encoder {
    /// For a checkpoint of store `id` at `revision`.
    pub fn new(id: StoreId, revision: u64) -> Self {
        let frame = Frame::new();
        Self { id, revision, sequence: 0, seal: 0, frame, sealed: false, last: String::new(), keys: 0, versions: 0 }
    }

    /// The first frame.
    pub fn head(&mut self, head: &Head) -> &[u8] {
        record::put_head(self.open().payload(), head);
        self.seal(Kind::Head)
    }

    /// Adds a version of a key: in key order, and oldest first. Whether the frame of keys is full.
    pub fn add(&mut self, key: &str, version: &Version) -> bool {
        record::put_version(self.open().payload(), key, version);
        self.versions += 1;
        if self.last != key || self.keys == 0 {
            self.keys += 1;
            self.last.clear();
            self.last.push_str(key);
        }
        self.frame.len() >= FRAME
    }

    /// The frame of the keys added since the last one.
    pub fn keys(&mut self) -> &[u8] {
        self.open();
        self.seal(Kind::Keys)
    }

    /// The last frame.
    pub fn end(&mut self) -> &[u8] {
        let (keys, versions) = (self.keys, self.versions);
        record::put_end(self.open().payload(), keys, versions);
        self.seal(Kind::End)
    }

    fn open(&mut self) -> &mut Frame {
        if std::mem::take(&mut self.sealed) {
            self.frame.clear();
        }
        &mut self.frame
    }

    fn seal(&mut self, kind: Kind) -> &[u8] {
        let (bytes, seal) = self.frame.seal(kind, self.id, self.sequence, self.revision, self.seal);
        (self.sequence, self.seal, self.sealed) = (self.sequence + 1, seal, true);
        bytes
    }
}

/// Reads the checkpoint at `path` whole, or tells where it is damaged.
pub fn load(path: &Path) -> Result<Loaded> {
    let failed = |error| Error::io(format!("read checkpoint {}", path.display()), error);
    let file = File::open(path).map_err(failed)?;
    let mut reader = Reader::new(&file).map_err(failed)?;
    let mut loading: Option<Loading> = None;
    let (mut at, mut sequence, mut seal) = (0, 0, 0);
    loop {
        let (header, payload) = match reader.at(at).map_err(failed)? {
            Found::Frame(header, payload) => (header, payload),
            Found::Torn(_) => return Err(damaged(path, at, "the checksum of a frame is wrong")),
            Found::Nothing => return Err(damaged(path, at, "a frame is missing or its header is wrong")),
        };
        let id = loading.as_ref().map_or(header.id, |loading| loading.id);
        if (header.id, header.sequence, header.previous) != (id, sequence, seal) {
            return Err(damaged(path, at, "a frame stands in the wrong place"));
        }
        let malformed = |error: record::Malformed| damaged(path, at, error);
        match (header.kind, &mut loading) {
            (Kind::Head, None) => {
                loading = Some(Loading { id, head: record::head(payload).map_err(malformed)?, ..Loading::default() });
            }
            (Kind::Keys, Some(loading)) => loading.add(payload).map_err(malformed)?,
            (Kind::End, Some(loading)) => {
                let end = record::end(payload).map_err(malformed)?;
                loading.finish();
                if end != (loading.keys.len() as u64, loading.versions) {
                    return Err(damaged(path, at, "it does not hold as many keys as it says"));
                }
                let loading = std::mem::take(loading);
                return Ok(Loaded { id, head: loading.head, keys: loading.keys.into_iter().collect() });
            }
            _ => return Err(damaged(path, at, "a frame stands in the wrong place")),
        }
        (sequence, seal) = (sequence + 1, header.seal);
        at += header.extent();
    }
}

#[derive(Default)]
struct Loading {
    id: StoreId,
    head: Head,
    keys: Vec<(Arc<str>, Chain)>,
    /// The key whose versions are being read.
    open: Option<(Arc<str>, Chain)>,
    versions: u64,
}

impl Loading {
    fn add(&mut self, payload: &[u8]) -> Result<(), record::Malformed> {
        for version in record::versions(payload) {
            let (key, version) = version?;
            self.versions += 1;
            match &mut self.open {
                Some((open, chain)) if **open == *key => {
                    if chain.last().modified >= version.modified {
                        return Err(record::Malformed);
                    }
                    chain.push(version);
                }
                Some((open, _)) if **open > *key => return Err(record::Malformed),
                open => self.keys.extend(open.replace((key.into(), Chain::new(version)))),
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.keys.extend(self.open.take());
    }
}
