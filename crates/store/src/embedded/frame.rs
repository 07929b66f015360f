//! Frames: the unit that every file of the store is made of.
//!
//! ```text
//! 0        8         24         32         40       44            48         52        60          64
//! ┌────────┬─────────┬──────────┬──────────┬────────┬─────────────┬──────────┬─────────┬───────────┬─────────┬─────────┐
//! │ magic, │ store   │ sequence │ revision │ length │ payload     │ previous │ zero    │ header    │ payload │ zeros   │
//! │ kind   │ id      │          │          │        │ checksum    │ seal     │         │ checksum  │         │ to 4096 │
//! └────────┴─────────┴──────────┴──────────┴────────┴─────────────┴──────────┴─────────┴───────────┴─────────┴─────────┘
//! ```
//!
//! A frame begins at a multiple of 4096 bytes and owns its last block to the end. So what was once synced is never written
//! again by a later frame, and a reader that met damage finds the next frame by looking at every block. A header names the
//! store by a random id, which keeps bytes that users store from being taken for a frame. The header checksum is the
//! frame's *seal*; each frame carries the seal of the one before it, so a frame can only follow the one it was written
//! after.

use std::{fs::File, io, os::unix::fs::FileExt};

/// Alignment of frames, in bytes: the block size of the file systems and the sector size of the disks it runs on.
pub const BLOCK: usize = 4096;
/// Length of a header, in bytes.
pub const HEADER: usize = 64;
/// The largest payload, in bytes, which a reader may be made to hold in memory.
pub const PAYLOAD: usize = 4 << 20;

const MAGIC: [u8; 6] = *b"madang";
const FORMAT: u8 = 1;

/// The random name of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreId(pub [u8; 16]);

impl StoreId {
    /// A new one, from the system's randomness.
    pub fn random() -> io::Result<Self> {
        let mut id = [0; 16];
        io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut id)?;
        Ok(Self(id))
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A group of transactions in the log.
    Group = 1,
    /// The beginning of a checkpoint.
    Head = 2,
    /// Keys of a checkpoint.
    Keys = 3,
    /// The end of a checkpoint.
    End = 4,
}

/// A header, but for what is found in every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame holds.
    pub kind: Kind,
    /// The store it belongs to.
    pub id: StoreId,
    /// Its place among the groups of the log, from 1, or among the frames of a checkpoint, from 0.
    pub sequence: u64,
    /// The store's revision after it.
    pub revision: u64,
    /// Payload bytes.
    pub length: u32,
    /// Checksum (CRC-32) of the payload.
    pub checksum: u32,
    /// The seal of the frame before.
    pub previous: u32,
    /// The checksum of this header.
    pub seal: u32,
}

impl Header {
    /// The header at the start of `block`, if one that is whole stands there.
    pub fn parse(block: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER] = block.get(..HEADER)?.try_into().ok()?;
        if bytes[..6] != MAGIC || bytes[6] != FORMAT || u32_at(bytes, 60) != crc32fast::hash(&bytes[..60]) {
            return None;
        }
        let kind = match bytes[7] {
            1 => Kind::Group,
            2 => Kind::Head,
            3 => Kind::Keys,
            4 => Kind::End,
            _ => return None,
        };
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[8..24]);
        Some(Self {
            kind,
            id: StoreId(id),
            sequence: u64_at(bytes, 24),
            revision: u64_at(bytes, 32),
            length: u32_at(bytes, 40),
            checksum: u32_at(bytes, 44),
            previous: u32_at(bytes, 48),
            seal: u32_at(bytes, 60),
        })
    }

    /// How many bytes the frame takes in its file.
    pub fn extent(&self) -> u64 {
        (HEADER as u64 + u64::from(self.length)).next_multiple_of(BLOCK as u64)
    }
}

