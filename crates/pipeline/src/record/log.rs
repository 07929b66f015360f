//! A run's log: one file of text for all of it, and an index of who wrote which bytes.
//!
//! ```text
//! log        ...first line\nof another branch\nsecond line\n...
//! log.index  offset u64 │ length u32 │ 0 u32 │ step u64 │ stage u64 │ raw u64 │ milliseconds since 1970 u64      an entry each piece
//! ```
//!
//! Readers name a place by its byte offset, which never means anything else later: text is only appended. What a step or a stage
//! wrote are its pieces put together; an offset into that is as stable.
//!
//! An entry is written before its text, and says how far its writer has come in what it reads from (`raw`: bytes of a step's log in its
//! pod, or messages of a branch). So whoever goes on after a crash knows exactly what is in the log already ([`Log::come`]): a last
//! entry whose text is not whole is taken back with it.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::Record;

/// Bytes of a log; what comes after is not kept.
pub const LONGEST: u64 = 512 << 20;
/// Pieces of a log.
const MOST_PIECES: u64 = 2 << 20;
/// Bytes of one piece.
const PIECE: usize = 1 << 20;
/// Bytes of an entry of the index.
const ENTRY: usize = 48;

/// Who writes: a step or a branch, and the stage that it is in. Names are hashed ([`number`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    /// The step or branch.
    pub step: u64,
    /// The stage; 0 outside of any.
    pub stage: u64,
}

/// Whose text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    All,
    /// A step's.
    Step(u64),
    /// A stage's, those within it apart.
    Stage(u64),
}

/// The number of a step's or a stage's name, the same for ever (FNV-1a).
pub fn number(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// A log that is written to.
#[derive(Debug)]
pub struct Log {
    file: File,
    index: File,
    bytes: u64,
    entries: u64,
    come: HashMap<u64, u64>,
    truncated: bool,
}

struct Entry {
    offset: u64,
    length: u32,
    writer: Writer,
    raw: u64,
    time: u64,
}

impl Entry {
    fn bytes(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        let longs = [self.offset, u64::from(self.length), self.writer.step, self.writer.stage, self.raw, self.time];
        for (place, value) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(longs) {
            *place = value.to_le_bytes();
        }
        bytes
    }

    fn parse(bytes: &[u8; ENTRY]) -> Self {
        let mut longs = bytes.as_chunks::<8>().0.iter().map(|long| u64::from_le_bytes(*long));
        let mut next = || longs.next().unwrap_or_default();
        let (offset, length) = (next(), next());
        let writer = Writer { step: next(), stage: next() };
        Self { offset, length: length as u32, writer, raw: next(), time: next() }
    }
}

fn entries(index: File) -> io::Result<Vec<Entry>> {
    let mut bytes = Vec::new();
    index.take(MOST_PIECES * ENTRY as u64).read_to_end(&mut bytes)?;
    Ok(bytes.as_chunks::<ENTRY>().0.iter().map(Entry::parse).collect())
}

impl Log {
    /// Opens a run's log, new or not.
    ///
    /// # Errors
    /// The files cannot be opened.
    pub fn open(record: &Record) -> io::Result<Self> {
        let open = |path: &Path| OpenOptions::new().read(true).append(true).create(true).open(path);
        let (file, index) = (open(&record.log())?, open(&record.log_index())?);
        let mut bytes = file.metadata()?.len();
        let mut known = entries(index.try_clone()?)?;
        while let Some(last) = known.last() {
            if last.offset + u64::from(last.length) <= bytes {
                break;
            }
            bytes = bytes.min(last.offset);
            known.pop();
        }
        file.set_len(bytes)?;
        index.set_len((known.len() * ENTRY) as u64)?;
        let come = known.iter().map(|entry| (entry.writer.step, entry.raw)).collect();
        Ok(Self { file, index, bytes, entries: known.len() as u64, come, truncated: bytes >= LONGEST })
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there was more than a log may hold.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// How far a step or branch has come in what it reads from.
    pub fn come(&self, step: u64) -> u64 {
        self.come.get(&step).copied().unwrap_or_default()
    }

    /// Appends what somebody wrote, who has come to `raw` with it; `now` in milliseconds since 1970.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn append(&mut self, writer: Writer, text: &[u8], raw: u64, now: u64) -> io::Result<()> {
        const NOTE: &[u8] = b"\n[the log is longer than is kept: what follows is left out]\n";
        self.come.insert(writer.step, raw);
        if self.truncated {
            return Ok(());
        }
        let left = LONGEST.saturating_sub(self.bytes);
        let fits = (text.len() as u64) < left && self.entries < MOST_PIECES - 1;
        let text = if fits { text } else { NOTE };
        let mut pieces = text.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            // Only with its last piece has the writer come there.
            let raw = if pieces.peek().is_none() { raw } else { self.come(writer.step) };
            let entry = Entry { offset: self.bytes, length: piece.len() as u32, writer, raw, time: now };
            self.index.write_all(&entry.bytes())?;
            self.entries += 1;
            self.file.write_all(piece)?;
            self.bytes += piece.len() as u64;
        }
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

/// Text from an offset, `most` bytes of it at most, and how much there is.
///
/// # Errors
/// The log cannot be read; one that is not there is empty.
pub fn read(record: &Record, whose: Whose, from: u64, most: usize) -> io::Result<(Vec<u8>, u64)> {
    let open = |path: &Path| match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let Some(mut file) = open(&record.log())? else { return Ok((Vec::new(), 0)) };
    let mut text = Vec::new();
    if whose == Whose::All {
        let bytes = file.metadata()?.len();
        if from < bytes {
            file.seek(SeekFrom::Start(from))?;
            file.take(most as u64).read_to_end(&mut text)?;
        }
        return Ok((text, bytes));
    }
    // The text's end first: an entry that is written meanwhile has no text yet.
    let end = file.metadata()?.len();
    let Some(index) = open(&record.log_index())? else { return Ok((text, 0)) };
    let mut own = 0_u64;
    for entry in entries(index)? {
        let mine = match whose {
            Whose::All => true,
            Whose::Step(step) => entry.writer.step == step,
            Whose::Stage(stage) => entry.writer.stage == stage,
        };
        let length = u64::from(entry.length);
        if !mine || entry.offset + length > end {
            continue;
        }
        if own + length > from && text.len() < most {
            let skipped = from.saturating_sub(own);
            let wanted = usize::try_from(length - skipped).unwrap_or(usize::MAX).min(most - text.len());
            let filled = text.len();
            text.resize(filled + wanted, 0);
            file.read_exact_at(&mut text[filled..], entry.offset + skipped)?;
        }
        own += length;
    }
    Ok((text, own))
}

/// When lines of the whole log were written: offsets with milliseconds since 1970, from an offset on.
///
/// # Errors
/// The index cannot be read.
pub fn times(record: &Record, from: u64, most: usize) -> io::Result<Vec<(u64, u64)>> {
    match File::open(record.log_index()) {
        Ok(index) => {
            let all = entries(index)?.into_iter().filter(|entry| entry.offset + u64::from(entry.length) > from);
            Ok(all.map(|entry| (entry.offset, entry.time)).take(most).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
