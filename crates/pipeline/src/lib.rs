//! From a push to a release.
//!
//! ```text
//! git push ─► repositories ─► a Repository's status says what was pushed
//! ```
//!
//! Loops watch objects and write objects; nothing is run here.

pub mod repositories;
