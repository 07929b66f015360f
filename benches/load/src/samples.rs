//! Durations, and the places in their order.

use std::time::Duration;

use serde_json::{Value, json};

/// Durations of one kind of thing.
#[derive(Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each in milliseconds, as they came.
    pub fn all(&self) -> Value {
        self.0.iter().map(|took| took.as_secs_f64() * 1e3).collect()
    }

    /// Their places in milliseconds: least, median, 90th and 99th of a hundred, greatest.
    pub fn places(mut self) -> Value {
        self.0.sort_unstable();
        let place = |hundredth: usize| {
            let index = (self.0.len() * hundredth / 100).min(self.0.len().saturating_sub(1));
            self.0.get(index).map(|took| (took.as_secs_f64() * 1e6).round() / 1e3)
        };
        json!({ "min": place(0), "p50": place(50), "p90": place(90), "p99": place(99), "max": place(100) })
    }
}
