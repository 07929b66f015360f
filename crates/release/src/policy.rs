//! What a release does next. Decisions only: time and verdicts are handed in.
//!
//! ```text
//!                ┌──── the pause is over, every metric was well often enough ────┐
//!                ▼                                                               │
//! begin ─► step 1: weight, pause, questions ─► step 2 ... ─► all traffic ─► Succeeded
//!                │ a metric was wrong, or unknown, too often; abort
//!                └──────────────────────────────────────────► no traffic ─► RolledBack
//! ```

use std::time::Duration;

use api::span;
use jiff::{SignedDuration, Timestamp};

use crate::kind::{Judged, Metric, Phase, Spec, Status, Step, Verdict};

/// How often a metric is asked that does not say it.
const INTERVAL: Duration = Duration::from_secs(10);
/// The least of intervals.
const LEAST: Duration = Duration::from_secs(1);
/// How often a metric may be unknown in a row.
const UNKNOWNS: u32 = 10;
/// A look at the route from time to time, though nothing is due.
const LOOK: Duration = Duration::from_secs(30);

/// What is wrong with a specification, if anything is.
pub fn check(spec: &Spec) -> Result<(), String> {
    if spec.steps.is_empty() {
        return Err("spec.steps: at least one".into());
    }
    if spec.stable == spec.canary {
        return Err("spec.canary: the same as spec.stable".into());
    }
    let known = |field: &str, text: &Option<String>| match text.as_deref() {
        Some(text) if span::read(text).is_none() => Err(format!("{field}: {text:?} is no duration such as 30s")),
        _ => Ok(()),
    };
    for step in &spec.steps {
        known("spec.steps.pause", &step.pause)?;
    }
    for metric in &spec.metrics {
        known("spec.metrics.interval", &metric.interval)?;
        known("spec.metrics.delay", &metric.delay)?;
        if metric.success.is_none() && metric.failure.is_none() {
            return Err(format!("spec.metrics: {} has neither success nor failure", metric.name));
        }
    }
    Ok(())
}

/// What of a specification a release is begun with: another plan is another release.
pub fn plan(spec: &Spec) -> String {
    let kept = (&spec.route, &spec.stable, &spec.canary, &spec.steps);
    let text = serde_json::to_string(&kept).unwrap_or_default();
    // FNV-1a: it only has to tell one plan from the next.
    let sum = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}

/// Where a release stands before anything else is looked at: begun, if it is new or another one now.
pub fn begin(spec: &Spec, status: Option<&Status>, generation: i64, now: Timestamp) -> Status {
    let plan = plan(spec);
    if let Some(status) = status.filter(|status| status.plan == plan) {
        return Status { observed_generation: generation, ..status.clone() };
    }
    let mut begun = Status {
        began: Some(now),
        observed_generation: generation,
        plan,
        ..status.map(|old| Status { more: old.more.clone(), ..Status::default() }).unwrap_or_default()
    };
    enter(spec, &mut begun, 0, now);
    begun
}

/// Enters the step of that index.
fn enter(spec: &Spec, status: &mut Status, index: usize, now: Timestamp) {
    let Some(step) = spec.steps.get(index) else { return end(status, Phase::Succeeded, "all traffic has moved", now) };
    status.phase = Phase::Progressing;
    status.step = u32::try_from(index + 1).unwrap_or(u32::MAX);
    status.weight = step.weight.min(100);
    status.step_began = Some(now);
    status.message = format!("step {} of {}: {}% of the traffic", index + 1, spec.steps.len(), status.weight);
    status.metrics =
        spec.metrics.iter().map(|metric| Judged { name: metric.name.clone(), ..Judged::default() }).collect();
}

fn end(status: &mut Status, phase: Phase, message: impl Into<String>, now: Timestamp) {
    status.phase = phase;
    status.weight = if phase == Phase::Succeeded { 100 } else { 0 };
    status.message = message.into();
    status.ended = Some(now);
}

fn since(then: Option<Timestamp>, now: Timestamp) -> Duration {
    let passed = then.map_or(SignedDuration::ZERO, |then| now.duration_since(then));
    passed.try_into().unwrap_or_default()
}

fn of(text: &Option<String>, otherwise: Duration) -> Duration {
    text.as_deref().and_then(span::read).unwrap_or(otherwise)
}

