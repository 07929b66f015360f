//! What the schema validator does not see: duplicates in lists of type set and map, metadata of embedded resources.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Node;
use crate::schema::ListType;
use crate::validate::{FieldError, Path, format};

/// Finds items that come twice in lists of type set, and keys in lists of type map.
pub(super) fn duplicates(node: &Node, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(schema) = node.additional() {
                    duplicates(schema, value, &path.key(key), errors);
                }
                if let Some(schema) = node.property(key) {
                    duplicates(schema, value, &path.child(key), errors);
                }
            }
        }
        Value::Array(items) => {
            match node.list_type {
                Some(ListType::Set) => {
                    let twice = repeated(items.iter());
                    errors.extend(twice.into_iter().map(|i| FieldError::duplicate(path.index(i), items[i].clone())));
                }
                Some(ListType::Map) => map_keys(node, items, path, errors),
                _ => {}
            }
            if let Some(schema) = &node.items {
                for (i, item) in items.iter().enumerate() {
                    duplicates(schema, item, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn map_keys(node: &Node, items: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(i) = items.iter().position(|v| !v.is_null() && !v.is_object()) {
        let detail = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(path.index(i), items[i].clone(), detail));
        return;
    }
    let names = node.checks.as_ref().map_or(&[][..], |c| &c.list_map_keys);
    let key = |item: &Value| {
        let parts = names.iter().filter_map(|name| Some((name.to_string(), item.get(name.as_ref())?.clone())));
        Value::Object(parts.collect::<Map<_, _>>())
    };
    let keys: Vec<Value> = items.iter().map(key).collect();
    let twice = repeated(keys.iter());
    errors.extend(twice.into_iter().map(|i| FieldError::duplicate(path.index(i), keys[i].clone())));
}

/// Positions at which a value comes for the second time.
fn repeated<'v>(values: impl Iterator<Item = &'v Value>) -> Vec<usize> {
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut twice = Vec::new();
    for (i, value) in values.enumerate() {
        let mut text = Vec::new();
        crate::json::write(&mut text, value);
        let times = seen.entry(text).or_default();
        *times += 1;
        if *times == 2 {
            twice.push(i);
        }
    }
    twice
}

/// Checks kind, apiVersion and metadata of embedded resources, and of the value itself if it is one (`whole`).
pub(super) fn embedded(node: &Node, value: &Value, whole: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            if whole || node.embedded {
                resource(map, path, errors);
            }
            for (key, value) in map {
                if let Some(schema) = node.property(key) {
                    embedded(schema, value, false, &path.child(key), errors);
                } else if let Some(schema) = node.additional() {
                    embedded(schema, value, false, &path.key(key), errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &node.items else { return };
            for (i, item) in items.iter().enumerate() {
                embedded(schema, item, false, &path.index(i), errors);
            }
        }
        _ => {}
    }
}

fn resource(map: &Map<String, Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        let place = path.child(name);
        match map.get(name) {
            None => errors.push(FieldError::required(place, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(place, "", "must not be empty"));
            }
            Some(Value::String(text)) if name == "apiVersion" => {
                if text.matches('/').count() > 1 {
                    let detail = format!("unexpected GroupVersion string: {text}");
                    errors.push(FieldError::invalid(place, text.as_str(), detail));
                }
            }
            Some(Value::String(text)) => {
                let faults = format::dns_1035_label(&text.to_lowercase());
                if !faults.is_empty() {
                    let detail = format!("may have mixed case, but should otherwise match: {}", faults.join(","));
                    errors.push(FieldError::invalid(place, text.as_str(), detail));
                }
            }
            Some(other) => errors.push(FieldError::invalid(place, other.clone(), "must be a string")),
        }
    }
    let metadata = path.child("metadata");
    if let Some(Value::Object(fields)) = map.get("metadata") {
        if let Some(name) = fields.get("name").and_then(Value::as_str) {
            for fault in format::path_segment(name) {
                errors.push(FieldError::invalid(metadata.child("name"), name, fault));
            }
        }
        if let Some(namespace) = fields.get("namespace").and_then(Value::as_str) {
            for fault in format::dns_label(namespace) {
                errors.push(FieldError::invalid(metadata.child("namespace"), namespace, fault));
            }
        }
        for (key, value) in fields.get("labels").and_then(Value::as_object).into_iter().flatten() {
            for fault in format::qualified_name(key) {
                errors.push(FieldError::invalid(metadata.child("labels"), key.as_str(), fault));
            }
            let value = value.as_str().unwrap_or_default();
            for fault in format::label_value(value) {
                errors.push(FieldError::invalid(metadata.child("labels"), value, fault));
            }
        }
        for key in fields.get("annotations").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            for fault in format::qualified_name(&key.to_lowercase()) {
                errors.push(FieldError::invalid(metadata.child("annotations"), key.as_str(), fault));
            }
        }
    }
}
