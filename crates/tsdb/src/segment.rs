//! Segments: what the head wrote to disk so far, so that the log stays short.
//!
//! ```text
//!   magic │ chunks by slot │ index: slots, lengths, last times │ rest of the head │ footer
//! ```
//!
//! A segment is named after the flushes that it holds, `FIRST-LAST.seg`; small ones are merged into larger ones. Samples
//! that came behind the last of their series are in segments of their own, `.late`, since blocks do not replace them at
//! the same time as others. The rest of the head (exemplars, metadata, deletions) is in the newest segment. A segment
//! says which files of the log it makes superfluous.

use std::path::{Path, PathBuf};

use crate::{
    bytes::{Reader, Torn, put_varint},
    error::{Error, Result},
    file::{Sink, Source},
    ints,
};

const MAGIC: &[u8; 8] = b"mdgseg01";
const FOOTER: usize = 72;

/// Bytes of the chunks of a segment at most: places in it are 32-bit numbers.
pub const BYTES: u64 = 1 << 31;

/// What a segment is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Whether it holds samples behind the last of their series.
    pub late: bool,
    /// The first flush in it.
    pub first: u64,
    /// The last flush in it.
    pub last: u64,
}

impl Name {
    /// The file.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{:010}-{:010}.{}", self.first, self.last, if self.late { "late" } else { "seg" }))
    }

    /// The reverse of [`Self::path`].
    pub fn parse(name: &str) -> Option<Self> {
        let (numbers, extension) = name.split_once('.')?;
        let late = match extension {
            "seg" => false,
            "late" => true,
            _ => return None,
        };
        let (first, last) = numbers.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(Self { late, first, last })
    }

    /// Whether all that is in `other` is also in this one.
    pub fn covers(self, other: Self) -> bool {
        self.late == other.late && self.first <= other.first && self.last >= other.last
    }
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The first time in it; times in its chunks count from here.
    pub min: i64,
    /// The last time in it.
    pub max: i64,
    /// Files of the log up to this number are not needed any more.
    pub log_through: u64,
    /// How many samples there are.
    pub samples: u64,
}

/// A segment that is being written. Chunks come by ascending slot.
#[derive(Debug)]
pub struct Writer {
    sink: Sink,
    slots: Vec<u32>,
    lengths: Vec<u64>,
    lasts: Vec<i64>,
}

impl Writer {
    /// Starts a segment.
    pub fn create(dir: &Path, name: Name) -> Result<Self> {
        let mut sink = Sink::create(&name.path(dir))?;
        sink.put(MAGIC)?;
        Ok(Self { sink, slots: Vec::new(), lengths: Vec::new(), lasts: Vec::new() })
    }

    /// Appends a chunk of a slot; `last` is the time of its last sample.
    pub fn put(&mut self, slot: u32, last: i64, chunk: &[u8]) -> Result<()> {
        self.slots.push(slot);
        self.lengths.push(chunk.len() as u64);
        self.lasts.push(last);
        self.sink.put(chunk)
    }

    /// Writes index and footer, and all to disk.
    pub fn finish(mut self, summary: Summary, rest: &[u8]) -> Result<()> {
        let mut index = Vec::new();
        put_varint(&mut index, self.slots.len() as u64);
        let mut before = 0;
        let gaps: Vec<u64> =
            self.slots.iter().map(|slot| u64::from(slot - std::mem::replace(&mut before, *slot))).collect();
        ints::pack(&gaps, &mut index);
        ints::pack(&self.lengths, &mut index);
        let ages: Vec<u64> = self.lasts.iter().map(|last| summary.max.wrapping_sub(*last) as u64).collect();
        ints::pack(&ages, &mut index);
        let index_at = self.sink.written();
        self.sink.put(&index)?;
        self.sink.put(rest)?;
        let mut footer = Vec::with_capacity(FOOTER);
        let words = [
            index_at,
            index.len() as u64,
            rest.len() as u64,
            summary.min as u64,
            summary.max as u64,
            summary.log_through,
            summary.samples,
        ];
        footer.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        footer.extend_from_slice(&crc32fast::hash(&index).to_le_bytes());
        footer.extend_from_slice(&crc32fast::hash(rest).to_le_bytes());
        let checksum = crc32fast::hash(&footer);
        footer.extend_from_slice(&checksum.to_le_bytes());
        footer.extend_from_slice(&MAGIC[..4]);
        self.sink.put(&footer)?;
        self.sink.finish()
    }
}

