//! Kinds that keep pods running.

use jiff::Timestamp;
use serde_json::Value;

use super::super::age;
use super::super::metrics::metrics;
use super::{NONE, Row, UNSET, labels, number, or, selector};
use crate::meta::{self, View};
use crate::selector::Labels;

pub fn workload(kind: &str, row: &Row<'_>) -> Vec<Value> {
    let (spec, status) = (row.spec, row.status);
    let of_desired =
        |member: &str| format!("{}/{}", status.int(member).unwrap_or(0), spec.int("replicas").unwrap_or(0));
    match kind {
        "Deployment" => {
            let mut cells = row.aged([
                of_desired("readyReplicas").into(),
                number(status, "updatedReplicas"),
                number(status, "availableReplicas"),
            ]);
            cells.extend(row.template());
            let selector = Labels::from_value(spec.at("selector").value());
            cells.push(selector.map_or("<invalid>".to_owned(), |selector| selector.to_string()).into());
            cells
        }
        "ReplicaSet" => {
            let mut cells =
                row.aged([number(spec, "replicas"), number(status, "replicas"), number(status, "readyReplicas")]);
            cells.extend(row.template());
            cells.push(selector(spec.at("selector")).into());
            cells
        }
        "StatefulSet" => {
            let mut cells = row.aged([of_desired("readyReplicas").into()]);
            cells.extend(row.template());
            cells
        }
        "DaemonSet" => {
            let mut cells = row.aged([
                number(status, "desiredNumberScheduled"),
                number(status, "currentNumberScheduled"),
                number(status, "numberReady"),
                number(status, "updatedNumberScheduled"),
                number(status, "numberAvailable"),
                labels(spec.at("template").at("spec").at("nodeSelector")).into(),
            ]);
            cells.extend(row.template());
            cells.push(selector(spec.at("selector")).into());
            cells
        }
        "ControllerRevision" => {
            let owner = meta::controller_of(row.object.value()).map(View::new);
            let controller = owner.map_or(NONE.to_owned(), |owner| {
                let group = meta::split_api_version(owner.text("apiVersion")).map_or("", |(group, _)| group);
                let kind = meta::Qualified { group, name: owner.text("kind") }.to_string().to_lowercase();
                format!("{kind}/{}", owner.text("name"))
            });
            row.aged([controller.into(), number(row.object, "revision")])
        }
        "Job" => job(row),
        "CronJob" => {
            let last = match status.text("lastScheduleTime") {
                "" => NONE.to_owned(),
                time => row.since(time),
            };
            let suspend = spec.bool("suspend").map_or(UNSET, |suspend| if suspend { "True" } else { "False" });
            let mut cells = row.aged([
                spec.text("schedule").into(),
                or(spec.text("timeZone"), NONE).into(),
                suspend.into(),
                status.slice("active").len().into(),
                last.into(),
            ]);
            let job = spec.at("jobTemplate").at("spec");
            cells.extend(row.containers(job.at("template").at("spec")));
            cells.push(selector(job.at("selector")).into());
            cells
        }
        "PodDisruptionBudget" => {
            let bound = |member: &str| match spec.at(member).value() {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => "N/A".to_owned(),
            };
            row.aged([
                bound("minAvailable").into(),
                bound("maxUnavailable").into(),
                number(status, "disruptionsAllowed"),
            ])
        }
        "HorizontalPodAutoscaler" => {
            let target = spec.at("scaleTargetRef");
            row.aged([
                format!("{}/{}", target.text("kind"), target.text("name")).into(),
                metrics(spec, status).into(),
                spec.int("minReplicas").map_or(UNSET.to_owned(), |least| least.to_string()).into(),
                number(spec, "maxReplicas"),
                number(status, "currentReplicas"),
            ])
        }
        "Scale" => row.aged([number(spec, "replicas"), number(status, "replicas")]),
        _ => row.named([]),
    }
}

pub fn job(row: &Row<'_>) -> Vec<Value> {
    let (spec, status) = (row.spec, row.status);
    let succeeded = status.int("succeeded").unwrap_or(0);
    let completions = match (spec.int("completions"), spec.int("parallelism").unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let time = |member: &str| status.text(member).parse::<Timestamp>().ok();
    let duration = time("startTime").map_or(String::new(), |start| {
        let end = time("completionTime").unwrap_or(row.now);
        age::human(age::seconds_between(start, end))
    });
    let has = |kind: &str| {
        let condition = status.list("conditions").find(|condition| condition.text("type") == kind);
        condition.is_some_and(|condition| condition.text("status") == "True")
    };
    let deleted = row.object.at("metadata").has("deletionTimestamp");
    let state = if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if deleted {
        "Terminating"
    } else {
        ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(|kind| has(kind)).unwrap_or("Running")
    };
    let mut cells = row.aged([state.into(), completions.into(), duration.into()]);
    cells.extend(row.template());
    cells.push(selector(spec.at("selector")).into());
    cells
}
