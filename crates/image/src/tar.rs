//! Reading tar archives as layers come: ustar, PAX, GNU and old formats, sparse files of every kind.
//!
//! ```text
//! ┌ header 512 ┐┌ content, padded to 512 ┐┌ header … ┐ … ┌ 1024 zeros ┐
//!   x, L, K: the content is about the next header      S, GNU.sparse.*: content is the pieces that are not holes
//! ```
//!
//! Where writers disagree, this reads like Go's `archive/tar`, because every image tool is written with it: PAX global
//! headers are ignored, links and directories have no content whatever their size says, an archive may end without its
//! zero blocks. A reader of our own, since the crate `tar` knows no PAX sparse files and sets no bounds.
//!
//! Formats: <https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html> and
//! <https://www.gnu.org/software/tar/manual/html_node/Tar-Internals.html>.

use std::io::{self, BufRead};

mod header;
mod pax;
mod sparse;
pub mod tree;
pub mod write;

use header::Header;
use pax::Records;
pub use sparse::Piece;

/// Bytes of a block.
const BLOCK: usize = 512;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or decompressing failed; a truncated archive is an unexpected end of file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not a tar archive, or a damaged one.
    #[error("damaged tar archive at byte {offset}: {reason}")]
    Damaged {
        /// Where, in the archive without its compression.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Beyond a bound.
    #[error("tar archive at byte {offset}: {what} is larger than {limit} bytes")]
    TooLarge {
        /// Where.
        offset: u64,
        /// What.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry; its content comes through [`Archive::content`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As written, without NUL.
    pub path: Vec<u8>,
    /// Target of links.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Size of the file with its holes.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u64, u64),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the content goes, when the file has holes.
    pub pieces: Option<Vec<Piece>>,
}

/// A reader of entries.
pub struct Archive<R> {
    input: R,
    offset: u64,
    /// Content of the current entry not yet read.
    content: u64,
    /// Zeros after it.
    padding: u64,
    header_limit: u64,
}

impl<R: BufRead> Archive<R> {
    /// Reads from `input`. Long names, PAX records and sparse maps may have up to `header_limit` bytes each.
    pub fn new(input: R, header_limit: u64) -> Self {
        Self { input, offset: 0, content: 0, padding: 0, header_limit }
    }

    /// The next entry, whatever is left of the last one skipped; nothing at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut records = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            self.skip_content()?;
            let start = self.offset;
            let Some(block) = self.header_block()? else { return Ok(None) };
            let header = Header::parse(&block).map_err(|reason| Error::Damaged { offset: start, reason })?;
            match header.flag {
                b'x' => records = self.records(header.size)?,
                b'g' => {
                    // Checked, then ignored, as upstream does.
                    self.records(header.size)?;
                }
                b'L' => long_name = Some(self.text(header.size, "a long name")?),
                b'K' => long_link = Some(self.text(header.size, "a long link name")?),
                _ => return self.entry(&block, header, records, long_name, long_link, start).map(Some),
            }
        }
    }

    /// The next bytes of the current entry's content; empty at its end. [`Archive::consume`] moves on.
    pub fn content(&mut self) -> Result<&[u8], Error> {
        if self.content == 0 {
            return Ok(&[]);
        }
        let bytes = self.input.fill_buf()?;
        if bytes.is_empty() {
            return Err(truncated().into());
        }
        let length = bytes.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        Ok(&bytes[..length])
    }

    /// Moves past `length` bytes that [`Archive::content`] gave.
    pub fn consume(&mut self, length: usize) {
        debug_assert!(length as u64 <= self.content);
        self.input.consume(length);
        self.offset += length as u64;
        self.content -= length as u64;
    }

    /// Reads what follows the end of the archive, so that whoever counts or hashes sees all of it.
    pub fn into_rest(mut self) -> Result<R, Error> {
        loop {
            let length = self.input.fill_buf()?.len();
            if length == 0 {
                return Ok(self.input);
            }
            self.input.consume(length);
        }
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        header: Header,
        records: Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        start: u64,
    ) -> Result<Entry, Error> {
        let damaged = |reason| Error::Damaged { offset: start, reason };
        let kind = match header.flag {
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return Err(damaged("an entry of an unknown kind")),
        };
        let mut entry = Entry {
            kind,
            mode: header.mode & 0o7777,
            uid: header.uid,
            gid: header.gid,
            mtime: (header.mtime, 0),
            size: header.size,
            device: header.device,
            path: header.path,
            link: header.link,
            xattrs: Vec::new(),
            pieces: None,
        };
        records.apply(&mut entry).map_err(damaged)?;
        entry.path = long_name.unwrap_or(entry.path);
        entry.link = long_link.unwrap_or(entry.link);
        // Before POSIX a directory was a file whose name ends in a slash.
        if header.flag == 0 && entry.path.ends_with(b"/") {
            entry.kind = Kind::Directory;
        }
        if entry.kind != Kind::File {
            entry.size = 0;
            return Ok(entry);
        }
        self.begin(entry.size).map_err(damaged)?;
        if header.flag == b'S' {
            self.old_sparse(block, &mut entry, start)?;
        } else if let Some(name) = records.sparse_name() {
            entry.path = name;
        }
        if header.flag != b'S' {
            self.pax_sparse(&records, &mut entry, start)?;
        }
        Ok(entry)
    }

    /// GNU's own sparse header: four pieces in the header, 21 in each block that follows.
    fn old_sparse(&mut self, block: &[u8; BLOCK], entry: &mut Entry, start: u64) -> Result<(), Error> {
        let damaged = |reason| Error::Damaged { offset: start, reason };
        let mut map = sparse::Map::default();
        let mut more = map.old_header(block).map_err(damaged)?;
        let content = self.content;
        (self.content, self.padding) = (0, 0);
        while more {
            let extension = self.whole_block()?;
            more = map.old_extension(&extension).map_err(damaged)?;
            self.bounded(map.bytes(), "a sparse map")?;
        }
        self.begin(content).map_err(damaged)?;
        entry.size = header::number(&block[483..495]).map_err(damaged)?;
        entry.pieces = Some(map.finish(entry.size, content).map_err(damaged)?);
        Ok(())
    }

    /// Sparse files as PAX records of versions 0.0 and 0.1, or announced by records, the map in front of the content.
    fn pax_sparse(&mut self, records: &Records, entry: &mut Entry, start: u64) -> Result<(), Error> {
        let damaged = |reason| Error::Damaged { offset: start, reason };
        let Some(kind) = records.sparse().map_err(damaged)? else { return Ok(()) };
        let map = match kind {
            pax::Sparse::Listed(map) => map,
            pax::Sparse::InContent => {
                let mut map = sparse::Decimal::default();
                while !map.is_whole() {
                    if self.content < BLOCK as u64 {
                        return Err(damaged("a sparse map without an end"));
                    }
                    let block = self.whole_block()?;
                    self.content -= BLOCK as u64;
                    self.bounded(map.bytes() + BLOCK as u64, "a sparse map")?;
                    map.feed(&block).map_err(damaged)?;
                }
                map.finish().map_err(damaged)?
            }
        };
        entry.size = records.sparse_size(entry.size).map_err(damaged)?;
        entry.pieces = Some(map.finish(entry.size, self.content).map_err(damaged)?);
        Ok(())
    }

    fn begin(&mut self, size: u64) -> Result<(), &'static str> {
        if size > i64::MAX as u64 {
            return Err("a size out of range");
        }
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        let mut left = self.content + self.padding;
        while left > 0 {
            let length = self.input.fill_buf()?.len();
            if length == 0 {
                // Some writers leave out the padding of the very last entry.
                if self.content == 0 {
                    break;
                }
                return Err(truncated().into());
            }
            let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.input.consume(length);
            self.offset += length as u64;
            left -= length as u64;
            self.content = self.content.saturating_sub(length as u64);
        }
        (self.content, self.padding) = (0, 0);
        Ok(())
    }

    /// A header, or nothing at two zero blocks or at the end of input.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let block = self.whole_block()?;
        if block.iter().any(|&byte| byte != 0) {
            return Ok(Some(block));
        }
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let offset = self.offset;
        match self.whole_block()?.iter().any(|&byte| byte != 0) {
            true => Err(Error::Damaged { offset, reason: "an empty header before the end" }),
            false => Ok(None),
        }
    }

    fn whole_block(&mut self) -> Result<[u8; BLOCK], Error> {
        let mut block = [0; BLOCK];
        io::Read::read_exact(&mut self.input, &mut block).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => truncated(),
            _ => error,
        })?;
        self.offset += BLOCK as u64;
        Ok(block)
    }

    fn bounded(&self, size: u64, what: &'static str) -> Result<(), Error> {
        match size > self.header_limit {
            true => Err(Error::TooLarge { offset: self.offset, what, limit: self.header_limit }),
            false => Ok(()),
        }
    }

    /// The whole content of a header about the next entry.
    fn extension(&mut self, size: u64, what: &'static str) -> Result<Vec<u8>, Error> {
        self.bounded(size, what)?;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        io::Read::read_exact(&mut self.input, &mut bytes)?;
        self.offset += size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(bytes)
    }

    fn records(&mut self, size: u64) -> Result<Records, Error> {
        let offset = self.offset;
        let bytes = self.extension(size, "an extended header")?;
        Records::parse(&bytes).map_err(|reason| Error::Damaged { offset, reason })
    }

    fn text(&mut self, size: u64, what: &'static str) -> Result<Vec<u8>, Error> {
        let mut bytes = self.extension(size, what)?;
        if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
            bytes.truncate(end);
        }
        Ok(bytes)
    }
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is truncated")
}
