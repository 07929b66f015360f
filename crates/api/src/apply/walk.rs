//! What the walks along a value and its type share: members of maps, elements of items, equality.

use std::collections::BTreeMap;

use serde_json::Value;

use super::element::Element;
use super::form::{Form, Items, List, Map};

/// A member of a struct or map as upstream prints it.
pub(super) struct Member<'v> {
    /// Name.
    pub name: &'v str,
    /// On either side; none where it is absent.
    pub left: Option<&'v Value>,
    /// On the other side.
    pub right: Option<&'v Value>,
}

impl Member<'_> {
    /// Its type within `map`; deduced where that does not know it. Looked up only for members that matter: most do not.
    pub(super) fn form<'s>(&self, map: &Map<'s>) -> Form<'s> {
        map.member(self.name).unwrap_or(Form::Deduced)
    }
}

/// Members of both sides, sorted by name. A side that is a struct has the fields that are always printed; `None` has nothing.
pub(super) fn members<'v>(
    map: &Map<'_>,
    left: Option<&'v Value>,
    right: Option<&'v Value>,
    mut each: impl FnMut(Member<'v>),
) {
    let mut left = Side::new(map, left);
    let mut right = Side::new(map, right);
    loop {
        let name = match (left.name(), right.name()) {
            (None, None) => return,
            (Some(name), None) | (None, Some(name)) => name,
            (Some(a), Some(b)) => a.min(b),
        };
        each(Member { name, left: left.take(name), right: right.take(name) });
    }
}

/// One side's members, sorted: what is there, and what is printed although it is not.
struct Side<'v> {
    own: Option<serde_json::map::Iter<'v>>,
    next: Option<(&'v str, &'v Value)>,
    always: &'static [(&'static str, Value)],
}

impl<'v> Side<'v> {
    fn new(map: &Map<'_>, value: Option<&'v Value>) -> Self {
        let own = value.and_then(Value::as_object);
        let always = if own.is_some() { map.always() } else { &[] };
        let mut side = Side { own: own.map(|own| own.iter()), next: None, always };
        side.advance();
        side
    }

    fn advance(&mut self) {
        self.next = self.own.as_mut().and_then(Iterator::next).map(|(name, value)| (name.as_str(), value));
    }

    fn name(&self) -> Option<&'v str> {
        match (self.next, self.always.first()) {
            (Some((own, _)), Some((always, _))) => Some(own.min(always)),
            (own, always) => own.map(|(name, _)| name).or(always.map(|(name, _)| *name)),
        }
    }

    fn take(&mut self, name: &str) -> Option<&'v Value> {
        let mut found = None;
        if let Some((always, value)) = self.always.first()
            && *always == name
        {
            found = Some(value);
            self.always = &self.always[1..];
        }
        if let Some((own, value)) = self.next
            && own == name
        {
            found = Some(value);
            self.advance();
        }
        found
    }
}

/// The element of a list's item; the error is upstream's.
pub(super) fn item_element(list: &List<'_>, item: &Value) -> Result<Element, String> {
    match list.items {
        Items::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        Items::Set => match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => Ok(Element::value(scalar)),
        },
        Items::Map(keys) => {
            let item = match item {
                Value::Object(item) => item,
                Value::Null => {
                    return Err("associative list with keys may not have a null element".to_owned());
                }
                _ => return Err("associative list with keys may not have non-map elements".to_owned()),
            };
            let names = keys.names();
            let form = list.element.as_map();
            let defaults: Vec<(&str, Value)> = names
                .iter()
                .filter(|name| !item.contains_key(**name))
                .filter_map(|name| Some((*name, form.as_ref()?.key_default(name)?)))
                .collect();
            let mut found: Vec<(&str, &Value)> =
                names.iter().filter_map(|name| Some((*name, item.get(*name)?))).collect();
            found.extend(defaults.iter().map(|(name, value)| (*name, value)));
            if found.is_empty() {
                let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
                return Err(format!(
                    "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                     values for any key fields)",
                    quoted.join(" ")
                ));
            }
            Ok(Element::key(&mut found))
        }
    }
}

/// Items by element, in the order of elements; those that have none are left out.
pub(super) fn index<'v>(list: &List<'_>, items: &'v [Value]) -> BTreeMap<Element, Vec<&'v Value>> {
    let mut found: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
    for item in items {
        if let Ok(element) = item_element(list, item) {
            found.entry(element).or_default().push(item);
        }
    }
    found
}

/// The items of a list; none for anything else.
pub(super) fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Absent, null, or without content.
pub(super) fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => true,
    }
}

/// Whether two values are the same; numbers are compared by what they are worth.
pub fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(left, right)| same(left, right))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, left)| b.get(name).is_some_and(|right| same(left, right)))
        }
        _ => left == right,
    }
}
