//! The shim's program; see the library.
fn main() {}
