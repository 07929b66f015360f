//! An object with what a configuration says put over it.
//!
//! Scalars and what is atomic are replaced; maps are merged by their entries, lists by their elements. The items of a list keep
//! the object's order where the configuration says nothing of it, else they take the configuration's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::element::Element;
use super::form::{Atom, Form, Items, List, Map};
use super::walk::{index, is_hollow, item_element, items};

/// `object` with `config` put over it; both are of that type.
pub fn merge(form: Form<'_>, object: &Value, config: &Value) -> Value {
    both(form, Some(object), Some(config)).unwrap_or(Value::Null)
}

fn both(form: Form<'_>, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let value = right.or(left)?;
    // Where the sides are of different sorts, the configuration's is what counts.
    match form.atom(value) {
        Atom::Map(map) if !(map.atomic || is_hollow(left) && is_hollow(right)) => merge_map(&map, left, right),
        Atom::List(list) if list.items != Items::Atomic && !(is_hollow(left) && is_hollow(right)) => {
            merge_list(&list, left, right)
        }
        _ => Some(value.clone()),
    }
}

fn merge_map(map: &Map<'_>, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let mut out = serde_json::Map::new();
    let own = left.and_then(Value::as_object);
    let config = right.and_then(Value::as_object);
    for (name, value) in own.into_iter().flatten() {
        let merged = match config.and_then(|config| config.get(name)) {
            None => Some(value.clone()),
            Some(wanted) => both(map.member(name).unwrap_or(Form::Deduced), Some(value), Some(wanted)),
        };
        if let Some(merged) = merged {
            out.insert(name.clone(), merged);
        }
    }
    for (name, value) in config.into_iter().flatten() {
        if !own.is_some_and(|own| own.contains_key(name)) {
            out.insert(name.clone(), value.clone());
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn merge_list(list: &List<'_>, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let elements = |value: Option<&'_ Value>| -> Vec<Element> {
        items(value).iter().filter_map(|item| item_element(list, item).ok()).collect()
    };
    let (own, wanted) = (elements(left), elements(right));
    let own_items: Vec<&Value> = items(left).iter().filter(|item| item_element(list, item).is_ok()).collect();
    // Of an item that the object has more than once, nothing is merged: the configuration's takes their place.
    let unique: BTreeMap<Element, Option<&Value>> = index(list, items(left))
        .into_iter()
        .map(|(element, items)| (element, if items.len() == 1 { items.first().copied() } else { None }))
        .collect();
    let config: BTreeMap<Element, Vec<&Value>> = index(list, items(right));
    let mut shared = wanted.iter().filter(|element| unique.contains_key(element));
    let mut next = shared.next();
    let mut merged: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(own.len().max(wanted.len()));
    let combine = |element: &Element| {
        let before = unique.get(element).copied().flatten();
        both(list.element, before, config.get(element).and_then(|items| items.first()).copied())
    };
    let (mut l, mut r) = (0, 0);
    while l < own.len() || r < wanted.len() {
        if let (Some(mine), Some(theirs)) = (own.get(l), wanted.get(r)) {
            if mine == theirs {
                merged.insert(mine);
                out.extend(combine(mine));
                l += 1;
                r += 1;
                next = shared.next();
                continue;
            }
            if config.contains_key(mine) && next.is_some_and(|next| next != mine) {
                // Shared, and its turn comes later.
                l += 1;
                continue;
            }
        }
        if let Some(mine) = own.get(l) {
            if !config.contains_key(mine) {
                out.push(own_items[l].clone());
                l += 1;
                continue;
            }
            if merged.contains(mine) {
                l += 1;
            }
        }
        if let Some(theirs) = wanted.get(r) {
            merged.insert(theirs);
            out.extend(combine(theirs));
            r += 1;
            if next == Some(theirs) {
                next = shared.next();
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}
