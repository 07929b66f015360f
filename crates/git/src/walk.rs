//! Which objects go out: history from what is wanted down to what the other side has.
//!
//! ```text
//! wanted ─┐ newest first                    commits that only the wanted lead to      ─ objects ─► what goes
//!         ├──── commits painted ──► edge:   parents of those, which the other has     ─ seen, does not go
//! had  ───┘
//! ```
//!
//! A shallow side lacks the parents of some commits: there the walk of that side ends.

use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use crate::{
    Error,
    id::Id,
    object::{self, Commit, Kind, Mode},
    repository::Reader,
};

/// How far back a shallow clone goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// To the beginning.
    #[default]
    Whole,
    /// So many commits from each that is wanted.
    Commits(u32),
    /// So many commits beyond what the client's history ends with now.
    Further(u32),
    /// Commits made then or later, in seconds since 1970.
    Since(i64),
    /// Commits that these do not lead to.
    Not(Vec<Id>),
}

/// Objects that are left out of a partial clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// None.
    #[default]
    Nothing,
    /// Files.
    Blobs,
    /// Files of this many bytes and more.
    BlobsFrom(u64),
    /// Trees and files that lie so deep and deeper; the tree of a commit is 0 deep.
    TreesFrom(u32),
    /// All that is not of this kind.
    Others(Kind),
    /// What any of them leaves out.
    Any(Vec<Filter>),
}

/// Where a shallow history ends.
#[derive(Clone, Debug, Default)]
pub struct Boundary {
    /// Commits whose parents the client will not have.
    pub ends: HashSet<Id>,
    /// Those of them that it has to be told.
    pub shallow: Vec<Id>,
    /// Commits whose parents it will have from now on.
    pub unshallow: Vec<Id>,
}

/// What is wanted, and what the other side has.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Objects of any kind.
    pub wants: Vec<Id>,
    /// Commits that are here, too.
    pub haves: Vec<Id>,
    /// Commits whose parents the other side lacks.
    pub shallow: HashSet<Id>,
    /// How far back it wants to go.
    pub depth: Depth,
    /// What it does not want.
    pub filter: Filter,
}

impl Filter {
    /// Reads what `git clone --filter` takes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let unknown = || {
            Error::invalid(format!(
                "filter {text:?} is not one that is served: blob:none, blob:limit, tree, object:type"
            ))
        };
        if text == "blob:none" {
            return Ok(Self::Blobs);
        }
        let (name, value) = text.split_once([':', '=']).ok_or_else(unknown)?;
        match name {
            "combine" => {
                let parts: Vec<&str> = value.split('+').collect();
                if parts.len() > 16 || parts.iter().any(|part| part.starts_with("combine:")) {
                    return Err(unknown());
                }
                let decoded =
                    parts.into_iter().map(|part| part.replace("%3a", ":").replace("%3A", ":").replace("%3d", "="));
                Ok(Self::Any(decoded.map(|part| Self::parse(&part)).collect::<Result<_, _>>()?))
            }
            "blob" => {
                let limit = value.strip_prefix("limit=").ok_or_else(unknown)?;
                let (digits, factor) = match limit.char_indices().next_back() {
                    Some((at, 'k' | 'K')) => (&limit[..at], 1 << 10),
                    Some((at, 'm' | 'M')) => (&limit[..at], 1 << 20),
                    Some((at, 'g' | 'G')) => (&limit[..at], 1 << 30),
                    _ => (limit, 1_u64),
                };
                let count = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(factor));
                count.map(Self::BlobsFrom).ok_or_else(unknown)
            }
            "tree" => value.parse().map(Self::TreesFrom).map_err(|_| unknown()),
            "object" => match value.strip_prefix("type=") {
                Some("commit") => Ok(Self::Others(Kind::Commit)),
                Some("tree") => Ok(Self::Others(Kind::Tree)),
                Some("blob") => Ok(Self::Others(Kind::Blob)),
                Some("tag") => Ok(Self::Others(Kind::Tag)),
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }

    /// Whether an object is left out, which lies so deep below the tree of its commit.
    fn omits(&self, kind: Kind, depth: u32, size: &mut dyn FnMut() -> Result<u64, Error>) -> Result<bool, Error> {
        Ok(match self {
            Self::Nothing => false,
            Self::Blobs => kind == Kind::Blob,
            Self::BlobsFrom(limit) => kind == Kind::Blob && size()? >= *limit,
            Self::TreesFrom(limit) => matches!(kind, Kind::Tree | Kind::Blob) && depth >= *limit,
            Self::Others(wanted) => kind != *wanted,
            Self::Any(all) => {
                for filter in all {
                    if filter.omits(kind, depth, size)? {
                        return Ok(true);
                    }
                }
                false
            }
        })
    }

    /// Below this depth nothing goes.
    fn deepest(&self) -> u32 {
        match self {
            Self::TreesFrom(limit) => *limit,
            Self::Any(all) => all.iter().map(Self::deepest).min().unwrap_or(u32::MAX),
            _ => u32::MAX,
        }
    }
}

