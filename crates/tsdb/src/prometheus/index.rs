//! The index of a block of Prometheus, version 2. See
//! <https://github.com/prometheus/prometheus/blob/main/tsdb/docs/format/index.md>.

use std::collections::BTreeMap;

use super::checksum;
use crate::{
    bytes::{Reader, Torn, put_bytes, put_varint, put_zigzag},
    labels::Labels,
};

const MAGIC: u32 = 0xBAAA_D700;
const VERSION: u8 = 2;
const TOC: usize = 52;

/// A chunk: its times, and where it is: the number of its file in the high 32 bits, its place in the low ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// Time of its first sample.
    pub min: i64,
    /// Time of its last sample.
    pub max: i64,
    /// File and place.
    pub place: u64,
}

/// Bytes of an index, and the index itself, while it is written.
pub struct IndexWriter {
    out: Vec<u8>,
    symbols: BTreeMap<String, u32>,
    series_at: u64,
    postings: BTreeMap<(u32, u32), Vec<u32>>,
    all: Vec<u32>,
}

fn section(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(&(content.len() as u32).to_be_bytes());
    out.extend_from_slice(content);
    out.extend_from_slice(&checksum(&[content]).to_be_bytes());
}

impl IndexWriter {
    /// Starts an index with all strings that its series have.
    pub fn new(strings: impl IntoIterator<Item = String>) -> Self {
        let mut symbols: BTreeMap<String, u32> = strings.into_iter().map(|string| (string, 0)).collect();
        symbols.insert(String::new(), 0);
        let mut content = (symbols.len() as u32).to_be_bytes().to_vec();
        for (number, (string, place)) in symbols.iter_mut().enumerate() {
            *place = number as u32;
            put_bytes(&mut content, string.as_bytes());
        }
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.push(VERSION);
        section(&mut out, &content);
        let series_at = out.len() as u64;
        Self { out, symbols, series_at, postings: BTreeMap::new(), all: Vec::new() }
    }

    /// Adds a series; they come in order of their labels.
    pub fn put(&mut self, labels: &Labels, chunks: &[ChunkRef]) -> Result<(), Torn> {
        self.out.resize(self.out.len().next_multiple_of(16), 0);
        let number = u32::try_from(self.out.len() / 16).map_err(|_| Torn("the index is too large"))?;
        let mut content = Vec::new();
        put_varint(&mut content, labels.len() as u64);
        for (name, value) in labels {
            let symbol = |text: &str| self.symbols.get(text).copied().ok_or(Torn("a string was not announced"));
            let pair = (symbol(name)?, symbol(value)?);
            put_varint(&mut content, u64::from(pair.0));
            put_varint(&mut content, u64::from(pair.1));
            self.postings.entry(pair).or_default().push(number);
        }
        self.all.push(number);
        put_varint(&mut content, chunks.len() as u64);
        let mut before: Option<ChunkRef> = None;
        for chunk in chunks {
            match before {
                None => {
                    put_zigzag(&mut content, chunk.min);
                    put_varint(&mut content, (chunk.max - chunk.min) as u64);
                    put_varint(&mut content, chunk.place);
                }
                Some(before) => {
                    put_varint(&mut content, (chunk.min - before.max) as u64);
                    put_varint(&mut content, (chunk.max - chunk.min) as u64);
                    put_zigzag(&mut content, chunk.place as i64 - before.place as i64);
                }
            }
            before = Some(*chunk);
        }
        put_varint(&mut self.out, content.len() as u64);
        self.out.extend_from_slice(&content);
        self.out.extend_from_slice(&checksum(&[&content]).to_be_bytes());
        Ok(())
    }

    /// The whole index.
    pub fn finish(mut self) -> Vec<u8> {
        let strings: Vec<&String> = self.symbols.keys().collect();
        // There are no lists of values any more; their table is empty.
        let values_at = self.out.len() as u64;
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        let postings_at = self.out.len() as u64;
        let mut table = ((self.postings.len() + 1) as u32).to_be_bytes().to_vec();
        let all = ("", "", &self.all);
        let pairs = self.postings.iter().map(|((name, value), series)| {
            (strings[*name as usize].as_str(), strings[*value as usize].as_str(), series)
        });
        for (name, value, series) in std::iter::once(all).chain(pairs) {
            self.out.resize(self.out.len().next_multiple_of(4), 0);
            table.push(2);
            put_bytes(&mut table, name.as_bytes());
            put_bytes(&mut table, value.as_bytes());
            put_varint(&mut table, self.out.len() as u64);
            let mut content = (series.len() as u32).to_be_bytes().to_vec();
            content.extend(series.iter().flat_map(|number| number.to_be_bytes()));
            section(&mut self.out, &content);
        }
        let values_table_at = self.out.len() as u64;
        section(&mut self.out, &0u32.to_be_bytes());
        let postings_table_at = self.out.len() as u64;
        section(&mut self.out, &table);
        let places = [5, self.series_at, values_at, values_table_at, postings_at, postings_table_at];
        let toc: Vec<u8> = places.iter().flat_map(|place| place.to_be_bytes()).collect();
        self.out.extend_from_slice(&toc);
        self.out.extend_from_slice(&checksum(&[&toc]).to_be_bytes());
        self.out
    }
}

