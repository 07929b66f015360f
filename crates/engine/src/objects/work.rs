//! One build of an object: its sources found, its rights asked for, carried out in a control group, its lines logged.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use api::quantity::Quantity;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use build::{
    client::{Given, Ssh},
    progress::{Event, Progress},
    request::{
        self, Built, CachePlace, CacheTo, Compression, Confined, Error, File, NetworkMode, Options, Output, Realm,
        Request,
    },
    shown::{model::Model, plain::Plain},
    source::address::over_ssh,
};
use client::volumes;
use container::cgroup;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Secret},
};
use kube::Api;
use oci::Reference;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use task::Task;

use super::{
    Builds, DYING, GROUP, door,
    kind::{Build, Context, Git, Phase, Steps, Volume},
    log::Log,
    uid_of,
};
use crate::{
    disk,
    rights::{InTheNameOf, Rights},
};

/// What steps of a build have where nothing is said of how long it may take.
const LONGEST: Duration = Duration::from_hours(24);

/// How a build has ended.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// Over.
    pub phase: Phase,
    /// In a word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The image's id.
    pub image: Option<String>,
    /// Digest of what was pushed.
    pub digest: Option<String>,
    /// Names that it was pushed under.
    pub tags: Vec<String>,
    /// Steps.
    pub steps: Option<Steps>,
    /// Length of the log.
    pub log_bytes: Option<u64>,
}

/// What a build is, once everything that it names was found.
struct Ready {
    request: Request,
    /// What has to stay open meanwhile.
    _directory: Option<OwnedFd>,
}

/// Why a build could not begin: its object is wrong, or something that it names is not there.
fn wrong(error: &anyhow::Error) -> End {
    End { phase: Phase::Failed, reason: "InvalidSpec", message: format!("{error:#}"), ..End::default() }
}

impl Builds {
    /// Carries a build out; none where the server ends first, which begins it again.
    pub(super) async fn carry_out(&self, build: &Build, task: &Task, mut log: Log) -> Option<End> {
        if build.status.attempts > 0 {
            note(&mut log, "\n--- the server was restarted: the build begins again ---\n");
        }
        let limit = build.spec.active_deadline_seconds.map_or(LONGEST, Duration::from_secs);
        let mut end = match self.prepare(build).await {
            Ok(ready) => self.run(build, ready, task, limit, &mut log).await?,
            Err(error) => wrong(&error),
        };
        if end.phase == Phase::Failed {
            note(&mut log, &format!("ERROR: {}\n", end.message));
        }
        end.log_bytes = Some(log.length());
        Some(end)
    }

    async fn run(&self, build: &Build, ready: Ready, task: &Task, limit: Duration, log: &mut Log) -> Option<End> {
        let group = match self.group(build).await {
            Ok(group) => group,
            Err(error) => return Some(wrong(&error)),
        };
        let tags = build.spec.tags.clone();
        let (progress, mut events) = Progress::channel();
        let builder = self.0.engine.builder().clone();
        let Ready { mut request, _directory } = ready;
        request.options.cgroup_parent = format!("{GROUP}{}", uid_of(build));
        let work = async {
            let built = builder.build(request, &progress).await;
            drop(progress);
            built
        };
        tokio::pin!(work);
        let deadline = tokio::time::sleep(limit);
        tokio::pin!(deadline);
        let (mut model, mut plain, mut stopped) = (Model::default(), Plain::default(), None);
        let built = loop {
            tokio::select! {
                built = &mut work => break built,
                Some(event) = events.recv() => tell(log, &mut model, &mut plain, &event),
                // Once nobody hears it any more, the build ends, and all that ran for it.
                () = task.cancelled(), if stopped.is_none() => {
                    stopped = Some(("Cancelled", "it was cancelled".to_owned()));
                    events.close();
                }
                () = &mut deadline, if stopped.is_none() => {
                    let message = format!("it was not done within {} seconds", limit.as_secs());
                    stopped = Some(("DeadlineExceeded", message));
                    events.close();
                }
            }
        };
        while let Ok(event) = events.try_recv() {
            tell(log, &mut model, &mut plain, &event);
        }
        note(log, &plain.end(&model));
        note(log, &model.warnings());
        if let Some(group) = group {
            let removed = disk::blocking(move || Ok(group.remove(DYING)?)).await;
            if let Err(error) = removed {
                tracing::warn!(error = format!("{error:#}"), "remove the control group of a build");
            }
        }
        if self.0.task.is_cancelled() {
            return None;
        }
        Some(match (stopped, built) {
            (Some((reason, message)), Err(_)) => {
                let phase = if reason == "Cancelled" { Phase::Cancelled } else { Phase::Failed };
                End { phase, reason, message, ..End::default() }
            }
            (_, Err(error)) => {
                let reason = match &error {
                    Error::Dockerfile { step: Some(_), .. } => "StepFailed",
                    Error::Dockerfile { .. } => "InvalidDockerfile",
                    Error::Invalid(_) => "InvalidSpec",
                    Error::Canceled | Error::Other(_) => "BuildFailed",
                };
                note(log, &error.show());
                End { phase: Phase::Failed, reason, message: error.to_string(), ..End::default() }
            }
            (_, Ok(built)) => self.made(built, tags).await,
        })
    }

