//! Protocol buffers on the wire: fields in, fields out.
//!
//! Remote write is a hot path whose messages are mostly references into a table, so they are read in place instead of being
//! made into objects first. See <https://protobuf.dev/programming-guides/encoding/>.

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Torn {
    /// It ends inside a field.
    #[error("unexpected EOF")]
    Short,
    /// A number has too many digits.
    #[error("integer overflow")]
    Overflow,
    /// A field has another type than it should.
    #[error("wrong wire type {0}")]
    Type(u8),
    /// A string is not UTF-8.
    #[error("invalid UTF-8")]
    Text,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// A number of variable length.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A message, a string or packed numbers.
    Bytes(&'a [u8]),
}

/// Reads the fields of a message.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next field with its number; none at the end.
    pub fn field(&mut self) -> Result<Option<(u32, Field<'a>)>, Torn> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Torn::Overflow)?;
        let value = match (key & 7) as u8 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Torn::Short)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Torn::Overflow)?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Torn::Short)?)),
            other => return Err(Torn::Type(other)),
        };
        Ok(Some((number, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Torn> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Torn::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of variable length.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Torn> {
        let mut value = 0u64;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if at == 9 && bits > 1 {
                return Err(Torn::Overflow);
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 { Torn::Short } else { Torn::Overflow })
    }
}

impl<'a> Field<'a> {
    fn wire(&self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32(_) => 5,
        }
    }

    /// A whole number.
    pub fn varint(self) -> Result<u64, Torn> {
        match self {
            Self::Varint(value) => Ok(value),
            other => Err(Torn::Type(other.wire())),
        }
    }

    /// A whole number with a sign, in zigzag form.
    pub fn sint(self) -> Result<i64, Torn> {
        self.varint().map(unzigzag)
    }

    /// A float.
    pub fn double(self) -> Result<f64, Torn> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            other => Err(Torn::Type(other.wire())),
        }
    }

    /// A message, or bytes.
    pub fn bytes(self) -> Result<&'a [u8], Torn> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(Torn::Type(other.wire())),
        }
    }

    /// A string.
    pub fn text(self) -> Result<&'a str, Torn> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Torn::Text)
    }

    /// Numbers of a repeated field, packed or one of them.
    pub fn varints(self, mut take: impl FnMut(u64)) -> Result<(), Torn> {
        match self {
            Self::Varint(value) => take(value),
            Self::Bytes(bytes) => {
                let mut reader = Reader(bytes);
                while !reader.0.is_empty() {
                    take(reader.varint()?);
                }
            }
            other => return Err(Torn::Type(other.wire())),
        }
        Ok(())
    }

    /// Floats of a repeated field, packed or one of them.
    pub fn doubles(self, mut take: impl FnMut(f64)) -> Result<(), Torn> {
        match self {
            Self::Fixed64(bits) => take(f64::from_bits(bits)),
            Self::Bytes(bytes) => {
                let (floats, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(Torn::Short);
                }
                floats.iter().for_each(|bytes| take(f64::from_le_bytes(*bytes)));
            }
            other => return Err(Torn::Type(other.wire())),
        }
        Ok(())
    }
}

/// A number with a sign from its zigzag form.
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Writes the fields of a message.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, number: u32, wire: u8) {
        self.raw(u64::from(number) << 3 | u64::from(wire));
    }

    /// A whole number; one below zero as ten bytes.
    pub fn varint(&mut self, number: u32, value: u64) {
        self.key(number, 0);
        self.raw(value);
    }

    /// A whole number with a sign, in zigzag form.
    pub fn sint(&mut self, number: u32, value: i64) {
        self.varint(number, (value << 1 ^ value >> 63) as u64);
    }

    /// A float.
    pub fn double(&mut self, number: u32, value: f64) {
        self.key(number, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes.
    pub fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.key(number, 2);
        self.raw(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A string.
    pub fn text(&mut self, number: u32, text: &str) {
        self.bytes(number, text.as_bytes());
    }

    /// A message.
    pub fn message(&mut self, number: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(number, &inner.0);
    }

    /// Packed whole numbers.
    pub fn varints(&mut self, number: u32, values: impl IntoIterator<Item = u64>) {
        let mut inner = Self::default();
        values.into_iter().for_each(|value| inner.raw(value));
        if !inner.0.is_empty() {
            self.bytes(number, &inner.0);
        }
    }

    /// Packed whole numbers with signs, in zigzag form.
    pub fn sints(&mut self, number: u32, values: impl IntoIterator<Item = i64>) {
        self.varints(number, values.into_iter().map(|value| (value << 1 ^ value >> 63) as u64));
    }

    /// Packed floats.
    pub fn doubles(&mut self, number: u32, values: &[f64]) {
        if values.is_empty() {
            return;
        }
        self.key(number, 2);
        self.raw(8 * values.len() as u64);
        values.iter().for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
    }

    /// The message with its length before it.
    pub fn delimited(self) -> Vec<u8> {
        self.delimited_with(&[])
    }

    /// The same with something between the length and the message.
    pub fn delimited_with(self, between: &[u8]) -> Vec<u8> {
        let mut out = Self::default();
        out.raw(self.0.len() as u64);
        out.0.extend_from_slice(between);
        out.0.extend_from_slice(&self.0);
        out.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut writer = Writer::default();
        writer.varint(1, u64::MAX);
        writer.sint(2, -3);
        writer.double(3, 1.5);
        writer.text(4, "é");
        writer.sints(5, [i64::MIN, 0, i64::MAX]);
        writer.doubles(6, &[0.5, f64::INFINITY]);
        let mut reader = Reader(&writer.0);
        let mut next = || reader.field().unwrap().unwrap();
        assert_eq!(next(), (1, Field::Varint(u64::MAX)));
        assert_eq!(next().1.sint(), Ok(-3));
        assert_eq!(next().1.double(), Ok(1.5));
        assert_eq!(next().1.text(), Ok("é"));
        let mut whole = Vec::new();
        next().1.varints(|value| whole.push(unzigzag(value))).unwrap();
        assert_eq!(whole, [i64::MIN, 0, i64::MAX]);
        let mut floats = Vec::new();
        next().1.doubles(|value| floats.push(value)).unwrap();
        assert_eq!(floats, [0.5, f64::INFINITY]);
        assert_eq!(reader.field(), Ok(None));
    }

    #[test]
    fn torn_messages_are_refused() {
        let cases: [(&[u8], Torn); 6] = [
            (&[0x08], Torn::Short),
            (&[0x12, 0x05, 1], Torn::Short),
            (&[0x0b], Torn::Type(3)),
            (&[0x09, 1, 2], Torn::Short),
            (&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], Torn::Overflow),
            (&[0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], Torn::Short),
        ];
        for (bytes, torn) in cases {
            assert_eq!(Reader(bytes).field(), Err(torn), "{bytes:?}");
        }
    }
}
