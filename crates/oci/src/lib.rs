//! Image, runtime and distribution types, digests, references; no I/O.
