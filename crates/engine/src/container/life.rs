//! The life of a running container: its end, what follows, and what clients do to it.

use std::{sync::Arc, time::Duration};

use container::shim::{self, Event, Events, Exit, Exits, Shim};

use crate::{
    Engine,
    container::{
        Container, create, lock,
        policy::{self, Ended},
        remove, start,
    },
    error::{Error, Result},
    model::record::Status,
};

/// Seconds until a container that is to stop is killed.
const GRACE: i64 = 10;
/// How long a killed container may take to be gone.
const KILLED: Duration = Duration::from_secs(30);

/// Watches over a run until it has ended.
pub(crate) fn follow(engine: &Engine, container: &Arc<Container>, shim: Shim, mut events: Events) {
    let (engine, container) = (engine.clone(), container.clone());
    engine.task().clone().spawn("container", async move {
        let sandbox = shim.id().to_owned();
        drop(shim);
        let exit = loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = engine.task().cancelled() => return,
            };
            match event {
                Some(Event::Exited { id, exit }) if id == sandbox => break exit,
                Some(Event::Oom { .. }) => {
                    container.change(|record| record.state.oom_killed = true);
                    container.tell(&engine, "oom", &[]);
                }
                Some(Event::Exited { .. }) => {}
                // It is this process that ends, and with it the connection; the shim goes on.
                None if engine.task().is_cancelled() => return,
                None => break lost(&engine, &container, &sandbox),
            }
        };
        ended(&engine, &container, &sandbox, exit).await;
    });
}

/// How a run ended whose shim is gone: as the shim wrote it down, else killed.
pub(crate) fn lost(engine: &Engine, container: &Container, sandbox: &str) -> Exit {
    let dir = engine.container_dir(&container.id).join("shim");
    let noted = Exits::read(&dir).unwrap_or_else(|error| {
        tracing::warn!(container = container.id, %error, "read how a container ended; it counts as killed");
        Exits::default()
    });
    noted.get(sandbox).unwrap_or(Exit {
        code: 137,
        signal: None,
        oom: false,
        finished_at: std::time::SystemTime::now(),
    })
}

/// Notes the end of a run, clears up after it, and does what the restart policy says.
pub(crate) async fn ended(engine: &Engine, container: &Arc<Container>, sandbox: &str, exit: Exit) {
    if container.look(|record| record.state.sandbox != sandbox) {
        return;
    }
    stop_waiting(container);
    start::clear(engine, container).await;
    let before = container.record();
    let ran = start::ran(&before, exit.finished_at);
    let by_hand = before.state.stopped_by_hand || before.state.status == Status::Removing;
    let delay = *lock(&container.delay);
    let ended = Ended { code: exit.code, by_hand, ran, restarts: before.state.restarts, delay };
    let again = policy::restart_after(&before.host.restart_policy, ended);
    *lock(&container.delay) = again.unwrap_or_default();
    container.change(|record| {
        let state = &mut record.state;
        if state.status != Status::Removing {
            state.status = if again.is_some() { Status::Restarting } else { Status::Exited };
        }
        state.paused = false;
        state.pid = 0;
        state.exit_code = exit.code;
        state.oom_killed |= exit.oom;
        state.finished_at = Some(exit.finished_at);
        if let Some(health) = &mut state.health {
            health.status = "unhealthy".into();
        }
    });
    container.save_or_warn(engine).await;
    let seconds = ran.as_secs().to_string();
    container.tell(engine, "die", &[("exitCode", exit.code.to_string()), ("execDuration", seconds)]);
    container.advance(|progress| {
        progress.exits += 1;
        progress.code = exit.code;
        progress.error.clear();
    });
    match again {
        Some(delay) => start_after(engine, container, delay),
        None if before.host.auto_remove && !*lock(&container.kept) => remove_soon(engine, container),
        None => {}
    }
}

/// Starts a container again after a while, unless somebody else does something with it.
pub(crate) fn start_after(engine: &Engine, container: &Arc<Container>, delay: Duration) {
    let waiting = engine.task().child("restart");
    *lock(&container.run) = Some(waiting.clone());
    let (engine, container) = (engine.clone(), container.clone());
    engine.task().clone().spawn("restart", async move {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = waiting.cancelled() => return,
        }
        let _turn = container.turn.lock().await;
        if waiting.is_cancelled() || container.look(|record| record.state.status != Status::Restarting) {
            return;
        }
        container.change(|record| record.state.restarts += 1);
        if let Err(error) = start::run(&engine, &container).await {
            tracing::warn!(container = container.id, %error, "start a container again");
        }
    });
}

/// Ends looks at the health of a container, or a wait for its restart.
pub(crate) fn stop_waiting(container: &Container) {
    if let Some(task) = lock(&container.run).take() {
        task.cancel();
    }
}

/// Removes a container that has ended, by itself.
pub(crate) fn remove_soon(engine: &Engine, container: &Arc<Container>) {
    let (engine, container) = (engine.clone(), container.clone());
    engine.task().clone().spawn("auto-remove", async move {
        let options = remove::Options { force: true, volumes: true };
        if let Err(error) = remove::remove(&engine, &container, options).await {
            tracing::warn!(container = container.id, %error, "remove a container that has ended");
        }
    });
}