    /// The end of a build that went well. An image that was not asked for is not kept.
    async fn made(&self, built: Built, tags: Vec<String>) -> End {
        let steps = Some(Steps { done: built.steps.0, cached: built.steps.1 });
        let image = built.image.as_ref().map(ToString::to_string);
        if tags.is_empty() {
            let images = self.0.engine.images();
            let unused = |found: &image::Image| {
                found.names.is_empty() && found.digests.is_empty() && images.snapshots_of(&found.id).is_empty()
            };
            if let Some(found) = image.as_deref().and_then(|id| images.get(id)).filter(unused)
                && let Err(error) = images.remove(found.id.as_str()).await
            {
                tracing::warn!(error = format!("{error:#}"), "remove an image that nobody asked for");
            }
        }
        let digest = built.manifest.filter(|_| !tags.is_empty()).map(|digest| digest.to_string());
        let message = match &digest {
            Some(digest) => format!("pushed as {digest}"),
            None => "built; without tags nothing is pushed".to_owned(),
        };
        End { phase: Phase::Succeeded, reason: "Succeeded", message, image, digest, tags, steps, log_bytes: None }
    }

    /// The control group of a build, with its bounds; none where containers have none.
    async fn group(&self, build: &Build) -> Result<Option<cgroup::Group>> {
        let bounds = &build.spec.resources;
        let read = |text: &Option<k8s_openapi::apimachinery::pkg::api::resource::Quantity>, name: &str| {
            let quantity = text.as_ref().map(|text| Quantity::parse(&text.0));
            quantity.transpose().map_err(|error| anyhow::anyhow!("resources.{name}: {error}"))
        };
        let (cpu, memory) = (read(&bounds.cpu, "cpu")?, read(&bounds.memory, "memory")?);
        let resources = runtime::description::Resources {
            cpu_quota: cpu.map(|cpu| cpu.milli().max(10) * 100),
            memory: memory.map(|memory| memory.value()).filter(|bytes| *bytes > 0),
            ..Default::default()
        };
        let root = cgroup::Path::new(&self.0.settings.cgroup_root)?;
        let path = root.join(&format!("{GROUP}{}", uid_of(build)))?;
        disk::blocking(move || {
            let version = cgroup::Version::detect()?;
            let group = cgroup::Group::create(&version, &path).context("make the control group of a build")?;
            group.limit(&serde_json::from_value(resources.to_oci())?).context("bound a build")?;
            Ok(Some(group))
        })
        .await
    }

