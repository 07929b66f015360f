//! Namespace: empties a namespace that is being deleted, then lets it go.
//!
//! ```text
//! Active ── delete ──► Terminating: every kind's objects deleted ──► none left ──► finalizer removed ──► gone
//!                            └── some left (pods still stopping, finalizers of others): again later
//! ```

use std::time::Duration;

use client::{
    cache::Key,
    queue::{Next, Queue},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};
use task::Task;

use crate::caches::Caches;

/// How soon a namespace that is not empty yet is looked at again if nothing changes in it.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let add = queue.clone();
    caches.namespaces.listen(move |change| {
        if change.new.as_ref().is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            add.add(change.key.clone());
        }
    });
    let (add, namespaces) = (queue.clone(), caches.namespaces.clone());
    caches.pods.listen(move |change| {
        let key = Key::new("", &change.key.namespace);
        if change.new.is_none()
            && namespaces.get(&key).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
        {
            add.add(key);
        }
    });
    let (client, namespaces) = (client.clone(), caches.namespaces.clone());
    queue.run("namespace", 5, move |key| {
        let (client, namespaces) = (client.clone(), namespaces.clone());
        async move {
            match namespaces.get(&key) {
                Some(namespace) if namespace.metadata.deletion_timestamp.is_some() => empty(&client, &namespace).await,
                _ => Ok(Next::Done),
            }
        }
    });
}

/// A kind of objects as discovery tells it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    pub root: String,
    /// API group, empty for the core.
    pub group: String,
    /// Version within it.
    pub version: String,
    /// Resource name in the path.
    pub plural: String,
    /// Kind of its objects.
    pub kind: String,
    /// Whether its objects stand in namespaces.
    pub namespaced: bool,
    /// What can be done with them.
    pub verbs: Vec<String>,
}

/// All kinds that the API server serves, each in its preferred version.
pub async fn discover(client: &Client) -> kube::Result<Vec<Listed>> {
    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let mut found = Vec::new();
    for path in ["/api", "/apis"] {
        let request = http_get(path, AGGREGATED);
        let list: Value = client.request(request).await?;
        for group in array(&list["items"]) {
            let name = text(&group["metadata"]["name"]);
            let Some(version) = array(&group["versions"]).first() else { continue };
            let version_name = text(&version["version"]);
            let root =
                if name.is_empty() { format!("/api/{version_name}") } else { format!("/apis/{name}/{version_name}") };
            for resource in array(&version["resources"]) {
                found.push(Listed {
                    root: root.clone(),
                    group: name.to_owned(),
                    version: version_name.to_owned(),
                    plural: text(&resource["resource"]).to_owned(),
                    kind: text(&resource["responseKind"]["kind"]).to_owned(),
                    namespaced: resource["scope"] == "Namespaced",
                    verbs: array(&resource["verbs"]).iter().map(|verb| text(verb).to_owned()).collect(),
                });
            }
        }
    }
    Ok(found)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn http_get(path: &str, accept: &str) -> http::Request<Vec<u8>> {
    let request = http::Request::get(path).header(http::header::ACCEPT, accept);
    request.body(Vec::new()).expect("a literal path makes a request")
}

async fn empty(client: &Client, namespace: &Namespace) -> kube::Result<Next> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let has_finalizer =
        namespace.spec.as_ref().is_some_and(|spec| spec.finalizers.iter().flatten().any(|name| name == "kubernetes"));
    if !has_finalizer {
        return Ok(Next::Done);
    }
    let mut left: Vec<(String, usize, Vec<String>)> = Vec::new();
    let mut failures = Vec::new();
    let can = |kind: &Listed, verb: &str| kind.verbs.iter().any(|known| known == verb);
    let kinds = discover(client).await?;
    let is_pods = |kind: &Listed| kind.group.is_empty() && kind.plural == "pods";
    let mut order: Vec<&Listed> =
        kinds.iter().filter(|kind| kind.namespaced && can(kind, "list") && can(kind, "delete")).collect();
    // Pods go first: what they use and what guards them stays until the last has ended.
    order.sort_by_key(|kind| !is_pods(kind));
    for kind in order {
        if !is_pods(kind) && left.iter().any(|(what, ..)| what == "pods.") {
            break;
        }
        match remains(client, kind, name, can(kind, "deletecollection")).await {
            Ok((0, _)) => {}
            Ok((count, finalizers)) => left.push((format!("{}.{}", kind.plural, kind.group), count, finalizers)),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => {}
            Err(error) => failures.push(format!("{}: {error}", kind.plural)),
        }
    }
    if left.is_empty() && failures.is_empty() {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace.metadata,
            "spec": {"finalizers": []}});
        let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        return match client.request_text(request).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Next::Done),
            other => other.map(|_| Next::Done),
        };
    }
    tell(client, name, &left, &failures).await?;
    Ok(Next::After(AGAIN))
}