fn be32(reader: &mut Reader<'_>) -> Result<u32, Torn> {
    Ok(reader.u32()?.swap_bytes())
}

fn content(bytes: &[u8], at: u64) -> Result<Reader<'_>, Torn> {
    let start = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).ok_or(Torn("a part lies outside"))?;
    let mut reader = Reader(start);
    let length = be32(&mut reader)? as usize;
    let content = reader.take(length)?;
    if be32(&mut reader)? != checksum(&[content]) {
        return Err(Torn("the checksum of a part does not fit"));
    }
    Ok(Reader(content))
}

/// An index that is read.
#[derive(Debug)]
pub struct IndexReader<'a> {
    bytes: &'a [u8],
    symbols: Vec<&'a str>,
    series: Vec<u32>,
}

impl<'a> IndexReader<'a> {
    /// Reads strings and the list of all series.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Torn> {
        let mut head = Reader(bytes);
        if be32(&mut head)? != MAGIC || head.u8()? != VERSION {
            return Err(Torn("it is no index of version 2"));
        }
        let toc = bytes.len().checked_sub(TOC).and_then(|at| bytes.get(at..)).ok_or(Torn("it ends early"))?;
        if toc[48..] != checksum(&[&toc[..48]]).to_be_bytes() {
            return Err(Torn("the checksum of its table of contents does not fit"));
        }
        let place = |nth: usize| toc[nth * 8..].first_chunk::<8>().map_or(0, |word| u64::from_be_bytes(*word));
        let mut reader = content(bytes, place(0))?;
        let count = be32(&mut reader)?;
        let symbols = (0..count).map(|_| reader.text()).collect::<Result<Vec<_>, _>>()?;
        let mut table = content(bytes, place(5))?;
        let mut series = Vec::new();
        for _ in 0..be32(&mut table)? {
            if table.u8()? != 2 {
                return Err(Torn("a posting is of no pair"));
            }
            let (name, value, at) = (table.bytes()?, table.bytes()?, table.varint()?);
            if name.is_empty() && value.is_empty() {
                let mut postings = content(bytes, at)?;
                let count = be32(&mut postings)?;
                series = (0..count).map(|_| be32(&mut postings)).collect::<Result<Vec<_>, _>>()?;
                break;
            }
        }
        Ok(Self { bytes, symbols, series })
    }

    /// The numbers of all series, in order of their labels.
    pub fn series(&self) -> &[u32] {
        &self.series
    }

    /// Labels and chunks of a series.
    pub fn read(&self, number: u32) -> Result<(Labels, Vec<ChunkRef>), Torn> {
        let at = number as usize * 16;
        let mut reader = Reader(self.bytes.get(at..).ok_or(Torn("a series lies outside"))?);
        let length = reader.count(1)?;
        let content = reader.take(length)?;
        if be32(&mut reader)? != checksum(&[content]) {
            return Err(Torn("the checksum of a series does not fit"));
        }
        let mut reader = Reader(content);
        let mut pairs = Vec::new();
        for _ in 0..reader.count(2)? {
            let mut text = || {
                let number = reader.varint()? as usize;
                self.symbols.get(number).copied().ok_or(Torn("a string is not there"))
            };
            pairs.push((text()?, text()?));
        }
        let mut chunks = Vec::new();
        let (mut time, mut place) = (0i64, 0u64);
        for nth in 0..reader.count(3)? {
            let from = if nth == 0 { reader.zigzag()? } else { time.wrapping_add(reader.varint()? as i64) };
            let max = from.wrapping_add(reader.varint()? as i64);
            place = if nth == 0 { reader.varint()? } else { place.wrapping_add(reader.zigzag()? as u64) };
            chunks.push(ChunkRef { min: from, max, place });
            time = max;
        }
        Ok((Labels::from_pairs(pairs), chunks))
    }
}
