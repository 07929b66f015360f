//! What has happened between two commits of a repository elsewhere: commits with their authors, messages and the paths they touch.
//!
//! ```text
//! fetch new, old: commits and trees, no files ─► those that new leads to and old does not, newest first ─ tree against the parent's ─► paths
//! ```
//!
//! Histories end where the fetch did, and where bounds are: what lies beyond is left out. Merges are walked through and not told of, as
//! `git log` does where it is asked for changes. <https://git-scm.com/docs/git-log>

use std::{
    collections::{BTreeMap, BinaryHeap, HashSet},
    path::Path,
};

use crate::{
    Error, Limits,
    id::Id,
    object::{self, Commit, Kind, Mode},
    pack::Pack,
    remote::Remote,
};

/// Commits that are fetched from each end.
const DEPTH: u32 = 200;
/// Commits that are told of.
const COMMITS: usize = 500;
/// Paths of all of them together, and their bytes.
const PATHS: usize = 20_000;
const PATH_BYTES: usize = 8 << 20;
/// Directories within directories.
const DEEPEST: usize = 200;
/// Bytes of a message, and of a name.
const MESSAGE: usize = 16 << 10;
const NAME: usize = 512;
/// Bytes of a history without files, of its largest directory or commit, and of all of them.
const PACK: u64 = 512 << 20;
const OBJECT: u64 = 64 << 20;
const UNPACKED: u64 = 8 << 30;
/// Bytes of an entry of a directory, about: its mode, a name, a hash.
const ENTRY: u64 = 64;

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The commit.
    pub id: Id,
    /// Who wrote it.
    pub author: String,
    /// Their address.
    pub email: String,
    /// When it was committed: seconds since 1970.
    pub time: i64,
    /// The message.
    pub message: String,
    /// What it touches.
    pub paths: Vec<(How, String)>,
}

/// What was done to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is new.
    Added,
    /// It is another.
    Modified,
    /// It is gone.
    Removed,
}

/// What leads from `old` to `new`, newest first; none where the server gives no history without files. `scratch` is a directory.
///
/// # Errors
/// The server does not have the commits, or what it sends is damaged.
pub async fn between(remote: &Remote, old: Id, new: Id, scratch: &Path) -> Result<Option<Vec<Change>>, Error> {
    if !remote.filters() {
        return Ok(None);
    }
    let path = scratch.join(format!("history-{new}"));
    let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    // It is needed only as long as it is open.
    std::fs::remove_file(&path)?;
    let mut writer = tokio::fs::File::from_std(file.try_clone()?);
    let limits = Limits { pack: PACK, object: OBJECT, unpacked: UNPACKED, ..Limits::default() };
    remote.fetch_history(&[new, old], DEPTH, &mut writer, &limits).await?;
    drop(writer);
    let format = remote.format;
    let work = tokio::task::spawn_blocking(move || told(&Pack::read(file, format, limits)?, old, new, &limits));
    work.await.map_err(|error| Error::Io(std::io::Error::other(error)))?.map(Some)
}

/// What leads from `old` to `new` in a pack of both histories, newest first. Of `limits`, `entries` bounds what of directories is read.
///
/// # Errors
/// The pack lacks `new` or a directory of its history, or says in them what cannot be.
pub fn told(pack: &Pack, old: Id, new: Id, limits: &Limits) -> Result<Vec<Change>, Error> {
    let known = reached(pack, old)?;
    let (mut heap, mut seen) = (BinaryHeap::new(), HashSet::from([new]));
    let (mut changes, mut room) =
        (Vec::new(), Room { paths: PATHS, bytes: PATH_BYTES, read: limits.entries.saturating_mul(ENTRY) });
    heap.push((i64::MAX, new));
    while let Some((_, id)) = heap.pop() {
        if known.contains(&id) || changes.len() == COMMITS {
            continue;
        }
        let content = pack.expect(&id, Kind::Commit)?;
        let commit = Commit::parse(&content)?;
        for parent in commit.parents.iter().filter(|parent| pack.has(parent)) {
            if seen.insert(*parent) {
                heap.push((Commit::parse(&pack.expect(parent, Kind::Commit)?)?.time, *parent));
            }
        }
        if commit.parents.len() > 1 {
            continue;
        }
        let mut paths = Vec::new();
        let before = match commit.parents.first() {
            None => Some(None),
            Some(parent) if pack.has(parent) => Some(Some(Commit::parse(&pack.expect(parent, Kind::Commit)?)?.tree)),
            // The history ends here.
            Some(_) => None,
        };
        if let Some(before) = before {
            compare(pack, before, Some(commit.tree), "", 0, &mut paths, &mut room)?;
        }
        let (author, email, message) = words(&content);
        changes.push(Change { id, author, email, time: commit.time, message, paths });
    }
    Ok(changes)
}

