//! Processes over directories that belong to no image: the steps of a build.
//!
//! ```text
//! sandbox ─ create_step ─► container, its streams joined ─ start ─► runs ─► exit code
//! ```
//!
//! A step leaves nothing: it has no log file and no snapshot, and its owner removes it when it has ended.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use container::shim::{Exec, Rootfs, Stdio};
use serde_json::json;

use crate::{
    containers::seccomp_of,
    description::ContainerConfig,
    record::{self, ContainerRecord, Exit, SandboxRecord},
    service::{Container, Runtime, lock},
    spec::{self, ImageConfig},
    user::User,
};

/// What the UIDs of sandboxes for steps begin with, so that nobody takes them for pods.
pub const UID_PREFIX: &str = "build-";

/// What a step is given.
#[derive(Clone, Debug, Default)]
pub struct StepConfig {
    /// Command line, environment, mounts, privileges; its image is not looked at.
    pub container: ContainerConfig,
    /// Who runs it.
    pub user: User,
    /// Its root file system.
    pub root: StepRoot,
    /// Directories in memory: where, and bytes at most.
    pub memory: Vec<(PathBuf, Option<u64>)>,
    /// Bounds of its processes: `nofile` and the like, soft and hard; [`u64::MAX`] for none.
    pub limits: Vec<(String, u64, u64)>,
}

/// The root file system of a step: an overlay.
#[derive(Clone, Debug, Default)]
pub struct StepRoot {
    /// Read-only directories, the topmost first.
    pub lowers: Vec<PathBuf>,
    /// Where it writes.
    pub upper: PathBuf,
    /// Overlayfs's own directory.
    pub work: PathBuf,
    /// Further mount options.
    pub options: Vec<String>,
}

/// A step that runs.
#[derive(Debug)]
pub struct Step {
    /// The container's id.
    pub id: String,
    /// Its streams; no input.
    pub streams: Exec,
}

impl Runtime {
    /// Starts the process of a step in a sandbox. It is to be removed with [`Runtime::remove_container`], whatever becomes of it.
    pub async fn run_step(&self, sandbox: &str, step: &StepConfig) -> Result<Step> {
        let sandbox = self.sandbox(sandbox)?;
        let shim = sandbox.shim()?;
        let id = record::new_id()?;
        let owner = lock(&sandbox.record).clone();
        // What it writes becomes a layer, whose files belong to whom they belonged for the step.
        let mapped = owner.config.own_users;
        let (runtime, key, wanted) = (self.clone(), id.clone(), step.clone());
        let (record, spec) = tokio::task::spawn_blocking(move || runtime.prepare_step(&owner, &key, &wanted)).await??;
        lock(&sandbox.containers).insert(id.clone(), Arc::new(Container::new(record)));
        let StepRoot { lowers, upper, work, options } = step.root.clone();
        let rootfs = Rootfs::Overlay { lowers, upper, work, options, mapped };
        let run = async {
            shim.create(&id, &spec, &rootfs, &Stdio::default()).await?;
            // Before anything is written.
            let streams = shim.attach(&id, false).await?;
            shim.start(&id).await?;
            Ok::<_, container::shim::Error>(streams)
        };
        match run.await {
            Ok(streams) => Ok(Step { id, streams }),
            Err(error) => {
                self.remove_container(&id).await?;
                Err(error.into())
            }
        }
    }

    fn prepare_step(
        &self,
        sandbox: &SandboxRecord,
        id: &str,
        step: &StepConfig,
    ) -> Result<(ContainerRecord, oci_spec::runtime::Spec)> {
        let config = &step.container;
        if config.command.is_empty() {
            bail!("a step without a command");
        }
        let dir = record::container_dir(&self.0.config.dir, &sandbox.id, id);
        let rootfs = dir.join("rootfs");
        std::fs::create_dir_all(&rootfs).with_context(|| format!("make {}", rootfs.display()))?;
        let capabilities = spec::capabilities(config, &self.0.capabilities)?;
        let cgroup = self.cgroup(sandbox)?.join(id)?;
        let mut spec = spec::build(&spec::Input {
            container: config,
            sandbox: &sandbox.config,
            image: &ImageConfig::default(),
            user: &step.user,
            sandbox_dir: &record::sandbox_dir(&self.0.config.dir, &sandbox.id),
            container_dir: &dir,
            rootfs: &rootfs,
            cgroups_path: Path::new(cgroup.as_str()),
            available: &self.0.capabilities,
            open_files: self.0.open_files,
            seccomp: seccomp_of(config, &capabilities)?,
            host_devices: &crate::containers::device_nodes(config)?,
        })?;
        for (target, size) in &step.memory {
            let mut options = vec!["nosuid".to_owned(), "nodev".into(), "mode=1777".into()];
            options.extend(size.map(|size| format!("size={size}")));
            let mount = json!({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options});
            let mount = serde_json::from_value(mount).context("describe a mount")?;
            spec.mounts_mut().get_or_insert_default().push(mount);
        }
        if !step.limits.is_empty() {
            let mut process = spec.process().clone().unwrap_or_default();
            let mut limits = process.rlimits().clone().unwrap_or_default();
            for (name, soft, hard) in &step.limits {
                let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
                let limit: oci_spec::runtime::PosixRlimit =
                    serde_json::from_value(json!({"type": kind, "soft": soft, "hard": hard}))
                        .with_context(|| format!("limit {name}"))?;
                limits.retain(|known| known.typ() != limit.typ());
                limits.push(limit);
            }
            process.set_rlimits(Some(limits));
            spec.set_process(Some(process));
        }
        let record = ContainerRecord {
            id: id.to_owned(),
            sandbox: sandbox.id.clone(),
            image_id: String::new(),
            user: (step.user.uid, step.user.gid, step.user.groups.clone()),
            stop_signal: libc::SIGKILL,
            created_at: SystemTime::now(),
            started_at: None,
            exit: None,
            failure: None,
            config: config.clone(),
        };
        self.save_container(&record)?;
        Ok((record, spec))
    }

    /// How a step has ended, once it has.
    pub async fn step_exit(&self, id: &str) -> Result<Exit> {
        // The sender of a container that is not there is gone, and tells at once.
        let mut ended = self.ended(id);
        let _ = ended.wait_for(|ended| *ended).await;
        self.container_record(id).and_then(|record| record.exit).with_context(|| format!("step {id} was removed"))
    }
}
