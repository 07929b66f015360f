//! What an object says by not saying it: upstream's defaults, filled in when an object arrives.
//!
//! [`apply`] does to the JSON of an object what upstream's decoding into a versioned type, its defaulting functions and its
//! encoding do together: absent fields get their defaults, quantities their canonical form, members that upstream always writes
//! are there. It is idempotent. Facts from `pkg/apis/*/v1/defaults.go` and the types of k8s.io/kubernetes v1.37.1; the effect
//! is described field by field in <https://kubernetes.io/docs/reference/kubernetes-api/>.

use serde_json::{Value, json};

use crate::kinds::Kind;
use edit::Object;

mod autoscaling;
mod cluster;
mod core;
mod edit;
mod pod;
#[cfg(test)]
mod tests;
mod workload;

/// Fills in what an object of this kind leaves out. Custom resources have their defaults in their own schema.
pub fn apply(kind: &Kind, object: &mut Value) {
    apply_type(kind.group, kind.version, kind.kind, object);
}

/// The same for a type that need not be a resource of its own, such as a sub-resource's body (`TokenRequest`).
pub fn apply_type(group: &str, version: &str, kind: &str, object: &mut Value) {
    let Value::Object(object) = object else { return };
    edit::set(object, "metadata", json!({}));
    match group {
        "" => core::apply(kind, object),
        "apps" | "batch" => workload::apply(kind, object),
        "autoscaling" => autoscaling::apply(version, kind, object),
        "policy" if kind == "PodDisruptionBudget" => workload::disruption_budget(object),
        _ => cluster::apply(group, kind, object),
    }
}

/// Status of a kind that upstream always writes although it is empty.
fn empty_status(object: &mut Object) {
    edit::set(object, "status", json!({}));
}
