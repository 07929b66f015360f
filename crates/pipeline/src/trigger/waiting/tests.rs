//! What waits, over answers, failures and restarts.

use super::*;
use crate::{
    kind::{Change, Git, Status},
    trigger::{change::Changed, hook::Push},
};

fn pipeline() -> Pipeline {
    let mut pipeline = Pipeline::default();
    pipeline.spec.git = Some(Git { url: "https://a/b".into(), credentials_id: None });
    pipeline.spec.branches = vec!["refs/pull/*/head".into()];
    pipeline
}

fn changed(id: u64, title: &str) -> Event {
    Event::Change(Box::new(Changed {
        reference: format!("refs/pull/{id}/head"),
        commit: "a".repeat(40),
        change: Change { id: id.to_string(), title: Some(title.into()), ..Change::default() },
    }))
}

fn push() -> Event {
    Event::Push(Push { reference: "refs/heads/main".into(), ..Push::default() })
}

/// Takes a request as it is written into the status.
fn kept(pipeline: &mut Pipeline, delivery: &str, event: &Event) -> Vec<String> {
    let Ok(Taken::Kept { waiting, replaced, .. }) = take(pipeline, delivery, event) else {
        panic!("{delivery} is not kept")
    };
    let status = pipeline.status.get_or_insert_default();
    status.waiting.retain(|key, _| !replaced.contains(key));
    status.waiting.insert(delivery.to_owned(), waiting);
    replaced
}

fn titles(due: &Due<'_>) -> Vec<(String, String)> {
    let titled = |(key, one): &(&str, &Waiting)| {
        let title = one.change.as_ref().and_then(|change| change.title.clone());
        ((*key).to_owned(), title.unwrap_or_default())
    };
    due.start.iter().map(titled).collect()
}

fn told(pipeline: &Pipeline, event: &Event) -> String {
    match take(pipeline, "a", event).unwrap() {
        Taken::Told(told) => format!("told {told}"),
        Taken::Kept { told, .. } => format!("kept {told}"),
    }
}

#[test]
fn only_what_starts_something_is_kept() {
    let mut own = pipeline();
    assert_eq!(told(&own, &Event::Ping), "told it works");
    assert_eq!(told(&own, &Event::Other("issues".into())), "told \"issues\" starts nothing");
    assert_eq!(told(&own, &push()), "kept refs/heads/main is looked at");
    assert_eq!(told(&own, &changed(7, "")), "kept a run of refs/pull/7/head starts");
    own.spec.branches = vec!["main".into()];
    let expected = "told refs/pull/7/head starts nothing: no pattern of spec.branches is about it";
    assert_eq!(told(&own, &changed(7, "")), expected);
    assert!(told(&own, &push()).starts_with("kept"));
    own.spec.suspend = true;
    assert_eq!(told(&own, &push()), "told refs/heads/main starts nothing: the pipeline is suspended");
    (own.spec.suspend, own.spec.git) = (false, None);
    let expected = "told refs/heads/main starts nothing: the pipeline names no repository elsewhere";
    assert_eq!(told(&own, &push()), expected);
}

#[test]
fn one_that_is_sent_again_before_it_was_acted_upon_waits_once() {
    let mut own = pipeline();
    kept(&mut own, "a", &changed(7, "one"));
    assert_eq!(told(&own, &changed(7, "one")), "told a run of refs/pull/7/head starts");
    // Also where the pipeline was suspended in between: it was acknowledged as what starts.
    own.spec.suspend = true;
    assert_eq!(told(&own, &changed(7, "one")), "told a run of refs/pull/7/head starts");
    own.spec.suspend = false;
    assert_eq!(titles(&due(&own, &HashSet::new())), [("a".to_owned(), "one".to_owned())]);
}

