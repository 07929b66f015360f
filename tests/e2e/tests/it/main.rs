//! Everything that a user does, on a running cluster. Needs root, a static busybox, and kubectl 1.36 or newer.

mod alerts;
mod apply;
mod bad_input;
mod batch;
mod builds;
mod buildx;
mod clients;
mod collect;
mod compose;
mod console;
mod docker;
mod etcd;
mod filled;
mod gateway;
mod git;
mod images;
mod kubectl;
mod machine;
mod network;
mod other_engines;
mod pipeline_images;
mod pipelines;
mod pods;
mod registry;
mod restarts;
mod shared;
mod shop;
mod ssh;
#[path = "../../../../crates/git/tests/it/sshd.rs"]
mod sshd;
mod suites;
mod systemd;
mod triggers;
mod workloads;
