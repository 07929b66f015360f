//! The class of a pod's runtime: it must be there, and gives the pod its overhead and its place.

use api::{admit::runtime, meta::View, status::Status};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::server::Server;

async fn class(server: &Server, attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let Some(name) = View::new(pod).at("spec").at("runtimeClassName").as_str() else { return Ok(None) };
    match server.find("node.k8s.io", "runtimeclasses", "", name).await? {
        Some(class) => Ok(Some(class.owned())),
        None => Err(attributes.refuse(format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

/// On creation of a pod.
pub async fn mutate(server: &Server, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create {
        return Ok(());
    }
    let class = class(server, attributes, pod).await?;
    runtime::complete(pod, class.as_ref()).map_err(|why| attributes.refuse(why))
}

/// Refuses a pod that others have given an overhead of their own.
pub async fn validate(server: &Server, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
    let (Operation::Create, Some(pod), true) = (attributes.operation, object, attributes.is("", "Pod")) else {
        return Ok(());
    };
    let class = class(server, attributes, pod).await?;
    runtime::check(pod, class.as_ref()).map_err(|why| attributes.refuse(why))
}