    /// Finds everything that an object names.
    async fn prepare(&self, build: &Build) -> Result<Ready> {
        let (spec, namespace) = (&build.spec, build.metadata.namespace.as_deref().unwrap_or_default());
        let settings = &self.0.settings;
        let tags = spec.tags.iter().map(|tag| {
            let name = Reference::parse(tag).with_context(|| format!("tag {tag:?}"))?;
            if name.digest().is_some() {
                bail!("tag {tag:?}: a name with a digest cannot be pushed");
            }
            Ok(name)
        });
        let tags = tags.collect::<Result<Vec<_>>>()?;
        let mut given = Given::default();
        for secret in &spec.secrets {
            let data = self.secret(namespace, &secret.secret_name).await?;
            let bytes = data.get(&secret.key);
            let bytes = bytes.with_context(|| format!("secret {} has no key {:?}", secret.secret_name, secret.key))?;
            given.secrets.insert(secret.id.clone(), bytes.0.clone());
        }
        let (context, directory) = self.context(build, namespace, &mut given).await?;
        let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let mut rights = Rights::new(self.0.client.clone(), &settings.registry, namespace, account);
        rights.git.clone_from(&settings.git);
        rights.secrets = spec.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect();
        let dockerfile = match &spec.dockerfile_text {
            Some(text) => File::Text { name: "Dockerfile".to_owned(), text: text.clone(), ignore: None },
            None => File::InContext(spec.dockerfile.clone().unwrap_or_else(|| "Dockerfile".to_owned())),
        };
        let options = Options {
            target: spec.target.clone().filter(|target| !target.is_empty()),
            arguments: spec.args.iter().map(|argument| (argument.name.clone(), argument.value.clone())).collect(),
            labels: spec.labels.clone(),
            platform: spec.platform.clone().filter(|platform| !platform.is_empty()),
            no_cache: spec.no_cache,
            network: match spec.network.as_deref() {
                Some("None") => NetworkMode::None,
                _ => NetworkMode::Default,
            },
            cache_from: spec.cache_from.iter().map(|name| registry(name)).collect(),
            cache_to: spec.cache_to.iter().map(|name| cache_to(name)).collect(),
            ..Options::default()
        };
        let output = Output::Image { push: !tags.is_empty(), names: tags, compression: Compression::default() };
        let request = Request {
            options,
            context,
            dockerfile,
            named: Default::default(),
            client: Arc::new(InTheNameOf { rights: Arc::new(rights), client: Arc::new(given) }),
            outputs: vec![output],
            realm: Realm::Confined(Confined {
                name: format!("namespace {namespace}"),
                registries: settings.registries.clone(),
                own: None,
            }),
        };
        Ok(Ready { request, _directory: directory })
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<std::collections::BTreeMap<String, ByteString>> {
        let secrets: Api<Secret> = Api::namespaced(self.0.client.clone(), namespace);
        let found = secrets.get_opt(name).await.with_context(|| format!("read secret {name}"))?;
        Ok(found.with_context(|| format!("secret {name:?} not found"))?.data.unwrap_or_default())
    }

    async fn context(
        &self,
        build: &Build,
        namespace: &str,
        given: &mut Given,
    ) -> Result<(request::Context, Option<OwnedFd>)> {
        let Context { git, volume, upload } = &build.spec.context;
        if let Some(git) = git {
            if let Some(name) = git.secret_name.as_deref().filter(|name| !name.is_empty()) {
                let data = self.secret(namespace, name).await?;
                if over_ssh(&git.url)? {
                    given.ssh = with_key(&data, name).with_context(|| format!("secret {name:?}"))?;
                } else {
                    let (id, value) = authorization(&data).with_context(|| format!("secret {name:?}"))?;
                    given.secrets.insert(id.to_owned(), value);
                }
            }
            return Ok((request::Context::Remote(remote(git)?), None));
        }
        if let Some(volume) = volume {
            let directory = self.volume(namespace, volume).await?;
            // By its descriptor: the path may lead elsewhere a moment later.
            let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
            return Ok((request::Context::Directory(path), Some(directory)));
        }
        if upload.is_some() {
            let path = self.dir(uid_of(build)).join(door::CONTEXT);
            let file = tokio::fs::File::open(&path).await.context("open the context that was sent")?;
            return Ok((request::Context::Archive(Box::new(file)), None));
        }
        Ok((request::Context::Empty, None))
    }

    /// The directory of a claim's volume.
    async fn volume(&self, namespace: &str, wanted: &Volume) -> Result<OwnedFd> {
        let client = &self.0.client;
        let name = &wanted.claim_name;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
        let claim = claims.get_opt(name).await.with_context(|| format!("read claim {name}"))?;
        let claim = claim.with_context(|| format!("claim {name:?} not found"))?;
        let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|volume| !volume.is_empty());
        let bound = bound.with_context(|| format!("claim {name:?} is not bound to a volume"))?;
        let found = Api::<PersistentVolume>::all(client.clone()).get_opt(&bound).await;
        let found = found.with_context(|| format!("read volume {bound}"))?;
        let found = found.with_context(|| format!("volume {bound:?} of claim {name:?} not found"))?;
        if !volumes::is_for(&found, &claim) {
            bail!("volume {bound:?} is not set aside for claim {name:?}");
        }
        let node = Api::<Node>::all(client.clone()).get(&self.0.settings.node).await.context("read the node")?;
        if !volumes::reaches(&found, &node) {
            bail!(
                "volume {bound:?} of claim {name:?} is not on node {}: name its node in nodeName",
                self.0.settings.node
            );
        }
        let spec = found.spec.unwrap_or_default();
        let path = spec.local.map(|local| local.path).or(spec.host_path.map(|host| host.path));
        let path =
            path.with_context(|| format!("volume {bound:?} is neither local nor hostPath: builds read no others"))?;
        let below = wanted.path.clone().unwrap_or_default();
        disk::blocking(move || {
            let shown = format!("directory {below:?} of claim");
            open_below(Path::new(&path), &below).with_context(|| shown)
        })
        .await
        .with_context(|| format!("claim {name:?}"))
    }
}

