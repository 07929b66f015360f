//! Chunks: a run of samples of one series, column by column.
//!
//! ```text
//!   checksum │ kind │ number of samples │ first time │ other times │ values
//! ```
//!
//! Times are relative to the base of the file. How values are stored is chosen for each chunk, by size: see `floats` and
//! `histograms`. Chunks of different kinds follow each other where a series changes its kind, and a new chunk begins
//! where a histogram changes its buckets.
//!
//! In reading order:
//!
//! - `times`: the column of times
//! - `floats`: columns of floats
//! - `histograms`: columns of native histograms

mod floats;
mod histograms;
mod times;

pub use floats::{decimal, mantissa};

use crate::{
    bytes::{Reader, Torn, put_varint},
    column::{Columns, HistogramValue},
};

/// Samples that a chunk holds at most when it is written.
pub const SAMPLES: usize = 480;
/// Samples that a chunk holds at most when it is read.
const SAMPLES_READ: usize = 1 << 16;
/// Numbers of all the columns of a chunk of histograms at most.
const CELLS: usize = 1 << 22;

const FLOATS: u8 = 0;
const INTEGERS: u8 = 1;
const FLOAT_HISTOGRAMS: u8 = 2;

/// Appends a chunk of floats. The slices are as long as each other and not empty; times ascend.
pub fn write_floats(times: &[i64], values: &[f64], base: i64, out: &mut Vec<u8>) {
    let start = begin(FLOATS, times, base, out);
    floats::write(values, out);
    seal(start, out);
}

/// Appends a chunk of histograms that have the same layout (see [`same_layout`]); times ascend.
pub fn write_histograms(samples: &[(i64, HistogramValue)], base: i64, out: &mut Vec<u8>) {
    let times: Vec<i64> = samples.iter().map(|sample| sample.0).collect();
    let shown = samples.iter().find(|sample| !sample.1.is_stale()).or(samples.first());
    let integers = shown.is_some_and(|sample| sample.1.integer().is_some());
    let start = begin(if integers { INTEGERS } else { FLOAT_HISTOGRAMS }, &times, base, out);
    histograms::write(samples, integers, out);
    seal(start, out);
}

/// Writes columns as chunks, floats first, and hands out each with the times of its first and last sample.
pub fn write_columns<E>(
    columns: &Columns,
    base: i64,
    scratch: &mut Vec<u8>,
    mut chunk: impl FnMut(i64, i64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    // Even lengths: a rest of a few samples would cost as much around it as a whole chunk.
    let count = columns.times.len().div_ceil(SAMPLES).max(1);
    let length = columns.times.len().div_ceil(count).max(1);
    for (times, values) in columns.times.chunks(length).zip(columns.values.chunks(length)) {
        scratch.clear();
        write_floats(times, values, base, scratch);
        chunk(times[0], times[times.len() - 1], scratch)?;
    }
    let mut rest = columns.histograms.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(histograms_that_fit(rest));
        scratch.clear();
        write_histograms(now, base, scratch);
        chunk(now[0].0, now[now.len() - 1].0, scratch)?;
        rest = later;
    }
    Ok(())
}

/// How many of `samples`, from the first on, one chunk can hold.
pub fn histograms_that_fit(samples: &[(i64, HistogramValue)]) -> usize {
    let Some(first) = samples.iter().find(|sample| !sample.1.is_stale()) else { return samples.len().min(SAMPLES) };
    let most = (CELLS / 4 / (first.1.buckets() + 4)).clamp(1, SAMPLES);
    samples.iter().take(most).take_while(|sample| same_layout(&first.1, &sample.1)).count().max(1)
}

/// Whether two histograms can share a chunk: same kind, schema and buckets. A stale marker fits anywhere.
pub fn same_layout(one: &HistogramValue, other: &HistogramValue) -> bool {
    histograms::same_layout(one, other)
}

fn begin(kind: u8, times: &[i64], base: i64, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    put_varint(out, times.len() as u64);
    times::write(times, base, out);
    start
}

fn seal(start: usize, out: &mut [u8]) {
    let checksum = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads chunks; holds the memory that each reading needs.
#[derive(Debug, Default)]
pub struct Decoder {
    words: Vec<u64>,
    times: Vec<i64>,
}

impl Decoder {
    /// Appends the samples of a chunk from `min` to `max`, both included, to `into`.
    pub fn read(&mut self, chunk: &[u8], base: i64, min: i64, max: i64, into: &mut Columns) -> Result<(), Torn> {
        let mut reader = Reader(chunk);
        let checksum = reader.u32()?;
        if crc32fast::hash(reader.0) != checksum {
            return Err(Torn("the checksum of a chunk does not fit"));
        }
        let kind = reader.u8()?;
        let count = reader.varint()? as usize;
        if count == 0 || count > SAMPLES_READ {
            return Err(Torn("a chunk has an impossible number of samples"));
        }
        self.times.clear();
        times::read(&mut reader, count, base, &mut self.words, &mut self.times)?;
        let from = self.times.partition_point(|time| *time < min);
        let to = self.times.partition_point(|time| *time <= max);
        if from >= to {
            return Ok(());
        }
        match kind {
            FLOATS => {
                let before = into.values.len();
                if let Err(torn) = floats::read(&mut reader, count, from..to, &mut self.words, &mut into.values) {
                    into.values.truncate(before);
                    return Err(torn);
                }
                into.times.extend_from_slice(&self.times[from..to]);
            }
            INTEGERS | FLOAT_HISTOGRAMS => {
                let read = histograms::read(&mut reader, count, kind == INTEGERS, &mut self.words)?;
                let dated = self.times.iter().copied().zip(read);
                into.histograms.extend(dated.skip(from).take(to - from));
            }
            _ => return Err(Torn("a chunk is of no known kind")),
        }
        Ok(())
    }
}

#[cfg(test)]
pub mod tests;
