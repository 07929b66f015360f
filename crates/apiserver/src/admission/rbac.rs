//! pending
use super::Attributes;
use crate::server::Server;
use api::status::Status;
use serde_json::Value;
/// x
pub async fn validate(
    _server: &Server,
    _a: &Attributes<'_>,
    _object: Option<&Value>,
    _old: Option<&Value>,
) -> Result<(), Status> {
    Ok(())
}
