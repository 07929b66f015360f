//! What is counted of runs, for `/metrics` of the process that runs them.
//!
//! | family | labels | |
//! |---|---|---|
//! | `pipeline_runs_total` | `namespace`, `pipeline`, `result` | runs that have ended since the process began |
//! | `pipeline_run_duration_seconds` | `namespace`, `pipeline`, `result` | histogram: from a run's begin to its end |
//! | `pipeline_runs_running` | `namespace`, `pipeline` | runs on their way, also those that wait for a person |
//! | `pipeline_runs_waiting` | `namespace`, `pipeline` | runs that have not begun |
//!
//! The last two are counted when somebody asks. <https://prometheus.io/docs/practices/naming/>

use std::collections::BTreeMap;

use counts::{counter::Counts, page::Page};
use jiff::Timestamp;

use crate::{
    kind::{Phase, PipelineRun},
    operate::Pipelines,
    result::Result as Outcome,
};

/// Upper bounds of runs' durations, in seconds: one-step runs, and those that take a night.
const DURATIONS: &[f64] = &[
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0,
];

/// Counts that a run has ended.
pub(crate) fn ended(counts: &Counts, run: &PipelineRun, result: Outcome, began: Option<Timestamp>, now: Timestamp) {
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    let labels = [("namespace", namespace), ("pipeline", &run.spec.pipeline_ref.name), ("result", result.name())];
    counts.add("pipeline_runs_total", &labels);
    if let Some(began) = began {
        let seconds = now.duration_since(began).as_secs_f64().max(0.0);
        counts.observe("pipeline_run_duration_seconds", DURATIONS, &labels, seconds);
    }
}

/// How many runs are on their way and wait, by namespace and pipeline.
fn now<'a>(runs: impl Iterator<Item = &'a PipelineRun>) -> BTreeMap<(&'a str, &'a str), (u64, u64)> {
    let mut all: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for run in runs {
        // A pipeline whose runs have all ended has none, which is a figure too.
        let entry = all
            .entry((run.metadata.namespace.as_deref().unwrap_or_default(), run.spec.pipeline_ref.name.as_str()))
            .or_default();
        match run.status.as_ref().map(|status| status.phase).unwrap_or_default() {
            Phase::Running | Phase::Paused => entry.0 += 1,
            Phase::Pending | Phase::Queued => entry.1 += 1,
            _ => {}
        }
    }
    all
}

impl Pipelines {
    /// Writes what is counted.
    pub fn write_counts(&self, page: &mut Page) {
        let runs = self.runs().list();
        let all = now(runs.iter().map(|run| &**run));
        for (name, of) in [
            ("pipeline_runs_running", (|both: &(u64, u64)| both.0) as fn(&(u64, u64)) -> u64),
            ("pipeline_runs_waiting", |both| both.1),
        ] {
            let mut family = page.family(name, "gauge");
            for ((namespace, pipeline), both) in &all {
                family.add(&[("namespace", namespace), ("pipeline", pipeline)], of(both));
            }
        }
        self.0.counts.write(page, "pipeline_");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(pipeline: &str, phase: &str) -> PipelineRun {
        serde_json::from_value(json!({
            "metadata": {"name": "r", "namespace": "shop"}, "spec": {"pipelineRef": {"name": pipeline}},
            "status": {"phase": phase, "number": 1, "now": "", "inputs": []},
        }))
        .unwrap()
    }

    #[test]
    fn runs_are_counted_by_where_they_are() {
        let runs =
            [run("a", "Running"), run("a", "Paused"), run("a", "Queued"), run("a", "Failed"), run("b", "Succeeded")];
        let all = now(runs.iter());
        assert_eq!(all[&("shop", "a")], (2, 1));
        assert_eq!(all[&("shop", "b")], (0, 0));
    }

    #[test]
    fn a_run_that_has_ended_is_counted_with_its_result_and_how_long_it_took() {
        let counts = Counts::default();
        let began = "2026-01-01T00:00:00Z".parse().ok();
        let now = "2026-01-01T00:00:07Z".parse().unwrap();
        ended(&counts, &run("a", "Failed"), Outcome::Failure, began, now);
        ended(&counts, &run("a", "Failed"), Outcome::Failure, None, now);
        let mut page = Page::default();
        counts.write(&mut page, "pipeline_");
        let text = page.text();
        for line in [
            "pipeline_runs_total{namespace=\"shop\",pipeline=\"a\",result=\"FAILURE\"} 2",
            "pipeline_run_duration_seconds_bucket{namespace=\"shop\",pipeline=\"a\",result=\"FAILURE\",le=\"5\"} 0",
            "pipeline_run_duration_seconds_bucket{namespace=\"shop\",pipeline=\"a\",result=\"FAILURE\",le=\"10\"} 1",
            "pipeline_run_duration_seconds_sum{namespace=\"shop\",pipeline=\"a\",result=\"FAILURE\"} 7",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
