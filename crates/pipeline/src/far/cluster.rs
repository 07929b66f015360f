//! What a run does in the cluster, in the name of its pipeline's ServiceAccount; and requests to the web.
//!
//! | step | arguments | like |
//! |---|---|---|
//! | `apply` | `file` or `yaml`, `namespace`, `force` | `kubectl apply --server-side` |
//! | `rollout` | `resource` (`deployment/NAME`), `timeout` in seconds | `kubectl rollout status` |
//! | `release` | `name`, `timeout` | waits for a `Release`, and fails where it was rolled back |
//! | `httpRequest` | as the plugin has it: `url`, `httpMode`, `requestBody`, `customHeaders`, `validResponseCodes`, `quiet` | |

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use client::connection::Credentials;
use futures::StreamExt;
use http::Request;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
    discovery::{self, Scope},
    runtime::WatchStreamExt as _,
};
use serde_json::{Value as Json, json};

use super::{Failure, Far, failed, flag, text};
use crate::{
    book,
    drive::Drive,
    run::world::{Ask, NOT_RESUMED},
    web,
};

/// Bytes of manifests.
const LONGEST: usize = 4 << 20;
/// Objects of one step.
const MOST: usize = 500;
/// Bytes of an answer from the web.
const ANSWER: usize = 8 << 20;
/// Seconds that a token is for: the shortest there are, and those of steps that wait.
const SHORT: i64 = 600;
const LONG: i64 = 3600;
/// How long a token is used of a step that waits, before it takes another.
const RENEWED: Duration = Duration::from_secs(3000);
/// How long a rollout is waited for, in seconds.
const ROLLOUT: f64 = 600.0;

/// A client in the name of the run's account, for so many seconds.
async fn client_of(drive: &Drive, seconds: i64) -> Result<Client, Failure> {
    let api: Api<ServiceAccount> = Api::namespaced(drive.inner.client.clone(), &drive.key.namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let made = api.create_token_request(&drive.begun.account, &PostParams::default(), &request).await?;
    let token = made.status.and_then(|status| status.token).unwrap_or_default();
    let settings = &drive.inner.settings;
    client::connection::https(&settings.api, &settings.authority, &Credentials::Token(token))
        .map_err(|error| failed(error.to_string()))
}

fn say(drive: &Drive, ask: &Ask, number: u64, line: &str) -> Result<(), Failure> {
    Ok(drive.book.text(&format!("step {}", ask.key), number, ask.place.stage_id.as_deref(), &format!("{line}\n"))?)
}

/// `apply`
pub(super) async fn apply(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let given = ["yaml", "text"].iter().map(|name| text(ask, name)).find(|text| !text.is_empty());
    let file = ["file", "value"].iter().map(|name| text(ask, name)).find(|text| !text.is_empty());
    let manifests = match (given, file) {
        (Some(text), _) => text.to_owned(),
        (None, Some(file)) => String::from_utf8(super::files::content(drive, ask, file).await?)
            .map_err(|_| failed(format!("{file} is no UTF-8")))?,
        (None, None) => return Err(failed("apply needs a file, or yaml")),
    };
    if manifests.len() > LONGEST {
        return Err(failed(format!("apply: more than {LONGEST} bytes")));
    }
    let parsed: Vec<Json> =
        serde_saphyr::from_multiple(&manifests).map_err(|error| failed(format!("apply: {error}")))?;
    let mut objects = Vec::new();
    for one in parsed.into_iter().filter(|one| !one.is_null()) {
        match one.get("items").and_then(Json::as_array) {
            Some(items) if one["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                objects.extend(items.clone())
            }
            _ => objects.push(one),
        }
    }
    if objects.len() > MOST {
        return Err(failed(format!("apply: more than {MOST} objects")));
    }
    let client = client_of(drive, SHORT).await?;
    let namespace = Some(text(ask, "namespace")).filter(|name| !name.is_empty()).unwrap_or(&drive.key.namespace);
    let mut applied = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        let (resource, name, result) = apply_one(&client, object, namespace, flag(ask, "force")).await?;
        say(drive, ask, number as u64 + 1, &format!("{}/{name} {result}", resource.kind.to_lowercase()))?;
        applied.push(json!({"kind": resource.kind, "name": name, "apiVersion": resource.api_version}));
    }
    Ok(Json::Array(applied))
}