/// A chunk's place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub length: u32,
}

/// A segment on disk; its index is in memory.
#[derive(Debug)]
pub struct Segment {
    /// What it is called.
    pub name: Name,
    /// What it says of itself.
    pub summary: Summary,
    /// Its file.
    pub source: Source,
    slots: Vec<u32>,
    /// Where each chunk ends, counted behind the magic.
    ends: Vec<u32>,
    rest: (u64, usize, u32),
}

impl Segment {
    /// Opens a segment, and hands out each slot with the last time of each of its chunks.
    pub fn open(dir: &Path, name: Name, mut last: impl FnMut(u32, i64)) -> Result<Self> {
        let source = Source::open(&name.path(dir))?;
        let damaged = |torn: Torn| Error::damaged(source.path())(torn);
        if source.length() < (FOOTER + MAGIC.len()) as u64 {
            return Err(damaged(Torn("it ends early")));
        }
        let footer = source.read(source.length() - FOOTER as u64, FOOTER)?;
        let mut reader = Reader(&footer);
        let mut words = [0u64; 7];
        for word in &mut words {
            *word = reader.u64().map_err(damaged)?;
        }
        let (index_sum, rest_sum) = (reader.u32().map_err(damaged)?, reader.u32().map_err(damaged)?);
        if reader.u32().map_err(damaged)? != crc32fast::hash(&footer[..FOOTER - 8]) {
            return Err(damaged(Torn("the checksum of the footer does not fit")));
        }
        let [index_at, index_length, rest_length, min, max, log_through, samples] = words;
        let summary = Summary { min: min as i64, max: max as i64, log_through, samples };
        let index = source.read(index_at, usize::try_from(index_length).unwrap_or(usize::MAX))?;
        if crc32fast::hash(&index) != index_sum {
            return Err(damaged(Torn("the checksum of the index does not fit")));
        }
        let (slots, ends) = read_index(&index, index_at, summary.max, &mut last).map_err(damaged)?;
        let rest = (index_at + index_length, rest_length as usize, rest_sum);
        Ok(Self { name, summary, source, slots, ends, rest })
    }

    /// The rest of the head as it was when this was written.
    pub fn rest(&self) -> Result<Vec<u8>> {
        let bytes = self.source.read(self.rest.0, self.rest.1)?;
        if crc32fast::hash(&bytes) != self.rest.2 {
            return Err(Error::damaged(self.source.path())(Torn("the checksum of its last part does not fit")));
        }
        Ok(bytes)
    }

    /// The slots of the chunks, ascending; a slot stands once for each of its chunks.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// The place of chunk number `nth`.
    pub fn place(&self, nth: usize) -> Place {
        let start = if nth == 0 { 0 } else { self.ends[nth - 1] };
        Place { offset: u64::from(start) + MAGIC.len() as u64, length: self.ends[nth] - start }
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.source.length()
    }
}

fn read_index(
    index: &[u8],
    index_at: u64,
    max: i64,
    last: &mut impl FnMut(u32, i64),
) -> std::result::Result<(Vec<u32>, Vec<u32>), Torn> {
    let mut reader = Reader(index);
    let count = reader.varint()?;
    // A chunk takes more than ten bytes, so that the file bounds their number.
    if count > index_at / 10 {
        return Err(Torn("it has more chunks than fit"));
    }
    let count = count as usize;
    let mut words = Vec::new();
    for _ in 0..3 {
        ints::unpack(&mut reader, count, &mut words)?;
    }
    let (gaps, rest) = words.split_at(count);
    let (lengths, ages) = rest.split_at(count);
    let (mut slot, mut end) = (0u64, 0u64);
    let (mut slots, mut ends) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for ((gap, length), age) in gaps.iter().zip(lengths).zip(ages) {
        slot = slot.saturating_add(*gap);
        end = end.saturating_add(*length);
        if slot >= u64::from(crate::catalog::SLOTS) || end > index_at {
            return Err(Torn("a chunk lies outside"));
        }
        slots.push(slot as u32);
        ends.push(u32::try_from(end).map_err(|_| Torn("a chunk lies outside"))?);
        last(slot as u32, max.wrapping_sub(*age as i64));
    }
    Ok((slots, ends))
}
