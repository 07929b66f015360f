//! The loop over pipelines that starts what is to start.
//!
//! ```text
//! Pipeline, Repository change ─┐
//! clock                        ├─► turn: decide ─► make runs ─► note in the status up to where
//! webhook ─► in the status     ┘
//! ```
//!
//! A run's name is made from what it is started by. A turn that was interrupted between making runs and noting it is done again, and finds the
//! runs there already: each starts once, also over a kill. A webhook is acknowledged once the pipeline's status tells of it ([`super::waiting`]),
//! and is remembered as taken before the status forgets it.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
use serde_json::{Map, Value, json};
use serve::{Body, body};
use task::Task;

use super::{
    due,
    hook::{self, Seen},
    pushed::{self, Asked, Wanted},
    waiting::{self, Due, Taken},
};
use crate::{
    kind::{Branch, Cause, Pipeline, PipelineRun, Status, UpstreamRun, begun},
    left::parcel::hex,
    login::{self, Login},
    repositories::kind::Repository,
    result::Result as Outcome,
};

/// Webhooks that are read at once.
const READERS: usize = 4;
/// How long a server elsewhere may take to tell its references.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long writing down what a webhook tells may take, which forges wait for.
const KEEPING: Duration = Duration::from_secs(8);
/// How often it is tried while others write the same object.
const TRIES: u32 = 20;
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
    /// Webhooks that were acted upon, of which the cache may not know it yet.
    done: Mutex<HashMap<Key, HashSet<String>>>,
    /// Webhooks that were taken, by the pipeline's UID.
    seen: Mutex<HashMap<String, Seen>>,
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
        let (done, seen) = Default::default();
        let readers = tokio::sync::Semaphore::new(READERS);
        let inner = Inner { client, pipelines, repositories, queue, done, seen, dir, readers };
        let starter = Self(Arc::new(inner));
        let working = starter.clone();
        starter.0.queue.run("triggers", 2, move |key| {
            let starter = working.clone();
            async move { starter.0.turn(&key).await.map_err(|error| format!("{error:#}")) }
        });
        starter
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
        let Some(pipeline) = self.pipelines.get(key) else {
            self.done().remove(key);
            return Ok(Next::Done);
        };
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
        let due = waiting::due(&pipeline, &self.done_of(key, &status));
        // What cannot be done holds up nothing else.
        let (mut over, started) = self.start_waiting(&pipeline, key, &due).await;
        let mut looked = Ok(());
        let asked = !due.look.is_empty();
        if (asked || clock.look.is_some()) && pipeline.spec.git.is_some() && !pipeline.spec.suspend {
            let cause = if asked { "webhook" } else { "scm" };
            let since = due::since(&pipeline).unwrap_or_default();
            match self.looked(&pipeline, cause, &since.to_string()).await {
                Ok(branches) => {
                    if branches != status.branches {
                        noted.insert("branches".into(), json!(branches));
                        noted.insert("looked".into(), now.to_string().into());
                    }
                    over.extend(&due.look);
                }
                // It stays asked for; the queue tries again, later each time.
                Err(error) => looked = Err(error),
            }
        }
        let times = !triggers.cron.is_empty() || !triggers.poll.is_empty();
        let acted = clock.run.is_some() || clock.look.is_some() || noted.contains_key("branches");
        // A webhook's look that fails holds up no clock; the clock's own is due until it goes.
        if (looked.is_ok() || clock.look.is_none()) && (acted || times && status.fired.is_none()) {
            noted.insert("fired".into(), now.to_string().into());
        }
        if !over.is_empty() {
            noted.insert("waiting".into(), self.forgotten(&pipeline, &over)?);
        }
        if !noted.is_empty() {
            self.note(&pipeline, noted).await?;
            self.note_done(key, &over);
        }
        let left = next.map(|at| {
            let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
            left.min(LONGEST)
        });
        if let Err(error) = started.and(looked) {
            // Nor does one that fails for long.
            if let Some(left) = left {
                self.queue.add_after(key.clone(), left.max(Duration::from_secs(1)));
            }
            return Err(error);
        }
        Ok(left.map_or(Next::Done, Next::After))
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

    /// Starts runs of the changes that wait, each whether or not another goes; what is done with, and the first that went wrong.
    async fn start_waiting<'a>(&self, pipeline: &Pipeline, key: &Key, due: &Due<'a>) -> (Vec<&'a str>, Result<()>) {
        let (mut over, mut started) = (due.drop.clone(), Ok(()));
        for delivery in &due.drop {
            tracing::info!(pipeline = %key, delivery, "what a webhook told starts nothing any more");
        }
        for (delivery, waiting) in &due.start {
            let author = waiting.change.as_ref().and_then(|change| change.author.clone());
            let mut run = begun(pipeline, Cause { kind: "webhook".into(), user: author, ..Cause::default() });
            // The commit that counts is what the repository has there then, not what somebody says.
            run.spec.branch = waiting.reference.clone();
            run.spec.change = waiting.change.clone();
            match create(&self.client, pipeline, run, &["webhook", delivery]).await {
                Ok(()) => over.push(*delivery),
                Err(error) => started = started.and(Err(error)),
            }
        }
        (over, started)
    }

    /// What takes webhooks out of the status, once they are remembered as taken.
    fn forgotten(&self, pipeline: &Pipeline, deliveries: &[&str]) -> Result<Value> {
        let uid = pipeline.uid().unwrap_or_default();
        for delivery in deliveries {
            self.remember(&uid, delivery).with_context(|| format!("remember a webhook of {}", Key::of(pipeline)))?;
        }
        Ok(deliveries.iter().map(|delivery| ((*delivery).to_owned(), Value::Null)).collect::<Map<_, _>>().into())
    }

    fn done(&self) -> MutexGuard<'_, HashMap<Key, HashSet<String>>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_done(&self, key: &Key, deliveries: &[&str]) {
        if !deliveries.is_empty() {
            let mut done = self.done();
            done.entry(key.clone()).or_default().extend(deliveries.iter().map(|delivery| (*delivery).to_owned()));
        }
    }

    /// What of a status was acted upon already.
    fn done_of(&self, key: &Key, status: &Status) -> HashSet<String> {
        let mut all = self.done();
        let Some(done) = all.get_mut(key) else { return HashSet::new() };
        done.retain(|delivery| status.waiting.contains_key(delivery));
        if done.is_empty() {
            all.remove(key);
            return HashSet::new();
        }
        done.clone()
    }

    /// Writes a webhook into the pipeline's status, where a restart finds it; what is to be told to the forge.
    async fn keep(&self, pipeline: &Pipeline, checked: &hook::Checked) -> Result<String, (StatusCode, String)> {
        let again = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}: send it again later"));
        let (uid, name, key) = (pipeline.uid().unwrap_or_default(), pipeline.name_any(), Key::of(pipeline));
        let failed = |error: &dyn fmt::Display| {
            tracing::warn!(pipeline = %key, %error, "write down what a webhook told");
            again("what it tells cannot be written down")
        };
        let api: Api<Pipeline> = Api::namespaced(self.client.clone(), &key.namespace);
        let delivery = hex(&checked.identity);
        for _ in 0..TRIES {
            let now = api.get(&name).await.map_err(|error| failed(&error))?;
            // The secret was that of the one before.
            if now.uid().unwrap_or_default() != uid || now.metadata.deletion_timestamp.is_some() {
                return Err(again("the pipeline was made anew"));
            }
            // What is not in the status any more is known as taken since before it left.
            if self.with_seen(&uid, |seen, _| Ok(seen.has(&checked.identity))).map_err(|error| failed(&error))? {
                return Err(refused(hook::Refusal::Replayed));
            }
            let taken = waiting::take(&now, &delivery, &checked.event);
            let (told, waiting, replaced) = match taken {
                Err(full) => return Err((StatusCode::SERVICE_UNAVAILABLE, full.to_string())),
                Ok(Taken::Told(told)) => return Ok(told),
                Ok(Taken::Kept { told, waiting, replaced }) => (told, waiting, replaced),
            };
            let replaced: Vec<&str> = replaced.iter().map(String::as_str).collect();
            let mut fields = self.forgotten(&now, &replaced).map_err(|error| failed(&error))?;
            fields[&delivery] = json!(waiting);
            let patch =
                json!({ "metadata": { "resourceVersion": now.resource_version() }, "status": { "waiting": fields } });
            match api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return Ok(told),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        Err(failed(&"others write the pipeline all the time"))
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

    async fn note(&self, pipeline: &Pipeline, noted: Map<String, Value>) -> Result<()> {
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
        let uid = pipeline.uid().unwrap_or_default();
        let unkept = |error: io::Error| {
            tracing::warn!(pipeline = %key, %error, "keep what webhooks were taken");
            (StatusCode::SERVICE_UNAVAILABLE, "what was taken cannot be kept: send it again later".to_string())
        };
        let told = tokio::time::timeout(KEEPING, self.keep(&pipeline, &checked)).await.map_err(|_| {
            tracing::warn!(pipeline = %key, "write down what a webhook told: no answer in {} s", KEEPING.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, "what it tells cannot be written down: send it again later".to_string())
        })??;
        // What waits is acted upon whether or not the sender hears of it, and may have been by now.
        self.remember(&uid, &hex(&checked.identity)).map_err(unkept)?;
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
        Ok(told)
    }
}