/// How long until a metric is to be asked.
fn due_in(metric: &Metric, status: &Status, now: Timestamp) -> Duration {
    let known = status.metrics.iter().find(|known| known.name == metric.name);
    match known.and_then(|known| known.asked) {
        Some(asked) => of(&metric.interval, INTERVAL).max(LEAST).saturating_sub(since(Some(asked), now)),
        None => of(&metric.delay, Duration::ZERO).saturating_sub(since(status.step_began, now)),
    }
}

/// Metrics that are to be asked now.
pub fn questions<'a>(spec: &'a Spec, status: &Status, now: Timestamp) -> Vec<&'a Metric> {
    if status.phase.is_final() || spec.abort || spec.promote || spec.paused {
        return Vec::new();
    }
    spec.metrics.iter().filter(|metric| due_in(metric, status, now).is_zero()).collect()
}

/// Remembers what a metric has said.
pub fn answered(status: &mut Status, name: &str, verdict: Verdict, message: String, now: Timestamp) {
    if !status.metrics.iter().any(|known| known.name == name) {
        status.metrics.push(Judged { name: name.to_owned(), ..Judged::default() });
    }
    for known in status.metrics.iter_mut().filter(|known| known.name == name) {
        match verdict {
            Verdict::Success => known.successes += 1,
            Verdict::Failure => known.failures += 1,
            Verdict::Unknown => {}
        }
        known.unknowns = if verdict == Verdict::Unknown { known.unknowns + 1 } else { 0 };
        known.asked = Some(now);
        known.verdict = Some(verdict);
        known.message.clone_from(&message);
    }
}

/// Goes as far as what is known allows; how long until it is to be looked at again, nothing once it has ended.
pub fn advance(spec: &Spec, status: &mut Status, now: Timestamp) -> Option<Duration> {
    if status.phase.is_final() {
        return None;
    }
    if spec.abort {
        end(status, Phase::RolledBack, "aborted", now);
        return None;
    }
    if let Some(why) = verdict(spec, status) {
        end(status, Phase::RolledBack, why, now);
        return None;
    }
    if spec.promote {
        end(status, Phase::Succeeded, "promoted", now);
        return None;
    }
    if spec.paused {
        status.phase = Phase::Paused;
        status.message = format!("paused at step {}", status.step);
        return Some(LOOK);
    }
    let index = status.step.saturating_sub(1) as usize;
    let Some(step) = spec.steps.get(index) else {
        enter(spec, status, index, now);
        return None;
    };
    let waits = of(&step.pause, Duration::ZERO).saturating_sub(since(status.step_began, now));
    let well = spec.metrics.iter().all(|metric| is_well(metric, status));
    if waits.is_zero() && well && is_approved(spec, step, status) {
        enter(spec, status, index + 1, now);
        return if status.phase.is_final() { None } else { Some(wait(spec, status, now)) };
    }
    let approval = waits.is_zero() && well;
    status.phase = if approval { Phase::Paused } else { Phase::Progressing };
    if approval {
        status.message = format!("step {} waits for approval", status.step);
    }
    let next = wait(spec, status, now);
    Some(if waits.is_zero() { next } else { next.min(waits) })
}

fn wait(spec: &Spec, status: &Status, now: Timestamp) -> Duration {
    spec.metrics.iter().map(|metric| due_in(metric, status, now)).chain([LOOK]).min().unwrap_or(LOOK)
}

fn is_approved(spec: &Spec, step: &Step, status: &Status) -> bool {
    !step.approve || spec.approved_step >= status.step
}

/// Whether a metric lets the step end. One that only knows failure does so once it was asked and knew none.
fn is_well(metric: &Metric, status: &Status) -> bool {
    let wanted = metric.successes.unwrap_or(1).max(1);
    status.metrics.iter().any(|known| known.name == metric.name && known.successes >= wanted)
}

/// Why all is rolled back, if it is.
fn verdict(spec: &Spec, status: &Status) -> Option<String> {
    spec.metrics.iter().find_map(|metric| {
        let known = status.metrics.iter().find(|known| known.name == metric.name)?;
        let failures = metric.failures.unwrap_or(1).max(1);
        if known.failures >= failures {
            return Some(format!("rolled back: {} failed {} times: {}", metric.name, known.failures, known.message));
        }
        let unknowns = metric.unknowns.unwrap_or(UNKNOWNS).max(1);
        (known.unknowns >= unknowns)
            .then(|| format!("rolled back: {} was unknown {} times: {}", metric.name, known.unknowns, known.message))
    })
}

#[cfg(test)]
mod tests;
