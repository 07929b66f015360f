//! The loop over pipelines that starts what is to start.
//!
//! ```text
//! Pipeline, Repository change ─┐
//! clock                        ├─► turn: decide ─► make runs ─► note in the status up to where
//! webhook, `look`              ┘
//! ```
//!
//! A run's name is made from what it is started by. A turn that was interrupted between making runs and noting it is done again, and finds the
//! runs there already: each starts once, also over a kill.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use client::{
    cache::{Cache, Key},
    queue::{Next, Queue},
};
use git::remote::Remote;
use http::{HeaderMap, Request, Response, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use ring::digest::{SHA256, digest};
use serde_json::{Map, json};
use serve::{Body, body};
use task::Task;

use super::{
    change::{self, Changed},
    due, hook,
    pushed::{self, Asked, Wanted},
};
use crate::{
    kind::{Branch, Cause, Pipeline, PipelineRun, UpstreamRun, begun},
    left::parcel::hex,
    login::{self, Login},
    repositories::kind::Repository,
    result::Result as Outcome,
};

/// Webhooks that are read at once.
const READERS: usize = 4;
/// How long a server elsewhere may take to tell its references.
const PATIENCE: Duration = Duration::from_secs(60);
/// Changes of one pipeline that wait for their runs.
const MOST_CHANGES: usize = 100;
/// The longest sleep: clocks are set, too.
const LONGEST: Duration = Duration::from_secs(3600);

/// Starts runs. Cloning shares it.
#[derive(Clone)]
pub struct Starter(Arc<Inner>);

struct Inner {
    client: Client,
    pipelines: Cache<Pipeline>,
    repositories: Cache<Repository>,
    queue: Queue<Key>,
    /// Pipelines whose repository is to be looked at, and why.
    asked: Mutex<HashSet<Key>>,
    /// Changes that webhooks told of, whose runs are to start.
    changed: Mutex<HashMap<Key, Vec<Changed>>>,
    /// Webhooks that were taken, by the pipeline's UID.
    seen: Mutex<HashMap<String, hook::Seen>>,
    /// Where they are kept.
    dir: PathBuf,
    readers: tokio::sync::Semaphore,
}

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Starter")
    }
}

impl Starter {
    /// Follows pipelines and repositories. Webhooks that were taken are kept in `dir`.
    pub fn start(
        task: &Task,
        dir: PathBuf,
        client: Client,
        pipelines: Cache<Pipeline>,
        repositories: Cache<Repository>,
    ) -> Self {
        let queue = Queue::new(task);
        let listened = queue.clone();
        pipelines.listen(move |change| listened.add(change.key.clone()));
        let (listened, known) = (queue.clone(), pipelines.clone());
        repositories.listen(move |change| {
            for pipeline in known.list_in(&change.key.namespace) {
                if pipeline.spec.repository.as_ref().is_some_and(|repository| *repository.name == *change.key.name) {
                    listened.add(Key::of(&*pipeline));
                }
            }
        });
        let (asked, changed, seen) = Default::default();
        let readers = tokio::sync::Semaphore::new(READERS);
        let inner = Inner { client, pipelines, repositories, queue, asked, changed, seen, dir, readers };
        let starter = Self(Arc::new(inner));
        let working = starter.clone();
        starter.0.queue.run("triggers", 2, move |key| {
            let starter = working.clone();
            async move { starter.0.turn(&key).await.map_err(|error| format!("{error:#}")) }
        });
        starter
    }

    /// Has a pipeline's repository looked at now.
    pub fn look(&self, key: &Key) {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        self.0.queue.add(key.clone());
    }

