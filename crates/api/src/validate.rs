//! Whether an object may be stored: upstream's rules, messages, field paths and order of errors.

mod field;
pub mod format;
#[cfg(test)]
mod tests;

pub use field::{Errors, FieldError, FieldErrorKind, Path, aggregate};
