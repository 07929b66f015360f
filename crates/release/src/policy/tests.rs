//! Releases from their first step to their end, by a clock that is moved by hand.

use super::*;
use crate::kind::{Backend, RouteRef};

fn spec(steps: &[(u32, &str)], metrics: &[(&str, u32, u32)]) -> Spec {
    let backend = |name: &str| Backend { name: name.into(), port: 80 };
    Spec {
        route: RouteRef { name: "shop".into(), rule: None },
        stable: backend("v1"),
        canary: backend("v2"),
        steps: steps
            .iter()
            .map(|(weight, pause)| Step { weight: *weight, pause: Some((*pause).into()), approve: false })
            .collect(),
        metrics: metrics
            .iter()
            .map(|(name, successes, failures)| Metric {
                name: (*name).into(),
                success: Some("up".into()),
                interval: Some("10s".into()),
                successes: Some(*successes),
                failures: Some(*failures),
                unknowns: Some(3),
                ..Metric::default()
            })
            .collect(),
        ..Spec::default()
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// Runs a release by looking when it asks to be looked at; each question is answered by `verdicts` in turn. What it was
/// at whenever it changed: second, phase, weight.
fn run(spec: &Spec, verdicts: &[Verdict]) -> (Vec<(i64, Phase, u32)>, Status) {
    let mut verdicts = verdicts.iter().copied();
    let (mut now, mut told) = (0, Vec::new());
    let mut status = begin(spec, None, 1, at(0));
    for _ in 0..200 {
        let asked: Vec<String> = questions(spec, &status, at(now)).iter().map(|one| one.name.clone()).collect();
        for name in asked {
            let verdict = verdicts.next().unwrap_or(Verdict::Success);
            answered(&mut status, &name, verdict, "said".into(), at(now));
        }
        let next = advance(spec, &mut status, at(now));
        if told.last().is_none_or(|(_, phase, weight)| (*phase, *weight) != (status.phase, status.weight)) {
            told.push((now, status.phase, status.weight));
        }
        match next {
            None => return (told, status),
            Some(next) => now += i64::try_from(next.as_secs()).unwrap().max(1),
        }
    }
    (told, status)
}

#[test]
fn steps_last_as_long_as_they_say() {
    use Phase::{Progressing, Succeeded};
    let (told, status) = run(&spec(&[(10, "20s"), (50, "30s")], &[]), &[]);
    assert_eq!(told, [(0, Progressing, 10), (20, Progressing, 50), (50, Succeeded, 100)]);
    assert_eq!(status.ended, Some(at(50)));
}

#[test]
fn a_step_ends_once_every_metric_was_well_often_enough() {
    use Phase::{Progressing, Succeeded};
    let (told, _) = run(&spec(&[(10, "5s"), (50, "0s")], &[("errors", 3, 1), ("latency", 1, 1)]), &[]);
    assert_eq!(told, [(0, Progressing, 10), (20, Progressing, 50), (41, Succeeded, 100)]);
}

#[test]
fn a_metric_that_fails_too_often_rolls_back() {
    use Verdict::{Failure, Success, Unknown};
    let spec = spec(&[(10, "60s"), (50, "60s")], &[("errors", 1, 2)]);
    let (told, status) = run(&spec, &[Success, Failure, Success, Failure]);
    assert_eq!(told, [(0, Phase::Progressing, 10), (30, Phase::RolledBack, 0)]);
    assert_eq!(status.message, "rolled back: errors failed 2 times: said");
    // Unknown counts in a row only.
    let (told, _) = run(&spec, &[Unknown, Unknown, Success, Unknown, Unknown, Success]);
    assert_eq!(told.last().unwrap().1, Phase::Succeeded);
    let (told, status) = run(&spec, &[Unknown, Unknown, Unknown]);
    assert_eq!(told.last(), Some(&(20, Phase::RolledBack, 0)));
    assert!(status.message.contains("unknown 3 times"), "{}", status.message);
}

#[test]
fn failures_of_an_earlier_step_are_forgotten() {
    use Verdict::{Failure, Success};
    let spec = spec(&[(10, "5s"), (50, "5s"), (80, "5s")], &[("errors", 1, 2)]);
    let (told, _) = run(&spec, &[Failure, Success, Failure, Success, Failure, Success]);
    assert_eq!(told.last().unwrap().1, Phase::Succeeded);
}

#[test]
fn people_pause_approve_promote_and_abort() {
    let mut spec = spec(&[(10, "5s"), (50, "5s")], &[]);
    spec.steps[0].approve = true;
    let mut status = begin(&spec, None, 1, at(0));
    assert_eq!(advance(&spec, &mut status, at(0)), Some(Duration::from_secs(5)));
    assert!(advance(&spec, &mut status, at(5)).is_some());
    assert_eq!((status.phase, status.weight), (Phase::Paused, 10));
    spec.approved_step = 1;
    advance(&spec, &mut status, at(6));
    assert_eq!((status.phase, status.weight), (Phase::Progressing, 50));
    spec.paused = true;
    advance(&spec, &mut status, at(100));
    assert_eq!((status.phase, status.weight), (Phase::Paused, 50));
    let mut promoted = (spec.clone(), status.clone());
    promoted.0.promote = true;
    assert_eq!(advance(&promoted.0, &mut promoted.1, at(101)), None);
    assert_eq!((promoted.1.phase, promoted.1.weight), (Phase::Succeeded, 100));
    spec.abort = true;
    assert_eq!(advance(&spec, &mut status, at(101)), None);
    assert_eq!((status.phase, status.weight), (Phase::RolledBack, 0));
    // What has ended has ended.
    spec.abort = false;
    assert_eq!(advance(&spec, &mut status, at(102)), None);
    assert_eq!(status.phase, Phase::RolledBack);
}

#[test]
fn another_plan_is_another_release() {
    let first = spec(&[(10, "5s")], &[]);
    let mut status = begin(&first, None, 1, at(0));
    advance(&first, &mut status, at(5));
    assert_eq!(status.phase, Phase::Succeeded);
    // A metric more, an approval: the same release.
    let mut same = first.clone();
    same.approved_step = 1;
    assert_eq!(begin(&same, Some(&status), 2, at(6)).phase, Phase::Succeeded);
    let mut other = first;
    other.canary.name = "v3".into();
    let begun = begin(&other, Some(&status), 3, at(7));
    assert_eq!((begun.phase, begun.weight, begun.observed_generation), (Phase::Progressing, 10, 3));
}

#[test]
fn specifications_are_checked() {
    let good = spec(&[(10, "5s")], &[("errors", 1, 1)]);
    assert_eq!(check(&good), Ok(()));
    let wrong = |change: fn(&mut Spec)| {
        let mut changed = good.clone();
        change(&mut changed);
        check(&changed).is_err()
    };
    assert!(wrong(|spec| spec.steps.clear()));
    assert!(wrong(|spec| spec.canary = spec.stable.clone()));
    assert!(wrong(|spec| spec.steps[0].pause = Some("soon".into())));
    assert!(wrong(|spec| spec.metrics[0].success = None));
    assert!(wrong(|spec| spec.metrics[0].interval = Some("5".into())));
}
