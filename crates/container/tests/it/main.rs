//! Containers made for real, in one binary. Needs root and a static busybox; makes a control group of its own, and
//! leaves nothing behind.

mod cgroups;
mod confinement;
mod execs;
mod lifecycle;
mod logs;
mod measure;
mod mounts;
mod pods;
mod runtime;
mod sandbox;
mod streams;
mod users;
mod version2;
