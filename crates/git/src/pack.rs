//! Packs: many objects in one file, some of them built from others.
//!
//! ```text
//! PACK, version, count │ kind and size, [base], deflated │ … │ hash of all before
//!
//! pass 1, in order      every object is inflated once; those that stand alone get their ids
//! pass 2, by base       what is built from them is built and gets its id, deepest last
//! ```
//!
//! Specification: <https://git-scm.com/docs/gitformat-pack>.

pub(crate) mod delta;
pub(crate) mod header;
mod index;
mod read;

pub(crate) mod output;
pub(crate) mod stored;

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};

pub use index::write as write_index;

use crate::{
    Error, Limits,
    id::{Format, Hasher, Id},
    object::Kind,
};

/// Objects built from others that are kept, in bytes.
const KEPT: usize = 32 << 20;
/// How often an object may be built from another that is built from another: git itself makes at most 4,095.
pub(crate) const DEEPEST: usize = 4_096;

/// Objects that were built, by offset, with their kinds.
#[derive(Debug, Default)]
struct Built {
    objects: HashMap<u64, (Kind, Arc<Vec<u8>>)>,
    bytes: usize,
}

impl Built {
    fn keep(&mut self, offset: u64, kind: Kind, content: &Arc<Vec<u8>>) {
        // However little an object has to say, keeping it takes room.
        let size = content.len() + 128;
        if size > KEPT / 8 {
            return;
        }
        if self.bytes + size > KEPT {
            *self = Self::default();
        }
        if self.objects.insert(offset, (kind, content.clone())).is_none() {
            self.bytes += size;
        }
    }
}

/// Where an object begins in its pack, and what is known of it without its base.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Of the deflated bytes.
    content: u64,
    /// Inflated: for one that is built from another, of the instructions.
    size: u64,
    base: Base,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// It stands alone.
    None(Kind),
    /// It is built from the object at this offset.
    At(u64),
}

/// Objects whose base has no id yet: by its offset, or by its id.
#[derive(Default)]
struct Waiting {
    at: HashMap<u64, Vec<u64>>,
    of: HashMap<Id, Vec<u64>>,
}

impl Waiting {
    fn take(&mut self, offset: u64, id: &Id) -> Vec<u64> {
        let mut found = self.at.remove(&offset).unwrap_or_default();
        found.extend(self.of.remove(id).unwrap_or_default());
        found
    }
}

/// An object in the index.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: Id,
    offset: u64,
    crc: u32,
}

/// A pack whose objects are known.
#[derive(Debug)]
pub struct Pack {
    file: File,
    format: Format,
    limits: Limits,
    /// By id.
    known: Vec<Known>,
    places: HashMap<u64, Place>,
    built: Mutex<Built>,
    trailer: Id,
}

impl Pack {
    /// Reads a whole pack, and finds out the id of each object in it. Blocks.
    pub fn read(file: File, format: Format, limits: Limits) -> Result<Self, Error> {
        let taken = read::all(&file, format, &limits)?;
        let mut pack = Self {
            file,
            format,
            limits,
            known: Vec::with_capacity(taken.objects.len()),
            places: HashMap::with_capacity(taken.objects.len()),
            built: Mutex::default(),
            trailer: taken.trailer,
        };
        let mut waiting = Waiting::default();
        let (mut standing, mut crcs) = (Vec::new(), HashMap::with_capacity(taken.objects.len()));
        for object in taken.objects {
            let base = match object.base {
                header::Base::None(kind) => Base::None(kind),
                header::Base::At(offset) => {
                    waiting.at.entry(offset).or_default().push(object.offset);
                    Base::At(offset)
                }
                header::Base::Named(id) => {
                    waiting.of.entry(id).or_default().push(object.offset);
                    Base::At(u64::MAX)
                }
            };
            standing.extend(object.id.map(|id| (id, object.offset)));
            crcs.insert(object.offset, object.crc);
            pack.places.insert(object.offset, Place { content: object.content, size: object.size, base });
        }
        let mut unpacked = taken.unpacked;
        for (id, offset) in standing {
            pack.known.push(Known { id, offset, crc: crcs[&offset] });
            let first = waiting.take(offset, &id);
            if !first.is_empty() {
                pack.build_from(offset, first, &mut waiting, &crcs, &mut unpacked)?;
            }
        }
        if pack.known.len() < pack.places.len() {
            return Err(match waiting.of.keys().next() {
                Some(id) => Error::invalid(format!("the pack builds an object from {id}, which it lacks")),
                None => Error::invalid("the pack builds an object from what is no object"),
            });
        }
        pack.known.sort_unstable_by_key(|known| (known.id, known.offset));
        pack.known.dedup_by_key(|known| known.id);
        Ok(pack)
    }

