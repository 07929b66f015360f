//! Reading and writing of small things: varints, strings, fixed words.
//!
//! Everything that comes from a file is read through [`Reader`], which never reads past its end and never panics: a
//! [`Torn`] says that the bytes are not what was written.

/// The bytes end early or say what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Torn(pub &'static str);

/// Seven bits a byte, low ones first.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small numbers of either sign in few bytes.
pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// A length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Signed to unsigned, small magnitudes to small numbers.
#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The reverse of [`zigzag`].
#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Torn> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Torn("bytes end early"))?;
        self.0 = rest;
        Ok(head)
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Torn> {
        let (&first, rest) = self.0.split_first().ok_or(Torn("bytes end early"))?;
        self.0 = rest;
        Ok(first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Torn> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Torn("bytes end early"))?;
        self.0 = rest;
        Ok(*head)
    }

    /// Four bytes, low ones first.
    pub fn u32(&mut self) -> Result<u32, Torn> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, low ones first.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Torn> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Eight bytes, low ones first.
    pub fn i64(&mut self) -> Result<i64, Torn> {
        Ok(self.u64()? as i64)
    }

    /// See [`put_varint`].
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Torn> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Torn("a number has too many bytes"))
    }

    /// See [`put_zigzag`].
    #[inline]
    pub fn zigzag(&mut self) -> Result<i64, Torn> {
        Ok(unzigzag(self.varint()?))
    }

    /// A varint that fits 32 bits.
    pub fn varint32(&mut self) -> Result<u32, Torn> {
        u32::try_from(self.varint()?).map_err(|_| Torn("a number is too large"))
    }

    /// A count of things that take at least `each` bytes each of what is left, so that no bad count makes a large
    /// allocation.
    pub fn count(&mut self, each: usize) -> Result<usize, Torn> {
        let count = self.varint()?;
        if count > (self.0.len() / each.max(1)) as u64 {
            return Err(Torn("a count exceeds what follows"));
        }
        Ok(count as usize)
    }

    /// See [`put_bytes`].
    pub fn bytes(&mut self) -> Result<&'a [u8], Torn> {
        let length = self.count(1)?;
        self.take(length)
    }

    /// See [`put_bytes`]; text is UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Torn> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Torn("text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests;
