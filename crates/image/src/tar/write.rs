//! Writing the plain archives that `save` makes: files and directories with short names.

use std::io::{self, Write};

use super::BLOCK;

/// A writer of entries.
pub struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    /// Writes to `output`.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Writes the header of a file; exactly `size` bytes must follow through [`Writer::content`], then
    /// [`Writer::end_file`].
    pub fn begin_file(&mut self, path: &str, size: u64) -> io::Result<()> {
        self.output.write_all(&header(path, b'0', 0o444, size)?)
    }

    /// Content of the file begun.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)
    }

    /// Pads a file of `size` bytes.
    pub fn end_file(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.output.write_all(&[0; BLOCK][..padding as usize])
    }

    /// Writes a whole file.
    pub fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.begin_file(path, bytes.len() as u64)?;
        self.content(bytes)?;
        self.end_file(bytes.len() as u64)
    }

    /// Writes a directory.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.output.write_all(&header(path, b'5', 0o755, 0)?)
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        self.output.flush()?;
        Ok(self.output)
    }
}

/// A header of the year 1970, so that the same images give the same archive.
fn header(path: &str, flag: u8, mode: u32, size: u64) -> io::Result<[u8; BLOCK]> {
    if path.len() > 100 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path}: name too long for the archive")));
    }
    let mut block = [0; BLOCK];
    block[..path.len()].copy_from_slice(path.as_bytes());
    block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    if size < 1 << 33 {
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    Ok(block)
}
