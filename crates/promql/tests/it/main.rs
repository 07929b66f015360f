//! The evaluator over samples in memory: upstream's evaluation files, limits, and queries made at random.

mod compare;

mod database;

mod limits;

mod suite;

mod words;
