//! Amounts of several resources at once, and what a pod asks for in all.
//!
//! ```text
//! pod = max(sum of containers and sidecars, each init container with the sidecars before it) + overhead
//! ```
//!
//! Values given for the pod as a whole stand instead of the sum. A pod that is being resized counts with the most of what its
//! spec wants and its status says it has.
//!
//! <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::meta::View;
use crate::quantity::Quantity;

/// Quantities by the name of the resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a map of quantities; what is none counts as 0.
pub fn read(list: View<'_>) -> Amounts {
    let entries = list.as_map().into_iter().flatten();
    entries.map(|(name, value)| (name.clone(), Quantity::of(value))).collect()
}

/// The opposite of [`read`].
pub fn write(amounts: &Amounts) -> Value {
    let entries = amounts.iter().map(|(name, amount)| (name.clone(), Value::String(amount.to_string())));
    Value::Object(entries.collect::<Map<_, _>>())
}

/// Adds `more` to `sum`.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match sum.get_mut(name) {
            Some(own) => own.add(amount),
            None => _ = sum.insert(name.clone(), amount.clone()),
        }
    }
}

/// What is left of `from` without `less`, nothing below 0.
pub fn subtract(from: &Amounts, less: &Amounts) -> Amounts {
    let mut left = from.clone();
    for (name, amount) in &mut left {
        if let Some(less) = less.get(name) {
            amount.sub(less);
        }
        if amount.sign() < 0 {
            *amount = Quantity::new(0, amount.format());
        }
    }
    left
}

/// Raises each amount to that of `other`.
pub fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if most.get(name).is_none_or(|own| amount > own) {
            most.insert(name.clone(), amount.clone());
        }
    }
}

/// Only those whose name passes.
pub fn only(amounts: &Amounts, passes: impl Fn(&str) -> bool) -> Amounts {
    amounts.iter().filter(|(name, _)| passes(name)).map(|(name, amount)| (name.clone(), amount.clone())).collect()
}

/// Which of a container's two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `requests`
    Requests,
    /// `limits`
    Limits,
}

impl Side {
    /// The member of `resources`.
    pub fn member(self) -> &'static str {
        match self {
            Side::Requests => "requests",
            Side::Limits => "limits",
        }
    }
}

/// What a container asks for itself.
pub fn container(container: View<'_>, side: Side) -> Amounts {
    read(container.at("resources").at(side.member()))
}

/// Whether a resource may be given for a pod as a whole.
pub fn is_of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether a pod has such values.
pub fn has_own(pod: View<'_>) -> bool {
    let resources = pod.at("spec").at("resources");
    ["requests", "limits"]
        .into_iter()
        .any(|side| resources.map(side).is_some_and(|list| list.keys().any(|name| is_of_pods(name))))
}

/// What a pod's spec asks for, without overhead.
pub fn of_spec(pod: View<'_>, side: Side) -> Amounts {
    let mut all = combined(pod.at("spec"), |given| container(given, side));
    override_for_pod(pod, side, &mut all);
    all
}

/// What a pod takes: spec and status, with its overhead.
pub fn of_pod(pod: View<'_>, side: Side) -> Amounts {
    let (spec, status) = (pod.at("spec"), pod.at("status"));
    let infeasible = status
        .list("conditions")
        .any(|item| item.text("type") == "PodResizePending" && item.text("reason") == "Infeasible");
    let reported = |given: View<'_>| {
        let name = given.text("name");
        let named = |list: &str| status.list(list).find(|item| item.text("name") == name);
        named("containerStatuses").or_else(|| named("initContainerStatuses")).unwrap_or(View::nothing())
    };
    let wanted = |given: View<'_>| if infeasible { Amounts::new() } else { container(given, side) };
    let allocated = |given: View<'_>| {
        let own = reported(given).at("allocatedResources");
        if own.exists() { read(own) } else { wanted(given) }
    };
    let actual = |given: View<'_>| {
        let own = reported(given).at("resources").at(side.member());
        match (own.exists(), side) {
            (true, _) => read(own),
            (false, Side::Requests) => allocated(given),
            (false, Side::Limits) => wanted(given),
        }
    };
    let mut all = combined(spec, actual);
    if side == Side::Requests {
        raise(&mut all, &combined(spec, allocated));
    }
    if !infeasible {
        raise(&mut all, &combined(spec, |given| container(given, side)));
    }
    override_for_pod(pod, side, &mut all);
    let overhead = read(spec.at("overhead"));
    match side {
        Side::Requests => add(&mut all, &overhead),
        Side::Limits => {
            for (name, amount) in all.iter_mut().filter(|(_, amount)| !amount.is_zero()) {
                if let Some(more) = overhead.get(name) {
                    amount.add(more);
                }
            }
        }
    }
    all
}

fn combined(spec: View<'_>, of: impl Fn(View<'_>) -> Amounts) -> Amounts {
    let mut all = Amounts::new();
    for given in spec.list("containers") {
        add(&mut all, &of(given));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for given in spec.list("initContainers") {
        let mut own = of(given);
        if given.text("restartPolicy") == "Always" {
            add(&mut all, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut starting, &own);
    }
    raise(&mut all, &starting);
    all
}

fn override_for_pod(pod: View<'_>, side: Side, all: &mut Amounts) {
    let own = read(pod.at("spec").at("resources").at(side.member()));
    all.extend(own.into_iter().filter(|(name, _)| is_of_pods(name)));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn requests(pod: &Value) -> Value {
        write(&of_pod(View::new(pod), Side::Requests))
    }

    #[test]
    fn init_containers_share_what_containers_take() {
        let cpu = |name: &str, amount: &str, always: bool| {
            let mut container = json!({"name": name, "resources": {"requests": {"cpu": amount}}});
            if always {
                container["restartPolicy"] = "Always".into();
            }
            container
        };
        let mut pod = json!({"spec": {
            "containers": [cpu("a", "100m", false), cpu("b", "200m", false)],
            "initContainers": [cpu("s", "50m", true), cpu("i", "1", false)],
            "overhead": {"cpu": "10m"},
        }});
        assert_eq!(requests(&pod), json!({"cpu": "1060m"}));
        pod["spec"]["initContainers"][1] = cpu("i", "1m", false);
        assert_eq!(requests(&pod), json!({"cpu": "360m"}));
        pod["spec"]["resources"] = json!({"requests": {"cpu": "2"}});
        assert_eq!(requests(&pod), json!({"cpu": "2010m"}));
    }

    #[test]
    fn a_resized_pod_counts_with_the_most_of_what_it_has_and_wants() {
        let mut pod = json!({
            "spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"containerStatuses": [{"name": "a", "allocatedResources": {"cpu": "3"}}]},
        });
        assert_eq!(requests(&pod), json!({"cpu": "3"}));
        pod["status"]["containerStatuses"][0]["allocatedResources"]["cpu"] = "500m".into();
        assert_eq!(requests(&pod), json!({"cpu": "1"}));
        pod["status"]["conditions"] = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        assert_eq!(requests(&pod), json!({"cpu": "500m"}));
    }
}
