//! ClusterRoles that gather the rules of others by label, as `admin`, `edit` and `view` do.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles>

use std::sync::Arc;

use api::{
    meta::{self, View},
    selector::Labels,
    status::Status,
};
use serde_json::Value;

use super::rbac::GROUP;
use crate::{
    cache::Start,
    call::Call,
    options::WriteOptions,
    registry::Resource,
    selection::Selection,
    server::Server,
    write::{self, Manner, Target},
};

/// Follows ClusterRoles until the server stops.
pub async fn run(server: Arc<Server>) {
    let Ok(resource) = server.resource(GROUP, "clusterroles") else { return };
    let everything = Arc::new(Selection::everything(&resource.prefix));
    while !server.task.is_cancelled() {
        let Ok(mut changes) = resource.cache.watch(everything.clone(), Start::Now) else { return };
        changes.replay.clear();
        loop {
            if let Err(error) = gather(&server, &resource).await {
                tracing::warn!(%error, "gather the rules of cluster roles");
            }
            match server.task.until_cancelled(changes.live.recv()).await {
                None => return,
                Some(None) => break,
                Some(Some(_)) => while changes.live.try_recv().is_ok() {},
            }
        }
    }
}

/// Writes the rules of every gathering role that are not what they should be.
pub async fn gather(server: &Server, resource: &Arc<Resource>) -> Result<(), Status> {
    let all: Vec<Value> =
        resource.cache.all(&Selection::everything(&resource.prefix)).iter().map(|role| role.owned()).collect();
    for role in all.iter().filter(|role| View::new(role).has("aggregationRule")) {
        let rules = gathered(role, &all);
        if View::new(role).slice("rules") == rules {
            continue;
        }
        let name = meta::name(role);
        let target = Target { resource, version: resource.storage(), sub: "", namespace: "", name };
        let change = |old: &Value| {
            let mut new = old.clone();
            new["rules"] = rules.clone().into();
            Ok(new)
        };
        let manner = Manner { retry: true, plain: true, ..Manner::default() };
        match write::update(server, &Call::own(), target, &change, &WriteOptions::default(), manner).await {
            Err(status) if status.code() != 404 => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

/// The rules of all roles that a role's selectors name, in the order of names, each once.
fn gathered(role: &Value, all: &[Value]) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    for selector in View::new(role).at("aggregationRule").list("clusterRoleSelectors") {
        let Ok(labels) = Labels::from_value(selector.value()) else { continue };
        for other in all.iter().filter(|other| meta::name(other) != meta::name(role) && labels.matches_object(other)) {
            for rule in View::new(other).slice("rules") {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_gathered_by_label_and_once() {
        let rule = json!({"verbs": ["get"], "resources": ["pods"]});
        let view = json!({
            "metadata": {"name": "view", "labels": {"to": "view"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]},
            "rules": [{"verbs": ["own"]}],
        });
        let part =
            |name: &str, label: &str| json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": [rule]});
        let all = [view.clone(), part("a", "view"), part("b", "view"), part("c", "edit")];
        assert_eq!(gathered(&view, &all), [rule]);
    }
}
