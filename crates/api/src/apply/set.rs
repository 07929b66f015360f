//! Sets of fields: the tree that a managed-fields entry holds, and the algebra that ownership is made of.
//!
//! ```text
//! {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}}}}
//!            └ only leads on  └ belongs itself (".")       └ belongs
//! ```
//!
//! A node that belongs and has nothing below is written `{}`; one that belongs and has something below says so with `"."`.
//! Nodes are sorted; one that neither belongs nor has anything below is never kept.

use serde_json::{Map, Value};

use super::element::{Element, Parsed};
use super::form::Form;
use crate::json;

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    nodes: Vec<Node>,
}

/// One step and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    element: Element,
    member: bool,
    below: Set,
}

impl Set {
    /// The set of these paths of field names.
    pub fn of_names(paths: &[&[&str]]) -> Set {
        let mut set = Set::default();
        for path in paths {
            let elements: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
            set.insert(&elements);
        }
        set
    }

    /// Whether nothing belongs to it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many fields belong to it.
    pub fn len(&self) -> usize {
        self.nodes.iter().map(|node| usize::from(node.member) + node.below.len()).sum()
    }

    fn find(&self, element: &Element) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|node| node.element.cmp(element)).ok()?;
        Some(&self.nodes[at])
    }

    /// Adds the field of a path; the empty path is nothing that can be owned.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let at = match self.nodes.binary_search_by(|node| node.element.cmp(first)) {
            Ok(at) => at,
            Err(at) => {
                self.nodes.insert(at, Node { element: first.clone(), member: false, below: Set::default() });
                at
            }
        };
        if rest.is_empty() {
            self.nodes[at].member = true;
        } else {
            self.nodes[at].below.insert(rest);
        }
    }

    /// Adds a node behind those there are; [`Set::sort`] puts it in its place. One that says nothing is left out.
    pub(super) fn push(&mut self, element: Element, member: bool, below: Set) {
        if member || !below.is_empty() {
            self.nodes.push(Node { element, member, below });
        }
    }

    /// Sorts nodes that were pushed; the same element pushed twice becomes one.
    pub(super) fn sort(&mut self) {
        if self.nodes.windows(2).all(|pair| pair[0].element < pair[1].element) {
            return;
        }
        self.nodes.sort_by(|left, right| left.element.cmp(&right.element));
        let mut sorted: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.drain(..) {
            match sorted.last_mut().filter(|last| last.element == node.element) {
                Some(last) => {
                    last.member |= node.member;
                    last.below = last.below.union(&node.below);
                }
                None => sorted.push(node),
            }
        }
        self.nodes = sorted;
    }

    /// Whether the field belongs to it.
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.find(last).is_some_and(|node| node.member),
            [first, rest @ ..] => self.find(first).is_some_and(|node| node.below.has(rest)),
        }
    }

    /// Whether the element itself belongs to it, and what of it lies below the element.
    pub(super) fn at(&self, element: &Element) -> (bool, Option<&Set>) {
        self.find(element).map_or((false, None), |node| (node.member, Some(&node.below)))
    }

    /// Walks two sets side by side, keeping what `keep` says of each node; either side may lack it.
    fn zip(&self, other: &Set, keep: impl Fn(Option<&Node>, Option<&Node>) -> (bool, Set)) -> Set {
        let mut out = Set::default();
        let (mut left, mut right) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => return out,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => a.element.cmp(&b.element),
            };
            let a = if order.is_le() { left.next() } else { None };
            let b = if order.is_ge() { right.next() } else { None };
            if let Some(node) = a.or(b) {
                let (member, below) = keep(a, b);
                out.push(node.element.clone(), member, below);
            }
        }
    }

    /// What belongs to either.
    pub fn union(&self, other: &Set) -> Set {
        self.zip(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => (a.member || b.member, a.below.union(&b.below)),
            (Some(one), None) | (None, Some(one)) => (one.member, one.below.clone()),
            (None, None) => (false, Set::default()),
        })
    }

    /// What belongs to both.
    pub fn intersection(&self, other: &Set) -> Set {
        self.zip(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => (a.member && b.member, a.below.intersection(&b.below)),
            _ => (false, Set::default()),
        })
    }

    /// What belongs to this one only. A field that belongs to the other takes nothing away that lies below it.
    pub fn difference(&self, other: &Set) -> Set {
        self.zip(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => (a.member && !b.member, a.below.difference(&b.below)),
            (Some(a), None) => (a.member, a.below.clone()),
            _ => (false, Set::default()),
        })
    }

    /// What belongs to this one and is neither a field of the other nor below one.
    pub fn recursive_difference(&self, other: &Set) -> Set {
        self.zip(other, |a, b| match (a, b) {
            (Some(_), Some(b)) if b.member => (false, Set::default()),
            (Some(a), Some(b)) => (a.member, a.below.recursive_difference(&b.below)),
            (Some(a), None) => (a.member, a.below.clone()),
            _ => (false, Set::default()),
        })
    }

    /// The same with the named fields of structs that lead to a field of it.
    pub fn with_named_fields(&self, form: Option<Form<'_>>) -> Set {
        let map = form.and_then(Form::as_map);
        let list = form.and_then(Form::as_list);
        let nodes = self.nodes.iter().map(|node| {
            let (named, below) = match (node.element.name(), &map) {
                (Some(name), Some(map)) => (map.has_field(name), map.member(name)),
                (None, _) if node.element.is_key() => (false, list.as_ref().map(|list| list.element)),
                _ => (false, None),
            };
            Node {
                element: node.element.clone(),
                member: node.member || named && !node.below.is_empty(),
                below: node.below.with_named_fields(below),
            }
        });
        Set { nodes: nodes.collect() }
    }

    /// Every field that belongs to it: those of a level before what lies deeper.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, path: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
        for node in self.nodes.iter().filter(|node| node.member) {
            let mut whole = path.clone();
            whole.push(node.element.clone());
            out.push(whole);
        }
        for node in &self.nodes {
            path.push(node.element.clone());
            node.below.collect(path, out);
            path.pop();
        }
    }

    /// The nodes: element, whether it belongs itself, what lies below.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Element, bool, &Set)> {
        self.nodes.iter().map(|node| (&node.element, node.member, &node.below))
    }

    /// Reads `fieldsV1`. Elements of kinds that are not known are left out; the error is upstream's.
    pub fn parse(fields: &Value) -> Result<Set, String> {
        match fields {
            Value::Object(map) => Ok(parse_map(map)?.1),
            Value::Null => Ok(Set::default()),
            _ => Err("fieldsV1 is no object".to_owned()),
        }
    }

    /// Appends it as `fieldsV1`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_as(false, out);
    }

    fn write_as(&self, own: bool, out: &mut Vec<u8>) {
        out.push(b'{');
        if own && !self.nodes.is_empty() {
            out.extend_from_slice(br#"".":{}"#);
        }
        for (i, node) in self.nodes.iter().enumerate() {
            if i > 0 || own {
                out.push(b',');
            }
            json::write_string(out, node.element.text());
            out.push(b':');
            node.below.write_as(node.member, out);
        }
        out.push(b'}');
    }
}

/// What an object of `fieldsV1` says: whether the place itself belongs, and what lies below.
fn parse_map(map: &Map<String, Value>) -> Result<(bool, Set), String> {
    let mut set = Set::default();
    let mut own = false;
    for (key, value) in map {
        if key == "." {
            own = true;
            continue;
        }
        let Parsed::Element(element) = Element::parse(key)? else { continue };
        let Value::Object(inner) = value else { return Err(format!("no object behind {key}")) };
        let (member, below) = parse_map(inner)?;
        set.push(element, member, below);
    }
    set.sort();
    Ok((own || set.is_empty(), set))
}
