//! Swarm's paths: this is no swarm manager, in upstream's words, so that clients say what people know.

use http::{Method, Response, StatusCode};
use serve::Body;

use crate::{
    call::Call,
    error::{Error, Result},
    route,
};

const NO_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm \
     and try again.";
const NO_SWARM: &str = "This node is not part of a swarm";

/// Answers a request.
pub(crate) fn answer(call: &Call) -> Result<Response<Body>> {
    let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
    let refused = match (&call.method, path.as_slice()) {
        (&Method::POST, ["swarm", "init" | "join"]) => {
            Error::unsupported("swarm mode is not there: the cluster of this machine speaks Kubernetes' API")
        }
        (&Method::POST, ["swarm", "leave"]) => Error::new(StatusCode::SERVICE_UNAVAILABLE, NO_SWARM),
        (_, ["swarm"]) | (_, ["swarm", "unlockkey" | "update" | "unlock"]) => {
            Error::new(StatusCode::SERVICE_UNAVAILABLE, NO_MANAGER)
        }
        (_, ["nodes" | "services" | "tasks" | "secrets" | "configs", ..]) => {
            Error::new(StatusCode::SERVICE_UNAVAILABLE, NO_MANAGER)
        }
        _ => route::unknown(),
    };
    Err(refused)
}
