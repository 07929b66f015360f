//! Pushes, and the runs that they start.

use super::*;
use crate::repositories::kind::Change;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn push(number: u64, changes: &[(&str, Option<&str>)]) -> Push {
    let updates = changes
        .iter()
        .map(|(name, new)| Change { reference: (*name).into(), old: None, new: new.map(str::to_string) })
        .collect();
    let time = at(100 * i64::try_from(number).unwrap()).to_string();
    Push { number, time, user: Some("kim".into()), options: Vec::new(), updates }
}

fn asked(patterns: &[String]) -> Asked<'_> {
    Asked { patterns, default: "main", acted: Some(0), made: at(0), quiet: SignedDuration::ZERO }
}

fn repository(pushes: Vec<Push>) -> Status {
    Status { sequence: pushes.last().map_or(0, |push| push.number), pushes, ..Status::default() }
}

fn told(decision: &Decision) -> Vec<(u64, &str, &str)> {
    decision.start.iter().map(|one| (one.push, one.branch.as_str(), one.commit.as_str())).collect()
}

#[test]
fn each_push_of_a_matching_branch_is_a_run_once() {
    let pushes = repository(vec![
        push(1, &[("refs/heads/main", Some("a"))]),
        push(2, &[("refs/heads/main", Some("b")), ("refs/heads/work", Some("c")), ("refs/tags/v1", Some("b"))]),
        push(3, &[("refs/heads/main", None)]),
    ]);
    let first = decide(asked(&[]), &pushes, at(1000));
    assert_eq!(told(&first), [(1, "main", "a"), (2, "main", "b")]);
    assert_eq!((first.push, first.next), (3, None));
    let again = decide(Asked { acted: Some(first.push), ..asked(&[]) }, &pushes, at(1000));
    assert_eq!((told(&again), again.push), (vec![], 3));
    let some = ["wo*".to_string(), "refs/tags/v*".to_string()];
    assert_eq!(told(&decide(asked(&some), &pushes, at(1000))), [(2, "work", "c"), (2, "refs/tags/v1", "b")]);
    let all = ["**".to_string()];
    assert_eq!(
        told(&decide(Asked { acted: Some(1), ..asked(&all) }, &pushes, at(1000))),
        [(2, "main", "b"), (2, "work", "c")]
    );
}

#[test]
fn pushes_from_before_a_pipeline_was_made_do_not_count() {
    let pushes =
        repository(vec![push(1, &[("refs/heads/main", Some("a"))]), push(2, &[("refs/heads/main", Some("b"))])]);
    let new = Asked { acted: None, made: at(150), ..asked(&[]) };
    assert_eq!(told(&decide(new, &pushes, at(1000))), [(2, "main", "b")]);
    let later = decide(Asked { made: at(300), ..new }, &pushes, at(1000));
    assert_eq!((told(&later), later.push), (vec![], 2));
    assert_eq!(decide(new, &repository(vec![]), at(1000)).push, 0);
}

#[test]
fn a_repository_made_anew_counts_from_the_beginning() {
    let pushes = repository(vec![push(1, &[("refs/heads/main", Some("a"))])]);
    let decision = decide(Asked { acted: Some(57), ..asked(&[]) }, &pushes, at(1000));
    assert_eq!((told(&decision), decision.push), (vec![(1, "main", "a")], 1));
}

#[test]
fn a_quiet_period_makes_one_run_of_several_pushes() {
    let pushes = repository(vec![
        push(1, &[("refs/heads/main", Some("a"))]),
        push(2, &[("refs/heads/main", Some("b"))]),
        push(3, &[("refs/heads/main", Some("c"))]),
    ]);
    let quiet = Asked { quiet: SignedDuration::from_secs(60), ..asked(&[]) };
    let first = decide(quiet, &pushes, at(310));
    assert_eq!((told(&first), first.push, first.next), (vec![(2, "main", "b")], 2, Some(at(360))));
    let then = decide(Asked { acted: Some(2), ..quiet }, &pushes, at(360));
    assert_eq!((told(&then), then.push, then.next), (vec![(3, "main", "c")], 3, None));
}

#[test]
fn a_push_may_ask_for_no_run() {
    let mut skipped = push(1, &[("refs/heads/main", Some("a"))]);
    skipped.options = vec!["ci.skip".into()];
    let decision = decide(asked(&[]), &repository(vec![skipped]), at(1000));
    assert_eq!((told(&decision), decision.push), (vec![], 1));
}

#[test]
fn many_pushes_are_started_in_portions() {
    let pushes: Vec<Push> = (1..=150).map(|number| push(number, &[("refs/heads/main", Some("a"))])).collect();
    let pushes = repository(pushes);
    let first = decide(asked(&[]), &pushes, at(1_000_000));
    assert_eq!((first.start.len(), first.push, first.next), (MOST, 100, Some(at(1_000_000))));
    let then = decide(Asked { acted: Some(100), ..asked(&[]) }, &pushes, at(1_000_000));
    assert_eq!((then.start.len(), then.push, then.next), (50, 150, None));
}
