//! Whether an object may be stored: upstream's rules, messages, field paths and order of errors.
//!
//! [`create`] and [`update`] first check metadata, then what is particular to the kind. They expect objects that were checked
//! against the schema and have their defaults; wrong types read as absent and never panic. Rules are facts from
//! `pkg/apis/*/validation` of k8s.io/kubernetes v1.37.1, texts of errors included, since they are the interface.
//!
//! The meaning of each field: <https://kubernetes.io/docs/reference/kubernetes-api/>

use serde_json::Value;

use crate::kinds::Kind;
use crate::meta::View;

mod address;
mod check;
mod core;
mod field;
pub mod format;
mod metadata;
mod pod;
mod quota;
mod resources;
mod service;
mod storage;
#[cfg(test)]
mod tests;

pub use field::{Errors, FieldError, FieldErrorKind, Path, aggregate};

/// What is wrong with an object that is to be created. Name, uid and (for Services) addresses are set already.
pub fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    metadata::create(kind, object, &mut errors);
    kinds(kind, "", View::new(object), None, &mut errors);
    errors.into_vec()
}

/// What is wrong with an update of an object, or of one of its sub-resources ("" is the object itself).
pub fn update(kind: &Kind, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    metadata::update(new, old, &mut errors);
    kinds(kind, subresource, View::new(new), Some(View::new(old)), &mut errors);
    errors.into_vec()
}

/// What is particular to each kind.
fn kinds(kind: &Kind, subresource: &str, new: View<'_>, old: Option<View<'_>>, errors: &mut Errors) {
    match (kind.group, kind.kind) {
        ("", "Pod") => match old {
            None => pod::create(new, errors),
            Some(old) => pod::update(subresource, new, old, errors),
        },
        ("", name @ ("PersistentVolume" | "PersistentVolumeClaim")) => {
            storage::core(name, subresource, new, old, errors)
        }
        ("", "Binding") => pod::binding(new, errors),
        ("", "PodTemplate") => core::pod_template(new, errors),
        ("", "Service") => service::service(subresource, new, old, errors),
        ("", "Namespace") => core::namespace(subresource, new, old, errors),
        ("", "Node") => core::node(new, old, errors),
        ("", "ConfigMap") => core::config_map(new, old, errors),
        ("", "Secret") => core::secret(new, old, errors),
        ("", "Endpoints") => core::endpoints(new, old, errors),
        ("", "ResourceQuota") => quota::resource_quota(subresource, new, old, errors),
        ("", "LimitRange") => quota::limit_range(new, errors),
        (_, "Event") if !kind.is_custom() => core::event(kind, new, old, errors),
        ("storage.k8s.io", name) => storage::group(name, subresource, new, old, errors),
        _ => {}
    }
}
