//! How fast a target may grow and shrink: recommendations are held back for a while, and changes are limited for a period.
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#configurable-scaling-behavior>

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// How long a smaller recommendation is held back unless the rules say otherwise, seconds.
const HOLD_DOWN: i32 = 300;

/// What a target was recommended and did lately.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    recommendations: Vec<(Timestamp, i32)>,
    /// Changes of the number of replicas: more than 0 up, less down.
    changes: Vec<(Timestamp, i32)>,
}

/// A number of replicas, and what a condition says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The number.
    pub replicas: i32,
    /// Why it is not another: reason and message.
    pub reason: &'static str,
    /// The message.
    pub message: &'static str,
}

/// The rules of one direction, with upstream's defaults.
#[derive(Clone, Debug)]
struct Rules {
    select: String,
    policies: Vec<HPAScalingPolicy>,
    window: i32,
}

fn policy(kind: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: kind.into(), value, period_seconds: 15 }
}

fn rules(given: Option<&HPAScalingRules>, window: i32, policies: Vec<HPAScalingPolicy>) -> Rules {
    Rules {
        select: given.and_then(|rules| rules.select_policy.clone()).unwrap_or_else(|| "Max".into()),
        policies: given.and_then(|rules| rules.policies.clone()).unwrap_or(policies),
        window: given.and_then(|rules| rules.stabilization_window_seconds).unwrap_or(window),
    }
}

fn up(behavior: Option<&HorizontalPodAutoscalerBehavior>) -> Rules {
    let given = behavior.and_then(|behavior| behavior.scale_up.as_ref());
    rules(given, 0, vec![policy("Percent", 100), policy("Pods", 4)])
}

fn down(behavior: Option<&HorizontalPodAutoscalerBehavior>) -> Rules {
    let given = behavior.and_then(|behavior| behavior.scale_down.as_ref());
    rules(given, HOLD_DOWN, vec![policy("Percent", 100)])
}

fn before(now: Timestamp, seconds: i32) -> Timestamp {
    now.checked_sub(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MIN)
}

