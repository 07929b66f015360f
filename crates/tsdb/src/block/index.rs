//! The index of a block.
//!
//! ```text
//!   strings    sorted; a string's number is its rank
//!   names      for each label name: its values in order, so that a pair's number is its rank
//!   postings   for each pair: the series that have it
//!   series     for each series, in order of labels: its pairs, and its chunks with their times
//! ```
//!
//! Each part is compressed with zstd. In memory, postings and series stay packed; places in them are looked up.

use crate::{
    bytes::{Reader, Torn},
    error::Error,
    ints,
    labels::Labels,
    matcher,
};

/// Bytes of a part at most, unpacked.
const PART: usize = 1 << 31;

/// A chunk of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u32,
    /// Time of its first sample.
    pub min: i64,
    /// Time of its last sample.
    pub max: i64,
}

/// The index of a block, in memory.
#[derive(Debug)]
pub struct Index {
    text: String,
    text_ends: Vec<u32>,
    /// Name and value of each pair, ascending.
    pairs: Vec<(u32, u32)>,
    /// Each name with the range of its pairs.
    names: Vec<(u32, std::ops::Range<u32>)>,
    postings: Vec<u8>,
    posting_ends: Vec<u32>,
    series: Vec<u8>,
    series_ends: Vec<u32>,
    chunks_end: u64,
}

fn part(reader: &mut Reader<'_>) -> Result<Vec<u8>, Torn> {
    let length = usize::try_from(reader.varint()?).ok().filter(|length| *length <= PART);
    let length = length.ok_or(Torn("a part of the index is too long"))?;
    let packed = reader.bytes()?;
    // The length is only believed as far as memory is really filled.
    let mut bytes = Vec::with_capacity(length.min(packed.len().saturating_mul(64)));
    let decoder = zstd::Decoder::with_buffer(packed).map_err(|_| Torn("a part of the index is not compressed"))?;
    let mut limited = std::io::Read::take(decoder, length as u64 + 1);
    std::io::Read::read_to_end(&mut limited, &mut bytes).map_err(|_| Torn("a part of the index does not unpack"))?;
    if bytes.len() != length { Err(Torn("a part of the index has another length")) } else { Ok(bytes) }
}

fn ends(reader: &mut Reader<'_>, count: usize, length: usize) -> Result<Vec<u32>, Torn> {
    let mut words = Vec::new();
    ints::unpack(reader, count, &mut words)?;
    let mut end = 0u64;
    let ends = words.iter().map(|word| {
        end = end.saturating_add(*word);
        if end > length as u64 { Err(Torn("something lies outside of the index")) } else { Ok(end as u32) }
    });
    ends.collect()
}

impl Index {
    /// Reads an index; `chunks_end` is where the chunks of the file end.
    pub fn read(bytes: &[u8], chunks_end: u64) -> Result<Self, Torn> {
        let mut reader = Reader(bytes);
        let mut counted = || -> Result<(usize, Vec<u8>, Vec<u8>), Torn> {
            // Nothing takes less than a 4096th of what is written of it.
            let count = reader.varint()?;
            if count > (bytes.len() as u64).saturating_mul(1 << 12) {
                return Err(Torn("a count in the index is too large"));
            }
            Ok((count as usize, part(&mut reader)?, part(&mut reader)?))
        };
        let (strings, lengths, text) = counted()?;
        let text_ends = ends(&mut Reader(&lengths), strings, text.len())?;
        let text = String::from_utf8(text).map_err(|_| Torn("text is not UTF-8"))?;
        if text_ends.iter().any(|end| !text.is_char_boundary(*end as usize)) {
            return Err(Torn("a string is cut inside a character"));
        }
        let (pair_count, names, postings_lengths) = counted()?;
        let (pairs, names) = read_names(&mut Reader(&names), pair_count, strings)?;
        let (series_count, postings, series_lengths) = counted()?;
        let posting_ends = ends(&mut Reader(&postings_lengths), pair_count, postings.len())?;
        let series = part(&mut reader)?;
        let series_ends = ends(&mut Reader(&series_lengths), series_count, series.len())?;
        Ok(Self { text, text_ends, pairs, names, postings, posting_ends, series, series_ends, chunks_end })
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series_ends.len()
    }

