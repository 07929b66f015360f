//! The life of CustomResourceDefinitions: whether their names are free, when they are served, and the deletion of their
//! objects with them.
//!
//! ```text
//! created ── names free ──> NamesAccepted, Established: served at once
//!        └── names taken ─> waits for whoever has them
//! deleted ──> Terminating: every object is deleted, then the finalizer goes, and the definition with it
//! ```
//!
//! A new definition is judged when it is created, so that objects can follow right behind it.

use std::{collections::BTreeSet, sync::Arc};

use api::{
    meta::{self, View},
    status::Status,
};
use serde_json::{Value, json};

use crate::{
    cache::Start,
    call::Call,
    delete,
    feed::DEFINITIONS,
    options::{DeleteOptions, WriteOptions},
    registry::Registry,
    selection::Selection,
    server::Server,
    write::{self, Manner, Target},
};

/// Keeps a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Follows the definitions until the server stops.
pub async fn run(server: Arc<Server>) {
    let Ok(resource) = server.resource(DEFINITIONS.0, DEFINITIONS.1) else { return };
    let everything = Arc::new(Selection::everything(&resource.prefix));
    let mut ending: BTreeSet<String> = BTreeSet::new();
    loop {
        let Ok(mut changes) = resource.cache.watch(everything.clone(), Start::Now) else { return };
        changes.replay.clear();
        loop {
            for object in resource.cache.all(&everything) {
                let value = object.value();
                let uid = meta::uid(&value).to_owned();
                if meta::deletion_timestamp(&value).is_some() {
                    if meta::finalizers(&value).contains(&FINALIZER) && ending.insert(uid) {
                        server.task.spawn("end of a definition", end(server.clone(), object.name().to_owned()));
                    }
                } else if let Err(error) = judge(&server, object.name(), &value).await {
                    tracing::warn!(%error, name = object.name(), "conditions of a definition");
                }
            }
            match server.task.until_cancelled(changes.live.recv()).await {
                None => return,
                Some(None) => break,
                Some(Some(_)) => while changes.live.try_recv().is_ok() {},
            }
        }
        if server.task.is_cancelled() {
            return;
        }
    }
}

/// Writes conditions and accepted names where they must change.
async fn judge(server: &Server, name: &str, value: &Value) -> Result<(), Status> {
    let registry = server.feed.registry();
    let now = meta::rfc3339(server.now());
    if accepted(&registry, value, &now).is_none() {
        return Ok(());
    }
    let resource = server.resource(DEFINITIONS.0, DEFINITIONS.1)?;
    let target = Target { resource: &resource, version: resource.storage(), sub: "status", namespace: "", name };
    let change = |old: &Value| Ok(accepted(&registry, old, &now).unwrap_or_else(|| old.clone()));
    let manner = Manner { retry: true, plain: true, ..Manner::default() };
    match write::update(server, &Call::own(), target, &change, &WriteOptions::default(), manner).await {
        Err(status) if status.code() == 404 => Ok(()),
        result => result.map(|_| ()),
    }
}

