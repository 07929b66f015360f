//! The loop: one turn a release when it is due.

use std::time::Duration;

use client::{
    cache::{Cache, Key, Scope},
    events::{Recorder, Severity},
    queue::{Next, Queue},
};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use task::Task;

use crate::{
    kind::{Phase, Release, Status},
    policy,
    prometheus::Prometheus,
    route,
};

/// After what cannot be done now.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Controller {
    client: Client,
    releases: Cache<Release>,
    prometheus: Prometheus,
    events: Recorder,
}

/// Follows releases until `task` ends. Questions go to `prometheus`.
pub fn run(task: &Task, client: &Client, prometheus: Prometheus) {
    let queue: Queue<Key> = Queue::new(task);
    let releases: Cache<Release> = Cache::idle();
    let add = queue.clone();
    releases.listen(move |change| {
        let generation = |of: &Option<std::sync::Arc<Release>>| of.as_ref().map(|one| one.metadata.generation);
        if generation(&change.old) != generation(&change.new) {
            add.add(change.key.clone());
        }
    });
    releases.start(task, Api::all(client.clone()), Scope::default());
    let controller = Controller {
        client: client.clone(),
        releases,
        prometheus,
        events: Recorder::new(task, client, "release", None),
    };
    queue.run("release", 2, move |key| {
        let controller = controller.clone();
        async move { controller.turn(&key).await }
    });
}

impl Controller {
    async fn turn(&self, key: &Key) -> kube::Result<Next> {
        self.releases.ready().await;
        // What this loop has written itself may not be in the cache yet: it counts on what it wrote.
        let api: Api<Release> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(release) = api.get_opt(&key.name).await? else { return Ok(Next::Done) };
        if release.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let (spec, now) = (&release.spec, Timestamp::now());
        let generation = release.metadata.generation.unwrap_or_default();
        if let Err(why) = policy::check(spec) {
            let mut status = release.status.clone().unwrap_or_default();
            status.message = why;
            status.observed_generation = generation;
            self.say(&api, &release, status).await?;
            return Ok(Next::Done);
        }
        let mut status = policy::begin(spec, release.status.as_ref(), generation, now);
        for metric in policy::questions(spec, &status, now) {
            let (verdict, message) = self.prometheus.judge(&key.namespace, spec, metric).await;
            policy::answered(&mut status, &metric.name, verdict, message, Timestamp::now());
        }
        let next = policy::advance(spec, &mut status, Timestamp::now());
        let ended_before = release.status.as_ref().is_some_and(|old| old.phase.is_final() && old.plan == status.plan);
        // The weight first: a status must not say what is not so yet. What has ended is left to others.
        if !ended_before && let Err(why) = self.weigh(key, &release, status.weight).await? {
            status.message = why;
            status.phase = Phase::Progressing;
            status.ended = None;
            self.say(&api, &release, status).await?;
            return Ok(Next::After(AGAIN));
        }
        self.say(&api, &release, status).await?;
        Ok(next.map_or(Next::Done, Next::After))
    }

    /// Writes the canary's part into the route; why it cannot be, if so.
    async fn weigh(&self, key: &Key, release: &Release, percent: u32) -> kube::Result<Result<(), String>> {
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
        let resource = ApiResource::from_gvk_with_plural(&kind, "httproutes");
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let name = &release.spec.route.name;
        let Some(found) = api.get_opt(name).await? else {
            return Ok(Err(format!("there is no HTTPRoute {name} in {}", key.namespace)));
        };
        let found: Value = serde_json::to_value(found).map_err(kube::Error::SerdeError)?;
        let changed = match route::weighed(&found, &release.spec, percent) {
            Ok(Some(changed)) => changed,
            Ok(None) => return Ok(Ok(())),
            Err(why) => return Ok(Err(why)),
        };
        let changed: DynamicObject = serde_json::from_value(changed).map_err(kube::Error::SerdeError)?;
        // With the version that was read: somebody else's change in between is a conflict, and this turn is taken again.
        api.replace(name, &PostParams::default(), &changed).await?;
        Ok(Ok(()))
    }

    async fn say(&self, api: &Api<Release>, release: &Release, status: Status) -> kube::Result<()> {
        let old = release.status.as_ref();
        if old == Some(&status) {
            return Ok(());
        }
        if old.is_none_or(|old| (old.phase, old.step) != (status.phase, status.step)) {
            let (severity, reason) = match status.phase {
                Phase::Progressing => (Severity::Normal, "Step"),
                Phase::Paused => (Severity::Normal, "Paused"),
                Phase::Succeeded => (Severity::Normal, "Succeeded"),
                Phase::RolledBack => (Severity::Warning, "RolledBack"),
            };
            self.events.say(&release.object_ref(&()), severity, reason, status.message.clone());
        }
        let name = release.metadata.name.as_deref().unwrap_or_default();
        let version = release.metadata.resource_version.clone();
        let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }
}
