//! Owned fields after their schema changed: who owned anything in a map or list that is one value now owns the whole.

use super::element::Element;
use super::form::{Form, Items};
use super::set::Set;

/// The fields as the schema has them now; `None` where nothing is to change.
pub fn fields(form: Form<'_>, fields: &Set) -> Option<Set> {
    let mut change = Change { remove: Set::default(), add: Set::default() };
    walk(form, fields, false, &mut Vec::new(), &mut change);
    if change.remove.is_empty() && change.add.is_empty() {
        return None;
    }
    Some(fields.recursive_difference(&change.remove).union(&change.add))
}

struct Change {
    remove: Set,
    add: Set,
}

/// `whole`: the value is owned as one, with nothing below.
fn walk(form: Form<'_>, fields: &Set, whole: bool, path: &mut Vec<Element>, change: &mut Change) {
    if let Some(map) = form.as_map() {
        if map.is_deduced() {
            return;
        }
        if map.atomic && !whole {
            if !fields.is_empty() {
                change.remove.insert(path);
                change.add.insert(path);
            }
            return;
        }
        for (element, member, below) in fields.iter() {
            let Some(form) = element.name().and_then(|name| map.member(name)) else { continue };
            path.push(element.clone());
            walk(form, below, member && below.is_empty(), path, change);
            path.pop();
        }
    } else if let Some(list) = form.as_list() {
        if list.items == Items::Atomic {
            if !whole {
                change.remove.insert(path);
                change.add.insert(path);
            }
            return;
        }
        for (element, member, below) in fields.iter() {
            path.push(element.clone());
            walk(list.element, below, member && below.is_empty(), path, change);
            path.pop();
        }
    }
}
