//! Binding a pod to a node: what a scheduler posts.

use std::sync::Arc;

use api::{
    meta::{self, Gvk, Qualified, View},
    status::Status,
};
use http::Response;
use serde_json::{Value, json};
use serve::body::Body;

use crate::{
    admission::Operation,
    call::Call,
    options::WriteOptions,
    server::Server,
    webhook,
    write::{self, Manner, Target},
};

/// POST of `pods/NAME/binding`, or of `bindings`, where the body names the pod.
pub async fn answer(server: &Arc<Server>, call: &Call, name: &str) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.query, "CreateOptions")?;
    let gvk = Gvk::new("", "v1", "Binding");
    let mut binding = super::body(call, &gvk, "io.k8s.api.core.v1.Binding", options.field_validation).await?;
    let own = meta::name(&binding);
    if !name.is_empty() && own != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let name = own.to_owned();
    super::check(Qualified { group: "", name: "Binding" }, &name, &binding)?;
    let pods = server.resource("", "pods")?;
    let version = pods.storage();
    let place = Target { resource: &pods, version, sub: "binding", namespace: &call.info.namespace, name: &name };
    webhook::act(server, &place.attributes(call, Operation::Create, options.dry_run), &mut binding).await?;
    let now = meta::rfc3339(server.now());
    let change = |old: &Value| bound(old, &binding, &now);
    let manner = Manner { retry: true, plain: true, ..Manner::default() };
    write::update(server, call, place, &change, &options, manner).await?;
    Ok(call.status(&Status::created()))
}

/// The pod after a binding.
fn bound(pod: &Value, binding: &Value, now: &str) -> Result<Value, Status> {
    let resource = Qualified { group: "", name: "pods/binding" };
    let name = meta::name(pod);
    let uid = meta::uid(binding);
    if !uid.is_empty() && uid != meta::uid(pod) {
        return Err(Status::update_precondition(Qualified { group: "", name: "pods" }, name, uid, meta::uid(pod)));
    }
    let spec = View::new(pod).at("spec");
    let conflict = |why: String| Err(Status::conflict(resource, name, &why));
    if meta::deletion_timestamp(pod).is_some() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if !spec.text("nodeName").is_empty() {
        return conflict(format!("pod {name} is already assigned to node {:?}", spec.text("nodeName")));
    }
    if !spec.slice("schedulingGates").is_empty() {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut new = pod.clone();
    let node = View::new(binding).at("target").text("name");
    meta::object_at(&mut new, "spec").insert("nodeName".to_owned(), node.into());
    for (key, value) in meta::annotations(binding).into_iter().flatten() {
        meta::set_annotation(&mut new, key, value.as_str().unwrap_or_default());
    }
    for (key, value) in meta::labels(binding).into_iter().flatten() {
        meta::set_label(&mut new, key, value.as_str().unwrap_or_default());
    }
    let conditions = meta::object_at(&mut new, "status").entry("conditions").or_insert_with(|| json!([]));
    let scheduled = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
        "observedGeneration": meta::generation(pod),
    });
    if let Some(list) = conditions.as_array_mut() {
        match list.iter_mut().find(|condition| View::new(condition).text("type") == "PodScheduled") {
            Some(own) => *own = scheduled,
            None => list.push(scheduled),
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let binding = json!({"metadata": {"name": "p", "labels": {"zone": "a"}}, "target": {"name": "n"}});
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}});
        let new = bound(&pod, &binding, "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(new["spec"]["nodeName"], "n");
        assert_eq!(new["metadata"]["labels"]["zone"], "a");
        assert_eq!(new["status"]["conditions"][0]["status"], "True");
        let again = bound(&new, &binding, "x").unwrap_err();
        assert_eq!(again.code(), 409);
        assert!(again.message().contains("is already assigned to node \"n\""), "{}", again.message());
        let gated = json!({"metadata": {"name": "p"}, "spec": {"schedulingGates": [{"name": "g"}]}});
        assert_eq!(bound(&gated, &binding, "x").unwrap_err().code(), 409);
        let other = json!({"metadata": {"name": "p", "uid": "other"}, "target": {"name": "n"}});
        assert_eq!(bound(&pod, &other, "x").unwrap_err().code(), 409);
    }
}
