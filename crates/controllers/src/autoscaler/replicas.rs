//! How many replicas the figures ask for: pure functions.
//!
//! Pods that are not ready count as idle when the target would grow; pods without figures count as idle when it would grow,
//! and as fully used when it would shrink. What turns the direction round by that changes nothing.
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details>

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::quantity::Quantity as Exact;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pods::{is_ready, phase, ready_condition};

/// A pod that has just started may need processor time for that alone.
const INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// A pod that becomes unready this soon after its start has never been ready.
const FIRST_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// One figure of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// In thousandths.
    pub value: i64,
    /// When it was taken.
    pub at: Timestamp,
    /// Over which time.
    pub window: SignedDuration,
}

/// Figures by pod.
pub type Samples = BTreeMap<String, Sample>;

/// How far the ratio of use to target may be from 1 before anything changes.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Above 1.
    pub up: f64,
    /// Below 1.
    pub down: f64,
}

impl Tolerance {
    /// Whether a ratio is near enough to 1.
    fn holds(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What one metric asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Replicas.
    pub replicas: i32,
    /// Percent of what was requested, where the target is one of utilization.
    pub utilization: Option<i32>,
    /// Average of a pod, or the whole value, in thousandths.
    pub usage: i64,
}

fn ceil(replicas: f64) -> i32 {
    replicas.ceil().clamp(0.0, f64::from(i32::MAX)) as i32
}

/// What a workload looks like now.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its pods.
    pub pods: &'a [Arc<Pod>],
    /// Replicas as they are wanted now.
    pub current: i32,
    /// The tolerance.
    pub tolerance: Tolerance,
    /// The time.
    pub now: Timestamp,
}

#[derive(Default)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