impl Inner {
    /// Does something with what is known of a pipeline's webhooks.
    fn with_seen<T>(&self, uid: &str, work: impl FnOnce(&mut Seen, &Path) -> io::Result<T>) -> io::Result<T> {
        if uid.is_empty() || !uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the pipeline has no UID yet"));
        }
        let path = self.dir.join(uid);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let own = match seen.entry(uid.to_owned()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Seen::open(&path)?),
        };
        work(own, &path)
    }

    /// Remembers that a webhook was taken, also where the server is started again.
    fn remember(&self, uid: &str, delivery: &str) -> io::Result<()> {
        // What is no name of a webhook was never one.
        let identity = hook::unhex(delivery).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let Some(identity) = identity else { return Ok(()) };
        self.with_seen(uid, |seen, path| {
            if seen.take(&identity).is_err() {
                return Ok(());
            }
            seen.keep(path).inspect_err(|_| seen.forget(&identity))
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
        Err(kube::Error::Api(status)) if is_there(&status) => Ok(()),
        made => made.map(drop).with_context(|| format!("start a run of {namespace}/{}", pipeline.name_any())),
    }
}

/// What a forge is told whose request is refused.
fn refused(refusal: hook::Refusal) -> (StatusCode, String) {
    let status = match refusal {
        hook::Refusal::Unsigned => StatusCode::UNAUTHORIZED,
        hook::Refusal::Forged => StatusCode::FORBIDDEN,
        hook::Refusal::Replayed => StatusCode::CONFLICT,
        hook::Refusal::NoSecret => StatusCode::SERVICE_UNAVAILABLE,
        hook::Refusal::Unreadable(_) => StatusCode::BAD_REQUEST,
    };
    (status, refusal.to_string())
}

/// Whether a run was made before. A conflict about something else, such as a quota, says nothing of that.
fn is_there(status: &kube::core::Status) -> bool {
    status.code == 409 && status.reason == "AlreadyExists"
}

fn noted_list(patch: &Value) -> bool {
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
    fn only_a_run_that_is_there_was_made_before() {
        let status = |code: u16, reason: &str| kube::core::Status { code, reason: reason.into(), ..Default::default() };
        assert!(is_there(&status(409, "AlreadyExists")));
        // A quota that others change at the same time.
        assert!(!is_there(&status(409, "Conflict")));
        assert!(!is_there(&status(403, "Forbidden")));
    }

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