/// Deletes all objects of one kind in a namespace; returns how many there still are, and which finalizers hold them.
async fn remains(
    client: &Client,
    kind: &Listed,
    namespace: &str,
    collection: bool,
) -> kube::Result<(usize, Vec<String>)> {
    let path = format!("{}/namespaces/{namespace}/{}", kind.root, kind.plural);
    let list = async |limit: usize| -> kube::Result<Value> {
        let request = http_get(
            &format!("{path}?limit={limit}"),
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        );
        client.request(request).await
    };
    let present = list(500).await?;
    let items = array(&present["items"]);
    if items.is_empty() {
        return Ok((0, Vec::new()));
    }
    if collection {
        client.request_text(delete(&path)?).await?;
    } else {
        for item in items {
            let one = format!("{path}/{}", text(&item["metadata"]["name"]));
            match client.request_text(delete(&one)?).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => drop(other?),
            }
        }
    }
    let present = list(500).await?;
    let items = array(&present["items"]);
    let mut finalizers: Vec<String> = items
        .iter()
        .flat_map(|item| array(&item["metadata"]["finalizers"]))
        .map(|name| text(name).to_owned())
        .collect();
    finalizers.sort();
    finalizers.dedup();
    Ok((items.len(), finalizers))
}

fn delete(path: &str) -> kube::Result<http::Request<Vec<u8>>> {
    http::Request::delete(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(br#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}"#.to_vec())
        .map_err(kube::Error::HttpError)
}

/// Writes into the namespace's status what holds it up.
async fn tell(
    client: &Client,
    name: &str,
    left: &[(String, usize, Vec<String>)],
    failures: &[String],
) -> kube::Result<()> {
    let now = Timestamp::now().to_string();
    let condition = |kind: &str, holds: bool, reason: &str, otherwise: &str, message: String| {
        let (status, reason) = if holds { ("True", reason) } else { ("False", otherwise) };
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now})
    };
    let content: Vec<String> =
        left.iter().map(|(kind, count, _)| format!("{kind} has {count} resource instances")).collect();
    let held: Vec<String> = left
        .iter()
        .flat_map(|(_, count, finalizers)| {
            finalizers.iter().map(move |name| format!("{name} in {count} resource instances"))
        })
        .collect();
    let conditions = [
        condition(
            "NamespaceDeletionDiscoveryFailure",
            false,
            "",
            "ResourcesDiscovered",
            "All resources successfully discovered".into(),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".into(),
        ),
        if failures.is_empty() {
            condition(
                "NamespaceDeletionContentFailure",
                false,
                "",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization".into(),
            )
        } else {
            condition(
                "NamespaceDeletionContentFailure",
                true,
                "ContentDeletionFailed",
                "",
                format!("Failed to delete all resource types, {} remaining: {}", failures.len(), failures.join(", ")),
            )
        },
        condition(
            "NamespaceContentRemaining",
            !content.is_empty(),
            "SomeResourcesRemain",
            "ContentRemoved",
            if content.is_empty() {
                "All content successfully removed".into()
            } else {
                format!("Some resources are remaining: {}", content.join(", "))
            },
        ),
        condition(
            "NamespaceFinalizersRemaining",
            !held.is_empty(),
            "SomeFinalizersRemain",
            "ContentHasNoFinalizers",
            if held.is_empty() {
                "All content-preserving finalizers finished".into()
            } else {
                format!("Some content in the namespace has finalizers remaining: {}", held.join(", "))
            },
        ),
    ];
    let api: Api<Namespace> = Api::all(client.clone());
    let known = api.get_status(name).await?;
    let same = |wanted: &Value| {
        known.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(|known| {
            wanted["type"] == known.type_.as_str()
                && wanted["status"] == known.status.as_str()
                && wanted["message"].as_str() == known.message.as_deref()
        })
    };
    if conditions.iter().all(same) {
        return Ok(());
    }
    let mut whole = known;
    let written = serde_json::from_value(json!(conditions)).map_err(kube::Error::SerdeError)?;
    whole.status.get_or_insert_default().conditions = Some(written);
    match api.replace_status(name, &PostParams::default(), &whole).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}
