//! Jobs at all stages of their lives.

use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut whole = json!({"metadata": {"name": "j", "namespace": "n", "uid": "job"},
        "spec": {"parallelism": 2, "completions": 3, "backoffLimit": 6, "template": {"spec": {"containers": []}}},
        "status": status});
    let merged = whole["spec"].as_object_mut().unwrap();
    spec.as_object().unwrap().iter().for_each(|(key, value)| drop(merged.insert(key.clone(), value.clone())));
    serde_json::from_value(whole).unwrap()
}

/// `NAME PHASE [INDEX [FAILURES]]`; a name that begins with `-` is being deleted, one that ends in `!` is counted.
fn pod(text: &str) -> Arc<Pod> {
    let words: Vec<&str> = text.split(' ').collect();
    let counted = words[0].ends_with('!');
    let name = words[0].trim_matches(['-', '!']);
    let mut pod = json!({"metadata": {"name": name, "uid": name, "namespace": "n", "annotations": {}},
        "status": {"phase": words[1]}});
    if !counted {
        pod["metadata"]["finalizers"] = json!([FINALIZER]);
    }
    if words[0].starts_with('-') {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
    }
    if let Some(index) = words.get(2) {
        pod["metadata"]["annotations"][INDEX] = json!(index);
    }
    if let Some(failures) = words.get(3) {
        pod["metadata"]["annotations"][FAILURES] = json!(failures);
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn turn(job: &Job, pods: &[&str]) -> Decision {
    let pods: Vec<Arc<Pod>> = pods.iter().map(|text| pod(text)).collect();
    let known =
        Known { job, pods: &pods, stripped: &HashSet::new(), met: true, backoff: &Backoff::default(), now: now() };
    decide(&known)
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|pod| uid(pod)).collect()
}

fn end(decision: &Decision) -> Option<(&str, &str)> {
    decision.finish.as_ref().map(|end| (end.type_.as_str(), end.reason.as_deref().unwrap()))
}

#[test]
fn as_many_pods_run_as_are_wanted_and_still_needed() {
    let cases: [(Value, &[&str], usize, usize); 8] = [
        (json!({}), &[], 2, 0),
        (json!({}), &["a Running"], 1, 0),
        (json!({}), &["a Running", "b Running", "c Running"], 0, 1),
        // Two of three are done: one more is enough.
        (json!({}), &["a Succeeded", "b Succeeded"], 1, 0),
        (json!({"suspend": true}), &["a Running", "b Pending"], 0, 2),
        (json!({"completions": null}), &["a Succeeded", "b Running"], 0, 0),
        // A pod that is on its way out is replaced at once, or only when it has ended.
        (json!({}), &["-a Running"], 2, 0),
        (json!({"podReplacementPolicy": "Failed"}), &["-a Running"], 1, 0),
    ];
    for (spec, pods, create, delete) in cases {
        let decision = turn(&job(spec.clone(), json!({})), pods);
        assert_eq!((decision.create.len(), decision.delete.len()), (create, delete), "{spec} {pods:?}");
    }
}

#[test]
fn ends_are_noted_before_finalizers_go_and_counted_after() {
    let decision = turn(&job(json!({}), json!({})), &["a Succeeded", "b Failed", "c Running", "d! Succeeded"]);
    assert_eq!(names(&decision.strip), ["a", "b"]);
    let uncounted = decision.status.uncounted_terminated_pods.as_ref().unwrap();
    assert_eq!(
        (uncounted.succeeded.as_deref().unwrap(), uncounted.failed.as_deref().unwrap()),
        (&["a".to_owned()][..], &["b".to_owned()][..])
    );
    assert_eq!((decision.status.succeeded, decision.status.failed), (None, None));
    // The next turn finds both without finalizer and counts them.
    let status = json!({"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["b"]}});
    let decision = turn(&job(json!({}), status.clone()), &["a! Succeeded", "b! Failed", "c Running"]);
    assert_eq!((decision.status.succeeded, decision.status.failed), (Some(1), Some(1)));
    assert_eq!(decision.status.uncounted_terminated_pods, Some(UncountedTerminatedPods::default()));
    // One that was noted and still has its finalizer is not noted again.
    let decision = turn(&job(json!({}), status), &["a Succeeded", "b! Failed", "c Running"]);
    let uncounted = decision.status.uncounted_terminated_pods.as_ref().unwrap();
    assert_eq!(uncounted.succeeded.as_deref(), Some(&["a".to_owned()][..]));
    assert_eq!(names(&decision.strip), ["a"]);
}

#[test]
fn a_job_ends_when_its_criteria_are_met() {
    let cases: [(Value, &[&str], Option<(&str, &str)>); 7] = [
        (json!({}), &["a Succeeded", "b Succeeded", "c Succeeded"], Some(("Complete", "CompletionsReached"))),
        (json!({}), &["a Succeeded", "b Succeeded", "c Running"], None),
        (json!({"completions": null}), &["a Succeeded", "b Failed"], Some(("Complete", "CompletionsReached"))),
        (json!({"backoffLimit": 0}), &["a Failed", "b Running"], Some(("Failed", "BackoffLimitExceeded"))),
        (json!({"backoffLimit": 1}), &["a Failed", "b Running"], None),
        (json!({"completions": 0}), &[], Some(("Complete", "CompletionsReached"))),
        (
            json!({"podFailurePolicy": {"rules": [{"action": "FailJob",
                "onPodConditions": [{"type": "X", "status": "True"}]}]}}),
            &["a Failed"],
            None,
        ),
    ];
    for (spec, pods, expected) in cases {
        let decision = turn(&job(spec.clone(), json!({})), pods);
        assert_eq!(end(&decision), expected, "{spec} {pods:?}");
        let interim = match expected {
            Some(("Complete", _)) => Some(MET),
            Some(_) => Some(TARGET),
            None => None,
        };
        assert_eq!(decision.status.conditions.as_ref().map(|all| all[0].type_.as_str()), interim, "{spec}");
        if interim == Some(TARGET) {
            assert_eq!(names(&decision.delete), ["b"]);
            assert_eq!(decision.status.terminating, Some(1));
        }
    }
}

#[test]
fn what_was_decided_stays_decided() {
    let met = json!({"conditions": [{"type": TARGET, "status": "True", "reason": "R", "message": "M"}]});
    let decision = turn(&job(json!({}), met), &["-a Running", "b Succeeded"]);
    assert_eq!(end(&decision), Some(("Failed", "R")));
    assert_eq!(decision.status.terminating, Some(1));
    assert!(decision.create.is_empty());
}

#[test]
fn a_deadline_ends_a_job_and_wakes_it_in_time() {
    let started = |text: &str| json!({"startTime": text});
    let spec = json!({"activeDeadlineSeconds": 60});
    let late = turn(&job(spec.clone(), started("2026-01-01T00:58:59Z")), &["a Running"]);
    assert_eq!(end(&late), Some(("Failed", "DeadlineExceeded")));
    let early = turn(&job(spec.clone(), started("2026-01-01T00:59:30Z")), &["a Running"]);
    assert_eq!((end(&early), early.again), (None, Some(Duration::from_secs(30))));
    let resumed = json!({"conditions": [{"type": "Suspended", "status": "True"}]});
    let resumed = turn(&job(spec, resumed), &[]);
    assert_eq!(resumed.suspended, Some(false));
    assert_eq!(resumed.status.start_time, Some(Time(now())));
}

#[test]
fn a_suspended_job_says_so_once() {
    let first = turn(&job(json!({"suspend": true}), json!({})), &["a Running"]);
    assert_eq!((first.suspended, names(&first.delete)), (Some(true), vec!["a"]));
    assert_eq!(first.status.start_time, None);
    let known = json!({"conditions": [{"type": "Suspended", "status": "True"}]});
    assert_eq!(turn(&job(json!({"suspend": true}), known), &[]).suspended, None);
}

#[test]
fn each_index_is_run_once() {
    let spec = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 3});
    let created = |decision: &Decision| decision.create.iter().filter_map(|new| new.index).collect::<Vec<_>>();
    let decision = turn(&job(spec.clone(), json!({"completedIndexes": "0"})), &["a Running 2", "b Succeeded 1"]);
    assert_eq!(created(&decision), [3, 4]);
    assert_eq!(decision.status.completed_indexes.as_deref(), Some("0,1"));
    assert_eq!(decision.status.succeeded, Some(2));
    // Two pods of one index, and one of an index that is none.
    let decision = turn(&job(spec, json!({})), &["a Running 2", "b Running 2", "c Running 7"]);
    assert_eq!(decision.delete.len(), 2);
    assert!(names(&decision.delete).contains(&"c"));
}

#[test]
fn an_index_fails_alone_and_remembers_its_failures() {
    let spec = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2,
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1});
    // The first failure of an index: its pod is kept until the next one has been made with its count.
    let decision = turn(&job(spec.clone(), json!({})), &["a Failed 0 0", "b Running 1 0"]);
    assert_eq!(decision.create, [New { index: Some(0), failures: Some((1, 0)) }]);
    assert!(decision.strip.is_empty());
    let decision = turn(&job(spec.clone(), json!({})), &["a Failed 0 0", "c Running 0 1", "b Running 1 0"]);
    assert_eq!(names(&decision.strip), ["a"]);
    // The second is one too many.
    let decision = turn(&job(spec.clone(), json!({})), &["c Failed 0 1", "b Running 1 0"]);
    assert_eq!(decision.status.failed_indexes.as_deref(), Some("0"));
    assert!(decision.create.is_empty() && end(&decision).is_none());
    let decision = turn(&job(spec.clone(), json!({"failedIndexes": "0"})), &["b Succeeded 1 0"]);
    assert_eq!(end(&decision), Some(("Failed", "FailedIndexes")));
    let mut spec = spec;
    spec["maxFailedIndexes"] = json!(0);
    let decision = turn(&job(spec, json!({"failedIndexes": "0"})), &["b Running 1 0"]);
    assert_eq!(end(&decision), Some(("Failed", "MaxFailedIndexesExceeded")));
}

#[test]
fn a_success_policy_ends_a_job_early() {
    let spec = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]}});
    let decision = turn(&job(spec, json!({})), &["a Succeeded 0", "b Running 1"]);
    assert_eq!(end(&decision), Some(("Complete", "SuccessPolicy")));
    assert_eq!(names(&decision.delete), ["b"]);
    // A pod that is stopped because the others succeeded is no failure.
    assert_eq!(decision.status.uncounted_terminated_pods.unwrap().failed, None);
}