impl Target<'_> {
    fn group(&self, samples: &Samples, cpu: bool) -> Groups {
        let mut groups = Groups::default();
        for pod in self.pods {
            let name = name(pod).to_owned();
            if pod.metadata.deletion_timestamp.is_some() || phase(pod) == "Failed" {
                groups.ignored.insert(name);
            } else if phase(pod) == "Pending" {
                groups.unready.insert(name);
            } else if let Some(sample) = samples.get(&name) {
                if cpu && self.warms_up(pod, sample) {
                    groups.unready.insert(name);
                } else {
                    groups.ready += 1
                }
            } else {
                groups.missing.insert(name);
            }
        }
        groups
    }

    /// Whether the processor time of a pod says nothing yet.
    fn warms_up(&self, pod: &Pod, sample: &Sample) -> bool {
        let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        let (Some(condition), Some(started)) = (ready_condition(pod), started) else { return true };
        let turned = condition.last_transition_time.as_ref().map_or(started, |time| time.0);
        let unready = condition.status == "False";
        if self.now.duration_since(started) < INITIALIZATION {
            unready || sample.at.duration_since(turned) < sample.window
        } else {
            unready && turned.duration_since(started) < FIRST_READINESS
        }
    }

    /// The replicas that `ratio` of the figures asks for; `full` is what a pod without a figure counts as when the target
    /// would shrink.
    fn propose(
        &self,
        mut samples: Samples,
        cpu: bool,
        ratio: impl Fn(&Samples) -> Result<f64, String>,
        full: impl Fn(&str) -> i64,
    ) -> Result<(i32, Samples), String> {
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".into());
        }
        let groups = self.group(&samples, cpu);
        samples.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
        if samples.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".into());
        }
        let seen = samples.clone();
        let first = ratio(&samples)?;
        let grows_unready = !groups.unready.is_empty() && first > 1.0;
        if !grows_unready && groups.missing.is_empty() {
            let replicas = if self.tolerance.holds(first) { self.current } else { ceil(first * groups.ready as f64) };
            return Ok((replicas, seen));
        }
        let stand_in = |value| Sample { value, at: self.now, window: SignedDuration::ZERO };
        if first < 1.0 {
            samples.extend(groups.missing.iter().map(|name| (name.clone(), stand_in(full(name)))));
        } else if first > 1.0 {
            samples.extend(groups.missing.iter().map(|name| (name.clone(), stand_in(0))));
        }
        if grows_unready {
            samples.extend(groups.unready.iter().map(|name| (name.clone(), stand_in(0))));
        }
        let second = ratio(&samples)?;
        let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
        if self.tolerance.holds(second) || turned {
            return Ok((self.current, seen));
        }
        let replicas = ceil(second * samples.len() as f64);
        let wrong = (second < 1.0 && replicas > self.current) || (second > 1.0 && replicas < self.current);
        Ok((if wrong { self.current } else { replicas }, seen))
    }

    /// By the share of what pods request that they use, in percent. `container` narrows to one of theirs.
    ///
    /// # Errors
    /// Upstream's words for what is missing.
    pub fn by_utilization(
        &self,
        samples: Samples,
        resource: &str,
        container: Option<&str>,
        percent: i32,
    ) -> Result<Proposal, String> {
        let requests = requests(self.pods, resource, container)?;
        let share = |samples: &Samples| -> Result<(i32, i64), String> {
            let known = samples.iter().filter_map(|(name, sample)| Some((sample.value, *requests.get(name)?)));
            let (mut used, mut asked, mut count) = (0_i128, 0_i128, 0_i128);
            for (value, request) in known {
                (used, asked, count) = (used + i128::from(value), asked + i128::from(request), count + 1);
            }
            if asked == 0 {
                return Err("no metrics returned matched known pods".into());
            }
            let utilization = i32::try_from(used * 100 / asked).unwrap_or(i32::MAX);
            Ok((utilization, i64::try_from(used / count).unwrap_or(i64::MAX)))
        };
        let ratio = |samples: &Samples| share(samples).map(|(used, _)| f64::from(used) / f64::from(percent.max(1)));
        let full = |name: &str| requests.get(name).copied().unwrap_or(0) / 100 * i64::from(percent.max(100));
        let (replicas, seen) = self.propose(samples, resource == "cpu", ratio, full)?;
        let (utilization, usage) = share(&seen)?;
        Ok(Proposal { replicas, utilization: Some(utilization), usage })
    }

    /// By the average of the pods, in thousandths.
    ///
    /// # Errors
    /// Upstream's words for what is missing.
    pub fn by_average(&self, samples: Samples, resource: &str, target: i64) -> Result<Proposal, String> {
        let mean = |samples: &Samples| {
            let sum: i128 = samples.values().map(|sample| i128::from(sample.value)).sum();
            i64::try_from(sum / samples.len().max(1) as i128).unwrap_or(i64::MAX)
        };
        let ratio = |samples: &Samples| Ok(mean(samples) as f64 / target.max(1) as f64);
        let (replicas, seen) = self.propose(samples, resource == "cpu", ratio, |_| target)?;
        Ok(Proposal { replicas, utilization: None, usage: mean(&seen) })
    }

    /// By one value for all, against a target for all.
    ///
    /// # Errors
    /// There are no pods.
    pub fn by_value(&self, value: i64, target: i64) -> Result<Proposal, String> {
        let ratio = value as f64 / target.max(1) as f64;
        let replicas = if self.current == 0 {
            ceil(ratio)
        } else if self.tolerance.holds(ratio) {
            self.current
        } else {
            if self.pods.is_empty() {
                return Err("no pods returned by selector while calculating replica count".into());
            }
            let ready = self.pods.iter().filter(|pod| phase(pod) == "Running" && is_ready(pod)).count();
            ceil(ratio * ready as f64)
        };
        Ok(Proposal { replicas, utilization: None, usage: value })
    }

    /// By one value for all, against a target for each of the `there` replicas.
    pub fn by_share(&self, value: i64, target: i64, there: i32) -> Proposal {
        let each = value as f64 / target.max(1) as f64;
        let ratio = each / f64::from(there.max(1));
        let replicas = if there > 0 && self.tolerance.holds(ratio) { there } else { ceil(each) };
        let usage = (value as f64 / f64::from(there.max(1))).ceil() as i64;
        Proposal { replicas, utilization: None, usage }
    }
}

/// What each pod requests of a resource, in thousandths.
fn requests(pods: &[Arc<Pod>], resource: &str, container: Option<&str>) -> Result<BTreeMap<String, i64>, String> {
    let mut all = BTreeMap::new();
    for pod in pods {
        let Some(spec) = &pod.spec else { continue };
        let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(resource));
        if let Some(whole) = whole.filter(|_| container.is_none()) {
            all.insert(name(pod).to_owned(), Exact::parse(&whole.0).map_or(0, |exact| exact.milli()));
            continue;
        }
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let mut sum = 0_i64;
        for own in spec.containers.iter().chain(sidecars).filter(|own| container.is_none_or(|name| name == own.name)) {
            let Some(amount) = request(own, resource) else {
                let (container, pod) = (&own.name, name(pod));
                return Err(format!("missing request for {resource} in container {container} of Pod {pod}"));
            };
            sum = sum.saturating_add(amount);
        }
        all.insert(name(pod).to_owned(), sum);
    }
    Ok(all)
}

