//! Flushing memory into segments, and merging small segments into larger ones.
//!
//! ```text
//!   recent ──▶ frozen ──▶ 1-1.seg  2-2.seg  3-3.seg  4-4.seg ──▶ 1-4.seg   ...
//! ```
//!
//! A flush makes the log superfluous up to the file that was begun with it. Chunks of a single flush are short; merging
//! four at a time makes them longer, so that each sample is written once for each fourfold growth. Segments of different
//! blocks are not merged.

use std::{path::Path, sync::Arc};

use crate::{
    chunk::{self, Decoder},
    column::Columns,
    error::{Error, Result},
    file::Window,
    recent::Frozen,
    segment::{self, Name, Segment, Summary, Writer},
};

/// How many segments become one.
const TOGETHER: usize = 4;

/// Samples on their way to a segment, with what the segment says of them.
#[derive(Clone, Debug)]
pub struct Flush {
    /// The samples.
    pub frozen: Arc<Frozen>,
    /// Exemplars, metadata and deletions.
    pub rest: Arc<Vec<u8>>,
    /// Its number.
    pub number: u64,
    /// The log up to this file is not needed afterwards.
    pub through: u64,
}

/// Writes the segments of a flush.
pub fn write(dir: &Path, flush: &Flush) -> Result<Vec<Segment>> {
    let frozen = &flush.frozen;
    let mut segments = Vec::new();
    let name = |late| Name { late, first: flush.number, last: flush.number };
    let mut columns = Columns::default();
    // The other segment tells that the log is superfluous, so that it comes last.
    if !frozen.late.is_empty() {
        let mut output = Output::create(dir, name(true), frozen.late_span.min)?;
        for (slot, samples) in &frozen.late {
            columns.clear();
            for (time, value) in samples {
                columns.push(*time, value.clone());
            }
            output.put(*slot, &columns)?;
        }
        segments.push(output.finish(dir, frozen.late_span.max, 0, &[])?);
    }
    let (min, max) = if frozen.span.is_empty() { (0, 0) } else { (frozen.span.min, frozen.span.max) };
    let mut output = Output::create(dir, name(false), min)?;
    for slot in frozen.slots() {
        columns.clear();
        frozen.read(slot, i64::MIN, i64::MAX, &mut columns);
        output.put(slot, &columns)?;
    }
    segments.push(output.finish(dir, max, flush.through, &flush.rest)?);
    Ok(segments)
}

struct Output {
    writer: Writer,
    name: Name,
    base: i64,
    samples: u64,
    scratch: Vec<u8>,
}

impl Output {
    fn create(dir: &Path, name: Name, base: i64) -> Result<Self> {
        Ok(Self { writer: Writer::create(dir, name)?, name, base, samples: 0, scratch: Vec::new() })
    }

    fn put(&mut self, slot: u32, columns: &Columns) -> Result<()> {
        self.samples += columns.len() as u64;
        let writer = &mut self.writer;
        chunk::write_columns(columns, self.base, &mut self.scratch, |_, last, chunk| writer.put(slot, last, chunk))
    }

    fn finish(self, dir: &Path, max: i64, log_through: u64, rest: &[u8]) -> Result<Segment> {
        let summary = Summary { min: self.base, max, log_through, samples: self.samples };
        self.writer.finish(summary, rest)?;
        Segment::open(dir, self.name, |_, _| {})
    }
}

/// What the choice of segments to merge depends on.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its name.
    pub name: Name,
    /// Bytes of its file.
    pub size: u64,
    /// The first block that its samples belong to.
    pub first: i64,
    /// The last block that its samples belong to.
    pub last: i64,
}

impl Candidate {
    /// Of a segment, with blocks of `range` milliseconds.
    pub fn of(segment: &Segment, range: i64) -> Self {
        let summary = segment.summary;
        let (first, last) = (summary.min.div_euclid(range), summary.max.div_euclid(range));
        Self { name: segment.name, size: segment.size(), first, last }
    }

    fn level(&self) -> u32 {
        (self.name.last - self.name.first + 1).ilog2() / TOGETHER.ilog2()
    }
}

/// Segments that are to become one: neighbours of the same level. `candidates` are in order of their flushes.
pub fn choose(candidates: &[Candidate]) -> Option<Vec<Name>> {
    for late in [false, true] {
        let kind: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.name.late == late).collect();
        let fits = |group: &&[&Candidate]| {
            let size: u64 = group.iter().map(|candidate| candidate.size).sum();
            let level = group[0].level();
            let alike = group.iter().all(|candidate| candidate.level() == level);
            let within = late
                || group.iter().all(|candidate| (candidate.first, candidate.last) == (group[0].first, group[0].first));
            alike && within && size <= segment::BYTES / 2
        };
        // The newest first: they are small, and queries touch them most.
        if let Some(group) = kind.windows(TOGETHER).rev().find(fits) {
            return Some(group.iter().map(|candidate| candidate.name).collect());
        }
    }
    None
}

/// Merges segments into one; the last one's word on the log and on the rest of the head holds.
pub fn merge(dir: &Path, segments: &[Arc<Segment>]) -> Result<Segment> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Err(Error::Closed) };
    let name = Name { late: first.name.late, first: first.name.first, last: last.name.last };
    let filled = || segments.iter().filter(|segment| segment.summary.samples > 0);
    let base = filled().map(|segment| segment.summary.min).min().unwrap_or(0);
    let max = filled().map(|segment| segment.summary.max).max().unwrap_or(0);
    let through = segments.iter().map(|segment| segment.summary.log_through).max().unwrap_or(0);
    let mut output = Output::create(dir, name, base)?;
    let mut inputs: Vec<(&Segment, usize, Window)> =
        segments.iter().map(|segment| (&**segment, 0, Window::default())).collect();
    let (mut columns, mut decoder) = (Columns::default(), Decoder::default());
    while let Some(slot) = inputs.iter().filter_map(|(segment, at, _)| segment.slots().get(*at).copied()).min() {
        columns.clear();
        for (segment, at, window) in &mut inputs {
            while segment.slots().get(*at) == Some(&slot) {
                let place = segment.place(*at);
                let bytes = window.get(&segment.source, place.offset, place.length as usize)?;
                let read = decoder.read(bytes, segment.summary.min, i64::MIN, i64::MAX, &mut columns);
                if let Err(torn) = read {
                    let damaged = Error::damaged(segment.source.path())(torn);
                    tracing::warn!("{damaged}; a chunk at byte {} is lost", place.offset);
                }
                *at += 1;
            }
        }
        columns.arrange();
        output.put(slot, &columns)?;
    }
    output.finish(dir, max, through, &last.rest()?)
}

#[cfg(test)]
mod tests;