/// The commit that an object is or, as a tag, leads to.
fn commit_of(reader: &mut Reader, id: &Id) -> Result<Option<Id>, Error> {
    let id = reader.peel(id)?;
    Ok(match reader.kind(&id)? {
        Some(Kind::Commit) => Some(id),
        _ => None,
    })
}

fn commits_of(reader: &mut Reader, ids: &[Id]) -> Result<Vec<Id>, Error> {
    let mut commits = Vec::with_capacity(ids.len());
    for id in ids {
        commits.extend(commit_of(reader, id)?);
    }
    Ok(commits)
}

/// Where the history ends that the client asks for.
pub fn boundary(reader: &mut Reader, ask: &Ask) -> Result<Boundary, Error> {
    let wants = commits_of(reader, &ask.wants)?;
    // What is within, each with its parents.
    let within = match &ask.depth {
        Depth::Whole => return Ok(Boundary { ends: ask.shallow.clone(), ..Boundary::default() }),
        Depth::Commits(depth) => near(reader, &wants, *depth)?,
        Depth::Further(depth) => {
            let mut starts = Vec::new();
            for id in &ask.shallow {
                if reader.has(id)? {
                    starts.push(*id);
                }
            }
            near(reader, &starts, depth.saturating_add(1))?
        }
        Depth::Since(time) => reached(reader, &wants, &mut |_, commit| commit.time >= *time)?,
        Depth::Not(others) => {
            let others = commits_of(reader, others)?;
            let out: HashSet<Id> = reached(reader, &others, &mut |_, _| true)?.into_keys().collect();
            reached(reader, &wants, &mut |id, _| !out.contains(id))?
        }
    };
    if within.is_empty() {
        return Err(Error::invalid("no commits selected for shallow requests"));
    }
    let ends: HashSet<Id> = within
        .iter()
        .filter(|(_, parents)| parents.iter().any(|parent| !within.contains_key(parent)))
        .map(|(id, _)| *id)
        .collect();
    let sorted = |ids: Vec<Id>| {
        let mut ids = ids;
        ids.sort_unstable();
        ids
    };
    let shallow = ends.iter().filter(|id| !ask.shallow.contains(id)).copied().collect();
    let unshallow = ask.shallow.iter().filter(|id| within.contains_key(id) && !ends.contains(id)).copied().collect();
    Ok(Boundary { shallow: sorted(shallow), unshallow: sorted(unshallow), ends })
}

/// Commits at most so many steps from the first, which are one step away.
fn near(reader: &mut Reader, starts: &[Id], depth: u32) -> Result<HashMap<Id, Vec<Id>>, Error> {
    let mut found = HashMap::new();
    let mut queue: VecDeque<(Id, u32)> = starts.iter().map(|id| (*id, 1)).collect();
    while let Some((id, away)) = queue.pop_front() {
        if away > depth || found.contains_key(&id) {
            continue;
        }
        let parents = reader.commit(&id)?.parents;
        queue.extend(parents.iter().map(|parent| (*parent, away + 1)));
        found.insert(id, parents);
    }
    Ok(found)
}

