//! Whether an object may be stored: upstream's rules, messages, field paths and order of errors.
//!
//! [`create`] and [`update`] first check metadata, then what is particular to the kind. They expect objects that were checked
//! against the schema and have their defaults; wrong types read as absent and never panic. Rules are facts from
//! `pkg/apis/*/validation` of k8s.io/kubernetes v1.37.1, texts of errors included, since they are the interface.
//!
//! The meaning of each field: <https://kubernetes.io/docs/reference/kubernetes-api/>

use serde_json::Value;

use crate::kinds::Kind;
use crate::meta::{Qualified, View};

mod access;
mod address;
mod apps;
mod batch;
mod certificate;
mod check;
mod core;
mod field;
mod flow;
pub mod format;
mod metadata;
mod net;
mod pod;
mod quota;
mod registration;
mod resources;
mod scaling;
mod schedule;
mod service;
mod storage;
#[cfg(test)]
mod tests;

pub use field::{Errors, FieldError, FieldErrorKind, Path, aggregate};

/// What is wrong with an object that is to be created. Name, uid and (for Services) addresses are set already.
pub fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    if kind.is_stored() {
        metadata::create(kind, object, &mut errors);
    }
    kinds(kind, "", View::new(object), None, &mut errors);
    errors.into_vec()
}

/// What is wrong with an update of an object, or of one of its sub-resources ("" is the object itself).
pub fn update(kind: &Kind, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    metadata::update(kind, new, old, &mut errors);
    kinds(kind, subresource, View::new(new), Some(View::new(old)), &mut errors);
    errors.into_vec()
}

/// What is wrong with the body of a request to a sub-resource that has a kind of its own: Binding, Scale, TokenRequest.
pub fn body(kind: Qualified<'_>, object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let view = View::new(object);
    match (kind.group, kind.name) {
        ("", "Binding") => pod::binding(view, &mut errors),
        ("autoscaling", "Scale") => scaling::scale(view, &mut errors),
        ("authentication.k8s.io", "TokenRequest") => access::token_request(view, &mut errors),
        _ => {}
    }
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
        ("", "ReplicationController") | ("apps", _) => apps::check(kind.kind, subresource, new, old, errors),
        ("batch", name) => batch::check(name, subresource, new, old, errors),
        ("autoscaling", "HorizontalPodAutoscaler") => scaling::autoscaler(kind, subresource, new, old, errors),
        ("autoscaling", "Scale") => scaling::scale(new, errors),
        ("policy", "PodDisruptionBudget") => scaling::disruption_budget(subresource, new, errors),
        ("scheduling.k8s.io", "PriorityClass") => scaling::priority_class(new, old, errors),
        ("node.k8s.io", "RuntimeClass") => scaling::runtime_class(new, old, errors),
        ("coordination.k8s.io", "Lease") => scaling::lease(new, errors),
        ("networking.k8s.io", name) => net::networking(name, subresource, new, old, errors),
        ("discovery.k8s.io", "EndpointSlice") => net::endpoint_slice(new, old, errors),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => access::role(new, kind.namespaced, errors),
        ("rbac.authorization.k8s.io", _) => access::binding(new, old, kind.namespaced, errors),
        ("authorization.k8s.io", name) => access::review(name, new, errors),
        ("authentication.k8s.io", "TokenRequest") => access::token_request(new, errors),
        ("admissionregistration.k8s.io", name) => registration::admission(name, new, errors),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            registration::definition(subresource, new, old, errors);
        }
        ("apiregistration.k8s.io", "APIService") => registration::api_service(subresource, new, errors),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            registration::signing_request(subresource, new, old, errors);
        }
        ("certificates.k8s.io", "PodCertificateRequest") => certificate::pod_request(subresource, new, old, errors),
        ("flowcontrol.apiserver.k8s.io", name) => flow::check(name, subresource, new, errors),
        (_, "Event") if !kind.is_custom() => core::event(kind, new, old, errors),
        ("storage.k8s.io", name) => storage::group(name, subresource, new, old, errors),
        _ => {}
    }
}
