//! Strings, each held once, known by number.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Bytes of all strings together at most, so that a place in them fits 32 bits.
const TEXT: usize = u32::MAX as usize;

/// Strings by number; the numbers count from 0.
#[derive(Debug, Default)]
pub struct Symbols {
    text: String,
    ends: Vec<u32>,
    table: HashTable<u32>,
    state: RandomState,
}

impl Symbols {
    /// The string `number`; empty for a number that was never given.
    pub fn get(&self, number: u32) -> &str {
        text_of(&self.text, &self.ends, number)
    }

    /// The number of a string that is there.
    pub fn find(&self, text: &str) -> Option<u32> {
        let same = |number: &u32| self.get(*number) == text;
        self.table.find(self.state.hash_one(text), same).copied()
    }

    /// The number of a string, a new one where it is not there; none where there is no room for more.
    pub fn intern(&mut self, text: &str) -> Option<u32> {
        if let Some(number) = self.find(text) {
            return Some(number);
        }
        let number = u32::try_from(self.ends.len()).ok()?;
        if self.text.len() + text.len() > TEXT {
            return None;
        }
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
        let (all, ends, state) = (&self.text, &self.ends, &self.state);
        let hash = |number: &u32| state.hash_one(text_of(all, ends, *number));
        self.table.insert_unique(self.state.hash_one(text), number, hash);
        Some(number)
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.table.capacity() * 5
    }
}

fn text_of<'a>(text: &'a str, ends: &[u32], number: u32) -> &'a str {
    let number = number as usize;
    let Some(end) = ends.get(number) else { return "" };
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &text[start as usize..*end as usize]
}
