//! LimitRanges of the namespace: defaults for new pods, bounds for pods and claims.

use api::{admit::limits, meta, status::Status};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::{selection::Selection, server::Server};

fn ranges(server: &Server, attributes: &Attributes<'_>) -> Result<Vec<Value>, Status> {
    let resource = server.resource("", "limitranges")?;
    let all = resource.cache.all(&Selection::everything(&resource.scope(attributes.namespace)));
    Ok(all.iter().map(|range| range.owned()).collect())
}

/// Whether a request is about something that is limited: pods are when they are made or resized, claims whenever they are
/// written.
fn limited(attributes: &Attributes<'_>, old: Option<&Value>) -> bool {
    if old.is_some_and(|old| meta::deletion_timestamp(old).is_some()) {
        return false;
    }
    matches!(
        (attributes.kind.group, attributes.kind.plural, attributes.sub, attributes.operation),
        ("", "pods", "", Operation::Create)
            | ("", "pods", "resize", Operation::Update)
            | ("", "persistentvolumeclaims", "", Operation::Create | Operation::Update)
    )
}

/// Fills in what a pod leaves out.
pub fn mutate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if limited(attributes, old) && attributes.kind.is("", "Pod") {
        for range in ranges(server, attributes)? {
            limits::complete(object, &range);
        }
    }
    Ok(())
}

/// Refuses what is out of bounds.
pub fn validate(
    server: &Server,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(object) = object.filter(|_| limited(attributes, old)) else { return Ok(()) };
    let check = if attributes.kind.is("", "Pod") { limits::check_pod } else { limits::check_claim };
    for range in ranges(server, attributes)? {
        check(object, &range).map_err(|why| attributes.refuse(why))?;
    }
    Ok(())
}
