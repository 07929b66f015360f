//! The roles and bindings that every cluster has, read from the table beside this file, and what becomes of those that are
//! there already.

use std::sync::Arc;

use api::meta::{self, View};
use serde_json::{Map, Value, json};

use super::{Wanted, made};
use crate::auth::rbac::{GROUP, Rule};

const TABLE: &str = include_str!("roles.txt");
const API: &str = "rbac.authorization.k8s.io/v1";
const UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The group that Madang's own loops belong to: they may do what all of upstream's controllers together may.
pub const CONTROLLERS: &str = "madang:controllers";

/// Every role and binding.
pub fn all() -> Vec<Wanted> {
    let mut found: Vec<Wanted> = Vec::new();
    for line in TABLE.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["role", name, labels @ ..] => found.push(role(name, labels)),
            ["bind", name, role, subjects @ ..] => found.push(binding(name, role, subjects)),
            ["+", label] => {
                let (key, value) = label.split_once('=').unwrap_or((label, ""));
                if let Some((_, _, role)) = found.last_mut() {
                    let selectors = &mut role["aggregationRule"]["clusterRoleSelectors"];
                    if !selectors.is_array() {
                        *selectors = json!([]);
                    }
                    if let Some(list) = selectors.as_array_mut() {
                        list.push(json!({ "matchLabels": { key: value } }));
                    }
                }
            }
            rule => {
                if let Some(rules) = found.last_mut().and_then(|(_, _, role)| role["rules"].as_array_mut()) {
                    rules.push(self::rule(rule));
                }
            }
        }
    }
    found
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').map(|word| if word == "\"\"" { "" } else { word }).collect()
}

