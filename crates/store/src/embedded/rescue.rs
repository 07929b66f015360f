//! Ways out: a new store from a backup, or from all that can still be read of a damaged one.
//!
//! ```text
//! backup ───────────────────────────────▶ restore ─▶ new store
//! damaged store ─▶ checkpoint ─▶ whole frames ─┐
//!                ─▶ log ───────▶ whole groups ─┴─▶ salvage ─▶ new store, and a list of what is lost
//! ```
//!
//! Both make the store under a temporary name and rename it when it is whole. The new store's revision is a thousand million
//! above the old one and everything before it compacted, as etcd advises for restored clusters: revisions that clients have
//! seen after the backup never come again with other contents, and every client lists anew. What each entry says of its own
//! revisions stays.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use crate::{Error, Result, Revision};

use super::{
    checkpoint,
    frame::{BLOCK, Found, Header, Kind, Reader, StoreId},
    index::{Chain, Index},
    lock::Lock,
    mark::{Mark, Said},
    record::{self, Place, Record},
    segment,
};

/// How far the revision of a restored store lies above the last one known.
const AHEAD: u64 = 1_000_000_000;

/// A store made from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The revision that the backup shows.
    pub revision: Revision,
    /// Entries in it.
    pub entries: u64,
}

/// A store made from what could be read of a damaged one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// The last revision that could be read.
    pub revision: Revision,
    /// Entries in it.
    pub entries: u64,
    /// What could not be read, in the order of the files; empty when all could.
    pub lost: Vec<Lost>,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What was there.
    pub what: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file.display(), self.offset, self.what)
    }
}

/// See [`crate::Store::restore`].
pub fn restore(file: &Path, dir: &Path) -> Result<Restored> {
    let loaded = checkpoint::load(file)?;
    let head = loaded.head;
    let entries = build(dir, head.revision, loaded.keys)?;
    Ok(Restored { revision: Revision::new(head.revision), entries })
}

/// See [`crate::Store::check_backup`].
pub fn check(file: &Path) -> Result<Restored> {
    let loaded = checkpoint::load(file)?;
    Ok(Restored { revision: Revision::new(loaded.head.revision), entries: loaded.keys.len() as u64 })
}

/// See [`crate::Store::salvage`].
pub fn salvage(dir: &Path, out: &Path) -> Result<Salvaged> {
    if !dir.is_dir() {
        return Err(Error::Invalid(format!("{} is not a directory", dir.display())));
    }
    let _lock = Lock::take(dir)?;
    let failed = |error| Error::io(format!("read {}", dir.display()), error);
    let said = Mark::read(dir).map_err(failed)?;
    let newest = segment::numbered(dir, checkpoint::PREFIX).map_err(failed)?.pop_last();
    let segments = segment::numbered(dir, "log-").map_err(failed)?;
    let mut found = Finding { id: said.map(|said| said.id), lost: Vec::new() };

    let mut base = Base::default();
    if let Some((sequence, path)) = &newest {
        base = found.checkpoint(*sequence, path)?;
    }
    let mut groups = BTreeMap::new();
    for path in segments.values() {
        found.groups(path, &mut groups)?;
    }
    let whole = |sequence| groups.get(&sequence).is_some_and(|found| found.iter().any(|group| group.records.is_some()));
    if !found.lost.is_empty() && (1..=base.sequence).all(whole) {
        // The log still reaches back to the beginning: it says all that the checkpoint did.
        (base, found.lost) = (Base::default(), Vec::new());
    }
    let mut index = Index::at(base.revision, base.compacted, Place::default(), base.keys);
    found.replay(&mut index, base.sequence, groups, said, segments.values().next_back().map_or(dir, PathBuf::as_path));

    let revision = index.revision();
    let entries = build(out, revision, index.into_keys())?;
    Ok(Salvaged { revision: Revision::new(revision), entries, lost: found.lost })
}

/// What a checkpoint gave.
struct Base {
    /// The last group that it includes.
    sequence: u64,
    revision: u64,
    compacted: u64,
    keys: BTreeMap<Arc<str>, Chain>,
}

impl Default for Base {
    fn default() -> Self {
        Self { sequence: 0, revision: Revision::INITIAL.get(), compacted: 0, keys: BTreeMap::new() }
    }
}

