//! What a step sees besides its root file system: `RUN --mount`, made ready before it starts and taken away after it.
//!
//! ```text
//! dockerfile::Mount ─ prepare ─► Ready: binds and memory for the container, variables, what to undo
//!
//! bind     the tree itself, read-only; a writable one through an overlay whose upper part is thrown away
//! cache    a directory that stays, under a lock
//! tmpfs    memory
//! secret   a file in memory, or a variable: no disk, no layer and no key ever has it
//! ssh      a socket whose connections go to the agent of whoever asked for the build
//! ```
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#run---mount>.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use runtime::users::StepUsers;
use task::Task;

use crate::{
    client::Client,
    dockerfile::{Mount, MountType},
    tree::Tree,
};

mod agent;
mod bind;
pub mod cache;
mod copied;
mod secret;

/// A mount that a container can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// A file or directory of this machine.
    Bind {
        /// Absolute, without links, until the step has ended.
        source: PathBuf,
        /// Absolute path in the step.
        target: String,
        /// Whether it refuses writes.
        read_only: bool,
        /// Whether its files belong to the step's users already.
        mapped: bool,
    },
    /// Memory.
    Memory {
        /// Absolute path in the step.
        target: String,
        /// At most so many bytes.
        size: Option<u64>,
    },
}

impl Made {
    /// Where in the step.
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. } | Self::Memory { target, .. } => target,
        }
    }
}

/// The mounts of a step, until dropped.
#[derive(Default)]
pub struct Ready {
    /// In the order of the Dockerfile.
    pub mounts: Vec<Made>,
    /// Variables that the step gets beside its own. They may be secret.
    pub environment: Vec<String>,
    /// The socket of the first agent, which `SSH_AUTH_SOCK` names unless the step has that variable already.
    pub agent: Option<String>,
    /// What is undone when the step has ended, the last first: mounts, sockets, locks.
    pub guards: Vec<Box<dyn Send>>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        while self.guards.pop().is_some() {}
    }
}

/// What mounts are made from.
pub struct Ground<'a> {
    /// A directory for caches, which stay, below the builder's own.
    pub caches: PathBuf,
    /// Caches are shared with builds of this realm alone.
    pub realm: &'a str,
    /// An empty directory for this step alone; removed with the step.
    pub scratch: PathBuf,
    /// The main context, without what is ignored.
    pub context: &'a Arc<Tree>,
    /// Stages, images and contexts that the step's mounts name with `from`, by that name.
    pub origins: &'a BTreeMap<String, Arc<Tree>>,
    /// Whom to ask.
    pub client: &'a Arc<dyn Client>,
    /// The directory that relative targets are below.
    pub working_dir: &'a str,
    /// What serves agents' sockets while the step runs.
    pub task: &'a Task,
    /// The users of the step; none where they are the machine's.
    pub users: Option<&'a StepUsers>,
}

impl Ground<'_> {
    /// Where files of a mount come from, and whether it is nothing at all.
    fn origin(&self, mount: &Mount) -> Result<Option<&Arc<Tree>>> {
        match mount.from.as_deref() {
            None if mount.kind == MountType::Cache => Ok(None),
            None => Ok(Some(self.context)),
            Some("scratch") => Ok(None),
            Some(name) => {
                let tree = self.origins.get(name);
                Ok(Some(tree.with_context(|| format!("mount from {name:?}: neither a stage nor an image"))?))
            }
        }
    }

    /// A new directory for one mount.
    fn place(&self, name: &str) -> Result<PathBuf> {
        let path = self.scratch.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }
}

/// Makes the mounts of a step.
pub async fn prepare(ground: &Ground<'_>, mounts: &[Mount]) -> Result<Ready> {
    let mut ready = Ready::default();
    let mut agents = 0;
    for (at, mount) in mounts.iter().enumerate() {
        let target = || target(ground.working_dir, mount.target.as_deref().unwrap_or_default());
        match mount.kind {
            MountType::Bind => bind::make(ground, mount, at, target()?, &mut ready).await?,
            MountType::Cache => cache::make(ground, mount, target()?, &mut ready).await?,
            MountType::Tmpfs => ready.mounts.push(Made::Memory { target: target()?, size: mount.size }),
            MountType::Secret => secret::make(ground, mount, at, &mut ready).await?,
            MountType::Ssh => {
                agent::make(ground, mount, agents, &mut ready).await?;
                agents += 1;
            }
        }
    }
    Ok(ready)
}

/// An absolute target, which is not the root.
fn target(working_dir: &str, target: &str) -> Result<String> {
    let whole = if target.starts_with('/') { target.to_owned() } else { format!("{working_dir}/{target}") };
    let clean = clean(&whole);
    if clean == "/" || clean.contains('\0') {
        bail!("invalid mount target {target:?}");
    }
    Ok(clean)
}

/// An absolute path without `.` and `..`.
fn clean(path: &str) -> String {
    format!("/{}", crate::path::clean(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_absolute_and_never_the_root() {
        for (written, found) in [("/a/../b", "/b"), ("x", "/work/x"), ("", "/work"), ("../../y/", "/y")] {
            assert_eq!(target("/work", written).unwrap(), found, "{written}");
        }
        for wrong in ["/", "..", "/a/..", "a\0"] {
            assert!(target("/work", wrong).is_err(), "{wrong:?}");
        }
        assert!(target("/", "").is_err());
    }
}
