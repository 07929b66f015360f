//! Columns of unsigned integers in as few bits as most of them need.
//!
//! ```text
//!   width w │ number of exceptions │ w low bits of each, packed │ exceptions: gap to the one before, the bits above w
//! ```
//!
//! The width is the one that makes the whole smallest, so that a few large numbers (a counter that started again, a
//! scrape that was late) do not widen all others. Known as PFOR: Zukowski et al., "Super-Scalar RAM-CPU Cache
//! Compression", 2006.

use crate::bytes::{Reader, Torn, put_varint};

/// The widest packed width; wider columns are stored as whole words.
const WIDEST: u32 = 56;
const WHOLE: u32 = 64;

/// How many numbers need how many bits: what decides the width.
#[derive(Clone, Debug)]
pub struct Widths {
    counts: [u32; 65],
    total: u32,
    most: u32,
}

impl Widths {
    /// Counts the widths of `values`.
    pub fn of(values: impl IntoIterator<Item = u64>) -> Self {
        let mut widths = Self { counts: [0; 65], total: 0, most: 0 };
        for value in values {
            let width = 64 - value.leading_zeros();
            widths.counts[width as usize] += 1;
            widths.total += 1;
            widths.most = widths.most.max(width);
        }
        widths
    }

    /// The best width, and about how many bits the whole takes with it.
    pub fn best(&self) -> (u32, u64) {
        let mut best = if self.most > WIDEST {
            (WHOLE, u64::from(self.total) * 64)
        } else {
            (self.most, u64::from(self.total) * u64::from(self.most))
        };
        let (mut above, mut bits) = (0u64, 0u64);
        for width in (0..self.most).rev() {
            above += u64::from(self.counts[width as usize + 1]);
            bits += above;
            if above * 20 > u64::from(self.total) * 8 + 40 {
                break;
            }
            if width > WIDEST {
                continue;
            }
            let cost = u64::from(self.total) * u64::from(width) + above * 14 + bits * 8 / 7;
            if cost < best.1 {
                best = (width, cost);
            }
        }
        best
    }
}

/// Writes a column; its length is not written.
pub fn pack(values: &[u64], out: &mut Vec<u8>) {
    let (width, _) = Widths::of(values.iter().copied()).best();
    pack_as(values, width, out);
}

fn pack_as(values: &[u64], width: u32, out: &mut Vec<u8>) {
    out.push(width as u8);
    if width == WHOLE {
        out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        return;
    }
    let mask = (1u64 << width) - 1;
    let exceptions = values.iter().filter(|value| **value > mask).count();
    put_varint(out, exceptions as u64);
    if width > 0 {
        let (mut word, mut filled) = (0u128, 0u32);
        out.reserve((values.len() * width as usize).div_ceil(8) + 8);
        for value in values {
            word |= u128::from(value & mask) << filled;
            filled += width;
            if filled >= 64 {
                out.extend_from_slice(&(word as u64).to_le_bytes());
                word >>= 64;
                filled -= 64;
            }
        }
        out.extend_from_slice(&(word as u64).to_le_bytes()[..filled.div_ceil(8) as usize]);
    }
    let mut last = 0;
    for (at, value) in values.iter().enumerate().filter(|(_, value)| **value > mask) {
        put_varint(out, (at - last) as u64);
        put_varint(out, value >> width);
        last = at;
    }
}

/// Reads a column of `count` numbers to the end of `into`.
pub fn unpack(reader: &mut Reader<'_>, count: usize, into: &mut Vec<u64>) -> Result<(), Torn> {
    unpack_first(reader, count, count, into)
}

/// Reads the first `wanted` numbers of a column of `count`, and passes over the rest.
pub fn unpack_first(reader: &mut Reader<'_>, count: usize, wanted: usize, into: &mut Vec<u64>) -> Result<(), Torn> {
    let wanted = wanted.min(count);
    let width = u32::from(reader.u8()?);
    if width == WHOLE {
        let length = count.checked_mul(8).ok_or(Torn("a column is too long"))?;
        let bytes = reader.take(length)?;
        into.extend(bytes.chunks_exact(8).take(wanted).map(word_of));
        return Ok(());
    }
    if width > WIDEST {
        return Err(Torn("a column has an impossible width"));
    }
    let exceptions = reader.count(2)?;
    let start = into.len();
    if width == 0 {
        // A count is bounded by whoever reads it: no more than a chunk holds.
        into.resize(start + wanted, 0);
    } else {
        let bits = count.checked_mul(width as usize).ok_or(Torn("a column is too long"))?;
        let bytes = reader.take(bits.div_ceil(8))?;
        into.reserve(wanted);
        spread(bytes, wanted, width, into);
    }
    let column = &mut into[start..];
    let mut at = 0usize;
    for nth in 0..exceptions {
        let gap = usize::try_from(reader.varint()?).map_err(|_| Torn("an exception lies outside"))?;
        let above = reader.varint()?;
        at = if nth == 0 { gap } else { at.checked_add(gap).ok_or(Torn("an exception lies outside"))? };
        if at >= count {
            return Err(Torn("an exception lies outside"));
        }
        if above.leading_zeros() < width {
            return Err(Torn("an exception is too large"));
        }
        if let Some(value) = column.get_mut(at) {
            *value |= above << width;
        }
    }
    Ok(())
}

fn word_of(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    u64::from_le_bytes(word)
}

/// The packed numbers, each by one unaligned read of eight bytes; the last few from a copy that ends in zeros.
fn spread(bytes: &[u8], count: usize, width: u32, into: &mut Vec<u64>) {
    let width = width as usize;
    let mask = (1u64 << width) - 1;
    let direct = if bytes.len() >= 8 { ((bytes.len() - 8) * 8 / width + 1).min(count) } else { 0 };
    into.extend((0..direct).map(|nth| {
        let bit = nth * width;
        let at = bit >> 3;
        let word = bytes.get(at..at + 8).map_or(0, |eight| u64::from_le_bytes(eight.try_into().unwrap_or([0; 8])));
        (word >> (bit & 7)) & mask
    }));
    into.extend((direct..count).map(|nth| {
        let bit = nth * width;
        (word_of(&bytes[bit >> 3..]) >> (bit & 7)) & mask
    }));
}

#[cfg(test)]
mod tests;
