//! Requests and limits: quality of service, control groups, the OOM killer's score.
//! <https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/>

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use runtime::description::Resources;

/// CPU period of control groups, microseconds.
const PERIOD: u64 = 100_000;
const LEAST_QUOTA: i64 = 1_000;
const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;

/// Quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Limits equal to requests everywhere.
    Guaranteed,
    /// Some requests or limits.
    Burstable,
    /// None.
    BestEffort,
}

impl Qos {
    /// As the API spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The group below the root of all pods; none for the root itself.
    pub fn cgroup(self) -> &'static str {
        match self {
            Self::Guaranteed => "",
            Self::Burstable => "burstable",
            Self::BestEffort => "besteffort",
        }
    }
}

/// A quantity in thousandths; 0 for none or one that cannot be read.
pub fn milli(quantity: Option<&Text>) -> i64 {
    quantity.and_then(|text| Quantity::parse(&text.0).ok()).map_or(0, |quantity| quantity.milli())
}

/// A quantity in units, rounded up; 0 for none or one that cannot be read.
pub fn units(quantity: Option<&Text>) -> i64 {
    quantity.and_then(|text| Quantity::parse(&text.0).ok()).map_or(0, |quantity| quantity.value())
}

/// Amounts of CPU (thousandths of a core) and memory (bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
}

fn get<'a>(list: Option<&'a BTreeMap<String, Text>>, name: &str) -> Option<&'a Text> {
    list.and_then(|list| list.get(name))
}

/// The requests of one container; limits stand in for requests that are absent.
pub fn requests(resources: Option<&ResourceRequirements>) -> Amount {
    let of = |name| {
        let resources = resources?;
        get(resources.requests.as_ref(), name).or_else(|| get(resources.limits.as_ref(), name))
    };
    Amount { cpu: milli(of("cpu")), memory: units(of("memory")) }
}

/// The limits of one container; 0 for none.
pub fn limits(resources: Option<&ResourceRequirements>) -> Amount {
    let of = |name| get(resources?.limits.as_ref(), name);
    Amount { cpu: milli(of("cpu")), memory: units(of("memory")) }
}

/// What a pod asks for as a whole: the larger of its containers' sum (sidecars included) and of any init container beside
/// the sidecars before it, and its overhead.
pub fn pod_requests(spec: &PodSpec) -> Amount {
    let add = |one: Amount, two: Amount| Amount { cpu: one.cpu + two.cpu, memory: one.memory + two.memory };
    let max = |one: Amount, two: Amount| Amount { cpu: one.cpu.max(two.cpu), memory: one.memory.max(two.memory) };
    let mut total = Amount::default();
    for container in &spec.containers {
        total = add(total, requests(container.resources.as_ref()));
    }
    let (mut sidecars, mut peak) = (Amount::default(), Amount::default());
    for container in spec.init_containers.iter().flatten() {
        let amount = requests(container.resources.as_ref());
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = add(sidecars, amount);
            peak = max(peak, sidecars);
        } else {
            peak = max(peak, add(sidecars, amount));
        }
    }
    let mut total = max(add(total, sidecars), peak);
    if let Some(pod) = &spec.resources {
        let own = requests(Some(pod));
        total = Amount {
            cpu: if own.cpu > 0 { own.cpu } else { total.cpu },
            memory: if own.memory > 0 { own.memory } else { total.memory },
        };
    }
    let overhead = spec.overhead.as_ref();
    add(total, Amount { cpu: milli(get(overhead, "cpu")), memory: units(get(overhead, "memory")) })
}

/// Requests or limits, whichever is meant.
pub type Which = fn(&ResourceRequirements) -> Option<&BTreeMap<String, Text>>;

