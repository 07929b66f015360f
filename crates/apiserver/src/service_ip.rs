//! pending
use crate::{admission::Attributes, server::Server, write::Extra};
use api::status::Status;
use serde_json::Value;
/// x
pub fn allocate(
    _s: &Server,
    _a: &Attributes<'_>,
    _new: Option<&mut Value>,
    _old: Option<&Value>,
) -> Result<Extra, Status> {
    Ok(Extra::default())
}