/// A group and where it was found; without records when its payload is damaged.
struct Group {
    file: PathBuf,
    offset: u64,
    header: Header,
    records: Option<Vec<Record>>,
}

struct Finding {
    /// The store's id, once it is known.
    id: Option<StoreId>,
    lost: Vec<Lost>,
}

impl Finding {
    fn lose(&mut self, file: &Path, offset: u64, what: impl fmt::Display) {
        self.lost.push(Lost { file: file.to_owned(), offset, what: what.to_string() });
    }

    /// Whether a header is of this store; the first one decides where the end mark could not.
    fn ours(&mut self, header: &Header) -> bool {
        *self.id.get_or_insert(header.id) == header.id
    }

    /// Reads every whole frame of the checkpoint.
    fn checkpoint(&mut self, sequence: u64, path: &Path) -> Result<Base> {
        let failed = |error| Error::io(format!("read checkpoint {}", path.display()), error);
        let file = File::open(path).map_err(failed)?;
        let mut reader = Reader::new(&file).map_err(failed)?;
        let length = reader.length();
        let mut base = Base { sequence, ..Base::default() };
        let (mut at, mut expected, mut ended) = (0, 0, false);
        let mut last: Option<Arc<str>> = None;
        // Where a damaged part began, and the last key before it.
        let mut gap: Option<u64> = None;
        while at < length && !ended {
            let frame = match reader.at(at).map_err(failed)? {
                Found::Frame(header, payload) if self.ours(&header) && header.kind != Kind::Group => (header, payload),
                _ => {
                    gap.get_or_insert(at);
                    at += BLOCK as u64;
                    continue;
                }
            };
            let (header, payload) = frame;
            let before = last.clone();
            base.revision = base.revision.max(header.revision);
            match header.kind {
                Kind::Head => {
                    if let Ok(head) = record::head(payload) {
                        base.compacted = head.compacted;
                    }
                }
                Kind::Keys => {
                    for (key, version) in record::versions(payload).map_while(Result::ok) {
                        let key: Arc<str> = key.into();
                        last = Some(key.clone());
                        match base.keys.get_mut(&key) {
                            Some(chain) if chain.last().modified >= version.modified => {}
                            Some(chain) => chain.push(version),
                            None => drop(base.keys.insert(key, Chain::new(version))),
                        }
                    }
                }
                Kind::End | Kind::Group => ended = true,
            }
            if header.sequence != expected || gap.is_some() {
                let first = record::versions(payload).find_map(Result::ok).map(|(key, _)| key.to_owned());
                let lost = keys_between(before.as_deref(), first.as_deref(), expected, header.sequence);
                self.lose(path, gap.take().unwrap_or(at), lost);
            }
            expected = header.sequence + 1;
            at += header.extent();
        }
        if !ended {
            self.lose(path, gap.unwrap_or(at), keys_between(last.as_deref(), None, expected, u64::MAX));
        }
        Ok(base)
    }

    /// Finds the groups in a segment.
    fn groups(&mut self, path: &Path, groups: &mut BTreeMap<u64, Vec<Group>>) -> Result<()> {
        let failed = |error| Error::io(format!("read {}", path.display()), error);
        let file = File::open(path).map_err(failed)?;
        let mut reader = Reader::new(&file).map_err(failed)?;
        let length = reader.length();
        let mut at = 0;
        while at < length {
            let (header, records) = match reader.at(at).map_err(failed)? {
                Found::Frame(header, payload) => (header, record::group(payload).collect::<Result<Vec<_>, _>>().ok()),
                Found::Torn(header) => (header, None),
                Found::Nothing => {
                    at += BLOCK as u64;
                    continue;
                }
            };
            let offset = at;
            let wanted = header.kind == Kind::Group && self.ours(&header);
            // The extent of a damaged group is not to be trusted: the next one may begin in it.
            at += if records.is_some() && wanted { header.extent() } else { BLOCK as u64 };
            if wanted {
                let group = Group { file: path.to_owned(), offset, header, records };
                groups.entry(header.sequence).or_default().push(group);
            }
        }
        Ok(())
    }

