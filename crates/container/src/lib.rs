//! Containers: namespaces, control groups, mounts, system call filters; and the shim that is their parent.
//!
//! ```text
//!  daemon                                     one shim a pod (tiny, static, single-threaded)
//!  Spec ──compile──▶ Plan ──protocol──▶ ┌─ event loop: streams, logs, exits, out-of-memory marks
//!                                       └─ clone ──▶ set-up in the child ──▶ the container's program
//! ```
//!
//! The daemon side ([`shim`], feature `client`) is asynchronous; everything that the shim is made of is not, because a
//! shim has no threads: it may fork and go on in the child as ordinary code.

pub mod capability;
pub mod cgroup;
#[cfg(feature = "client")]
pub mod compile;
#[cfg(feature = "client")]
pub mod footprint;
pub mod idmap;
pub mod plan;
pub mod protocol;
#[cfg(feature = "client")]
pub mod runtime_cli;
#[cfg(feature = "client")]
pub mod seccomp;
#[cfg(feature = "client")]
pub mod shim;
#[cfg(feature = "client")]
pub mod timex;
pub mod users;

#[doc(hidden)]
pub mod command;
#[doc(hidden)]
pub mod pause;
#[doc(hidden)]
pub mod pod;
#[doc(hidden)]
pub mod step;

mod child;
mod clock;
mod spawn;
mod sys;
