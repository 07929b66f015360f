//! Recovery: from the files of a store to its index, or to the reason why not.
//!
//! ```text
//!  checkpoint ──▶ log: group, group, …, group ✓ │ ? not a whole group
//!                                               │
//!             a later group stands behind it, or the end mark lies behind it?
//!                  yes: it had been synced, and is damaged ──▶ refuse
//!                  no:  a crash tore it, nobody was told of it ──▶ continue the log here
//! ```
//!
//! A group is written only after the one before it was synced, so any later header proves the earlier group; for the last
//! one the end mark does (see `mark`). What stands in the unused part of a segment, zeros, old groups or anything else, is
//! never looked at but for such a header.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

use super::{
    checkpoint, damaged,
    frame::{Found, Header, Kind, Reader, StoreId},
    index::Index,
    mark::{self, Mark, Said},
    record::{self, Place, Record},
    segment::{self, Segment},
};

/// A store as it was found.
#[derive(Debug)]
pub struct Recovered {
    /// The state, with the place where the log continues.
    pub index: Index,
    /// The store's id.
    pub id: StoreId,
    /// The segment in which the log continues; none when there is none yet.
    pub segment: Option<Segment>,
    /// The segment after it, if one was ready.
    pub ready: Option<Segment>,
    /// Segments to be used again.
    pub spare: Vec<PathBuf>,
    /// Segments that the checkpoint makes unneeded.
    pub obsolete: Vec<u64>,
    /// The end mark.
    pub mark: Mark,
    /// Where the checkpoint ends; its length in bytes, and how much log follows.
    pub checkpoint: Place,
    /// Bytes of the checkpoint.
    pub checkpoint_bytes: u64,
    /// Bytes of the log after it.
    pub logged: u64,
}

/// Reads the store in `dir`, or makes the first file of a new one.
pub fn recover(dir: &Path) -> Result<Recovered> {
    let failed = |error| Error::io(format!("read {}", dir.display()), error);
    remove_temporary(dir)?;
    let mut checkpoints = segment::numbered(dir, checkpoint::PREFIX).map_err(failed)?;
    let mut segments = segment::numbered(dir, "log-").map_err(failed)?;
    let spare: Vec<PathBuf> = segment::numbered(dir, "spare-").map_err(failed)?.into_values().collect();
    let mark_failed = |error| Error::io(format!("read {}", dir.join(mark::NAME).display()), error);
    let said = match Mark::read(dir).map_err(mark_failed)? {
        Some(said) => said,
        None if checkpoints.is_empty() && segments.is_empty() && spare.is_empty() => {
            let failed = |error| Error::io(format!("make {}", dir.join(mark::NAME).display()), error);
            let said = Said { id: StoreId::random().map_err(failed)?, sequence: 0 };
            Mark::create(dir, said).map_err(failed)?;
            said
        }
        None => return Err(damaged(&dir.join(mark::NAME), 0, "neither copy of the end mark of the log is whole")),
    };

    let newest = checkpoints.pop_last();
    let (mut index, checkpoint, checkpoint_bytes) = match &newest {
        None => (Index::new(), Place { segment: 1, ..Place::default() }, 0),
        Some((_, path)) => {
            let loaded = checkpoint::load(path)?;
            if loaded.id != said.id {
                return Err(damaged(path, 0, "it belongs to another store than the end mark"));
            }
            let bytes = fs::metadata(path).map_err(failed)?.len();
            let at = loaded.head.at;
            (Index::at(loaded.head.revision, loaded.head.compacted, at, loaded.keys), at, bytes)
        }
    };
    index.set_place(checkpoint);

    let mut scan = Scan { dir, id: said.id, at: checkpoint, logged: 0, why: "there is nothing" };
    while segments.contains_key(&scan.at.segment) && scan.segment(&mut index)? {}
    scan.prove(&segments.keys().copied().collect::<Vec<_>>(), said.sequence)?;
    index.set_place(scan.at);

    for (_, old) in checkpoints {
        fs::remove_file(&old).map_err(|error| Error::io(format!("remove {}", old.display()), error))?;
    }
    let open = |number: u64| {
        let failed = |error| Error::io(format!("open {}", segment::path(dir, number).display()), error);
        Segment::open(dir, number).map_err(failed)
    };
    let later = segments.split_off(&(scan.at.segment + 1));
    let current = segments.contains_key(&scan.at.segment).then(|| open(scan.at.segment)).transpose()?;
    let ready = match later.contains_key(&(scan.at.segment + 1)) && current.is_some() {
        true => Some(open(scan.at.segment + 1)?),
        false => None,
    };
    let mut obsolete: Vec<u64> = segments.into_keys().filter(|number| *number < checkpoint.segment).collect();
    obsolete.extend(later.into_keys().filter(|number| ready.as_ref().is_none_or(|ready| ready.number != *number)));

    // What was read may still be in memory only: make it certain before anyone is told of it.
    if let Some(segment) = &current {
        segment.file.sync_data().map_err(|error| Error::io("sync the log", error))?;
    }
    let mut mark = Mark::open(dir, said.id).map_err(mark_failed)?;
    if said.sequence != scan.at.sequence {
        mark.write(scan.at.sequence).and_then(|()| mark.sync()).map_err(mark_failed)?;
    }
    Ok(Recovered {
        index,
        id: said.id,
        segment: current,
        ready,
        spare,
        obsolete,
        mark,
        checkpoint,
        checkpoint_bytes,
        logged: scan.logged,
    })
}