    fn string(&self, number: u32) -> &str {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.text_ends[number - 1] };
        &self.text[start as usize..self.text_ends[number] as usize]
    }

    fn name_at(&self, name: &str) -> Option<&(u32, std::ops::Range<u32>)> {
        let at = self.names.binary_search_by(|have| self.string(have.0).cmp(name)).ok()?;
        Some(&self.names[at])
    }

    /// Names of labels, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| self.string(name.0))
    }

    /// Values of a label, sorted, each with the number of its pair.
    pub fn values(&self, name: &str) -> impl Iterator<Item = (&str, u32)> {
        let range = self.name_at(name).map_or(0..0, |name| name.1.clone());
        range.map(|pair| (self.string(self.pairs[pair as usize].1), pair))
    }

    /// Appends the series that have a pair, ascending.
    pub fn postings(&self, pair: u32, into: &mut Vec<u32>) -> Result<(), Torn> {
        let pair = pair as usize;
        let start = if pair == 0 { 0 } else { self.posting_ends[pair - 1] };
        let mut reader = Reader(&self.postings[start as usize..self.posting_ends[pair] as usize]);
        let count = reader.varint()?;
        if count > self.len() as u64 {
            return Err(Torn("a label has more series than there are"));
        }
        let mut gaps = Vec::new();
        ints::unpack(&mut reader, count as usize, &mut gaps)?;
        let mut next = 0u64;
        for gap in gaps {
            let series = next.saturating_add(gap);
            if series >= self.len() as u64 {
                return Err(Torn("a label names a series that is not there"));
            }
            into.push(series as u32);
            next = series + 1;
        }
        Ok(())
    }

    fn record(&self, series: u32) -> Result<Reader<'_>, Torn> {
        let series = series as usize;
        let end = *self.series_ends.get(series).ok_or(Torn("a series is not there"))?;
        let start = if series == 0 { 0 } else { self.series_ends[series - 1] };
        Ok(Reader(&self.series[start as usize..end as usize]))
    }

    fn pair_numbers(&self, reader: &mut Reader<'_>) -> Result<Vec<u32>, Torn> {
        let count = reader.count(1)?;
        let numbers = (0..count).map(|_| {
            let pair = reader.varint32()?;
            if (pair as usize) < self.pairs.len() {
                Ok(pair)
            } else {
                Err(Torn("a series has a label that is not there"))
            }
        });
        numbers.collect()
    }

    /// The labels of a series.
    pub fn labels(&self, series: u32) -> Result<Labels, Error> {
        let numbers = self.record(series).and_then(|mut reader| self.pair_numbers(&mut reader));
        let numbers = numbers.map_err(Error::damaged(std::path::Path::new("the index of a block")))?;
        Ok(Labels::from_sorted(numbers.iter().map(|pair| {
            let (name, value) = self.pairs[*pair as usize];
            (self.string(name), self.string(value))
        })))
    }

    /// The chunks of a series, in order of time unless they overlap.
    pub fn chunks(&self, series: u32) -> Result<Vec<Chunk>, Error> {
        self.read_chunks(series).map_err(Error::damaged(std::path::Path::new("the index of a block")))
    }

    fn read_chunks(&self, series: u32) -> Result<Vec<Chunk>, Torn> {
        let mut reader = self.record(series)?;
        self.pair_numbers(&mut reader)?;
        let mut chunks = Vec::with_capacity(reader.count(3)?);
        let mut offset = reader.varint()?;
        let mut time = 0i64;
        for _ in 0..chunks.capacity() {
            let length = reader.varint32()?;
            let min = time.wrapping_add(reader.zigzag()?);
            let max = min.wrapping_add(reader.zigzag()?);
            if offset.checked_add(u64::from(length)).is_none_or(|end| end > self.chunks_end) {
                return Err(Torn("a chunk lies outside"));
            }
            chunks.push(Chunk { offset, length, min, max });
            offset += u64::from(length);
            time = max;
        }
        Ok(chunks)
    }
}

fn read_names(
    reader: &mut Reader<'_>,
    pair_count: usize,
    strings: usize,
) -> Result<(Vec<(u32, u32)>, Vec<(u32, std::ops::Range<u32>)>), Torn> {
    let string = |number: u64| {
        u32::try_from(number).ok().filter(|number| (*number as usize) < strings).ok_or(Torn("a string is not there"))
    };
    let (mut pairs, mut names) = (Vec::new(), Vec::new());
    let mut words = Vec::new();
    for _ in 0..reader.count(3)? {
        let name = string(reader.varint()?)?;
        let values = reader.varint()?;
        if values > (pair_count - pairs.len()) as u64 {
            return Err(Torn("there are more labels than said"));
        }
        words.clear();
        ints::unpack(reader, values as usize, &mut words)?;
        let start = pairs.len() as u32;
        let mut value = 0u64;
        for gap in &words {
            value = value.saturating_add(*gap);
            pairs.push((name, string(value)?));
        }
        names.push((name, start..pairs.len() as u32));
    }
    if pairs.len() != pair_count { Err(Torn("there are fewer labels than said")) } else { Ok((pairs, names)) }
}

impl matcher::Index for Index {
    fn all(&self) -> Vec<u32> {
        (0..self.len() as u32).collect()
    }

    fn with(&self, name: &str, value: &str, into: &mut Vec<u32>) {
        let Some((_, range)) = self.name_at(name) else { return };
        let pairs = &self.pairs[range.start as usize..range.end as usize];
        if let Ok(at) = pairs.binary_search_by(|pair| self.string(pair.1).cmp(value)) {
            self.list(range.start + at as u32, into);
        }
    }

    fn with_any(&self, name: &str, wanted: &mut dyn FnMut(&str) -> bool, into: &mut Vec<u32>) -> usize {
        let mut runs = 0;
        for (value, pair) in self.values(name) {
            if wanted(value) {
                self.list(pair, into);
                runs += 1;
            }
        }
        runs
    }
}

impl Index {
    fn list(&self, pair: u32, into: &mut Vec<u32>) {
        if let Err(torn) = self.postings(pair, into) {
            tracing::warn!("the index of a block is damaged: {torn}; series are left out");
        }
    }
}