/// The definition with its names judged against all others; `None` if nothing changes.
pub fn accepted(registry: &Registry, definition: &Value, now: &str) -> Option<Value> {
    let spec = View::new(definition).at("spec");
    let (mut resources, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    if let Some(resource) = registry.resource(DEFINITIONS.0, DEFINITIONS.1) {
        for other in resource.cache.all(&Selection::everything(&resource.prefix)) {
            let other = other.value();
            let view = View::new(&other);
            if meta::name(&other) == meta::name(definition) || view.at("spec").text("group") != spec.text("group") {
                continue;
            }
            let names = view.at("status").at("acceptedNames");
            let short = names.list("shortNames").map(View::string);
            resources
                .extend([names.text("plural"), names.text("singular")].into_iter().chain(short).map(str::to_owned));
            kinds.extend([names.text("kind"), names.text("listKind")].map(str::to_owned));
        }
    }
    let wanted = spec.at("names");
    let mut names = View::new(definition).at("status").at("acceptedNames").value().clone();
    if !names.is_object() {
        names = json!({ "plural": "", "kind": "" });
    }
    let mut conflict: Option<(&str, String)> = None;
    for (member, reason, taken) in [
        ("plural", "PluralConflict", &resources),
        ("singular", "SingularConflict", &resources),
        ("kind", "KindConflict", &kinds),
        ("listKind", "ListKindConflict", &kinds),
    ] {
        let own = wanted.text(member);
        if own != View::new(&names).text(member) && taken.contains(own) {
            conflict = Some((reason, format!("{own:?} is already in use")));
        } else if !own.is_empty() {
            names[member] = own.into();
        }
    }
    let held: Vec<&str> =
        View::new(definition).at("status").at("acceptedNames").list("shortNames").map(View::string).collect();
    let mut taken =
        wanted.list("shortNames").map(View::string).filter(|short| !held.contains(short) && resources.contains(*short));
    if let Some(short) = taken.next() {
        conflict = Some(("ShortNamesConflict", format!("{short:?} is already in use")));
    } else {
        copy(&mut names, "shortNames", wanted);
    }
    copy(&mut names, "categories", wanted);
    let mut new = definition.clone();
    let (status, reason, message) = match &conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", *reason, message.clone()),
    };
    let established = condition(definition, "Established");
    if meta::deletion_timestamp(definition).is_none() {
        set_condition(&mut new, "NamesAccepted", status, reason, &message, now);
        if conflict.is_none() {
            set_condition(
                &mut new,
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
                now,
            );
        } else if established != Some("True") {
            set_condition(&mut new, "Established", "False", "NotAccepted", "not all names are accepted", now);
        }
        approved(&mut new, now);
    }
    meta::object_at(&mut new, "status").insert("acceptedNames".to_owned(), names);
    (!View::new(&new).same(View::new(definition))).then_some(new)
}

fn copy(names: &mut Value, member: &str, from: View<'_>) {
    match from.slice(member) {
        [] => _ = names.as_object_mut().and_then(|names| names.remove(member)),
        list => names[member] = list.to_vec().into(),
    }
}

/// Groups that belong to Kubernetes' community need its approval, which an annotation names.
fn approved(definition: &mut Value, now: &str) {
    let group = View::new(definition).at("spec").text("group").to_owned();
    if !["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    {
        return;
    }
    let annotation = meta::annotation(definition, "api-approved.kubernetes.io").to_owned();
    let (status, reason, message) = if annotation.is_empty() {
        let text = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
        ("False", "MissingAnnotation", text.to_owned())
    } else if annotation.starts_with("unapproved") {
        ("False", "NotApproved", format!("not approved: {annotation:?}"))
    } else if annotation.starts_with("https://") || annotation.starts_with("http://") {
        ("True", "ApprovedAnnotation", format!("approved in {annotation}"))
    } else {
        let text = format!(
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111: {annotation:?}"
        );
        ("False", "InvalidAnnotation", text)
    };
    set_condition(definition, "KubernetesAPIApprovalPolicyConformant", status, reason, &message, now);
}

fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a str> {
    let found = View::new(definition).at("status").list("conditions").find(|item| item.text("type") == kind)?;
    Some(found.text("status"))
}

