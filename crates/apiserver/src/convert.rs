//! One stored object in another version or group than it is stored in.
//!
//! Most kinds have one version. Where there are two, they differ in names of fields (events), in what they can say
//! (autoscalers), or only in `apiVersion` (custom resources without a conversion webhook).

use api::{kinds, meta};
use serde_json::Value;

use crate::registry::{Resource, Served};

/// A stored object as `served` shows it.
pub fn to(resource: &Resource, served: &Served, mut value: Value) -> Value {
    match &resource.definition {
        Some(definition) => {
            meta::set_type(&mut value, &served.kind.gvk());
            definition.refresh(served.kind.version, &mut value);
        }
        None => kinds::convert(&resource.versions[resource.storage()].kind, &served.kind, &mut value),
    }
    value
}

/// An object of `served` in the version in which it is stored.
pub fn to_storage(resource: &Resource, served: &Served, mut value: Value) -> Value {
    match &resource.definition {
        // The stored version need not be served.
        Some(definition) => meta::set_type(&mut value, &definition.stored_type()),
        None => {
            let storage = &resource.versions[resource.storage()].kind;
            if (storage.group, storage.version) != (served.kind.group, served.kind.version) {
                kinds::convert(&served.kind, storage, &mut value);
            }
        }
    }
    value
}
