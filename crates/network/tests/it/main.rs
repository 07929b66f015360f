//! The crate against the kernel, in network namespaces that each test makes and that end with it.

mod bridges;
mod life;
mod pods;
mod scale;
mod services;
mod world;
