//! Error bodies of the distribution protocol.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>. Codes stay text, because
//! registries send others than the specification lists.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A body of a refused request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// At least one, in bodies that follow the specification.
    #[serde(default)]
    pub errors: Vec<Error>,
}

/// One reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Such as `MANIFEST_UNKNOWN`.
    #[serde(default)]
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// Anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}

/// A manifest that the registry does not have.
pub const MANIFEST_UNKNOWN: &str = "MANIFEST_UNKNOWN";
/// A repository that the registry does not have.
pub const NAME_UNKNOWN: &str = "NAME_UNKNOWN";
/// Credentials are missing or wrong.
pub const UNAUTHORIZED: &str = "UNAUTHORIZED";
/// These credentials may not.
pub const DENIED: &str = "DENIED";
/// Come back later.
pub const TOO_MANY_REQUESTS: &str = "TOOMANYREQUESTS";
/// A blob that the repository does not have.
pub const BLOB_UNKNOWN: &str = "BLOB_UNKNOWN";
/// An upload that does not go on like this.
pub const BLOB_UPLOAD_INVALID: &str = "BLOB_UPLOAD_INVALID";
/// An upload that there is not, or no longer.
pub const BLOB_UPLOAD_UNKNOWN: &str = "BLOB_UPLOAD_UNKNOWN";
/// Content has another digest, or the digest is none.
pub const DIGEST_INVALID: &str = "DIGEST_INVALID";
/// A manifest refers to what the repository does not have.
pub const MANIFEST_BLOB_UNKNOWN: &str = "MANIFEST_BLOB_UNKNOWN";
/// A manifest that is none.
pub const MANIFEST_INVALID: &str = "MANIFEST_INVALID";
/// A repository's name, or a tag, outside the grammar.
pub const NAME_INVALID: &str = "NAME_INVALID";
/// Content is longer or shorter than was said.
pub const SIZE_INVALID: &str = "SIZE_INVALID";
/// What this registry does not do.
pub const UNSUPPORTED: &str = "UNSUPPORTED";
/// Not the client's fault.
pub const UNKNOWN: &str = "UNKNOWN";

impl Errors {
    /// Reads a body; nothing where it is not of this form.
    pub fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(body).ok().filter(|errors| !errors.errors.is_empty())
    }

    /// Whether any reason has this code.
    pub fn has(&self, code: &str) -> bool {
        self.errors.iter().any(|error| error.code == code)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.errors.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            match error.message.as_str() {
                "" => write!(f, "{separator}{}", error.code)?,
                message => write!(f, "{separator}{}: {message}", error.code)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_and_shown() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no","detail":null},{"code":"X"}]}"#;
        let errors = Errors::parse(body).unwrap();
        assert_eq!(errors.to_string(), "DENIED: no; X");
        assert!(errors.has(DENIED) && !errors.has(UNAUTHORIZED));
        assert_eq!(Errors::parse(b"<html>"), None);
        assert_eq!(Errors::parse(b"{}"), None);
    }
}
