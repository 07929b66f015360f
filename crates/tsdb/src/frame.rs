//! Records in files that only grow: the log and the list of series.
//!
//! ```text
//!   mark "mdR1" │ length of the payload │ checksum of kind and payload │ kind │ payload
//! ```
//!
//! Behind a record that is damaged the next sound one is looked for by its mark and its checksum, so that damage costs
//! the records it lies in and no others.

const MARK: [u8; 4] = *b"mdR1";
const HEAD: usize = 13;

/// Bytes of a payload at most.
pub const PAYLOAD: usize = 1 << 28;

/// Appends a record whose payload `write` appends.
pub fn put(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; 8]);
    out.push(kind);
    write(out);
    let length = (out.len() - start - HEAD) as u32;
    let checksum = crc32fast::hash(&out[start + HEAD - 1..]);
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
}

/// What a file holds, piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A sound record.
    Record {
        /// Its kind.
        kind: u8,
        /// What it says.
        payload: &'a [u8],
    },
    /// Bytes that are no record.
    Damage {
        /// Where they begin.
        offset: usize,
        /// How many there are.
        length: usize,
    },
}

/// The pieces of a file.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Pieces<'a> {
    /// Of the bytes of a file.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

fn record(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let head = bytes.first_chunk::<HEAD>()?;
    if head[..4] != MARK {
        return None;
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let length = word(4) as usize;
    if length > PAYLOAD {
        return None;
    }
    let covered = bytes.get(HEAD - 1..HEAD + length)?;
    (crc32fast::hash(covered) == word(8)).then(|| (covered[0], &covered[1..]))
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        if let Some((kind, payload)) = record(rest) {
            self.at += HEAD + payload.len();
            return Some(Piece::Record { kind, payload });
        }
        let offset = self.at;
        // Each candidate is checked once, and most bytes are no candidates.
        let mut next = offset + 1;
        while next < self.bytes.len() {
            match memchr::memmem::find(&self.bytes[next..], &MARK) {
                Some(found) if record(&self.bytes[next + found..]).is_some() => {
                    next += found;
                    break;
                }
                Some(found) => next += found + 1,
                None => next = self.bytes.len(),
            }
        }
        self.at = next.min(self.bytes.len());
        Some(Piece::Damage { offset, length: self.at - offset })
    }
}

#[cfg(test)]
mod tests;
