//! The series of the head: labels to number and back, and which series have a label.
//!
//! ```text
//!   symbols   "job" 0 │ "api" 1 │ "zone" 2 │ "b" 3
//!   pairs     (0,1) 0 │ (2,3) 1                        a pair is a name and a value
//!   labels    0 1                                      a series is a run of pairs in order of their names
//!   postings  pair 0: series 0 │ pair 1: series 0
//! ```
//!
//! A series has a slot, a small number that samples, logs and segments use, and a generation: a slot is used again when
//! nothing speaks of its series any more, and a [`SeriesRef`] of the former series is then refused.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use crate::{labels::Labels, matcher::Index, symbols::Symbols};

/// Slots that there are at most.
pub const SLOTS: u32 = 1 << 28;

/// A series of the head, to be kept by whoever appends to it again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    at: u32,
    length: u32,
    /// Odd while the slot is taken.
    generation: u32,
}

impl Entry {
    fn is_live(&self) -> bool {
        self.generation % 2 == 1
    }
}

#[derive(Debug, Default)]
enum Postings {
    #[default]
    None,
    One(u32),
    Many(Vec<u32>),
}

impl Postings {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }

    fn insert(&mut self, slot: u32) {
        match self {
            Self::None => *self = Self::One(slot),
            Self::One(first) if *first == slot => {}
            Self::One(first) => *self = Self::Many(vec![(*first).min(slot), (*first).max(slot)]),
            Self::Many(slots) if slots.last().is_some_and(|last| *last < slot) => slots.push(slot),
            Self::Many(slots) => {
                if let Err(at) = slots.binary_search(&slot) {
                    slots.insert(at, slot);
                }
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        match self {
            Self::One(only) if *only == slot => *self = Self::None,
            Self::Many(slots) => {
                if let Ok(at) = slots.binary_search(&slot) {
                    slots.remove(at);
                }
            }
            _ => {}
        }
    }
}

/// There are too many series, labels or strings for 32-bit numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the head holds as many series as it can; drop labels with many values")]
pub struct Full;

/// All series of the head.
#[derive(Debug, Default)]
pub struct Catalog {
    symbols: Symbols,
    pairs: Vec<(u32, u32)>,
    pair_table: HashTable<u32>,
    /// Pairs of each name, in order of their first use.
    names: HashMap<u32, Vec<u32>, RandomState>,
    postings: Vec<Postings>,
    labels: Vec<u32>,
    series: Vec<Entry>,
    by_labels: HashTable<u32>,
    free: Vec<u32>,
    live: usize,
    state: RandomState,
}

impl Catalog {
    /// How many series there are.
    pub fn len(&self) -> usize {
        self.live
    }

    /// How many slots there are, taken or not.
    pub fn slots(&self) -> usize {
        self.series.len()
    }

    /// How many strings there are.
    pub fn strings(&self) -> usize {
        self.symbols.len()
    }

    /// Bytes of memory, without the postings.
    pub fn size(&self) -> usize {
        self.symbols.size()
            + self.pairs.capacity() * 8
            + self.pair_table.capacity() * 5
            + self.postings.capacity() * size_of::<Postings>()
            + self.labels.capacity() * 4
            + self.series.capacity() * size_of::<Entry>()
            + self.by_labels.capacity() * 5
    }

    /// The series that has a slot.
    pub fn reference(&self, slot: u32) -> Option<SeriesRef> {
        let entry = self.series.get(slot as usize).filter(|entry| entry.is_live())?;
        Some(SeriesRef { slot, generation: entry.generation })
    }

    /// The generation of a slot: odd while a series has it.
    pub fn generation(&self, slot: u32) -> u32 {
        self.series.get(slot as usize).map_or(0, |entry| entry.generation)
    }

    /// Slots that have a series, ascending.
    pub fn live(&self) -> impl Iterator<Item = u32> + '_ {
        self.series.iter().enumerate().filter(|(_, entry)| entry.is_live()).map(|(slot, _)| slot as u32)
    }

    /// The labels of a slot as names and values, in order of the names.
    pub fn pairs(&self, slot: u32) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.pair_numbers(slot).iter().map(|pair| {
            let (name, value) = self.pairs[*pair as usize];
            (self.symbols.get(name), self.symbols.get(value))
        })
    }

    fn pair_numbers(&self, slot: u32) -> &[u32] {
        let Some(entry) = self.series.get(slot as usize) else { return &[] };
        &self.labels[entry.at as usize..(entry.at + entry.length) as usize]
    }

    /// The labels of a slot.
    pub fn labels_of(&self, slot: u32) -> Labels {
        Labels::from_sorted(self.pairs(slot))
    }

    /// The labels of a slot, put together in a string that is used again and again.
    pub fn labels_in(&self, slot: u32, scratch: &mut String) -> Labels {
        Labels::from_sorted_in(scratch, self.pairs(slot))
    }

    /// The series with these labels.
    pub fn find(&self, labels: &Labels) -> Option<SeriesRef> {
        let mut numbers = Vec::with_capacity(16);
        for (name, value) in labels {
            let pair = (self.symbols.find(name)?, self.symbols.find(value)?);
            numbers.push(*self.pair_table.find(self.state.hash_one(pair), |have| self.pairs[*have as usize] == pair)?);
        }
        self.find_numbers(&numbers)
    }

    fn find_numbers(&self, numbers: &[u32]) -> Option<SeriesRef> {
        let same = |slot: &u32| self.pair_numbers(*slot) == numbers;
        let slot = self.by_labels.find(self.state.hash_one(numbers), same)?;
        self.reference(*slot)
    }

    fn pair(&mut self, name: u32, value: u32) -> Result<u32, Full> {
        let pair = (name, value);
        let hash = self.state.hash_one(pair);
        if let Some(number) = self.pair_table.find(hash, |have| self.pairs[*have as usize] == pair) {
            return Ok(*number);
        }
        let number = u32::try_from(self.pairs.len()).map_err(|_| Full)?;
        self.pairs.push(pair);
        self.postings.push(Postings::None);
        let (pairs, state) = (&self.pairs, &self.state);
        self.pair_table.insert_unique(hash, number, |have| state.hash_one(pairs[*have as usize]));
        self.names.entry(name).or_default().push(number);
        Ok(number)
    }

    /// The number of a pair, for [`Self::put`].
    pub fn intern(&mut self, name: &str, value: &str) -> Result<u32, Full> {
        let name = self.symbols.intern(name).ok_or(Full)?;
        let value = self.symbols.intern(value).ok_or(Full)?;
        self.pair(name, value)
    }

    /// Gives labels a slot; they have none yet.
    pub fn add(&mut self, labels: &Labels) -> Result<SeriesRef, Full> {
        let numbers = labels.iter().map(|(name, value)| self.intern(name, value)).collect::<Result<Vec<_>, _>>()?;
        if let Some(known) = self.find_numbers(&numbers) {
            return Ok(known);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => u32::try_from(self.series.len()).ok().filter(|slot| *slot < SLOTS).ok_or(Full)?,
        };
        let generation = self.series.get(slot as usize).map_or(1, |entry| entry.generation.wrapping_add(1));
        let reference = SeriesRef { slot, generation };
        self.put(reference, &numbers)?;
        Ok(reference)
    }

    /// Puts a series where a file says that it is. A later generation takes the place of an earlier one; labels that are
    /// elsewhere already, and earlier generations, are left out, which is said. [`Self::settle`] has to follow.
    pub fn put(&mut self, reference: SeriesRef, numbers: &[u32]) -> Result<bool, Full> {
        let slot = reference.slot as usize;
        if slot >= self.series.len() {
            self.series.resize(slot + 1, Entry::default());
        }
        let entry = self.series[slot];
        if entry.is_live() {
            if entry.generation >= reference.generation {
                return Ok(false);
            }
            self.remove(reference.slot);
        }
        if self.find_numbers(numbers).is_some() || reference.generation.is_multiple_of(2) {
            if self.series[slot].generation < reference.generation {
                // Nobody else may take this name of a series.
                self.series[slot].generation = reference.generation + reference.generation % 2;
            }
            return Ok(false);
        }
        let at = u32::try_from(self.labels.len()).map_err(|_| Full)?;
        u32::try_from(self.labels.len() + numbers.len()).map_err(|_| Full)?;
        self.labels.extend_from_slice(numbers);
        self.series[slot] = Entry { at, length: numbers.len() as u32, generation: reference.generation };
        for number in numbers {
            self.postings[*number as usize].insert(reference.slot);
        }
        let hash = self.state.hash_one(numbers);
        let (series, labels, state) = (&self.series, &self.labels, &self.state);
        self.by_labels.insert_unique(hash, reference.slot, |slot| {
            let entry = series[*slot as usize];
            state.hash_one(&labels[entry.at as usize..(entry.at + entry.length) as usize])
        });
        self.live += 1;
        Ok(true)
    }

    /// Room for `more` series.
    pub fn reserve(&mut self, more: usize) {
        self.series.reserve(more);
        let (series, labels, state) = (&self.series, &self.labels, &self.state);
        self.by_labels.reserve(more, |slot| {
            let entry = series[*slot as usize];
            state.hash_one(&labels[entry.at as usize..(entry.at + entry.length) as usize])
        });
    }

    /// Makes slots up to this one, so that none of them is given away as a new one.
    pub fn reach(&mut self, slot: u32) {
        if slot as usize >= self.series.len() {
            self.series.resize(slot as usize + 1, Entry::default());
        }
    }

    /// Finds the slots that are free, once all has been put. Those that are held have samples somewhere whose series is
    /// not known; they must not become another's.
    pub fn settle(&mut self, held: impl Fn(u32) -> bool) {
        let free = |slot: &u32| !self.series[*slot as usize].is_live() && !held(*slot);
        self.free = (0..self.series.len() as u32).rev().filter(free).collect();
    }

    /// Forgets a series and gives its slot away.
    pub fn remove(&mut self, slot: u32) {
        let Some(entry) = self.series.get(slot as usize).copied().filter(Entry::is_live) else { return };
        let numbers = self.pair_numbers(slot).to_vec();
        let hash = self.state.hash_one(numbers.as_slice());
        if let Ok(found) = self.by_labels.find_entry(hash, |have| *have == slot) {
            found.remove();
        }
        for number in numbers {
            self.postings[number as usize].remove(slot);
        }
        self.series[slot as usize] = Entry { generation: entry.generation.wrapping_add(1), ..Entry::default() };
        self.free.push(slot);
        self.live -= 1;
    }

    /// The same series in the same slots, without strings and pairs that only former series had.
    pub fn packed(&self) -> Result<Self, Full> {
        let mut packed = Self::default();
        packed.series.reserve(self.series.len());
        for slot in self.live() {
            let numbers =
                self.pairs(slot).map(|(name, value)| packed.intern(name, value)).collect::<Result<Vec<_>, _>>()?;
            packed.put(SeriesRef { slot, generation: self.generation(slot) }, &numbers)?;
        }
        if packed.series.len() < self.series.len() {
            packed.series.resize(self.series.len(), Entry::default());
        }
        for (slot, entry) in self.series.iter().enumerate().filter(|(_, entry)| !entry.is_live()) {
            packed.series[slot].generation = entry.generation;
        }
        packed.free.clone_from(&self.free);
        Ok(packed)
    }

    /// Whether so much is left of former series that [`Self::packed`] is worth its time.
    pub fn is_loose(&self) -> bool {
        let used: usize = self.series.iter().filter(|entry| entry.is_live()).map(|entry| entry.length as usize).sum();
        self.labels.len() > 2 * used + 65_536
    }

    /// Names of labels, sorted.
    pub fn names(&self) -> Vec<&str> {
        let used = |pairs: &[u32]| pairs.iter().any(|pair| !self.postings[*pair as usize].as_slice().is_empty());
        let mut names: Vec<&str> =
            self.names.iter().filter(|(_, pairs)| used(pairs)).map(|(name, _)| self.symbols.get(*name)).collect();
        names.sort_unstable();
        names
    }

    /// Values of a label with the series that have each, in no order.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a str, &'a [u32])> {
        let pairs = self.symbols.find(name).and_then(|name| self.names.get(&name));
        pairs.into_iter().flatten().filter_map(|pair| {
            let slots = self.postings[*pair as usize].as_slice();
            (!slots.is_empty()).then(|| (self.symbols.get(self.pairs[*pair as usize].1), slots))
        })
    }
}

impl Index for Catalog {
    fn all(&self) -> Vec<u32> {
        self.live().collect()
    }

    fn with(&self, name: &str, value: &str, into: &mut Vec<u32>) {
        let (Some(name), Some(value)) = (self.symbols.find(name), self.symbols.find(value)) else { return };
        let pair = (name, value);
        let same = |have: &u32| self.pairs[*have as usize] == pair;
        if let Some(number) = self.pair_table.find(self.state.hash_one(pair), same) {
            into.extend_from_slice(self.postings[*number as usize].as_slice());
        }
    }

    fn with_any(&self, name: &str, wanted: &mut dyn FnMut(&str) -> bool, into: &mut Vec<u32>) -> usize {
        let mut runs = 0;
        for (value, slots) in self.values(name) {
            if wanted(value) {
                into.extend_from_slice(slots);
                runs += 1;
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests;
