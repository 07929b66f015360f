//! `type=ssh`: a socket in the step whose connections go to an SSH agent of whoever asked for the build.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, Mode, OFlags};
use task::{Running, Task};
use tokio::net::{UnixListener, UnixStream};

use super::{Ground, Made, Ready, target};
use crate::{
    client::{Agent, Client},
    dockerfile::Mount,
};

/// Connections of one step at a time.
const MOST: usize = 64;
/// After an accept that failed, for want of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// Ends the socket's service with the step.
struct Serving(Running, Task);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
        self.1.cancel();
    }
}

pub(super) async fn make(ground: &Ground<'_>, mount: &Mount, number: usize, ready: &mut Ready) -> Result<()> {
    if mount.source.is_some() {
        bail!("ssh does not support source");
    }
    let id = mount.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| "default".to_owned());
    let target = match mount.target.as_deref().filter(|target| !target.is_empty()) {
        Some(written) => target(ground.working_dir, written)?,
        None => format!("/run/buildkit/ssh_agent.{number}"),
    };
    // As in BuildKit, whether or not there is such an agent.
    ready.agent.get_or_insert_with(|| target.clone());
    let missing = || format!("no SSH key {id:?} forwarded from the client: pass --ssh {id}");
    match ground.client.has_agent(&id).await {
        Ok(true) => {}
        Ok(false) if mount.required => bail!(missing()),
        Err(error) if mount.required => return Err(error.context(missing())),
        Ok(false) => return Ok(()),
        Err(error) => {
            tracing::debug!(agent = id, error = format!("{error:#}"), "a step goes without an SSH agent");
            return Ok(());
        }
    }
    let place = ground.place(&format!("agent-{number}"))?;
    fs::set_permissions(&place, Permissions::from_mode(0o700))?;
    let path = place.join("agent");
    // A socket's path is short; its directory's descriptor always is.
    let directory = rustix::fs::openat(CWD, &place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = format!("/proc/self/fd/{}/agent", std::os::fd::AsRawFd::as_raw_fd(&directory));
    let listener = UnixListener::bind(short).context("listen for connections to the SSH agent")?;
    chown(&path, Some(mount.uid.unwrap_or(0)), Some(mount.gid.unwrap_or(0)))?;
    fs::set_permissions(&path, Permissions::from_mode(mount.mode.unwrap_or(0o600) & 0o777))?;
    let task = ground.task.child("agent");
    let (below, client) = (task.clone(), ground.client.clone());
    let running = task.spawn_until_cancelled("agent", async move { serve(&below, &listener, &client, &id).await });
    ready.guards.push(Box::new(Serving(running, task)));
    ready.mounts.push(Made::Bind { source: path, target, read_only: false, mapped: false });
    Ok(())
}

async fn serve(task: &Task, listener: &UnixListener, client: &Arc<dyn Client>, id: &str) {
    let free = Arc::new(tokio::sync::Semaphore::new(MOST));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (client, id) = (client.clone(), id.to_owned());
                task.spawn_until_cancelled("connection", async move {
                    if let Err(error) = forward(stream, &client, &id).await {
                        tracing::debug!(agent = id, error = format!("{error:#}"), "connection to an SSH agent");
                    }
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn forward(mut near: UnixStream, client: &Arc<dyn Client>, id: &str) -> Result<()> {
    let Agent { mut stream, guarded } = client.agent(id).await?.context("it has gone")?;
    match guarded {
        true => {
            tokio::io::copy_bidirectional(&mut near, &mut stream).await?;
        }
        // A step uses keys, and does nothing else with the agent of whoever asked.
        false => git::ssh::agent::pass(&mut near, &mut stream).await?,
    }
    Ok(())
}
