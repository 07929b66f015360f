//! Black-box tests of a running cluster.
