//! BuildKit's protocol, as `docker buildx` and `docker compose build` speak it with the engine's own builder.
//!
//! ```text
//! POST /session  Upgrade: h2c ─▶ session    what the client offers; filesync: its files
//! POST /grpc     Upgrade: h2c ─▶ control    Solve, Status, workers, usage, history
//!                                └─ bridge  the client's own part of a build: Ping, Solve, Return
//!
//! Solve (bridge) ─ frontend: attributes, contexts ─▶ build::Builder ─▶ an image, by its reference in the job
//! Return, then Solve (control) ─ export ─▶ the store, a registry, a file or directory of the client
//! ```
//!
//! Clients run a build in two halves: `Control.Solve` waits, and meanwhile `LLBBridge.Solve` asks for the Dockerfile's result, which
//! `LLBBridge.Return` hands over to be exported. Only definitions with one source are carried out; everything else is the
//! Dockerfile frontend's, and that one is built in.
//!
//! <https://github.com/moby/buildkit/tree/v0.34.0>, <https://github.com/docker/buildx/tree/v0.38.2>

use std::sync::Arc;

use http::{Method, Response};
use serve::Body;

use crate::{Engine, call::Call, error::Result, route, upgrade};

mod control;

mod bridge;

mod jobs;

mod frontend;

mod attributes;

mod export;

mod status;

mod session;

mod filesync;

mod content;

mod grpc;

mod wire;

/// What is kept between requests: sessions and builds.
#[derive(Clone, Default)]
pub struct State {
    sessions: session::Sessions,
    jobs: Arc<jobs::Jobs>,
}

/// Answers `/grpc` and `/session`.
pub(crate) async fn answer(engine: &Engine, mut call: Call) -> Result<Response<Body>> {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    let (engine, below) = (engine.clone(), engine.task().clone());
    match (&call.method, path.as_slice()) {
        (&Method::POST, ["session"]) => {
            let offer = session::Offer::read(&call.headers)?;
            engine.buildkit().sessions.admit(&offer)?;
            let (response, connection) = upgrade::accept(&mut call, "h2c", None)?;
            grpc::spawn(&below, "build session", async move {
                match connection.await {
                    Ok(connection) => {
                        engine.buildkit().sessions.hold(engine.task(), offer, connection.into_inner()).await;
                    }
                    Err(error) => tracing::debug!(%error, "session of a build client"),
                }
            });
            Ok(response)
        }
        (&Method::POST, ["grpc"]) => {
            let (response, connection) = upgrade::accept(&mut call, "h2c", None)?;
            grpc::spawn(&below, "build control", async move {
                match connection.await {
                    Ok(connection) => {
                        let handler = move |request| control::answer(engine.clone(), request);
                        grpc::serve(connection, handler).await;
                    }
                    Err(error) => tracing::debug!(%error, "connection of a build client"),
                }
            });
            Ok(response)
        }
        _ => Err(route::unknown()),
    }
}
