//! Blocks: samples of some hours or days that do not change any more, with an index of their own.
//!
//! ```text
//!   01JQ…/data        magic │ chunks by series │ index │ footer
//!   01JQ…/meta.json   range of time, sizes, what it was made of
//!   01JQ…/deleted     what was deleted of which series, where anything was
//! ```
//!
//! A block is complete when its directory has its name, an [`Ulid`]. The index is read whole when a query first needs it
//! and forgotten when none did for a while.
//!
//! In reading order:
//!
//! - `ulid`: names that sort by time
//! - `meta`: what a block says of itself
//! - `index`: from labels to series to chunks
//! - `write`: how a block is made

pub mod index;
pub mod meta;
pub mod ulid;
pub mod write;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use hashbrown::HashMap;

use crate::{
    bytes::{Reader, Torn},
    deletion,
    error::{Error, Result},
    file::{self, Source},
    frame::{self, Piece, Pieces},
    record::{self, kind},
};
use index::Index;
use meta::Meta;

const MAGIC: &[u8; 8] = b"mdgblk01";
const FOOTER: usize = 28;

type Ranges = HashMap<u32, Arc<[(i64, i64)]>, foldhash::fast::RandomState>;

/// A block on disk.
#[derive(Debug)]
pub struct Block {
    dir: PathBuf,
    /// What it says of itself.
    pub meta: Meta,
    source: Source,
    index: Mutex<Option<(Arc<Index>, Instant)>>,
    deleted: RwLock<Ranges>,
    size: u64,
}

impl Block {
    /// Opens the block in a directory.
    pub fn open(dir: &Path) -> Result<Self> {
        let meta = Meta::read(&dir.join("meta.json"))?;
        let source = Source::open(&dir.join("data"))?;
        footer(&source)?;
        let deleted = read_deleted(&dir.join("deleted"))?;
        let mut size = 0;
        for name in file::names(dir)? {
            size += fs::metadata(dir.join(name)).map_or(0, |metadata| metadata.len());
        }
        Ok(Self { dir: dir.to_owned(), meta, source, index: Mutex::default(), deleted: RwLock::new(deleted), size })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its file of chunks.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Times in its chunks count from here.
    pub fn base(&self) -> i64 {
        self.meta.base
    }

    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its index, read if it is not in memory.
    pub fn index(&self) -> Result<Arc<Index>> {
        let mut held = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((index, used)) = &mut *held {
            *used = Instant::now();
            return Ok(index.clone());
        }
        let (offset, length, checksum) = footer(&self.source)?;
        let bytes = self.source.read(offset, length)?;
        if crc32fast::hash(&bytes) != checksum {
            return Err(Error::damaged(self.source.path())(Torn("the checksum of the index does not fit")));
        }
        let index = Index::read(&bytes, offset).map_err(Error::damaged(self.source.path()))?;
        let index = Arc::new(index);
        *held = Some((index.clone(), Instant::now()));
        Ok(index)
    }

    /// Forgets the index if nobody asked for it for so long.
    pub fn rest(&self, unused: Duration) {
        let mut held = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|(_, used)| used.elapsed() > unused) {
            *held = None;
        }
    }

    /// What was deleted of a series.
    pub fn deleted(&self, series: u32) -> Option<Arc<[(i64, i64)]>> {
        self.deleted.read().unwrap_or_else(PoisonError::into_inner).get(&series).cloned()
    }

    /// How many series something was deleted of.
    pub fn deletions(&self) -> usize {
        self.deleted.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Deletes a range of time of series; it is on disk afterwards.
    pub fn delete(&self, series: &[u32], range: (i64, i64)) -> Result<()> {
        let mut held = self.deleted.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = held.clone();
        for number in series {
            let mut ranges = changed.get(number).map_or_else(Vec::new, |ranges| ranges.to_vec());
            deletion::add(&mut ranges, range);
            changed.insert(*number, ranges.into());
        }
        let all = changed.iter().flat_map(|(number, ranges)| ranges.iter().map(|range| (*number, *range)));
        let all: Vec<(u32, (i64, i64))> = all.collect();
        let mut bytes = Vec::new();
        for piece in all.chunks(1 << 16) {
            frame::put(&mut bytes, kind::DELETED, |out| record::write_deleted(piece.iter().copied(), out));
        }
        file::replace(&self.dir.join("deleted"), &bytes)?;
        *held = changed;
        Ok(())
    }

    /// Removes its files; queries that hold it can still read it.
    pub fn remove(&self) -> Result<()> {
        remove_dir(&self.dir)
    }
}

/// Removes the directory of a block; once begun, nothing takes what is left for a block.
pub fn remove_dir(dir: &Path) -> Result<()> {
    let away = dir.with_added_extension(file::UNFINISHED);
    let renamed = fs::rename(dir, &away);
    renamed.and_then(|()| fs::remove_dir_all(&away)).map_err(Error::io(|| format!("remove block {}", dir.display())))
}

/// Place, length and checksum of the index.
fn footer(source: &Source) -> Result<(u64, usize, u32)> {
    let damaged = |torn: Torn| Error::damaged(source.path())(torn);
    let at = source.length().checked_sub(FOOTER as u64).ok_or(damaged(Torn("it ends early")))?;
    let bytes = source.read(at, FOOTER)?;
    let read = || -> std::result::Result<_, Torn> {
        let mut reader = Reader(&bytes);
        let (offset, length, checksum, own) = (reader.u64()?, reader.u64()?, reader.u32()?, reader.u32()?);
        if own != crc32fast::hash(&bytes[..20]) || bytes[24..] != MAGIC[..4] {
            return Err(Torn("the checksum of the footer does not fit"));
        }
        Ok((offset, usize::try_from(length).map_err(|_| Torn("the index is too long"))?, checksum))
    };
    read().map_err(damaged)
}

fn read_deleted(path: &Path) -> Result<Ranges> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ranges::default()),
        read => read.map_err(Error::io(|| format!("read {}", path.display())))?,
    };
    let mut all: HashMap<u32, Vec<(i64, i64)>, foldhash::fast::RandomState> = HashMap::default();
    for piece in Pieces::of(&bytes) {
        let read = match piece {
            Piece::Record { payload, .. } => record::read_deleted(&mut Reader(payload), |series, range| {
                deletion::add(all.entry(series).or_default(), range);
            }),
            Piece::Damage { .. } => Err(Torn("a record is damaged")),
        };
        // Deleted samples that come back are better than a block that is not there.
        if let Err(torn) = read {
            tracing::warn!("{} is damaged: {torn}; some deleted samples may be there again", path.display());
        }
    }
    Ok(all.into_iter().map(|(series, ranges)| (series, ranges.into())).collect())
}