fn request(container: &Container, resource: &str) -> Option<i64> {
    let quantity = container.resources.as_ref()?.requests.as_ref()?.get(resource)?;
    Some(Exact::parse(&quantity.0).ok()?.milli())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";

    /// `NAME ready|unready|Pending|Failed`; pods request 1000m.
    fn pod(text: &str) -> Arc<Pod> {
        let (name, state) = text.split_once(' ').unwrap();
        let phase = if matches!(state, "Pending" | "Failed") { state } else { "Running" };
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
                "status": {"phase": phase, "startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Ready",
                    "status": if state == "ready" { "True" } else { "False" },
                    "lastTransitionTime": "2026-01-01T00:00:10Z"}]}}))
            .unwrap(),
        )
    }

    fn samples(values: &[(&str, i64)]) -> Samples {
        let sample = |value| Sample { value, at: NOW.parse().unwrap(), window: SignedDuration::from_secs(30) };
        values.iter().map(|(name, value)| ((*name).to_owned(), sample(*value))).collect()
    }

    fn target(pods: &[Arc<Pod>], current: i32) -> Target<'_> {
        Target { pods, current, tolerance: Tolerance { up: 0.1, down: 0.1 }, now: NOW.parse().unwrap() }
    }

    #[test]
    fn utilization_asks_for_as_many_pods_as_bring_it_to_the_target() {
        let cases: [(&[&str], &[(&str, i64)], i32, i32); 8] = [
            (&["a ready", "b ready"], &[("a", 1000), ("b", 1000)], 50, 4),
            (&["a ready", "b ready"], &[("a", 520), ("b", 520)], 50, 2),
            (&["a ready", "b ready", "c ready"], &[("a", 100), ("b", 100), ("c", 100)], 30, 1),
            // Without a figure: idle when growing, fully used when shrinking.
            (&["a ready", "b ready"], &[("a", 900)], 30, 3),
            (&["a ready", "b ready", "c ready"], &[("a", 100), ("b", 100)], 50, 3),
            // Not ready: idle when growing, not counted when shrinking.
            (&["a ready", "b Pending"], &[("a", 900)], 30, 3),
            (&["a ready", "b ready", "c unready"], &[("a", 100), ("b", 100), ("c", 1000)], 50, 1),
            (&["a ready", "b Failed"], &[("a", 1000), ("b", 1000)], 50, 2),
        ];
        for (pods, figures, percent, expected) in cases {
            let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
            let current = i32::try_from(pods.len()).unwrap();
            let found = target(&pods, current).by_utilization(samples(figures), "cpu", None, percent);
            assert_eq!(found.map(|found| found.replicas), Ok(expected), "{pods:?} {figures:?}");
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let pods = [pod("a ready")];
        let none = target(&[], 1).by_average(samples(&[]), "", 1);
        assert_eq!(none.unwrap_err(), "no pods returned by selector while calculating replica count");
        let none = target(&pods, 1).by_average(samples(&[]), "", 1);
        assert_eq!(none.unwrap_err(), "did not receive metrics for targeted pods (pods might be unready)");
        let none = target(&pods, 1).by_utilization(samples(&[("a", 1)]), "memory", None, 50);
        assert_eq!(none.unwrap_err(), "missing request for memory in container c of Pod a");
    }

    #[test]
    fn averages_values_and_shares_ask_for_pods_too() {
        let pods = [pod("a ready"), pod("b ready")];
        let two = target(&pods, 2);
        let average = two.by_average(samples(&[("a", 30_000), ("b", 10_000)]), "", 10_000).unwrap();
        assert_eq!((average.replicas, average.usage), (4, 20_000));
        assert_eq!(two.by_value(100_000, 50_000).unwrap().replicas, 4);
        assert_eq!(two.by_value(54_000, 50_000).unwrap().replicas, 2);
        assert_eq!(target(&pods, 0).by_value(100_000, 50_000).unwrap().replicas, 2);
        let share = two.by_share(95_000, 10_000, 2);
        assert_eq!((share.replicas, share.usage), (10, 47_500));
        assert_eq!(two.by_share(21_000, 10_000, 2).replicas, 2);
    }
}
