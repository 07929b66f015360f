//! Objects that every cluster has: the namespace of Madang's own Services, its own kinds, and who may use its parts.
//!
//! They are made at start, and set right where somebody has changed them; what else stands in them is left alone.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use task::Task;

use super::Ready;
use crate::config::Config;

/// The namespace of Madang's own Services.
pub const NAMESPACE: &str = "madang-system";
/// The account that `madang login` takes tokens of.
pub const LOGIN: &str = "registry-login";
/// The account that `madang console` signs in as.
pub const CONSOLE: &str = "console-login";
/// Between two attempts at an object that could not be installed.
const PAUSE: Duration = Duration::from_secs(2);
/// Namespaces, who may do what, kinds, and the rest, of which some are of those kinds.
const RANKS: usize = 4;
const KINDS: usize = 2;
/// Objects that are installed at the same time.
const AT_ONCE: usize = 16;
/// How long a kind may take to be served, and how often that is looked at.
const SERVED: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Installs the objects. Resolves once each was tried and our own kinds are served; what failed is tried again until it is there.
pub fn install(task: &Task, client: Client, config: &Config) -> Ready {
    let (ready, answered) = tokio::sync::oneshot::channel();
    let mut objects = match objects(config) {
        Ok(objects) => objects,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "objects of the cluster");
            let _ = ready.send(());
            return answered;
        }
    };
    let config = config.clone();
    task.spawn_until_cancelled("cluster objects", async move {
        let kinds: Vec<Value> = objects.iter().filter(|object| is_kind(object)).cloned().collect();
        let mut failed = Vec::new();
        // Who may do what comes first: the other roles ask already.
        for rank in 0..RANKS {
            let of_rank: Vec<_> = objects.extract_if(.., |object| self::rank(object) == rank).collect();
            let tried = of_rank.into_iter().map(|object| tried(client.clone(), object));
            let tried: Vec<Option<Value>> = futures::stream::iter(tried).buffer_unordered(AT_ONCE).collect().await;
            failed.extend(tried.into_iter().flatten());
            if rank == KINDS {
                futures::future::join_all(kinds.iter().map(|kind| served(&client, kind))).await;
            }
        }
        let _ = ready.send(());
        while !failed.is_empty() {
            tokio::time::sleep(PAUSE).await;
            for object in std::mem::take(&mut failed) {
                failed.extend(tried(client.clone(), object).await);
            }
        }
        if let Err(error) = withdraw(&client, &config).await {
            tracing::warn!(error = format!("{error:#}"), "withdraw APIs that this server does not answer");
        }
    });
    answered
}

fn rank(object: &Value) -> usize {
    match object["apiVersion"].as_str() {
        Some("v1") if object["kind"] == "Namespace" => 0,
        Some("rbac.authorization.k8s.io/v1") => 1,
        _ if is_kind(object) => KINDS,
        _ => KINDS + 1,
    }
}

fn is_kind(object: &Value) -> bool {
    object["kind"] == "CustomResourceDefinition"
}

/// Installs an object; the object, if that failed.
async fn tried(client: Client, object: Value) -> Option<Value> {
    let error = ensure(&client, &object).await.err()?;
    tracing::warn!(error = format!("{error:#}"), "object of the cluster is tried again");
    Some(object)
}

/// Waits a while until objects of a kind that was defined can be asked for.
async fn served(client: &Client, definition: &Value) {
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let gvk = GroupVersionKind::gvk(text("/spec/group"), text("/spec/versions/0/name"), text("/spec/names/kind"));
    let resource = ApiResource::from_gvk_with_plural(&gvk, text("/spec/names/plural"));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let asked = async {
        while api.list_metadata(&ListParams::default().limit(1)).await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(SERVED, asked).await.is_err() {
        tracing::warn!(kind = gvk.kind, "a kind of our own is not served yet");
    }
}

/// An API that nobody answers any more keeps namespaces from being deleted.
async fn withdraw(client: &Client, config: &Config) -> Result<()> {
    if config.with("metrics") {
        return Ok(());
    }
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService"));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    for object in ::metrics::adapter::objects(NAMESPACE, 0, &[]) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if object["kind"] != "APIService" {
            continue;
        }
        let Some(there) = api.get_opt(name).await? else { continue };
        // Somebody may have put another server in its place.
        let service = &there.data["spec"]["service"];
        if service["namespace"] == NAMESPACE && service["name"] == "metrics" {
            api.delete(name, &DeleteParams::default()).await?;
        }
    }
    Ok(())
}

async fn ensure(client: &Client, object: &Value) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let (group, version) = match text(&object["apiVersion"]).split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), text(&object["apiVersion"])),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind { group, version, kind: kind.clone() });
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let context = || format!("install {kind} {name}");
    if let Some(there) = api.get_opt(&name).await.with_context(context)? {
        if !says(&serde_json::to_value(&there)?, object) {
            api.patch(&name, &PatchParams::default(), &Patch::Merge(object)).await.with_context(context)?;
        }
        return Ok(());
    }
    let parsed: DynamicObject = serde_json::from_value(object.clone())?;
    api.create(&PostParams::default(), &parsed).await.with_context(context).map(drop)
}

/// Whether everything that is wanted stands there; there may be more.
fn says(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| there.get(name).is_some_and(|there| says(there, wanted)))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(there, wanted)| says(there, wanted))
        }
        _ => there == wanted,
    }
}

