//! Namespace lifecycle: nothing is made in a namespace that does not exist or is being deleted, and some are never deleted.

use api::{
    meta::{self, Qualified},
    status::{Cause, Status},
};

use super::{Attributes, Operation};
use crate::server::Server;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Refuses creations in namespaces that are not there or not to stay.
pub async fn check(server: &Server, attributes: &Attributes<'_>) -> Result<(), Status> {
    if attributes.operation != Operation::Create
        || attributes.namespace.is_empty()
        || attributes.kind.is("", "Namespace")
    {
        return Ok(());
    }
    let resource = Qualified { group: "", name: "namespaces" };
    let namespace = server.find("", "namespaces", "", attributes.namespace).await?;
    let Some(namespace) = namespace else { return Err(Status::not_found(resource, attributes.namespace)) };
    let deleting = memchr::memmem::find(namespace.bytes(), b"\"deletionTimestamp\"").is_some();
    if deleting && meta::deletion_timestamp(&namespace.value()).is_some() {
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            attributes.namespace
        );
        let cause = Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {} is being terminated", attributes.namespace),
            field: "metadata.namespace".to_owned(),
        };
        return Err(attributes.refuse(why).with_cause(cause));
    }
    Ok(())
}

/// Refuses the deletion of namespaces that everything relies on.
pub fn validate(attributes: &Attributes<'_>) -> Result<(), Status> {
    let deletes = attributes.operation == Operation::Delete && attributes.is("", "Namespace");
    if deletes && IMMORTAL.contains(&attributes.name) {
        return Err(attributes.refuse("this namespace may not be deleted"));
    }
    Ok(())
}
