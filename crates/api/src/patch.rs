//! The three patches of the API: JSON Patch ([`json`]), JSON merge patch ([`merge`]), strategic merge patch ([`strategic`]).
//!
//! All work on the JSON form of an object; what comes out must still pass [`crate::structural::check`]. Errors say which
//! answer upstream gives. Where upstream's libraries depart from the RFCs (a JSON Patch `replace` of a missing key adds it,
//! negative indices count from the end), so does this.
//!
//! Specifications: [RFC 6902](https://www.rfc-editor.org/rfc/rfc6902), [RFC 7386](https://www.rfc-editor.org/rfc/rfc7386),
//! and Kubernetes' "strategic merge patch" (sig-api-machinery).

mod json;
mod merge;
mod strategic;
#[cfg(test)]
mod tests;

pub use json::json;
pub use merge::merge;
pub use strategic::strategic;

use serde_json::Value;

/// Why a patch was not applied; the object may be half patched then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is malformed: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The patch does not fit the object: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// The patch has too many operations or makes the object too big: 413.
    #[error("{0}")]
    TooLarge(String),
    /// The patch cannot be applied to objects of this kind: 500, as upstream answers.
    #[error("{0}")]
    Internal(String),
}

/// Depth of a value: 0 for scalars. Does not recurse.
fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items.iter().map(|v| (v, depth + 1))),
            Value::Object(map) => open.extend(map.values().map(|v| (v, depth + 1))),
            _ => {}
        }
        let nests = matches!(value, Value::Array(_) | Value::Object(_));
        deepest = deepest.max(depth + usize::from(nests));
    }
    deepest
}