fn objects(config: &Config) -> Result<Vec<Value>> {
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        bind("madang:edge", "system:auth-delegator", user("system:madang:edge")),
    ];
    if config.with("gateway") {
        objects.extend(::gateway::builtin::objects("system:madang:edge"));
        match ::release::builtin::objects("system:madang:edge") {
            Ok(kinds) => objects.extend(kinds),
            Err(error) => tracing::error!(error = format!("{error:#}"), "kinds of releases"),
        }
    }
    if config.with("registry") {
        objects.extend(registry(config));
    }
    if config.with("metrics") {
        objects.extend(metrics(config)?);
        objects.extend(::metrics::builtin::objects("system:madang:edge"));
    }
    if config.with("console") {
        objects.extend(console(config));
    }
    if config.with("pipeline") {
        objects.extend(pipeline::repositories::kind::installed("system:madang:edge")?);
        objects.extend(pipeline::kind::installed("system:madang:edge")?);
        if config.with("console") && !config.node_ip.is_loopback() {
            objects.extend(service(config, "git", &[("https", 443)], config.port("console")));
        }
    }
    if config.with("engine") {
        objects.extend(engine::objects::kind::installed(crate::pki::ENGINE)?);
    }
    Ok(objects)
}

/// The account of whoever runs `madang console`: root of this machine, who may do everything anyway.
fn console(config: &Config) -> Vec<Value> {
    let account = json!({"kind": "ServiceAccount", "name": CONSOLE, "namespace": NAMESPACE});
    let mut objects = vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": CONSOLE, "namespace": NAMESPACE},
        }),
        bind("madang:console:login", "cluster-admin", account),
    ];
    if !config.node_ip.is_loopback() {
        objects.extend(service(config, "console", &[("https", 3000)], config.port("console")));
    }
    objects
}

/// A role over a resource of ours, given to everybody who has one of the usual roles.
fn aggregated(name: &str, (group, resource): (&str, &str), verbs: &[&str], to: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {format!("rbac.authorization.k8s.io/aggregate-to-{to}"): "true"}},
        "rules": [{"apiGroups": [group], "resources": [resource], "verbs": verbs}],
    })
}

/// A Service in front of a port of this machine: its ports by name and number, all led to `port`.
fn service(config: &Config, name: &str, ports: &[(&str, u16)], port: u16) -> [Value; 2] {
    let at =
        |(name, number): &(&str, u16)| json!({"name": name, "port": number, "targetPort": port, "protocol": "TCP"});
    let behind = |(name, _): &(&str, u16)| json!({"name": name, "port": port, "protocol": "TCP"});
    [
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"ports": ports.iter().map(at).collect::<Vec<_>>()},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": name, "namespace": NAMESPACE,
                "labels": {
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": "madang",
                },
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [config.node_ip.to_string()], "conditions": {"ready": true}}],
            "ports": ports.iter().map(behind).collect::<Vec<_>>(),
        }),
    ]
}

fn metrics(config: &Config) -> Result<Vec<Value>> {
    let samples = (metrics::web::door::GROUP, "samples");
    let mut objects = vec![
        aggregated("madang:metrics:read", samples, &["get"], "view"),
        aggregated("madang:metrics:write", samples, &["get", "create"], "edit"),
        aggregated("madang:metrics:change", samples, &["get", "create", "delete"], "admin"),
    ];
    if !config.node_ip.is_loopback() {
        objects.extend(service(config, "metrics", &[("https", 9090)], config.port("prometheus")));
        let authority = crate::pki::Files::of(config).read("ca.crt")?;
        objects.extend(::metrics::adapter::objects(NAMESPACE, 9090, &authority));
    }
    Ok(objects)
}

fn registry(config: &Config) -> Vec<Value> {
    let repositories = (registry::auth::GROUP, "repositories");
    let account = json!({"kind": "ServiceAccount", "name": LOGIN, "namespace": NAMESPACE});
    let mut objects = vec![
        aggregated("madang:registry:pull", repositories, &["get", "list"], "view"),
        aggregated("madang:registry:push", repositories, &["get", "list", "update", "delete"], "edit"),
        bind(
            "madang:registry:nodes",
            "madang:registry:pull",
            json!({
                "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes",
            }),
        ),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": LOGIN, "namespace": NAMESPACE},
        }),
        bind("madang:registry:login", "madang:registry:push", account),
    ];
    if !config.node_ip.is_loopback() {
        let ports = [("https", 443), ("registry", 5000)];
        objects.extend(service(config, "registry", &ports, config.port("registry")));
    }
    objects
}

fn user(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})
}

fn bind(name: &str, role: &str, subject: Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::says;

    #[test]
    fn what_stands_there_is_left_alone_when_it_says_all_that_is_wanted() {
        let there = json!({"spec": {"a": 1, "more": true, "list": [{"x": "y", "z": 1}, 2]}});
        let cases = [
            (json!({"spec": {"a": 1}}), true),
            (json!({"spec": {"a": 2}}), false),
            (json!({"spec": {"b": 1}}), false),
            (json!({"spec": {"list": [{"x": "y"}, 2]}}), true),
            (json!({"spec": {"list": [{"x": "y"}]}}), false),
            (json!({"spec": {"list": [2, {"x": "y"}]}}), false),
        ];
        for (wanted, expected) in cases {
            assert_eq!(says(&there, &wanted), expected, "{wanted}");
        }
    }
}