/// Commits that one leads to, itself among them.
fn reached(pack: &Pack, from: Id) -> Result<HashSet<Id>, Error> {
    let (mut found, mut next) = (HashSet::from([from]), vec![from]);
    while let Some(id) = next.pop() {
        if !pack.has(&id) {
            continue;
        }
        let commit = Commit::parse(&pack.expect(&id, Kind::Commit)?)?;
        next.extend(commit.parents.into_iter().filter(|parent| found.insert(*parent)));
    }
    Ok(found)
}

type Listed = BTreeMap<String, (Mode, Id)>;

/// What may be read and told still. A few small directories, each of which is twice in the one above it, say as much as a large history would.
struct Room {
    paths: usize,
    /// Of paths.
    bytes: usize,
    /// Bytes of directories.
    read: u64,
}

/// What is in a directory; none where there is no room to know it.
fn listed(pack: &Pack, tree: Option<Id>, room: &mut Room) -> Result<Option<Listed>, Error> {
    let Some(tree) = tree else { return Ok(Some(Listed::new())) };
    let content = pack.expect(&tree, Kind::Tree)?;
    match room.read.checked_sub(content.len() as u64 + ENTRY) {
        Some(left) => room.read = left,
        None => {
            room.paths = 0;
            return Ok(None);
        }
    }
    let entries = object::tree(&content, tree.format())?;
    Ok(Some(entries.into_iter().map(|entry| (entry.name.to_owned(), (entry.mode, entry.id))).collect()))
}

/// Tells the paths of files that are in one tree and not in the other, or not the same, as far as there is room.
fn compare(
    pack: &Pack,
    before: Option<Id>,
    after: Option<Id>,
    below: &str,
    depth: usize,
    paths: &mut Vec<(How, String)>,
    room: &mut Room,
) -> Result<(), Error> {
    if before == after || room.paths == 0 {
        return Ok(());
    }
    if depth > DEEPEST {
        return Err(Error::TooLarge { what: "the depth of a tree", limit: DEEPEST as u64 });
    }
    let Some(before) = listed(pack, before, room)? else { return Ok(()) };
    let Some(after) = listed(pack, after, room)? else { return Ok(()) };
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if old == new {
            continue;
        }
        let directory =
            |entry: Option<&(Mode, Id)>| entry.filter(|(mode, _)| *mode == Mode::Directory).map(|(_, id)| *id);
        let file = |entry: Option<&(Mode, Id)>| entry.is_some_and(|(mode, _)| *mode != Mode::Directory);
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if directory(old).is_some() || directory(new).is_some() {
            compare(pack, directory(old), directory(new), &path, depth + 1, paths, room)?;
        }
        let how = match (file(old), file(new)) {
            (true, true) => How::Modified,
            (true, false) => How::Removed,
            (false, true) => How::Added,
            (false, false) => continue,
        };
        match (room.paths.checked_sub(1), room.bytes.checked_sub(path.len())) {
            (Some(left), Some(bytes)) => (room.paths, room.bytes) = (left, bytes),
            _ => {
                room.paths = 0;
                return Ok(());
            }
        }
        paths.push((how, path));
    }
    Ok(())
}

/// Author, address and message of a commit.
fn words(content: &[u8]) -> (String, String, String) {
    let end = content.windows(2).position(|pair| pair == b"\n\n").unwrap_or(content.len());
    let message = content.get(end + 2..).unwrap_or_default();
    let message = String::from_utf8_lossy(&message[..message.len().min(MESSAGE)]).into_owned();
    let author = content[..end].split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"author "));
    let author =
        author.map(|line| String::from_utf8_lossy(&line[..line.len().min(NAME)]).into_owned()).unwrap_or_default();
    let (name, rest) = author.split_once('<').unwrap_or((&author, ""));
    let email = rest.split('>').next().unwrap_or_default();
    (name.trim().to_owned(), email.trim().to_owned(), message)
}

#[cfg(test)]
mod tests;
