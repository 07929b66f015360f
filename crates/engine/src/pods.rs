//! Sockets of pods: each that asks for one builds, pulls and pushes through it within the rights of its ServiceAccount, and can do
//! nothing else.
//!
//! ```text
//! pod of this node with a volume {csi: {driver: build.madang.dev}} ─► SOCKETS/UID/docker.sock, which the node mounts
//!        │ its end: the socket goes, and the images that were kept for it
//!        └─ request ─ door: is it one of the few that are answered? ─► the engine as the pod sees it (view)
//! ```
//!
//! Pods are watched through the API like everything else; the node knows no more than the directory. On another Kubernetes the volume
//! is refused for want of the driver.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use build::request::Confined;
use client::cache::{Cache, Key, Scope};
use image::pull::Registries;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use task::Task;
use tokio::{net::UnixListener, sync::Notify};

use crate::{Engine, rights::Rights, server, view, view::View};

pub(crate) mod door;

/// The driver that a volume names to be a socket.
pub const DRIVER: &str = "build.madang.dev";
/// The socket's name in its directory.
const SOCKET: &str = "docker.sock";

/// What serving pods takes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this node.
    pub node: String,
    /// Where sockets are: a directory a pod, by UID.
    pub dir: PathBuf,
    /// The cluster's own registry, as images name it.
    pub registry: String,
    /// The host of the cluster's own git server.
    pub git: String,
    /// Mirrors and certificate authorities, without the machine's credentials.
    pub registries: Arc<Registries>,
}

/// What a pod's socket is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) account: String,
    pub(crate) secrets: Vec<String>,
}

/// The socket that a pod asks for; none where it does not, or runs no more.
pub(crate) fn wanted(pod: &Pod) -> Option<Wanted> {
    let spec = pod.spec.as_ref()?;
    let asks = spec.volumes.iter().flatten().any(|volume| volume.csi.as_ref().is_some_and(|csi| csi.driver == DRIVER));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if !asks || matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let secrets = spec.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone());
    Some(Wanted {
        uid: text(&pod.metadata.uid)?,
        name: text(&pod.metadata.name)?,
        namespace: text(&pod.metadata.namespace)?,
        account: text(&spec.service_account_name).unwrap_or_else(|| "default".to_owned()),
        secrets: secrets.collect(),
    })
}

/// A socket that is served.
struct Served {
    wanted: Wanted,
    task: Task,
    view: Arc<View>,
}

struct Sockets {
    engine: Engine,
    client: kube::Client,
    settings: Settings,
    task: Task,
    served: Mutex<HashMap<Key, Served>>,
}

/// Serves sockets of the node's pods until `task` ends. `client` is the node's own, which may have tokens of its pods' accounts.
pub fn start(task: &Task, engine: Engine, client: kube::Client, settings: Settings) {
    let pods: Api<Pod> = Api::all(client.clone());
    let cache = Cache::idle();
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    cache.listen(move |_| wake.notify_one());
    cache.start(task, pods, Scope::fields(format!("spec.nodeName={}", settings.node)));
    let sockets = Sockets { engine, client, settings, task: task.clone(), served: Mutex::default() };
    task.spawn_until_cancelled("sockets of pods", async move {
        cache.ready().await;
        let alive: Vec<Wanted> = cache.list().iter().filter_map(|pod| wanted(pod)).collect();
        if let Err(error) = sockets.sweep(&alive).await {
            tracing::warn!(error = format!("{error:#}"), "remove what was kept for pods that have gone");
        }
        loop {
            sockets.settle(&cache).await;
            changed.notified().await;
        }
    });
}

impl Sockets {
    fn views(&self) -> PathBuf {
        self.engine.settings().dir.join("views")
    }

    async fn sweep(&self, alive: &[Wanted]) -> Result<()> {
        let lives = |uid: &str| alive.iter().any(|wanted| wanted.uid == uid);
        view::sweep(&self.engine, &self.views(), lives).await?;
        for entry in fs::read_dir(&self.settings.dir).into_iter().flatten() {
            let path = entry?.path();
            let uid = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !lives(uid) {
                fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Opens and closes what has to be.
    async fn settle(&self, cache: &Cache<Pod>) {
        let pods: HashMap<Key, Wanted> =
            cache.list().iter().filter_map(|pod| Some((Key::of(&**pod), wanted(pod)?))).collect();
        let gone: Vec<Served> = {
            let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
            let keys: Vec<Key> = served
                .iter()
                .filter(|(key, served)| pods.get(key) != Some(&served.wanted))
                .map(|(key, _)| key.clone())
                .collect();
            keys.iter().filter_map(|key| served.remove(key)).collect()
        };
        for Served { wanted, task, view } in gone {
            task.cancel();
            let closed = async {
                self.engine.end_view(&view).await?;
                remove(&self.settings.dir.join(&wanted.uid))
            };
            if let Err(error) = closed.await {
                tracing::warn!(pod = wanted.name, error = format!("{error:#}"), "close a pod's socket");
            }
        }
        for (key, wanted) in pods {
            if self.served.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key) {
                continue;
            }
            match self.open(&wanted) {
                Ok(served) => {
                    self.served.lock().unwrap_or_else(PoisonError::into_inner).insert(key, served);
                }
                Err(error) => tracing::warn!(pod = wanted.name, error = format!("{error:#}"), "open a pod's socket"),
            }
        }
    }

    fn open(&self, wanted: &Wanted) -> Result<Served> {
        let views = self.views();
        fs::create_dir_all(&views).with_context(|| format!("make {}", views.display()))?;
        let mut rights = Rights::new(self.client.clone(), &self.settings.registry, &wanted.namespace, &wanted.account);
        rights.git.clone_from(&self.settings.git);
        rights.pod = Some((wanted.name.clone(), wanted.uid.clone()));
        rights.secrets.clone_from(&wanted.secrets);
        let confined = Confined {
            name: format!("namespace {}", wanted.namespace),
            registries: self.settings.registries.clone(),
            own: None,
        };
        let view = Arc::new(View::open(&wanted.uid, &views, rights, confined)?);
        let listener = listen(&self.settings.dir, &wanted.uid)?;
        let task = self.task.child(format!("socket-{}", wanted.uid));
        task.spawn("socket of a pod", server::serve(task.clone(), listener, self.engine.seen(view.clone())));
        Ok(Served { wanted: wanted.clone(), task, view })
    }
}

/// The socket in a pod's directory, for every user of the pod: nobody else sees the directory.
fn listen(dir: &Path, uid: &str) -> Result<UnixListener> {
    let own = dir.join(uid);
    fs::create_dir_all(&own).with_context(|| format!("make {}", own.display()))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755))?;
    let path = own.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
