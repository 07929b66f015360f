//! Server-side apply: who owns which fields of an object, and what becomes of both when somebody writes.
//!
//! ```text
//! entries  ── managedFields: manager, operation, version ── set ── element
//!    │
//!  track   update: who changed what      apply: merge, take away, conflicts      created: a new object, in one walk
//!    │
//!  compare  fields  merge  check  reconcile     each one walk along a value and its type
//!    │
//!  form     what is atomic, a set, a map with keys: from the schema table or a custom resource's schema
//! ```
//!
//! Objects come and go without their `managedFields`; entries are handed beside them and written as bytes, so that a write
//! keeps no parsed form of them. [`reset`] names what strategies reset; [`scale`] maps ownership of a workload's size.
//!
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

pub mod check;
pub mod compare;
mod created;
pub mod element;
pub mod entries;
pub mod fields;
pub mod form;
pub mod merge;
mod reconcile;
pub mod reset;
pub mod scale;
pub mod set;
mod track;
mod walk;

#[cfg(test)]
mod tests;

pub use created::created;
pub use track::{Applied, ApplyError, Conflict, LAST_APPLIED, Versions, Writer, apply, conflict_message, update};
pub use walk::same;

use crate::meta::Gvk;

/// The longest name of a manager, in bytes.
pub const MAX_MANAGER: usize = 128;

/// The manager of a write that names none: what precedes the first slash of the client's user agent.
pub fn manager_of_agent(user_agent: &str) -> String {
    let first = user_agent.split('/').next().unwrap_or_default();
    let mut name = String::new();
    for letter in first.chars().filter(|letter| !letter.is_control()) {
        if name.len() + letter.len_utf8() > MAX_MANAGER {
            break;
        }
        name.push(letter);
    }
    name
}

/// Group, version and kind as Go shows them: `/v1, Kind=Pod`.
pub fn go_kind(gvk: &Gvk) -> String {
    format!("{}/{}, Kind={}", gvk.group, gvk.version, gvk.kind)
}
