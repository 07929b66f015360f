//! Fields that a write does not set whatever the request says, so that nobody owns them by it.
//!
//! Facts from `GetResetFields` of upstream's strategies (`pkg/registry/*/*/strategy.go` of k8s.io/kubernetes v1.37.1).

use super::set::Set;
use crate::kinds::Kind;

/// The fields that a write of that kind through a sub-resource ("" is the object itself) resets.
pub fn fields(kind: &Kind, subresource: &str) -> Set {
    Set::of_names(paths(kind, subresource))
}

type Paths = &'static [&'static [&'static str]];

fn paths(kind: &Kind, subresource: &str) -> Paths {
    const STATUS: Paths = &[&["status"]];
    const SPEC: Paths = &[&["spec"]];
    const ALL_BUT_STATUS: Paths = &[&["metadata"], &["spec"]];
    match (kind.group, kind.kind, subresource) {
        ("certificates.k8s.io", "CertificateSigningRequest", "") => &[&["spec"], &["status"]],
        ("certificates.k8s.io", "CertificateSigningRequest", "status") => &[&["spec"], &["status", "conditions"]],
        ("certificates.k8s.io", "CertificateSigningRequest", "approval") => &[&["spec"], &["status", "certificate"]],
        ("", "Pod", "status") => &[&["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"], &["spec"]],
        ("apps", "Deployment", "status") => &[&["metadata", "labels"], &["spec"]],
        (
            "certificates.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "resource.k8s.io"
            | "storage.k8s.io"
            | "storagemigration.k8s.io"
            | "admissionregistration.k8s.io"
            | "apiregistration.k8s.io",
            _,
            "status",
        )
        | ("networking.k8s.io", "ServiceCIDR", "status")
        | ("scheduling.k8s.io", _, "status") => ALL_BUT_STATUS,
        (_, _, "status") if kind.is_custom() => ALL_BUT_STATUS,
        (_, _, "status") => SPEC,
        ("", "Namespace", "finalize") => STATUS,
        (_, _, "" | "ephemeralcontainers" | "resize") if kind.subresource("status").is_some() => STATUS,
        _ => &[],
    }
}
