//! What a Job's policies make of failed pods and of indexes that are done.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy>

use k8s_openapi::api::{
    batch::v1::{JobSpec, PodFailurePolicy, PodFailurePolicyRule, SuccessPolicy},
    core::v1::{ContainerStatus, Pod},
};

use super::indexes::Indexes;
use crate::pods::phase;

/// What one failed pod means to its Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It counts towards the limit of failures.
    Counts,
    /// It does not count.
    Ignored,
    /// Its index has failed for good.
    FailsIndex,
    /// The Job has failed for good, for this reason.
    FailsJob(String),
}

/// Whether the pod has failed. One that is being deleted counts as failed at once, unless the Job replaces only pods that
/// have ended.
pub fn has_failed(spec: &JobSpec, pod: &Pod) -> bool {
    match phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => pod.metadata.deletion_timestamp.is_some() && !replaces_only_ended(spec),
    }
}

/// Whether pods are replaced once they have ended and not before.
pub fn replaces_only_ended(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

/// What the first rule that fits says of a failed pod.
pub fn meaning(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Meaning {
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    for (number, rule) in rules.iter().enumerate() {
        let Some(message) = fits(rule, number, pod) else { continue };
        match rule.action.as_str() {
            "Ignore" => return Meaning::Ignored,
            "FailIndex" => return Meaning::FailsIndex,
            "FailJob" => return Meaning::FailsJob(message),
            "Count" => return Meaning::Counts,
            // An action of a later version: not for us to guess.
            _ => {}
        }
    }
    Meaning::Counts
}

/// Why a rule applies to a pod, if it does.
fn fits(rule: &PodFailurePolicyRule, number: usize, pod: &Pod) -> Option<String> {
    let (namespace, name) =
        (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
    let status = pod.status.as_ref()?;
    if let Some(wanted) = &rule.on_exit_codes {
        let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        let code = |container: &ContainerStatus| {
            let named = wanted.container_name.as_ref().is_none_or(|name| *name == container.name);
            let ended = container.state.as_ref()?.terminated.as_ref().filter(|_| named)?;
            let listed = wanted.values.contains(&ended.exit_code);
            let fits = match wanted.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            };
            (ended.exit_code != 0 && fits).then_some(ended.exit_code)
        };
        return all.into_iter().find_map(|container| {
            let code = code(container)?;
            let (container, action) = (&container.name, &rule.action);
            Some(format!(
                "Container {container} for pod {namespace}/{name} failed with exit code {code} matching {action} rule at index {number}"
            ))
        });
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let found = conditions.iter().find(|condition| {
        patterns.iter().any(|pattern| {
            pattern.type_ == condition.type_ && pattern.status.as_deref().unwrap_or("True") == condition.status
        })
    })?;
    let (condition, action) = (&found.type_, &rule.action);
    Some(format!("Pod {namespace}/{name} has condition {condition} matching {action} rule at index {number}"))
}

/// Why a Job with these indexes done has succeeded, if its policy says so.
pub fn success(policy: Option<&SuccessPolicy>, completions: i32, done: &Indexes) -> Option<String> {
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    let met = rules.iter().position(|rule| {
        let wanted = rule.succeeded_indexes.as_deref().filter(|text| !text.is_empty());
        match (wanted, rule.succeeded_count) {
            (Some(text), count) => {
                let wanted = Indexes::parse(text, completions);
                wanted.common(done) >= count.unwrap_or(wanted.count())
            }
            (None, Some(count)) => done.count() >= count,
            (None, None) => false,
        }
    })?;
    Some(format!("Matched rules at index {met}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": status})).unwrap()
    }

    fn exited(name: &str, code: i32) -> Value {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}}})
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy: PodFailurePolicy = serde_json::from_value(json!({"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 42]}},
        ]}))
        .unwrap();
        let said = "Container main for pod n/p failed with exit code 42 matching FailJob rule at index 1";
        let cases = [
            (json!({"containerStatuses": [exited("main", 42)]}), Meaning::FailsJob(said.into())),
            (json!({"containerStatuses": [exited("other", 42)]}), Meaning::Counts),
            (json!({"containerStatuses": [exited("main", 1)]}), Meaning::Counts),
            (json!({"initContainerStatuses": [exited("first", 3)]}), Meaning::FailsIndex),
            // A container that ended well fits no rule, not even one of exit codes that it has not.
            (json!({"containerStatuses": [exited("main", 0)]}), Meaning::Counts),
            (
                json!({"conditions": [{"type": "DisruptionTarget", "status": "True"}],
                    "containerStatuses": [exited("main", 42)]}),
                Meaning::Ignored,
            ),
            (json!({}), Meaning::Counts),
        ];
        for (status, expected) in cases {
            assert_eq!(meaning(Some(&policy), &pod(status.clone())), expected, "{status}");
        }
        assert_eq!(meaning(None, &pod(json!({}))), Meaning::Counts);
    }

    #[test]
    fn success_needs_the_named_indexes_or_so_many_of_them() {
        let cases = [
            (json!({"succeededIndexes": "0,2"}), "0-2", true),
            (json!({"succeededIndexes": "0,2"}), "0-1", false),
            (json!({"succeededIndexes": "0-4", "succeededCount": 2}), "3-4", true),
            (json!({"succeededIndexes": "0-4", "succeededCount": 2}), "4-9", false),
            (json!({"succeededCount": 3}), "1,5,7", true),
            (json!({"succeededCount": 3}), "1,5", false),
        ];
        for (rule, done, expected) in cases {
            let policy: SuccessPolicy = serde_json::from_value(json!({"rules": [rule]})).unwrap();
            let met = success(Some(&policy), 10, &Indexes::parse(done, 10));
            assert_eq!(met.as_deref(), expected.then_some("Matched rules at index 0"), "{rule} {done}");
        }
    }
}
