//! What a step sees besides its root file system: `RUN --mount`, made ready before it starts and taken away after it.
//!
//! ```text
//! dockerfile::Mount ─ prepare ─► Ready: binds and memory for the container, variables, what to undo
//! ```
//!
//! Specification: <https://docs.docker.com/reference/dockerfile/#run---mount>.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::{client::Client, dockerfile::Mount, tree::Tree};

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
    },
    /// Memory.
    Memory {
        /// Absolute path in the step.
        target: String,
        /// At most so many bytes.
        size: Option<u64>,
    },
}

/// The mounts of a step, until dropped.
#[derive(Default)]
pub struct Ready {
    /// In the order of the Dockerfile.
    pub mounts: Vec<Made>,
    /// Variables that the step gets beside its own.
    pub environment: Vec<String>,
    /// What is undone when the step has ended: directories, sockets, locks.
    pub guards: Vec<Box<dyn Send>>,
}

/// What mounts are made from.
pub struct Ground<'a> {
    /// A directory for caches, which stay, below the builder's own.
    pub caches: PathBuf,
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
    /// Numbers of the user that runs the step.
    pub user: (u32, u32),
}

/// Makes the mounts of a step.
pub async fn prepare(ground: &Ground<'_>, mounts: &[Mount]) -> anyhow::Result<Ready> {
    match mounts.first() {
        None => Ok(Ready::default()),
        Some(mount) => anyhow::bail!("mounts of type {:?} cannot be made in {}", mount.kind, ground.scratch.display()),
    }
}
