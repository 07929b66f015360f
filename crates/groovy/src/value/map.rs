//! Maps, which keep the order in which keys came.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use indexmap::IndexMap;

use super::{Value, bury, show};
use crate::{limit::Charge, operator};

/// A map.
#[derive(Clone)]
pub struct Map(Arc<Inner>);

struct Inner {
    entries: Mutex<IndexMap<Key, Value>>,
    charge: Charge,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let entries = std::mem::take(self.entries.get_mut().unwrap_or_else(PoisonError::into_inner));
        bury(entries.into_iter().flat_map(|(key, value)| [key.0, value]));
    }
}

/// A key: equal to those that `==` finds equal, except that a whole number is no other kind of number.
#[derive(Clone)]
pub struct Key(pub Value);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Value::Text(text) => text.hash(state),
            Value::Int(value) => i64::from(*value).hash(state),
            Value::Long(value) => value.hash(state),
            value => show::text(value).hash(state),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Value::Text(one), Value::Text(other)) => one == other,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other) && operator::equal(one, other),
        }
    }
}

impl Eq for Key {}

impl Default for Map {
    fn default() -> Self {
        Self::new(IndexMap::new())
    }
}

impl FromIterator<(Value, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Value, Value)>>(entries: I) -> Self {
        Self::new(entries.into_iter().map(|(key, value)| (Key(key), value)).collect())
    }
}

fn size(entries: usize) -> usize {
    size_of::<Inner>() + entries * (size_of::<(Key, Value)>() + 16)
}

impl Map {
    fn new(entries: IndexMap<Key, Value>) -> Self {
        let charge = Charge::new(size(entries.len()));
        Self(Arc::new(Inner { entries: Mutex::new(entries), charge }))
    }

    /// Its entries.
    pub fn entries(&self) -> Vec<(Value, Value)> {
        let entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(key, value)| (key.0.clone(), value.clone())).collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value.
    pub fn get(&self, key: &Value) -> Option<Value> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner).get(&Key(key.clone())).cloned()
    }

    /// The value below a name.
    pub fn named(&self, name: &str) -> Option<Value> {
        self.get(&Value::from(name))
    }

    /// Sets a value; gives the one before.
    pub fn insert(&self, key: Value, value: Value) -> Option<Value> {
        let mut entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let before = entries.insert(Key(key), value);
        self.0.charge.set(size(entries.len()));
        before
    }

    /// Removes a value.
    pub fn remove(&self, key: &Value) -> Option<Value> {
        let mut entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let before = entries.shift_remove(&Key(key.clone()));
        self.0.charge.set(size(entries.len()));
        before
    }

    /// Removes all.
    pub fn clear(&self) {
        let before = std::mem::take(&mut *self.0.entries.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.charge.set(size(0));
        drop(before);
    }

    /// Whether both are one.
    pub fn is(&self, other: &Map) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
