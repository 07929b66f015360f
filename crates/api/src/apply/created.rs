//! The entry of a creation, written in one walk along the object: what [`super::update`] comes to where nothing was before.
//!
//! Most objects are written once, by a controller or by a client in a hurry: no set is built, the fields go straight to the
//! bytes that are stored.

use std::collections::BTreeMap;

use serde_json::Value;

use super::element::Element;
use super::entries::{Head, Operation};
use super::form::{Atom, Form, Items};
use super::set::Set;
use super::track::{NOBODYS, Writer};
use super::walk::{is_hollow, item_element, members, same};
use crate::json;

/// `metadata.managedFields` of a new object as JSON bytes; empty where it has no field that anybody owns.
///
/// `reset` names members of the object that creations reset.
pub fn created(form: Form<'_>, object: &Value, reset: &Set, writer: &Writer<'_>) -> Vec<u8> {
    let head = Head {
        manager: if writer.manager.is_empty() { "unknown" } else { writer.manager },
        operation: Operation::Update,
        api_version: writer.api_version,
        subresource: writer.subresource,
        time: Some(writer.now),
    };
    let mut out = Vec::with_capacity(512);
    let mut any = false;
    out.push(b'[');
    head.write(&mut out, |out| any = root(form, object, reset, out));
    if !any {
        return Vec::new();
    }
    out.push(b']');
    out
}

fn root(form: Form<'_>, object: &Value, reset: &Set, out: &mut Vec<u8>) -> bool {
    let nothing = Value::Object(serde_json::Map::new());
    let start = out.len();
    out.push(b'{');
    if let Some(map) = form.as_map() {
        members(&map, Some(&nothing), Some(object), |member| {
            let Some(value) = member.right else { return };
            if matches!(member.name, "apiVersion" | "kind") || reset.at(&Element::field(member.name)).0 {
                return;
            }
            entry(member.name, out, |out| match member.name {
                "metadata" => metadata(member.form(&map), value, out),
                _ => node(member.form(&map), member.left, value, out),
            });
        });
    }
    out.push(b'}');
    out.len() > start + 2
}

fn metadata(form: Form<'_>, value: &Value, out: &mut Vec<u8>) -> bool {
    let Some(map) = form.as_map() else { return false };
    let nothing = Value::Object(serde_json::Map::new());
    let start = out.len();
    out.push(b'{');
    members(&map, Some(&nothing), Some(value), |member| {
        let Some(value) = member.right.filter(|_| !NOBODYS.contains(&member.name)) else { return };
        if member.left != Some(value) {
            entry(member.name, out, |out| node(member.form(&map), member.left, value, out));
        }
    });
    out.push(b'}');
    out.len() > start + 2
}

/// Appends a field unless `value` says that there is nothing to it.
fn entry(name: &str, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>) -> bool) {
    let start = begin(out);
    out.extend_from_slice(b"\"f:");
    let quote = out.len();
    json::write_string(out, name);
    // The quote that the name brings stands before "f:" already.
    out.remove(quote);
    out.push(b':');
    if !value(out) {
        out.truncate(start);
    }
}

/// Appends the comma between members. Returns the place to go back to.
fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    start
}

/// Appends what a value comes to where `left` was before. Says whether it comes to anything; what was appended if not is to
/// be taken away.
fn node(form: Form<'_>, left: Option<&Value>, right: &Value, out: &mut Vec<u8>) -> bool {
    if left == Some(right) {
        return false;
    }
    let own = left.is_none();
    match form.atom(right) {
        Atom::Map(map) if !(map.atomic || is_hollow(Some(right)) && map.always().is_empty()) => {
            let start = open(own, out);
            members(&map, left, Some(right), |member| {
                if let Some(value) = member.right.filter(|value| member.left != Some(value)) {
                    entry(member.name, out, |out| node(member.form(&map), member.left, value, out));
                }
            });
            close(own, start, out)
        }
        Atom::List(list) if list.items != Items::Atomic && !is_hollow(Some(right)) => {
            let mut found: BTreeMap<Element, (usize, &Value)> = BTreeMap::new();
            for item in right.as_array().into_iter().flatten() {
                if let Ok(element) = item_element(&list, item) {
                    found.entry(element).or_insert((0, item)).0 += 1;
                }
            }
            let start = open(own, out);
            for (element, (times, item)) in found {
                begin(out);
                json::write_string(out, element.text());
                out.push(b':');
                if times > 1 {
                    out.extend_from_slice(b"{}");
                } else {
                    node(list.element, None, item, out);
                }
            }
            close(own, start, out)
        }
        _ => {
            out.extend_from_slice(b"{}");
            left.is_none_or(|left| !same(left, right))
        }
    }
}

const OWN: &[u8] = br#"".":{}"#;

fn open(own: bool, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.push(b'{');
    if own {
        out.extend_from_slice(OWN);
    }
    start
}

fn close(own: bool, start: usize, out: &mut Vec<u8>) -> bool {
    let head = start + 1 + if own { OWN.len() } else { 0 };
    if out.len() == head {
        // Nothing below: what belongs itself says so by having nothing.
        out.truncate(start);
        out.extend_from_slice(b"{}");
        return own;
    }
    out.push(b'}');
    true
}
