//! Upstream's evaluation files, run against the evaluator over samples in memory.

mod compare;

mod memory;

mod suite;
