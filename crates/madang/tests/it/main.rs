//! The binary from outside, where no server is needed.

mod oci_runtime;
