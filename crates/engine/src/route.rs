//! Which module answers what: by the first part of the path.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde_json::json;
use serve::Body;

use crate::{
    Engine, answer, buildkit, builds,
    call::Call,
    classic,
    container::{
        Container, archive, attach, commit, create, diff, exec, inspect, life, list, logs, remove, start, stats, top,
        update, wait,
    },
    disk,
    error::{Error, Result},
    events, image, network,
    pods::door,
    swarm, system, usage, volume,
};

/// Answers a request.
pub(crate) async fn answer(engine: &Engine, call: Call) -> Result<Response<Body>> {
    if engine.view().is_some() {
        return door::answer(engine, call).await;
    }
    let first = call.path.first().map(String::as_str).unwrap_or_default();
    match first {
        "_ping" | "version" | "info" => system::answer(engine, call).await,
        "madang" => builds::answer(engine, call).await,
        "images" | "auth" | "distribution" => image::answer(engine, call).await,
        "build" => classic::answer(engine, call).await,
        "grpc" | "session" => buildkit::answer(engine, call).await,
        "events" if call.method == Method::GET => events::answer(engine, &call),
        "containers" => containers(engine, call).await,
        "commit" if call.method == Method::POST && call.path.len() == 1 => commit::answer(engine, call).await,
        "exec" => exec::answer(engine, call).await,
        "system" if call.method == Method::GET && call.path.get(1).is_some_and(|what| what == "df") => {
            usage::answer(engine, &call.query).await
        }
        "networks" => network::answer(engine, call).await,
        "volumes" => volume::answer(engine, call).await,
        "plugins" => plugins(&call),
        "swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs" => swarm::answer(&call),
        _ => Err(unknown()),
    }
}

/// Answers a request below `/plugins`: there are none, and none can be installed.
fn plugins(call: &Call) -> Result<Response<Body>> {
    let path: Vec<&str> = call.path.iter().skip(1).map(String::as_str).collect();
    match (&call.method, path.as_slice()) {
        (&Method::GET, []) => answer::json(&json!([])),
        (&Method::GET, ["privileges"]) | (&Method::POST, ["pull" | "create"]) => {
            Err(Error::unsupported("plugins cannot be installed: volumes, networks and logs have what is built in"))
        }
        (&Method::GET, [name @ .., "json"])
        | (&Method::POST, [name @ .., "enable" | "disable" | "upgrade" | "push" | "set"])
        | (&Method::DELETE, name)
            if !name.is_empty() =>
        {
            Err(Error::missing(format!("plugin {:?} not found", name.join("/"))))
        }
        _ => Err(unknown()),
    }
}

/// Answers a request below `/containers`.
async fn containers(engine: &Engine, mut call: Call) -> Result<Response<Body>> {
    let path: Vec<String> = call.path.split_off(1);
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (&call.method, path.as_slice()) {
        (&Method::GET, ["json"]) => list::answer(engine, &call.query).await,
        (&Method::POST, ["create"]) => create::answer(engine, &mut call).await,
        (&Method::POST, ["prune"]) => remove::prune(engine, &call.query).await,
        (&Method::DELETE, [id]) => {
            let container = engine.containers().find(id)?;
            if call.query.flag("link") {
                return Err(Error::unsupported("links between containers have no life of their own"));
            }
            let options = remove::Options { force: call.query.flag("force"), volumes: call.query.flag("v") };
            let own = engine.clone();
            let removal = async move { remove::remove(&own, &container, options).await };
            engine.to_its_end("remove a container", removal).await?;
            Ok(answer::done())
        }
        (&Method::GET, [id, "attach", "ws"]) => {
            let container = engine.containers().find(id)?;
            attach::answer(engine, &container, call, true).await
        }
        (_, [id, action]) => {
            let container = engine.containers().find(id)?;
            one(engine, &container, action, call).await
        }
        _ => Err(unknown()),
    }
}

/// Answers a request about one container.
async fn one(engine: &Engine, container: &Arc<Container>, action: &str, mut call: Call) -> Result<Response<Body>> {
    let signal = call.query.filled("signal").map(create::signal).transpose();
    let grace = || call.query.number::<i64>("t");
    let (own, its) = (engine.clone(), container.clone());
    match (&call.method, action) {
        (&Method::GET, "json") => answer::json(&inspect::shown(engine, container, call.query.flag("size")).await),
        (&Method::GET, "logs") => logs::answer(engine, container, &call),
        (&Method::POST, "start") => {
            let started = engine.to_its_end("start a container", async move { start::start(&own, &its).await }).await?;
            Ok(if started { answer::done() } else { answer::empty(StatusCode::NOT_MODIFIED) })
        }
        (&Method::POST, "stop") => {
            let (signal, grace) = (signal?, grace()?);
            let stop = async move { life::stop(&own, &its, signal, grace).await };
            let stopped = engine.to_its_end("stop a container", stop).await?;
            Ok(if stopped { answer::done() } else { answer::empty(StatusCode::NOT_MODIFIED) })
        }
        (&Method::POST, "restart") => {
            let (signal, grace) = (signal?, grace()?);
            let restart = async move { life::restart(&own, &its, signal, grace).await };
            engine.to_its_end("restart a container", restart).await?;
            Ok(answer::done())
        }
        (&Method::POST, "kill") => {
            life::kill(engine, container, signal?.unwrap_or(libc::SIGKILL)).await?;
            Ok(answer::done())
        }
        (&Method::POST, "pause") => {
            life::pause(engine, container, true).await?;
            Ok(answer::done())
        }
        (&Method::POST, "unpause") => {
            life::pause(engine, container, false).await?;
            Ok(answer::done())
        }
        (&Method::POST, "update") => update::answer(engine, container, &mut call).await,
        (&Method::POST, "rename") => {
            update::rename(engine, container, call.query.get("name").unwrap_or_default()).await?;
            Ok(answer::done())
        }
        (&Method::GET, "top") => top::answer(engine, container, &call),
        (&Method::GET, "stats") => stats::answer(engine, container, &call.query).await,
        (&Method::GET, "changes") => {
            let snapshot = engine.images().find_snapshot(&Engine::snapshot_name(&container.id));
            let snapshot = snapshot.ok_or_else(|| Error::failed("the files of the container are gone"))?;
            answer::json(&disk::blocking(move || diff::changes(&snapshot)).await?)
        }
        (&Method::GET | &Method::HEAD, "archive") => {
            archive::get(engine, container, &call.query, call.method == Method::HEAD).await
        }
        (&Method::PUT, "archive") => archive::put(engine, container, call).await,
        (&Method::GET, "export") => archive::export(engine, container).await,
        (&Method::POST, "wait") => wait::answer(engine, container, &call),
        (&Method::POST, "attach") => attach::answer(engine, container, call, false).await,
        (&Method::POST, "exec") => exec::create(engine, container, &mut call).await,
        (&Method::POST, "resize") => {
            let (rows, columns) = exec::size(&call)?;
            life::resize(container, rows, columns).await?;
            Ok(answer::empty(StatusCode::OK))
        }
        _ => Err(unknown()),
    }
}

/// What there is no such path.
pub(crate) fn unknown() -> Error {
    Error::missing("page not found")
}
