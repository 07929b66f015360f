//! What is to be sent on: files that grow at one end, read by each destination at its own pace.
//!
//! ```text
//! append ──▶ 0000000007.log   0000000008.log ◀── append
//!                 ▲ NAME.at: where a destination has come to; files before all of them go
//! ```
//!
//! A record is what one batch brought, packed, with length and checksum before it. Each file defines the series that it
//! speaks of, so that it can be read without those before it. What was appended is in the spool when its sender is told;
//! a record that was torn by an end in between is the last of its file and was told to nobody.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tsdb::{
    Db, Metadata, SeriesRef,
    batch::{Batch, Durability, Of, Outcome},
    column::HistogramValue,
    labels::Labels,
    sample::Exemplar,
};

use super::message;
use crate::{
    proto::{Reader, Torn, Writer},
    storage::Watcher,
};

/// Bytes of a file, about.
const FILE: u64 = 32 << 20;
/// Bytes of all files; past that the oldest goes, whoever may still want it.
const ALL: u64 = 4 << 30;
/// Bytes of a record at most, packed or not.
const RECORD: usize = 256 << 20;
const HEAD: u64 = 8;

/// A place in the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The number of the file.
    pub file: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

/// The spool. Clones are the same.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    state: Mutex<State>,
    end: watch::Sender<At>,
    /// Where each destination has come to.
    positions: Mutex<HashMap<String, At>>,
}

#[derive(Debug)]
struct State {
    file: File,
    at: At,
    /// Sizes of all files.
    sizes: BTreeMap<u64, u64>,
    /// Numbers of series that the file has defined.
    defined: HashMap<SeriesRef, u32>,
    /// The number of the next series of the file.
    next: u32,
    /// What is known of series.
    described: HashMap<SeriesRef, Arc<Metadata>>,
    /// Something could not be written: the file is not appended to any more.
    broken: bool,
}

/// What a record holds. Series are numbered within a file.
#[derive(Debug, Default, PartialEq)]
pub struct Record {
    /// Series that are new in the file.
    pub series: Vec<(u32, Labels)>,
    /// What series are.
    pub metadata: Vec<(u32, Metadata)>,
    /// Floats.
    pub floats: Vec<(u32, i64, f64)>,
    /// Histograms.
    pub histograms: Vec<(u32, i64, HistogramValue)>,
    /// Exemplars.
    pub exemplars: Vec<(u32, Exemplar)>,
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.log"))
}

fn create(dir: &Path, number: u64) -> Result<File> {
    let path = path(dir, number);
    let opened = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
    opened.with_context(|| format!("create {}", path.display()))
}

