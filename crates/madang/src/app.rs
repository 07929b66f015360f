//! The roles: what each starts, in which order, and how it ends.
//!
//! ```text
//! control   store ─ API server ─ listener ─ caches ─ controllers, scheduler ─ Ready
//! edge      content, by the node ─ registry, gateway, metrics ─ listeners ─ Ready
//! node      images ─ runtime (finds running pods) ─ client ─ node ─ Ready when its Node object is
//! ```

mod cluster;
mod control;
mod edge;
mod gateways;
mod node;
mod shown;
mod step;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use image::pull::Registries;
use task::Task;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::Config,
    link::{Link, Said, Watched},
    sockets::Sockets,
};

pub use cluster::{CONSOLE, LOGIN, NAMESPACE};
pub use node::{remove_everything, unpack};

/// How long after a start its memory is given back: the first scrapes are over then.
const SETTLED: Duration = Duration::from_secs(20);
/// Threads of each role.
const THREADS: usize = 2;
/// How long a role's tasks may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the role `name`, which the supervisor has started, until told to stop.
pub fn run(name: &str) -> Result<()> {
    // Whatever happens to the supervisor, a role does not outlive it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .context("tie to the supervisor")?;
    let link = Link::of_role()?;
    let (hello, descriptors) = link.greeted()?;
    let mut sockets = Sockets::received(hello.sockets, descriptors);
    // Open to the end: the next server waits for it.
    let _alive = sockets.take(crate::supervisor::ALIVE)?;
    if name != "node" {
        give_up_privileges()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let link = link.watch()?;
        let task = Task::root(name.to_owned());
        let started = match name {
            "control" => control::start(&task, &hello.config, sockets).await,
            "edge" => edge::start(&task, &hello.config, sockets).await,
            "node" => node::start(&task, &hello.config, sockets).await,
            unknown => bail!("no role {unknown:?}"),
        };
        let ready = started?;
        settle(&task);
        until_stopped(&task, &link, ready).await?;
        task.drain(DRAIN).await;
        Ok(())
    })
}

/// Gives back, once, what only the start needed.
pub fn settle(task: &Task) {
    task.spawn_until_cancelled("settle", async {
        tokio::time::sleep(SETTLED).await;
        // Many pages take a while to unmap. What fails has been logged.
        let _ = tokio::task::spawn_blocking(give_back).await;
    });
}

/// Gives back what is not needed now; blocks the thread for a while.
pub fn give_back() {
    if let Err(error) = container::footprint::give_back() {
        tracing::debug!("memory is not given back: {error}");
    }
}

/// Tells the supervisor once the role is ready; returns when it is to stop.
async fn until_stopped(task: &Task, link: &Watched, ready: Ready) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ready = Some(ready);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            () = task.cancelled() => return Ok(()),
            heard = link.heard() => if !matches!(heard, Ok(Some(_))) { return Ok(()) },
            answered = async { ready.as_mut().expect("checked").await }, if ready.is_some() => {
                ready = None;
                if answered.is_ok() {
                    link.say(Said::Ready)?;
                }
            }
        }
    }
}

/// Resolves when the role answers; an error if it never will.
type Ready = tokio::sync::oneshot::Receiver<()>;

/// What `registries.yaml` says of mirrors, certificates and credentials.
fn read_registries(config: &Config) -> Result<Registries> {
    let path = &config.registries;
    if !path.exists() {
        return Ok(Registries::default());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Registries::parse(&text).with_context(|| format!("read {}", path.display()))
}

/// After the change of user there are no capabilities left; this makes sure that none comes back.
fn give_up_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).context("set no_new_privs")?;
    Ok(())
}
