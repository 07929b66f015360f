//! A pack in a repository, read where it lies: an id to an offset by the index beside it, an offset to an object.
//!
//! Nothing of it is held in memory but 256 numbers: a repository that nobody asks costs nothing.
//!
//! Specification: <https://git-scm.com/docs/gitformat-pack>.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use super::{
    header::{self, Base},
    read,
};
use crate::{
    Error,
    id::{Format, Id},
};

/// Where the ids begin in an index: magic, version and 256 counts stand before them.
const IDS: u64 = 8 + 1024;
/// Ids that are read at once when one is looked for.
const WINDOW: u32 = 64;

/// A pack and its index, both open.
#[derive(Debug)]
pub(crate) struct Stored {
    pack: File,
    index: File,
    format: Format,
    /// How many ids there are whose first byte is at most this.
    fan: Box<[u32; 256]>,
    /// Bytes of the pack.
    length: u64,
}

/// An object where it stands, as it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Where its deflated bytes begin.
    pub content: u64,
    /// Inflated: for one that is built from another, of the instructions.
    pub size: u64,
    /// What it is built from.
    pub base: Base,
}

fn broken(what: &str) -> Error {
    Error::invalid(format!("a damaged index of a pack: {what}"))
}

impl Stored {
    /// Opens `pack-….idx` and the pack beside it.
    pub fn open(index: &Path, format: Format) -> Result<Self, Error> {
        let (pack, index) = (File::open(index.with_extension("pack"))?, File::open(index)?);
        let mut head = [0; IDS as usize];
        index.read_exact_at(&mut head, 0)?;
        if head[..8] != *b"\xfftOc\0\0\0\x02" {
            return Err(broken("it is not of version 2"));
        }
        let mut fan = Box::new([0; 256]);
        for (count, four) in fan.iter_mut().zip(head[8..].chunks_exact(4)) {
            *count = u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
        }
        if !fan.is_sorted() {
            return Err(broken("its counts do not rise"));
        }
        let least = IDS + u64::from(fan[255]) * (format.length() as u64 + 8) + 2 * format.length() as u64;
        if index.metadata()?.len() < least {
            return Err(broken("it ends early"));
        }
        let length = pack.metadata()?.len();
        Ok(Self { pack, index, format, fan, length })
    }

    /// How many objects there are.
    pub fn count(&self) -> u32 {
        self.fan[255]
    }

    /// Bytes of the pack.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The ids from one place of the index on.
    fn ids(&self, from: u32, count: u32) -> Result<Vec<u8>, Error> {
        let width = self.format.length();
        let mut ids = vec![0; count as usize * width];
        self.index.read_exact_at(&mut ids, IDS + u64::from(from) * width as u64)?;
        Ok(ids)
    }

    /// All ids, a piece at a time.
    pub fn each(&self, mut take: impl FnMut(Id)) -> Result<(), Error> {
        let mut from = 0;
        while from < self.count() {
            let count = (self.count() - from).min(4096);
            self.ids(from, count)?.chunks_exact(self.format.length()).filter_map(Id::new).for_each(&mut take);
            from += count;
        }
        Ok(())
    }

