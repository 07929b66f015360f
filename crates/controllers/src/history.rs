//! The templates that a DaemonSet or StatefulSet had before, kept as ControllerRevisions: by them pods are told apart by age,
//! and `kubectl rollout undo` finds what to go back to.
//!
//! A revision holds the patch that brings its template back. One with the template that is wanted now is used again, with a
//! number above all others; else one is made, named by the template's hash.
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/>

use std::{collections::BTreeMap, sync::Arc};

use client::selector::matches;
use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, OwnerReference},
        runtime::RawExtension,
    },
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    deployment::revision::hash,
    pods::{Claim, claim, forgive_missing},
};

/// The label with a revision's hash, of pods and of revisions.
pub const HASH: &str = "controller-revision-hash";

/// Whose revisions.
#[derive(Clone, Debug)]
pub struct Owner<'a> {
    /// What they carry.
    pub reference: &'a OwnerReference,
    /// The namespace.
    pub namespace: &'a str,
    /// Their labels match this.
    pub selector: &'a LabelSelector,
    /// The labels of the template, which new revisions get.
    pub labels: BTreeMap<String, String>,
    /// Annotations that new revisions get.
    pub annotations: BTreeMap<String, String>,
    /// Whether the owner is being deleted.
    pub leaving: bool,
}

/// A revision's name.
pub fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

/// The patch that brings a template back.
pub fn patch_of(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    // The server fills this in with nothing where it was left out.
    if let Some(meta) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("creationTimestamp");
    }
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template that a revision holds.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Whether a revision holds that template.
fn holds(revision: &ControllerRevision, patch: &Value) -> bool {
    // Through the typed form, so that what only its spelling tells apart is the same.
    revision.data.0 == *patch || template_of(revision).is_some_and(|template| patch_of(&template) == *patch)
}

/// The owner's revisions, oldest first; orphans adopted and strangers released.
pub async fn claimed(
    client: &Client,
    owner: &Owner<'_>,
    all: Vec<Arc<ControllerRevision>>,
) -> kube::Result<Vec<Arc<ControllerRevision>>> {
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), owner.namespace);
    let uid = owner.reference.uid.as_str();
    let mut mine = Vec::new();
    for revision in all {
        let selected = matches(owner.selector, revision.metadata.labels.as_ref());
        let leaving = revision.metadata.deletion_timestamp.is_some();
        let patch = |owners: Value| {
            Patch::Strategic(json!({"metadata": {"uid": revision.metadata.uid, "ownerReferences": [owners]}}))
        };
        match claim(revision.metadata.owner_references.as_ref(), uid, selected, leaving) {
            Claim::Mine => mine.push(revision),
            Claim::Adopt if !owner.leaving => {
                let patch = patch(json!(owner.reference));
                let adopted = forgive_missing(api.patch(name(&revision), &PatchParams::default(), &patch).await)?;
                mine.extend(adopted.map(Arc::new));
            }
            Claim::Release => {
                let patch = patch(json!({"$patch": "delete", "uid": uid}));
                forgive_missing(api.patch(name(&revision), &PatchParams::default(), &patch).await)?;
            }
            Claim::Adopt | Claim::Foreign => {}
        }
    }
    mine.sort_by(|a, b| {
        let time = |revision: &ControllerRevision| revision.metadata.creation_timestamp.as_ref().map(|time| time.0);
        number(a).cmp(&number(b)).then_with(|| time(a).cmp(&time(b))).then_with(|| name(a).cmp(name(b)))
    });
    Ok(mine)
}

/// What makes a template's revision the newest.
#[derive(Debug, PartialEq)]
enum Step {
    /// It is already.
    Keep(usize),
    /// It was before: it gets this number.
    Raise(usize, i64),
    /// There is none: it is made with this number.
    Make(i64),
}

fn step(revisions: &[Arc<ControllerRevision>], patch: &Value) -> Step {
    let next = revisions.iter().map(|revision| number(revision)).max().unwrap_or(0) + 1;
    match revisions.iter().rposition(|revision| holds(revision, patch)) {
        Some(at) if at + 1 == revisions.len() => Step::Keep(at),
        Some(at) => Step::Raise(at, next),
        None => Step::Make(next),
    }
}

/// The revision of `template`, made or made the newest if need be, and the number of times that its name was taken by
/// another: it goes into the owner's status, so that the same name is found again.
pub async fn newest(
    client: &Client,
    owner: &Owner<'_>,
    revisions: &[Arc<ControllerRevision>],
    template: &PodTemplateSpec,
    mut collisions: i32,
) -> kube::Result<(Arc<ControllerRevision>, i32)> {
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), owner.namespace);
    let patch = patch_of(template);
    match step(revisions, &patch) {
        Step::Keep(at) => Ok((revisions[at].clone(), collisions)),
        Step::Raise(at, number) => {
            let mut raised = (*revisions[at]).clone();
            raised.revision = Some(number);
            let raised = api.replace(name(&revisions[at]), &PostParams::default(), &raised).await?;
            Ok((Arc::new(raised), collisions))
        }
        Step::Make(number) => loop {
            let hash = hash(template, collisions);
            let mut wanted = ControllerRevision {
                data: RawExtension(patch.clone()),
                metadata: Default::default(),
                revision: Some(number),
            };
            wanted.metadata.name = Some(format!("{}-{hash}", owner.reference.name));
            wanted.metadata.namespace = Some(owner.namespace.to_owned());
            let mut labels = owner.labels.clone();
            labels.insert(HASH.into(), hash);
            wanted.metadata.labels = Some(labels);
            wanted.metadata.annotations = Some(owner.annotations.clone()).filter(|all| !all.is_empty());
            wanted.metadata.owner_references = Some(vec![owner.reference.clone()]);
            match api.create(&PostParams::default(), &wanted).await {
                Ok(made) => return Ok((Arc::new(made), collisions)),
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let there = api.get(name(&wanted)).await?;
                    let ours = there.metadata.owner_references.iter().flatten().any(|known| known == owner.reference);
                    if ours && holds(&there, &patch) {
                        return Ok((Arc::new(there), collisions));
                    }
                    collisions += 1;
                }
                Err(error) => return Err(error),
            }
        },
    }
}

/// Deletes the oldest revisions that no pod is of, down to `limit` of them.
pub async fn clean_up(
    client: &Client,
    owner: &Owner<'_>,
    revisions: &[Arc<ControllerRevision>],
    used: impl Fn(&ControllerRevision) -> bool,
    limit: i32,
) -> kube::Result<()> {
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), owner.namespace);
    let unused: Vec<_> = revisions.iter().filter(|revision| !used(revision)).collect();
    let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for revision in &unused[..surplus] {
        match api.delete(name(revision), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "main", "image": image}]}}))
        .unwrap()
    }

    fn revision(number: i64, image: &str) -> Arc<ControllerRevision> {
        let data = RawExtension(patch_of(&template(image)));
        Arc::new(ControllerRevision { data, metadata: Default::default(), revision: Some(number) })
    }

    #[test]
    fn a_template_that_was_there_before_becomes_the_newest_again() {
        let all = [revision(1, "a:1"), revision(2, "a:2")];
        assert_eq!(step(&all, &patch_of(&template("a:2"))), Step::Keep(1));
        assert_eq!(step(&all, &patch_of(&template("a:1"))), Step::Raise(0, 3));
        assert_eq!(step(&all, &patch_of(&template("a:3"))), Step::Make(3));
        assert_eq!(step(&[], &patch_of(&template("a:3"))), Step::Make(1));
        assert_eq!(template_of(&all[0]), Some(template("a:1")));
    }
}
