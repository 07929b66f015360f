//! Which fields differ between two objects of one type.

use serde_json::Value;

use super::element::Element;
use super::form::{Atom, Form, Items, List, Map};
use super::set::Set;
use super::walk::{index, is_hollow, items, members, same};

/// What became of the left object's fields in the right one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// On the left only.
    pub removed: Set,
    /// On both sides, and different.
    pub modified: Set,
    /// On the right only.
    pub added: Set,
}

/// What one value comes to: what holds of it itself, and what holds below.
#[derive(Default)]
struct Delta {
    removed: bool,
    modified: bool,
    added: bool,
    below: Comparison,
}

impl Comparison {
    /// Compares two objects.
    pub fn of(form: Form<'_>, left: &Value, right: &Value) -> Comparison {
        compare(form, Some(left), Some(right)).below
    }

    /// Whether they are the same.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// What the right object has that the left one has not, or has otherwise.
    pub fn changed(&self) -> Set {
        self.modified.union(&self.added)
    }

    /// Leaves out fields, and what lies below them.
    pub fn without(mut self, fields: &Set) -> Comparison {
        if !fields.is_empty() {
            for set in [&mut self.removed, &mut self.modified, &mut self.added] {
                *set = set.recursive_difference(fields);
            }
        }
        self
    }

    fn push(&mut self, element: Element, delta: Delta) {
        let Delta { removed, modified, added, below } = delta;
        // Most values are on one side only, or the same: their element is copied at most twice.
        if modified || !below.modified.is_empty() {
            self.modified.push(element.clone(), modified, below.modified);
        }
        if removed || !below.removed.is_empty() {
            self.removed.push(element.clone(), removed, below.removed);
        }
        self.added.push(element, added, below.added);
    }

    fn sort(&mut self) {
        self.removed.sort();
        self.modified.sort();
        self.added.sort();
    }
}

fn compare(form: Form<'_>, left: Option<&Value>, right: Option<&Value>) -> Delta {
    let mut delta = Delta::default();
    let leaf = match (left, right) {
        (None, None) => return delta,
        (Some(value), None) | (None, Some(value)) => visit(form.atom(value), left, right, &mut delta),
        (Some(a), Some(b)) => {
            if a == b {
                return delta;
            }
            let (before, after) = (form.atom(a), form.atom(b));
            if !alike(&before, &after) {
                visit(before, left, right, &mut delta);
            }
            visit(after, left, right, &mut delta)
        }
    };
    if !leaf {
        delta.added |= left.is_none();
        delta.removed |= right.is_none();
    }
    delta
}

/// Whether both values are taken for the same sort of thing.
fn alike(left: &Atom<'_>, right: &Atom<'_>) -> bool {
    matches!(
        (left, right),
        (Atom::Map(_), Atom::Map(_)) | (Atom::List(_), Atom::List(_)) | (Atom::Scalar(_), Atom::Scalar(_))
    )
}

/// Returns whether the value is a leaf.
fn visit(atom: Atom<'_>, left: Option<&Value>, right: Option<&Value>, delta: &mut Delta) -> bool {
    match atom {
        Atom::Map(map) if !map.atomic && !hollow(&map, left, right) => {
            compare_map(&map, left, right, &mut delta.below);
            false
        }
        Atom::List(list) if list.items != Items::Atomic && !(is_hollow(left) && is_hollow(right)) => {
            compare_list(&list, left, right, &mut delta.below);
            false
        }
        _ => {
            match (left, right) {
                (None, _) => delta.added = true,
                (_, None) => delta.removed = true,
                (Some(a), Some(b)) => delta.modified |= !same(a, b),
            }
            true
        }
    }
}

/// Whether neither side has a member, counting those that are always printed.
fn hollow(map: &Map<'_>, left: Option<&Value>, right: Option<&Value>) -> bool {
    let empty =
        |side: Option<&Value>| is_hollow(side) && (!side.is_some_and(Value::is_object) || map.always().is_empty());
    empty(left) && empty(right)
}

fn compare_map(map: &Map<'_>, left: Option<&Value>, right: Option<&Value>, out: &mut Comparison) {
    members(map, left, right, |member| {
        if member.left == member.right {
            return;
        }
        let delta = compare(member.form(map), member.left, member.right);
        if delta.removed || delta.modified || delta.added || !delta.below.is_empty() {
            out.push(Element::field(member.name), delta);
        }
    });
}

fn compare_list(list: &List<'_>, left: Option<&Value>, right: Option<&Value>, out: &mut Comparison) {
    let (mut before, mut after) = (index(list, items(left)), index(list, items(right)));
    let elements: std::collections::BTreeSet<Element> = before.keys().chain(after.keys()).cloned().collect();
    for element in elements {
        let before = before.remove(&element).unwrap_or_default();
        let after = after.remove(&element).unwrap_or_default();
        let delta = match (&before[..], &after[..]) {
            ([] | [_], [] | [_]) => compare(list.element, before.first().copied(), after.first().copied()),
            // Items that come more than once are compared as one value.
            ([_, _, ..], [_, _, ..]) => {
                let equal = before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| same(a, b));
                Delta { modified: !equal, ..Delta::default() }
            }
            ([_, _, ..], single) => {
                let delta = compare(list.element, None, single.first().copied());
                Delta { removed: true, ..delta }
            }
            (single, [_, _, ..]) => {
                let delta = compare(list.element, single.first().copied(), None);
                Delta { added: true, ..delta }
            }
        };
        out.push(element, delta);
    }
    out.sort();
}
