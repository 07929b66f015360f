//! Which runs are kept, and of which the artifacts: `buildDiscarder(logRotator(...))`, as
//! <https://javadoc.jenkins.io/hudson/tasks/LogRotator.html> has it.

use jiff::{SignedDuration, Timestamp};

use crate::{kind::Retention, result::Result};

/// A run, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub number: u64,
    /// When it began.
    pub began: Timestamp,
    /// How it ended, if it has.
    pub ended: Option<Result>,
    /// Somebody keeps it.
    pub pinned: bool,
    /// Whether it has artifacts.
    pub artifacts: bool,
}

/// What goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// A run, with all that it left.
    Run(u64),
    /// Its artifacts.
    Artifacts(u64),
}

/// What goes now, and when the next look is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// In the order in which it goes: the oldest last.
    pub discard: Vec<Discard>,
    /// When something becomes too old, if nothing else happens.
    pub next: Option<Timestamp>,
}

/// What is kept, from the names with which `logRotator` is called; -1 and nothing are no bound.
///
/// # Errors
/// A value is no number.
pub fn rules<'a>(arguments: impl IntoIterator<Item = (&'a str, String)>) -> std::result::Result<Retention, String> {
    let mut rules = Retention::default();
    for (name, value) in arguments {
        let field = match name.strip_suffix("Str").unwrap_or(name) {
            "daysToKeep" => &mut rules.days,
            "numToKeep" => &mut rules.runs,
            "artifactDaysToKeep" => &mut rules.artifact_days,
            "artifactNumToKeep" => &mut rules.artifact_runs,
            "removeLastBuild" => continue,
            other => return Err(format!("logRotator has no argument {other:?}")),
        };
        let value = value.trim();
        *field = match value.parse::<i64>() {
            _ if value.is_empty() => None,
            Ok(bound) => u32::try_from(bound).ok().filter(|bound| *bound > 0),
            Err(_) => return Err(format!("logRotator: {name} is {value:?}, which is no number")),
        };
    }
    Ok(rules)
}

/// What goes of some runs. The last success, the last run that was stable, runs under way and those that somebody keeps stay.
pub fn decide(rules: &Retention, runs: &[Run], now: Timestamp) -> Decision {
    let mut runs: Vec<&Run> = runs.iter().collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.number));
    // An unstable run is a success of a kind: upstream keeps the last of both.
    let last =
        |worst: Result| runs.iter().find(|run| run.ended.is_some_and(|result| result <= worst)).map(|run| run.number);
    let kept = [last(Result::Success), last(Result::Unstable)];
    let stays = |run: &Run| run.pinned || run.ended.is_none() || kept.contains(&Some(run.number));
    let mut decision = Decision::default();
    let mut due = |run: &Run, days: Option<u32>| {
        let Some(end) =
            days.and_then(|days| run.began.checked_add(SignedDuration::from_hours(24 * i64::from(days))).ok())
        else {
            return false;
        };
        if end > now {
            decision.next = Some(decision.next.map_or(end, |next: Timestamp| next.min(end)));
        }
        end <= now
    };
    let beyond = |place: usize, most: Option<u32>| most.is_some_and(|most| place >= most as usize);
    let mut discard = Vec::new();
    for (place, run) in runs.iter().enumerate().filter(|(_, run)| !stays(run)) {
        if beyond(place, rules.runs) || due(run, rules.days) {
            discard.push(Discard::Run(run.number));
        } else if run.artifacts && (beyond(place, rules.artifact_runs) || due(run, rules.artifact_days)) {
            discard.push(Discard::Artifacts(run.number));
        }
    }
    decision.discard = discard;
    decision
}

#[cfg(test)]
mod tests;
