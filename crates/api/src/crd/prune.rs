//! Dropping what a schema does not have, and filling in defaults.

use serde_json::Value;

use super::{Additional, METADATA, Node};

/// Where a value is: on the stack.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    const ROOT: Place<'static> = Place { parent: None, step: Step::Root };

    fn child(&'a self, step: Step<'a>) -> Place<'a> {
        Place { parent: Some(self), step }
    }

    fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    fn append(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.append(out);
        }
        match self.step {
            Step::Root => {}
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Step::Index(i) => out.push_str(&format!("[{i}]")),
        }
    }
}

/// Drops unknown fields and adds their paths to `dropped`. `root` keeps the object's own metadata.
pub(super) fn prune(value: &mut Value, node: Option<&Node>, root: bool, dropped: &mut Vec<String>) {
    walk(value, node, root, false, &Place::ROOT, dropped);
}

/// `kept`: below a schema that preserves unknown fields, until one of its properties is met.
fn walk(value: &mut Value, node: Option<&Node>, root: bool, kept: bool, place: &Place<'_>, dropped: &mut Vec<String>) {
    let kept = node.is_some_and(|n| kept || n.preserve);
    match value {
        Value::Object(map) => map.retain(|key, value| {
            let Some(node) = node else {
                record(key, place, dropped);
                return false;
            };
            if (root || node.embedded) && METADATA.contains(&key.as_str()) {
                return true;
            }
            let below = place.child(Step::Key(key));
            if let Some(property) = node.property(key) {
                walk(value, Some(property), false, false, &below, dropped);
                return true;
            }
            match &node.additional {
                Additional::Schema(schema) => walk(value, Some(schema), false, false, &below, dropped),
                Additional::Unset if kept => {}
                Additional::Unset => {
                    if !(METADATA.contains(&key.as_str()) && place.is_root()) {
                        record(key, place, dropped);
                    }
                    return false;
                }
                // Allowed without a schema: what is within is unknown.
                Additional::Allowed | Additional::Forbidden => walk(value, None, false, false, &below, dropped),
            }
            true
        }),
        Value::Array(items) => {
            let items_node = node.and_then(|n| n.items.as_deref());
            if kept && items_node.is_none() {
                return;
            }
            for (i, item) in items.iter_mut().enumerate() {
                walk(item, items_node, false, kept, &place.child(Step::Index(i)), dropped);
            }
        }
        _ => {}
    }
}

fn record(key: &str, place: &Place<'_>, dropped: &mut Vec<String>) {
    let mut path = String::new();
    place.child(Step::Key(key)).append(&mut path);
    dropped.push(path);
}

/// Drops nulls of fields that are not nullable and have no default.
pub(super) fn drop_nulls(value: &mut Value, node: Option<&Node>) {
    match value {
        Value::Object(map) => map.retain(|key, value| {
            let node = node.and_then(|n| n.member(key));
            if value.is_null() {
                return node.is_none_or(|n| n.nullable || n.default.is_some());
            }
            drop_nulls(value, node);
            true
        }),
        Value::Array(items) => {
            let node = node.and_then(|n| n.items.as_deref());
            items.iter_mut().for_each(|item| drop_nulls(item, node));
        }
        _ => {}
    }
}

/// Sets defaults.
pub(super) fn default(value: &mut Value, node: &Node) {
    let refill = |value: &mut Value, node: &Node| {
        if value.is_null() && !node.nullable {
            *value = node.default.as_deref().cloned().unwrap_or(Value::Null);
        }
    };
    match value {
        Value::Object(map) => {
            for (name, property) in &node.properties {
                let Some(standard) = &property.default else { continue };
                if map.get(name.as_ref()).is_none_or(|v| v.is_null() && !property.nullable) {
                    map.insert(name.to_string(), standard.as_ref().clone());
                }
            }
            for (key, value) in map.iter_mut() {
                if let Some(property) = node.property(key) {
                    default(value, property);
                } else if let Some(schema) = node.additional() {
                    refill(value, schema);
                    default(value, schema);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &node.items else { return };
            for item in items {
                refill(item, schema);
                default(item, schema);
            }
        }
        _ => {}
    }
}
