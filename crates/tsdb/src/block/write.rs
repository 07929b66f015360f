//! How a block is made: series come in order of their labels, their chunks go to the file, and the index follows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hashbrown::HashMap;

use super::{
    Block, MAGIC,
    index::Chunk,
    meta::{Compaction, Meta, Stats},
    ulid::Ulid,
};
use crate::{
    bytes::{put_bytes, put_varint, put_zigzag},
    catalog::Full,
    chunk,
    column::Columns,
    error::{Error, Result},
    file::{self, Sink},
    ints,
    recent::Span,
    symbols::Symbols,
};

const ZSTD_LEVEL: i32 = 6;

/// A block that is being made.
#[derive(Debug)]
pub struct BlockWriter {
    dir: PathBuf,
    ulid: Ulid,
    base: i64,
    sink: Sink,
    symbols: Symbols,
    pairs: Vec<(u32, u32)>,
    pair_numbers: HashMap<(u32, u32), u32, foldhash::fast::RandomState>,
    /// For each pair the series that have it, ascending.
    postings: Vec<Vec<u32>>,
    /// Pairs of all series behind each other, and where each series' end.
    labels: Vec<u32>,
    label_ends: Vec<usize>,
    chunks: Vec<Chunk>,
    chunk_ends: Vec<usize>,
    span: Span,
    samples: u64,
    scratch: Vec<u8>,
}

/// The directory of a block while it is made.
fn unfinished(dir: &Path, ulid: Ulid) -> PathBuf {
    dir.join(ulid.to_string()).with_added_extension(file::UNFINISHED)
}

impl BlockWriter {
    /// Starts a block in the directory of blocks; times in its chunks count from `base`.
    pub fn create(dir: &Path, base: i64) -> Result<Self> {
        let ulid = Ulid::new();
        let unfinished = unfinished(dir, ulid);
        file::make_dir(&unfinished)?;
        let mut sink = Sink::create(&unfinished.join("data"))?;
        sink.put(MAGIC)?;
        Ok(Self {
            dir: dir.to_owned(),
            ulid,
            base,
            sink,
            symbols: Symbols::default(),
            pairs: Vec::new(),
            pair_numbers: HashMap::default(),
            postings: Vec::new(),
            labels: Vec::new(),
            label_ends: Vec::new(),
            chunks: Vec::new(),
            chunk_ends: Vec::new(),
            span: Span::EMPTY,
            samples: 0,
            scratch: Vec::new(),
        })
    }

