//! Which module answers what: by the first part of the path.

use http::Response;
use serve::Body;

use crate::{
    Engine, buildkit, builds,
    call::Call,
    classic,
    error::{Error, Result},
    image, swarm, system,
};

/// Answers a request.
pub(crate) async fn answer(engine: &Engine, call: Call) -> Result<Response<Body>> {
    let first = call.path.first().map(String::as_str).unwrap_or_default();
    match first {
        "_ping" | "version" | "info" => system::answer(engine, call).await,
        "madang" => builds::answer(engine, call).await,
        "images" | "auth" | "distribution" => image::answer(engine, call).await,
        "build" => classic::answer(engine, call).await,
        "grpc" | "session" => buildkit::answer(engine, call).await,
        "swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs" => swarm::answer(&call),
        _ => Err(unknown()),
    }
}

/// What there is no such path.
pub(crate) fn unknown() -> Error {
    Error::missing("page not found")
}