async fn apply_one(
    client: &Client,
    object: &Json,
    namespace: &str,
    force: bool,
) -> Result<(ApiResource, String, &'static str), Failure> {
    let field = |name: &str| object.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
    let (version, kind) = (field("apiVersion"), field("kind"));
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if version.is_empty() || kind.is_empty() || name.is_empty() {
        return Err(failed("apply: an object has apiVersion, kind and metadata.name"));
    }
    let (group, version) = version.split_once('/').map_or(("", &*version), |parts| parts);
    let (resource, served) = discovery::pinned_kind(client, &GroupVersionKind::gvk(group, version, &kind)).await?;
    let api: Api<DynamicObject> = match served.scope {
        Scope::Namespaced => {
            let own = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
            Api::namespaced_with(client.clone(), own, &resource)
        }
        Scope::Cluster => Api::all_with(client.clone(), &resource),
    };
    let before = api.get_opt(&name).await?.and_then(|object| object.metadata.resource_version);
    let mut parameters = PatchParams::apply("madang-pipeline");
    parameters.force = force;
    let after = api.patch(&name, &parameters, &Patch::Apply(object)).await.map_err(|error| {
        let failure = Failure::from(error);
        failed(format!("{}/{name}: {}", kind.to_lowercase(), failure.message))
    })?;
    let result = match before {
        None => "created",
        Some(before) if Some(&before) == after.metadata.resource_version.as_ref() => "unchanged",
        Some(_) => "configured",
    };
    Ok((resource, name, result))
}

/// Whether a workload has what it is to have, or how far it is; upstream's `polymorphichelpers.StatusViewer` tells likewise.
fn rolled_out(object: &Json) -> Result<Option<String>, String> {
    let number = |path: &str| object.pointer(path).and_then(Json::as_i64).unwrap_or_default();
    if number("/metadata/generation") > number("/status/observedGeneration") {
        return Ok(Some("the controller has not seen it yet".into()));
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    let wanted = object.pointer("/spec/replicas").and_then(Json::as_i64).unwrap_or(1);
    Ok(match kind {
        "DaemonSet" => {
            let (wanted, updated) =
                (number("/status/desiredNumberScheduled"), number("/status/updatedNumberScheduled"));
            let available = number("/status/numberAvailable");
            (updated < wanted || available < wanted).then(|| format!("{available} of {wanted} pods are available"))
        }
        "StatefulSet" => {
            let (updated, ready) = (number("/status/updatedReplicas"), number("/status/readyReplicas"));
            (updated < wanted || ready < wanted).then(|| format!("{ready} of {wanted} pods are ready"))
        }
        _ => {
            let conditions = object.pointer("/status/conditions").and_then(Json::as_array).into_iter().flatten();
            for condition in conditions {
                if condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded" {
                    return Err("it has exceeded its progress deadline".into());
                }
            }
            let (updated, all, available) =
                (number("/status/updatedReplicas"), number("/status/replicas"), number("/status/availableReplicas"));
            if updated < wanted {
                Some(format!("{updated} of {wanted} pods are new"))
            } else if all > updated {
                Some(format!("{} old pods are left", all - updated))
            } else if available < updated {
                Some(format!("{available} of {updated} new pods are available"))
            } else {
                None
            }
        }
    })
}

/// What is said of an object while it is followed: how many lines, and the last one.
type Told = (u64, String);

/// Follows one object until `look` says that it is as it should be. Whoever waits longer than a token lives takes another.
async fn follow(
    drive: &Drive,
    ask: &Ask,
    api: impl Fn(Client) -> Api<DynamicObject>,
    name: &str,
    seconds: f64,
    look: impl Fn(&Json) -> Result<Option<String>, String>,
) -> Result<Json, Failure> {
    let limit = Duration::from_secs_f64(seconds.clamp(1.0, 86_400.0));
    let mut told = Told::default();
    let renewed = async {
        loop {
            let api = api(client_of(drive, LONG).await?);
            if let Ok(done) = tokio::time::timeout(RENEWED, watched(drive, ask, api, name, &look, &mut told)).await {
                return done;
            }
        }
    };
    match tokio::time::timeout(limit, renewed).await {
        Ok(done) => done,
        Err(_) => Err(failed(format!("{name} was not done in {seconds} seconds"))),
    }
}