/// Sends a signal. One that stops the container keeps the restart policy from starting it again.
pub async fn kill(engine: &Engine, container: &Arc<Container>, signal: i32) -> Result<()> {
    let (shim, name) = container.running().map_err(|_| {
        Error::conflict(format!("cannot kill container: {0}: container {0} is not running", container.id))
    })?;
    let stop = stop_signal(container)?;
    if signal == stop || signal == libc::SIGKILL {
        container.change(|record| record.state.stopped_by_hand = true);
        container.save(engine).await?;
    }
    let paused = container.look(|record| record.state.paused);
    shim.kill(&name, signal, false).await.map_err(|error| refused(container, "kill", &error))?;
    if paused && signal == libc::SIGKILL {
        tolerate(shim.resume(&name).await).map_err(|error| refused(container, "unpause", &error))?;
    }
    container.tell(engine, "kill", &[("signal", signal.to_string())]);
    Ok(())
}

fn stop_signal(container: &Container) -> Result<i32> {
    create::signal(&container.look(|record| record.config.stop_signal.clone()))
}

fn refused(container: &Container, what: &str, error: &shim::Error) -> Error {
    Error::failed(format!("cannot {what} container: {}: {error}", container.id))
}

fn tolerate(result: Result<(), shim::Error>) -> Result<(), shim::Error> {
    match result {
        Err(shim::Error::NotFound(_) | shim::Error::State(_) | shim::Error::Gone(_)) => Ok(()),
        other => other,
    }
}

/// Stops a container; whether it ran. `grace` is seconds, negative for ever.
pub async fn stop(
    engine: &Engine,
    container: &Arc<Container>,
    signal: Option<i32>,
    grace: Option<i64>,
) -> Result<bool> {
    let _turn = container.turn.lock().await;
    stop_in_turn(engine, container, signal, grace).await
}

/// The same; the caller holds the turn.
pub(crate) async fn stop_in_turn(
    engine: &Engine,
    container: &Arc<Container>,
    signal: Option<i32>,
    grace: Option<i64>,
) -> Result<bool> {
    stop_waiting_for_restart(engine, container).await?;
    let Ok((shim, name)) = container.running() else { return Ok(false) };
    container.change(|record| record.state.stopped_by_hand = true);
    container.save(engine).await?;
    let mut progress = container.progress();
    let exits = progress.borrow_and_update().exits;
    let ended = |progress: &super::Progress| progress.exits > exits || progress.removed;
    // The end may have come before the look at how often it came.
    if !container.look(|record| record.state.is_running() && record.state.sandbox == name) {
        return Ok(false);
    }
    let signal = match signal {
        Some(signal) => signal,
        None => stop_signal(container)?,
    };
    let grace = grace.or(container.look(|record| record.config.stop_timeout)).unwrap_or(GRACE);
    let failed = |error: shim::Error| refused(container, "stop", &error);
    tolerate(shim.kill(&name, signal, false).await).map_err(failed)?;
    if container.look(|record| record.state.paused) {
        tolerate(shim.resume(&name).await).map_err(failed)?;
    }
    container.tell(engine, "kill", &[("signal", signal.to_string())]);
    let waited = match u64::try_from(grace) {
        Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), progress.wait_for(ended))
            .await
            .is_ok_and(|end| end.is_ok()),
        Err(_) => progress.wait_for(ended).await.is_ok(),
    };
    if !waited {
        tolerate(shim.kill(&name, libc::SIGKILL, true).await).map_err(failed)?;
        container.tell(engine, "kill", &[("signal", libc::SIGKILL.to_string())]);
        let killed = tokio::time::timeout(KILLED, progress.wait_for(ended)).await;
        if killed.is_err() {
            return Err(Error::failed(format!(
                "cannot stop container: {}: tried to kill container, but did not receive an exit event",
                container.id
            )));
        }
    }
    container.tell(engine, "stop", &[]);
    Ok(true)
}

/// A container that waits to be started again does so no longer.
async fn stop_waiting_for_restart(engine: &Engine, container: &Arc<Container>) -> Result<()> {
    if container.look(|record| record.state.status != Status::Restarting) {
        return Ok(());
    }
    stop_waiting(container);
    container.change(|record| {
        record.state.status = Status::Exited;
        record.state.stopped_by_hand = true;
    });
    container.save(engine).await
}

/// Stops a container, if it runs, and starts it.
pub async fn restart(
    engine: &Engine,
    container: &Arc<Container>,
    signal: Option<i32>,
    grace: Option<i64>,
) -> Result<()> {
    let _turn = container.turn.lock().await;
    *lock(&container.kept) = true;
    let stopped = stop_in_turn(engine, container, signal, grace).await;
    *lock(&container.kept) = false;
    stopped?;
    container.change(|record| {
        record.state.restarts = 0;
        record.state.stopped_by_hand = false;
    });
    start::run(engine, container).await?;
    container.tell(engine, "restart", &[]);
    Ok(())
}

/// Freezes a container, or lets it go on.
pub async fn pause(engine: &Engine, container: &Arc<Container>, freeze: bool) -> Result<()> {
    let _turn = container.turn.lock().await;
    let (shim, name) = container.running()?;
    let paused = container.look(|record| record.state.paused);
    if paused == freeze {
        let state = if freeze { "already paused" } else { "not paused" };
        return Err(Error::conflict(format!("Container {} is {state}", container.id)));
    }
    let (done, what) = if freeze { (shim.pause(&name).await, "pause") } else { (shim.resume(&name).await, "unpause") };
    done.map_err(|error| refused(container, what, &error))?;
    container.change(|record| record.state.paused = freeze);
    container.save(engine).await?;
    container.tell(engine, what, &[]);
    Ok(())
}

/// Sets the size of a container's terminal, of the next run's where it does not run.
pub async fn resize(container: &Container, rows: u16, columns: u16) -> Result<()> {
    *lock(&container.console) = (rows, columns);
    let (shim, name) = container.running()?;
    shim.resize(&name, rows, columns).await.map_err(|error| refused(container, "resize", &error))
}
