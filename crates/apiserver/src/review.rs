//! pending
use crate::{call::Call, server::Server};
use api::{kinds::Kind, status::Status};
use http::Response;
use serve::body::Body;
use std::sync::Arc;
/// x
pub async fn answer(_server: &Arc<Server>, _call: &Call, _kind: &Kind) -> Result<Response<Body>, Status> {
    Err(Status::no_such_resource())
}