#[test]
fn a_newer_request_of_a_change_takes_the_place_of_the_older_and_of_no_other() {
    let mut own = pipeline();
    assert!(kept(&mut own, "d", &changed(7, "one")).is_empty());
    assert!(kept(&mut own, "c", &changed(8, "other")).is_empty());
    assert!(kept(&mut own, "b", &push()).is_empty());
    // The run of the first could not be made: it waits, until there is a newer one.
    assert_eq!(kept(&mut own, "a", &changed(7, "two")), ["d"]);
    assert_eq!(kept(&mut own, "e", &push()), ["b"]);
    let due = due(&own, &HashSet::new());
    // In their order, whatever they are called.
    let expected = [("c".to_owned(), "other".to_owned()), ("a".to_owned(), "two".to_owned())];
    assert_eq!(titles(&due), expected);
    assert_eq!((due.look, due.drop.len()), (vec!["e"], 0));
}

#[test]
fn of_two_requests_of_one_change_only_the_newer_starts() {
    let mut own = pipeline();
    let status = own.status.get_or_insert_default();
    for (key, number) in [("a", 2), ("b", 1), ("c", 2)] {
        let reference = Some("refs/pull/7/head".to_owned());
        status.waiting.insert(key.to_owned(), Waiting { number, reference, ..Waiting::default() });
    }
    let found = due(&own, &HashSet::new());
    assert_eq!(found.start.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["c"]);
    assert_eq!(found.drop, ["b", "a"]);
}

#[test]
fn what_was_acted_upon_is_not_done_again_where_the_object_is_an_old_one() {
    let mut own = pipeline();
    kept(&mut own, "a", &changed(7, "one"));
    kept(&mut own, "b", &push());
    let done = HashSet::from(["a".to_owned(), "b".to_owned()]);
    assert_eq!(due(&own, &done), Due::default());
}

#[test]
fn a_suspended_pipeline_keeps_what_waits_and_a_changed_one_drops_what_it_does_not_want() {
    let mut own = pipeline();
    kept(&mut own, "a", &changed(7, "one"));
    kept(&mut own, "b", &push());
    own.spec.suspend = true;
    assert_eq!(due(&own, &HashSet::new()), Due::default());
    own.spec.suspend = false;
    own.spec.branches = vec!["main".into()];
    let found = due(&own, &HashSet::new());
    assert_eq!((found.start.len(), found.look, found.drop), (0, vec!["b"], vec!["a"]));
    own.spec.git = None;
    assert_eq!(due(&own, &HashSet::new()).drop, ["a", "b"]);
}

#[test]
fn what_waits_is_bounded_by_count_and_by_size() {
    let mut own = pipeline();
    for id in 0..MOST as u64 {
        kept(&mut own, &format!("{id:064}"), &changed(id, "one"));
    }
    assert_eq!(take(&own, "a", &changed(1000, "one")), Err(Full));
    assert_eq!(take(&own, "a", &push()), Err(Full));
    // One that takes another's place needs no more.
    assert_eq!(kept(&mut own, "a", &changed(5, "two")).len(), 1);
    let mut own = pipeline();
    let mut count = 0_u64;
    loop {
        let (key, mut event) = (format!("{count:064}"), changed(count, &"é".repeat(1024)));
        if let Event::Change(changed) = &mut event {
            changed.change.branch = changed.change.title.clone();
            changed.change.target = changed.change.title.clone();
        }
        if take(&own, &key, &event) == Err(Full) {
            break;
        }
        kept(&mut own, &key, &event);
        count += 1;
    }
    let written = serde_json::to_vec(&own.status.as_ref().unwrap().waiting).unwrap().len();
    assert!(
        count > 10 && count < MOST as u64 && written <= MOST_BYTES && written > MOST_BYTES / 2,
        "{count} {written}"
    );
}

#[test]
fn what_waits_is_as_it_was_after_it_was_written() {
    let mut own = pipeline();
    kept(&mut own, "a", &changed(7, "one"));
    kept(&mut own, "b", &push());
    let written = serde_json::to_value(own.status.clone().unwrap()).unwrap();
    let read: Status = serde_json::from_value(written).unwrap();
    assert_eq!(Some(read), own.status);
}
