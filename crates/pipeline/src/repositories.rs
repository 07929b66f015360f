//! Git repositories that are objects: `Repository` in group `madang.dev`.
//!
//! ```text
//! git ─ door (who? may they?) ─ git::smart ─► DIR/UID.git                bare, as `git` itself has it
//!                                               └─ keep ─ record ─► status: references, pushes with their numbers
//! ```
//!
//! Whoever wants to act on a push watches the objects: a push that was answered stands in the status, also where the server was killed
//! between the two, because references on disk and in the status are compared whenever a repository is looked at. Fetching is
//! the right to `get` a repository's `content`, pushing to `update` it.

mod door;
mod keep;
pub mod kind;
mod record;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use access::gate::Gate;
use anyhow::{Context as _, Result};
use client::{
    cache::{Cache, Key, Scope},
    queue::Queue,
};
use git::{
    Limits,
    id::Format,
    object::{Kind, Mode},
    remote::Exchange,
    smart,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use task::Task;

use kind::Repository;
use record::Pusher;

/// Repositories that are open at once; more are opened when they are asked for.
const MOST_OPEN: usize = 64;

/// All repositories of a cluster, on this machine's disk. Cloning shares them.
#[derive(Clone)]
pub struct Repositories(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    client: Client,
    gate: Gate,
    objects: Cache<Repository>,
    queue: Queue<Key>,
    open: Mutex<HashMap<String, Arc<git::repository::Repository>>>,
    /// Who pushed, until it stands in the status.
    pushers: Mutex<HashMap<String, Vec<Pusher>>>,
}

impl std::fmt::Debug for Repositories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repositories({})", self.0.dir.display())
    }
}

impl Repositories {
    /// Follows the objects, and keeps what they name below `dir`.
    pub fn start(task: &Task, dir: PathBuf, client: Client, gate: Gate) -> Self {
        let objects = Cache::of(task, Api::all(client.clone()), Scope::default());
        let queue = Queue::new(task);
        let listened = queue.clone();
        objects.listen(move |change| listened.add(change.key.clone()));
        let (open, pushers) = (Mutex::default(), Mutex::default());
        let all = Self(Arc::new(Inner { dir, client, gate, objects, queue, open, pushers }));
        let working = all.clone();
        all.0.queue.run("repositories", 2, move |key| {
            let all = working.clone();
            async move { keep::turn(&all.0, &key).await }
        });
        all
    }
}

impl Repositories {
    /// The objects, as they are known here.
    pub fn objects(&self) -> Cache<Repository> {
        self.0.objects.clone()
    }
}

/// The host under which repositories are known in the cluster.
pub const HOST: &str = "git.madang.internal";

impl Repositories {
    /// A way to a repository that is not the network: what [`git::remote::Remote`] asks is answered here. Whoever takes it answers for
    /// the right to read.
    ///
    /// # Errors
    /// There is no such repository, or it cannot be opened.
    pub async fn exchange(&self, key: &Key) -> Result<(String, Exchange)> {
        self.0.objects.ready().await;
        let object = self.0.objects.get(key).with_context(|| format!("there is no Repository {key}"))?;
        let repository = self.0.open(&object).await?;
        let base = format!("https://{HOST}/{}/{}.git", key.namespace, key.name);
        let exchange: Exchange = Arc::new(move |request: http::Request<bytes::Bytes>| {
            let repository = repository.clone();
            Box::pin(async move {
                let (parts, body) = request.into_parts();
                let path = parts.uri.path().to_owned();
                let answer = match smart::route(&parts.method, &path, parts.uri.query()) {
                    Some((_, service @ smart::Service::Fetchable)) => {
                        smart::advertise(&repository, service, &parts.headers)
                    }
                    Some((_, smart::Service::Fetch)) => {
                        let body = futures::stream::iter([Ok(body)]);
                        smart::fetch(repository, &parts.headers, body).await.map_err(std::io::Error::other)?
                    }
                    _ => smart::refuse(http::StatusCode::NOT_FOUND, "only fetching is possible here"),
                };
                Ok((parts.uri, answer))
            })
        });
        Ok((base, exchange))
    }

    /// A file of a commit; `None` where it is not there.
    ///
    /// # Errors
    /// There is no such repository or commit, or the file has more than `most` bytes.
    pub async fn file(&self, key: &Key, commit: &str, path: &str, most: usize) -> Result<Option<Vec<u8>>> {
        self.0.objects.ready().await;
        let object = self.0.objects.get(key).with_context(|| format!("there is no Repository {key}"))?;
        let repository = self.0.open(&object).await?;
        let commit = git::id::Id::parse(commit).with_context(|| format!("{commit:?} is no commit"))?;
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = repository.reader();
            let mut tree = reader.commit(&commit)?.tree;
            let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
            while let Some(part) = parts.next() {
                let content = reader.expect(&tree, Kind::Tree)?;
                let entries = git::object::tree(&content, tree.format())?;
                let Some(entry) = entries.iter().find(|entry| entry.name == part) else { return Ok(None) };
                match (entry.mode, parts.peek()) {
                    (Mode::Directory, Some(_)) => tree = entry.id,
                    (Mode::File { .. }, None) => {
                        let content = reader.expect(&entry.id, Kind::Blob)?;
                        if content.len() > most {
                            return Err(git::Error::TooLarge { what: "a file", limit: most as u64 });
                        }
                        return Ok(Some(content.to_vec()));
                    }
                    _ => return Ok(None),
                }
            }
            Ok(None)
        });
        Ok(read.await??)
    }
}

impl Inner {
    fn place(&self, uid: &str) -> PathBuf {
        self.dir.join(format!("{uid}.git"))
    }

    /// The repository of an object, made where it is not there yet.
    async fn open(self: &Arc<Self>, object: &Repository) -> Result<Arc<git::repository::Repository>> {
        let uid = uid(&object.metadata)?;
        if let Some(open) = self.open.lock().expect("repositories lock").get(&uid) {
            return Ok(open.clone());
        }
        let (inner, spec) = (self.clone(), object.spec.clone());
        let work = tokio::task::spawn_blocking(move || {
            let path = inner.place(&uid);
            let mut open = inner.open.lock().expect("repositories lock");
            if let Some(open) = open.get(&uid) {
                return Ok(open.clone());
            }
            let format = Format::parse(spec.object_format.as_deref().unwrap_or("sha1")).unwrap_or_default();
            git::repository::Repository::create(&path, spec.branch(), format)?;
            let opened = Arc::new(git::repository::Repository::open(&path, Limits::default())?);
            if open.len() >= MOST_OPEN {
                // Those in use are kept by who uses them.
                open.retain(|_, repository| Arc::strong_count(repository) > 1);
            }
            open.insert(uid, opened.clone());
            Ok::<_, git::Error>(opened)
        });
        work.await?.with_context(|| format!("open repository {}", Key::of(object)))
    }
}

/// What names the repository on disk: a new object of the same name is another repository.
fn uid(meta: &ObjectMeta) -> Result<String> {
    let uid = meta.uid.clone().unwrap_or_default();
    let plain = !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    anyhow::ensure!(plain, "a repository's UID is {uid:?}, which cannot name a directory");
    Ok(uid)
}
