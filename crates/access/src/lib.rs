//! Who may do what on any listener other than the API server's own.
//!
//! ```text
//! request ─ certificate, checked by TLS ─┐
//!         └ bearer token ─ TokenReview ──┴─► who ─ SubjectAccessReview ─► may, or why not
//! ```
//!
//! The API server is asked each time: a right that is taken away is gone at once.

pub mod gate;
pub mod origin;

mod certificate;
