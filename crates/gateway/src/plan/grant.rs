//! Who may refer to objects of another namespace.
//!
//! See <https://gateway-api.sigs.k8s.io/api-types/referencegrant/>.

use std::sync::Arc;

use crate::kinds::{GROUP, ReferenceGrant};

/// Whether objects of `kind` (of Gateway API) in `from` may refer to the core kind `to` named `name` in `namespace`.
pub fn allows(
    grants: &[Arc<ReferenceGrant>],
    (kind, from): (&str, &str),
    (to, namespace, name): (&str, &str, &str),
) -> bool {
    if from == namespace {
        return true;
    }
    grants.iter().filter(|grant| grant.namespace() == namespace).any(|grant| {
        grant.spec.from.iter().any(|one| one.group == GROUP && one.kind == kind && one.namespace == from)
            && grant.spec.to.iter().any(|one| {
                one.group.is_empty() && one.kind == to && one.name.as_deref().is_none_or(|wanted| wanted == name)
            })
    })
}
