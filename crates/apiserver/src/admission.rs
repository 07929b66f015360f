//! What is changed in, or refused of, a request that is authorised: one function a rule, in upstream's order.
//!
//! ```text
//! mutate     namespace lifecycle ─ limits ─ service account ─ priority ─ tolerations ─ runtime class ─ storage class
//! validate   namespace lifecycle ─ limits ─ node restriction ─ roles ─ priority ─ storage ─ runtime class ─ certificates
//! webhooks   after the rules of each half
//! charge     quotas, in the commit itself
//! ```
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>

use api::{kinds::Kind, status::Status};
use serde_json::Value;

use crate::{auth::User, call::Call, server::Server, webhook};

mod certificates;
mod expressions;
mod limit_range;
mod namespace;
mod node_restriction;
mod pod;
pub mod quota;
mod rbac;
mod runtime_class;
mod security;
mod service_account;
mod storage;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// It is connected to: exec, attach, port-forward, proxy.
    Connect,
}

/// A request as admission sees it.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// For what.
    pub operation: Operation,
    /// The kind of the object.
    pub kind: &'a Kind,
    /// The sub-resource, or "".
    pub sub: &'a str,
    /// The namespace, or "".
    pub namespace: &'a str,
    /// The name, or "" where it will be generated.
    pub name: &'a str,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// Where warnings go.
    pub call: Option<&'a Call>,
}

impl Operation {
    /// As reviews and rules name it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

impl Attributes<'_> {
    /// Whether the object itself, not a sub-resource, is of that kind.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.sub.is_empty() && self.kind.is(group, kind)
    }

    /// A refusal in the form that upstream's admission gives it.
    pub fn refuse(&self, why: impl AsRef<str>) -> Status {
        Status::refused(self.kind.resource(), self.name, why.as_ref())
    }
}

/// Changes `object` as the rules and the webhooks say, or refuses it.
///
/// What webhooks made of it is shown to the rules again, and after that to those webhooks that wish it.
pub async fn mutate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    apply_rules(server, attributes, object, old).await?;
    if let Some(again) = webhook::mutate(server, attributes, Some(object), old, None).await? {
        apply_rules(server, attributes, object, old).await?;
        webhook::mutate(server, attributes, Some(object), old, Some(&again)).await?;
    }
    Ok(())
}

async fn apply_rules(
    server: &Server,
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    namespace::check(server, attributes).await?;
    limit_range::mutate(server, attributes, object, old)?;
    if attributes.is("", "Pod") {
        service_account::mutate(server, attributes, object, old).await?;
        pod::priority(server, attributes, object, old).await?;
        pod::tolerations(attributes, object);
        runtime_class::mutate(server, attributes, object).await?;
    }
    storage::mutate(server, attributes, object)?;
    Ok(())
}

/// Refuses what the rules do not allow. `object` is the new state, none for deletions; `old` the present one, none for
/// creations.
pub async fn validate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    namespace::validate(attributes)?;
    limit_range::validate(server, attributes, object, old)?;
    node_restriction::validate(server, attributes, object, old).await?;
    security::validate(server, attributes, object, old).await?;
    rbac::validate(server, attributes, object, old).await?;
    pod::priority_class(server, attributes, object)?;
    storage::validate(server, attributes, object, old).await?;
    runtime_class::validate(server, attributes, object).await?;
    certificates::validate(server, attributes, object, old).await?;
    if attributes.operation == Operation::Delete {
        webhook::mutate(server, attributes, None, old, None).await?;
    }
    webhook::validate(server, attributes, object, old).await?;
    expressions::warn(attributes, object);
    Ok(())
}
