//! The fields that an object mentions, and an object without some of its fields.

use std::collections::BTreeMap;

use serde_json::Value;

use super::element::Element;
use super::form::{Atom, Form, Items, List, Map};
use super::set::Set;
use super::walk::item_element;

/// Every leaf and every item that an object mentions.
pub fn of(form: Form<'_>, value: &Value) -> Set {
    collect(form, value).1
}

/// Whether the value itself is one, and what lies below.
fn collect(form: Form<'_>, value: &Value) -> (bool, Set) {
    match form.atom(value) {
        Atom::Scalar(_) => (true, Set::default()),
        Atom::Map(map) if map.atomic => (true, Set::default()),
        Atom::List(list) if list.items == Items::Atomic => (true, Set::default()),
        Atom::Map(map) => (false, of_map(&map, value)),
        Atom::List(list) => (false, of_list(&list, value)),
    }
}

fn of_map(map: &Map<'_>, value: &Value) -> Set {
    let mut set = Set::default();
    for (name, value) in value.as_object().into_iter().flatten() {
        let (form, field) = map.lookup(name).unwrap_or((Form::Deduced, false));
        let (member, below) = collect(form, value);
        let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        set.push(Element::field(name), member || empty || !field, below);
    }
    set.sort();
    set
}

fn of_list(list: &List<'_>, value: &Value) -> Set {
    let mut times: BTreeMap<Element, (usize, &Value)> = BTreeMap::new();
    for item in value.as_array().into_iter().flatten() {
        if let Ok(element) = item_element(list, item) {
            times.entry(element).or_insert((0, item)).0 += 1;
        }
    }
    let mut set = Set::default();
    for (element, (times, item)) in times {
        // What is within items that come more than once is nobody's.
        let below = if times > 1 { Set::default() } else { collect(list.element, item).1 };
        set.push(element, true, below);
    }
    set
}

/// The value without these fields and items; `None` where nothing is left of it. Of what is atomic, nothing can be taken.
pub fn without(form: Form<'_>, value: &Value, fields: &Set) -> Option<Value> {
    if fields.is_empty() {
        return Some(value.clone());
    }
    match form.atom(value) {
        Atom::Scalar(_) => Some(value.clone()),
        Atom::Map(map) => without_members(&map, value, fields),
        Atom::List(list) => without_items(&list, value, fields),
    }
}

fn without_members(map: &Map<'_>, value: &Value, fields: &Set) -> Option<Value> {
    let members = value.as_object().filter(|members| !members.is_empty() && !map.atomic)?;
    let mut out = serde_json::Map::new();
    for (name, value) in members {
        let (gone, below) = fields.at(&Element::field(name));
        if gone {
            continue;
        }
        let kept = match below.filter(|below| !below.is_empty()) {
            Some(below) => without(map.member(name).unwrap_or(Form::Deduced), value, below).unwrap_or(Value::Null),
            None => value.clone(),
        };
        out.insert(name.clone(), kept);
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn without_items(list: &List<'_>, value: &Value, fields: &Set) -> Option<Value> {
    let items = value.as_array().filter(|items| !items.is_empty() && list.items != Items::Atomic)?;
    let mut out = Vec::new();
    for item in items {
        let element = item_element(list, item).ok();
        let (gone, below) = element.as_ref().map_or((false, None), |element| fields.at(element));
        if gone {
            continue;
        }
        out.push(match below.filter(|below| !below.is_empty()) {
            Some(below) => without(list.element, item, below).unwrap_or(Value::Null),
            None => item.clone(),
        });
    }
    (!out.is_empty()).then_some(Value::Array(out))
}
