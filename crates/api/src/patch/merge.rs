//! JSON merge patch.

use serde_json::{Map, Value};

use super::PatchError;

/// Applies a JSON merge patch.
pub fn merge(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    match patch {
        Value::Object(patch) => {
            match object {
                Value::Object(map) => merge_maps(map, patch),
                other => *other = pruned(&Value::Object(patch.clone())),
            }
            Ok(())
        }
        Value::Array(_) => {
            *object = pruned(patch);
            Ok(())
        }
        _ => Err(PatchError::BadRequest("Invalid JSON Patch".to_owned())),
    }
}

fn merge_maps(map: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, change) in patch {
        if change.is_null() {
            map.remove(key);
            continue;
        }
        match (map.get_mut(key), change) {
            (Some(Value::Object(inner)), Value::Object(change)) => merge_maps(inner, change),
            (Some(inner @ Value::Object(_)), _) => *inner = change.clone(),
            (Some(inner), _) => *inner = pruned(change),
            (None, _) => {
                map.insert(key.clone(), pruned(change));
            }
        }
    }
}

/// A copy without null fields; null items of arrays stay.
fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), pruned(v))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(pruned).collect()),
        scalar => scalar.clone(),
    }
}