/// A frame being written.
#[derive(Debug)]
pub struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    /// An empty frame; its buffer is reused by [`Frame::clear`].
    pub fn new() -> Self {
        Self { bytes: vec![0; HEADER] }
    }

    /// Forgets the payload.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER);
        // One large group should not pin its memory for ever.
        self.bytes.shrink_to(PAYLOAD / 8);
    }

    /// Where the payload is appended.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Payload bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len() - HEADER
    }

    /// Writes header and padding; the whole frame, and its seal.
    pub fn seal(&mut self, kind: Kind, id: StoreId, sequence: u64, revision: u64, previous: u32) -> (&[u8], u32) {
        let length = self.len();
        debug_assert!(length <= PAYLOAD);
        let checksum = crc32fast::hash(&self.bytes[HEADER..]);
        let header = &mut self.bytes[..HEADER];
        header.fill(0);
        header[..6].copy_from_slice(&MAGIC);
        header[6] = FORMAT;
        header[7] = kind as u8;
        header[8..24].copy_from_slice(&id.0);
        header[24..32].copy_from_slice(&sequence.to_le_bytes());
        header[32..40].copy_from_slice(&revision.to_le_bytes());
        header[40..44].copy_from_slice(&(length as u32).to_le_bytes());
        header[44..48].copy_from_slice(&checksum.to_le_bytes());
        header[48..52].copy_from_slice(&previous.to_le_bytes());
        let seal = crc32fast::hash(&header[..60]);
        header[60..64].copy_from_slice(&seal.to_le_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        (&self.bytes, seal)
    }
}

/// What stands at a place in a file.
#[derive(Debug)]
pub enum Found<'a> {
    /// A whole frame.
    Frame(Header, &'a [u8]),
    /// A whole header, with a payload that does not fit it.
    Torn(Header),
    /// No header.
    Nothing,
}

/// Reads a file of frames through a window of bounded size.
#[derive(Debug)]
pub struct Reader<'a> {
    file: &'a File,
    length: u64,
    window: Vec<u8>,
    start: u64,
}

impl<'a> Reader<'a> {
    const WINDOW: usize = 1 << 20;

    /// A reader of `file`, at any offset.
    pub fn new(file: &'a File) -> io::Result<Self> {
        Ok(Self { file, length: file.metadata()?.len(), window: Vec::new(), start: 0 })
    }

    /// Bytes in the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Up to `length` bytes from `offset` on: fewer where the file ends.
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let end = self.start + self.window.len() as u64;
        if offset < self.start || (offset + length as u64).min(self.length) > end {
            let left = self.length.saturating_sub(offset);
            self.window.resize(left.min(length.max(Self::WINDOW) as u64) as usize, 0);
            self.start = offset;
            let mut filled = 0;
            while filled < self.window.len() {
                match self.file.read_at(&mut self.window[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.window.truncate(filled);
        }
        let from = offset.saturating_sub(self.start).min(self.window.len() as u64) as usize;
        let to = (from + length).min(self.window.len());
        Ok(&self.window[from..to])
    }

    /// What stands at `offset`.
    pub fn at(&mut self, offset: u64) -> io::Result<Found<'_>> {
        let Some(header) = self.header(offset)? else { return Ok(Found::Nothing) };
        let length = header.length as usize;
        if length > PAYLOAD {
            return Ok(Found::Torn(header));
        }
        let bytes = self.bytes(offset, HEADER + length)?;
        match bytes.get(HEADER..HEADER + length) {
            Some(payload) if crc32fast::hash(payload) == header.checksum => Ok(Found::Frame(header, payload)),
            _ => Ok(Found::Torn(header)),
        }
    }

    /// The header at `offset`, whatever its payload.
    pub fn header(&mut self, offset: u64) -> io::Result<Option<Header>> {
        Ok(Header::parse(self.bytes(offset, HEADER)?))
    }

    /// Whether the block at `offset` is all zeros, or past the end.
    pub fn blank(&mut self, offset: u64) -> io::Result<bool> {
        Ok(self.bytes(offset, BLOCK)?.iter().all(|byte| *byte == 0))
    }

    /// The headers at block boundaries from `offset` on, with their offsets, until `wanted` is true of one.
    pub fn find(&mut self, offset: u64, wanted: impl Fn(&Header) -> bool) -> io::Result<Option<(u64, Header)>> {
        let mut at = offset.next_multiple_of(BLOCK as u64);
        while at < self.length {
            if let Some(header) = self.header(at)?.filter(&wanted) {
                return Ok(Some((at, header)));
            }
            at += BLOCK as u64;
        }
        Ok(None)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
