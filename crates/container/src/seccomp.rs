//! System call filters: from a specification's rules to a program for the kernel, and the default profile.
//!
//! ```text
//! LinuxSeccomp ──▶ segments of numbers with one verdict ──▶ binary search ──▶ struct sock_filter[]
//! ```
//!
//! Specification: <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp>; how the kernel runs
//! it: <https://docs.kernel.org/userspace-api/seccomp_filter.html>.

mod default;
mod filter;
mod numbers;

pub use default::runtime_default;
pub use filter::{Error, compile};

/// The number of a system call on this machine's architecture.
pub fn number(name: &str) -> Option<i64> {
    filter::Table::NATIVE.number(name).map(i64::from)
}