    /// Answers a forge's request about a pipeline.
    pub async fn hook(&self, namespace: &str, name: &str, request: Request<Body>) -> Response<Body> {
        let (status, text) = match self.0.hooked(&Key::new(namespace, name), request).await {
            Ok(text) => (StatusCode::ACCEPTED, text),
            Err((status, text)) => (status, text),
        };
        let mut response = Response::new(body::full(format!("{text}\n")));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

impl Inner {
    async fn turn(&self, key: &Key) -> Result<Next> {
        self.repositories.ready().await;
        let Some(pipeline) = self.pipelines.get(key) else { return Ok(Next::Done) };
        if pipeline.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let now = Timestamp::now();
        let status = pipeline.status.clone().unwrap_or_default();
        let triggers = due::triggers(&pipeline);
        let mut noted = Map::new();
        let mut next = None;
        let mut wake = |at: Option<Timestamp>| next = [next, at].into_iter().flatten().min();
        if let Some(repository) = pipeline.spec.repository.as_ref() {
            let found = self.repositories.get(&Key::new(&key.namespace, &repository.name));
            if let Some(there) = found.as_deref().and_then(|found| Some((found, found.status.as_ref()?))) {
                let (push, at) = self.pushed(&pipeline, triggers.push, there, now).await?;
                wake(at);
                if status.push != Some(push) {
                    noted.insert("push".into(), push.into());
                }
            }
        }
        // A pipeline's times count from when they are first seen.
        let fired = status.fired.unwrap_or(now);
        let seed = key.to_string();
        let (clock, wrong) = due::clock(&triggers, &seed, fired, now);
        wake(clock.next);
        for error in wrong {
            tracing::warn!(pipeline = seed, error, "a time of a trigger");
        }
        if let Some(at) = clock.run.filter(|_| !pipeline.spec.suspend) {
            let cause = Cause { kind: "timer".into(), ..Cause::default() };
            make(&self.client, &pipeline, cause, None, &["timer", &at.to_string()]).await?;
        }
        self.start_changes(&pipeline, key).await?;
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if (asked || clock.look.is_some()) && pipeline.spec.git.is_some() && !pipeline.spec.suspend {
            let cause = if asked { "webhook" } else { "scm" };
            let since = status.fired.or(pipeline.creation_timestamp().map(|time| time.0)).unwrap_or_default();
            match self.looked(&pipeline, cause, &since.to_string()).await {
                Ok(branches) if branches == status.branches => {}
                Ok(branches) => drop(noted.insert("branches".into(), json!(branches))),
                Err(error) => {
                    // It stays asked for; the queue tries again, later each time.
                    if asked {
                        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
                    }
                    return Err(error);
                }
            }
        }
        let times = !triggers.cron.is_empty() || !triggers.poll.is_empty();
        if clock.run.is_some()
            || clock.look.is_some()
            || noted.contains_key("branches")
            || times && status.fired.is_none()
        {
            noted.insert("fired".into(), now.to_string().into());
        }
        if !noted.is_empty() {
            self.note(&pipeline, noted).await?;
        }
        Ok(next.map_or(Next::Done, |at| {
            let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
            Next::After(left.min(LONGEST))
        }))
    }

    /// Starts what pushes start; up to which push, and when to look again.
    async fn pushed(
        &self,
        pipeline: &Pipeline,
        wanted: Option<bool>,
        (repository, there): (&Repository, &crate::repositories::kind::Status),
        now: Timestamp,
    ) -> Result<(u64, Option<Timestamp>)> {
        let status = pipeline.status.clone().unwrap_or_default();
        let made = pipeline.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let asked = Asked {
            patterns: &pipeline.spec.branches,
            default: repository.spec.branch(),
            acted: status.push,
            made,
            quiet: SignedDuration::from_secs(status.quiet.unwrap_or(0).into()),
        };
        let decision = pushed::decide(asked, there, now);
        if wanted == Some(false) || pipeline.spec.suspend {
            return Ok((decision.push, decision.next));
        }
        let uid = repository.uid().unwrap_or_default();
        for one in &decision.start {
            let cause = Cause { kind: "scm".into(), user: one.user.clone(), ..Cause::default() };
            make(&self.client, pipeline, cause, Some(one), &["push", &uid, &one.push.to_string(), &one.branch]).await?;
        }
        Ok((decision.push, decision.next))
    }

    /// Starts runs of the changes that webhooks told of. What does not go stays, and the queue tries again.
    async fn start_changes(&self, pipeline: &Pipeline, key: &Key) -> Result<()> {
        let all = self.changed.lock().unwrap_or_else(PoisonError::into_inner).remove(key).unwrap_or_default();
        for (at, changed) in all.iter().enumerate() {
            let Changed { reference, commit, change } = changed.clone();
            if pipeline.spec.suspend || !change::fits(&pipeline.spec.branches, &reference) {
                continue;
            }
            let cause = Cause { kind: "webhook".into(), user: change.author.clone(), ..Cause::default() };
            let mut run = begun(pipeline, cause);
            // The commit that counts is what the repository has there then, not what somebody says.
            run.spec.branch = Some(reference.clone());
            run.spec.change = Some(change);
            if let Err(error) = create(&self.client, pipeline, run, &["change", &reference, &commit]).await {
                let mut left = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
                left.entry(key.clone()).or_default().extend(all[at..].iter().cloned());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes a change whose run is to start; what is to be told to the forge.
    fn note_change(&self, pipeline: &Pipeline, key: &Key, changed: Changed) -> String {
        let reference = changed.reference.clone();
        if pipeline.spec.git.is_none() || !change::fits(&pipeline.spec.branches, &reference) {
            return format!("{reference} starts nothing: no pattern of spec.branches is about it");
        }
        let mut all = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.entry(key.clone()).or_default();
        // Of a change only the newest counts.
        waiting.retain(|other| other.reference != reference);
        waiting.push(changed);
        drop(all);
        self.queue.add(key.clone());
        format!("a run of {reference} starts")
    }

    /// Looks at a repository elsewhere, and starts what is new there; what is known then.
    async fn looked(&self, pipeline: &Pipeline, cause: &str, fired: &str) -> Result<Vec<Branch>> {
        let status = pipeline.status.clone().unwrap_or_default();
        let git = pipeline.spec.git.as_ref().context("the pipeline names no repository elsewhere")?;
        let namespace = pipeline.namespace().unwrap_or_default();
        let asked = async {
            let Login { authorization, ways } =
                login::of(&self.client, &namespace, &git.url, git.credentials_id.as_deref()).await?;
            let remote = Remote::open(&git.url, authorization.as_deref(), &ways).await?;
            Ok::<_, anyhow::Error>(
                remote.references(&["HEAD".into(), "refs/heads/".into(), "refs/tags/".into()]).await?,
            )
        };
        let references = tokio::time::timeout(PATIENCE, asked)
            .await
            .with_context(|| format!("look at {}: no answer in {} s", git.url, PATIENCE.as_secs()))?
            .with_context(|| format!("look at {}", git.url))?;
        let head = references.iter().find(|reference| reference.name == "HEAD");
        let default = head.and_then(|head| head.symbolic.as_deref()).and_then(|name| name.strip_prefix("refs/heads/"));
        let told: Vec<(String, String)> = references
            .iter()
            .map(|reference| (reference.name.clone(), reference.peeled.unwrap_or(reference.id).to_string()))
            .collect();
        let patterns = &pipeline.spec.branches;
        let (wanted, known) = due::looked(patterns, default.unwrap_or("main"), &status.branches, &told);
        for one in &wanted {
            let cause = Cause { kind: cause.into(), ..Cause::default() };
            make(&self.client, pipeline, cause, Some(one), &["look", fired, &one.branch, &one.commit]).await?;
        }
        Ok(known)
    }

    async fn note(&self, pipeline: &Pipeline, noted: Map<String, serde_json::Value>) -> Result<()> {
        let namespace = pipeline.namespace().unwrap_or_default();
        let api: Api<Pipeline> = Api::namespaced(self.client.clone(), &namespace);
        let mut patch = json!({ "status": noted });
        // A list is replaced as a whole: it must be the one that was read.
        if noted_list(&patch) {
            patch["metadata"] = json!({ "resourceVersion": pipeline.resource_version() });
        }
        let name = pipeline.name_any();
        let done = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        done.map(drop).with_context(|| format!("note in {namespace}/{name} what was started"))
    }

    async fn hooked(&self, key: &Key, request: Request<Body>) -> Result<String, (StatusCode, String)> {
        let none = || (StatusCode::NOT_FOUND, format!("{key} takes no webhooks"));
        let _permit = self.readers.try_acquire().map_err(|_| {
            (StatusCode::SERVICE_UNAVAILABLE, "too many webhooks at once: send it again later".to_string())
        })?;
        self.pipelines.ready().await;
        let pipeline = self.pipelines.get(key).ok_or_else(none)?;
        let webhook = due::triggers(&pipeline).webhook.ok_or_else(none)?;
        let (parts, body) = request.into_parts();
        if parts.method != http::Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "webhooks are posted".to_string()));
        }
        let refused = |refusal: hook::Refusal| {
            let status = match refusal {
                hook::Refusal::Unsigned => StatusCode::UNAUTHORIZED,
                hook::Refusal::Forged => StatusCode::FORBIDDEN,
                hook::Refusal::Replayed => StatusCode::CONFLICT,
                hook::Refusal::NoSecret => StatusCode::SERVICE_UNAVAILABLE,
                hook::Refusal::Unreadable(_) => StatusCode::BAD_REQUEST,
            };
            (status, refusal.to_string())
        };
        // Nobody's megabytes are read who shows no signature at all.
        if !is_signed(&parts.headers) {
            return Err(refused(hook::Refusal::Unsigned));
        }
        let bytes = body::read(body, hook::MOST_BYTES).await.map_err(|error| match error {
            body::ReadError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            error => (StatusCode::BAD_REQUEST, error.to_string()),
        })?;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let secret = api.get(&webhook.secret_name).await.map_err(|error| {
            tracing::warn!(pipeline = %key, secret = webhook.secret_name, %error, "read the secret of a webhook");
            (StatusCode::SERVICE_UNAVAILABLE, "the pipeline's secret cannot be read".to_string())
        })?;
        let secret = secret.data.unwrap_or_default().remove("secret").map(|bytes| bytes.0).unwrap_or_default();
        let checked = hook::check(&parts.headers, &bytes, &secret).map_err(refused)?;
        let waiting = |all: &HashMap<Key, Vec<Changed>>| all.get(key).map_or(0, Vec::len);
        if waiting(&self.changed.lock().unwrap_or_else(PoisonError::into_inner)) >= MOST_CHANGES {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "too many changes wait: send it again later".to_string()));
        }
        self.take(&pipeline.uid().unwrap_or_default(), &checked, refused)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Pipelines that are gone take their memory along.
        if seen.len() > 2 * self.pipelines.list().len() + 16 {
            let there: HashSet<String> = self.pipelines.list().iter().filter_map(|pipeline| pipeline.uid()).collect();
            for (uid, _) in seen.extract_if(|uid, _| !there.contains(uid)) {
                if let Err(error) = std::fs::remove_file(self.dir.join(&uid)) {
                    tracing::debug!(%error, uid, "forget the webhooks of a pipeline");
                }
            }
        }
        drop(seen);
        match checked.event {
            hook::Event::Ping => Ok("it works".to_string()),
            hook::Event::Other(kind) => Ok(format!("{kind:?} starts nothing")),
            hook::Event::Change(changed) => Ok(self.note_change(&pipeline, key, *changed)),
            hook::Event::Push(push) => {
                self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
                self.queue.add(key.clone());
                Ok(format!("{} is looked at", push.reference))
            }
        }
    }
}

