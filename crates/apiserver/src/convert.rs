//! One stored object in another version or group than it is stored in.
//!
//! Most kinds have one version. Where there are two, they differ in names of fields (events) or only in `apiVersion`
//! (custom resources without a conversion webhook).

use api::meta;
use serde_json::{Map, Value};

use crate::registry::{Resource, Served};

/// An object as `served` shows it.
pub fn to(_resource: &Resource, served: &Served, mut value: Value) -> Value {
    let target = served.kind.gvk();
    let group = meta::Gvk::of(&value).map(|gvk| gvk.group).unwrap_or_default();
    if target.kind == "Event" && group != target.group {
        let names: &[(&str, &str)] = &EVENT_FIELDS;
        rename(&mut value, names, target.group == "events.k8s.io");
    }
    meta::set_type(&mut value, &target);
    value
}

/// An object of `served` in the version in which it is stored.
pub fn to_storage(resource: &Resource, served: &Served, value: Value) -> Value {
    let storage = &resource.versions[resource.storage()];
    let same = storage.kind.group == served.kind.group && storage.kind.version == served.kind.version;
    match &resource.definition {
        // The stored version need not be served.
        Some(definition) => {
            let mut value = value;
            meta::set_type(&mut value, &definition.stored_type());
            value
        }
        None if same => value,
        None => to(resource, storage, value),
    }
}

/// Fields of core/v1 Events, and what they are called in events.k8s.io/v1.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(value: &mut Value, names: &[(&str, &str)], forward: bool) {
    let Value::Object(map) = value else { return };
    let mut renamed = Map::new();
    for (left, right) in names {
        let (from, to) = if forward { (left, right) } else { (right, left) };
        if let Some(value) = map.remove(*from) {
            renamed.insert((*to).to_owned(), value);
        }
    }
    map.extend(renamed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_change_their_field_names_between_groups() {
        let core = json!({"involvedObject": {"name": "a"}, "message": "m", "reason": "r", "count": 2});
        let mut event = core.clone();
        rename(&mut event, &EVENT_FIELDS, true);
        assert_eq!(event, json!({"regarding": {"name": "a"}, "note": "m", "reason": "r", "deprecatedCount": 2}));
        rename(&mut event, &EVENT_FIELDS, false);
        assert_eq!(event, core);
    }
}
