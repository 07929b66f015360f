//! Builds the shim, which the binary carries.

include!("../container/build/shim.rs");

fn main() {
    build_shim();
}