impl Inner {
    /// Takes a webhook once, also where the server was started again in between.
    fn take(
        &self,
        uid: &str,
        checked: &hook::Checked,
        refused: impl Fn(hook::Refusal) -> (StatusCode, String),
    ) -> Result<(), (StatusCode, String)> {
        let plain = !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let kept = |error: std::io::Error| {
            tracing::warn!(%error, "keep what webhooks were taken");
            (StatusCode::SERVICE_UNAVAILABLE, "what was taken cannot be kept: send it again later".to_string())
        };
        if !plain {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "the pipeline has no UID yet".to_string()));
        }
        let path = self.dir.join(uid);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let own = match seen.entry(uid.to_owned()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(hook::Seen::open(&path).map_err(kept)?),
        };
        own.take(checked).map_err(refused)?;
        own.keep(&path).map_err(|error| {
            own.forget(checked);
            kept(error)
        })
    }
}

/// Starts what follows a run that ends, before its end is written: done again after a kill, it starts nothing twice.
///
/// # Errors
/// The API server says no.
pub async fn ended(client: &Client, pipelines: &Cache<Pipeline>, run: &PipelineRun, result: Outcome) -> Result<()> {
    let all = pipelines.list_in(&run.namespace().unwrap_or_default());
    for pipeline in due::downstream(all.iter().map(|pipeline| &**pipeline), run, result) {
        let upstream = UpstreamRun {
            name: run.name_any(),
            pipeline: run.spec.pipeline_ref.name.clone(),
            number: run.status.as_ref().map_or(0, |status| status.number),
        };
        let cause = Cause { kind: "upstream".into(), upstream: Some(upstream), ..Cause::default() };
        make(client, pipeline, cause, None, &["upstream", &run.uid().unwrap_or_default()]).await?;
    }
    Ok(())
}

