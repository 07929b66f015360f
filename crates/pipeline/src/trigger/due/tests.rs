//! What comes due.

use super::*;
use crate::kind::{Named, Upstream};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn crons(specs: &[&str]) -> Triggers {
    Triggers { cron: specs.iter().map(|spec| (*spec).to_string()).collect(), ..Triggers::default() }
}

#[test]
fn what_was_missed_is_one_run() {
    let triggers = crons(&["TZ=UTC\n0 * * * *", "TZ=UTC\n30 12 * * *"]);
    let (clock, wrong) = clock(&triggers, "a", at("2026-01-01T00:30:00Z"), at("2026-01-01T05:10:00Z"));
    assert!(clock.run.is_some() && clock.look.is_none() && wrong.is_empty());
    assert_eq!(clock.next, Some(at("2026-01-01T06:00:00Z")));
    // The first that was missed names the run, whenever it is made.
    let (later, _) = super::clock(&triggers, "a", at("2026-01-01T00:30:00Z"), at("2026-01-01T05:20:00Z"));
    assert_eq!(later.run, clock.run);
    let (none, _) = super::clock(&triggers, "a", at("2026-01-01T05:10:00Z"), at("2026-01-01T05:20:00Z"));
    assert_eq!((none.run, none.next), (None, Some(at("2026-01-01T06:00:00Z"))));
}

#[test]
fn what_is_no_time_is_told_and_the_rest_counts() {
    let (clock, wrong) = clock(
        &crons(&["61 * * * *", "TZ=UTC\n0 * * * *"]),
        "a",
        at("2026-01-01T00:30:00Z"),
        at("2026-01-01T01:00:00Z"),
    );
    assert_eq!((wrong.len(), clock.run), (1, Some(at("2026-01-01T01:00:00Z"))));
}

#[test]
fn triggers_of_object_and_script_are_one() {
    let mut pipeline = Pipeline::default();
    pipeline.spec.triggers = Some(crons(&["@daily"]));
    let declared = Triggers { push: Some(true), ..crons(&["@hourly"]) };
    pipeline.status = Some(Status { triggers: Some(declared), ..Status::default() });
    let all = triggers(&pipeline);
    assert_eq!((all.cron, all.push), (vec!["@daily".to_string(), "@hourly".into()], Some(true)));
}

#[test]
fn a_look_finds_what_has_changed() {
    let references: Vec<(String, String)> =
        [("refs/heads/main", "b"), ("refs/heads/work", "c"), ("refs/pull/1/head", "d")]
            .map(|(name, commit)| (name.to_string(), commit.to_string()))
            .into();
    let (wanted, known) = looked(&[], "main", &[], &references);
    assert_eq!((wanted.len(), wanted[0].commit.as_str(), known.len()), (1, "b", 1));
    assert!(looked(&[], "main", &known, &references).0.is_empty());
    let all = ["**".to_string()];
    let (wanted, known) = looked(&all, "main", &known, &references);
    assert_eq!((wanted.len(), wanted[0].branch.as_str(), known.len()), (1, "work", 2));
    // A branch that is gone is forgotten, and is new when it comes back.
    let (_, known) = looked(&all, "main", &known, &references[..1]);
    assert_eq!(looked(&all, "main", &known, &references).0.len(), 1);
}

#[test]
fn what_a_look_starts_is_named_after_what_was_known_and_not_after_the_clock() {
    let mut pipeline = Pipeline::default();
    assert_eq!(since(&pipeline), None);
    let made = at("2026-01-01T00:00:00Z");
    pipeline.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(made));
    let (fired, noted) = (at("2026-01-02T00:00:00Z"), at("2026-01-03T00:00:00Z"));
    // The clock goes on while a first look fails.
    pipeline.status = Some(Status { fired: Some(fired), ..Status::default() });
    assert_eq!(since(&pipeline), Some(made));
    let known = vec![Branch { name: "main".into(), ..Branch::default() }];
    pipeline.status = Some(Status { fired: Some(fired), branches: known.clone(), ..Status::default() });
    assert_eq!(since(&pipeline), Some(fired));
    pipeline.status = Some(Status { fired: Some(fired), looked: Some(noted), branches: known, ..Status::default() });
    assert_eq!(since(&pipeline), Some(noted));
}

#[test]
fn a_run_that_ended_well_enough_starts_those_after_it() {
    let follower = |name: &str, threshold: Option<&str>| {
        let mut pipeline = Pipeline::default();
        pipeline.metadata.name = Some(name.into());
        let up = Upstream { pipeline: "base".into(), threshold: threshold.map(str::to_string) };
        pipeline.spec.triggers = Some(Triggers { upstream: vec![up], ..Triggers::default() });
        pipeline
    };
    let mut all = vec![
        follower("a", None),
        follower("b", Some("UNSTABLE")),
        follower("c", Some("FAILURE")),
        follower("base", None),
    ];
    let mut elsewhere = follower("d", None);
    elsewhere.metadata.namespace = Some("other".into());
    all.push(elsewhere);
    let mut run = PipelineRun::default();
    run.spec.pipeline_ref = Named { name: "base".into() };
    let names = |result| {
        let found = downstream(&all, &run, result);
        found.iter().map(|one| one.metadata.name.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(Result::Success), ["a", "b", "c"]);
    assert_eq!(names(Result::Unstable), ["b", "c"]);
    assert_eq!(names(Result::Failure), ["c"]);
    assert!(names(Result::Aborted).is_empty());
}
