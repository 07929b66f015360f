//! Finding containers again when the engine starts.
//!
//! ```text
//! record says ──┬─ running, shim answers ──▶ follow it; its end meanwhile is taken up
//!               ├─ running, shim is gone ──▶ its file of exits; what is not in there was killed
//!               ├─ removing ──▶ removed
//!               └─ ended, or would be started again ──▶ the restart policy says
//! ```

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use container::shim::Shim;
use task::Task;

use crate::{
    Engine,
    container::{Container, health, life, policy, remove, start},
    disk,
    model::record::{Record, Status},
};

/// Ends all containers that run, for good: nothing follows. `run_dir` is where the shims listen.
pub async fn end_all(task: &Task, run_dir: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(run_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("read {}", run_dir.display())),
    };
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", run_dir.display()))?.path();
        if path.extension().is_none_or(|extension| extension != "sock") {
            continue;
        }
        // Where nobody answers the shim has gone, and its processes with it.
        match Shim::connect(task, &path).await {
            Ok(shim) => shim.shutdown().await.with_context(|| format!("end the container at {}", path.display()))?,
            Err(error) => tracing::debug!(socket = %path.display(), %error, "a shim that is gone"),
        }
    }
    Ok(())
}

/// Takes up all containers on disk.
pub(crate) async fn all(engine: &Engine) -> Result<()> {
    let dir = engine.settings().dir.join("containers");
    let (records, broken) = disk::blocking(move || {
        disk::private_directory(&dir)?;
        let (mut records, mut broken) = (Vec::new(), Vec::new());
        for path in disk::directories(&dir)? {
            match disk::read::<Record>(&path.join("container.json")) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => broken.push(path),
                Err(error) => {
                    tracing::error!(dir = %path.display(), error = format!("{error:#}"), "read a container; it is left alone");
                }
            }
        }
        Ok((records, broken))
    })
    .await?;
    // Made, but never acknowledged.
    for path in broken {
        tracing::info!(dir = %path.display(), "remove half-made container");
        if let Some(id) = path.file_name().and_then(|name| name.to_str()) {
            engine
                .images()
                .release(&Engine::snapshot_name(id))
                .await
                .context("remove files of a half-made container")?;
        }
        disk::blocking(move || disk::remove_directory(&path)).await?;
    }
    for record in records {
        engine.containers().reserve(&record.name, &record.id)?;
        engine.containers().keep(Arc::new(Container::new(record)));
    }
    Ok(())
}

/// Finds what runs, and starts what should. Networks are there.
pub(crate) async fn settle(engine: &Engine) {
    let mut containers = engine.containers().all();
    // In the order in which they were made: later ones may share namespaces of earlier ones.
    containers.reverse();
    for container in containers {
        if let Err(error) = one(engine, &container).await {
            tracing::warn!(container = container.id, error = format!("{error:#}"), "take up a container");
        }
    }
}

async fn one(engine: &Engine, container: &Arc<Container>) -> Result<()> {
    let record = container.record();
    let state = &record.state;
    let booted = !state.boot_id.is_empty() && state.boot_id != engine.boot_id();
    let policy = &record.host.restart_policy;
    match state.status {
        Status::Removing => return Ok(remove::finish(engine, container, false).await?),
        Status::Dead | Status::Created | Status::Exited if !booted => {
            // After a crash between launching the shim and noting that it runs there is one.
            if !state.sandbox.is_empty() && engine.shim_socket(&state.sandbox).exists() {
                start::clear(engine, container).await;
            }
            return Ok(());
        }
        Status::Running if !booted => match reconnect(engine, container, &state.sandbox).await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::info!(container = container.id, error = format!("{error:#}"), "shim is gone"),
        },
        _ => {}
    }
    let ran = matches!(state.status, Status::Running | Status::Restarting);
    if state.status == Status::Running {
        // A restart is decided below.
        let exit = life::lost(engine, container, &state.sandbox);
        start::clear(engine, container).await;
        container.change(|record| {
            let state = &mut record.state;
            (state.status, state.paused, state.pid) = (Status::Exited, false, 0);
            (state.exit_code, state.oom_killed) = (exit.code, exit.oom);
            state.finished_at = Some(exit.finished_at);
        });
        container.save(engine).await?;
    }
    let (by_hand, code) = container.look(|record| (record.state.stopped_by_hand, record.state.exit_code));
    if policy::start_with_engine(policy, by_hand, ran, booted, code) {
        container.change(|record| record.state.status = Status::Restarting);
        life::start_after(engine, container, Duration::ZERO);
    } else if ran && record.host.auto_remove {
        life::remove_soon(engine, container);
    } else if state.status == Status::Restarting {
        container.change(|record| record.state.status = Status::Exited);
        container.save(engine).await?;
    }
    Ok(())
}

async fn reconnect(engine: &Engine, container: &Arc<Container>, sandbox: &str) -> Result<()> {
    let shim = Shim::connect(engine.task(), &engine.shim_socket(sandbox)).await?;
    anyhow::ensure!(shim.id() == sandbox, "another shim answers: {}", shim.id());
    let events = shim.events();
    let info = shim.info().await?;
    let found = info.containers.iter().find(|found| found.id == sandbox);
    let found = found.context("the shim knows no container")?;
    container.set_shim(Some(shim.clone()));
    if let Some(exit) = found.exit {
        life::ended(engine, container, sandbox, exit).await;
        return Ok(());
    }
    container.change(|record| record.state.paused = found.paused);
    engine.networks().attach(engine, container, &shim.netns()).await?;
    life::follow(engine, container, shim, events);
    health::watch(engine, container, container.look(|record| record.state.health.clone()));
    Ok(())
}
