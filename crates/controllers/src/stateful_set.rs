//! StatefulSet: pods with names, claims and an order.
//!
//! ```text
//! revisions ─► current and update ─► [`plan`] ─► claims, pods ─► status
//! ```
//! [`identity`] tells what belongs to an ordinal, [`plan`] what is done next.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/>

mod identity;
mod plan;

use std::sync::Arc;

use client::{
    cache::Key,
    events::Severity,
    queue::{Next, Queue},
    selector::matches,
};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{ObjectReference, PersistentVolumeClaim, Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, PostParams, Preconditions},
};
use task::Task;

use self::{
    identity::{claim_name, claim_owners, claims_of, is_stale, label, ordinal, pod_of, range, reference, revision},
    plan::{Action, Known},
};
use crate::{
    caches::Caches,
    expectations::Written,
    hands::{Hands, is_ending, refusal},
    history::{self, name},
    ownership::Owner,
    pods::controller_of,
};

const COMPONENT: &str = "statefulset-controller";

#[derive(Clone)]
struct Controller {
    hands: Hands,
    caches: Caches,
    written: Arc<Written>,
}

/// Runs the controller.
pub fn run(task: &Task, client: &Client, caches: &Caches) {
    let queue: Queue<Key> = Queue::new(task);
    let add = queue.clone();
    caches.stateful_sets.listen(move |change| add.add(change.key.clone()));
    let (add, sets) = (queue.clone(), caches.stateful_sets.clone());
    caches.pods.listen(move |change| {
        for pod in [&change.old, &change.new].into_iter().flatten() {
            match controller_of(pod.metadata.owner_references.as_ref()) {
                Some(owner) if owner.kind == "StatefulSet" => add.add(Key::new(&change.key.namespace, &owner.name)),
                Some(_) => {}
                None => {
                    for set in sets.list_in(&change.key.namespace) {
                        if matches(&set.spec.selector, pod.metadata.labels.as_ref()) {
                            add.add(Key::of(&*set));
                        }
                    }
                }
            }
        }
    });
    // A pod may wait for the end of a claim of the same name.
    let (add, sets) = (queue.clone(), caches.stateful_sets.clone());
    caches.claims.listen(move |change| {
        if change.new.is_none() {
            let all = sets.list_in(&change.key.namespace);
            let named = |set: &&Arc<StatefulSet>| change.key.name.contains(&format!("-{}-", identity::set_name(set)));
            all.iter().filter(named).for_each(|set| add.add(Key::of(&**set)));
        }
    });
    let controller =
        Controller { hands: Hands::new(task, client, COMPONENT), caches: caches.clone(), written: Arc::default() };
    queue.run("stateful set", 2, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// The two templates that pods may be of.
struct Templates {
    current: PodTemplateSpec,
    current_name: String,
    update_name: String,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> kube::Result<Next> {
        self.caches.stateful_sets.ready().await;
        self.caches.pods.ready().await;
        self.caches.revisions.ready().await;
        self.caches.claims.ready().await;
        let Some(set) = self.caches.stateful_sets.get(key) else {
            self.written.forget(key);
            return Ok(Next::Done);
        };
        if self.written.outdated(key, set.metadata.resource_version.as_deref()) {
            return Ok(Next::Done);
        }
        let spec = &set.spec;
        let leaving = set.metadata.deletion_timestamp.is_some();
        let reference = reference(&set);
        let owner = history::Owner {
            reference: &reference,
            namespace: &key.namespace,
            selector: &spec.selector,
            labels: spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default(),
            annotations: set.metadata.annotations.clone().unwrap_or_default(),
            leaving,
        };
        let client = &self.hands.client;
        let pods = Owner {
            reference: &reference,
            plural: "statefulsets",
            namespace: &key.namespace,
            selector: &spec.selector,
            leaving,
            finalizer: None,
        }
        .claim(client, self.caches.pods.list_in(&key.namespace), |pod| ordinal(&set, pod).is_some())
        .await?;
        let revisions = history::claimed(client, &owner, self.caches.revisions.list_in(&key.namespace)).await?;
        if leaving {
            return Ok(Next::Done);
        }
        let status = set.status.as_ref();
        let collisions = status.and_then(|status| status.collision_count).unwrap_or(0);
        let (update, collisions) = history::newest(client, &owner, &revisions, &spec.template, collisions).await?;
        let known = status.and_then(|status| status.current_revision.as_deref());
        let current = revisions.iter().find(|revision| Some(name(revision)) == known).unwrap_or(&update);
        let templates = Templates {
            current: history::template_of(current).unwrap_or_else(|| spec.template.clone()),
            current_name: name(current).to_owned(),
            update_name: name(&update).to_owned(),
        };
        let known = Known {
            set: &set,
            pods: &pods,
            current: &templates.current_name,
            update: &templates.update_name,
            now: Timestamp::now(),
        };
        let mut plan = known.plan();
        let done = self.act(&set, &templates, &pods, plan.actions).await;
        plan.status.collision_count = Some(collisions);
        plan.status.conditions = status.and_then(|status| status.conditions.clone());
        if status != Some(&plan.status) {
            let mut whole = (*set).clone();
            whole.status = Some(plan.status);
            let api: Api<StatefulSet> = Api::namespaced(client.clone(), &key.namespace);
            let written = api.replace_status(&key.name, &PostParams::default(), &whole).await?;
            self.written.note(key, written.metadata.resource_version.as_deref());
        }
        done?;
        let used = |candidate: &ControllerRevision| {
            let own = name(candidate);
            own == templates.current_name || own == templates.update_name || pods.iter().any(|pod| revision(pod) == own)
        };
        let limit = spec.revision_history_limit.unwrap_or(10);
        history::clean_up(client, &owner, &revisions, used, limit).await?;
        Ok(plan.again.map_or(Next::Done, Next::After))
    }

    async fn act(
        &self,
        set: &StatefulSet,
        templates: &Templates,
        pods: &[Arc<Pod>],
        actions: Vec<Action>,
    ) -> kube::Result<()> {
        self.keep_claims(set, pods).await?;
        let outcomes = join_all(actions.into_iter().map(|action| self.one(set, templates, action))).await;
        outcomes.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    async fn one(&self, set: &StatefulSet, templates: &Templates, action: Action) -> kube::Result<()> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        match action {
            Action::Create { ordinal, updated } => {
                let (template, revision) = if updated {
                    (&set.spec.template, &templates.update_name)
                } else {
                    (&templates.current, &templates.current_name)
                };
                self.create(set, pod_of(set, template, revision, ordinal), ordinal).await
            }
            Action::Claims(ordinal) => self.claims(set, ordinal).await,
            Action::Mend(pod, ordinal) => {
                let mut mended = (*pod).clone();
                label(set, &mut mended, ordinal);
                let api: Api<Pod> = Api::namespaced(self.hands.client.clone(), namespace);
                api.replace(pod.metadata.name.as_deref().unwrap_or_default(), &PostParams::default(), &mended)
                    .await
                    .map(drop)
            }
            Action::Delete(pod) => self.delete(set, &pod).await,
        }
    }

    async fn create(&self, set: &StatefulSet, pod: Pod, ordinal: i32) -> kube::Result<()> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let pod_name = pod.metadata.name.clone().unwrap_or_default();
        for claim in claims_of(set, ordinal) {
            let there = self.caches.claims.get(&Key::of(&claim));
            let leaves = |claim: &PersistentVolumeClaim| {
                claim.metadata.deletion_timestamp.is_some() || is_stale(claim, &pod_name, None)
            };
            if there.is_some_and(|claim| leaves(&claim)) {
                // Its end brings the next turn.
                return Ok(());
            }
        }
        self.claims(set, ordinal).await?;
        let api: Api<Pod> = Api::namespaced(self.hands.client.clone(), namespace);
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => {
                self.tell(set, Severity::Normal, "SuccessfulCreate", &format!("create Pod {pod_name}"), "successful");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) if is_ending(&error) => Ok(()),
            Err(error) => {
                let failed = format!("failed error: {}", refusal(&error));
                self.tell(set, Severity::Warning, "FailedCreate", &format!("create Pod {pod_name}"), &failed);
                Err(error)
            }
        }
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> kube::Result<()> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.hands.client.clone(), namespace);
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(pod_name, &params).await {
            Ok(_) => {
                self.tell(set, Severity::Normal, "SuccessfulDelete", &format!("delete Pod {pod_name}"), "successful");
                Ok(())
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => {
                let failed = format!("failed error: {}", refusal(&error));
                self.tell(set, Severity::Warning, "FailedDelete", &format!("delete Pod {pod_name}"), &failed);
                Err(error)
            }
        }
    }

    fn tell(&self, set: &StatefulSet, severity: Severity, reason: &str, what: &str, outcome: &str) {
        let about: ObjectReference = set.object_ref(&());
        let message = format!("{what} in StatefulSet {} {outcome}", identity::set_name(set));
        self.hands.events.say(&about, severity, reason, message);
    }

    /// Makes the claims of an ordinal that are missing.
    async fn claims(&self, set: &StatefulSet, ordinal: i32) -> kube::Result<()> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.hands.client.clone(), namespace);
        for mut claim in claims_of(set, ordinal) {
            if self.caches.claims.get(&Key::of(&claim)).is_some() {
                continue;
            }
            let owners = claim_owners(set, &claim, None, true);
            claim.metadata.owner_references = Some(owners).filter(|all| !all.is_empty());
            let what = format!(
                "create Claim {} Pod {}-{ordinal}",
                claim.metadata.name.as_deref().unwrap_or_default(),
                identity::set_name(set)
            );
            match api.create(&PostParams::default(), &claim).await {
                Ok(_) => self.tell(set, Severity::Normal, "SuccessfulCreate", &what, "success"),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) if is_ending(&error) => return Ok(()),
                Err(error) => {
                    let failed = format!("failed error: {}", refusal(&error));
                    self.tell(set, Severity::Warning, "FailedCreate", &what, &failed);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Puts the owners of all claims right, so that each goes with whom the policy names.
    async fn keep_claims(&self, set: &StatefulSet, pods: &[Arc<Pod>]) -> kube::Result<()> {
        let templates = set.spec.volume_claim_templates.as_deref().unwrap_or_default();
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.hands.client.clone(), namespace);
        let (start, end) = range(set);
        for pod in pods {
            let Some(ordinal) = ordinal(set, pod) else { continue };
            for template in templates {
                let key = Key::new(namespace, &claim_name(set, template, ordinal));
                let Some(claim) = self.caches.claims.get(&key) else { continue };
                let owners = claim_owners(set, &claim, Some(pod), (start..end).contains(&ordinal));
                if same_owners(claim.metadata.owner_references.as_deref().unwrap_or_default(), &owners) {
                    continue;
                }
                let mut changed = (*claim).clone();
                changed.metadata.owner_references = Some(owners);
                api.replace(&key.name, &PostParams::default(), &changed).await?;
            }
        }
        Ok(())
    }
}

fn same_owners(a: &[OwnerReference], b: &[OwnerReference]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.uid == b.uid && a.controller == b.controller)
}
