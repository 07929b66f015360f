//! `type=bind`: files of the context, of a stage or of an image. What a step writes there is thrown away.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use runtime::users::StepUsers;

use super::{Ground, Made, Ready, clean, copied};
use crate::{dockerfile::Mount, tree::Tree};

pub(super) async fn make(
    ground: &Ground<'_>,
    mount: &Mount,
    number: usize,
    target: String,
    ready: &mut Ready,
) -> Result<()> {
    let place = ground.place(&format!("bind-{number}"))?;
    let source = clean(mount.source.as_deref().unwrap_or("/"));
    let Some(tree) = ground.origin(mount)?.cloned() else {
        if source != "/" {
            bail!("mount {source} from scratch: there is nothing in it");
        }
        ready.mounts.push(Made::Bind { source: place, target, read_only: mount.read_only, mapped: false });
        return Ok(());
    };
    let read_only = mount.read_only;
    let shown = format!("mount {source} from {}", mount.from.as_deref().unwrap_or("the context"));
    let users = ground.users.cloned();
    let work = tokio::task::spawn_blocking(move || lay(&tree, &source, &place, read_only, users.as_ref()));
    let (path, guard) = work.await?.context(shown)?;
    let mapped = guard.is_some() && ground.users.is_some();
    ready.guards.extend(guard);
    ready.mounts.push(Made::Bind { source: path, target, read_only, mapped });
    Ok(())
}

type Laid = (std::path::PathBuf, Option<Box<dyn Send>>);

/// Puts what is to be seen somewhere on this machine: a copy, or a mount whose files belong to `users` already.
fn lay(tree: &Arc<Tree>, source: &str, place: &Path, read_only: bool, users: Option<&StepUsers>) -> Result<Laid> {
    let root = tree.open()?;
    if root.status(Path::new(source), true)?.is_none() {
        bail!("no such file or directory");
    }
    // Links in the path are followed within the tree, before anything is mounted.
    let real = root.real_path(Path::new(source), true)?;
    let below = real.strip_prefix("/").unwrap_or(&real);
    let copied = || {
        let copy = place.join("copy");
        copied::copy(&root, &real, &tree.ignore, true, &copy)?;
        Ok((copy, None))
    };
    if tree.is_context() && !copied::is_plain(&root, &real)? || tree.is_context() && !tree.ignore.is_empty() {
        // Files of a context are root's, and some of them do not count: only a copy is like that.
        return copied();
    }
    let at = place.join("at");
    std::fs::create_dir(&at)?;
    let attached = if read_only {
        tree.attach(&at, users)
    } else {
        let (upper, work) = (place.join("upper"), place.join("work"));
        std::fs::create_dir(&upper)?;
        std::fs::create_dir(&work)?;
        tree.attach_writable(&at, &upper, &work, users)
    };
    match attached {
        Ok(attached) => Ok((at.join(below), Some(Box::new(attached)))),
        // A context lies wherever its owner has it, and not every file system can be mapped.
        Err(error) if users.is_some() && tree.is_context() && is_refused(&error) => copied(),
        Err(error) => Err(error.into()),
    }
}

/// What file systems say that cannot be mapped.
fn is_refused(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error())
}
