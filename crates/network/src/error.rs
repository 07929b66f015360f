//! What can go wrong.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What went wrong, with the object it went wrong with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("network {name}: {reason}")]
    Config {
        /// Name of the instance.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sandbox asks for what it cannot have.
    #[error("attach sandbox {id}: {reason}")]
    Sandbox {
        /// Identifier of the sandbox.
        id: String,
        /// What it cannot have, and who has it.
        reason: String,
    },
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// The verb and the object.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking thread left is checked against the kernel by the next change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's refusal, with what was tried.
pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Kernel { what, source }
}

/// Whether an error is the kernel's `code`.
pub(crate) fn is(error: &io::Error, code: i32) -> bool {
    error.raw_os_error() == Some(code)
}
