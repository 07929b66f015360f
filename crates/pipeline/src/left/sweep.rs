//! The loop over pipelines that removes runs and artifacts which are not to be kept any more.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use client::{
    cache::{Cache, Key},
    queue::{Next, Queue},
};
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use task::Task;

use super::{
    artifacts,
    discard::{self, Discard, Run},
};
use crate::{
    kind::{Pipeline, PipelineRun, Retention},
    record::Records,
    result::Result as Outcome,
};

/// What is kept where nobody says it: Jenkins keeps all, until its disk is full.
const UNSAID: Retention = Retention { runs: Some(1000), days: None, artifact_runs: None, artifact_days: None };
/// The longest sleep: clocks are set, too.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

struct Inner {
    client: Client,
    pipelines: Cache<Pipeline>,
    runs: Cache<PipelineRun>,
    records: Records,
}

/// Removes what is not to be kept, as runs end and time goes by.
pub fn start(task: &Task, client: Client, pipelines: Cache<Pipeline>, runs: Cache<PipelineRun>, records: Records) {
    let queue: Queue<Key> = Queue::new(task);
    let listened = queue.clone();
    pipelines.listen(move |change| listened.add(change.key.clone()));
    let listened = queue.clone();
    runs.listen(move |change| {
        let final_now = change.new.as_ref().filter(|run| is_final(run));
        let final_before = change.old.as_ref().is_some_and(|run| is_final(run));
        if let Some(run) = final_now.filter(|_| !final_before) {
            listened.add(Key::new(&change.key.namespace, &run.spec.pipeline_ref.name));
        }
    });
    let inner = Arc::new(Inner { client, pipelines, runs, records });
    queue.run("retention", 1, move |key| {
        let inner = inner.clone();
        async move { inner.turn(&key).await.map_err(|error| format!("{error:#}")) }
    });
}

fn is_final(run: &PipelineRun) -> bool {
    run.status.as_ref().is_some_and(|status| status.phase.is_final())
}

/// A run, as far as retention looks at it.
fn facts(run: &PipelineRun) -> Option<Run> {
    let status = run.status.as_ref().filter(|status| status.number > 0)?;
    let made = run.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let ended = status.phase.is_final().then(|| status.result.as_deref().and_then(Outcome::named)).flatten();
    Some(Run {
        number: status.number,
        began: status.started.unwrap_or(made),
        // An end without a result is none that anybody wants to keep.
        ended: ended.or(status.phase.is_final().then_some(Outcome::NotBuilt)),
        pinned: run.spec.keep,
        artifacts: status.artifacts.is_some_and(|artifacts| artifacts.files > 0),
    })
}

impl Inner {
    async fn turn(&self, key: &Key) -> Result<Next> {
        self.runs.ready().await;
        let Some(pipeline) = self.pipelines.get(key) else { return Ok(Next::Done) };
        let declared = pipeline.status.as_ref().and_then(|status| status.retention);
        let rules = pipeline.spec.retention.or(declared).unwrap_or(UNSAID);
        let mut runs = self.runs.list_in(&key.namespace);
        runs.retain(|run| run.spec.pipeline_ref.name == *key.name && run.metadata.deletion_timestamp.is_none());
        let known: Vec<Run> = runs.iter().filter_map(|run| facts(run)).collect();
        let decision = discard::decide(&rules, &known, Timestamp::now());
        let api: Api<PipelineRun> = Api::namespaced(self.client.clone(), &key.namespace);
        for discard in decision.discard {
            let (Discard::Run(number) | Discard::Artifacts(number)) = discard;
            let Some(run) = runs.iter().find(|run| run.status.as_ref().is_some_and(|status| status.number == number))
            else {
                continue;
            };
            match discard {
                Discard::Run(_) => self.discard(&api, run).await?,
                Discard::Artifacts(_) => self.empty(&api, run).await?,
            }
        }
        Ok(decision.next.map_or(Next::Done, |at| {
            let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
            Next::After(left.min(LONGEST))
        }))
    }

    /// Removes a run; what it left on disk goes with its object.
    async fn discard(&self, api: &Api<PipelineRun>, run: &PipelineRun) -> Result<()> {
        let only = Preconditions { uid: run.uid(), resource_version: None };
        match api.delete(&run.name_any(), &DeleteParams::background().preconditions(only)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            done => done.map(drop).with_context(|| format!("remove the run {}", Key::of(run))),
        }
    }

    /// Removes a run's artifacts.
    async fn empty(&self, api: &Api<PipelineRun>, run: &PipelineRun) -> Result<()> {
        if let Some(record) = self.records.of(&run.uid().unwrap_or_default()) {
            let removed = tokio::task::spawn_blocking(move || artifacts::remove(&record.artifacts()));
            removed.await?.with_context(|| format!("remove the artifacts of {}", Key::of(run)))?;
        }
        let patch = json!({ "status": { "artifacts": null } });
        match api.patch_status(&run.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            done => done.map(drop).with_context(|| format!("note that {} has no artifacts", Key::of(run))),
        }
    }
}