fn registry(reference: &str) -> CachePlace {
    CachePlace::Registry { reference: reference.to_owned() }
}

fn cache_to(reference: &str) -> CacheTo {
    CacheTo { place: registry(reference), all: true, compression: Compression::Gzip, may_fail: false }
}

/// A directory of a volume; links in it lead nowhere outside.
fn open_below(volume: &Path, path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(volume, flags, Mode::empty()).with_context(|| format!("open {}", volume.display()))?;
    let path = path.trim_matches('/');
    if path.is_empty() {
        return Ok(root);
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)?)
}

/// A repository as contexts are named.
fn remote(git: &Git) -> Result<String> {
    let Git { url, reference, path, .. } = git;
    let lower = url.to_ascii_lowercase();
    let over_ssh = over_ssh(url).context("context.git.url")?;
    if !over_ssh && !lower.starts_with("https://") && !lower.starts_with("http://") {
        bail!("context.git.url {url:?}: an https://, ssh:// or http:// address is wanted");
    }
    if url.contains(['#', '?']) {
        bail!("context.git.url {url:?}: what to take of it is said in ref and path");
    }
    let reference = reference.as_deref().unwrap_or_default();
    if reference.contains([':', '#']) {
        bail!("context.git.ref {reference:?}: no such name");
    }
    let url = url.trim_end_matches('/');
    // Of the web, what ends otherwise is a file.
    let suffix = if over_ssh || url.ends_with(".git") { "" } else { ".git" };
    Ok(format!("{url}{suffix}#{reference}:{}", path.as_deref().unwrap_or_default()))
}

/// How a repository is asked with a Secret's credentials: the name by which they are looked for, and their text.
fn authorization(data: &std::collections::BTreeMap<String, ByteString>) -> Result<(&'static str, Vec<u8>)> {
    let text = |key: &str| data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0).trim().to_owned());
    match (text("token"), text("username"), text("password")) {
        (Some(token), ..) => Ok(("GIT_AUTH_TOKEN", token.into_bytes())),
        (None, Some(user), Some(password)) => {
            Ok(("GIT_AUTH_HEADER", format!("basic {}", STANDARD.encode(format!("{user}:{password}"))).into_bytes()))
        }
        _ => bail!("it has neither username and password nor token"),
    }
}