/// Makes a run, unless it was made before; `words` name what starts it.
async fn make(client: &Client, pipeline: &Pipeline, cause: Cause, of: Option<&Wanted>, words: &[&str]) -> Result<()> {
    let mut run = begun(pipeline, cause);
    if let Some(of) = of {
        run.spec.branch = Some(of.branch.clone());
        run.spec.commit = Some(of.commit.clone());
    }
    create(client, pipeline, run, words).await
}

async fn create(client: &Client, pipeline: &Pipeline, mut run: PipelineRun, words: &[&str]) -> Result<()> {
    run.metadata.generate_name = None;
    run.metadata.name = Some(name(pipeline, words));
    // Parameters are not said: the run takes the defaults of the script that it runs, which may be newer than what is known here.
    let namespace = pipeline.namespace().unwrap_or_default();
    let api: Api<PipelineRun> = Api::namespaced(client.clone(), &namespace);
    match api.create(&PostParams::default(), &run).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        made => made.map(drop).with_context(|| format!("start a run of {namespace}/{}", pipeline.name_any())),
    }
}

fn noted_list(patch: &serde_json::Value) -> bool {
    patch["status"].get("branches").is_some()
}

fn is_signed(headers: &HeaderMap) -> bool {
    ["x-hub-signature-256", "x-gitea-signature", "x-gogs-signature", "x-gitlab-token"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// A name that is the same for the same cause: the pipeline's, and a hash.
fn name(pipeline: &Pipeline, words: &[&str]) -> String {
    let uid = pipeline.uid().unwrap_or_default();
    let all: Vec<&str> = std::iter::once(uid.as_str()).chain(words.iter().copied()).collect();
    let sum = digest(&SHA256, all.join("\n").as_bytes());
    let own: String = pipeline.name_any().chars().take(200).collect();
    format!("{}-{}", own.trim_end_matches(['-', '.']), hex(&sum.as_ref()[..5]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cause_gives_the_same_name() {
        let mut pipeline = Pipeline::default();
        pipeline.metadata.name = Some(format!("{}.", "a".repeat(199)));
        pipeline.metadata.uid = Some("1".into());
        let one = name(&pipeline, &["push", "1", "main"]);
        assert_eq!(one, name(&pipeline, &["push", "1", "main"]));
        assert_ne!(one, name(&pipeline, &["push", "2", "main"]));
        assert_ne!(one, name(&pipeline, &["push", "1main"]));
        pipeline.metadata.uid = Some("2".into());
        assert_ne!(one, name(&pipeline, &["push", "1", "main"]));
        assert!(one.starts_with(&format!("{}-", "a".repeat(199))) && one.len() == 210, "{one}");
    }
}
