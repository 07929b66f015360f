//! ResourceQuota: what each object uses of its namespace's share, which quotas it counts towards, and whether it still fits.
//!
//! ```text
//! object ─ usage ─ what it used before ─┐
//!                                       ├─> more than is left: refused
//! quota ─ tracks? scopes? hard, used ───┘   else: the new `used`
//! ```
//!
//! Pods, Services and claims are measured; of every other kind the number of objects can be limited (`count/NAME.GROUP`).
//!
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::amount::{self, Amounts, Side};
use crate::meta::{self, View};
use crate::quantity::{Format, Quantity};

/// Of which kind objects are, as quotas name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted<'a> {
    /// The group, "" for the core.
    pub group: &'a str,
    /// The plural.
    pub plural: &'a str,
}

/// What a pod's resources are called.
const PODS: &[&str] = &[
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "pods",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// Those that every container must name if a quota limits them.
const NAMED: &[&str] = &["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
const SERVICES: &[&str] = &["services", "services.loadbalancers", "services.nodeports"];
const CLAIMS: &[&str] = &["persistentvolumeclaims", "requests.storage"];
/// Kinds of which the number is also limited by their bare plural.
const ALIASES: &[&str] = &["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

impl Counted<'_> {
    fn is(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }

    /// The name under which the number of objects is limited.
    pub fn count(&self) -> String {
        if self.group.is_empty() {
            format!("count/{}", self.plural)
        } else {
            format!("count/{}.{}", self.plural, self.group)
        }
    }

    /// Whether objects of this kind can use something of that name.
    pub fn tracks(&self, name: &str) -> bool {
        if name == self.count() {
            return true;
        }
        if self.is("pods") {
            let extended = name.strip_prefix("requests.").is_some_and(|rest| {
                rest.contains('/') && (!is_native(rest) || rest.starts_with("deviceclass.resource.kubernetes.io/"))
            });
            return PODS.contains(&name)
                || name.starts_with("hugepages-")
                || name.starts_with("requests.hugepages-")
                || extended;
        }
        if self.is("services") {
            return SERVICES.contains(&name);
        }
        if self.is("persistentvolumeclaims") {
            let of_class = name.split_once(OF_CLASS).is_some_and(|(_, what)| CLAIMS.contains(&what));
            return CLAIMS.contains(&name) || of_class;
        }
        self.group.is_empty() && ALIASES.contains(&self.plural) && name == self.plural
    }

    /// Whether a request is measured at all: creations are, and those updates that may use more.
    pub fn measures(&self, subresource: &str, new: &Value, old: Option<&Value>) -> bool {
        let Some(old) = old else { return subresource.is_empty() };
        match subresource {
            "" if self.is("pods") => is_terminating(View::new(new)) != is_terminating(View::new(old)),
            "" => self.is("services") || self.is("persistentvolumeclaims"),
            "resize" => self.is("pods"),
            "status" if self.is("persistentvolumeclaims") => {
                let allocated = |claim| View::new(claim).at("status").at("allocatedResources");
                !allocated(new).same(allocated(old)) || attribute_classes(new) != attribute_classes(old)
            }
            _ => false,
        }
    }
}

/// Names under Kubernetes' own domain.
fn is_native(name: &str) -> bool {
    name.split_once('/').is_none_or(|(domain, _)| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"))
}

/// What an object uses.
pub fn usage(kind: Counted<'_>, object: &Value, now: Timestamp) -> Amounts {
    let one = |number: usize| Quantity::new(i64::try_from(number).unwrap_or(i64::MAX), Format::DecimalSi);
    let mut all = Amounts::from([(kind.count(), one(1))]);
    let view = View::new(object);
    if kind.is("pods") {
        if counts(view, now) {
            let (requests, limits) = (amount::of_pod(view, Side::Requests), amount::of_pod(view, Side::Limits));
            all.extend(of_lists(&requests, &limits));
        }
    } else if kind.is("services") {
        let spec = view.at("spec");
        let ports = spec.slice("ports").len();
        let fixed = spec.list("ports").filter(|port| port.int("nodePort").unwrap_or(0) != 0).count();
        let (node_ports, balancers) = match spec.text("type") {
            "NodePort" => (ports, 0),
            "LoadBalancer" if spec.bool("allocateLoadBalancerNodePorts") == Some(false) => (fixed, 1),
            "LoadBalancer" => (ports, 1),
            _ => (0, 0),
        };
        for (name, number) in SERVICES.iter().zip([1, balancers, node_ports]) {
            all.insert((*name).to_owned(), one(number));
        }
    } else if kind.is("persistentvolumeclaims") {
        let class = match meta::annotation(object, "volume.beta.kubernetes.io/storage-class") {
            "" => view.at("spec").text("storageClassName"),
            annotated => annotated,
        };
        all.insert(CLAIMS[0].to_owned(), one(1));
        let wanted = view.at("spec").at("resources").at("requests").at("storage");
        if wanted.exists() {
            let allocated = Quantity::of(view.at("status").at("allocatedResources").at("storage").value());
            let storage = Quantity::of(wanted.value()).max(allocated);
            all.insert(CLAIMS[1].to_owned(), storage);
        }
        if !class.is_empty() {
            for name in CLAIMS {
                if let Some(amount) = all.get(*name).cloned() {
                    all.insert(format!("{class}{OF_CLASS}{name}"), amount);
                }
            }
        }
    } else if kind.group.is_empty() && ALIASES.contains(&kind.plural) {
        all.insert(kind.plural.to_owned(), one(1));
    }
    all
}

/// Whether a pod still uses anything: not once it has ended, or should have.
fn counts(pod: View<'_>, now: Timestamp) -> bool {
    if matches!(pod.at("status").text("phase"), "Succeeded" | "Failed") {
        return false;
    }
    let metadata = pod.at("metadata");
    let due = metadata.text("deletionTimestamp").parse::<Timestamp>().ok();
    match (due, metadata.int("deletionGracePeriodSeconds")) {
        (Some(due), Some(seconds)) => due.checked_add(SignedDuration::from_secs(seconds)).is_ok_and(|end| now <= end),
        _ => true,
    }
}

/// What requests and limits count as.
fn of_lists(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut all = Amounts::from([("pods".to_owned(), Quantity::new(1, Format::DecimalSi))]);
    for (name, amount) in requests {
        let basic = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        let huge = name.starts_with("hugepages-");
        if basic || huge {
            all.insert(name.clone(), amount.clone());
        }
        if basic || huge || name.contains('/') && !is_native(name) {
            all.insert(format!("requests.{name}"), amount.clone());
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            all.insert(format!("limits.{name}"), amount.clone());
        }
    }
    all
}

/// Whether a quota speaks of an object: it limits something that objects of the kind use, and the object is in its scopes.
/// `hard` are the limits that count, of the quota's spec or status.
pub fn applies(quota: &Value, hard: View<'_>, kind: Counted<'_>, object: &Value) -> bool {
    let names = hard.as_map().is_some_and(|map| map.keys().any(|name| kind.tracks(name)));
    names && in_scopes(quota, kind, object)
}

fn in_scopes(quota: &Value, kind: Counted<'_>, object: &Value) -> bool {
    let spec = View::new(quota).at("spec");
    let plain = spec.list("scopes").all(|scope| in_scope(kind, object, scope.string(), "Exists", &[]));
    plain
        && spec.at("scopeSelector").list("matchExpressions").all(|term| {
            let values: Vec<&str> = term.list("values").map(View::string).collect();
            in_scope(kind, object, term.text("scopeName"), term.text("operator"), &values)
        })
}

fn in_scope(kind: Counted<'_>, object: &Value, scope: &str, operator: &str, values: &[&str]) -> bool {
    let view = View::new(object);
    let spec = view.at("spec");
    let selected = |own: &BTreeSet<&str>| match operator {
        "Exists" => !own.is_empty(),
        "DoesNotExist" => own.is_empty(),
        "In" => own.iter().any(|name| values.contains(name)),
        "NotIn" => own.is_empty() || own.iter().any(|name| !values.contains(name)),
        _ => false,
    };
    if kind.is("persistentvolumeclaims") {
        return scope == "VolumeAttributesClass" && selected(&attribute_classes(object));
    }
    if !kind.is("pods") {
        return false;
    }
    let best_effort = view.at("status").text("qosClass") == "BestEffort";
    match scope {
        "Terminating" => is_terminating(view),
        "NotTerminating" => !is_terminating(view),
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => {
            let name = spec.text("priorityClassName");
            selected(&[name].into_iter().filter(|name| !name.is_empty()).collect())
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(spec.at("affinity")),
        _ => false,
    }
}

fn is_terminating(pod: View<'_>) -> bool {
    pod.at("spec").int("activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0)
}

fn attribute_classes(claim: &Value) -> BTreeSet<&str> {
    let view = View::new(claim);
    let (spec, status) = (view.at("spec"), view.at("status"));
    [
        spec.text("volumeAttributesClassName"),
        status.text("currentVolumeAttributesClassName"),
        status.at("modifyVolumeStatus").text("targetVolumeAttributesClassName"),
    ]
    .into_iter()
    .filter(|name| !name.is_empty())
    .collect()
}

fn crosses_namespaces(affinity: View<'_>) -> bool {
    let crosses = |term: View<'_>| !term.slice("namespaces").is_empty() || term.has("namespaceSelector");
    ["podAffinity", "podAntiAffinity"].into_iter().any(|side| {
        let side = affinity.at(side);
        side.list("requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || side
                .list("preferredDuringSchedulingIgnoredDuringExecution")
                .any(|weighted| crosses(weighted.at("podAffinityTerm")))
    })
}

/// A change of an object in a namespace.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Of what kind it is.
    pub kind: Counted<'a>,
    /// The object as it will be.
    pub new: &'a Value,
    /// The object as it is; none when it is made.
    pub old: Option<&'a Value>,
    /// Whether the change is refused if there is too little left.
    pub enforced: bool,
    /// The time of day.
    pub now: Timestamp,
}

/// The `status.used` of a quota after a change; `None` if it stays. The error is upstream's refusal.
pub fn charge(quota: &Value, change: Change<'_>) -> Result<Option<Amounts>, String> {
    let Change { kind, new, old, enforced, now } = change;
    let status = View::new(quota).at("status");
    let name = meta::name(quota);
    if !applies(quota, status.at("hard"), kind, new) {
        return Ok(None);
    }
    let (hard, used) = (amount::read(status.at("hard")), amount::read(status.at("used")));
    let tracked: Vec<&str> = hard.keys().map(String::as_str).filter(|name| kind.tracks(name)).collect();
    if kind.is("pods") {
        required(&tracked, new).map_err(|why| format!("failed quota: {name}: {why}"))?;
    }
    if tracked.iter().any(|name| !used.contains_key(*name)) {
        return Err(format!("status unknown for quota: {name}, resources: {}", tracked.join(",")));
    }
    let total = usage(kind, new, now);
    let negative: Vec<&str> =
        total.iter().filter(|(_, amount)| amount.sign() < 0).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let mut more = match old {
        Some(old) if applies(quota, status.at("hard"), kind, old) => amount::subtract(&total, &usage(kind, old, now)),
        _ => total,
    };
    more.retain(|name, amount| !amount.is_zero() && hard.contains_key(name));
    if more.is_empty() {
        return Ok(None);
    }
    let mut sum = used.clone();
    amount::add(&mut sum, &more);
    let exceeded = |name: &str| more.contains_key(name) && sum.get(name) > hard.get(name);
    if enforced && more.keys().any(|name| exceeded(name)) {
        return Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            shown(&amount::only(&more, exceeded)),
            shown(&amount::only(&used, exceeded)),
            shown(&amount::only(&hard, exceeded))
        ));
    }
    Ok(Some(sum))
}

fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

/// Whether every container says how much it wants of what is limited.
fn required(tracked: &[&str], pod: &Value) -> Result<(), String> {
    if amount::has_own(View::new(pod)) {
        return Ok(());
    }
    let spec = View::new(pod).at("spec");
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in spec.list("containers").chain(spec.list("initContainers")) {
        let own = of_lists(&amount::container(container, Side::Requests), &amount::container(container, Side::Limits));
        for name in tracked.iter().filter(|name| NAMED.contains(name) && !own.contains_key(**name)) {
            missing.entry(name).or_default().insert(container.text("name"));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let parts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(",")))
        .collect();
    Err(format!("must specify {}", parts.join("; ")))
}

/// What all objects of a namespace use together, of what a quota limits: its `status.used`, counted anew. `objects` are those
/// of the kinds that it tracks.
pub fn recount<'a>(quota: &Value, objects: impl Iterator<Item = (Counted<'a>, &'a Value)>, now: Timestamp) -> Amounts {
    let hard = View::new(quota).at("spec").at("hard");
    let limits = amount::read(hard);
    let mut used: Amounts =
        limits.iter().map(|(name, limit)| (name.clone(), Quantity::new(0, limit.format()))).collect();
    for (kind, object) in objects {
        if applies(quota, hard, kind, object) {
            let own = amount::only(&usage(kind, object, now), |name| limits.contains_key(name));
            amount::add(&mut used, &own);
        }
    }
    used
}

#[cfg(test)]
mod tests;
