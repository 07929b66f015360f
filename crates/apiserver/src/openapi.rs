//! pending
use crate::{call::Call, server::Server};
use api::status::Status;
use http::Response;
use serve::body::Body;
/// x
#[derive(Debug, Default)]
pub struct Documents;
/// x
pub fn answer(_s: &Server, _call: &Call, _path: &str) -> Result<Option<Response<Body>>, Status> {
    Ok(None)
}