/// What a pod asks for or is limited to as a whole, by name, as the API writes it: see [`pod_requests`]. Resources of the pod
/// itself stand for those of its containers.
pub fn whole(spec: &PodSpec, which: Which) -> BTreeMap<String, Text> {
    type Amounts = BTreeMap<String, Quantity>;
    let of = |list: Option<&BTreeMap<String, Text>>| -> Amounts {
        let parsed = |(name, text): (&String, &Text)| Some((name.clone(), Quantity::parse(&text.0).ok()?));
        list.into_iter().flatten().filter_map(parsed).collect()
    };
    let own = |container: &Container| of(container.resources.as_ref().and_then(which));
    let add = |mut sum: Amounts, more: &Amounts| {
        for (name, amount) in more {
            match sum.get_mut(name) {
                Some(sum) => sum.add(amount),
                None => drop(sum.insert(name.clone(), amount.clone())),
            }
        }
        sum
    };
    let max = |mut most: Amounts, other: Amounts| {
        for (name, amount) in other {
            if most.get(&name).is_none_or(|known| *known < amount) {
                most.insert(name, amount);
            }
        }
        most
    };
    let mut sum = spec.containers.iter().fold(Amounts::new(), |sum, container| add(sum, &own(container)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let amounts = own(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sum = add(sum, &amounts);
            sidecars = add(sidecars, &amounts);
            peak = max(peak, sidecars.clone());
        } else {
            peak = max(peak, add(sidecars.clone(), &amounts));
        }
    }
    let mut total = max(sum, peak);
    total.extend(of(spec.resources.as_ref().and_then(which)));
    for (name, more) in of(spec.overhead.as_ref()) {
        // What is unlimited stays so.
        if let Some(amount) = total.get_mut(&name) {
            amount.add(&more);
        }
    }
    total.into_iter().map(|(name, amount)| (name, Text(amount.to_string()))).collect()
}

/// The quality of service of a pod: as its status has it, else computed.
pub fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => return Qos::Guaranteed,
        Some("Burstable") => return Qos::Burstable,
        Some("BestEffort") => return Qos::BestEffort,
        _ => {}
    }
    let Some(spec) = &pod.spec else { return Qos::BestEffort };
    let (mut any, mut guaranteed) = (false, true);
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let resources = container.resources.as_ref();
        for name in ["cpu", "memory"] {
            let limit = milli(get(resources.and_then(|resources| resources.limits.as_ref()), name));
            let request = get(resources.and_then(|resources| resources.requests.as_ref()), name);
            let request = request.map_or(limit, |request| milli(Some(request)));
            any |= limit > 0 || request > 0;
            guaranteed &= limit > 0 && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// Control group weight of some thousandths of a core.
pub fn shares(milli: i64) -> u64 {
    (milli.max(0).unsigned_abs() * 1024 / 1000).clamp(LEAST_SHARES, MOST_SHARES)
}

fn quota(milli: i64) -> i64 {
    let period = i64::try_from(PERIOD).unwrap_or(i64::MAX);
    (milli * period / 1000).max(LEAST_QUOTA)
}

/// The limits of a container's control group, and its score with the OOM killer. `node_memory` is the machine's, bytes.
pub fn container(pod: &Pod, container: &Container, node_memory: i64) -> Resources {
    let resources = container.resources.as_ref();
    let (mut request, mut limit) = (requests(resources), limits(resources));
    // A container without a limit of its own has the pod's, and without a request its limit.
    let whole = limits(pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()));
    limit = Amount {
        cpu: if limit.cpu > 0 { limit.cpu } else { whole.cpu },
        memory: if limit.memory > 0 { limit.memory } else { whole.memory },
    };
    let asks = resources.and_then(|resources| resources.requests.as_ref()).is_some_and(|list| list.contains_key("cpu"));
    if !asks {
        request.cpu = limit.cpu;
    }
    Resources {
        cpu_shares: Some(shares(request.cpu)),
        cpu_quota: (limit.cpu > 0).then(|| quota(limit.cpu)),
        cpu_period: (limit.cpu > 0).then_some(PERIOD),
        memory: (limit.memory > 0).then_some(limit.memory),
        pids: None,
        oom_score_adj: Some(oom_score(pod, request.memory, node_memory)),
        single_process_oom: false,
    }
}

/// The limits of a pod's control group: its containers' together, where all have one.
pub fn pod(spec: &PodSpec) -> Resources {
    let request = pod_requests(spec);
    let all: Vec<&Container> = spec.containers.iter().chain(spec.init_containers.iter().flatten()).collect();
    let every = |name: &str| {
        all.iter().all(|container| {
            milli(get(container.resources.as_ref().and_then(|resources| resources.limits.as_ref()), name)) > 0
        })
    };
    let as_request = |container: &Container| {
        let limit = container.resources.as_ref().and_then(|resources| resources.limits.clone());
        Container {
            resources: Some(ResourceRequirements { requests: limit, ..Default::default() }),
            ..container.clone()
        }
    };
    let limits_spec = PodSpec {
        containers: spec.containers.iter().map(as_request).collect(),
        init_containers: spec.init_containers.as_ref().map(|list| list.iter().map(as_request).collect()),
        overhead: spec.overhead.clone(),
        resources: spec
            .resources
            .as_ref()
            .map(|own| ResourceRequirements { requests: own.limits.clone(), ..Default::default() }),
        ..Default::default()
    };
    let own = limits(spec.resources.as_ref());
    let limit = pod_requests(&limits_spec);
    let (cpu, memory) = (every("cpu") || own.cpu > 0, every("memory") || own.memory > 0);
    Resources {
        cpu_shares: Some(shares(request.cpu)),
        cpu_quota: (cpu && limit.cpu > 0).then(|| quota(limit.cpu)),
        cpu_period: (cpu && limit.cpu > 0).then_some(PERIOD),
        memory: (memory && limit.memory > 0).then_some(limit.memory),
        ..Default::default()
    }
}

