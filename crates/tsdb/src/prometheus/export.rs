//! Writing blocks of Prometheus.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    checksum,
    chunk::{self, FLOATS},
    index::{ChunkRef, IndexWriter},
};
use crate::{
    block::ulid::Ulid,
    bytes::put_varint,
    column::Columns,
    db::Db,
    error::{Error, Result},
    file::{self, Sink},
    select::{Cursor, Selection},
};

const MAGIC: [u8; 8] = [0x85, 0xBD, 0x40, 0xDD, 1, 0, 0, 0];
/// How the file of deletions begins.
const TOMBSTONES: [u8; 5] = [0x01, 0x30, 0xBA, 0x30, 1];
/// Bytes of a file of chunks, about.
const FILE: u64 = 512 << 20;

impl Db {
    /// Writes blocks of Prometheus with all samples from `min` to `max`, both included, into a directory; returns theirs.
    /// Each covers as much time as the smallest block here.
    pub fn export(&self, dir: &Path, min: i64, max: i64) -> Result<Vec<PathBuf>> {
        file::make_dir(dir)?;
        let block = self.shared().options.block_millis();
        let sizes = self.sizes();
        // Only ranges that something is known to be in.
        let mut spans: Vec<(i64, i64)> = self.block_list().iter().map(|block| (block.min, block.max - 1)).collect();
        {
            let head = self.head();
            for span in [head.span(), head.late_span()].into_iter().filter(|span| !span.is_empty()) {
                spans.push((span.min, span.max));
            }
        }
        let (min, max) = (min.max(sizes.min), max.min(sizes.max));
        let mut made = Vec::new();
        let mut windows: BTreeSet<i64> = BTreeSet::new();
        for (from, to) in spans {
            let (from, to) = (from.max(min), to.min(max));
            if from <= to {
                windows.extend(from.div_euclid(block)..=to.div_euclid(block));
            }
        }
        for window in windows {
            let start = window.saturating_mul(block);
            let end = start.saturating_add(block);
            let selection = self.select_sorted(&[], start.max(min), (end - 1).min(max))?;
            made.extend(write(dir, &selection, (start, end))?);
        }
        Ok(made)
    }
}

fn write(dir: &Path, selection: &Selection, range: (i64, i64)) -> Result<Option<PathBuf>> {
    let ulid = Ulid::new().to_string();
    let unfinished = dir.join(&ulid).with_added_extension(file::UNFINISHED);
    file::make_dir(&unfinished.join("chunks"))?;
    let mut strings: BTreeSet<String> = BTreeSet::new();
    for nth in 0..selection.len() {
        for text in selection.labels(nth).iter().flat_map(|(name, value)| [name, value]) {
            if !strings.contains(text) {
                strings.insert(text.to_owned());
            }
        }
    }
    let mut index = IndexWriter::new(strings);
    let damaged = |reason: crate::bytes::Torn| Error::Foreign { block: dir.join(&ulid), reason: reason.to_string() };
    let mut number = 1u64;
    let mut sink = begin(&unfinished, number)?;
    let (mut cursor, mut columns) = (Cursor::default(), Columns::default());
    let (mut floats, mut histograms, mut series, mut chunks) = (0u64, 0u64, 0u64, 0u64);
    for nth in 0..selection.len() {
        selection.read(nth, &mut cursor, &mut columns)?;
        if columns.is_empty() {
            continue;
        }
        let mut places = Vec::new();
        for written in chunk::write(&columns) {
            if sink.written() > FILE {
                sink.finish()?;
                number += 1;
                sink = begin(&unfinished, number)?;
            }
            places.push(ChunkRef { min: written.min, max: written.max, place: (number - 1) << 32 | sink.written() });
            let mut head = Vec::new();
            put_varint(&mut head, written.bytes.len() as u64);
            head.push(written.encoding);
            sink.put(&head)?;
            sink.put(&written.bytes)?;
            sink.put(&checksum(&[&[written.encoding], &written.bytes]).to_be_bytes())?;
            let samples = u64::from(u16::from_be_bytes([written.bytes[0], written.bytes[1]]));
            *(if written.encoding == FLOATS { &mut floats } else { &mut histograms }) += samples;
        }
        index.put(selection.labels(nth), &places).map_err(damaged)?;
        series += 1;
        chunks += places.len() as u64;
    }
    sink.finish()?;
    if series == 0 {
        let removed = std::fs::remove_dir_all(&unfinished);
        removed.map_err(Error::io(|| format!("remove {}", unfinished.display())))?;
        return Ok(None);
    }
    file::replace(&unfinished.join("index"), &index.finish())?;
    // Nothing is deleted, but Prometheus cannot make a snapshot of a block without this file.
    let none = [&TOMBSTONES[..], &checksum(&[]).to_be_bytes()].concat();
    file::replace(&unfinished.join("tombstones"), &none)?;
    let meta = json!({
        "ulid": ulid,
        "minTime": range.0,
        "maxTime": range.1,
        "stats": {
            "numSamples": floats + histograms,
            "numFloatSamples": floats,
            "numHistogramSamples": histograms,
            "numSeries": series,
            "numChunks": chunks,
        },
        "compaction": { "level": 1, "sources": [ulid] },
        "version": 1,
    });
    file::replace(&unfinished.join("meta.json"), format!("{meta:#}\n").as_bytes())?;
    let named = dir.join(&ulid);
    std::fs::rename(&unfinished, &named).map_err(Error::io(|| format!("name block {}", named.display())))?;
    file::sync_dir(dir)?;
    Ok(Some(named))
}

fn begin(block: &Path, number: u64) -> Result<Sink> {
    let mut sink = Sink::create(&block.join("chunks").join(format!("{number:06}")))?;
    sink.put(&MAGIC)?;
    Ok(sink)
}
