//! When Jobs are made, and what becomes of those that were.

use serde_json::{Value, json};

use super::*;

const CREATED: &str = "2026-01-01T00:00:30Z";

fn cron(spec: Value, status: Value) -> CronJob {
    let mut whole = json!({"metadata": {"name": "c", "namespace": "n", "uid": "cron", "creationTimestamp": CREATED},
        "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}},
        "status": status});
    let merged = whole["spec"].as_object_mut().unwrap();
    spec.as_object().unwrap().iter().for_each(|(key, value)| drop(merged.insert(key.clone(), value.clone())));
    serde_json::from_value(whole).unwrap()
}

fn job(name: &str, end: Option<&str>, minute: u8) -> Arc<Job> {
    let time = format!("2026-01-01T00:{minute:02}:00Z");
    let conditions = end.map(|kind| json!([{"type": kind, "status": "True"}]));
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "status": {"startTime": time,
            "completionTime": end.filter(|kind| *kind == "Complete").map(|_| time), "conditions": conditions}}))
        .unwrap(),
    )
}

fn at(text: &str) -> Timestamp {
    format!("2026-01-01T{text}Z").parse().unwrap()
}

#[test]
fn a_job_is_made_when_the_schedule_is_due() {
    let last = |text: &str| json!({"lastScheduleTime": format!("2026-01-01T{text}Z")});
    let active = json!({"active": [{"name": "c-1", "uid": "c-1"}]});
    let cases = [
        (json!({}), json!({}), "00:04:59", None),
        (json!({}), json!({}), "00:05:00", Some("00:05:00")),
        (json!({}), last("00:05:00"), "00:09:00", None),
        (json!({}), last("00:05:00"), "00:10:01", Some("00:10:00")),
        // Of all that were missed only the last is made up for, if it is not too late.
        (json!({}), last("00:05:00"), "07:12:00", Some("07:10:00")),
        (json!({"startingDeadlineSeconds": 60}), last("00:05:00"), "07:12:00", None),
        (json!({"startingDeadlineSeconds": 130}), last("00:05:00"), "07:12:00", Some("07:10:00")),
        (json!({"suspend": true}), json!({}), "00:05:00", None),
        (json!({"schedule": "x"}), json!({}), "00:05:00", None),
        (json!({"timeZone": "Mars/Olympus"}), json!({}), "00:05:00", None),
        (json!({"schedule": "0 9 * * *", "timeZone": "Asia/Seoul"}), json!({}), "00:00:31", None),
        (json!({"schedule": "10 9 * * *", "timeZone": "Asia/Seoul"}), json!({}), "00:11:00", Some("00:10:00")),
        (json!({"concurrencyPolicy": "Forbid"}), active.clone(), "00:05:00", None),
        (json!({"concurrencyPolicy": "Replace"}), active.clone(), "00:05:00", Some("00:05:00")),
        (json!({"concurrencyPolicy": "Allow"}), active, "00:05:00", Some("00:05:00")),
    ];
    for (spec, status, now, expected) in cases {
        let running = job("c-1", None, 1);
        let decision = decide(&cron(spec.clone(), status.clone()), &[running], at(now));
        assert_eq!(decision.start, expected.map(at), "{spec} {status} {now}");
        let replaces = spec["concurrencyPolicy"] == "Replace";
        assert_eq!(decision.delete.len(), usize::from(replaces), "{spec}");
    }
}

#[test]
fn the_next_turn_comes_when_the_schedule_is_due_next() {
    let decision = decide(&cron(json!({}), json!({})), &[], at("00:03:00"));
    assert_eq!(decision.again, Some(Duration::from_secs(120)));
    assert_eq!(decide(&cron(json!({"suspend": true}), json!({})), &[], at("00:03:00")).again, None);
}

#[test]
fn ended_jobs_leave_the_list_and_the_oldest_are_deleted() {
    let status =
        json!({"active": [{"name": "a", "uid": "a"}, {"name": "gone", "uid": "gone"}, {"name": "d", "uid": "d"}]});
    let spec = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0, "suspend": true});
    let jobs =
        [job("a", Some("Complete"), 3), job("b", Some("Complete"), 2), job("c", Some("Failed"), 1), job("d", None, 4)];
    let decision = decide(&cron(spec, status), &jobs, at("00:05:00"));
    let left: Vec<_> = decision.status.active.iter().flatten().map(|job| job.name.as_deref().unwrap()).collect();
    assert_eq!(left, ["d"]);
    let deleted: Vec<_> = decision.delete.iter().map(|job| job.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(deleted, ["b", "c"]);
    assert_eq!(decision.status.last_successful_time, Some(Time(at("00:03:00"))));
    let reasons: Vec<_> = decision.said.iter().map(|(_, reason, _)| *reason).collect();
    assert_eq!(reasons, ["SawCompletedJob", "MissingJob"]);
}

#[test]
fn a_job_is_named_after_its_minute() {
    let job = job_of(&cron(json!({"timeZone": "Asia/Seoul"}), json!({})), at("00:05:00"));
    assert_eq!(job.metadata.name.as_deref(), Some("c-29453765"));
    assert_eq!(job.metadata.annotations.unwrap()[SCHEDULED], "2026-01-01T09:05:00+09:00");
    assert_eq!(job.metadata.labels.unwrap()["a"], "b");
}