fn oom_score(pod: &Pod, request: i64, node_memory: i64) -> i32 {
    let critical = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0) >= 2_000_000_000;
    match qos(pod) {
        _ if critical => -997,
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let score = 1000 - (1000 * request).checked_div(node_memory).unwrap_or(0);
            i32::try_from(score.clamp(3, 999)).unwrap_or(999)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod_of(containers: serde_json::Value, init: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": containers, "initContainers": init}})).unwrap()
    }

    fn with(requests: serde_json::Value, limits: serde_json::Value) -> serde_json::Value {
        json!({"name": "a", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let none = json!({});
        let both = json!({"cpu": "100m", "memory": "64Mi"});
        let cases = [
            (with(none.clone(), none.clone()), Qos::BestEffort),
            (with(both.clone(), both.clone()), Qos::Guaranteed),
            (with(none.clone(), both.clone()), Qos::Guaranteed),
            (with(both.clone(), none.clone()), Qos::Burstable),
            (with(json!({"cpu": "0.1"}), json!({"cpu": "100m"})), Qos::Burstable),
            (with(json!({"cpu": "50m", "memory": "64Mi"}), both), Qos::Burstable),
        ];
        for (container, wanted) in cases {
            assert_eq!(qos(&pod_of(json!([container]), json!([]))), wanted);
        }
    }

    #[test]
    fn a_pod_needs_the_larger_of_start_and_run() {
        let big = json!({"name": "i", "resources": {"requests": {"cpu": "2"}}});
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "300m"}}});
        let main = with(json!({"cpu": "500m", "memory": "1Gi"}), json!({}));
        let pod = pod_of(json!([main, main]), json!([sidecar, big]));
        let amount = pod_requests(pod.spec.as_ref().unwrap());
        assert_eq!(amount, Amount { cpu: 2300, memory: 2 << 30 });
        let pod = pod_of(json!([main, main]), json!([sidecar]));
        assert_eq!(pod_requests(pod.spec.as_ref().unwrap()).cpu, 1300);
    }

    #[test]
    fn limits_become_control_group_values() {
        let pod = pod_of(json!([with(json!({"cpu": "250m"}), json!({"cpu": "500m", "memory": "128Mi"}))]), json!([]));
        let resources = container(&pod, &pod.spec.as_ref().unwrap().containers[0], 16 << 30);
        assert_eq!(resources.cpu_shares, Some(256));
        assert_eq!(resources.cpu_quota, Some(50_000));
        assert_eq!(resources.memory, Some(128 << 20));
        assert_eq!(resources.oom_score_adj, Some(993));
        assert_eq!(super::pod(pod.spec.as_ref().unwrap()).memory, Some(128 << 20));
    }

    #[test]
    fn containers_without_limits_of_their_own_have_the_pods() {
        let mut pod = pod_of(json!([{"name": "a"}, with(json!({"cpu": "50m"}), json!({"memory": "8Mi"}))]), json!([]));
        let whole = json!({"requests": {"cpu": "60m"}, "limits": {"cpu": "80m", "memory": "95Mi"}});
        pod.spec.as_mut().unwrap().resources = Some(serde_json::from_value(whole).unwrap());
        let spec = pod.spec.as_ref().unwrap();
        let (first, second) = (container(&pod, &spec.containers[0], 1), container(&pod, &spec.containers[1], 1));
        assert_eq!((first.cpu_quota, first.cpu_shares, first.memory), (Some(8000), Some(81), Some(95 << 20)));
        assert_eq!((second.cpu_quota, second.cpu_shares, second.memory), (Some(8000), Some(51), Some(8 << 20)));
    }

    #[test]
    fn resources_of_a_pod_as_a_whole_are_summed_by_name() {
        let init = json!({"name": "i", "resources": {"requests": {"cpu": "2", "example.com/gpu": "1"}}});
        let main = with(json!({"cpu": "500m", "memory": "1Gi"}), json!({"memory": "2Gi"}));
        let mut pod = pod_of(json!([main, main]), json!([init]));
        let requests: Which = |resources| resources.requests.as_ref();
        let shown = |pod: &Pod, which: Which| -> Vec<String> {
            let all = whole(pod.spec.as_ref().unwrap(), which);
            all.iter().map(|(name, amount)| format!("{name}={}", amount.0)).collect()
        };
        assert_eq!(shown(&pod, requests), ["cpu=2", "example.com/gpu=1", "memory=2Gi"]);
        assert_eq!(shown(&pod, |resources| resources.limits.as_ref()), ["memory=4Gi"]);
        pod.spec.as_mut().unwrap().resources = Some(serde_json::from_value(json!({"requests": {"cpu": "3"}})).unwrap());
        assert_eq!(shown(&pod, requests)[0], "cpu=3");
    }

    #[test]
    fn a_pod_with_an_unlimited_container_is_unlimited() {
        let limited = with(json!({}), json!({"cpu": "1", "memory": "1Gi"}));
        let pod = pod_of(json!([limited, {"name": "b"}]), json!([]));
        let resources = super::pod(pod.spec.as_ref().unwrap());
        assert_eq!((resources.cpu_quota, resources.memory), (None, None));
    }
}
