//! What a start finds: the list of series, segments, and the log since the last flush.
//!
//! Whatever is damaged is put aside or skipped and reported; the start goes on with the rest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hashbrown::HashSet;

use crate::{
    catalog::SLOTS,
    error::{Error, Result},
    file,
    frame::{Piece, Pieces},
    head::{Head, Writer},
    log::{self, Growing},
    record::{self, FloatReader, kind},
    segment::{Name, Segment},
};

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where it was.
    pub file: PathBuf,
    /// What is lost, and why.
    pub what: String,
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was damaged.
    pub losses: Vec<Loss>,
    /// Samples that were read from the log.
    pub replayed: u64,
    /// Series of the head.
    pub series: usize,
}

impl Report {
    /// Notes a loss, here and in the log of the program.
    pub fn lose(&mut self, file: &Path, what: String) {
        tracing::warn!("{}: {what}", file.display());
        self.losses.push(Loss { file: file.to_owned(), what });
    }
}

/// Directories of the parts.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// The log.
    pub log: PathBuf,
    /// The list of series.
    pub series: PathBuf,
    /// Segments.
    pub head: PathBuf,
    /// Blocks.
    pub blocks: PathBuf,
    /// Snapshots.
    pub snapshots: PathBuf,
}

impl Dirs {
    /// Below `root`.
    pub fn of(root: &Path) -> Self {
        let below = |name| root.join(name);
        Self {
            log: below("wal"),
            series: below("series"),
            head: below("head"),
            blocks: below("blocks"),
            snapshots: below("snapshots"),
        }
    }

    /// Makes them, and removes what an end before its time left unfinished.
    pub fn prepare(&self) -> Result<()> {
        for dir in [&self.log, &self.series, &self.head, &self.blocks] {
            file::make_dir(dir)?;
            for name in file::names(dir)? {
                let path = dir.join(&name);
                if path.extension().is_some_and(|extension| extension == file::UNFINISHED) {
                    let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                    removed.map_err(Error::io(|| format!("remove {}", path.display())))?;
                }
            }
        }
        Ok(())
    }
}

/// Reads everything that the head consists of. `boundary` is the end of what blocks have.
pub fn recover(dirs: &Dirs, exemplars: usize, boundary: i64, report: &mut Report) -> Result<(Head, Writer)> {
    let mut head = Head::new(exemplars);
    head.boundary = boundary;
    let lists = log::numbers(&dirs.series)?;
    for number in &lists {
        read_list(&log::path(&dirs.series, *number), &mut head, report)?;
    }
    let list_number = lists.last().map_or(1, |last| last + 1);
    let logs = log::numbers(&dirs.log)?;

    let mut held: HashSet<u32> = HashSet::new();
    let (segments, mut lasts) = open_segments(dirs, report)?;
    let through = segments.iter().map(|segment| segment.summary.log_through).max().unwrap_or(0);
    let number = logs.last().copied().unwrap_or(0).max(through) + 1;
    let list = Growing::create(&log::path(&dirs.series, list_number))?;
    let log = Growing::create(&log::path(&dirs.log, number))?;
    let mut writer = Writer::new((log, number), (list, list_number));
    writer.boundary = boundary;
    writer.reach(&head.catalog);
    for (slot, last) in lasts.drain(..) {
        writer.seen(slot, last);
    }
    for segment in &segments {
        let unknown = segment.slots().iter().filter(|slot| head.catalog.reference(**slot).is_none());
        held.extend(unknown);
    }
    if let Some(newest) = segments.iter().filter(|segment| !segment.name.late).max_by_key(|segment| segment.name.last) {
        match newest.rest() {
            Ok(rest) => replay(newest.source.path(), &rest, &mut head, &mut writer, &mut held, report),
            Err(error) => report.lose(newest.source.path(), format!("lost exemplars, metadata and deletions: {error}")),
        }
    }
    head.segments = segments.into_iter().map(Into::into).collect();
    head.recent.reach(head.catalog.slots());
    for number in logs {
        let path = log::path(&dirs.log, number);
        if number <= through {
            file::remove(&path)?;
            continue;
        }
        match fs::read(&path) {
            Ok(bytes) => {
                writer.replayed = FloatReader::default();
                replay(&path, &bytes, &mut head, &mut writer, &mut held, report);
            }
            Err(error) => report.lose(&path, format!("lost all of it: {error}")),
        }
    }
    writer.replayed = FloatReader::default();
    if let Some(highest) = held.iter().copied().filter(|slot| *slot < SLOTS).max() {
        head.catalog.reach(highest);
    }
    head.catalog.settle(|slot| held.contains(&slot));
    writer.reach(&head.catalog);
    head.recent.reach(head.catalog.slots());
    report.replayed = head.recent.samples();
    report.series = head.catalog.len();
    Ok((head, writer))
}

