//! The api crate from outside, beside what upstream's own code does.

mod hostile;
mod rules;
mod upstream;
