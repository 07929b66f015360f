//! Eviction: a deletion that asks the pod's disruption budget first.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>

use std::sync::Arc;

use api::{
    kinds::Sub,
    meta::{self, View},
    selector::Labels,
    status::{Cause, Reason, Status},
};
use http::Response;
use serde_json::{Value, json};
use serve::body::Body;

use crate::{
    admission::Operation,
    call::Call,
    delete, encode,
    options::{DeleteOptions, WriteOptions},
    read,
    registry::Resource,
    selection::Selection,
    server::Server,
    webhook,
    write::{self, Manner, Target},
};

/// Pods that a budget remembers as disrupted before it counts them again, at most.
const DISRUPTED: usize = 2000;

/// POST of an Eviction.
pub async fn answer(
    server: &Arc<Server>,
    call: &Call,
    resource: &Arc<Resource>,
    version: usize,
    sub: &Sub,
) -> Result<Response<Body>, Status> {
    let query = WriteOptions::parse(&call.query, "CreateOptions")?;
    let gvk = meta::Gvk::new(sub.group, sub.version, sub.kind);
    let mut body = super::body(call, &gvk, sub.schema, query.field_validation).await?;
    let info = &call.info;
    if meta::name(&body) != info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let place = Target::of(call, resource, version);
    webhook::act(server, &place.attributes(call, Operation::Create, query.dry_run), &mut body).await?;
    let mut options = DeleteOptions::from_body(View::new(&body).at("deleteOptions").value())?;
    options.dry_run |= query.dry_run;
    server.fresh().await?;
    let object = read::find(resource, version, &info.namespace, &info.name)?;
    let pod = encode::tree(resource, &resource.versions[version], &object).into_owned();
    let target = Target { sub: "", ..place };
    if !free_to_go(&pod) {
        let budgets = budgets(server, &info.namespace, &pod)?;
        if budgets.len() > 1 {
            let text =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(500, Reason::InternalError, text, None));
        }
        if let Some(budget) = budgets.first() {
            let healthy = ready(&pod);
            let policy = View::new(budget).at("spec").text("unhealthyPodEvictionPolicy");
            let status = View::new(budget).at("status");
            let enough = status.int("currentHealthy").unwrap_or(0) >= status.int("desiredHealthy").unwrap_or(0)
                && status.int("desiredHealthy").unwrap_or(0) > 0;
            if healthy || policy != "AlwaysAllow" && !enough {
                take(server, call, meta::name(budget), &pod, options.dry_run).await?;
            }
        }
    }
    if !options.dry_run {
        mark(server, call, resource, &pod).await?;
    }
    delete::remove(server, call, target, &options).await?;
    Ok(call.status(&Status::created()))
}

/// Notes on the pod why it goes, for those who judge its end.
async fn mark(server: &Arc<Server>, call: &Call, resource: &Arc<Resource>, pod: &Value) -> Result<(), Status> {
    let (namespace, name) = (meta::namespace(pod), meta::name(pod));
    let target = Target { resource, version: resource.storage(), sub: "status", namespace, name };
    let now = meta::rfc3339(server.now());
    let change = |old: &Value| Ok(marked(old, &now));
    let manner = Manner { retry: true, plain: true, ..Manner::default() };
    write::update(server, call, target, &change, &WriteOptions::default(), manner).await.map(|_| ())
}

/// The pod with the condition `DisruptionTarget`.
fn marked(pod: &Value, now: &str) -> Value {
    let mut new = pod.clone();
    let conditions = meta::object_at(&mut new, "status").entry("conditions").or_insert_with(|| json!([]));
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now,
        "observedGeneration": meta::generation(pod),
    });
    if let Some(list) = conditions.as_array_mut() {
        match list.iter_mut().find(|known| View::new(known).text("type") == "DisruptionTarget") {
            Some(known) => *known = condition,
            None => list.push(condition),
        }
    }
    new
}

/// Pods whose end disrupts nothing.
fn free_to_go(pod: &Value) -> bool {
    let phase = View::new(pod).at("status").text("phase");
    matches!(phase, "Succeeded" | "Failed" | "Pending") || meta::deletion_timestamp(pod).is_some()
}

fn ready(pod: &Value) -> bool {
    View::new(pod)
        .at("status")
        .list("conditions")
        .any(|item| item.text("type") == "Ready" && item.text("status") == "True")
}

fn budgets(server: &Server, namespace: &str, pod: &Value) -> Result<Vec<Value>, Status> {
    let resource = server.resource("policy", "poddisruptionbudgets")?;
    let all = resource.cache.all(&Selection::everything(&resource.scope(namespace)));
    let mut found = Vec::new();
    for object in all {
        let budget = object.owned();
        let selector = View::new(&budget).at("spec").at("selector");
        if Labels::from_value(selector.value()).is_ok_and(|labels| labels.matches_object(pod)) {
            found.push(budget);
        }
    }
    Ok(found)
}

fn refused(message: String) -> Status {
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    Status::too_many_requests(text, 0).with_cause(Cause {
        reason: "DisruptionBudget".to_owned(),
        message,
        field: String::new(),
    })
}

/// Takes one disruption from a budget, or refuses.
async fn take(server: &Server, call: &Call, name: &str, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let resource = server.resource("policy", "poddisruptionbudgets")?;
    let namespace = meta::namespace(pod);
    let target = Target { resource: &resource, version: resource.storage(), sub: "status", namespace, name };
    let now = meta::rfc3339(server.now());
    let change = |old: &Value| {
        let status = View::new(old).at("status");
        if status.int("observedGeneration").unwrap_or(0) < meta::generation(old) {
            let text = "Cannot evict pod as it would violate the pod's disruption budget.";
            let message = format!("The disruption budget {name} is still being processed by the server.");
            let cause = Cause { reason: "DisruptionBudget".to_owned(), message, field: String::new() };
            return Err(Status::too_many_requests(text, 10).with_cause(cause));
        }
        let allowed = status.int("disruptionsAllowed").unwrap_or(0);
        let disrupted = status.map("disruptedPods").map_or(0, serde_json::Map::len);
        let kind = meta::Qualified { group: "policy", name: "poddisruptionbudgets" };
        if allowed < 0 {
            return Err(Status::refused(kind, name, "pdb disruptions allowed is negative"));
        }
        if disrupted > DISRUPTED {
            return Err(Status::refused(
                kind,
                name,
                "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            ));
        }
        if allowed == 0 {
            return Err(refused(format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                status.int("desiredHealthy").unwrap_or(0),
                status.int("currentHealthy").unwrap_or(0)
            )));
        }
        let mut new = old.clone();
        let status = meta::object_at(&mut new, "status");
        status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
        meta::entry_object(status, "disruptedPods").insert(meta::name(pod).to_owned(), json!(now));
        Ok(new)
    };
    let options = WriteOptions { dry_run, ..WriteOptions::default() };
    let manner = Manner { retry: true, plain: true, ..Manner::default() };
    write::update(server, call, target, &change, &options, manner).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evicted_pod_says_so_once() {
        let pod = json!({"metadata": {"generation": 1}, "status": {"phase": "Running"}});
        let once = marked(&pod, "2026-01-01T00:00:00Z");
        assert_eq!(once["status"]["conditions"][0]["reason"], "EvictionByEvictionAPI");
        assert_eq!(marked(&once, "2026-01-01T00:00:00Z"), once);
    }
}
