//! Bytes and revisions: get, range, compare-and-commit, watch, compact; embedded or etcd.
