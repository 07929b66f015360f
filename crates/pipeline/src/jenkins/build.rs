//! What is known of runs in Jenkins' words: pure functions.

use std::sync::Arc;

use kube::ResourceExt;

use crate::{
    kind::{Phase, Pipeline, PipelineRun, RunStatus},
    result::Result,
};

/// A run's status; a run that nobody has looked at yet has that of one that waits.
pub(super) fn status(run: &PipelineRun) -> RunStatus {
    run.status.clone().unwrap_or_default()
}

fn phase(run: &PipelineRun) -> Phase {
    run.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

/// A run's number, once it is a build: one that waits has none in Jenkins.
pub(super) fn number(run: &PipelineRun) -> Option<u64> {
    let status = run.status.as_ref()?;
    (status.number > 0 && !waits(run)).then_some(status.number)
}

/// Whether a run is in the queue.
pub(super) fn waits(run: &PipelineRun) -> bool {
    matches!(phase(run), Phase::Pending | Phase::Queued)
}

/// Whether a run is under way.
pub(super) fn is_building(run: &PipelineRun) -> bool {
    matches!(phase(run), Phase::Running | Phase::Paused)
}

/// How a run ended.
pub(super) fn result(run: &PipelineRun) -> Option<Result> {
    let status = run.status.as_ref().filter(|status| status.phase.is_final())?;
    status.result.as_deref().and_then(Result::named)
}

/// The run of some, the newest first, that goes by a name.
pub(super) fn named<'a>(runs: &'a [Arc<PipelineRun>], name: &str) -> Option<&'a Arc<PipelineRun>> {
    let mut ended = runs.iter().filter_map(|run| result(run).map(|result| (run, result)));
    let found = match name {
        "lastBuild" => return runs.first(),
        "lastCompletedBuild" => ended.next(),
        // Unstable is a success of a kind, stable is not.
        "lastSuccessfulBuild" => ended.find(|(_, result)| *result <= Result::Unstable),
        "lastStableBuild" => ended.find(|(_, result)| *result == Result::Success),
        "lastUnstableBuild" => ended.find(|(_, result)| *result == Result::Unstable),
        "lastFailedBuild" => ended.find(|(_, result)| *result == Result::Failure),
        "lastUnsuccessfulBuild" => ended.find(|(_, result)| *result != Result::Success),
        _ => None,
    };
    found.map(|(run, _)| run)
}

/// Names that a run may go by.
pub(super) const NAMES: [&str; 7] = [
    "lastBuild",
    "lastCompletedBuild",
    "lastFailedBuild",
    "lastStableBuild",
    "lastSuccessfulBuild",
    "lastUnstableBuild",
    "lastUnsuccessfulBuild",
];

/// A job's colour: how its last build ended, and whether one is under way.
pub(super) fn color(pipeline: &Pipeline, runs: &[Arc<PipelineRun>]) -> String {
    let base = match runs.iter().find_map(|run| result(run)) {
        _ if pipeline.spec.suspend => "disabled",
        Some(Result::Success) => "blue",
        Some(Result::Unstable) => "yellow",
        Some(Result::Failure) => "red",
        Some(Result::Aborted) => "aborted",
        Some(Result::NotBuilt) | None => "notbuilt",
    };
    let building = runs.first().is_some_and(|run| is_building(run));
    if building { format!("{base}_anime") } else { base.to_string() }
}

/// Milliseconds since 1970 at which a run was made.
pub(super) fn queued_at(run: &PipelineRun) -> i64 {
    run.creation_timestamp().map_or(0, |time| time.0.as_millisecond())
}

/// Milliseconds since 1970 at which it began, and how many it took; 0 as long as it runs, as in Jenkins.
pub(super) fn times(run: &PipelineRun) -> (i64, i64) {
    let status = status(run);
    let began = status.started.map_or_else(|| queued_at(run), |time| time.as_millisecond());
    (began, status.finished.map_or(0, |time| time.as_millisecond() - began).max(0))
}

/// What started a run, in words.
pub(super) fn cause(run: &PipelineRun) -> (&'static str, String) {
    let cause = run.spec.cause.clone().unwrap_or_default();
    let user = || cause.user.clone().unwrap_or_else(|| "unknown".to_string());
    let (class, text) = match cause.kind.as_str() {
        "timer" => ("hudson.triggers.TimerTrigger$TimerTriggerCause", "Started by timer".to_string()),
        "scm" | "webhook" => {
            let text = cause
                .user
                .as_ref()
                .map_or_else(|| "Started by an SCM change".to_string(), |user| format!("Push by {user}"));
            ("hudson.triggers.SCMTrigger$SCMTriggerCause", text)
        }
        "upstream" => {
            let up = cause.upstream.clone().unwrap_or_default();
            let text = format!("Started by upstream project \"{}\" build number {}", up.pipeline, up.number);
            ("hudson.model.Cause$UpstreamCause", text)
        }
        "remote" => ("hudson.model.Cause$RemoteCause", format!("Started by remote host {}", user())),
        _ => ("hudson.model.Cause$UserIdCause", format!("Started by user {}", user())),
    };
    (class, cause.text.unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u64, phase: Phase, result: Option<&str>) -> Arc<PipelineRun> {
        let result = result.map(str::to_string);
        let status = Some(RunStatus { phase, number, result, ..RunStatus::default() });
        Arc::new(PipelineRun { status, ..PipelineRun::default() })
    }

    #[test]
    fn builds_go_by_names() {
        let runs = [
            run(6, Phase::Running, None),
            run(5, Phase::Failed, Some("FAILURE")),
            run(4, Phase::Unstable, Some("UNSTABLE")),
            run(3, Phase::Succeeded, Some("SUCCESS")),
        ];
        let found = |name: &str| named(&runs, name).and_then(|run| number(run));
        for (name, expected) in NAMES.iter().zip([6, 5, 5, 3, 4, 4, 5]) {
            assert_eq!(found(name), Some(expected), "{name}");
        }
        assert_eq!(found("lastWeekBuild"), None);
        assert!(named(&[], "lastBuild").is_none());
    }

    #[test]
    fn what_waits_is_no_build_yet() {
        assert_eq!(number(&run(7, Phase::Queued, None)), None);
        assert_eq!(number(&run(7, Phase::Paused, None)), Some(7));
        assert_eq!(number(&PipelineRun::default()), None);
        assert!(waits(&PipelineRun::default()));
    }

    #[test]
    fn a_job_s_color_is_that_of_its_last_build() {
        let mut pipeline = Pipeline::default();
        assert_eq!(color(&pipeline, &[]), "notbuilt");
        let runs = [run(2, Phase::Running, None), run(1, Phase::Failed, Some("FAILURE"))];
        assert_eq!(color(&pipeline, &runs), "red_anime");
        assert_eq!(color(&pipeline, &runs[1..]), "red");
        pipeline.spec.suspend = true;
        assert_eq!(color(&pipeline, &runs[1..]), "disabled");
    }
}
