//! A run's log: one file of text for all of it, and an index of which bytes are whose.
//!
//! ```text
//! log        ...first line\nof another branch\nsecond line\n...
//! log.index  offset u64 │ step u32 │ milliseconds since 1970 u64        an entry wherever the step changes, and every 64 KiB
//! ```
//!
//! Readers name a place by its byte offset, which never means anything else later: text is only appended. What a step wrote are the
//! bytes between its entries and those after them, put together; an offset into that is as stable.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::Record;

/// Bytes of a log; what comes after is not kept.
pub const LONGEST: u64 = 512 << 20;
/// Who wrote what no step did.
pub const NOBODY: u32 = 0;
/// An entry of the index.
const ENTRY: usize = 20;
/// Bytes after which there is an entry even where the step stays the same.
const EVERY: u64 = 64 << 10;
/// Entries of an index.
const MOST_ENTRIES: u64 = 2 << 20;

/// A log that is written to.
#[derive(Debug)]
pub struct Log {
    file: File,
    index: File,
    bytes: u64,
    entries: u64,
    last: Option<(u32, u64)>,
    truncated: bool,
}

impl Log {
    /// Opens a run's log, new or not.
    ///
    /// # Errors
    /// The files cannot be opened.
    pub fn open(record: &Record) -> io::Result<Self> {
        let open = |path: &Path| OpenOptions::new().read(true).append(true).create(true).open(path);
        let (file, index) = (open(&record.log())?, open(&record.log_index())?);
        let bytes = file.metadata()?.len();
        // An entry that was half written, or whose text was not written any more.
        let mut entries = index.metadata()?.len() / ENTRY as u64;
        while entries > 0 && entry(&index, entries - 1)?.0 > bytes {
            entries -= 1;
        }
        index.set_len(entries * ENTRY as u64)?;
        Ok(Self { file, index, bytes, entries, last: None, truncated: bytes >= LONGEST })
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there was more than a log may hold.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Appends what a step wrote; `now` in milliseconds since 1970.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn append(&mut self, step: u32, text: &[u8], now: u64) -> io::Result<()> {
        const NOTE: &[u8] = b"\n[the log is longer than is kept: what follows is left out]\n";
        if text.is_empty() || self.truncated {
            return Ok(());
        }
        let left = LONGEST.saturating_sub(self.bytes);
        let fits = (text.len() as u64) < left && self.entries < MOST_ENTRIES;
        let text = if fits { text } else { NOTE };
        let fresh = self.last.is_none_or(|(last, at)| last != step || self.bytes - at >= EVERY);
        if fresh {
            let mut entry = [0; ENTRY];
            entry[..8].copy_from_slice(&self.bytes.to_le_bytes());
            entry[8..12].copy_from_slice(&step.to_le_bytes());
            entry[12..].copy_from_slice(&now.to_le_bytes());
            self.index.write_all(&entry)?;
            self.entries += 1;
            self.last = Some((step, self.bytes));
        }
        self.file.write_all(text)?;
        self.bytes += text.len() as u64;
        self.truncated = !fits;
        Ok(())
    }

    /// What is written is on disk when this returns.
    ///
    /// # Errors
    /// It cannot be synced.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.index.sync_data()
    }
}

fn entry(index: &File, number: u64) -> io::Result<(u64, u32, u64)> {
    let mut entry = [0; ENTRY];
    index.read_exact_at(&mut entry, number * ENTRY as u64)?;
    Ok(parse(&entry))
}

fn parse(entry: &[u8; ENTRY]) -> (u64, u32, u64) {
    let long = |from: usize| entry[from..from + 8].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let step = entry[8..12].iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    (long(0), step, long(12))
}

/// Text of the log from an offset, `most` bytes of it at most, and how long the log is.
///
/// # Errors
/// The log cannot be read; one that is not there is empty.
pub fn read(record: &Record, from: u64, most: usize) -> io::Result<(Vec<u8>, u64)> {
    let mut file = match File::open(record.log()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let bytes = file.metadata()?.len();
    let mut text = Vec::new();
    if from < bytes {
        file.seek(SeekFrom::Start(from))?;
        file.take(most as u64).read_to_end(&mut text)?;
    }
    Ok((text, bytes))
}

/// What one step wrote, from an offset into that; and how much that is so far.
///
/// # Errors
/// The log cannot be read.
pub fn read_step(record: &Record, step: u32, from: u64, most: usize) -> io::Result<(Vec<u8>, u64)> {
    let (file, index) = match (File::open(record.log()), File::open(record.log_index())) {
        (Ok(file), Ok(index)) => (file, index),
        (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    // The index first: text is written after its entry.
    let mut entries = Vec::new();
    index.take(MOST_ENTRIES * ENTRY as u64).read_to_end(&mut entries)?;
    let end = file.metadata()?.len();
    let mut entries = entries.as_chunks::<ENTRY>().0.iter().map(parse).peekable();
    let (mut text, mut own) = (Vec::new(), 0_u64);
    while let Some((begin, whose, _)) = entries.next() {
        let until = entries.peek().map_or(end, |(next, ..)| *next).min(end);
        if whose != step || until <= begin {
            continue;
        }
        let length = until - begin;
        if own + length > from && text.len() < most {
            let skipped = from.saturating_sub(own);
            let wanted = usize::try_from(length - skipped).unwrap_or(usize::MAX).min(most - text.len());
            let filled = text.len();
            text.resize(filled + wanted, 0);
            file.read_exact_at(&mut text[filled..], begin + skipped)?;
        }
        own += length;
    }
    Ok((text, own))
}

#[cfg(test)]
mod tests;
