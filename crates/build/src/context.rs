//! The contexts of a build: opened, unpacked or fetched, and what of them counts.
//!
//! ```text
//! directory ─ opened, never left ──┐
//! archive ─ confined unpacking ────┼─► a directory ─ .dockerignore ─► Tree
//! URL, repository ─ source ────────┘                 Dockerfile ─► text
//! image ─ layers ─────────────────────────────────────────────────► Tree
//! ```
//!
//! `NAME.dockerignore` beside the Dockerfile counts before the context's own file.
//! <https://docs.docker.com/build/concepts/context/>

use std::{
    any::Any,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, OFlags};

use crate::{
    dockerfile::LARGEST,
    ignore::Ignore,
    request::{Context, File},
    source::{self, Fetch, Fetching},
    tree::{Root, Tree},
};

/// The largest `.dockerignore`, in bytes.
const IGNORE: u64 = 1 << 20;

/// A context that is here.
pub struct Opened {
    directory: Option<OwnedFd>,
    holds: Vec<Arc<dyn Any + Send + Sync>>,
    /// The Dockerfile that a URL has led to.
    text: Option<String>,
    /// Layers of an image.
    layers: Option<Tree>,
}

/// What opening takes.
pub struct Ground<'a> {
    /// Unpacks archives.
    pub store: &'a image::Store,
    /// A directory of this build's own, for what is unpacked.
    pub scratch: &'a Path,
    /// Fetches.
    pub fetching: &'a Fetching,
}

fn open_directory(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open context {}", path.display()))
}

/// Opens a context; `image` is what makes a tree of an image.
pub async fn open(
    ground: &Ground<'_>,
    context: Context,
    image: impl AsyncFnOnce(oci::Reference) -> anyhow::Result<Tree>,
) -> anyhow::Result<Opened> {
    let mut opened = Opened { directory: None, holds: Vec::new(), text: None, layers: None };
    match context {
        Context::Image(reference) => opened.layers = Some(image(reference).await?),
        Context::Layout(directory, _) => {
            bail!("context {}: a layout is a context by name, and not the main one", directory.display())
        }
        Context::Directory(path) => {
            if !path.is_absolute() {
                bail!("context {}: the path is not absolute", path.display());
            }
            opened.directory = Some(tokio::task::spawn_blocking(move || open_directory(&path)).await??);
        }
        Context::Empty => opened.directory = Some(open_directory(fresh(ground.scratch)?.as_ref())?),
        Context::Archive(input) => {
            let directory = fresh(ground.scratch)?;
            let (store, to) = (ground.store.clone(), directory.clone());
            let input = tokio_util::io::SyncIoBridge::new(input);
            let unpacked = tokio::task::spawn_blocking(move || store.unpack_archive(input, &to)).await?;
            unpacked.context("unpack the context")?;
            opened.directory = Some(open_directory(&directory)?);
        }
        Context::Remote(text) => match source::fetch_context(ground.fetching, &text).await? {
            Fetch::Directory(fetched) => {
                opened.directory = Some(open_directory(&fetched.directory)?);
                opened.holds.push(Arc::new(fetched));
            }
            Fetch::Archive(fetched) => {
                let file = fetched.directory.join(fetched.file.as_deref().unwrap_or_default());
                let directory = fresh(ground.scratch)?;
                let (store, to) = (ground.store.clone(), directory.clone());
                let unpack = move || -> anyhow::Result<()> {
                    let input = std::fs::File::open(&file).with_context(|| format!("open {}", file.display()))?;
                    store.unpack_archive(input, &to).context("unpack the context")?;
                    Ok(())
                };
                tokio::task::spawn_blocking(unpack).await??;
                opened.directory = Some(open_directory(&directory)?);
            }
            Fetch::Dockerfile(text) => {
                opened.directory = Some(open_directory(fresh(ground.scratch)?.as_ref())?);
                opened.text = Some(text);
            }
        },
    }
    Ok(opened)
}

/// A new directory of the build.
fn fresh(scratch: &Path) -> anyhow::Result<PathBuf> {
    // Kept by name: the whole directory goes with the build.
    let directory = tempfile::Builder::new().prefix("context-").tempdir_in(scratch)?;
    Ok(directory.keep())
}

impl Opened {
    /// The Dockerfile's name and text, and what is ignored.
    pub fn dockerfile(&self, file: &File) -> anyhow::Result<(String, String, Ignore)> {
        let root = match (&self.directory, &self.layers) {
            (Some(directory), _) => Root::new(directory.try_clone()?),
            (None, Some(layers)) => layers.open()?,
            (None, None) => bail!("a context without files"),
        };
        let read = |path: &str, limit: u64| {
            root.text(Path::new(path), limit).with_context(|| format!("read {path} of the context"))
        };
        let (name, text, beside) = match file {
            File::Text { name, text, ignore } => {
                if text.len() > LARGEST {
                    bail!("{name}: it has more than {LARGEST} bytes");
                }
                (name.clone(), text.clone(), ignore.clone())
            }
            File::InContext(path) => {
                let found = match &self.text {
                    Some(text) => Some(text.clone()),
                    None => read(path, LARGEST as u64)?,
                };
                let text = found.with_context(|| {
                    format!("failed to read dockerfile: open {path}: no such file or directory in the context")
                })?;
                (path.to_owned(), text, read(&format!("{path}.dockerignore"), IGNORE)?)
            }
        };
        let patterns = match beside {
            Some(patterns) => Some(patterns),
            None => read(".dockerignore", IGNORE)?,
        };
        let ignore = Ignore::parse(&patterns.unwrap_or_default()).context(".dockerignore")?;
        Ok((name, text, ignore))
    }

    /// What of a context without a Dockerfile is ignored.
    pub fn ignore(&self) -> anyhow::Result<Ignore> {
        let Some(directory) = &self.directory else { return Ok(Ignore::default()) };
        let text = Root::new(directory.try_clone()?).text(Path::new(".dockerignore"), IGNORE)?;
        Ok(Ignore::parse(&text.unwrap_or_default())?)
    }

    /// Its files.
    pub fn into_tree(self, ignore: Ignore) -> anyhow::Result<Tree> {
        match (self.directory, self.layers) {
            (Some(directory), _) => Ok(Tree::context(directory, ignore, self.holds)),
            (None, Some(layers)) => Ok(layers),
            (None, None) => bail!("a context without files"),
        }
    }
}
