//! `Build` objects of a run: made, given their context, followed to their end.
//!
//! ```text
//! ask ─► Build KEY, owned by the run, in its account's name ─► engine
//!           │ WaitingForContext ─► list, pack in the Pod ─► pieces ─► the node's API
//!           │ Running            ─► its log, from where ours is ─► book
//!           └ over               ─► digest, or why not
//! ```
//!
//! Killed in between, the ask is asked again under the same key, and finds its object: nothing is built twice. What the engine begins
//! again after a restart of its own stands in the log, which is one file from the first attempt to the last.
//!
//! An image that nobody has pushed yet has to be somewhere: it is staged in a repository of the run's own, which goes when the run ends.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use client::{
    cache::{Cache, Key, Scope},
    own::{Kind, Object},
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use task::Task;
use tokio::sync::{Notify, mpsc};

use super::{Failure, directory, failed, text};
use crate::{
    book,
    docker::name::{Name, staged},
    drive::Drive,
    hand::At,
    kind::{RUN, label},
    pod,
    reach::{self, Error},
    record::log::number,
    run::world::Ask,
};

/// The pause before a second attempt, and the longest one.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often a context is sent at most.
const SENT: usize = 5;
/// How long a build that was ended may take until its last words are heard.
const LAST_WORDS: Duration = Duration::from_secs(20);
/// Pieces on their way.
const PIECES: usize = 16;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Builds;

impl Kind for Builds {
    const KIND: &'static str = "Build";
    const PLURAL: &'static str = "builds";
    type Spec = Json;
    type Status = Status;
}

type Build = Object<Builds>;

/// What is known of a build.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    phase: String,
    reason: Option<String>,
    message: Option<String>,
    node_name: Option<String>,
    /// The digest of what was pushed.
    pub digest: Option<String>,
}

impl Status {
    fn is_over(&self) -> bool {
        matches!(&*self.phase, "Succeeded" | "Failed" | "Cancelled")
    }

    fn waits(&self) -> bool {
        !self.is_over() && self.reason.as_deref() == Some("WaitingForContext")
    }
}

/// Where a build's files come from.
pub(super) enum Context {
    /// It has none.
    Nothing,
    /// A directory of a Pod.
    Workspace(At, String),
    /// Files of the run's own sources, below this directory.
    Sources(String),
}

/// A registry that a script has named, with the credentials for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Login {
    /// The registry.
    pub host: String,
    /// Credentials' id; empty where there are none.
    pub credentials: String,
}

impl Login {
    /// What an ask says of it.
    pub fn of(ask: &Ask) -> Self {
        let field = |name: &str| {
            let found = ask.arguments.get("registry").and_then(|registry| registry.get(name));
            found.and_then(Json::as_str).unwrap_or_default().to_owned()
        };
        Self { host: field("host"), credentials: field("credentialsId") }
    }
}

/// A build.
pub(super) struct Job<'a> {
    /// What tells it from other builds of the same ask; empty for the ask's own.
    pub part: &'a str,
    /// Fields of the object's `spec`.
    pub spec: Map<String, Json>,
    /// Its files.
    pub context: Context,
    /// Whose images it may take, beside those of the account.
    pub login: Login,
}

/// The name of a build's object.
fn name(drive: &Drive, ask: &Ask, part: &str) -> String {
    let key = if part.is_empty() { format!("{}/build", ask.key) } else { format!("{}/{part}", ask.key) };
    pod::name(&drive.key.name, &drive.uid, &key)
}

fn api(drive: &Drive) -> Api<Build> {
    Api::namespaced(drive.inner.client.clone(), &drive.key.namespace)
}

/// Where an image of the run is until it is pushed.
pub(super) fn place(drive: &Drive, ask: &Ask, image: &str) -> Name {
    let run = format!("{:08x}", number(&format!("{}/{}", drive.uid, ask.key)) & 0xffff_ffff);
    staged(&drive.inner.settings.registry, &drive.key.namespace, image, &run)
}