async fn watched(
    drive: &Drive,
    ask: &Ask,
    api: Api<DynamicObject>,
    name: &str,
    look: &impl Fn(&Json) -> Result<Option<String>, String>,
    (said, last): &mut Told,
) -> Result<Json, Failure> {
    let config = kube::runtime::watcher::Config::default().fields(&format!("metadata.name={name}"));
    let stream = kube::runtime::watcher(api, config).default_backoff();
    futures::pin_mut!(stream);
    let mut initial = false;
    while let Some(event) = stream.next().await {
        use kube::runtime::watcher::Event;
        let object = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                initial = true;
                object
            }
            Ok(Event::Delete(_)) => return Err(failed(format!("{name} was deleted"))),
            Ok(Event::InitDone) if !initial => return Err(failed(format!("{name} is not there"))),
            Err(kube::runtime::watcher::Error::InitialListFailed(kube::Error::Api(status))) => {
                return Err(failed(status.message.clone()));
            }
            _ => continue,
        };
        let object = serde_json::to_value(object).map_err(|error| failed(error.to_string()))?;
        match look(&object) {
            Ok(None) => return Ok(object),
            Ok(Some(how)) if how != *last => {
                *said += 1;
                *last = how;
                say(drive, ask, *said, &format!("{name}: {last}"))?;
            }
            Ok(Some(_)) => {}
            Err(why) => return Err(failed(format!("{name}: {why}"))),
        }
    }
    Err(failed(format!("{name} is not watched any more")))
}

fn seconds(ask: &Ask, default: f64) -> f64 {
    match ask.arguments.get("timeout") {
        Some(Json::String(text)) => text.trim_end_matches('s').parse().unwrap_or(default),
        Some(value) => value.as_f64().unwrap_or(default),
        None => default,
    }
}

/// `rollout`
pub(super) async fn rollout(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let given = ["resource", "value", "name"].iter().map(|name| text(ask, name)).find(|text| !text.is_empty());
    let given = given.ok_or_else(|| failed("rollout needs a resource: deployment/NAME"))?;
    let (kind, name) = given.split_once('/').unwrap_or(("deployment", given));
    let kind = match kind.to_ascii_lowercase().as_str() {
        "deployment" | "deployments" | "deploy" | "deployment.apps" => "Deployment",
        "statefulset" | "statefulsets" | "sts" => "StatefulSet",
        "daemonset" | "daemonsets" | "ds" => "DaemonSet",
        other => return Err(failed(format!("rollout: {other} has no rollout"))),
    };
    let namespace = Some(text(ask, "namespace")).filter(|name| !name.is_empty()).unwrap_or(&drive.key.namespace);
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
    let api = |client| Api::namespaced_with(client, namespace, &resource);
    follow(drive, ask, api, name, seconds(ask, ROLLOUT), |object| {
        let mut object = object.clone();
        object["kind"] = kind.into();
        rolled_out(&object)
    })
    .await?;
    Ok(Json::Null)
}

/// `release`: a `Release` that was applied goes to its end.
pub(super) async fn release(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let name = ["name", "value"].iter().map(|name| text(ask, name)).find(|text| !text.is_empty());
    let name = name.ok_or_else(|| failed("release needs a name"))?;
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("madang.dev", "v1alpha1", "Release"), "releases");
    let api = |client| Api::namespaced_with(client, &drive.key.namespace, &resource);
    let done = follow(drive, ask, api, name, seconds(ask, 86_400.0), |object| {
        let status = |name: &str| object.pointer(&format!("/status/{name}")).and_then(Json::as_str).unwrap_or_default();
        let number = |path: &str| object.pointer(path).and_then(Json::as_i64).unwrap_or_default();
        if number("/metadata/generation") > number("/status/observedGeneration") {
            return Ok(Some("the controller has not seen it yet".into()));
        }
        match status("phase") {
            "Succeeded" => Ok(None),
            "RolledBack" => Err(format!("rolled back: {}", status("message"))),
            phase => Ok(Some(format!(
                "{phase}: step {} at {}%: {}",
                number("/status/step"),
                number("/status/weight"),
                status("message")
            ))),
        }
    })
    .await?;
    Ok(done.get("status").cloned().unwrap_or_default())
}

/// Whether a status is among those that the plugin writes `100:399,404`.
fn is_valid(codes: &str, status: u16) -> bool {
    codes.split(',').map(str::trim).any(|part| match part.split_once(':') {
        Some((from, to)) => {
            let parse = |text: &str| text.trim().parse::<u16>();
            matches!((parse(from), parse(to)), (Ok(from), Ok(to)) if (from..=to).contains(&status))
        }
        None => part.parse() == Ok(status),
    })
}

