//! Summaries that this part shows of itself: sum, count, and quantiles of what was noted in the last ten minutes.
//!
//! See <https://prometheus.io/docs/concepts/metric_types/#summary>.

use std::{
    collections::VecDeque,
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a value counts for quantiles.
const AGE: Duration = Duration::from_mins(10);
/// So many are kept for that at most.
const KEPT: usize = 1_000;

/// Durations of one kind.
#[derive(Debug, Default)]
pub struct Summary(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sum: f64,
    count: u64,
    recent: VecDeque<(Instant, f32)>,
}

impl Summary {
    /// Adds a duration that has just ended.
    pub fn note(&self, took: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.sum += took.as_secs_f64();
        state.count += 1;
        if state.recent.len() == KEPT {
            state.recent.pop_front();
        }
        state.recent.push_back((Instant::now(), took.as_secs_f32()));
    }

    /// Adds its samples in the text format; `labels` stand in them all, each followed by a comma.
    pub fn write(&self, name: &str, labels: &str, quantiles: &[f64], out: &mut String) {
        let short = promql::number::short;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while state.recent.front().is_some_and(|(at, _)| at.elapsed() > AGE) {
            state.recent.pop_front();
        }
        let mut sorted: Vec<f32> = state.recent.iter().map(|(_, took)| *took).collect();
        sorted.sort_by(f32::total_cmp);
        for quantile in quantiles {
            let place = (quantile * sorted.len() as f64).ceil() as usize;
            let value = sorted.get(place.saturating_sub(1)).map_or(f64::NAN, |took| f64::from(*took));
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{name}{{{labels}quantile=\"{quantile}\"}} {}", short(value));
        }
        let own = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.trim_end_matches(',')) };
        let _ = writeln!(out, "{name}_sum{own} {}\n{name}_count{own} {}", short(state.sum), state.count);
    }
}

/// What stands before the samples of a family.
pub fn head(name: &str, kind: &str, help: &str, out: &mut String) {
    // Writing into a string cannot fail.
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_noted() {
        let summary = Summary::default();
        (1..=100).for_each(|seconds| summary.note(Duration::from_secs(seconds)));
        let mut out = String::new();
        summary.write("x", "job=\"a\",", &[0.5, 0.99], &mut out);
        let expected = "x{job=\"a\",quantile=\"0.5\"} 50\nx{job=\"a\",quantile=\"0.99\"} 99\nx_sum{job=\"a\"} 5050\nx_count{job=\"a\"} 100\n";
        assert_eq!(out, expected);
    }
}
