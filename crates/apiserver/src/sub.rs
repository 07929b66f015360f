//! pending
use crate::{call::Call, patch, read, registry::Resource, server::Server, write};
use api::{kinds::Sub, status::Status};
use http::Response;
use serve::body::Body;
use std::sync::Arc;
/// x
pub async fn answer(
    server: &Arc<Server>,
    call: &Call,
    r: &Arc<Resource>,
    v: usize,
    _sub: &Sub,
) -> Result<Response<Body>, Status> {
    match call.info.verb.as_str() {
        "get" => read::get(server, call, r, v).await,
        "update" => write::replace(server, call, r, v).await,
        "patch" => patch::patch_object(server, call, r, v).await,
        _ => Err(Status::no_such_resource()),
    }
}
