//! Runs that stay and go.

use super::*;

const DAY: i64 = 86_400;

fn at(day: i64) -> Timestamp {
    Timestamp::from_second(day * DAY).unwrap()
}

/// Run `n` began on day `n`.
fn run(number: u64, ended: Option<Result>) -> Run {
    Run { number, began: at(number as i64), ended, pinned: false, artifacts: true }
}

fn kept(arguments: &[(&str, &str)]) -> Retention {
    rules(arguments.iter().map(|(name, value)| (*name, (*value).to_string()))).unwrap()
}

#[test]
fn a_number_of_runs_is_kept_and_the_last_good_one() {
    let runs = [
        run(1, Some(Result::Success)),
        run(2, Some(Result::Unstable)),
        run(3, Some(Result::Failure)),
        run(4, Some(Result::Failure)),
        run(5, Some(Result::Failure)),
        run(6, None),
    ];
    let decided = decide(&kept(&[("numToKeepStr", "2")]), &runs, at(6));
    assert_eq!(decided, Decision { discard: vec![Discard::Run(4), Discard::Run(3)], next: None });
}

#[test]
fn days_are_counted_and_tell_when_to_look_again() {
    let runs: Vec<Run> = (1..=5).map(|number| run(number, Some(Result::Success))).collect();
    let decided = decide(&kept(&[("daysToKeepStr", "3")]), &runs, at(6));
    assert_eq!(decided.discard, [Discard::Run(3), Discard::Run(2), Discard::Run(1)]);
    assert_eq!(decided.next, Some(at(7)));
    assert_eq!(decide(&kept(&[]), &runs, at(1000)), Decision::default());
}

#[test]
fn artifacts_may_go_before_their_run() {
    let mut runs: Vec<Run> = (1..=4).map(|number| run(number, Some(Result::Success))).collect();
    runs[0].artifacts = false;
    runs[1].pinned = true;
    let rules = kept(&[("artifactNumToKeepStr", "1"), ("numToKeep", "3"), ("daysToKeepStr", "-1")]);
    assert_eq!(decide(&rules, &runs, at(5)).discard, [Discard::Artifacts(3), Discard::Run(1)]);
}

#[test]
fn arguments_are_numbers() {
    assert_eq!(kept(&[("numToKeepStr", ""), ("daysToKeepStr", "0")]), Retention::default());
    assert!(rules([("numToKeepStr", "many".to_string())]).is_err());
    assert!(rules([("numberToKeep", "1".to_string())]).is_err());
}