    /// Where an object begins; none where it is not in this pack. Ids are spread evenly, so that the first guess is near.
    pub fn find(&self, id: &Id) -> Result<Option<u64>, Error> {
        if id.format() != self.format {
            return Ok(None);
        }
        let (bytes, width) = (id.bytes(), self.format.length());
        let first = usize::from(bytes[0]);
        let (mut low, mut high) = (if first == 0 { 0 } else { self.fan[first - 1] }, self.fan[first]);
        let part = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        let mut turns = 0;
        while low < high {
            // Ids that somebody chose are not spread: after some turns halves are taken.
            let within =
                if turns < 8 { (u64::from(high - low) * u64::from(part)) >> 32 } else { u64::from(high - low) / 2 };
            turns += 1;
            let from = (low + within as u32).saturating_sub(WINDOW / 2).max(low);
            let count = WINDOW.min(high - from);
            let ids = self.ids(from, count)?;
            let mut rows = ids.chunks_exact(width);
            if let Some(at) = rows.position(|row| row == bytes) {
                return self.offset(from + at as u32).map(Some);
            }
            if bytes < &ids[..width] {
                high = from;
            } else if bytes > &ids[ids.len() - width..] {
                low = from + count;
            } else {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn offset(&self, at: u32) -> Result<u64, Error> {
        let offsets = IDS + u64::from(self.count()) * (self.format.length() as u64 + 4);
        let mut four = [0; 4];
        self.index.read_exact_at(&mut four, offsets + 4 * u64::from(at))?;
        self.far(u32::from_be_bytes(four))
    }

    /// An offset below 2 GiB stands for itself, others in a second table.
    fn far(&self, offset: u32) -> Result<u64, Error> {
        if offset >> 31 == 0 {
            return Ok(offset.into());
        }
        let table = IDS + u64::from(self.count()) * (self.format.length() as u64 + 8);
        let mut eight = [0; 8];
        self.index.read_exact_at(&mut eight, table + 8 * u64::from(offset & !(1 << 31)))?;
        Ok(u64::from_be_bytes(eight))
    }

    /// Where objects begin, in the order of the file, and where the last one ends.
    pub fn bounds(&self) -> Result<Vec<u64>, Error> {
        let offsets = IDS + u64::from(self.count()) * (self.format.length() as u64 + 4);
        let mut raw = vec![0; self.count() as usize * 4];
        self.index.read_exact_at(&mut raw, offsets)?;
        let numbers = raw.chunks_exact(4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
        let mut bounds = numbers.map(|number| self.far(number)).collect::<Result<Vec<_>, _>>()?;
        bounds.push(self.length.saturating_sub(self.format.length() as u64));
        bounds.sort_unstable();
        Ok(bounds)
    }

    /// What stands at an offset.
    pub fn at(&self, offset: u64) -> Result<Standing, Error> {
        let mut head = [0; 64];
        let have = self.pack.read_at(&mut head, offset)?;
        let mut rest = &head[..have];
        let damaged = || Error::invalid(format!("a damaged object in a pack, at {offset}"));
        let next = || {
            let (first, after) = rest.split_first().ok_or_else(damaged)?;
            rest = after;
            Ok(*first)
        };
        let (size, base) = header::read(offset, self.format, next)?;
        Ok(Standing { content: offset + (have - rest.len()) as u64, size, base })
    }

    /// Inflates what stands somewhere; no more than `limit` bytes.
    pub fn inflate(&self, standing: &Standing, limit: u64) -> Result<Vec<u8>, Error> {
        if standing.size > limit {
            return Err(Error::TooLarge { what: "an object", limit });
        }
        let mut content = Vec::with_capacity((standing.size as usize).min(1 << 20));
        self.stream(standing, &mut |piece| {
            content.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(content)
    }

    /// Inflates what stands somewhere, piece by piece.
    pub fn stream(&self, standing: &Standing, to: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        read::inflate(&self.pack, standing.content, standing.size, to)
    }

    /// Bytes of the file as they are.
    pub fn raw(&self, from: u64, to: u64, take: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut piece = vec![0; to.saturating_sub(from).min(64 << 10) as usize];
        let mut at = from;
        while at < to {
            let count = (to - at).min(piece.len() as u64) as usize;
            self.pack.read_exact_at(&mut piece[..count], at)?;
            take(&piece[..count])?;
            at += count as u64;
        }
        Ok(())
    }

    /// The length of what instructions make, which they begin with.
    pub fn made(&self, standing: &Standing) -> Result<u64, Error> {
        let mut head = Vec::new();
        let result = self.stream(standing, &mut |piece| {
            head.extend_from_slice(&piece[..piece.len().min(32)]);
            // Enough is known: the rest need not be inflated.
            Err(Error::invalid("enough"))
        });
        if head.is_empty() {
            result?;
        }
        super::delta::made(&head)
    }
}