fn rule(words: &[&str]) -> Value {
    match words {
        [verbs, paths] => json!({ "verbs": list(verbs), "nonResourceURLs": list(paths) }),
        [verbs, groups, resources, rest @ ..] => {
            let mut rule = json!({ "verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources) });
            if let [names] = rest {
                rule["resourceNames"] = json!(list(names));
            }
            rule
        }
        _ => Value::Null,
    }
}

fn metadata(name: &str, labels: &[&str]) -> (Value, bool) {
    let mut all = Map::new();
    all.insert("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".into());
    for label in labels {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        all.insert(key.to_owned(), value.into());
    }
    let mut metadata = json!({ "name": name, "labels": all, "annotations": { UPDATE: "true" } });
    let namespaced = match name.split_once('/') {
        Some((namespace, name)) => {
            metadata["namespace"] = namespace.into();
            metadata["name"] = name.into();
            true
        }
        None => false,
    };
    (metadata, namespaced)
}

fn role(name: &str, labels: &[&str]) -> Wanted {
    let (metadata, namespaced) = metadata(name, labels);
    let (kind, plural) = if namespaced { ("Role", "roles") } else { ("ClusterRole", "clusterroles") };
    made(GROUP, plural, json!({ "kind": kind, "apiVersion": API, "metadata": metadata, "rules": [] }))
}

fn binding(name: &str, role: &str, subjects: &[&str]) -> Wanted {
    let (metadata, namespaced) = metadata(name, &[]);
    let (kind, plural) =
        if namespaced { ("RoleBinding", "rolebindings") } else { ("ClusterRoleBinding", "clusterrolebindings") };
    let (role_kind, role) = match role.strip_prefix("role:") {
        Some(role) => ("Role", role),
        None => ("ClusterRole", role),
    };
    let mut subjects: Vec<Value> = subjects
        .iter()
        .filter_map(|subject| {
            let (kind, name) = subject.split_once(':')?;
            Some(match kind {
                "account" => {
                    let (namespace, name) = name.split_once('/')?;
                    json!({ "kind": "ServiceAccount", "namespace": namespace, "name": name })
                }
                "group" => json!({ "kind": "Group", "apiGroup": GROUP, "name": name }),
                _ => json!({ "kind": "User", "apiGroup": GROUP, "name": name }),
            })
        })
        .collect();
    if role.starts_with("system:controller:") || role == "system:kube-controller-manager" {
        subjects.push(json!({ "kind": "Group", "apiGroup": GROUP, "name": CONTROLLERS }));
    }
    made(
        GROUP,
        plural,
        json!({
            "kind": kind, "apiVersion": API, "metadata": metadata, "subjects": subjects,
            "roleRef": { "apiGroup": GROUP, "kind": role_kind, "name": role },
        }),
    )
}

/// What a role or binding that is there becomes: rules and subjects that are missing are added, others stay. `None` if it
/// stays as it is.
pub fn reconciled(current: &Value, wanted: &Value) -> Option<Value> {
    if meta::annotation(current, UPDATE) == "false" {
        return None;
    }
    let mut new = current.clone();
    let mut changed = false;
    if wanted.get("aggregationRule").is_some() {
        if new.get("aggregationRule") != wanted.get("aggregationRule") {
            new["aggregationRule"] = wanted["aggregationRule"].clone();
            changed = true;
        }
    } else if current.get("rules") != wanted.get("rules") {
        let owned: Vec<Arc<Rule>> = crate::auth::rbac::rules(current);
        let missing: Vec<Value> = View::new(wanted)
            .list("rules")
            .filter(|rule| !Rule::read(*rule).covered(&owned))
            .map(|rule| rule.value().clone())
            .collect();
        changed |= push(&mut new, "rules", missing);
    }
    let present = View::new(current).slice("subjects");
    let same = |a: &Value, b: &Value| {
        ["kind", "name", "namespace"].iter().all(|key| View::new(a).text(key) == View::new(b).text(key))
    };
    let missing: Vec<Value> = View::new(wanted)
        .slice("subjects")
        .iter()
        .filter(|subject| !present.iter().any(|own| same(own, subject)))
        .cloned()
        .collect();
    changed |= push(&mut new, "subjects", missing);
    changed.then_some(new)
}

fn push(object: &mut Value, member: &str, items: Vec<Value>) -> bool {
    if items.is_empty() {
        return false;
    }
    if !object[member].is_array() {
        object[member] = json!([]);
    }
    if let Some(list) = object[member].as_array_mut() {
        list.extend(items);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(all: &'a [Wanted], plural: &str, name: &str) -> &'a Value {
        let found = all.iter().find(|(_, own, object)| *own == plural && meta::name(object) == name);
        &found.unwrap_or_else(|| panic!("{plural} {name}")).2
    }

    #[test]
    fn the_table_is_read_whole() {
        let all = all();
        assert_eq!(
            find(&all, "clusterroles", "cluster-admin")["rules"][1],
            json!({"verbs": ["*"], "nonResourceURLs": ["*"]})
        );
        let admin = find(&all, "clusterroles", "admin");
        let label = json!({"rbac.authorization.k8s.io/aggregate-to-admin": "true"});
        assert_eq!(admin["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"], label);
        assert_eq!(
            find(&all, "roles", "extension-apiserver-authentication-reader")["metadata"]["namespace"],
            "kube-system"
        );
        let binding = find(&all, "clusterrolebindings", "cluster-admin");
        assert_eq!(binding["subjects"][0]["name"], "system:masters");
        for (_, plural, object) in &all {
            let rules = View::new(object).slice("rules");
            assert!(rules.iter().all(Value::is_object), "{}", meta::name(object));
            assert!(
                plural.ends_with("bindings")
                    || !rules.is_empty()
                    || object.get("aggregationRule").is_some()
                    || meta::name(object).contains("legacy"),
                "{object}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_more_stays() {
        let all = all();
        let wanted = find(&all, "clusterroles", "system:discovery");
        assert_eq!(reconciled(wanted, wanted), None);
        let mut current = wanted.clone();
        current["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        let new = reconciled(&current, wanted).unwrap();
        assert_eq!(new["rules"].as_array().unwrap().len(), 1 + wanted["rules"].as_array().unwrap().len());
        meta::set_annotation(&mut current, UPDATE, "false");
        assert_eq!(reconciled(&current, wanted), None);
    }
}