/// How a repository is asked over SSH with a Secret's key: of type `kubernetes.io/ssh-auth`, or as Jenkins has it.
fn with_key(data: &std::collections::BTreeMap<String, ByteString>, name: &str) -> Result<Ssh> {
    let text = |key: &str| {
        let bytes = data.get(key)?;
        Some(String::from_utf8_lossy(&bytes.0).into_owned()).filter(|text| !text.trim().is_empty())
    };
    let key = text("ssh-privatekey").or_else(|| text("privateKey")).context("it has no ssh-privatekey")?;
    Ok(Ssh {
        key: Some((key, text("passphrase"))),
        user: text("username").map(|user| user.trim().to_owned()),
        known_hosts: text("known_hosts"),
        place: format!("the Secret {name:?}"),
    })
}

/// Adds to a log; one that cannot be written does not end the build.
fn note(log: &mut Log, text: &str) {
    if let Err(error) = log.write(text) {
        tracing::warn!(%error, "write the log of a build");
    }
}

fn tell(log: &mut Log, model: &mut Model, plain: &mut Plain, event: &Event) {
    model.apply(event);
    note(log, &plain.lines(model, event));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn repositories_become_contexts() {
        let of = |url: &str, reference: Option<&str>, path: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            remote(&Git { url: url.into(), reference: text(reference), path: text(path), secret_name: None })
        };
        assert_eq!(of("https://a/b.git", None, None).unwrap(), "https://a/b.git#:");
        assert_eq!(of("https://a/b/", Some("v1"), Some("sub/dir")).unwrap(), "https://a/b.git#v1:sub/dir");
        assert_eq!(of("git@host:a/b", Some("v1"), None).unwrap(), "git@host:a/b#v1:");
        assert_eq!(of("ssh://git@host:22/a", None, None).unwrap(), "ssh://git@host:22/a#:");
        let wrong = ["/srv/repo.git", "file:///srv/repo.git", "https://a/b#c", "https://a/b?ref=c", "ssh://-x/a"];
        for wrong in wrong {
            assert!(of(wrong, None, None).is_err(), "{wrong}");
        }
        assert!(of("https://a/b", Some("a:b"), None).is_err());
    }

    #[test]
    fn secrets_of_repositories_are_of_two_kinds() {
        let data = |pairs: &[(&str, &str)]| -> BTreeMap<String, ByteString> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect()
        };
        assert_eq!(authorization(&data(&[("token", "t\n")])).unwrap(), ("GIT_AUTH_TOKEN", b"t".to_vec()));
        let basic = authorization(&data(&[("username", "u"), ("password", "p")])).unwrap();
        assert_eq!(basic, ("GIT_AUTH_HEADER", b"basic dTpw".to_vec()));
        assert!(authorization(&data(&[("username", "u")])).is_err());
        let ssh = with_key(&data(&[("ssh-privatekey", "k"), ("known_hosts", "h"), ("passphrase", "")]), "s").unwrap();
        assert_eq!((ssh.key, ssh.known_hosts), (Some(("k".to_owned(), None)), Some("h".to_owned())));
        assert!(with_key(&data(&[("password", "p")]), "s").is_err());
    }

    #[test]
    fn links_in_a_volume_do_not_lead_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("volume/inner")).unwrap();
        std::fs::create_dir_all(dir.path().join("secret")).unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("volume/out")).unwrap();
        std::os::unix::fs::symlink("/inner", dir.path().join("volume/in")).unwrap();
        let volume = dir.path().join("volume");
        assert!(open_below(&volume, "").is_ok() && open_below(&volume, "/inner/").is_ok());
        assert!(open_below(&volume, "in").is_ok());
        assert!(open_below(&volume, "out").is_err() && open_below(&volume, "../secret").is_err());
    }
}