/// `httpRequest`
pub(super) async fn request(drive: &Arc<Drive>, ask: &Ask) -> Far {
    let url = ["url", "value"].iter().map(|name| text(ask, name)).find(|text| !text.is_empty());
    let url = url.ok_or_else(|| failed("httpRequest needs a url"))?;
    let mode = Some(text(ask, "httpMode")).filter(|mode| !mode.is_empty()).unwrap_or("GET").to_ascii_uppercase();
    if drive.noted(&ask.key).is_some() {
        let message =
            "the server was started again while the request was on its way: whether it was answered is not known";
        return Err(Failure { class: NOT_RESUMED, message: message.into() });
    }
    if !matches!(&*mode, "GET" | "HEAD" | "OPTIONS") {
        drive.note(ask, Json::Null).await?;
    }
    let mut request = Request::builder().method(mode.as_bytes()).uri(url);
    let kind = match text(ask, "contentType") {
        "APPLICATION_JSON" | "APPLICATION_JSON_UTF8" => "application/json",
        "APPLICATION_FORM" => "application/x-www-form-urlencoded",
        "TEXT_PLAIN" => "text/plain",
        "APPLICATION_XML" => "application/xml",
        _ => "",
    };
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    for header in ask.arguments.get("customHeaders").and_then(Json::as_array).into_iter().flatten() {
        let field = |name: &str| header.get(name).and_then(Json::as_str).unwrap_or_default();
        request = request.header(field("name"), field("value"));
    }
    let body = Bytes::from(text(ask, "requestBody").to_owned());
    let request = request.body(body).map_err(|error| failed(format!("httpRequest: {error}")))?;
    let limit = Duration::from_secs_f64(seconds(ask, 300.0).clamp(1.0, 3600.0));
    let answered = tokio::time::timeout(limit, async {
        let (_, response) = web::exchange(request).await?;
        let (parts, mut pieces) = response.into_parts();
        let mut content = Vec::new();
        while let Some(piece) = pieces.next().await {
            content.extend_from_slice(&piece?);
            if content.len() > ANSWER {
                return Err(std::io::Error::other(format!("the answer has more than {ANSWER} bytes")));
            }
        }
        Ok((parts, content))
    });
    let (parts, content) = answered.await.map_err(|_| failed(format!("{url} does not answer in time")))??;
    let status = parts.status.as_u16();
    if !flag(ask, "quiet") {
        let writer = book::of_step(&ask.key, ask.place.stage_id.as_deref());
        drive.book.begin(writer);
        drive.book.write(writer, format!("HttpMethod: {mode}\nURL: {url}\nResponse Code: {status}\n").as_bytes())?;
        drive.book.end(writer)?;
    }
    let valid = Some(text(ask, "validResponseCodes")).filter(|codes| !codes.is_empty()).unwrap_or("100:399");
    if !is_valid(valid, status) {
        return Err(failed(format!("Fail: the returned code {status} is not in the accepted range: {valid}")));
    }
    let headers: serde_json::Map<String, Json> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), json!([String::from_utf8_lossy(value.as_bytes())])))
        .collect();
    let content = String::from_utf8_lossy(&content).into_owned();
    Ok(json!({"status": status, "content": content, "headers": headers}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_done_when_all_that_is_wanted_is_there() {
        let deployment = |status: Json| json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": status});
        for (status, expected) in [
            (json!({"observedGeneration": 1}), Some("the controller has not seen it yet")),
            (json!({"observedGeneration": 2, "updatedReplicas": 1}), Some("1 of 3 pods are new")),
            (json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 4}), Some("1 old pods are left")),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 2}),
                Some("2 of 3 new pods are available"),
            ),
            (json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}), None),
        ] {
            assert_eq!(rolled_out(&deployment(status)).unwrap().as_deref(), expected);
        }
        let late = json!({"observedGeneration": 2, "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]});
        assert!(rolled_out(&deployment(late)).is_err());
    }

    #[test]
    fn valid_codes_are_ranges_and_single_ones() {
        for (codes, status, valid) in
            [("100:399", 200, true), ("100:399", 404, false), ("200,404", 404, true), ("x", 200, false)]
        {
            assert_eq!(is_valid(codes, status), valid, "{codes} {status}");
        }
    }
}