    /// Builds everything that is built from the object at `root`, depth first.
    fn build_from(
        &mut self,
        root: u64,
        first: Vec<u64>,
        waiting: &mut Waiting,
        crcs: &HashMap<u64, u32>,
        unpacked: &mut u64,
    ) -> Result<(), Error> {
        let (kind, content) = self.build(root)?;
        let mut held = content.len() as u64;
        let mut stack = vec![(root, content, first)];
        while let Some((base, content, left)) = stack.last_mut() {
            let (base, content) = (*base, content.clone());
            let Some(offset) = left.pop() else {
                stack.pop();
                held -= content.len() as u64;
                continue;
            };
            if left.is_empty() {
                // Its last child: nobody else needs it.
                stack.pop();
                held -= content.len() as u64;
            }
            let place = self.places.get_mut(&offset).ok_or_else(|| Error::invalid("an object that is not there"))?;
            place.base = Base::At(base);
            let place = *place;
            let made = delta::apply(&content, &self.inflate(&place)?, self.limits.object)?;
            drop(content);
            *unpacked += made.len() as u64;
            if *unpacked > self.limits.unpacked {
                return Err(Error::TooLarge { what: "the pack, unpacked,", limit: self.limits.unpacked });
            }
            let id = identify(self.format, kind, &made)?;
            self.known.push(Known { id, offset, crc: crcs[&offset] });
            let next = waiting.take(offset, &id);
            if !next.is_empty() {
                held += made.len() as u64;
                if stack.len() == DEEPEST {
                    return Err(Error::TooLarge { what: "a chain of objects", limit: DEEPEST as u64 });
                }
                if held > self.limits.object.saturating_mul(4) {
                    let limit = self.limits.object.saturating_mul(4);
                    return Err(Error::TooLarge { what: "what objects are built from at once", limit });
                }
                stack.push((offset, Arc::new(made), next));
            }
        }
        Ok(())
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The ids of its objects, in order.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.known.iter().map(|known| known.id)
    }

    /// Whether an object is in it.
    pub fn has(&self, id: &Id) -> bool {
        self.known.binary_search_by(|known| known.id.cmp(id)).is_ok()
    }

    /// What an object is, without building it.
    pub fn kind(&self, id: &Id) -> Result<Kind, Error> {
        let mut at = self.find(id)?;
        for _ in 0..=DEEPEST {
            match self.places.get(&at).map(|place| place.base) {
                Some(Base::None(kind)) => return Ok(kind),
                Some(Base::At(base)) => at = base,
                None => break,
            }
        }
        Err(Error::invalid(format!("object {id} is built from what is no object")))
    }

    fn find(&self, id: &Id) -> Result<u64, Error> {
        let at = self.known.binary_search_by(|known| known.id.cmp(id));
        at.map(|at| self.known[at].offset).map_err(|_| Error::invalid(format!("object {id} is not in the pack")))
    }

    /// An object.
    pub fn get(&self, id: &Id) -> Result<(Kind, Arc<Vec<u8>>), Error> {
        self.build(self.find(id)?)
    }

