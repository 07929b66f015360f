//! Stories that are told, and told again.

use super::*;

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

fn told(story: &mut Story) {
    story.started(at(0));
    story.began("0", None, "build", "build", at(0));
    story.step_began(Some("0"), "1", "sh", Some("make"), 10, at(5));
    story.step_ended(Some("0"), "1", &Answer::Done(().into()), 50, at(1205));
    story.finished("0", Some(Outcome::Success), None, at(1300));
    story.began("2", None, "test", "test", at(1300));
    story.began("3/0", Some("2"), "test/unit", "unit", at(1300));
    story.began("4/0", Some("2"), "test/lint", "lint", at(1300));
}

#[test]
fn a_status_says_what_is_going_on() {
    let mut story = Story::default();
    told(&mut story);
    let status = story.shown(50, false, at(75_000));
    assert_eq!(status.phase, Phase::Running);
    assert_eq!(status.now, "test/unit, test/lint");
    assert_eq!(status.progress.as_deref(), Some("1/4"));
    assert_eq!(status.duration.as_deref(), Some("1m15s"));
    let step = &status.stages[0].steps[0];
    assert_eq!(
        (step.phase, step.from, step.to, step.milliseconds),
        (StepPhase::Succeeded, Some(10), Some(50), Some(1200))
    );
}

#[test]
fn what_is_told_again_changes_nothing() {
    let mut story = Story::default();
    told(&mut story);
    let before = story.shown(50, false, at(2000)).clone();
    let mut again = Story::of(before.clone());
    again.started(at(9000));
    again.began("0", None, "build", "build", at(9000));
    again.step_began(Some("0"), "1", "sh", None, 10, at(9000));
    again.step_ended(Some("0"), "1", &Answer::Gone("x".into()), 99, at(9000));
    again.finished("0", None, None, at(9000));
    assert_eq!(*again.shown(50, false, at(2000)), before);
}

#[test]
fn a_question_pauses_a_run() {
    let mut story = Story::default();
    story.started(at(0));
    story.asks(Question { id: "go".into(), message: "deploy?".into(), ..Question::default() });
    let status = story.shown(0, false, at(1));
    assert_eq!((status.phase, status.now.as_str()), (Phase::Paused, "input: deploy?"));
    story.answered("go");
    assert_eq!(story.shown(0, false, at(1)).phase, Phase::Running);
}

#[test]
fn the_end_ends_everything() {
    let mut story = Story::default();
    told(&mut story);
    story.agent(Some("0"), "pod", at(1), |agent| agent.phase = AgentPhase::Ready);
    story.ended(&Ended { result: Outcome::Aborted, error: Some("ended by me\nmore".into()) }, at(2000));
    let status = story.shown(0, false, at(9000));
    assert_eq!((status.phase, status.message.as_deref()), (Phase::Aborted, Some("ended by me")));
    assert!(status.stages.iter().all(|stage| stage.phase == StagePhase::Finished));
    assert_eq!(status.agents[0].phase, AgentPhase::Released);
    assert_eq!(status.duration.as_deref(), Some("2.0s"));
    assert_eq!(status.stages[0].pod.as_deref(), Some("pod"));
}

#[test]
fn a_status_stays_small() {
    let mut story = Story::default();
    for stage in 0..600 {
        let id = stage.to_string();
        story.began(&id, None, &"p".repeat(5000), "n", at(0));
        for step in 0..110 {
            story.step_began(Some(&id), &format!("{id}/{step}"), "sh", Some(&"l".repeat(500)), 0, at(0));
        }
    }
    let status = story.shown(0, false, at(0));
    assert_eq!(status.stages.len(), Bounds::STAGES);
    assert_eq!(status.stages[0].dropped, Some(10));
    assert_eq!(status.stages.iter().map(|stage| stage.steps.len()).sum::<usize>(), Bounds::ALL_STEPS);
    assert!(serde_json::to_vec(status).unwrap().len() < 1_300_000);
}

#[test]
fn durations_are_words() {
    for (milliseconds, expected) in
        [(7, "7ms"), (1240, "1.2s"), (59_999, "59s"), (72_000, "1m12s"), (3_720_000, "1h2m")]
    {
        assert_eq!(words(milliseconds), expected);
    }
}
