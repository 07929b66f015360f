//! The loop over `Repository` objects: makes what they name, tells in their status what is in it, removes it with them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use client::{cache::Key, queue::Next};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    Inner,
    kind::{Repository, Status},
    record, uid,
};

/// Keeps an object until its files are gone.
const FINALIZER: &str = "madang.dev/repository";

/// One look at one object.
pub(super) async fn turn(inner: &Arc<Inner>, key: &Key) -> Result<Next> {
    let Some(object) = inner.objects.get(key) else { return Ok(Next::Done) };
    let api: Api<Repository> = Api::namespaced(inner.client.clone(), &key.namespace);
    let held = object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    if object.metadata.deletion_timestamp.is_some() {
        if held {
            remove(inner, &object).await?;
            finalizers(&api, &object, |all| all.retain(|each| each != FINALIZER)).await?;
        }
        return Ok(Next::Done);
    }
    if !held {
        finalizers(&api, &object, |all| all.push(FINALIZER.to_owned())).await?;
    }
    tell(inner, key, &object, &api).await
}

/// What is there, compared with what the status says.
async fn tell(inner: &Arc<Inner>, key: &Key, object: &Repository, api: &Api<Repository>) -> Result<Next> {
    let uid = uid(&object.metadata)?;
    // Before the references are read: what comes meanwhile is told in the next turn.
    let seen = inner.pushers.lock().expect("pushers lock").get(&uid).cloned().unwrap_or_default();
    let before = object.status.clone().unwrap_or_default();
    let (mut status, opened) = match inner.open(object).await {
        Ok(repository) => {
            let wanted = format!("refs/heads/{}", object.spec.branch());
            let references = repository.references();
            // A branch that never came gives way to the first that was pushed.
            let there = references.get(&wanted).is_some() || references.iter().next().is_none();
            if references.head() != wanted && there {
                let (repository, branch) = (repository.clone(), object.spec.branch().to_owned());
                tokio::task::spawn_blocking(move || repository.set_head(&branch))
                    .await?
                    .context("set the default branch")?;
            }
            let references = repository.references();
            let (listed, truncated) = record::listed(&references);
            let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let mut status = record::pushed(&before, &listed, &seen, &time).unwrap_or_else(|| before.clone());
            status.head = references.get(references.head()).map(|target| target.id.to_string());
            (status.bytes, status.truncated) = (repository.size(), truncated);
            (status, Ok(()))
        }
        Err(error) => (before.clone(), Err(error)),
    };
    status.path = format!("/git/{}/{}.git", key.namespace, key.name);
    ready(&mut status, object, &opened);
    if object.status.as_ref() != Some(&status) {
        // With the version that was read: what another server wrote meanwhile is looked at again.
        let patch = json!({"metadata": {"resourceVersion": object.metadata.resource_version}, "status": status});
        let done = api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        done.with_context(|| format!("tell the status of repository {key}"))?;
    }
    let mut pushers = inner.pushers.lock().expect("pushers lock");
    if let Some(left) = pushers.get_mut(&uid) {
        left.drain(..seen.len().min(left.len()));
        if left.is_empty() {
            pushers.remove(&uid);
        }
    }
    drop(pushers);
    opened.map(|()| Next::Done)
}

fn ready(status: &mut Status, object: &Repository, opened: &Result<()>) {
    let (holds, reason, message) = match opened {
        Ok(()) => ("True", "Served", String::new()),
        Err(error) => ("False", "Unreadable", format!("{error:#}")),
    };
    let same = status.conditions.iter().find(|each| each.type_ == "Ready" && each.status == holds);
    let since = same.map_or_else(|| Time(jiff::Timestamp::now()), |each| each.last_transition_time.clone());
    status.conditions = vec![Condition {
        type_: "Ready".to_owned(),
        status: holds.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation: object.metadata.generation,
    }];
}

async fn finalizers(api: &Api<Repository>, object: &Repository, change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
    let mut all = object.metadata.finalizers.clone().unwrap_or_default();
    change(&mut all);
    let meta = json!({"resourceVersion": object.metadata.resource_version, "finalizers": all});
    let name = object.metadata.name.as_deref().unwrap_or_default();
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&json!({"metadata": meta}))).await {
        Ok(_) => Ok(()),
        // It has gone meanwhile, with whoever else held it.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("change the finalizers of repository {}", Key::of(object))),
    }
}

async fn remove(inner: &Arc<Inner>, object: &Repository) -> Result<()> {
    let uid = uid(&object.metadata)?;
    inner.open.lock().expect("repositories lock").remove(&uid);
    inner.pushers.lock().expect("pushers lock").remove(&uid);
    match tokio::fs::remove_dir_all(inner.place(&uid)).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("remove the files of repository {}", Key::of(object))),
    }
}
