//! Objects of a repository, whichever pack they lie in. A reader sees the packs there were when it was made, and keeps
//! what others are built from for as long as it lives.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Error,
    id::{Format, Id},
    object::{self, Commit, Kind},
    pack::{
        DEEPEST, Pack, delta,
        header::Base,
        stored::{Standing, Stored},
    },
};

/// Objects that are kept because others are built from them, in bytes.
const KEPT: usize = 32 << 20;

/// Where an object lies: the pack's place in the list, and the offset in it.
pub(crate) type Place = (usize, u64);

/// Reads objects.
#[derive(Debug)]
pub struct Reader {
    packs: Arc<Vec<Arc<Stored>>>,
    format: Format,
    /// Bytes of the largest object that is read into memory.
    largest: u64,
    built: HashMap<Place, (Kind, Arc<Vec<u8>>)>,
    held: usize,
}

impl Reader {
    pub(super) fn new(packs: Arc<Vec<Arc<Stored>>>, format: Format, largest: u64) -> Self {
        Self { packs, format, largest, built: HashMap::new(), held: 0 }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn pack(&self, at: usize) -> &Stored {
        &self.packs[at]
    }

    pub(crate) fn locate(&self, id: &Id) -> Result<Option<Place>, Error> {
        for (at, pack) in self.packs.iter().enumerate() {
            if let Some(offset) = pack.find(id)? {
                return Ok(Some((at, offset)));
            }
        }
        Ok(None)
    }

    /// Whether there is such an object.
    pub fn has(&self, id: &Id) -> Result<bool, Error> {
        Ok(self.locate(id)?.is_some())
    }

    fn there(&self, id: &Id) -> Result<Place, Error> {
        self.locate(id)?.ok_or_else(|| Error::invalid(format!("object {id} is not in the repository")))
    }

    /// What an object in one pack is built from, there or in another.
    pub(crate) fn base(&self, place: Place, standing: &Standing) -> Result<Option<Place>, Error> {
        match standing.base {
            Base::None(_) => Ok(None),
            Base::At(offset) => Ok(Some((place.0, offset))),
            Base::Named(id) => match self.packs[place.0].find(&id)? {
                Some(offset) => Ok(Some((place.0, offset))),
                None => self.there(&id).map(Some),
            },
        }
    }

    /// What an object is; none where it is not there.
    pub fn kind(&self, id: &Id) -> Result<Option<Kind>, Error> {
        let Some(mut place) = self.locate(id)? else { return Ok(None) };
        for _ in 0..DEEPEST {
            let standing = self.packs[place.0].at(place.1)?;
            match self.base(place, &standing)? {
                Some(base) => place = base,
                None => match standing.base {
                    Base::None(kind) => return Ok(Some(kind)),
                    _ => break,
                },
            }
        }
        Err(Error::TooLarge { what: "a chain of objects", limit: DEEPEST as u64 })
    }

    /// Bytes of an object, without building it.
    pub(crate) fn size(&self, id: &Id) -> Result<u64, Error> {
        let place = self.there(id)?;
        let (pack, standing) = (&self.packs[place.0], self.packs[place.0].at(place.1)?);
        match standing.base {
            Base::None(_) => Ok(standing.size),
            _ => pack.made(&standing),
        }
    }

    /// An object.
    pub fn get(&mut self, id: &Id) -> Result<(Kind, Arc<Vec<u8>>), Error> {
        let place = self.there(id)?;
        self.build(place)
    }

    /// An object that must be of a kind.
    pub fn expect(&mut self, id: &Id, kind: Kind) -> Result<Arc<Vec<u8>>, Error> {
        match self.get(id)? {
            (found, content) if found == kind => Ok(content),
            (found, _) => Err(Error::invalid(format!("object {id} is a {}, not a {}", found.name(), kind.name()))),
        }
    }

    /// A commit.
    pub fn commit(&mut self, id: &Id) -> Result<Commit, Error> {
        Commit::parse(&self.expect(id, Kind::Commit)?)
    }

    /// What an annotated tag leads to in the end; anything else leads to itself.
    pub fn peel(&mut self, id: &Id) -> Result<Id, Error> {
        let mut at = *id;
        for _ in 0..32 {
            match self.get(&at)? {
                (Kind::Tag, content) => at = object::tagged(&content)?,
                _ => return Ok(at),
            }
        }
        Err(Error::TooLarge { what: "a chain of tags", limit: 32 })
    }

    fn build(&mut self, place: Place) -> Result<(Kind, Arc<Vec<u8>>), Error> {
        let (mut chain, mut at) = (Vec::new(), place);
        let (kind, mut content) = loop {
            if let Some(built) = self.built.get(&at) {
                break built.clone();
            }
            let standing = self.packs[at.0].at(at.1)?;
            let inflated = Arc::new(self.packs[at.0].inflate(&standing, self.largest)?);
            match (standing.base, self.base(at, &standing)?) {
                (Base::None(kind), _) => break (kind, inflated),
                (_, Some(base)) if chain.len() < DEEPEST => {
                    chain.push((at, inflated));
                    at = base;
                }
                _ => return Err(Error::TooLarge { what: "a chain of objects", limit: DEEPEST as u64 }),
            }
        };
        self.remember(at, kind, &content);
        while let Some((at, instructions)) = chain.pop() {
            content = Arc::new(delta::apply(&content, &instructions, self.largest)?);
            self.remember(at, kind, &content);
        }
        Ok((kind, content))
    }

    fn remember(&mut self, place: Place, kind: Kind, content: &Arc<Vec<u8>>) {
        // Files are built once; trees and commits are near each other.
        if content.len() > KEPT / 8 {
            return;
        }
        if self.held + content.len() > KEPT {
            self.built.clear();
            self.held = 0;
        }
        if self.built.insert(place, (kind, content.clone())).is_none() {
            self.held += content.len();
        }
    }

    /// Whether everything that the objects of a pack name is in it or here. What is here names only what is here.
    pub(super) fn closed(&self, pack: &Pack) -> Result<(), Error> {
        let there = |id: &Id, from: &Id| -> Result<(), Error> {
            if pack.has(id) || self.has(id)? {
                return Ok(());
            }
            Err(Error::invalid(format!("{from} names {id}, which was not sent")))
        };
        for id in pack.ids() {
            match pack.kind(&id)? {
                Kind::Blob => {}
                Kind::Commit => {
                    let commit = Commit::parse(&pack.expect(&id, Kind::Commit)?)?;
                    there(&commit.tree, &id)?;
                    commit.parents.iter().try_for_each(|parent| there(parent, &id))?;
                }
                Kind::Tag => there(&object::tagged(&pack.expect(&id, Kind::Tag)?)?, &id)?,
                Kind::Tree => {
                    let content = pack.expect(&id, Kind::Tree)?;
                    for entry in object::tree(&content, self.format)? {
                        if entry.mode != object::Mode::Module {
                            there(&entry.id, &id)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