/// Reading the log from the checkpoint on.
struct Scan<'a> {
    dir: &'a Path,
    id: StoreId,
    /// The end of the last whole group.
    at: Place,
    logged: u64,
    /// Why what follows is not one.
    why: &'static str,
}

impl Scan<'_> {
    /// Reads the groups in the rest of a segment into `index`; whether the next segment continues the log.
    fn segment(&mut self, index: &mut Index) -> Result<bool> {
        let path = segment::path(self.dir, self.at.segment);
        let failed = |error| Error::io(format!("read {}", path.display()), error);
        let file = fs::File::open(&path).map_err(failed)?;
        let mut reader = Reader::new(&file).map_err(failed)?;
        loop {
            match reader.at(self.at.position).map_err(failed)? {
                Found::Frame(header, payload) if self.follows(&header) => {
                    replay(index, &header, payload).map_err(|why| damaged(&path, self.at.position, why))?;
                    self.logged += header.extent();
                    self.at.sequence = header.sequence;
                    self.at.seal = header.seal;
                    self.at.position += header.extent();
                }
                Found::Torn(header) if self.follows(&header) => {
                    self.why = "the checksum of a group of transactions is wrong";
                    return Ok(false);
                }
                _ => break,
            }
        }
        self.why = "a group of transactions is missing or its header is wrong";
        let next = segment::path(self.dir, self.at.segment + 1);
        let continues = match fs::File::open(&next) {
            Ok(file) => Reader::new(&file)
                .and_then(|mut next| next.header(0))
                .map_err(failed)?
                .is_some_and(|header| self.follows(&header)),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(Error::io(format!("open {}", next.display()), error)),
        };
        if continues {
            (self.at.segment, self.at.position) = (self.at.segment + 1, 0);
        }
        Ok(continues)
    }

    /// Whether a group with this header is the next one of the log.
    fn follows(&self, header: &Header) -> bool {
        let next = (Kind::Group, self.id, self.at.sequence + 1, self.at.seal);
        (header.kind, header.id, header.sequence, header.previous) == next
    }

    /// Fails if the log was synced beyond where it can be read.
    fn prove(&self, segments: &[u64], synced: u64) -> Result<()> {
        let path = segment::path(self.dir, self.at.segment);
        let next = self.at.sequence + 1;
        if synced >= next {
            let (file, offset) = self.blame(&path)?;
            return Err(damaged(&file, offset, format!("{}, although group {next} was synced", self.why)));
        }
        for number in segments.iter().copied().filter(|number| *number >= self.at.segment) {
            let later = segment::path(self.dir, number);
            let failed = |error| Error::io(format!("read {}", later.display()), error);
            let file = fs::File::open(&later).map_err(failed)?;
            let start = if number == self.at.segment { self.at.position } else { 0 };
            let wanted = |header: &Header| header.kind == Kind::Group && header.id == self.id && header.sequence > next;
            let found = Reader::new(&file).and_then(|mut reader| reader.find(start, wanted)).map_err(failed)?;
            if let Some((offset, header)) = found {
                let (file, at) = self.blame(&path)?;
                let proof = format!("group {} follows in {} at byte {offset}", header.sequence, later.display());
                return Err(damaged(&file, at, format!("{}, although {proof}", self.why)));
            }
        }
        Ok(())
    }

    /// Where the missing group most likely lay: at the end of this segment, unless only the next one has anything there.
    fn blame(&self, path: &Path) -> Result<(PathBuf, u64)> {
        let failed = |error| Error::io(format!("read {}", path.display()), error);
        let here = match fs::File::open(path) {
            Ok(file) => {
                let mut reader = Reader::new(&file).map_err(failed)?;
                let unused = reader.header(self.at.position).map_err(failed)?.is_some_and(|old| !self.follows(&old));
                !unused && !reader.blank(self.at.position).map_err(failed)?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(failed(error)),
        };
        let next = segment::path(self.dir, self.at.segment + 1);
        Ok(if here || !next.exists() { (path.to_owned(), self.at.position) } else { (next, 0) })
    }
}

fn replay(index: &mut Index, header: &Header, payload: &[u8]) -> Result<(), &'static str> {
    for record in record::group(payload) {
        match record.map_err(|_| "a record in a group of transactions cannot be decoded")? {
            Record::Txn(revision, ops) if revision == index.revision() + 1 => index.apply(revision, ops),
            Record::Compact(revision) if revision <= index.revision() => index.compact(revision),
            _ => return Err("a record in a group of transactions does not follow the one before"),
        }
    }
    match header.revision == index.revision() {
        true => Ok(()),
        false => Err("a group of transactions ends at another revision than it says"),
    }
}

/// Removes what an interrupted checkpoint or segment left.
fn remove_temporary(dir: &Path) -> Result<()> {
    let failed = |error| Error::io(format!("clear {} of temporary files", dir.display()), error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
