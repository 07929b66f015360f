//! The builder: one for a machine, shared by all who ask it for builds.

use std::{path::PathBuf, sync::Arc};

use runtime::Runtime;
use task::Task;

use crate::{
    progress::Progress,
    request::{Built, Error, Request},
};

/// What a builder is given.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its directory, on the same file system as the image store: cache, what is under way.
    pub dir: PathBuf,
    /// Mirrors, certificates and credentials of this machine.
    pub registries: Arc<::image::pull::Registries>,
    /// Whether steps and downloads get the machine's certificate authorities and proxies.
    pub trust: ::image::pull::Trust,
    /// Steps that run at a time, in all builds together.
    pub parallel: usize,
}

/// Builds images. Clones are the same builder.
#[derive(Clone)]
pub struct Builder(Arc<Inner>);

struct Inner {
    settings: Settings,
    runtime: Runtime,
    task: Task,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Builder {
    /// Takes up the cache in `settings.dir`, and removes what builds of an earlier process have left.
    pub async fn open(task: &Task, settings: Settings, runtime: Runtime) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Inner { settings, runtime, task: task.clone() })))
    }

    /// Builds. Ends early, with everything that runs for it, when the future is dropped or the reader of `progress` goes.
    pub async fn build(&self, request: Request, progress: &Progress) -> Result<Built, Error> {
        let inner = &self.0;
        tracing::debug!(task = inner.task.name(), images = ?inner.runtime.images(), "build");
        progress.know(crate::progress::Vertex::default()).await?;
        Err(Error::Invalid(format!("{} outputs: steps cannot be carried out yet", request.outputs.len())))
    }
}
