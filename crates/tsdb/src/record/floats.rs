//! Samples of one batch, column by column.
//!
//! ```text
//!   number of runs │ gap to the run before, length │ ...      slots: a target's series stand side by side
//!   0 │ time                                                  all at one time, or
//!   1 │ number of samples × difference to the one before
//!   a code of four bits for each sample, two in a byte
//!   for each sample, what its code says
//! ```
//!
//! | code | value |
//! |---|---|
//! | 0 | the same as the last of its series |
//! | 1 to 6 | the last mantissa of its series, plus a zigzag difference of so many bytes |
//! | 7 | an exponent and a whole mantissa, which are the last ones from here on |
//! | 8 | eight bytes of a float |
//!
//! The last value of each series is kept in its [`Track`]. Each file of the log begins anew, so that it can be read
//! without those before it.

use crate::{
    bytes::{Reader, Torn, put_varint, put_zigzag, unzigzag, zigzag},
    chunk::{decimal, mantissa},
};

const SAME: u8 = 0;
const WIDEST: u8 = 6;
const ANEW: u8 = 7;
const BITS: u8 = 8;

/// Exponents that are tried; a value with more digits is written as its bits.
const EXPONENTS: usize = 7;
/// The exponent of a series whose values are no decimals.
const NONE: u8 = 0xff;

/// What the log knows of a series: its last value in the present file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Track {
    /// The file that the rest is of.
    pub file: u32,
    exponent: u8,
    mantissa: i64,
    bits: u64,
}

/// Collects the samples of one record.
#[derive(Debug, Default)]
pub struct FloatWriter {
    runs: Vec<u8>,
    run_count: u64,
    run: Option<(u32, u32)>,
    behind: u32,
    times: Vec<i64>,
    codes: Vec<u8>,
    count: usize,
    payload: Vec<u8>,
}

impl FloatWriter {
    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets all samples.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.run_count = 0;
        self.run = None;
        self.behind = 0;
        self.times.clear();
        self.codes.clear();
        self.count = 0;
        self.payload.clear();
    }

    /// Adds a sample of the series that `track` is of.
    #[inline]
    pub fn push(&mut self, slot: u32, time: i64, value: f64, file: u32, track: &mut Track) {
        match &mut self.run {
            Some((start, length)) if start.wrapping_add(*length) == slot => *length += 1,
            _ => {
                self.end_run();
                self.run = Some((slot, 1));
            }
        }
        self.times.push(time);
        let code = self.value(value, file, track);
        if self.count.is_multiple_of(2) {
            self.codes.push(code);
        } else if let Some(last) = self.codes.last_mut() {
            *last |= code << 4;
        }
        self.count += 1;
    }

    #[inline]
    fn value(&mut self, value: f64, file: u32, track: &mut Track) -> u8 {
        let bits = value.to_bits();
        if track.file != file {
            *track = Track { file, exponent: NONE, mantissa: 0, bits: !bits };
            return self.anew(value, track, 0);
        }
        if track.bits == bits {
            return SAME;
        }
        if track.exponent == NONE {
            return self.as_bits(value, track);
        }
        match mantissa(value, usize::from(track.exponent)) {
            Some(mantissa) => {
                let step = zigzag(mantissa.wrapping_sub(track.mantissa));
                track.mantissa = mantissa;
                track.bits = bits;
                let length = (71 - step.leading_zeros() as u8) / 8;
                if length > WIDEST {
                    return self.write_anew(track);
                }
                self.payload.extend_from_slice(&step.to_le_bytes()[..usize::from(length.max(1))]);
                length.max(1)
            }
            None => {
                let from = usize::from(track.exponent) + 1;
                self.anew(value, track, from)
            }
        }
    }

    #[cold]
    fn anew(&mut self, value: f64, track: &mut Track, from: usize) -> u8 {
        let finite = value.is_finite();
        let found = (from..EXPONENTS).filter(|_| finite).find_map(|e| mantissa(value, e).map(|mantissa| (e, mantissa)));
        let Some((exponent, mantissa)) = found else {
            // A stale marker among decimals leaves the exponent as it is.
            if finite {
                track.exponent = NONE;
            }
            return self.as_bits(value, track);
        };
        *track = Track { exponent: exponent as u8, mantissa, bits: value.to_bits(), ..*track };
        self.write_anew(track)
    }

    fn write_anew(&mut self, track: &Track) -> u8 {
        self.payload.push(track.exponent);
        put_zigzag(&mut self.payload, track.mantissa);
        ANEW
    }

    fn as_bits(&mut self, value: f64, track: &mut Track) -> u8 {
        track.bits = value.to_bits();
        self.payload.extend_from_slice(&track.bits.to_le_bytes());
        BITS
    }

    fn end_run(&mut self) {
        if let Some((start, length)) = self.run.take() {
            put_zigzag(&mut self.runs, i64::from(start) - i64::from(self.behind));
            put_varint(&mut self.runs, u64::from(length));
            self.behind = start.wrapping_add(length);
            self.run_count += 1;
        }
    }

    /// Writes the record.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.end_run();
        put_varint(out, self.run_count);
        out.extend_from_slice(&self.runs);
        let first = self.times.first().copied().unwrap_or(0);
        if self.times.iter().all(|time| *time == first) {
            out.push(0);
            put_zigzag(out, first);
        } else {
            out.push(1);
            let mut before = 0;
            for time in &self.times {
                put_zigzag(out, time.wrapping_sub(std::mem::replace(&mut before, *time)));
            }
        }
        out.extend_from_slice(&self.codes);
        out.extend_from_slice(&self.payload);
        self.clear();
    }
}

