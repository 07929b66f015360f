//! Records: what the payload of a frame says.
//!
//! ```text
//! group:  1 revision n { 1 key value | 2 key } × n          a transaction
//!         2 revision                                        a compaction
//! keys:   key modified created version (0 | 1 value)        a version; those of a key follow each other, oldest first
//! head:   revision compacted sequence seal segment position
//! end:    keys versions
//! ```
//!
//! Numbers are LEB128, keys and values are preceded by their length. Reading never trusts a length: it fails instead of
//! reserving memory for it.

use bytes::Bytes;

use crate::{Op, data::KEY_BYTES};

use super::index::Version;

/// A record that cannot be read, although its checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record in it cannot be decoded")]
pub struct Malformed;

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A transaction and its revision.
    Txn(u64, Vec<Op>),
    /// A compaction to a revision.
    Compact(u64),
}

/// The first frame of a checkpoint: the state that follows, and from where the log continues it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Revision of the state.
    pub revision: u64,
    /// Up to where it was compacted.
    pub compacted: u64,
    /// The log frame that it includes last.
    pub at: Place,
}

/// A place in the log: the end of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The frame's sequence.
    pub sequence: u64,
    /// The frame's seal.
    pub seal: u32,
    /// The segment it lies in.
    pub segment: u64,
    /// Where in the segment the next frame begins, in bytes.
    pub position: u64,
}

/// Appends a transaction.
pub fn put_txn(out: &mut Vec<u8>, revision: u64, ops: &[Op]) {
    out.push(1);
    put_number(out, revision);
    put_number(out, ops.len() as u64);
    for op in ops {
        match op {
            Op::Put { key, value } => {
                out.push(1);
                put_bytes(out, key.as_bytes());
                put_bytes(out, value);
            }
            Op::Delete { key } => {
                out.push(2);
                put_bytes(out, key.as_bytes());
            }
        }
    }
}

/// Appends a compaction.
pub fn put_compact(out: &mut Vec<u8>, revision: u64) {
    out.push(2);
    put_number(out, revision);
}

/// Appends a version of a key.
pub fn put_version(out: &mut Vec<u8>, key: &str, version: &Version) {
    put_bytes(out, key.as_bytes());
    put_number(out, version.modified);
    put_number(out, version.created);
    put_number(out, version.version);
    match &version.value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put_bytes(out, value);
        }
    }
}

/// Appends the head of a checkpoint.
pub fn put_head(out: &mut Vec<u8>, head: &Head) {
    let Place { sequence, seal, segment, position } = head.at;
    for number in [head.revision, head.compacted, sequence, u64::from(seal), segment, position] {
        put_number(out, number);
    }
}

/// Appends the end of a checkpoint.
pub fn put_end(out: &mut Vec<u8>, keys: u64, versions: u64) {
    put_number(out, keys);
    put_number(out, versions);
}

/// The records of a group, in order.
pub fn group(payload: &[u8]) -> impl Iterator<Item = Result<Record, Malformed>> {
    let mut input = Input(payload);
    std::iter::from_fn(move || {
        if input.0.is_empty() {
            return None;
        }
        let record = input.record();
        if record.is_err() {
            input.0 = &[];
        }
        Some(record)
    })
}

/// The versions in a checkpoint's frame of keys, in order.
pub fn versions(payload: &[u8]) -> impl Iterator<Item = Result<(&str, Version), Malformed>> {
    let mut input = Input(payload);
    std::iter::from_fn(move || {
        if input.0.is_empty() {
            return None;
        }
        let version = input.version();
        if version.is_err() {
            input.0 = &[];
        }
        Some(version)
    })
}

/// The head of a checkpoint.
pub fn head(payload: &[u8]) -> Result<Head, Malformed> {
    let mut input = Input(payload);
    let head = Head {
        revision: input.number()?,
        compacted: input.number()?,
        at: Place {
            sequence: input.number()?,
            seal: input.number()?.try_into().map_err(|_| Malformed)?,
            segment: input.number()?,
            position: input.number()?,
        },
    };
    input.end(head)
}

/// The end of a checkpoint: keys and versions.
pub fn end(payload: &[u8]) -> Result<(u64, u64), Malformed> {
    let mut input = Input(payload);
    let end = (input.number()?, input.number()?);
    input.end(end)
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn end<T>(&self, whole: T) -> Result<T, Malformed> {
        if self.0.is_empty() { Ok(whole) } else { Err(Malformed) }
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn key(&mut self) -> Result<&'a str, Malformed> {
        let key = self.bytes()?;
        if key.is_empty() || key.len() > KEY_BYTES {
            return Err(Malformed);
        }
        std::str::from_utf8(key).map_err(|_| Malformed)
    }

    fn value(&mut self) -> Result<Bytes, Malformed> {
        self.bytes().map(Bytes::copy_from_slice)
    }

    fn record(&mut self) -> Result<Record, Malformed> {
        match self.byte()? {
            1 => {
                let revision = self.number()?;
                let count = self.number()?;
                let mut ops = Vec::new();
                for _ in 0..count {
                    ops.push(match self.byte()? {
                        1 => Op::Put { key: self.key()?.into(), value: self.value()? },
                        2 => Op::Delete { key: self.key()?.into() },
                        _ => return Err(Malformed),
                    });
                }
                Ok(Record::Txn(revision, ops))
            }
            2 => self.number().map(Record::Compact),
            _ => Err(Malformed),
        }
    }

    fn version(&mut self) -> Result<(&'a str, Version), Malformed> {
        let key = self.key()?;
        let (modified, created, version) = (self.number()?, self.number()?, self.number()?);
        let value = match self.byte()? {
            0 => None,
            1 => Some(self.value()?),
            _ => return Err(Malformed),
        };
        Ok((key, Version { modified, created, version, value }))
    }
}

#[cfg(test)]
mod tests;
