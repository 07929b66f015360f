//! Lists and sets.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Value, bury};
use crate::limit::Charge;

/// A list, or a set: one without equal elements, which keeps their order.
#[derive(Clone)]
pub struct List(Arc<Inner>);

struct Inner {
    items: Mutex<Vec<Value>>,
    set: bool,
    charge: Charge,
}

impl Drop for Inner {
    fn drop(&mut self) {
        bury(std::mem::take(self.items.get_mut().unwrap_or_else(PoisonError::into_inner)));
    }
}

fn size(items: &[Value]) -> usize {
    size_of::<Inner>() + size_of_val(items)
}

impl List {
    /// A list of these.
    pub fn new(items: Vec<Value>) -> Self {
        let charge = Charge::new(size(&items));
        Self(Arc::new(Inner { items: Mutex::new(items), set: false, charge }))
    }

    /// A set of these, which must differ.
    pub(crate) fn set(items: Vec<Value>) -> Self {
        let charge = Charge::new(size(&items));
        Self(Arc::new(Inner { items: Mutex::new(items), set: true, charge }))
    }

    /// Whether it is a set.
    pub fn is_set(&self) -> bool {
        self.0.set
    }

    /// Its elements.
    pub fn items(&self) -> Vec<Value> {
        self.0.items.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.items.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them.
    pub fn get(&self, index: usize) -> Option<Value> {
        self.0.items.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned()
    }

    /// Changes it. What is removed is dropped by the caller, outside of the lock.
    pub fn change<T>(&self, work: impl FnOnce(&mut Vec<Value>) -> T) -> T {
        let mut items = self.0.items.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut items);
        self.0.charge.set(size(&items));
        result
    }

    /// Whether both are one.
    pub fn is(&self, other: &List) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
