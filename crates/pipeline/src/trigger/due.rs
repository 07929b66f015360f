//! What the clock and other pipelines start, and which commits a look at a repository elsewhere finds: pure decisions.

use jiff::Timestamp;

use super::{
    cron::Schedule,
    pushed::{Wanted, branch_of, fits},
};
use crate::{
    kind::{Branch, Pipeline, PipelineRun, Status, Triggers},
    result::Result,
};

/// Branches that are remembered of one pipeline.
const MOST_BRANCHES: usize = 1000;

/// What came due, and what comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The last time at which a run was to start, if there was one.
    pub run: Option<Timestamp>,
    /// The last time at which the repository was to be looked at.
    pub look: Option<Timestamp>,
    /// The next time of either.
    pub next: Option<Timestamp>,
}

/// Triggers of a pipeline: those of its object and those that its script declared.
pub fn triggers(pipeline: &Pipeline) -> Triggers {
    let own = pipeline.spec.triggers.clone().unwrap_or_default();
    let declared = pipeline.status.as_ref().and_then(|status| status.triggers.clone()).unwrap_or_default();
    let joined = |mut own: Vec<String>, others: Vec<String>| {
        own.extend(others);
        own.dedup();
        own
    };
    let mut upstream = own.upstream;
    upstream.extend(declared.upstream);
    Triggers {
        push: own.push.or(declared.push),
        cron: joined(own.cron, declared.cron),
        poll: joined(own.poll, declared.poll),
        upstream,
        webhook: own.webhook,
    }
}

/// What of the clock's triggers came due since `fired`. However much was missed, it is one run; what cannot be read is told, and the rest counts.
pub fn clock(triggers: &Triggers, name: &str, fired: Timestamp, now: Timestamp) -> (Clock, Vec<String>) {
    let mut wrong = Vec::new();
    let mut clock = Clock::default();
    for (specs, last) in [(&triggers.cron, &mut clock.run), (&triggers.poll, &mut clock.look)] {
        for spec in specs {
            let schedule = match Schedule::read(spec, name) {
                Ok(schedule) => schedule,
                Err(error) => {
                    wrong.push(error);
                    continue;
                }
            };
            // Whether anything was due at all is one question; which time was the last is not worth more.
            let due = schedule.next(fired).filter(|due| *due <= now);
            *last = (*last).max(due);
            let next = schedule.next(now);
            clock.next = [clock.next, next].into_iter().flatten().min();
        }
    }
    (clock, wrong)
}

/// Since when the branches are as they are known, which names the runs that a look starts: one that was interrupted starts none again.
pub fn since(pipeline: &Pipeline) -> Option<Timestamp> {
    let status = pipeline.status.as_ref();
    let known = |status: &&Status| !status.branches.is_empty();
    let noted = status.and_then(|status| status.looked);
    // Of those who noted no such time the clock's was the same.
    let fired = status.filter(known).and_then(|status| status.fired);
    noted.or(fired).or(pipeline.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// What a look at a repository finds: runs to start, and what is known then. Names are those of references; the target of `HEAD` is the
/// default branch.
pub fn looked(
    patterns: &[String],
    default: &str,
    known: &[Branch],
    references: &[(String, String)],
) -> (Vec<Wanted>, Vec<Branch>) {
    let mut wanted = Vec::new();
    let mut now = Vec::new();
    for (reference, commit) in references {
        let Some(branch) = branch_of(reference).filter(|branch| fits(patterns, default, branch)) else { continue };
        if now.len() >= MOST_BRANCHES {
            break;
        }
        let before = known.iter().find(|known| known.name == branch);
        if before.and_then(|before| before.commit.as_ref()) != Some(commit) {
            wanted.push(Wanted { branch: branch.to_string(), commit: commit.clone(), user: None, push: 0 });
        }
        let before = before.cloned().unwrap_or_default();
        now.push(Branch { name: branch.to_string(), commit: Some(commit.clone()), ..before });
    }
    (wanted, now)
}

/// Pipelines that a run's end starts: those that name its pipeline, if it ended well enough for them.
pub fn downstream<'a>(
    pipelines: impl IntoIterator<Item = &'a Pipeline>,
    run: &PipelineRun,
    result: Result,
) -> Vec<&'a Pipeline> {
    let ended = &run.spec.pipeline_ref.name;
    let follows = |pipeline: &&Pipeline| {
        let wants = |threshold: Option<&str>| {
            let worst = threshold.and_then(Result::named).unwrap_or(Result::Success);
            result <= worst
        };
        !pipeline.spec.suspend
            && pipeline.metadata.namespace == run.metadata.namespace
            && pipeline.metadata.name.as_ref() != Some(ended)
            && triggers(pipeline).upstream.iter().any(|up| up.pipeline == *ended && wants(up.threshold.as_deref()))
    };
    pipelines.into_iter().filter(follows).collect()
}

#[cfg(test)]
mod tests;