    /// Adds a series; they come in order of their labels, each once. One without samples is left out.
    pub fn put<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>, columns: &Columns) -> Result<()> {
        if columns.is_empty() {
            return Ok(());
        }
        let series = u32::try_from(self.label_ends.len()).map_err(|_| Full)?;
        for (name, value) in labels {
            let pair = (self.symbols.intern(name).ok_or(Full)?, self.symbols.intern(value).ok_or(Full)?);
            let next = self.pairs.len() as u32;
            let number = *self.pair_numbers.entry(pair).or_insert(next);
            if number == next {
                self.pairs.push(pair);
                self.postings.push(Vec::new());
            }
            self.postings[number as usize].push(series);
            self.labels.push(number);
        }
        self.label_ends.push(self.labels.len());
        self.samples += columns.len() as u64;
        let Self { sink, chunks, span, scratch, base, .. } = self;
        let from = chunks.len();
        chunk::write_columns(columns, *base, scratch, |min, max, bytes| {
            chunks.push(Chunk { offset: sink.written(), length: bytes.len() as u32, min, max });
            span.join(Span { min, max });
            sink.put(bytes)
        })?;
        debug_assert!(chunks.len() > from);
        self.chunk_ends.push(self.chunks.len());
        Ok(())
    }

    /// Writes the index and gives the block its name; nothing where no sample was added. `range` is the range of time
    /// that the block stands for, its end not included.
    pub fn finish(mut self, range: (i64, i64), boundary: Option<i64>, compaction: Compaction) -> Result<Option<Block>> {
        let unfinished = unfinished(&self.dir, self.ulid);
        if self.samples == 0 {
            drop(self.sink);
            fs::remove_dir_all(&unfinished).map_err(Error::io(|| format!("remove {}", unfinished.display())))?;
            return Ok(None);
        }
        let index = self.index()?;
        let offset = self.sink.written();
        self.sink.put(&index)?;
        let mut footer = Vec::new();
        footer.extend_from_slice(&offset.to_le_bytes());
        footer.extend_from_slice(&(index.len() as u64).to_le_bytes());
        footer.extend_from_slice(&crc32fast::hash(&index).to_le_bytes());
        let checksum = crc32fast::hash(&footer);
        footer.extend_from_slice(&checksum.to_le_bytes());
        footer.extend_from_slice(&MAGIC[..4]);
        self.sink.put(&footer)?;
        let mut meta = Meta {
            ulid: self.ulid.to_string(),
            min_time: range.0.min(self.span.min),
            max_time: range.1.max(self.span.max.saturating_add(1)),
            base: self.base,
            boundary,
            stats: Stats {
                num_samples: self.samples,
                num_series: self.label_ends.len() as u64,
                num_chunks: self.chunks.len() as u64,
            },
            compaction,
            ..Meta::default()
        };
        if meta.compaction.sources.is_empty() {
            meta.compaction.sources.push(meta.ulid.clone());
        }
        meta.write(&unfinished.join("meta.json"))?;
        self.sink.finish()?;
        let dir = self.dir.join(self.ulid.to_string());
        fs::rename(&unfinished, &dir).map_err(Error::io(|| format!("name block {}", dir.display())))?;
        file::sync_dir(&self.dir)?;
        Block::open(&dir).map(Some)
    }

    fn index(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        // Ranks in place of the numbers in order of first use.
        let mut order: Vec<u32> = (0..self.symbols.len() as u32).collect();
        order.sort_unstable_by_key(|number| self.symbols.get(*number));
        let mut ranks = vec![0u32; order.len()];
        for (rank, number) in order.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        let lengths: Vec<u64> = order.iter().map(|number| self.symbols.get(*number).len() as u64).collect();
        put_varint(&mut out, order.len() as u64);
        put_part(&mut out, |part| ints::pack(&lengths, part))?;
        put_part(&mut out, |part| {
            order.iter().for_each(|number| part.extend_from_slice(self.symbols.get(*number).as_bytes()));
        })?;
        let rank = |pair: u32| {
            let (name, value) = self.pairs[pair as usize];
            (ranks[name as usize], ranks[value as usize])
        };
        let mut pair_order: Vec<u32> = (0..self.pairs.len() as u32).collect();
        pair_order.sort_unstable_by_key(|pair| rank(*pair));
        let mut pair_ranks = vec![0u32; pair_order.len()];
        for (rank, pair) in pair_order.iter().enumerate() {
            pair_ranks[*pair as usize] = rank as u32;
        }
        put_varint(&mut out, pair_order.len() as u64);
        put_part(&mut out, |part| {
            let names: Vec<&[u32]> = pair_order.chunk_by(|one, other| rank(*one).0 == rank(*other).0).collect();
            put_varint(part, names.len() as u64);
            for pairs in names {
                put_varint(part, u64::from(rank(pairs[0]).0));
                put_varint(part, pairs.len() as u64);
                let mut before = 0;
                let gap = |pair: &u32| u64::from(rank(*pair).1 - std::mem::replace(&mut before, rank(*pair).1));
                ints::pack(&pairs.iter().map(gap).collect::<Vec<_>>(), part);
            }
        })?;
        let mut postings = Vec::new();
        let mut posting_lengths = Vec::new();
        for pair in &pair_order {
            let start = postings.len();
            let series = &self.postings[*pair as usize];
            put_varint(&mut postings, series.len() as u64);
            let mut next = 0;
            let gap = |series: &u32| u64::from(series - std::mem::replace(&mut next, series + 1));
            ints::pack(&series.iter().map(gap).collect::<Vec<_>>(), &mut postings);
            posting_lengths.push((postings.len() - start) as u64);
        }
        put_part(&mut out, |part| ints::pack(&posting_lengths, part))?;
        let mut series = Vec::new();
        let mut series_lengths = Vec::new();
        let (mut label, mut chunk) = (0, 0);
        for (label_end, chunk_end) in self.label_ends.iter().zip(&self.chunk_ends) {
            let start = series.len();
            put_varint(&mut series, (label_end - label) as u64);
            self.labels[label..*label_end]
                .iter()
                .for_each(|pair| put_varint(&mut series, u64::from(pair_ranks[*pair as usize])));
            let chunks = &self.chunks[chunk..*chunk_end];
            put_varint(&mut series, chunks.len() as u64);
            put_varint(&mut series, chunks.first().map_or(0, |chunk| chunk.offset));
            let mut time = 0i64;
            for chunk in chunks {
                put_varint(&mut series, u64::from(chunk.length));
                put_zigzag(&mut series, chunk.min.wrapping_sub(time));
                put_zigzag(&mut series, chunk.max.wrapping_sub(chunk.min));
                time = chunk.max;
            }
            series_lengths.push((series.len() - start) as u64);
            (label, chunk) = (*label_end, *chunk_end);
        }
        put_varint(&mut out, self.label_ends.len() as u64);
        put_part(&mut out, |part| part.append(&mut postings))?;
        put_part(&mut out, |part| ints::pack(&series_lengths, part))?;
        put_part(&mut out, |part| part.append(&mut series))?;
        Ok(out)
    }
}

fn put_part(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let mut part = Vec::new();
    write(&mut part);
    put_varint(out, part.len() as u64);
    let packed = zstd::bulk::compress(&part, ZSTD_LEVEL).map_err(Error::io(|| "compress an index".to_owned()))?;
    put_bytes(out, &packed);
    Ok(())
}
