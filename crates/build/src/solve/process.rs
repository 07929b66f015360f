//! Steps that run a process.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};

use super::{Done, Failure, Solve, State, Step};
use crate::{
    content,
    dockerfile::{Mount, MountType, Network, Security},
    ignore::Ignore,
    key::{Fields, Key},
    mounts::{self, Ground},
    request::NetworkMode,
    resolve::Process,
    run::{self, Stubs, Work},
    select::Pick,
    tree::{Root, Tree, overlay},
    trust,
};

impl Solve<'_> {
    pub(super) async fn run(
        &self,
        step: &Step<'_>,
        state: State,
        process: &Process,
        origins: &BTreeMap<String, Arc<Tree>>,
    ) -> Result<Done, Failure> {
        self.allow(process)?;
        let network = self.options.network.of_step(process.network);
        let key = self.run_key(&state, process, network, origins).await?;
        let _turn = self.inner.cache.turn(&key).await;
        if let Some(found) = self.find(step, &state, &[&key]).await? {
            return Ok((found, true));
        }
        let platform = &self.platforms[step.stage];
        if !run::runs(platform) {
            let message = format!(
                "this machine runs no programs for {platform}: register an emulator for them in /proc/sys/fs/binfmt_misc (with \
                 its flag F), build on such a machine, or have the step's stage be FROM --platform=$BUILDPLATFORM"
            );
            return Err(Failure::Other(anyhow::anyhow!(message)));
        }
        let _permit = self.inner.running.acquire().await.map_err(anyhow::Error::from)?;
        // What may do everything is root of the machine.
        let users = match process.security {
            Security::Insecure => None,
            Security::Sandbox => self.inner.step_users().await,
        };
        let begun = self.begin(&state, false).await?;
        let lowers = state.lowers(&self.inner.empty);
        let scratch = self.scratch.join(format!("step-{}", step.vertex));
        tokio::fs::create_dir_all(&scratch).await.with_context(|| format!("make {}", scratch.display()))?;
        let ground = Ground {
            caches: self.inner.settings.dir.join("mounts"),
            realm: self.realm.name(),
            scratch: scratch.join("mounts"),
            context: &self.context,
            origins,
            client: &self.client,
            working_dir: &process.working_dir,
            task: &self.inner.task,
            users,
        };
        tokio::fs::create_dir_all(&ground.scratch).await.context("make a directory for mounts")?;
        let mut ready = mounts::prepare(&ground, &process.mounts).await?;
        let made = std::mem::take(&mut ready.mounts);
        let targets: Vec<String> = made.iter().map(|made| made.target().to_owned()).collect();
        let (below, user, working_dir) = (lowers.clone(), process.user.clone(), process.working_dir.clone());
        let (user, stubs) = self
            .blocking(move || {
                let root = Root::new(overlay(&below, None).context("mount the layers")?);
                let user = run::user(&root, &user)?;
                let mut targets: Vec<&str> = targets.iter().map(String::as_str).collect();
                // Made by the runtime where it is missing, and then it stays.
                targets.retain(|target| *target != working_dir);
                Ok((user, Stubs::find(&root, &targets)?))
            })
            .await?;
        let sandbox = self.sandboxes.of(step.stage, network, users.is_some()).await?;
        let host = |name: &str| match self.inner.settings.trust {
            ::image::pull::Trust::Host => std::env::var(name).ok(),
            ::image::pull::Trust::Configured => None,
        };
        let mut environment =
            trust::environment(&process.environment, self.bundle.as_deref(), &self.options.arguments, &host);
        environment.append(&mut ready.environment);
        if let Some(socket) = ready.agent.take()
            && !process.environment.iter().any(|pair| pair.starts_with("SSH_AUTH_SOCK="))
        {
            environment.push(format!("SSH_AUTH_SOCK={socket}"));
        }
        let work = Work {
            sandbox: &sandbox,
            process,
            user,
            mounts: &made,
            lowers: &lowers,
            upper: &begun.0.upper,
            work: &begun.0.work,
            scratch: &scratch,
            environment,
            bundle: self.bundle.as_deref(),
            options: self.options,
        };
        let ended = run::run(&self.inner.runtime, &work, self.progress, step.vertex).await?;
        drop(ready);
        if ended.code != 0 {
            let mut message = format!(
                "process {:?} did not complete successfully: exit code: {}",
                process.arguments.join(" "),
                ended.code
            );
            if ended.out_of_memory {
                message.push_str(": killed, out of memory");
            }
            return Err(Failure::Ended { message, tail: ended.tail });
        }
        let upper = begun.0.upper.clone();
        self.blocking(move || {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
            stubs.remove(&Root::new(rustix::fs::open(&upper, flags, rustix::fs::Mode::empty())?))
        })
        .await?;
        tokio::fs::remove_dir_all(&scratch).await.with_context(|| format!("remove {}", scratch.display()))?;
        Ok((self.note(step, state, begun, vec![key]).await?, false))
    }

    /// Whether the build lets a step do what it asks for.
    fn allow(&self, process: &Process) -> anyhow::Result<()> {
        if process.security == Security::Insecure && !self.options.allow_insecure {
            bail!("security.insecure is not allowed: the build must be given --allow security.insecure");
        }
        let host = process.network == Network::Host && self.options.network != NetworkMode::Host;
        if host && !self.options.allow_host_network {
            bail!("network.host is not allowed: the build must be given --allow network.host");
        }
        if let Some(device) = process.devices.first() {
            bail!("--device={device}: devices are not given to steps");
        }
        Ok(())
    }

    async fn run_key(
        &self,
        state: &State,
        process: &Process,
        network: NetworkMode,
        origins: &BTreeMap<String, Arc<Tree>>,
    ) -> anyhow::Result<Key> {
        let mut key = Fields::new("run");
        key.add(&state.key).list(&process.arguments).list(&process.environment);
        key.add(&process.working_dir).add(&process.user);
        key.add(format!("{network:?} {:?}", process.security));
        if let Some((path, text)) = &process.script {
            key.add(path).add(text);
        }
        key.list(self.options.ulimits.iter().map(|limit| format!("{limit:?}")));
        key.add(format!("{:?}", self.options.shm_size));
        key.list(self.options.hosts.iter().map(|(name, ip)| format!("{name}={ip}")));
        for mount in &process.mounts {
            key.add(format!("{mount:?}"));
            let tree = match (&mount.from, mount.kind) {
                (Some(name), MountType::Bind | MountType::Cache) => origins.get(name),
                (None, MountType::Bind) => Some(&self.context),
                _ => None,
            };
            if let Some(tree) = tree {
                key.add(self.mounted(tree.clone(), mount).await?);
            }
        }
        Ok(key.finish())
    }

    /// The hash of what a mount shows.
    async fn mounted(&self, tree: Arc<Tree>, mount: &Mount) -> anyhow::Result<Key> {
        if let Some(identity) = tree.identity() {
            return Ok(identity);
        }
        let source = PathBuf::from("/").join(mount.source.as_deref().unwrap_or_default().trim_start_matches('/'));
        let (memory, stop) = (self.inner.memory.clone(), self.stop.clone());
        self.blocking(move || {
            let root = tree.open()?;
            let path = root.real_path(&source, true)?;
            let status = root.status(&path, false)?;
            let status = status.with_context(|| format!("mount source {}: not found", source.display()))?;
            let directory = rustix::fs::FileType::from_raw_mode(status.st_mode) == rustix::fs::FileType::Directory;
            let name = path.file_name().unwrap_or_default().to_owned();
            let pick = Pick { path, name, directory, include: None, exclude: Ignore::default() };
            content::digest(&memory, &tree, &root, &pick, &stop)
        })
        .await
    }
}
