//! Probes: is a container started, alive, ready?
//!
//! ```text
//! wait initial delay ─▶ ask ─▶ count ─┬─ threshold reached: verdict
//!                        ▲            │
//!                        └── period ◀─┘
//! ```
//!
//! One task a probe. Liveness and readiness wait until the startup probe, if there is one, has passed.
//! <https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/>

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use counts::counter::Counts;
use k8s_openapi::api::core::v1::{Container, Pod, Probe as Spec};
use runtime::Runtime;
use tokio::sync::watch;

pub use crate::pod::decide::Probe as Kind;
use crate::{
    command,
    reach::{self, Caller},
};

/// How probes call themselves, as upstream's do.
pub const AGENT: &str = "kube-probe/1.37";

/// Counts results until they make a verdict.
#[derive(Clone, Debug)]
pub struct Counter {
    success: u32,
    failure: u32,
    last: Option<bool>,
    run: u32,
}

impl Counter {
    /// A counter with the thresholds of a probe.
    pub fn new(spec: &Spec) -> Self {
        let positive = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        Self {
            success: positive(spec.success_threshold, 1),
            failure: positive(spec.failure_threshold, 3),
            last: None,
            run: 0,
        }
    }

    /// Takes in a result; the verdict where enough of them agree.
    pub fn count(&mut self, passed: bool) -> Option<bool> {
        if self.last == Some(passed) {
            self.run = self.run.saturating_add(1);
        } else {
            (self.last, self.run) = (Some(passed), 1);
        }
        let needed = if passed { self.success } else { self.failure };
        (self.run >= needed).then_some(passed)
    }
}

/// The container that is asked.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its id.
    pub id: String,
    /// Its spec.
    pub container: Container,
    /// Address of its pod.
    pub pod_ip: IpAddr,
    /// How long it has been running.
    pub age: Duration,
}

/// What a probe has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A verdict that differs from the last.
    Verdict(bool),
    /// A failure, in words, whether or not it makes a verdict.
    Failure(String),
    /// Every result, and how long it took.
    Asked(bool, Duration),
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    let value = value.and_then(|value| u64::try_from(value).ok());
    Duration::from_secs(value.filter(|value| *value > 0).unwrap_or(default))
}

/// Asks until the caller's task ends, or until a failure decides. `gate` is true once the container counts as started.
pub async fn run(
    caller: Caller,
    runtime: Runtime,
    kind: Kind,
    spec: Spec,
    target: Target,
    mut gate: watch::Receiver<bool>,
    report: impl Fn(Report) + Send,
) {
    let delay = seconds(spec.initial_delay_seconds, 0);
    let delay =
        if spec.initial_delay_seconds.unwrap_or(0) > 0 { delay.saturating_sub(target.age) } else { Duration::ZERO };
    let period = seconds(spec.period_seconds, 10);
    let mut counter = Counter::new(&spec);
    // Liveness is assumed, the others have to be shown.
    let mut known = kind == Kind::Liveness;
    let work = async {
        if kind != Kind::Startup && gate.wait_for(|started| *started).await.is_err() {
            return;
        }
        tokio::time::sleep(delay).await;
        loop {
            let began = tokio::time::Instant::now();
            let result = ask(&caller, &runtime, &spec, &target).await;
            report(Report::Asked(result.is_ok(), began.elapsed()));
            if let Err(message) = &result {
                report(Report::Failure(message.clone()));
            }
            if let Some(verdict) = counter.count(result.is_ok()) {
                let decided = match kind {
                    Kind::Startup => true,
                    Kind::Liveness => !verdict,
                    Kind::Readiness => false,
                };
                if verdict != known || decided {
                    known = verdict;
                    report(Report::Verdict(verdict));
                }
                // What was decided stands until the container has been restarted.
                if decided {
                    return;
                }
            }
            tokio::time::sleep_until(began + period).await;
        }
    };
    caller.task.until_cancelled(work).await;
}

/// A kind of probe in words.
pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Liveness => "Liveness",
        Kind::Readiness => "Readiness",
        Kind::Startup => "Startup",
    }
}

/// Counts a result under upstream's names.
pub fn count(counts: &Counts, pod: &Pod, container: &str, kind: Kind, passed: bool, took: Duration) {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (namespace, uid, pod) = (text(&pod.metadata.namespace), text(&pod.metadata.uid), text(&pod.metadata.name));
    let result = if passed { "successful" } else { "failed" };
    let labels = [
        ("container", container),
        ("namespace", &namespace),
        ("pod", &pod),
        ("pod_uid", &uid),
        ("probe_type", name(kind)),
        ("result", result),
    ];
    counts.add("prober_probe_total", &labels);
    if passed {
        counts.took("prober_probe_duration_seconds", &labels[..5], took);
    }
}

/// One question. The error is what the event shows.
async fn ask(caller: &Caller, runtime: &Runtime, spec: &Spec, target: &Target) -> Result<(), String> {
    let limit = seconds(spec.timeout_seconds, 1);
    if let Some(action) = &spec.exec {
        let command = action.command.clone().unwrap_or_default();
        let outcome = command::run(runtime, &target.id, command, limit).await?;
        return if outcome.code == 0 { Ok(()) } else { Err(outcome.output) };
    }
    if let Some(action) = &spec.http_get {
        let answer = reach::http(caller, action, &target.container, target.pod_ip, limit).await;
        let answer = answer.map_err(|error| error.to_string())?;
        return match answer.status {
            200..400 => Ok(()),
            status => Err(format!("HTTP probe failed with statuscode: {status}")),
        };
    }
    if let Some(action) = &spec.tcp_socket {
        let port = reach::port(&action.port, &target.container).map_err(|error| error.to_string())?;
        let ip = action.host.as_deref().filter(|host| !host.is_empty());
        let attempt = async {
            let found = match ip {
                None => vec![target.pod_ip],
                Some(host) => caller.names.lookup(host).await.map_err(|error| format!("dial tcp: {error}"))?,
            };
            let first = found.first().copied().unwrap_or(target.pod_ip);
            reach::tcp(SocketAddr::new(first, port), limit).await.map_err(|error| error.to_string())
        };
        return tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| Err("dial tcp: i/o timeout".into()));
    }
    if let Some(action) = &spec.grpc {
        let port = u16::try_from(action.port).map_err(|_| "port is out of range".to_owned())?;
        let address = SocketAddr::new(target.pod_ip, port);
        let service = action.service.as_deref().unwrap_or("");
        return reach::grpc(caller, address, service, limit).await.map_err(|error| error.to_string());
    }
    Err("missing probe handler".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_need_as_many_equal_results_as_the_thresholds_say() {
        let spec = Spec { success_threshold: Some(2), failure_threshold: Some(3), ..Default::default() };
        let results = [true, true, false, false, true, false, false, false, true, true];
        let wanted = [None, Some(true), None, None, None, None, None, Some(false), None, Some(true)];
        let mut counter = Counter::new(&spec);
        for (index, (result, wanted)) in results.into_iter().zip(wanted).enumerate() {
            assert_eq!(counter.count(result), wanted, "{index}");
        }
    }

    #[test]
    fn thresholds_have_upstreams_defaults() {
        let mut counter = Counter::new(&Spec::default());
        assert_eq!(counter.count(true), Some(true));
        assert_eq!((counter.count(false), counter.count(false), counter.count(false)), (None, None, Some(false)));
    }
}