fn read_list(path: &Path, head: &mut Head, report: &mut Report) -> Result<()> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.lose(path, format!("lost all series in it: {error}"));
            return Ok(());
        }
    };
    for piece in Pieces::of(&bytes) {
        match piece {
            Piece::Record { kind: kind::SERIES, payload } => match record::read_series(payload, &mut head.catalog) {
                Ok(put) => put?,
                Err(torn) => report.lose(path, format!("lost some series: {torn}")),
            },
            Piece::Record { .. } => report.lose(path, "lost some series: a record is of no known kind".to_owned()),
            Piece::Damage { offset, length } => {
                report.lose(path, format!("lost the series in {length} bytes at {offset}: they are damaged"));
            }
        }
    }
    Ok(())
}

fn open_segments(dirs: &Dirs, report: &mut Report) -> Result<(Vec<Segment>, Vec<(u32, i64)>)> {
    let names: Vec<Name> = file::names(&dirs.head)?.iter().filter_map(|name| Name::parse(name)).collect();
    let (mut segments, mut lasts) = (Vec::new(), Vec::new());
    // Larger ones first: what was merged into a sound one is not needed any more.
    let mut order = names.clone();
    order.sort_by_key(|name| (name.late, name.first, u64::MAX - name.last));
    for name in order {
        let path = name.path(&dirs.head);
        if segments.iter().any(|segment: &Segment| segment.name.covers(name)) {
            file::remove(&path)?;
            continue;
        }
        let before = lasts.len();
        match Segment::open(&dirs.head, name, |slot, last| lasts.push((slot, last))) {
            Ok(segment) => {
                if name.late {
                    lasts.truncate(before);
                }
                segments.push(segment);
            }
            Err(error) => {
                lasts.truncate(before);
                report.lose(&path, format!("lost all samples in it: {error}"));
                file::put_aside(&path);
            }
        }
    }
    Ok((segments, lasts))
}

fn replay(
    path: &Path,
    bytes: &[u8],
    head: &mut Head,
    writer: &mut Writer,
    held: &mut HashSet<u32>,
    report: &mut Report,
) {
    let (mut unknown, mut broken) = (0, false);
    for piece in Pieces::of(bytes) {
        match piece {
            // What follows continues values of the record that is lost.
            Piece::Record { kind: kind::FLOATS, payload } if broken => {
                report.lose(path, format!("lost {} bytes of samples behind the damage", payload.len()));
            }
            Piece::Record { kind, payload } => match head.replay(kind, payload, writer, held) {
                Ok(samples) => unknown += samples,
                Err(torn) => {
                    report.lose(path, format!("lost a record: {torn}"));
                    broken = true;
                }
            },
            Piece::Damage { offset, length } => {
                report.lose(path, format!("lost {length} bytes at {offset}: they are damaged"));
                broken = true;
            }
        }
    }
    if unknown > 0 {
        report.lose(path, format!("lost {unknown} samples of series that are not known any more"));
    }
}