/// Sets a condition; its time changes only with its status.
pub fn set_condition(definition: &mut Value, kind: &str, status: &str, reason: &str, message: &str, now: &str) {
    let conditions = meta::object_at(definition, "status").entry("conditions").or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let new = |since: &str| json!({ "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since });
    match list.iter_mut().find(|item| View::new(item).text("type") == kind) {
        Some(own) if View::new(own).text("status") == status => {
            let since = View::new(own).text("lastTransitionTime").to_owned();
            *own = new(&since);
        }
        Some(own) => *own = new(now),
        None => list.push(new(now)),
    }
}

/// Deletes every object of a definition, then lets the definition go.
async fn end(server: Arc<Server>, name: String) {
    while !server.task.is_cancelled() {
        match emptied(&server, &name).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, name, "delete custom resources"),
        }
        server.task.until_cancelled(tokio::time::sleep(std::time::Duration::from_millis(250))).await;
    }
    let Ok(resource) = server.resource(DEFINITIONS.0, DEFINITIONS.1) else { return };
    let target = Target { resource: &resource, version: resource.storage(), sub: "", namespace: "", name: &name };
    let now = meta::rfc3339(server.now());
    let change = |old: &Value| {
        let mut new = old.clone();
        let left: Vec<&str> = meta::finalizers(old).into_iter().filter(|finalizer| *finalizer != FINALIZER).collect();
        meta::set_finalizers(&mut new, &left);
        let message = "removed all instances";
        set_condition(&mut new, "Terminating", "False", "InstanceDeletionCompleted", message, &now);
        Ok(new)
    };
    let manner = Manner { retry: true, plain: true, ..Manner::default() };
    if let Err(error) = write::update(&server, &Call::own(), target, &change, &WriteOptions::default(), manner).await
        && error.code() != 404
    {
        tracing::warn!(%error, name, "end a definition");
    }
}

/// Deletes what is left; whether nothing was.
async fn emptied(server: &Server, name: &str) -> Result<bool, Status> {
    let registry = server.feed.registry();
    let found = registry.customs.iter().find(|custom| custom.definition.as_ref().is_some_and(|own| own.name == name));
    let Some(resource) = found else { return Ok(true) };
    if resource.versions.is_empty() {
        return Ok(resource.cache.is_empty());
    }
    let all = resource.cache.all(&Selection::everything(&resource.prefix));
    let call = Call::own();
    for object in &all {
        let namespace = resource.namespace_of(object);
        let target = Target { resource, version: resource.storage(), sub: "", namespace, name: object.name() };
        match delete::remove(server, &call, target, &DeleteOptions::default()).await {
            Err(status) if status.code() != 404 => return Err(status),
            _ => {}
        }
    }
    server.fresh().await?;
    Ok(resource.cache.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::Applied, object::Object};

    fn definition(name: &str, kind: &str) -> Value {
        json!({
            "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"name": format!("{name}.example.com"), "uid": name},
            "spec": {"group": "example.com", "names": {"plural": name, "kind": kind, "shortNames": ["s"]}},
        })
    }

    fn registry(others: &[Value]) -> Registry {
        let registry = Registry::built_in(&Arc::new(Applied::new(1)));
        let resource = registry.resource(DEFINITIONS.0, DEFINITIONS.1).unwrap();
        for other in others {
            let key: Arc<str> = resource.key("", meta::name(other)).into();
            let object = Object::new(key.clone(), api::json::to_canonical(other), 2);
            resource.cache.apply(&key, Some(object), 2);
        }
        registry
    }

    #[test]
    fn free_names_are_accepted_at_once() {
        let new = accepted(&registry(&[]), &definition("tests", "Test"), "t").unwrap();
        assert_eq!(condition(&new, "Established"), Some("True"));
        assert_eq!(new["status"]["acceptedNames"]["plural"], "tests");
        assert_eq!(accepted(&registry(&[]), &new, "later"), None, "nothing changes the second time");
    }

    #[test]
    fn taken_names_are_refused_until_they_are_free() {
        let first = accepted(&registry(&[]), &definition("tests", "Test"), "t").unwrap();
        let taken = registry(std::slice::from_ref(&first));
        let second = accepted(&taken, &definition("others", "Test"), "t").unwrap();
        assert_eq!(condition(&second, "NamesAccepted"), Some("False"));
        assert_eq!(condition(&second, "Established"), Some("False"));
        let freed = accepted(&registry(&[]), &second, "t").unwrap();
        assert_eq!(condition(&freed, "Established"), Some("True"));
    }

    #[test]
    fn protected_groups_need_approval() {
        let mut protected = definition("tests", "Test");
        protected["spec"]["group"] = "x.k8s.io".into();
        let new = accepted(&registry(&[]), &protected, "t").unwrap();
        assert_eq!(condition(&new, "KubernetesAPIApprovalPolicyConformant"), Some("False"));
    }
}
