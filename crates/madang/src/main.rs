//! The `madang` binary: command line and composition root.

fn main() {}
