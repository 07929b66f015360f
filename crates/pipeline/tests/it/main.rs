//! The crate against upstream's fixtures, and runs against a world that only notes what is asked.

mod fixtures;
mod runs;
mod sample;