impl Spool {
    /// Opens the spool in a directory, which is made where it is absent.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let mut sizes = BTreeMap::new();
        let mut positions = HashMap::new();
        for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if let Some(number) = name.strip_suffix(".log").and_then(|number| number.parse().ok()) {
                sizes.insert(number, entry.metadata()?.len());
            } else if let Some(name) = name.strip_suffix(".at") {
                // A place that cannot be read is none: the destination begins anew.
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                let place = text
                    .trim()
                    .split_once(' ')
                    .and_then(|(file, offset)| Some(At { file: file.parse().ok()?, offset: offset.parse().ok()? }));
                if let Some(at) = place {
                    positions.insert(name.to_owned(), at);
                }
            }
        }
        let number = sizes.keys().next_back().map_or(1, |last: &u64| *last + 1);
        let at = At { file: number, offset: 0 };
        let state = State {
            file: create(dir, number)?,
            at,
            sizes,
            defined: HashMap::new(),
            next: 0,
            described: HashMap::new(),
            broken: false,
        };
        let inner = Inner {
            dir: dir.to_owned(),
            state: Mutex::new(state),
            end: watch::Sender::new(at),
            positions: Mutex::new(positions),
        };
        Ok(Self(Arc::new(inner)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn positions(&self) -> MutexGuard<'_, HashMap<String, At>> {
        self.0.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever something was appended.
    pub fn end(&self) -> watch::Receiver<At> {
        self.0.end.subscribe()
    }

    /// Makes a destination known: what is appended from now on is kept for it.
    pub fn begin(&self, name: &str) -> Result<()> {
        if self.positions().contains_key(name) {
            return Ok(());
        }
        let end = *self.0.end.borrow();
        self.done(name, end)
    }

    /// A reader for a destination: from where it had come to, or from now on if it is not known.
    pub fn follow(&self, name: &str) -> Follower {
        let end = *self.0.end.borrow();
        let at = *self.positions().entry(name.to_owned()).or_insert(end);
        Follower { spool: self.clone(), at, file: None, series: HashMap::new(), metadata: HashMap::new() }
    }

    /// Forgets all destinations but these.
    pub fn keep(&self, names: &[String]) -> Result<()> {
        let gone: Vec<String> = {
            let mut positions = self.positions();
            let gone = positions.keys().filter(|name| !names.contains(name)).cloned().collect();
            positions.retain(|name, _| names.contains(name));
            gone
        };
        for name in gone {
            let path = self.0.dir.join(format!("{name}.at"));
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
        }
        self.clean()
    }

    /// Notes where a destination has come to, and removes files that nobody wants any more.
    pub fn done(&self, name: &str, at: At) -> Result<()> {
        let before = self.positions().insert(name.to_owned(), at);
        let path = self.0.dir.join(format!("{name}.at"));
        let unfinished = path.with_extension("at.new");
        fs::write(&unfinished, format!("{} {}\n", at.file, at.offset))
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("write {}", path.display()))?;
        if before.is_none_or(|before| before.file != at.file) { self.clean() } else { Ok(()) }
    }

    fn clean(&self) -> Result<()> {
        let first = self.positions().values().map(|at| at.file).min();
        let mut state = self.state();
        let first = first.unwrap_or(state.at.file).min(state.at.file);
        let unwanted: Vec<u64> = state.sizes.range(..first).map(|(number, _)| *number).collect();
        for number in unwanted {
            remove(&self.0.dir, number)?;
            state.sizes.remove(&number);
        }
        Ok(())
    }

    /// Begins a new file, and drops old ones if all together are too large.
    fn rotate(&self, state: &mut State) -> Result<()> {
        let number = state.at.file + 1;
        state.file = create(&self.0.dir, number)?;
        state.sizes.insert(state.at.file, state.at.offset);
        state.at = At { file: number, offset: 0 };
        // What was not spoken of in a whole file is gone, or will be described again.
        let State { defined, described, .. } = &mut *state;
        described.retain(|series, _| defined.contains_key(series));
        state.defined.clear();
        state.next = 0;
        state.broken = false;
        while state.sizes.values().sum::<u64>() > ALL {
            let Some((oldest, _)) = state.sizes.pop_first() else { break };
            tracing::error!(
                file = oldest,
                "samples for remote write take too much room: the oldest are dropped unsent"
            );
            remove(&self.0.dir, oldest)?;
        }
        Ok(())
    }

    fn append(&self, db: &Db, batch: &Batch, outcome: &Outcome, durability: Durability) -> Result<()> {
        let mut state = self.state();
        if state.broken || state.at.offset >= FILE {
            self.rotate(&mut state)?;
        }
        let record = record(&mut state, db, batch, outcome);
        if record.0.is_empty() {
            return Ok(());
        }
        let packed = snap::raw::Encoder::new().compress_vec(&record.0).context("pack samples")?;
        if packed.len() > RECORD || record.0.len() > RECORD {
            bail!("a batch of {} bytes is too large to be queued", record.0.len());
        }
        let mut bytes = Vec::with_capacity(packed.len() + HEAD as usize);
        bytes.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&tsdb::prometheus::checksum(&[&packed]).to_le_bytes());
        bytes.extend_from_slice(&packed);
        let written = state.file.write_all(&bytes).and_then(|()| match durability {
            Durability::Synced => state.file.sync_data(),
            Durability::Logged => Ok(()),
        });
        if let Err(error) = written {
            state.broken = true;
            return Err(error).with_context(|| format!("write {}", path(&self.0.dir, state.at.file).display()));
        }
        state.at.offset += bytes.len() as u64;
        let at = state.at;
        drop(state);
        self.0.end.send_replace(at);
        Ok(())
    }
}

