//! A tree of tasks: a parent cancels its children, and drains them with a forced deadline.
//!
//! ```text
//! root ── api ── connection 1
//!   │       └─── connection 2
//!   └─ node ── pod a
//! ```
//!
//! Everything that runs concurrently belongs to a [`Task`]. Cancelling one asks it and everything below it to end;
//! draining waits for that and, past a deadline, drops what is left. Bare `tokio::spawn` is banned, because nobody would
//! wait for what it starts.
//!
//! [`Clock`] is the time that policy code sees, so that tests and simulations can move it by hand.

mod clock;
mod tree;

pub use clock::Clock;
pub use tree::{Running, Task};
