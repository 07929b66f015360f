//! pending
use crate::{call::Call, registry::Resource, server::Server};
use api::{kinds::Sub, status::Status};
use http::Response;
use serve::body::Body;
use std::sync::Arc;
/// x
pub fn is_stream(sub: &Sub) -> bool {
    sub.schema.is_empty()
}
/// x
pub async fn answer(
    _server: &Arc<Server>,
    _call: &Call,
    _r: &Arc<Resource>,
    _v: usize,
    _sub: &Sub,
) -> Result<Response<Body>, Status> {
    Err(Status::no_such_resource())
}
