//! Blocks of Prometheus: written for those who move out, read for those who move in.
//!
//! ```text
//!   01JQ…/meta.json   range of time, sizes
//!   01JQ…/index       symbols, series, postings, table of contents
//!   01JQ…/chunks/     000001 …: chunks of 120 samples, bit by bit
//!   01JQ…/tombstones  what was deleted
//! ```
//!
//! In reading order:
//!
//! - `bits`: streams of bits
//! - `chunk`: the encodings of chunks
//! - `index`: the index
//! - `export`, `import`: whole blocks
//!
//! See <https://github.com/prometheus/prometheus/tree/main/tsdb/docs/format>.

mod bits;
mod chunk;
mod export;
mod import;
mod index;

pub use chunk::Written;

/// Columns as Prometheus' chunks, in order of time: what remote read streams.
pub fn chunks(columns: &crate::column::Columns) -> Vec<Written> {
    chunk::write(columns)
}

/// Adds the samples of a chunk of Prometheus to columns; an error says what is wrong with it.
pub fn read_chunk(encoding: u8, bytes: &[u8], into: &mut crate::column::Columns) -> Result<(), String> {
    chunk::read(encoding, bytes, into).map_err(|torn| torn.to_string())
}

/// The checksum that Prometheus uses (CRC-32C, Castagnoli's polynomial).
pub fn checksum(parts: &[&[u8]]) -> u32 {
    let mut sum = !0u32;
    for byte in parts.iter().copied().flatten() {
        sum = TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8);
    }
    !sum
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut at = 0;
    while at < 256 {
        let (mut sum, mut bit) = (at as u32, 0);
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests;