/// Reads records in the order in which they were written, each file with a reader of its own.
#[derive(Debug, Default)]
pub struct FloatReader {
    tracks: Vec<Track>,
}

impl FloatReader {
    /// Reads a record and hands out slot, time and value of each sample.
    pub fn read(&mut self, payload: &[u8], mut sample: impl FnMut(u32, i64, f64)) -> Result<(), Torn> {
        let mut reader = Reader(payload);
        let runs = (0..reader.count(2)?)
            .map(|_| Ok((reader.zigzag()?, reader.varint()?)))
            .collect::<Result<Vec<(i64, u64)>, Torn>>()?;
        let count = runs.iter().fold(0u64, |count, run| count.saturating_add(run.1));
        // A sample takes half a byte at least.
        if count > 2 * payload.len() as u64 {
            return Err(Torn("a run of samples is too long"));
        }
        let count = count as usize;
        let one_time = match reader.u8()? {
            0 => Some(reader.zigzag()?),
            _ => None,
        };
        let mut times = Vec::new();
        if one_time.is_none() {
            let mut time = 0i64;
            for _ in 0..count {
                time = time.wrapping_add(reader.zigzag()?);
                times.push(time);
            }
        }
        let codes = reader.take(count.div_ceil(2))?;
        let (mut nth, mut slot) = (0, 0i64);
        for (gap, length) in runs {
            slot = slot.wrapping_add(gap);
            let end = slot.wrapping_add(length as i64);
            if !(0..1 << 28).contains(&slot) || end > 1 << 28 {
                return Err(Torn("samples have a wild slot"));
            }
            if self.tracks.len() < end as usize {
                self.tracks.resize(end as usize, Track { exponent: NONE, ..Track::default() });
            }
            for slot in slot..end {
                let code = if nth % 2 == 0 { codes[nth / 2] & 0xf } else { codes[nth / 2] >> 4 };
                let value = value(code, &mut reader, &mut self.tracks[slot as usize])?;
                sample(slot as u32, one_time.unwrap_or_else(|| times[nth]), value);
                nth += 1;
            }
            slot = end;
        }
        Ok(())
    }
}

#[inline]
fn value(code: u8, reader: &mut Reader<'_>, track: &mut Track) -> Result<f64, Torn> {
    let value = match code {
        SAME => return Ok(f64::from_bits(track.bits)),
        1..=WIDEST => {
            let mut word = [0; 8];
            match reader.0.first_chunk::<8>() {
                // One read of eight bytes is faster than copying a few.
                Some(eight) => {
                    word = (u64::from_le_bytes(*eight) & ((1 << (8 * code)) - 1)).to_le_bytes();
                    reader.take(usize::from(code))?;
                }
                None => word[..usize::from(code)].copy_from_slice(reader.take(usize::from(code))?),
            }
            track.mantissa = track.mantissa.wrapping_add(unzigzag(u64::from_le_bytes(word)));
            if usize::from(track.exponent) >= EXPONENTS {
                return Err(Torn("a sample continues what never began"));
            }
            decimal(track.mantissa, usize::from(track.exponent))
        }
        ANEW => {
            track.exponent = reader.u8()?;
            track.mantissa = reader.zigzag()?;
            if usize::from(track.exponent) >= EXPONENTS {
                return Err(Torn("a sample has an impossible exponent"));
            }
            decimal(track.mantissa, usize::from(track.exponent))
        }
        BITS => f64::from_bits(reader.u64()?),
        _ => return Err(Torn("a sample has no known code")),
    };
    track.bits = value.to_bits();
    Ok(value)
}