/// Commits that are reached over commits that `goes` takes.
fn reached(
    reader: &mut Reader,
    starts: &[Id],
    goes: &mut dyn FnMut(&Id, &Commit) -> bool,
) -> Result<HashMap<Id, Vec<Id>>, Error> {
    let mut found = HashMap::new();
    let mut left = starts.to_vec();
    while let Some(id) = left.pop() {
        if found.contains_key(&id) {
            continue;
        }
        let commit = reader.commit(&id)?;
        if goes(&id, &commit) {
            left.extend(&commit.parents);
            found.insert(id, commit.parents);
        }
    }
    Ok(found)
}

/// Whether everything that is wanted leads to something that both sides have: more need not be told.
pub fn ready(reader: &mut Reader, wants: &[Id], common: &HashSet<Id>) -> Result<bool, Error> {
    if common.is_empty() {
        return Ok(false);
    }
    let mut oldest = i64::MAX;
    for id in common {
        if let Some(commit) = commit_of(reader, id)? {
            oldest = oldest.min(reader.commit(&commit)?.time);
        }
    }
    for want in commits_of(reader, wants)? {
        let (mut seen, mut left, mut met) = (HashSet::from([want]), vec![want], false);
        while let Some(id) = left.pop() {
            if common.contains(&id) {
                met = true;
                break;
            }
            let commit = reader.commit(&id)?;
            if commit.time >= oldest {
                left.extend(commit.parents.into_iter().filter(|parent| seen.insert(*parent)));
            }
        }
        if !met {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether one commit leads to another: whether moving a branch from `old` to `new` loses nothing.
pub fn leads_to(reader: &mut Reader, new: &Id, old: &Id) -> Result<bool, Error> {
    let starts = commits_of(reader, &[*new])?;
    Ok(reached(reader, &starts, &mut |_, _| true)?.contains_key(old))
}

const WANTED: u8 = 1;
const HAD: u8 = 2;

/// Commits on their way, newest first, each painted by who leads to it.
#[derive(Default)]
struct Paint {
    colours: HashMap<Id, u8>,
    queue: BinaryHeap<(i64, Id)>,
    queued: HashSet<Id>,
    /// How many in the queue are wanted only.
    open: usize,
}

impl Paint {
    fn add(&mut self, reader: &mut Reader, id: Id, colour: u8) -> Result<(), Error> {
        let held = self.colours.entry(id).or_default();
        let before = *held;
        if before | colour == before {
            return Ok(());
        }
        *held |= colour;
        let now = *held;
        if self.queued.contains(&id) {
            self.open -= usize::from(before == WANTED);
        } else {
            let time = reader.commit(&id)?.time;
            self.queue.push((time, id));
            self.queued.insert(id);
        }
        self.open += usize::from(now == WANTED);
        Ok(())
    }
}

/// The objects that go out.
pub fn objects(reader: &mut Reader, ask: &Ask, boundary: &Boundary) -> Result<Vec<Id>, Error> {
    let mut paint = Paint::default();
    let (mut going, mut plain) = (Vec::new(), Vec::new());
    for want in &ask.wants {
        let mut at = *want;
        // Annotated tags go with what they lead to.
        for _ in 0..32 {
            match reader.kind(&at)? {
                None => return Err(Error::invalid(format!("not our ref {at}"))),
                Some(Kind::Tag) => {
                    going.push(at);
                    at = object::tagged(&reader.expect(&at, Kind::Tag)?)?;
                }
                Some(Kind::Commit) => {
                    paint.add(reader, at, WANTED)?;
                    break;
                }
                Some(kind) => {
                    plain.push((at, kind));
                    break;
                }
            }
        }
    }
    for id in &boundary.unshallow {
        for parent in reader.commit(id)?.parents {
            paint.add(reader, parent, WANTED)?;
        }
    }
    for have in commits_of(reader, &ask.haves)? {
        paint.add(reader, have, HAD)?;
    }
    let mut edge = HashSet::new();
    while paint.open > 0 {
        let Some((_, id)) = paint.queue.pop() else { break };
        paint.queued.remove(&id);
        let colour = paint.colours[&id];
        paint.open -= usize::from(colour == WANTED);
        let ends = if colour & HAD != 0 { &ask.shallow } else { &boundary.ends };
        if ends.contains(&id) {
            continue;
        }
        for parent in reader.commit(&id)?.parents {
            paint.add(reader, parent, if colour & HAD != 0 { HAD } else { WANTED })?;
        }
    }
    let mut walk = Trees { filter: &ask.filter, seen: HashMap::new(), going: Vec::new() };
    let sent: Vec<Id> = paint.colours.iter().filter(|(_, colour)| **colour == WANTED).map(|(id, _)| *id).collect();
    for id in &sent {
        for parent in reader.commit(id)?.parents {
            if paint.colours.get(&parent).is_some_and(|colour| colour & HAD != 0) {
                edge.insert(parent);
            }
        }
    }
    // What a shallow side has at its end is there as well.
    for id in &boundary.unshallow {
        edge.insert(*id);
    }
    for id in &edge {
        let tree = reader.commit(id)?.tree;
        walk.below(reader, tree, 0, false)?;
    }
    for id in &sent {
        let tree = reader.commit(id)?.tree;
        going.push(*id);
        walk.below(reader, tree, 0, true)?;
    }
    for (id, kind) in plain {
        match kind {
            Kind::Tree => {
                if walk.seen.insert(id, 0) != Some(0) {
                    going.push(id);
                }
                walk.within(reader, id, 0, true)?;
            }
            _ => going.push(id),
        }
    }
    going.extend(walk.going);
    if let Some(kind) = only(&ask.filter) {
        let mut kept = Vec::new();
        for id in going {
            if reader.kind(&id)? == Some(kind) || ask.wants.contains(&id) {
                kept.push(id);
            }
        }
        going = kept;
    }
    going.sort_unstable();
    going.dedup();
    Ok(going)
}

fn only(filter: &Filter) -> Option<Kind> {
    match filter {
        Filter::Others(kind) => Some(*kind),
        Filter::Any(all) => all.iter().find_map(only),
        _ => None,
    }
}

/// Trees and files, each once.
struct Trees<'a> {
    filter: &'a Filter,
    /// How deep each was seen at least.
    seen: HashMap<Id, u32>,
    going: Vec<Id>,
}

impl Trees<'_> {
    /// A tree and what is below it.
    fn below(&mut self, reader: &mut Reader, tree: Id, depth: u32, goes: bool) -> Result<(), Error> {
        if self.take(reader, tree, Kind::Tree, depth, goes)? {
            self.within(reader, tree, depth, goes)?;
        }
        Ok(())
    }

    fn within(&mut self, reader: &mut Reader, tree: Id, depth: u32, goes: bool) -> Result<(), Error> {
        let mut left = vec![(tree, depth)];
        while let Some((tree, depth)) = left.pop() {
            if depth >= self.filter.deepest() {
                continue;
            }
            let content = reader.expect(&tree, Kind::Tree)?;
            for entry in object::tree(&content, tree.format())? {
                match entry.mode {
                    Mode::Module => {}
                    Mode::Directory => {
                        if self.take(reader, entry.id, Kind::Tree, depth + 1, goes)? {
                            left.push((entry.id, depth + 1));
                        }
                    }
                    Mode::File { .. } | Mode::Link => {
                        self.take(reader, entry.id, Kind::Blob, depth + 1, goes)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes an object; whether what is below it is still to be looked at.
    fn take(&mut self, reader: &Reader, id: Id, kind: Kind, depth: u32, goes: bool) -> Result<bool, Error> {
        let before = self.seen.get(&id).copied();
        let nearer = self.filter.deepest() != u32::MAX && before.is_some_and(|before| depth < before);
        if before.is_some() && !nearer {
            return Ok(false);
        }
        self.seen.insert(id, depth);
        // Of a kind that is left out as a whole what is below may still go.
        let whole = only(self.filter).is_some();
        if goes && (whole || !self.filter.omits(kind, depth, &mut || reader.size(&id))?) {
            self.going.push(id);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
