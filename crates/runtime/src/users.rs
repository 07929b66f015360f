//! The users of build steps: root of a user namespace of its own, nobody outside of it.
//!
//! ```text
//! inside    0 ── root      1000       65534 ── nobody      2147483646
//! outside   2147483648 ─── … ──────── … ────────────────── 4294967294      none of them has a file or a process else
//! disk      0              1000       65534                2147483646      mounts are mapped: layers are as without
//! ```
//!
//! <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>, <https://docs.kernel.org/filesystems/idmappings.html>

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use container::{idmap, shim};

use crate::{
    description::{ContainerConfig, Mount},
    sandboxes::STEP_USERS,
    service::Runtime,
    steps::{StepConfig, StepRoot},
};

/// The users of steps, to map mounts by. Clones are the same.
#[derive(Clone, Debug)]
pub struct StepUsers(Arc<OwnedFd>);

impl StepUsers {
    /// Makes a user namespace with their mapping, in which nobody is. Blocks for a moment.
    ///
    /// # Errors
    /// Where the kernel has no user namespaces, or may make no more of them.
    pub fn make() -> io::Result<Self> {
        Ok(Self(Arc::new(idmap::namespace(STEP_USERS.outside, STEP_USERS.size)?)))
    }

    /// Has the files of a mount, which is not mounted anywhere yet, belong to steps' users as they belong to the machine's.
    ///
    /// # Errors
    /// `EINVAL` from file systems that cannot do so.
    pub fn map(&self, mount: impl AsFd) -> io::Result<()> {
        idmap::map(mount, &*self.0)
    }

    /// Whom of the machine's users and groups the steps' root is.
    pub fn root() -> u32 {
        STEP_USERS.outside
    }
}

impl Runtime {
    /// Tries whether steps can have users of their own: in a sandbox that has (`SandboxConfig::step_users`), over layers in `dir`, an
    /// empty directory on the file system where layers and mounts of steps lie, with the overlays' `options`. Nothing is run.
    ///
    /// # Errors
    /// What the kernel or a file system cannot do.
    pub async fn try_step_users(&self, sandbox: &str, dir: &Path, options: &[&str]) -> Result<()> {
        let make = |name: &str| -> Result<PathBuf> {
            let path = dir.join(name);
            std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
            Ok(path)
        };
        let (lowers, bound) = (vec![make("lower")?, make("below")?], make("bound")?);
        let (upper, work) = (make("upper")?, make("work")?);
        let step = StepConfig {
            container: ContainerConfig {
                name: "try".into(),
                command: vec!["/none".into()],
                mounts: vec![Mount::bind(bound, "/bound")],
                ..ContainerConfig::default()
            },
            root: StepRoot { lowers, upper, work, options: options.iter().map(ToString::to_string).collect() },
            ..StepConfig::default()
        };
        match self.run_step(sandbox, &step).await {
            // Everything is there by the time that the program is looked for.
            Err(error) if matches!(error.downcast_ref(), Some(shim::Error::ProgramNotFound(_))) => Ok(()),
            Err(error) => Err(error),
            Ok(step) => self.remove_container(&step.id).await,
        }
    }
}