fn remove(dir: &Path, number: u64) -> Result<()> {
    let path = path(dir, number);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

impl Watcher for Spool {
    fn appended(&self, db: &Db, batch: &Batch, outcome: &Outcome, durability: Durability) -> Result<()> {
        self.append(db, batch, outcome, durability)
    }
}

/// The number of a series in the file; it is defined if it was not.
fn define(state: &mut State, db: &Db, series: SeriesRef, out: &mut Writer) -> Option<u32> {
    if let Some(number) = state.defined.get(&series) {
        return Some(*number);
    }
    let labels = db.labels(series)?;
    let number = state.next;
    state.next += 1;
    state.defined.insert(series, number);
    out.message(1, |out| {
        out.varint(1, u64::from(number));
        for (name, value) in &labels {
            out.text(2, name);
            out.text(3, value);
        }
    });
    if let Some(metadata) = state.described.get(&series) {
        write_metadata(out, number, metadata);
    }
    Some(number)
}

fn write_metadata(out: &mut Writer, number: u32, metadata: &Metadata) {
    out.message(2, |out| {
        out.varint(1, u64::from(number));
        out.text(2, &metadata.kind);
        out.text(3, &metadata.unit);
        out.text(4, &metadata.help);
    });
}

fn record(state: &mut State, db: &Db, batch: &Batch, outcome: &Outcome) -> Writer {
    let mut out = Writer::default();
    for (series, metadata) in batch.descriptions() {
        if state.described.get(series).is_some_and(|had| **had == *metadata) {
            continue;
        }
        state.described.insert(*series, Arc::new(metadata.clone()));
        if let Some(number) = state.defined.get(series) {
            write_metadata(&mut out, *number, metadata);
        }
    }
    let mut rejected: Vec<usize> = Vec::new();
    let mut refused: Vec<usize> = Vec::new();
    for (place, _) in &outcome.rejected {
        match place {
            Of::Float(at) => rejected.push(*at),
            Of::Histogram(at) => refused.push(*at),
        }
    }
    rejected.sort_unstable();
    refused.sort_unstable();
    let (mut numbers, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = 0;
    for (at, (series, time, value)) in batch.floats().iter().enumerate() {
        if rejected.binary_search(&at).is_ok() {
            continue;
        }
        let Some(number) = define(state, db, *series, &mut out) else { continue };
        numbers.push(u64::from(number));
        times.push(time.wrapping_sub(before));
        before = *time;
        values.push(*value);
    }
    out.varints(3, numbers);
    out.sints(4, times);
    out.doubles(5, &values);
    for (at, (series, time, value)) in batch.histograms().iter().enumerate() {
        if refused.binary_search(&at).is_ok() {
            continue;
        }
        let Some(number) = define(state, db, *series, &mut out) else { continue };
        out.message(6, |out| {
            out.varint(1, u64::from(number));
            out.message(2, |out| message::write_histogram(out, *time, value));
        });
    }
    for (at, (series, exemplar)) in batch.exemplars().iter().enumerate() {
        if outcome.exemplars.iter().any(|refused| refused.0 == at) {
            continue;
        }
        let Some(number) = define(state, db, *series, &mut out) else { continue };
        out.message(7, |out| {
            out.varint(1, u64::from(number));
            out.double(2, exemplar.value);
            if let Some(time) = exemplar.timestamp {
                out.sint(3, time);
            }
            for (name, value) in &exemplar.labels {
                out.text(4, name);
                out.text(5, value);
            }
        });
    }
    out
}

/// Reads what [`record`] wrote.
fn read(bytes: &[u8]) -> Result<Record, Torn> {
    let mut record = Record::default();
    let (mut numbers, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = Reader(bytes);
    while let Some((field, value)) = reader.field()? {
        match field {
            1 => {
                let mut inner = Reader(value.bytes()?);
                let (mut number, mut name, mut pairs) = (0, "", Vec::new());
                while let Some((field, value)) = inner.field()? {
                    match field {
                        1 => number = value.varint()? as u32,
                        2 => name = value.text()?,
                        3 => pairs.push((name, value.text()?)),
                        _ => {}
                    }
                }
                record.series.push((number, Labels::from_pairs(pairs)));
            }
            2 => {
                let mut inner = Reader(value.bytes()?);
                let (mut number, mut metadata) = (0, Metadata::default());
                while let Some((field, value)) = inner.field()? {
                    match field {
                        1 => number = value.varint()? as u32,
                        2 => metadata.kind = value.text()?.to_owned(),
                        3 => metadata.unit = value.text()?.to_owned(),
                        4 => metadata.help = value.text()?.to_owned(),
                        _ => {}
                    }
                }
                record.metadata.push((number, metadata));
            }
            3 => value.varints(|number| numbers.push(number as u32))?,
            4 => value.varints(|time| times.push(crate::proto::unzigzag(time)))?,
            5 => value.doubles(|value| values.push(value))?,
            6 => {
                let mut inner = Reader(value.bytes()?);
                let mut number = 0;
                while let Some((field, value)) = inner.field()? {
                    match field {
                        1 => number = value.varint()? as u32,
                        2 => {
                            let histogram = message::histogram(value.bytes()?)?;
                            record.histograms.push((number, histogram.time, histogram.value));
                        }
                        _ => {}
                    }
                }
            }
            7 => {
                let mut inner = Reader(value.bytes()?);
                let (mut number, mut name, mut pairs) = (0, "", Vec::new());
                let (mut observed, mut timestamp) = (0.0, None);
                while let Some((field, value)) = inner.field()? {
                    match field {
                        1 => number = value.varint()? as u32,
                        2 => observed = value.double()?,
                        3 => timestamp = Some(value.sint()?),
                        4 => name = value.text()?,
                        5 => pairs.push((name, value.text()?)),
                        _ => {}
                    }
                }
                let exemplar = Exemplar { labels: Labels::from_pairs(pairs), value: observed, timestamp };
                record.exemplars.push((number, exemplar));
            }
            _ => {}
        }
    }
    let mut time = 0i64;
    for ((number, step), value) in numbers.into_iter().zip(times).zip(values) {
        time = time.wrapping_add(step);
        record.floats.push((number, time, value));
    }
    Ok(record)
}

/// Reads the spool for one destination.
#[derive(Debug)]
pub struct Follower {
    spool: Spool,
    at: At,
    file: Option<File>,
    series: HashMap<u32, Labels>,
    metadata: HashMap<u32, Arc<Metadata>>,
}

/// What a read of a file gave.
enum Piece {
    Record(Record, u64),
    /// Nothing more, or something torn.
    End,
}

impl Follower {
    /// Where it has come to.
    pub fn at(&self) -> At {
        self.at
    }

    /// The labels of a series of the last record.
    pub fn labels(&self, number: u32) -> Option<&Labels> {
        self.series.get(&number)
    }

    /// What is known of a series of the last record.
    pub fn metadata(&self, number: u32) -> Option<&Arc<Metadata>> {
        self.metadata.get(&number)
    }

    /// The next record; none if there is none yet. Blocks the thread.
    pub fn read_next(&mut self) -> Result<Option<Record>> {
        loop {
            let end = *self.spool.0.end.borrow();
            if self.at >= end {
                return Ok(None);
            }
            if self.file.is_none() && !self.open()? {
                continue;
            }
            match self.piece(self.at.offset)? {
                Piece::Record(mut record, length) => {
                    self.at.offset += length;
                    self.learn(&mut record);
                    return Ok(Some(record));
                }
                Piece::End if self.at.file < end.file => self.leave(self.at.file + 1),
                Piece::End => bail!("{} is damaged at byte {}", self.path().display(), self.at.offset),
            }
        }
    }

    fn path(&self) -> PathBuf {
        path(&self.spool.0.dir, self.at.file)
    }

    fn leave(&mut self, next: u64) {
        self.at = At { file: next, offset: 0 };
        self.file = None;
        self.series.clear();
        self.metadata.clear();
    }

    /// Opens the file and learns what stands before the place; goes on to the next file if it is gone.
    fn open(&mut self) -> Result<bool> {
        match File::open(self.path()) {
            Ok(file) => self.file = Some(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let next = {
                    let state = self.spool.state();
                    let next = state.sizes.range(self.at.file + 1..).next().map(|(number, _)| *number);
                    next.unwrap_or(state.at.file)
                };
                tracing::warn!(file = self.at.file, "samples that were to be sent are gone");
                self.leave(next);
                return Ok(false);
            }
            Err(error) => return Err(error).with_context(|| format!("open {}", self.path().display())),
        }
        let mut offset = 0;
        while offset < self.at.offset {
            match self.piece(offset)? {
                Piece::Record(mut record, length) => {
                    offset += length;
                    self.learn(&mut record);
                }
                Piece::End => break,
            }
        }
        Ok(true)
    }

    fn learn(&mut self, record: &mut Record) {
        self.series.extend(record.series.drain(..));
        self.metadata.extend(record.metadata.drain(..).map(|(number, metadata)| (number, Arc::new(metadata))));
    }

    fn piece(&self, offset: u64) -> Result<Piece> {
        let Some(file) = &self.file else { return Ok(Piece::End) };
        let failed =
            |error: std::io::Error| anyhow::Error::new(error).context(format!("read {}", self.path().display()));
        let length = file.metadata().map_err(failed)?.len();
        if offset + HEAD > length {
            return Ok(Piece::End);
        }
        let mut head = [0; HEAD as usize];
        file.read_exact_at(&mut head, offset).map_err(failed)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (size, sum) = (word(0) as usize, word(4));
        if size > RECORD || offset + HEAD + size as u64 > length {
            return Ok(Piece::End);
        }
        let mut packed = vec![0; size];
        file.read_exact_at(&mut packed, offset + HEAD).map_err(failed)?;
        let sound = tsdb::prometheus::checksum(&[&packed]) == sum
            && snap::raw::decompress_len(&packed).is_ok_and(|length| length <= RECORD);
        if !sound {
            return Ok(Piece::End);
        }
        let unpacked = snap::raw::Decoder::new().decompress_vec(&packed);
        match unpacked.ok().and_then(|bytes| read(&bytes).ok()) {
            Some(record) => Ok(Piece::Record(record, HEAD + size as u64)),
            None => Ok(Piece::End),
        }
    }
}

#[cfg(test)]
mod tests;