/// The staged image of a build, by its digest.
///
/// # Errors
/// The build has told of none.
pub(super) fn made(place: &Name, status: &Status) -> Result<String, Failure> {
    let digest = status.digest.clone().ok_or_else(|| failed(format!("the build of {place} has told no digest")))?;
    Ok(Name { tag: None, digest: Some(digest), ..place.clone() }.to_string())
}

/// Ends what is begun below it.
struct Ends(Task);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Carries a build out, or goes on with the one that was begun under this key.
pub(super) async fn carry_out(drive: &Arc<Drive>, ask: &Ask, job: Job<'_>) -> Result<Status, Failure> {
    if !drive.inner.settings.builds {
        return Err(failed(format!("{}: the engine is switched off here (--without engine)", ask.name)));
    }
    let name = name(drive, ask, job.part);
    let secret = secret(drive, &name, &job.login).await?;
    let done = follow(drive, ask, &name, &job, secret.as_deref()).await;
    if secret.is_some() {
        let api: Api<Secret> = Api::namespaced(drive.inner.client.clone(), &drive.key.namespace);
        if let Err(error) = api.delete(&name, &DeleteParams::default()).await {
            tracing::debug!(%error, name, "remove a build's credentials");
        }
    }
    let status = done?;
    match &*status.phase {
        "Succeeded" => Ok(status),
        _ => {
            let message = status.message.unwrap_or_else(|| "it says not why".to_owned());
            let lower = message.to_lowercase();
            let hint = match lower.contains("denied") || lower.contains("401 unauthorized") {
                true => format!(
                    ": the ServiceAccount {} needs the right to get and update repositories of registry.madang.dev",
                    drive.begun.account
                ),
                false => String::new(),
            };
            Err(failed(format!("{}: {message}{hint}", ask.name)))
        }
    }
}

async fn create(drive: &Drive, ask: &Ask, name: &str, job: &Job<'_>, secret: Option<&str>) -> Result<(), Failure> {
    let mut spec = job.spec.clone();
    spec.insert("serviceAccountName".into(), drive.begun.account.clone().into());
    if let Some(secret) = secret {
        spec.insert("imagePullSecrets".into(), json!([{ "name": secret }]));
    }
    if !matches!(job.context, Context::Nothing) {
        spec.insert("context".into(), json!({"upload": {}}));
    }
    // Beside the agent, whose node has what the steps before have left in its cache.
    let pod = ask.place.agent.as_ref().and_then(|pod| drive.inner.hand.pods.get(&Key::new(&drive.key.namespace, pod)));
    if let Some(node) = pod.as_ref().and_then(|pod| pod.spec.as_ref()?.node_name.clone()) {
        spec.insert("nodeName".into(), node.into());
    }
    let build = Build {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(RUN.to_owned(), label(&drive.key.name))])),
            owner_references: Some(vec![drive.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Json::Object(spec),
        status: None,
    };
    match api(drive).create(&PostParams::default(), &build).await {
        Ok(_) => Ok(()),
        // Made before the server was started again.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let there = api(drive).get_opt(name).await?;
            let owners = there.and_then(|build| build.metadata.owner_references).unwrap_or_default();
            match owners.iter().any(|owner| owner.uid == drive.uid) {
                true => Ok(()),
                false => Err(failed(format!("there is a Build {name} that is not this run's"))),
            }
        }
        Err(error) => Err(error.into()),
    }
}

