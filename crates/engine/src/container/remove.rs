//! Removing containers, one or all that have ended.

use std::{collections::BTreeMap, sync::Arc};

use http::Response;
use serde_json::json;
use serve::Body;

use crate::{
    Engine, answer,
    call::Query,
    container::{Container, life, start},
    disk,
    error::{Error, Result},
    filter::Filters,
    model::record::Status,
    volume,
};

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Also where it runs.
    pub force: bool,
    /// With its anonymous volumes.
    pub volumes: bool,
}

/// Removes a container.
pub async fn remove(engine: &Engine, container: &Arc<Container>, options: Options) -> Result<()> {
    let _turn = container.turn.lock().await;
    if engine.containers().by_id(&container.id).is_none() {
        return Err(Error::missing(format!("No such container: {}", container.id)));
    }
    let (status, paused) = container.look(|record| (record.state.status, record.state.paused));
    if matches!(status, Status::Running | Status::Restarting) && !options.force {
        let state = if paused {
            "paused"
        } else if status == Status::Running {
            "running"
        } else {
            "restarting"
        };
        return Err(Error::conflict(format!(
            "cannot remove container \"{}\": container is {state}: stop the container before removing or force remove",
            container.name()
        )));
    }
    life::stop_waiting(container);
    if status == Status::Running {
        *super::lock(&container.kept) = true;
        life::stop_in_turn(engine, container, Some(libc::SIGKILL), Some(0)).await?;
    }
    container.change(|record| record.state.status = Status::Removing);
    // What is left after a crash is removed at the next start.
    container.save(engine).await?;
    finish(engine, container, options.volumes).await
}

/// The second half: everything that is on disk. What is left of a run goes first.
pub(crate) async fn finish(engine: &Engine, container: &Arc<Container>, volumes: bool) -> Result<()> {
    let record = container.record();
    if container.shim().is_some() {
        start::clear(engine, container).await;
    }
    engine.images().release(&Engine::snapshot_name(&container.id)).await?;
    let dir = engine.container_dir(&container.id);
    disk::blocking(move || disk::remove_directory(&dir)).await?;
    engine.containers().forget(&container.id);
    engine.containers().release(&record.name, &container.id);
    engine.execs().forget(&container.id);
    if volumes {
        for mount in record.mounts.iter().filter(|mount| mount.kind == "volume") {
            let anonymous =
                engine.volumes().get(&mount.name).is_some_and(|found| found.labels.contains_key(volume::ANONYMOUS));
            if anonymous && volume::users(engine, &mount.name).is_empty() {
                match engine.volumes().remove(&mount.name).await {
                    Ok(true) => volume::tell(engine, "destroy", &mount.name),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(volume = mount.name, %error, "remove a volume with its container"),
                }
            }
        }
    }
    container.tell(engine, "destroy", &[]);
    container.advance(|progress| progress.removed = true);
    Ok(())
}

/// `POST /containers/prune`.
pub(crate) async fn prune(engine: &Engine, query: &Query) -> Result<Response<Body>> {
    let filters = Filters::of(query, &["label", "label!", "until"])?;
    let until = filters.until()?;
    let (mut deleted, mut bytes) = (Vec::new(), 0);
    for container in engine.containers().all() {
        let record = container.record();
        let created = jiff::Timestamp::try_from(record.created_at).unwrap_or_default();
        let ended = matches!(record.state.status, Status::Created | Status::Exited | Status::Dead);
        if !ended || !filters.labels(&record.config.labels) || until.is_some_and(|until| created > until) {
            continue;
        }
        let size = super::inspect::written(engine, &container.id).await;
        match remove(engine, &container, Options::default()).await {
            Ok(()) => {
                bytes += size;
                deleted.push(container.id.clone());
            }
            // It was started or removed meanwhile.
            Err(error) => tracing::debug!(container = container.id, %error, "prune"),
        }
    }
    engine.events().tell("container", "prune", "", BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]));
    answer::json(&json!({"ContainersDeleted": deleted, "SpaceReclaimed": bytes}))
}
