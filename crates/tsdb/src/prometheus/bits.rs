//! Streams of bits, high ones first, and the numbers that Prometheus writes into them.

use crate::bytes::Torn;

/// Widths of numbers by their prefix: `0`, `10`, `110` and so on; after eight ones comes a whole word.
const WIDTHS: [u32; 8] = [0, 3, 6, 9, 12, 18, 25, 56];

/// Bits that are written.
#[derive(Debug, Default)]
pub struct BitWriter {
    /// The bytes so far, the last one filled up with zeros.
    pub bytes: Vec<u8>,
    free: u32,
}

impl BitWriter {
    /// The `count` low bits of `value`.
    pub fn bits(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let now = left.min(self.free);
            let part = (value >> (left - now)) & ((1 << now) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (self.free - now)) as u8;
            }
            self.free -= now;
            left -= now;
        }
    }

    /// Seven bits a byte, low ones first.
    pub fn uvarint(&mut self, value: u64) {
        let mut bytes = Vec::new();
        crate::bytes::put_varint(&mut bytes, value);
        bytes.iter().for_each(|byte| self.bits(u64::from(*byte), 8));
    }

    /// Unsigned, in 1 to 72 bits.
    pub fn varbit(&mut self, value: u64) {
        let width = 64 - value.leading_zeros();
        self.prefixed(value, WIDTHS.iter().position(|have| width <= *have));
    }

    /// Signed, in 1 to 72 bits.
    pub fn signed_varbit(&mut self, value: i64) {
        let place = if value == 0 { Some(0) } else { (1..8).find(|place| fits(value, WIDTHS[*place])) };
        self.prefixed(value as u64, place);
    }

    fn prefixed(&mut self, value: u64, place: Option<usize>) {
        match place {
            Some(place) => {
                self.bits((1 << (place + 1)) - 2, place as u32 + 1);
                self.bits(value, WIDTHS[place]);
            }
            None => {
                self.bits(0xff, 8);
                self.bits(value, 64);
            }
        }
    }
}

/// Whether a number fits so many bits, of which one pattern stands for the largest and not for the smallest.
pub fn fits(value: i64, width: u32) -> bool {
    -((1i64 << (width - 1)) - 1) <= value && value <= 1i64 << (width - 1)
}

/// The reverse of writing the low bits of what [`fits`].
pub fn widened(bits: u64, width: u32) -> i64 {
    if bits > 1 << (width - 1) { bits.wrapping_sub(1 << width) as i64 } else { bits as i64 }
}

/// Bits that are read.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    /// From the first bit on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bits.
    pub fn bits(&mut self, count: u32) -> Result<u64, Torn> {
        let end = self.at + count as usize;
        if end > self.bytes.len() * 8 {
            return Err(Torn("a chunk ends early"));
        }
        let mut value = 0u64;
        while self.at < end {
            let (byte, offset) = (self.bytes[self.at / 8], self.at % 8);
            let now = (8 - offset).min(end - self.at);
            let part = (byte >> (8 - offset - now)) & (0xffu16 >> (8 - now)) as u8;
            value = value << now | u64::from(part);
            self.at += now;
        }
        Ok(value)
    }

    /// How many ones come before a zero; no more than `most` bits are read.
    pub fn ones(&mut self, most: u32) -> Result<u32, Torn> {
        for ones in 0..most {
            if self.bits(1)? == 0 {
                return Ok(ones);
            }
        }
        Ok(most)
    }

    /// See [`BitWriter::uvarint`].
    pub fn uvarint(&mut self) -> Result<u64, Torn> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bits(8)?;
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Torn("a number has too many bytes"))
    }

    /// See [`BitWriter::varbit`].
    pub fn varbit(&mut self) -> Result<u64, Torn> {
        match self.ones(8)? {
            8 => self.bits(64),
            place => self.bits(WIDTHS[place as usize]),
        }
    }

    /// See [`BitWriter::signed_varbit`].
    pub fn signed_varbit(&mut self) -> Result<i64, Torn> {
        match self.ones(8)? {
            8 => Ok(self.bits(64)? as i64),
            0 => Ok(0),
            place => {
                let width = WIDTHS[place as usize];
                Ok(widened(self.bits(width)?, width))
            }
        }
    }
}

/// A float that is written against the one before.
#[derive(Clone, Copy, Debug)]
pub struct Chained {
    bits: u64,
    /// Zeros in front and behind of the last difference that was written whole.
    window: Option<(u32, u32)>,
}

impl Chained {
    /// Begins with a value, which is written elsewhere.
    pub fn new(value: f64) -> Self {
        Self { bits: value.to_bits(), window: None }
    }

    /// Writes the next value.
    pub fn write(&mut self, value: f64, out: &mut BitWriter) {
        let difference = value.to_bits() ^ std::mem::replace(&mut self.bits, value.to_bits());
        if difference == 0 {
            return out.bits(0, 1);
        }
        let (front, behind) = (difference.leading_zeros().min(31), difference.trailing_zeros());
        match self.window {
            Some(window) if front >= window.0 && behind >= window.1 => {
                out.bits(0b10, 2);
                out.bits(difference >> window.1, 64 - window.0 - window.1);
            }
            _ => {
                self.window = Some((front, behind));
                let width = 64 - front - behind;
                out.bits(0b11, 2);
                out.bits(u64::from(front), 5);
                // 64 does not fit and is written as 0, which never occurs.
                out.bits(u64::from(width), 6);
                out.bits(difference >> behind, width);
            }
        }
    }

    /// Reads the next value.
    pub fn read(&mut self, reader: &mut BitReader<'_>) -> Result<f64, Torn> {
        if reader.bits(1)? == 1 {
            if reader.bits(1)? == 1 {
                let front = reader.bits(5)? as u32;
                let width = match reader.bits(6)? as u32 {
                    0 => 64,
                    width => width,
                };
                let behind = 64u32.checked_sub(front + width).ok_or(Torn("a float has too many bits"))?;
                self.window = Some((front, behind));
            }
            let (front, behind) = self.window.ok_or(Torn("a float continues what never began"))?;
            self.bits ^= reader.bits(64 - front - behind)? << behind;
        }
        Ok(f64::from_bits(self.bits))
    }
}
