//! Gives pods their service account: its name, a volume with a token for the API, and its image pull secrets.

use std::time::{Duration, Instant};

use api::{
    meta::{self, View},
    status::Status,
};
use serde_json::{Map, Value, json};

use super::{Attributes, Operation};
use crate::server::Server;

/// Where containers find the token.
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a pod's creation waits for the `default` account of a new namespace.
const DEFAULT_ACCOUNT: Duration = Duration::from_millis(1500);
/// How long a mounted token is valid, in seconds: an hour, and a little so that renewals do not fall together.
const TOKEN_SECONDS: u64 = 3607;
const MIRROR: &str = "kubernetes.io/config.mirror";

/// On creation of a pod.
pub async fn mutate(
    server: &Server,
    attributes: &Attributes<'_>,
    pod: &mut Value,
    _old: Option<&Value>,
) -> Result<(), Status> {
    if attributes.operation != Operation::Create {
        return Ok(());
    }
    if !meta::annotation(pod, MIRROR).is_empty() || meta::annotations(pod).is_some_and(|map| map.contains_key(MIRROR)) {
        return mirror(attributes, pod);
    }
    let spec = meta::object_at(pod, "spec");
    let name = match spec.get("serviceAccountName").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "default".to_owned(),
    };
    spec.insert("serviceAccountName".to_owned(), name.as_str().into());
    spec.insert("serviceAccount".to_owned(), name.as_str().into());
    let account = account(server, attributes, &name).await?;
    let view = View::new(&account);
    let spec = meta::object_at(pod, "spec");
    let wanted = spec
        .get("automountServiceAccountToken")
        .and_then(Value::as_bool)
        .or(view.bool("automountServiceAccountToken"))
        .unwrap_or(true);
    if wanted {
        mount(spec, &format!("kube-api-access-{}", suffix(server)));
    }
    let none = spec.get("imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty);
    let own = view.slice("imagePullSecrets");
    if none && !own.is_empty() {
        let names = own.iter().map(|secret| json!({ "name": View::new(secret).text("name") }));
        spec.insert("imagePullSecrets".to_owned(), names.collect());
    }
    if meta::annotation(&account, "kubernetes.io/enforce-mountable-secrets") == "true" {
        mountable(attributes, &account, spec)?;
    }
    Ok(())
}

async fn account(server: &Server, attributes: &Attributes<'_>, name: &str) -> Result<Value, Status> {
    let namespace = attributes.namespace;
    let deadline = Instant::now() + if name == "default" { DEFAULT_ACCOUNT } else { Duration::ZERO };
    loop {
        let seen = server.feed.applied().get();
        if let Some(account) = server.find("", "serviceaccounts", namespace, name).await? {
            return Ok(account.owned());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || tokio::time::timeout(left, server.feed.applied().beyond(seen)).await.is_err() {
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(attributes.refuse(why));
        }
    }
}

fn suffix(server: &Server) -> String {
    (0..5).map(|_| meta::NAME_ALPHABET[server.random() as usize % meta::NAME_ALPHABET.len()] as char).collect()
}

/// Adds the volume, and mounts it in every container that has nothing there.
fn mount(spec: &mut Map<String, Value>, name: &str) {
    let present = spec.get("volumes").and_then(Value::as_array).and_then(|volumes| {
        volumes.iter().map(|volume| View::new(volume).text("name")).find(|name| name.starts_with("kube-api-access-"))
    });
    let (volume, fresh) = match present {
        Some(own) => (own.to_owned(), false),
        None => (name.to_owned(), true),
    };
    let mut used = false;
    for list in ["initContainers", "containers"] {
        let Some(Value::Array(containers)) = spec.get_mut(list) else { continue };
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().any(|mount| View::new(mount).text("mountPath") == MOUNT) {
                continue;
            }
            mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": MOUNT }));
            used = true;
        }
    }
    if used
        && fresh
        && let Some(volumes) = spec.entry("volumes").or_insert_with(|| json!([])).as_array_mut()
    {
        volumes.push(json!({
            "name": volume,
            "projected": {
                "defaultMode": 420,
                "sources": [
                    { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
                    { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                    { "downwardAPI": { "items": [{
                        "path": "namespace",
                        "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                    }] } },
                ],
            },
        }));
    }
    // A container without mounts has no empty list either.
    for list in ["initContainers", "containers"] {
        let Some(Value::Array(containers)) = spec.get_mut(list) else { continue };
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            if container.get("volumeMounts").and_then(Value::as_array).is_some_and(Vec::is_empty) {
                container.remove("volumeMounts");
            }
        }
    }
}

/// The pod that a node shows for one of its own files may not reach for credentials.
fn mirror(attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    let spec = View::new(pod).at("spec");
    if !spec.text("serviceAccountName").is_empty() {
        return Err(attributes.refuse("a mirror pod may not reference service accounts"));
    }
    let references = crate::auth::node::references(pod);
    if !references.secrets.is_empty() {
        return Err(attributes.refuse("a mirror pod may not reference secrets"));
    }
    let token = spec
        .list("volumes")
        .any(|volume| volume.at("projected").list("sources").any(|source| source.has("serviceAccountToken")));
    if token {
        return Err(attributes.refuse("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

/// With the annotation, a pod uses no secret that its account does not name.
fn mountable(attributes: &Attributes<'_>, account: &Value, spec: &Map<String, Value>) -> Result<(), Status> {
    let account_name = meta::name(account);
    let allowed = |list: &str, name: &str| View::new(account).list(list).any(|secret| secret.text("name") == name);
    for volume in spec.get("volumes").and_then(Value::as_array).into_iter().flatten() {
        let secret = View::new(volume).at("secret").text("secretName");
        if !secret.is_empty() && !allowed("secrets", secret) {
            return Err(attributes.refuse(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {account_name} does not \
                 reference that secret"
            )));
        }
    }
    for pull in spec.get("imagePullSecrets").and_then(Value::as_array).into_iter().flatten() {
        let secret = View::new(pull).text("name");
        if !allowed("imagePullSecrets", secret) {
            return Err(attributes.refuse(format!(
                "imagePullSecrets[].name=\"{secret}\" is not allowed because service account {account_name} does not reference \
                 that imagePullSecret"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_gets_the_token_once() {
        let mut pod = json!({"spec": {
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT}]}],
        }});
        mount(meta::object_at(&mut pod, "spec"), "kube-api-access-x");
        assert_eq!(pod["spec"]["volumes"][0]["name"], "kube-api-access-x");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], MOUNT);
        assert_eq!(pod["spec"]["initContainers"][0]["volumeMounts"][0]["name"], "kube-api-access-x");
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        let once = pod.clone();
        mount(meta::object_at(&mut pod, "spec"), "kube-api-access-y");
        assert_eq!(pod, once);
    }
}
