//! Claims and volumes: bound to each other, made on demand, kept while in use.
//!
//! ```text
//! claim ─► a volume that suits? ─► binder binds both
//!       └► none, and a class ────► provisioner makes one (for the node that the scheduler chose) ─► binder binds both
//! claim gone ─► volume Released ─► Retain: stays     Delete: whoever made it removes it
//! ```
//! In reading order: [`binder`], [`local_path`], [`protection`], [`ephemeral`].
//! <https://kubernetes.io/docs/concepts/storage/persistent-volumes/>

pub mod binder;

pub mod local_path;

pub mod protection;

pub mod ephemeral;
