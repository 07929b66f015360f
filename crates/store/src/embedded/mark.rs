//! The end mark: how far the log was synced, kept beside it.
//!
//! A group that cannot be read at the end of the log is either what a crash tore, and was never acknowledged, or what was
//! acknowledged and got damaged since. The log itself tells them apart only where a later group stands behind it: that one
//! was written after the earlier one had been synced. For the last group there is this file. After each sync, and before
//! anything is acknowledged, it is written (not synced: that would double the cost of a commit) with the group's sequence.
//!
//! So after the end of the process, however it came, the mark is exact. After a loss of power it may be older than the log,
//! by as much as the kernel had not written back: then it is a lower bound, and only damage to the very last groups,
//! together with a loss of power within half a minute of writing them, can pass for a torn end.
//!
//! There are two copies, written in turns and each a disk sector of its own, so that at most one is torn.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use super::frame::StoreId;

/// The file's name in the store's directory.
pub const NAME: &str = "synced";

const MAGIC: [u8; 8] = *b"madangE\x01";
const SLOT: usize = 512;
const LENGTH: usize = 48;

/// What the mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The store that the directory holds.
    pub id: StoreId,
    /// The last group known to be synced; 0 before the first.
    pub sequence: u64,
}

/// The open file.
#[derive(Debug)]
pub struct Mark {
    file: File,
    id: StoreId,
    turn: u64,
}

impl Mark {
    /// Makes the file for a new store, synced.
    pub fn create(dir: &Path, said: Said) -> io::Result<Self> {
        let path = dir.join(NAME);
        let temporary = dir.join(format!("{NAME}.tmp"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let mut mark = Self { file, id: said.id, turn: 0 };
        mark.write(said.sequence)?;
        mark.write(said.sequence)?;
        mark.file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()?;
        Ok(mark)
    }

    /// Opens it to go on after what it said.
    pub fn open(dir: &Path, id: StoreId) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(dir.join(NAME))?;
        Ok(Self { file, id, turn: 0 })
    }

    /// What the file in `dir` says: nothing when it is absent or neither copy is whole.
    pub fn read(dir: &Path) -> io::Result<Option<Said>> {
        let file = match File::open(dir.join(NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut newest: Option<Said> = None;
        for turn in 0..2 {
            let mut bytes = [0; LENGTH];
            match file.read_exact_at(&mut bytes, turn * SLOT as u64) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                read => read?,
            }
            newest = newest.into_iter().chain(decode(&bytes)).max_by_key(|said| said.sequence);
        }
        Ok(newest)
    }

    /// Says that the group `sequence` is synced. Survives the end of the process, not a loss of power.
    pub fn write(&mut self, sequence: u64) -> io::Result<()> {
        let bytes = encode(Said { id: self.id, sequence });
        self.file.write_all_at(&bytes, (self.turn % 2) * SLOT as u64)?;
        self.turn += 1;
        Ok(())
    }

    /// Makes what was written survive a loss of power too.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode(said: Said) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..24].copy_from_slice(&said.id.0);
    bytes[24..32].copy_from_slice(&said.sequence.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..44]);
    bytes[44..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; LENGTH]) -> Option<Said> {
    if bytes[..8] != MAGIC || bytes[44..] != crc32fast::hash(&bytes[..44]).to_le_bytes() {
        return None;
    }
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[8..24]);
    let sequence = u64::from_le_bytes(bytes[24..32].try_into().expect("eight bytes"));
    Some(Said { id: StoreId(id), sequence })
}

#[cfg(test)]
mod tests;
