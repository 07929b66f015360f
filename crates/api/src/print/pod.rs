//! Pods: readiness, restarts, and the one word that says how a pod is doing.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use crate::meta::{self, View};

/// What a row says of a pod that has ended.
pub fn conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match View::new(pod).at("status").text("phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// Restarts of containers, and when the last of them ended before.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: View<'_>) {
        self.count = self.count.saturating_add(container.int("restartCount").unwrap_or(0));
        let finished = container.at("lastState").at("terminated").text("finishedAt").parse::<Timestamp>().ok();
        self.last = self.last.max(finished);
    }

    fn shown(&self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                format!("{} ({} ago)", self.count, age::human(age::seconds_between(last, now)))
            }
            _ => self.count.to_string(),
        }
    }
}

pub fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let view = View::new(pod);
    let (spec, status) = (view.at("spec"), view.at("status"));
    let is_sidecar = |name: &str| {
        spec.list("initContainers").any(|init| init.text("name") == name && init.text("restartPolicy") == "Always")
    };
    let has_condition = |kind: &str| {
        status.list("conditions").any(|condition| condition.text("type") == kind && condition.text("status") == "True")
    };
    let phase = status.text("phase");
    let mut reason = match status.text("reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    let gated =
        |condition: View<'_>| condition.text("type") == "PodScheduled" && condition.text("reason") == "SchedulingGated";
    if status.list("conditions").any(gated) {
        reason = "SchedulingGated".to_owned();
    }

    let sidecars = spec.list("initContainers").filter(|init| init.text("restartPolicy") == "Always").count();
    let total = spec.slice("containers").len() + sidecars;
    let mut ready = 0;
    let (mut restarts, mut sidecar_restarts) = (Restarts::default(), Restarts::default());
    let mut initializing = false;
    for (position, container) in status.list("initContainerStatuses").enumerate() {
        restarts.add(container);
        let sidecar = is_sidecar(container.text("name"));
        if sidecar {
            sidecar_restarts.add(container);
        }
        let state = container.at("state");
        let (terminated, waiting) = (state.at("terminated"), state.at("waiting").text("reason"));
        if terminated.exists() && terminated.int("exitCode").unwrap_or(0) == 0 {
            continue;
        }
        if sidecar && container.is("started") {
            ready += usize::from(container.is("ready"));
            continue;
        }
        initializing = true;
        reason = if terminated.exists() {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{position}/{}", spec.slice("initContainers").len())
        };
        break;
    }

    let initialized = status
        .list("conditions")
        .find(|condition| condition.text("type") == "Initialized")
        .is_some_and(|condition| condition.text("status") == "True");
    if !initializing || initialized {
        restarts = sidecar_restarts;
        let (mut running, mut error) = (false, String::new());
        for container in status.slice("containerStatuses").iter().rev().map(View::new) {
            restarts.add(container);
            let state = container.at("state");
            let (terminated, waiting) = (state.at("terminated"), state.at("waiting").text("reason"));
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if terminated.exists() {
                reason = ended(terminated);
                if terminated.int("exitCode").unwrap_or(0) != 0 {
                    error = reason.clone();
                }
            } else if container.is("ready") && state.has("running") {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" {
            if running && has_condition("Ready") {
                reason = "Running".to_owned();
            } else if !error.is_empty() {
                reason = error;
            } else if running {
                reason = "NotReady".to_owned();
            }
        }
    }
    if meta::deletion_timestamp(pod).is_some() {
        if status.text("reason") == "NodeLost" {
            reason = "Unknown".to_owned();
        } else if !matches!(phase, "Failed" | "Succeeded") {
            reason = "Terminating".to_owned();
        }
    }

    let gates = spec.slice("readinessGates").len();
    let gates_shown = if gates == 0 {
        "<none>".to_owned()
    } else {
        let open = spec.list("readinessGates").filter(|gate| {
            let kind = gate.text("conditionType");
            let condition = status.list("conditions").find(|condition| condition.text("type") == kind);
            condition.is_some_and(|condition| condition.text("status") == "True")
        });
        format!("{}/{gates}", open.count())
    };
    let or_none = |text: &str| if text.is_empty() { "<none>".to_owned() } else { text.to_owned() };
    let address = status.list("podIPs").next().map_or("", |ip| ip.text("ip"));
    vec![
        meta::name(pod).into(),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.shown(now).into(),
        age::since(meta::creation_timestamp(pod).unwrap_or(""), now).into(),
        or_none(address).into(),
        or_none(spec.text("nodeName")).into(),
        or_none(status.text("nominatedNodeName")).into(),
        gates_shown.into(),
    ]
}

/// How a container ended: its reason, else its signal or exit code.
fn ended(terminated: View<'_>) -> String {
    let signal = terminated.int("signal").unwrap_or(0);
    match terminated.text("reason") {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", terminated.int("exitCode").unwrap_or(0)),
        reason => reason.to_owned(),
    }
}
