//! Maps of sparse files: which pieces of the file the archive holds.

use super::{BLOCK, header, pax};

/// A piece of a file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// A map as it is read.
#[derive(Default)]
pub(super) struct Map {
    pieces: Vec<Piece>,
}

impl Map {
    pub fn push(&mut self, offset: u64, length: u64) {
        self.pieces.push(Piece { offset, length });
    }

    /// Memory taken.
    pub fn bytes(&self) -> u64 {
        (self.pieces.len() * size_of::<Piece>()) as u64
    }

    /// The pieces in a GNU header; whether extension blocks follow.
    pub fn old_header(&mut self, block: &[u8; BLOCK]) -> Result<bool, &'static str> {
        self.old_pieces(&block[386..482])?;
        Ok(block[482] != 0)
    }

    /// The pieces in an extension block; whether another follows.
    pub fn old_extension(&mut self, block: &[u8; BLOCK]) -> Result<bool, &'static str> {
        self.old_pieces(&block[..504])?;
        Ok(block[504] != 0)
    }

    fn old_pieces(&mut self, fields: &[u8]) -> Result<(), &'static str> {
        for pair in fields.chunks_exact(24) {
            if pair[0] == 0 {
                break;
            }
            self.push(header::number(&pair[..12])?, header::number(&pair[12..])?);
        }
        Ok(())
    }

    /// Checks the map against the file's size and the bytes that the archive holds of it.
    pub fn finish(mut self, size: u64, content: u64) -> Result<Vec<Piece>, &'static str> {
        let (mut end, mut total) = (0_u64, 0_u64);
        for piece in &self.pieces {
            let piece_end = piece.offset.checked_add(piece.length).ok_or("a sparse map out of range")?;
            if piece.offset < end || piece_end > size {
                return Err("a sparse map whose pieces overlap or lie outside the file");
            }
            end = piece_end;
            total += piece.length;
        }
        if total != content {
            return Err("a sparse map that does not fit the content");
        }
        self.pieces.retain(|piece| piece.length > 0);
        Ok(self.pieces)
    }
}

/// The map of PAX sparse version 1.0: decimal numbers, one a line, in blocks: how many pieces, then offset and length
/// of each.
#[derive(Default)]
pub(super) struct Decimal {
    number: Vec<u8>,
    expected: Option<u64>,
    numbers: Vec<u64>,
}

impl Decimal {
    pub fn is_whole(&self) -> bool {
        self.expected == Some(self.numbers.len() as u64)
    }

    pub fn bytes(&self) -> u64 {
        (self.numbers.len() * size_of::<u64>()) as u64
    }

    pub fn feed(&mut self, block: &[u8; BLOCK]) -> Result<(), &'static str> {
        for &byte in block {
            if self.is_whole() {
                break;
            }
            if byte != b'\n' {
                self.number.push(byte);
                if self.number.len() > 20 {
                    return Err("a sparse map with an endless number");
                }
                continue;
            }
            let value = pax::decimal(&self.number)?;
            self.number.clear();
            match self.expected {
                None => self.expected = Some(value.checked_mul(2).ok_or("a sparse map out of range")?),
                Some(_) => self.numbers.push(value),
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<Map, &'static str> {
        let mut map = Map::default();
        for pair in self.numbers.chunks_exact(2) {
            map.push(pair[0], pair[1]);
        }
        Ok(map)
    }
}
