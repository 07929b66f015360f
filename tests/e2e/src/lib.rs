//! Black-box tests: a server in a network namespace of its own, driven by `kubectl` and by requests.
//!
//! ```text
//! machine ── veth ── namespace e2e-PID: madang server, its pods, kubectl
//! ```
//!
//! One cluster serves all tests of a binary; each test works in a Kubernetes namespace of its own. The cluster ends with the
//! test process, and leaves nothing behind.

mod cluster;
mod cpio;
mod kubectl;
mod machine;
mod place;

pub use cluster::{Cluster, Options, binary};
pub use kubectl::{Answer, Kubectl};
pub use machine::{Machine, Root};
pub use place::Place;
