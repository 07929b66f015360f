//! Which blocks become one, which are dropped, and how they are merged.
//!
//! ```text
//!   head ──▶ 2 h  2 h  2 h ──▶ 6 h  6 h  6 h ──▶ 18 h ...
//! ```
//!
//! As in Prometheus: blocks that overlap come first; then those that fill a larger range together, or that lie before
//! the newest block. The newest block is left alone, so that what is just being copied away stays what it is.

use std::{cmp::Ordering, path::Path, sync::Arc};

use crate::{
    block::{Block, index::Index, meta::Compaction, write::BlockWriter},
    chunk::Decoder,
    column::Columns,
    deletion,
    error::{Error, Result},
    file::Window,
    labels::Labels,
};

/// What decisions on a block depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Start of its range.
    pub min: i64,
    /// End of its range, not included.
    pub max: i64,
    /// Bytes on disk.
    pub size: u64,
}

impl Extent {
    /// Of a block.
    pub fn of(block: &Block) -> Self {
        Self { min: block.meta.min_time, max: block.meta.max_time, size: block.size() }
    }
}

/// The blocks that are to become one, by their places. `blocks` are in order of their starts; `ranges` ascend.
pub fn choose(blocks: &[Extent], ranges: &[i64]) -> Option<Vec<usize>> {
    if let Some(group) = overlapping(blocks) {
        return Some(group);
    }
    let newest = blocks.last()?.min;
    let older = &blocks[..blocks.len() - 1];
    for range in ranges.iter().skip(1) {
        let mut from = 0;
        while from < older.len() {
            let window = older[from].min.div_euclid(*range);
            let start = window.saturating_mul(*range);
            let end = start.saturating_add(*range);
            let mut to = from;
            while to < older.len() && older[to].min >= start && older[to].max <= end {
                to += 1;
            }
            if to - from > 1 {
                let filled = older[to - 1].max - older[from].min == *range;
                if filled || end <= newest {
                    return Some((from..to).collect());
                }
            }
            from = to.max(from + 1);
        }
    }
    None
}

fn overlapping(blocks: &[Extent]) -> Option<Vec<usize>> {
    let mut from = 0;
    while from < blocks.len() {
        let (mut to, mut end) = (from + 1, blocks[from].max);
        while to < blocks.len() && blocks[to].min < end {
            end = end.max(blocks[to].max);
            to += 1;
        }
        if to - from > 1 {
            return Some((from..to).collect());
        }
        from = to;
    }
    None
}

/// The blocks that are not kept, by their places: those older than `retention` milliseconds, counted from the end of the
/// newest, and the oldest ones while everything together, with `beside` bytes that are not of blocks, is larger than
/// `bytes`. Zero means that there is no such bound.
pub fn expired(blocks: &[Extent], retention: i64, bytes: u64, beside: u64) -> Vec<usize> {
    let newest = blocks.iter().map(|block| block.max).max().unwrap_or(i64::MIN);
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(blocks[*at].max));
    let mut total = beside;
    let mut gone = Vec::new();
    for at in order {
        let block = blocks[at];
        total = total.saturating_add(block.size);
        let old = retention > 0 && newest.saturating_sub(block.max) >= retention;
        if old || (bytes > 0 && total > bytes) {
            gone.push(at);
        }
    }
    gone.sort_unstable();
    gone
}

/// A block's series in order.
struct Input<'a> {
    block: &'a Block,
    index: Arc<Index>,
    next: u32,
    labels: Option<Labels>,
    window: Window,
}

impl Input<'_> {
    fn advance(&mut self) -> Result<()> {
        self.next += 1;
        self.labels = if (self.next as usize) < self.index.len() { Some(self.index.labels(self.next)?) } else { None };
        Ok(())
    }
}

/// Merges blocks into a new one, without what was deleted; none where nothing is left.
pub fn merge(dir: &Path, blocks: &[Arc<Block>]) -> Result<Option<Block>> {
    let Some(min) = blocks.iter().map(|block| block.meta.min_time).min() else { return Ok(None) };
    let max = blocks.iter().map(|block| block.meta.max_time).max().unwrap_or(min);
    let mut inputs = Vec::new();
    for block in blocks {
        let index = block.index()?;
        let labels = if index.len() > 0 { Some(index.labels(0)?) } else { None };
        inputs.push(Input { block, index, next: 0, labels, window: Window::default() });
    }
    let mut writer = BlockWriter::create(dir, min)?;
    let (mut columns, mut part, mut decoder) = (Columns::default(), Columns::default(), Decoder::default());
    while let Some(labels) = inputs.iter().filter_map(|input| input.labels.as_ref()).min().cloned() {
        columns.clear();
        for input in &mut inputs {
            if input.labels.as_ref().map(|have| have.cmp(&labels)) != Some(Ordering::Equal) {
                continue;
            }
            part.clear();
            for chunk in input.index.chunks(input.next)? {
                let bytes = input.window.get(input.block.source(), chunk.offset, chunk.length as usize)?;
                let read = decoder.read(bytes, input.block.base(), i64::MIN, i64::MAX, &mut part);
                if let Err(torn) = read {
                    let damaged = Error::damaged(input.block.source().path())(torn);
                    tracing::warn!("{damaged}; a chunk at byte {} is lost", chunk.offset);
                }
            }
            if let Some(ranges) = input.block.deleted(input.next) {
                part.remove(|time| deletion::covers(&ranges, time));
            }
            columns.times.append(&mut part.times);
            columns.values.append(&mut part.values);
            columns.histograms.append(&mut part.histograms);
            input.advance()?;
        }
        columns.arrange();
        writer.put(labels.iter(), &columns)?;
    }
    let mut sources: Vec<String> =
        blocks.iter().flat_map(|block| block.meta.compaction.sources.iter().cloned()).collect();
    sources.sort_unstable();
    sources.dedup();
    let level = blocks.iter().map(|block| block.meta.compaction.level).max().unwrap_or(0) + 1;
    let boundary = blocks.iter().filter_map(|block| block.meta.boundary).max();
    writer.finish((min, max), boundary, Compaction { level, sources })
}

#[cfg(test)]
mod tests;