async fn follow(
    drive: &Arc<Drive>,
    ask: &Ask,
    name: &str,
    job: &Job<'_>,
    secret: Option<&str>,
) -> Result<Status, Failure> {
    create(drive, ask, name, job, secret).await?;
    let (cache, changed) = (Cache::<Build>::idle(), Arc::new(Notify::new()));
    let wake = changed.clone();
    cache.listen(move |_| wake.notify_one());
    let watching = Ends(drive.task.child("build"));
    cache.start(&watching.0, api(drive), Scope::fields(format!("metadata.name={name}")));
    cache.ready().await;
    let key = Key::new(&drive.key.namespace, name);
    let (mut pause, mut sent) = (PAUSE.0, 0);
    loop {
        let build = cache.get(&key).ok_or_else(|| failed(format!("the Build {name} was deleted")))?;
        let status = build.status.clone().unwrap_or_default();
        let Some(node) = status.node_name.clone() else {
            if status.is_over() {
                return Ok(status);
            }
            changed.notified().await;
            continue;
        };
        if status.waits() {
            match send(drive, ask, name, &node, &job.context).await {
                Ok(()) => pause = PAUSE.0,
                Err(Sending::Failed(failure)) => {
                    cancel(drive, name).await;
                    return Err(failure);
                }
                Err(Sending::Broken(why)) => {
                    sent += 1;
                    if sent == SENT {
                        cancel(drive, name).await;
                        return Err(failed(format!("{}: send the context: {why}", ask.name)));
                    }
                    tracing::debug!(%why, name, "a context is sent again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                    continue;
                }
            }
        } else if matches!(&*status.phase, "" | "Pending") {
            // Claimed, and not yet told what it waits for: its log would be followed to an end that never comes.
            changed.notified().await;
            continue;
        }
        // Until the build is over, or the connection breaks.
        match hear(drive, ask, job.part, name, &node, !status.is_over()).await {
            Ok(()) if status.is_over() => return Ok(status),
            Ok(()) => {
                // The end of the log comes before that of the object.
                let _ = tokio::time::timeout(PAUSE.1, changed.notified()).await;
            }
            // A node that is gone says no more; how it ended stands in the object.
            Err(why) if status.is_over() => {
                tracing::debug!(%why, name, "the end of a build's log");
                return Ok(status);
            }
            Err(why) => {
                tracing::debug!(%why, name, "a build's log is asked for again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Brings the log of a build into the run's own, from where that is.
async fn hear(drive: &Arc<Drive>, ask: &Ask, part: &str, name: &str, node: &str, follow: bool) -> Result<(), String> {
    let key = if part.is_empty() { ask.key.clone() } else { format!("{}/{part}", ask.key) };
    let writer = book::of_step(&key, ask.place.stage_id.as_deref());
    let offset = drive.book.begin(writer);
    let heard = async {
        let path = format!("/builds/{}/{name}/log?offset={offset}&follow={follow}", drive.key.namespace);
        let request = Request::builder().method(Method::GET).uri(path).body(reach::nothing());
        let (host, port) = reach::of_node(&drive.inner.client, node).await.map_err(|error| format!("{error:#}"))?;
        let request = request.map_err(|error| error.to_string())?;
        let answer = drive.inner.reach.ask(&host, port, request).await.map_err(|error| error.to_string())?;
        let mut pieces = answer.into_body().into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| error.to_string())?;
            drive.book.write(writer, &piece).map_err(|error| format!("write the log: {error}"))?;
        }
        Ok(())
    };
    let heard = heard.await;
    drive.book.end(writer).map_err(|error| format!("write the log: {error}"))?;
    heard
}

/// Why a context was not sent.
enum Sending {
    /// It cannot be.
    Failed(Failure),
    /// The connection broke.
    Broken(String),
}

impl From<Failure> for Sending {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// An archive on its way: its pieces, and whether they were all of it.
struct Archive {
    pieces: mpsc::Receiver<Bytes>,
    ended: BoxFuture<'static, io::Result<()>>,
}

async fn send(drive: &Arc<Drive>, ask: &Ask, name: &str, node: &str, context: &Context) -> Result<(), Sending> {
    let scratch = drive.record.dir().join(format!("context-{name}"));
    let archive = match context {
        Context::Nothing => return Ok(()),
        Context::Workspace(at, directory) => packed(drive, at.clone(), directory.clone()).await?,
        Context::Sources(below) => {
            let (source, found) = super::files::sources(drive).await?;
            let (pieces, archiving) = source.archive_of(&found, &scratch, below).await.map_err(Failure::from)?;
            let ended = archiving.map(|ended| ended.map_err(io::Error::other)?).boxed();
            Archive { pieces, ended }
        }
    };
    let Archive { pieces, ended } = archive;
    // An archive that was cut off must not look like a whole one: its error ends the request.
    let body = stream::unfold((pieces, Some(ended)), |(mut pieces, mut ended)| async move {
        match pieces.recv().await {
            Some(piece) => Some((Ok(piece), (pieces, ended))),
            None => match ended.take()?.await {
                Ok(()) => None,
                Err(error) => Some((Err(error), (pieces, None))),
            },
        }
    });
    let (host, port) = match reach::of_node(&drive.inner.client, node).await {
        Ok(found) => found,
        Err(error) => return Err(Sending::Broken(format!("{error:#}"))),
    };
    let path = format!("/builds/{}/{name}/context", drive.key.namespace);
    let request = Request::builder().method(Method::POST).uri(path).body(reach::pieces(body.boxed()));
    let request = request.map_err(|error| failed(error.to_string()))?;
    let sent = drive.inner.reach.ask(&host, port, request).await;
    crate::source::remove(&scratch).await.map_err(Failure::from)?;
    match sent {
        Ok(_) => Ok(()),
        // It has one already.
        Err(Error::Refused { status: StatusCode::CONFLICT, .. }) => Ok(()),
        // The node has not heard of its own claim yet.
        Err(Error::Refused { status: StatusCode::NOT_FOUND, message }) => Err(Sending::Broken(message)),
        Err(Error::Refused { message, .. }) => Err(Sending::Failed(failed(format!("{}: {message}", ask.name)))),
        Err(Error::Broken(why)) => match drive.inner.hand.gone_of(context.at()) {
            Some(gone) => Err(Sending::Failed(super::lost(gone))),
            None => Err(Sending::Broken(why)),
        },
    }
}

impl Context {
    fn at(&self) -> Option<&At> {
        match self {
            Self::Workspace(at, _) => Some(at),
            _ => None,
        }
    }
}

/// All files of a directory of a Pod.
async fn packed(drive: &Arc<Drive>, at: At, directory: String) -> Result<Archive, Failure> {
    let rows = drive.inner.hand.call(&at, &["list", &directory], None).await?;
    let mut names = Vec::new();
    for row in rows.split(|byte| *byte == 0).filter(|row| !row.is_empty()) {
        // TYPE MODE SIZE SECONDS PATH
        if let Some(name) = row.splitn(5, |byte| *byte == b' ').nth(4) {
            names.extend_from_slice(name);
            names.push(0);
        }
    }
    let (sender, pieces) = mpsc::channel(PIECES);
    let (hand, task) = (drive.inner.hand.clone(), &drive.task);
    let (end, ended) = tokio::sync::oneshot::channel();
    task.spawn_until_cancelled("pack a context", async move {
        let taken = hand.take(&at, &["pack", &directory], &names, &sender).await;
        drop(sender);
        let _ = end.send(taken.map_err(|error| io::Error::other(error.to_string())));
    });
    let ended = ended.map(|ended| ended.unwrap_or_else(|_| Err(io::Error::other("the run has ended")))).boxed();
    Ok(Archive { pieces, ended })
}

async fn cancel(drive: &Drive, name: &str) {
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    match api(drive).patch(name, &PatchParams::default(), &patch).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => tracing::warn!(%error, name, "end a build"),
    }
}

/// Ends the build of an ask that is interrupted, and hears its last words.
pub(super) async fn stop(drive: &Arc<Drive>, ask: &Ask, part: &str) {
    let name = name(drive, ask, part);
    let ended = async {
        match api(drive).get_opt(&name).await {
            Ok(Some(build)) if !build.status.as_ref().is_some_and(Status::is_over) => {
                cancel(drive, &name).await;
                if let Some(node) = build.status.and_then(|status| status.node_name)
                    && let Err(why) = hear(drive, ask, part, &name, &node, true).await
                {
                    tracing::debug!(%why, name, "hear a build's last words");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, name, "end a build"),
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, ended).await;
}

/// The credentials of a registry as a Secret that an engine and a node understand, as long as a build lasts.
async fn secret(drive: &Drive, name: &str, login: &Login) -> Result<Option<String>, Failure> {
    if login.credentials.is_empty() {
        return Ok(None);
    }
    let (user, password) = super::secrets::password(drive, &login.credentials).await?;
    drive.book.secret(&password);
    let host = if login.host == "docker.io" { "https://index.docker.io/v1/" } else { &login.host };
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: Some(vec![drive.owner.clone()]),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: Some(BTreeMap::from([(
            ".dockerconfigjson".to_owned(),
            ByteString(configuration(host, &user, &password).into_bytes()),
        )])),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(drive.inner.client.clone(), &drive.key.namespace);
    match api.create(&PostParams::default(), &secret).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Some(name.to_owned()))
}

/// A file of a docker client's credentials.
pub(super) fn configuration(host: &str, user: &str, password: &str) -> String {
    let auth = STANDARD.encode(format!("{user}:{password}"));
    json!({"auths": {host: {"username": user, "password": password, "auth": auth}}}).to_string()
}

/// Images that a run has staged and that go with it.
pub(crate) async fn forget(drive: &Drive) {
    let Some((host, port)) = &drive.inner.settings.registry_address else { return };
    for image in staged_by(drive) {
        let Ok(Name { path, digest: Some(digest), .. }) = Name::parse(&image) else { continue };
        let request = Request::builder().method(Method::DELETE).uri(format!("/v2/{path}/manifests/{digest}"));
        let Ok(request) = request.body(reach::nothing()) else { continue };
        match drive.inner.reach.ask(host, *port, request).await {
            Ok(_) => {}
            Err(Error::Refused { status: StatusCode::NOT_FOUND, .. }) => {}
            Err(error) => tracing::warn!(%error, image, "remove an image that a run has staged"),
        }
    }
}

fn staged_by(drive: &Drive) -> Vec<String> {
    let names = ["docker.build", "docker.container", "agent"];
    let answers = names.iter().flat_map(|name| drive.answered(name));
    let mut all: Vec<String> = answers
        .filter_map(|(_, answer)| match answer {
            crate::run::world::Answer::Done(value) => value.get("staged").and_then(Json::as_str).map(str::to_owned),
            _ => None,
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// An image of elsewhere, taken into the run's own repository: for those that only a script's credentials may take.
pub(super) async fn stage(drive: &Arc<Drive>, ask: &Ask, image: &str, login: Login) -> Result<String, Failure> {
    let place = place(drive, ask, image);
    let mut spec = Map::new();
    spec.insert("dockerfileText".into(), from(image)?.into());
    spec.insert("tags".into(), json!([place.to_string()]));
    let job = Job { part: "staged", spec, context: Context::Nothing, login };
    made(&place, &carry_out(drive, ask, job).await?)
}

/// A Dockerfile that is an image as it is.
///
/// # Errors
/// The name is none.
pub(super) fn from(image: &str) -> Result<String, Failure> {
    // Checked, since it becomes a line of a program.
    let name = Name::parse(image).map_err(failed)?;
    Ok(format!("FROM {name}\n"))
}

/// The directory of a context, as steps name it.
pub(super) fn below(ask: &Ask, path: &str) -> Result<String, Failure> {
    let place = directory(ask);
    crate::docker::build::absolute(&place, path)
        .ok_or_else(|| failed(format!("{}: {path:?} leads above the root", text(ask, "image"))))
}
