//! execs