impl Memory {
    /// Notes what is there at the very first look, so that a restart shrinks nothing at once.
    pub fn begin(&mut self, replicas: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, replicas));
        }
    }

    /// Notes that the number of replicas was changed.
    pub fn scaled(&mut self, from: i32, to: i32, behavior: Option<&HorizontalPodAutoscalerBehavior>, now: Timestamp) {
        let rules = [up(behavior), down(behavior)];
        let longest = rules.iter().flat_map(|rules| &rules.policies).map(|policy| policy.period_seconds).max();
        let oldest = before(now, longest.unwrap_or(0));
        self.changes.retain(|(time, _)| *time > oldest);
        self.changes.push((now, to - from));
    }

    /// Holds a recommendation back as long as recent ones speak against it.
    pub fn stabilize(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        current: i32,
        desired: i32,
        now: Timestamp,
    ) -> Verdict {
        let (up_window, down_window) = (up(behavior).window, down(behavior).window);
        let (mut lowest, mut highest) = (desired, desired);
        for (time, replicas) in &self.recommendations {
            if *time > before(now, up_window) {
                lowest = lowest.min(*replicas);
            }
            if *time > before(now, down_window) {
                highest = highest.max(*replicas);
            }
        }
        let oldest = before(now, up_window.max(down_window));
        self.recommendations.retain(|(time, _)| *time > oldest);
        self.recommendations.push((now, desired));
        let replicas = current.max(lowest).min(highest);
        if replicas == desired {
            return Verdict { replicas, reason: "ReadyForNewScale", message: "recommended size matches current size" };
        }
        if desired >= current {
            Verdict {
                replicas,
                reason: "ScaleUpStabilized",
                message: "recent recommendations were lower than current one, applying the lowest recent recommendation",
            }
        } else {
            Verdict {
                replicas,
                reason: "ScaleDownStabilized",
                message: "recent recommendations were higher than current one, applying the highest recent recommendation",
            }
        }
    }

    /// Limits a change to what the rules of its direction, the least and the most allow.
    pub fn limit(
        &self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        current: i32,
        desired: i32,
        (least, most): (i32, i32),
        now: Timestamp,
    ) -> Verdict {
        let verdict = |replicas, reason, message| Verdict { replicas, reason, message };
        if desired > current {
            let limit = self.up_to(&up(behavior), current, now).max(current);
            let allowed = most.min(limit);
            if desired > allowed {
                return if most > limit {
                    let message = "the desired replica count is increasing faster than the maximum scale rate";
                    verdict(allowed, "ScaleUpLimit", message)
                } else {
                    let message = "the desired replica count is more than the maximum replica count";
                    verdict(allowed, "TooManyReplicas", message)
                };
            }
        } else if desired < current {
            let limit = self.down_to(&down(behavior), current, now).min(current);
            let allowed = least.max(limit);
            if desired < allowed {
                return if least < limit {
                    let message = "the desired replica count is decreasing faster than the maximum scale rate";
                    verdict(allowed, "ScaleDownLimit", message)
                } else {
                    let message = "the desired replica count is less than the minimum replica count";
                    verdict(allowed, "TooFewReplicas", message)
                };
            }
        } else if desired > most {
            return verdict(
                most,
                "TooManyReplicas",
                "the desired replica count is more than the maximum replica count",
            );
        } else if desired < least {
            return verdict(
                least,
                "TooFewReplicas",
                "the desired replica count is less than the minimum replica count",
            );
        }
        verdict(desired, "DesiredWithinRange", "the desired count is within the acceptable range")
    }

    /// How many there were when a period began.
    fn start(&self, current: i32, period: i32, now: Timestamp) -> i32 {
        let since = before(now, period);
        current - self.changes.iter().filter(|(time, _)| *time > since).map(|(_, change)| change).sum::<i32>()
    }

    fn up_to(&self, rules: &Rules, current: i32, now: Timestamp) -> i32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.start(current, policy.period_seconds, now);
            match policy.type_.as_str() {
                "Pods" => start.saturating_add(policy.value),
                // Rounded up: else one could never become two.
                _ => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
            }
        });
        match rules.select.as_str() {
            "Disabled" => current,
            "Min" => limits.min().unwrap_or(i32::MAX),
            _ => limits.max().unwrap_or(current),
        }
    }

    fn down_to(&self, rules: &Rules, current: i32, now: Timestamp) -> i32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.start(current, policy.period_seconds, now);
            match policy.type_.as_str() {
                "Pods" => start.saturating_sub(policy.value),
                _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            }
        });
        match rules.select.as_str() {
            "Disabled" => current,
            "Min" => limits.max().unwrap_or(i32::MIN),
            _ => limits.min().unwrap_or(current),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn behavior(value: Value) -> HorizontalPodAutoscalerBehavior {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_smaller_recommendation_waits_for_the_window_to_pass() {
        let mut memory = Memory::default();
        assert_eq!(memory.stabilize(None, 10, 10, at(0)).replicas, 10);
        let held = memory.stabilize(None, 10, 4, at(100));
        assert_eq!((held.replicas, held.reason), (10, "ScaleDownStabilized"));
        assert_eq!(memory.stabilize(None, 10, 4, at(301)).replicas, 4);
        let quick = behavior(
            json!({"scaleDown": {"stabilizationWindowSeconds": 0}, "scaleUp": {"stabilizationWindowSeconds": 60}}),
        );
        let mut memory = Memory::default();
        assert_eq!(memory.stabilize(Some(&quick), 10, 4, at(0)).replicas, 4);
        let held = memory.stabilize(Some(&quick), 4, 9, at(30));
        assert_eq!((held.replicas, held.reason), (4, "ScaleUpStabilized"));
        assert_eq!(memory.stabilize(Some(&quick), 4, 9, at(61)).replicas, 9);
    }

    #[test]
    fn changes_are_limited_by_the_rules_of_their_direction() {
        let limit = |value: Value, changes: &[(i64, i32)], current: i32, desired: i32| {
            let changes = changes.iter().map(|(second, change)| (at(*second), *change)).collect();
            let memory = Memory { changes, ..Memory::default() };
            let behavior = behavior(value);
            let verdict = memory.limit(Some(&behavior), current, desired, (1, 100), at(100));
            (verdict.replicas, verdict.reason)
        };
        let pods = json!({"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]}});
        assert_eq!(limit(pods.clone(), &[], 5, 50), (7, "ScaleUpLimit"));
        assert_eq!(limit(pods.clone(), &[(90, 1)], 5, 50), (6, "ScaleUpLimit"));
        assert_eq!(limit(pods, &[(30, 1)], 5, 50), (7, "ScaleUpLimit"));
        assert_eq!(limit(json!({}), &[], 1, 50), (5, "ScaleUpLimit"));
        assert_eq!(limit(json!({}), &[], 10, 50), (20, "ScaleUpLimit"));
        assert_eq!(limit(json!({}), &[], 80, 150), (100, "TooManyReplicas"));
        assert_eq!(limit(json!({}), &[], 10, 0), (1, "TooFewReplicas"));
        let percent = json!({"scaleDown": {"policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}]}});
        assert_eq!(limit(percent, &[], 20, 5), (18, "ScaleDownLimit"));
        let both = json!({"scaleDown": {"selectPolicy": "Min", "policies": [
            {"type": "Percent", "value": 10, "periodSeconds": 60}, {"type": "Pods", "value": 5, "periodSeconds": 60}]}});
        assert_eq!(limit(both, &[], 20, 5), (18, "ScaleDownLimit"));
        assert_eq!(limit(json!({"scaleDown": {"selectPolicy": "Disabled"}}), &[], 20, 5), (20, "ScaleDownLimit"));
        assert_eq!(limit(json!({}), &[], 10, 12), (12, "DesiredWithinRange"));
    }
}