    /// Applies the groups in order and lists the missing ones.
    fn replay(
        &mut self,
        index: &mut Index,
        after: u64,
        mut groups: BTreeMap<u64, Vec<Group>>,
        said: Option<Said>,
        end: &Path,
    ) {
        let last = groups.keys().next_back().copied().unwrap_or(after);
        let synced = said.map_or(0, |said| said.sequence);
        let mut seal = None;
        let mut from = index.revision();
        let mut missing: Option<(u64, PathBuf, u64)> = None;
        for sequence in after + 1..=last.max(synced) {
            let candidates = groups.remove(&sequence).unwrap_or_default();
            // A write that failed may have left another group of the same sequence: the one that follows its predecessor,
            // or else the one written last, is it.
            let whole = |group: &&Group| group.records.is_some();
            let follows = |group: &&Group| Some(group.header.previous) == seal && group.records.is_some();
            let chosen = candidates.iter().find(follows).or_else(|| candidates.iter().rfind(whole));
            let Some(Group { header, records: Some(records), .. }) = chosen else {
                let place = candidates.last().map(|group| (group.file.clone(), group.offset));
                let (file, offset) = place.unwrap_or((end.to_owned(), 0));
                seal = candidates.last().map(|group| group.header.seal);
                // The last one was not acknowledged, unless the end mark says so.
                if sequence <= synced || sequence < last || said.is_none() {
                    missing.get_or_insert((sequence, file, offset));
                }
                continue;
            };
            seal = Some(header.seal);
            if let Some((first, file, offset)) = missing.take() {
                let to = records.iter().find_map(|record| match record {
                    Record::Txn(revision, _) => Some(revision - 1),
                    Record::Compact(_) => None,
                });
                let to = to.unwrap_or(header.revision);
                self.lose(&file, offset, lost_groups(first, sequence - 1, from + 1, Some(to)));
            }
            for record in records {
                match record {
                    Record::Txn(revision, ops) if *revision > index.revision() => index.apply(*revision, ops.clone()),
                    Record::Txn(..) => {}
                    Record::Compact(revision) => index.compact(*revision),
                }
            }
            from = index.revision();
        }
        if let Some((first, file, offset)) = missing {
            self.lose(&file, offset, lost_groups(first, last.max(synced), from + 1, None));
        }
    }
}

fn keys_between(before: Option<&str>, after: Option<&str>, expected: u64, found: u64) -> String {
    if expected == 0 && found == 1 {
        return "the head of the checkpoint, but no keys".into();
    }
    let text = match (before, after) {
        (None, None) => "possibly all keys".into(),
        (Some(before), None) => format!("keys after {before:?}, if there were any"),
        (None, Some(after)) => format!("keys before {after:?}"),
        (Some(before), Some(after)) => format!("keys between {before:?} and {after:?}"),
    };
    format!("{text}, as they were at the checkpoint")
}

fn lost_groups(first: u64, last: u64, from: u64, to: Option<u64>) -> String {
    let groups = if first == last { format!("group {first}") } else { format!("groups {first} to {last}") };
    match to {
        Some(to) if to < from => format!("{groups} of the log, without transactions"),
        Some(to) if to == from => format!("{groups} of the log: the changes of revision {from}"),
        Some(to) => format!("{groups} of the log: the changes of revisions {from} to {to}"),
        None => format!("{groups} of the log: all changes from revision {from} on"),
    }
}

/// Makes a store of these keys in `dir`; how many entries it has.
fn build(dir: &Path, revision: u64, keys: BTreeMap<Arc<str>, Chain>) -> Result<u64> {
    let failed = |error| Error::io(format!("make a store in {}", dir.display()), error);
    if dir.exists() && fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(Error::Invalid(format!("{} is not empty: move what is there away first", dir.display())));
    }
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".making");
    let making = dir.with_file_name(name);
    if making.exists() {
        fs::remove_dir_all(&making).map_err(failed)?;
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&making).map_err(failed)?;
    let ahead = revision + AHEAD;
    let index = RwLock::new(Index::at(ahead, ahead, Place { segment: 1, ..Place::default() }, keys));
    let entries = index.read().expect("index lock").len() as u64;
    let id = StoreId::random().map_err(failed)?;
    checkpoint::write(&making, id, &index)?;
    Mark::create(&making, Said { id, sequence: 0 }).map_err(failed)?;
    fs::rename(&making, dir).map_err(failed)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    Ok(entries)
}