    /// An object that must be of a kind.
    pub fn expect(&self, id: &Id, kind: Kind) -> Result<Arc<Vec<u8>>, Error> {
        match self.get(id)? {
            (found, content) if found == kind => Ok(content),
            (found, _) => Err(Error::invalid(format!("object {id} is a {}, not a {}", found.name(), kind.name()))),
        }
    }

    /// Writes the content of a file; what stands alone in the pack may be larger than memory.
    pub fn copy(&self, id: &Id, to: &mut impl std::io::Write, limit: u64) -> Result<u64, Error> {
        let offset = self.find(id)?;
        let place = self.places[&offset];
        if let Base::None(kind) = place.base {
            if kind != Kind::Blob {
                return Err(Error::invalid(format!("object {id} is a {}, not a file", kind.name())));
            }
            if place.size > limit {
                return Err(Error::TooLarge { what: "the checkout", limit });
            }
            read::inflate(&self.file, place.content, place.size, &mut |piece| Ok(to.write_all(piece)?))?;
            return Ok(place.size);
        }
        let content = self.expect(id, Kind::Blob)?;
        if content.len() as u64 > limit {
            return Err(Error::TooLarge { what: "the checkout", limit });
        }
        to.write_all(&content)?;
        Ok(content.len() as u64)
    }

    fn inflate(&self, place: &Place) -> Result<Vec<u8>, Error> {
        if place.size > self.limits.object {
            return Err(Error::TooLarge { what: "an object", limit: self.limits.object });
        }
        let mut content = Vec::with_capacity((place.size as usize).min(1 << 20));
        read::inflate(&self.file, place.content, place.size, &mut |piece| {
            content.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(content)
    }

    /// The object at an offset: its chain down to what stands alone or is kept, and up again.
    fn build(&self, offset: u64) -> Result<(Kind, Arc<Vec<u8>>), Error> {
        let (mut chain, mut at) = (Vec::new(), offset);
        let (kind, mut content) = loop {
            let kept = self.built.lock().expect("objects lock").objects.get(&at).cloned();
            match kept {
                Some(kept) if at == offset => return Ok(kept),
                Some(kept) => break kept,
                None => {}
            }
            let place =
                *self.places.get(&at).ok_or_else(|| Error::invalid("an object is built from what is no object"))?;
            match place.base {
                Base::None(kind) => break (kind, Arc::new(self.inflate(&place)?)),
                Base::At(base) => {
                    if chain.len() == DEEPEST {
                        return Err(Error::TooLarge { what: "a chain of objects", limit: DEEPEST as u64 });
                    }
                    chain.push(place);
                    at = base;
                }
            }
        };
        while let Some(place) = chain.pop() {
            content = Arc::new(delta::apply(&content, &self.inflate(&place)?, self.limits.object)?);
        }
        self.built.lock().expect("objects lock").keep(offset, kind, &content);
        Ok((kind, content))
    }

    /// Copies the pack's own bytes to a file, for a repository that is kept.
    pub(crate) fn save(&self, to: &mut impl std::io::Write) -> Result<(), Error> {
        let (mut at, mut piece) = (0, vec![0; 256 << 10]);
        loop {
            match self.file.read_at(&mut piece, at)? {
                0 => return Ok(()),
                read => {
                    to.write_all(&piece[..read])?;
                    at += read as u64;
                }
            }
        }
    }

    /// The hash at the end, which names the pack.
    pub(crate) fn trailer(&self) -> Id {
        self.trailer
    }
}

/// The id of an object.
pub(crate) fn identify(format: Format, kind: Kind, content: &[u8]) -> Result<Id, Error> {
    let mut hasher = Hasher::object(format, kind.name(), content.len() as u64);
    hasher.update(content);
    hasher.finish().ok_or_else(|| Error::invalid("an object was made to collide with another under SHA-1"))
}

#[cfg(test)]
mod tests;
