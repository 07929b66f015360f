//! Content store, pull, push, unpack, snapshots.
