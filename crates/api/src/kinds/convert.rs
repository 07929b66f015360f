//! The same object in another version or group: events of both groups, autoscalers of both versions.
//!
//! Objects are stored in the form of the row that [`super::Kind::storage_group`] and [`super::Kind::storage_version`] name;
//! other rows show them through [`convert`]. What the older form of an autoscaler cannot say stands in annotations of it, as
//! upstream does.
//!
//! <https://kubernetes.io/docs/reference/using-api/#api-versioning>

use serde_json::{Map, Value, json};

use super::Kind;
use crate::meta::{self, View};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Names of an event's members in the core group and in `events.k8s.io`.
const EVENT_MEMBERS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Rewrites an object of one kind as an object of another that shows the same stored objects, `apiVersion` included.
/// Kinds that are not [`super::Kind::equivalents`] of each other only get the other's `apiVersion` and `kind`.
pub fn convert(from: &Kind, to: &Kind, object: &mut Value) {
    match ((from.group, from.kind, from.version), (to.group, to.version)) {
        (("", "Event", _), ("events.k8s.io", _)) => rename(object, |(core, new)| (core, new)),
        (("events.k8s.io", "Event", _), ("", _)) => rename(object, |(core, new)| (new, core)),
        (("autoscaling", "HorizontalPodAutoscaler", "v1"), ("autoscaling", "v2")) => autoscaler_to_v2(object),
        (("autoscaling", "HorizontalPodAutoscaler", "v2"), ("autoscaling", "v1")) => autoscaler_to_v1(object),
        _ => {}
    }
    meta::set_type(object, &to.gvk());
}

fn rename(object: &mut Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Some(object) = object.as_object_mut() else { return };
    for members in EVENT_MEMBERS {
        let (from, to) = direction(*members);
        if let Some(value) = object.remove(from) {
            object.insert(to.to_owned(), value);
        }
    }
}

fn take_annotation(object: &mut Value, key: &str) -> Option<Value> {
    let text = meta::annotation(object, key).to_owned();
    meta::remove_annotation(object, key);
    serde_json::from_str(&text).ok()
}

fn put_annotation(object: &mut Value, key: &str, value: &Value) {
    if !View::new(value).is_zero() {
        meta::set_annotation(object, key, &value.to_string());
    }
}

fn is_cpu_utilization(metric: View<'_>) -> bool {
    let resource = metric.at("resource");
    metric.text("type") == "Resource"
        && resource.text("name") == "cpu"
        && resource.at("target").has("averageUtilization")
}

fn autoscaler_to_v1(object: &mut Value) {
    let view = View::new(object);
    let (spec, status) = (view.at("spec"), view.at("status"));
    let cpu = spec.list("metrics").find(|metric| is_cpu_utilization(*metric));
    let target = cpu.and_then(|metric| metric.at("resource").at("target").int("averageUtilization"));
    let others: Vec<Value> = spec
        .list("metrics")
        .filter(|metric| !is_cpu_utilization(*metric))
        .map(|metric| metric_to_v1(metric, true))
        .collect();
    let current: Vec<Value> = status.list("currentMetrics").map(|metric| metric_to_v1(metric, false)).collect();
    let current_cpu = status
        .list("currentMetrics")
        .find(|metric| metric.text("type") == "Resource" && metric.at("resource").text("name") == "cpu")
        .and_then(|metric| metric.at("resource").at("current").int("averageUtilization"));
    let (conditions, behavior) = (status.at("conditions").value().clone(), spec.at("behavior").value().clone());
    for key in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
        meta::remove_annotation(object, key);
    }
    put_annotation(object, METRICS, &Value::from(others));
    put_annotation(object, CURRENT_METRICS, &Value::from(current));
    put_annotation(object, CONDITIONS, &conditions);
    put_annotation(object, BEHAVIOR, &behavior);
    let spec = meta::object_at(object, "spec");
    spec.remove("metrics");
    spec.remove("behavior");
    if let Some(target) = target {
        spec.insert("targetCPUUtilizationPercentage".to_owned(), target.into());
    }
    let status = meta::object_at(object, "status");
    status.remove("currentMetrics");
    status.remove("conditions");
    if let Some(current) = current_cpu {
        status.insert("currentCPUUtilizationPercentage".to_owned(), current.into());
    }
    for member in ["currentReplicas", "desiredReplicas"] {
        status.entry(member).or_insert_with(|| 0.into());
    }
}

fn autoscaler_to_v2(object: &mut Value) {
    let metrics = take_annotation(object, METRICS);
    let current = take_annotation(object, CURRENT_METRICS);
    let conditions = take_annotation(object, CONDITIONS);
    let behavior = take_annotation(object, BEHAVIOR);
    let spec = meta::object_at(object, "spec");
    let mut list = Vec::new();
    if let Some(target) = spec.remove("targetCPUUtilizationPercentage").filter(|target| !target.is_null()) {
        list.push(json!({"type": "Resource", "resource":
            {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}}));
    }
    list.extend(
        metrics
            .iter()
            .flat_map(|metrics| View::new(metrics).items_slice())
            .map(|metric| metric_to_v2(View::new(metric), true)),
    );
    if !list.is_empty() {
        spec.insert("metrics".to_owned(), list.into());
    }
    if let Some(behavior) = behavior.filter(Value::is_object) {
        spec.insert("behavior".to_owned(), behavior);
    }
    let status = meta::object_at(object, "status");
    let cpu = status.remove("currentCPUUtilizationPercentage").filter(|cpu| !cpu.is_null());
    let mut list: Vec<Value> = current
        .iter()
        .flat_map(|current| View::new(current).items_slice())
        .map(|metric| metric_to_v2(View::new(metric), false))
        .collect();
    if list.is_empty()
        && let Some(cpu) = cpu
    {
        list.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": cpu}}}));
    }
    if !list.is_empty() {
        status.insert("currentMetrics".to_owned(), list.into());
    }
    if let Some(conditions) = conditions.filter(Value::is_array) {
        status.insert("conditions".to_owned(), conditions);
    }
}

const SOURCES: [&str; 5] = ["object", "pods", "resource", "containerResource", "external"];

/// Where the older form keeps the parts of a metric's target (or of its current value).
fn old_names(source: &str, spec: bool) -> [(&'static str, &'static str); 3] {
    let utilization = if spec { "targetAverageUtilization" } else { "currentAverageUtilization" };
    let average = match (source, spec) {
        ("object", _) => "averageValue",
        (_, true) => "targetAverageValue",
        (_, false) => "currentAverageValue",
    };
    let value = if spec { "targetValue" } else { "currentValue" };
    [("averageUtilization", utilization), ("averageValue", average), ("value", value)]
}

fn metric_to_v1(metric: View<'_>, spec: bool) -> Value {
    let mut old = json!({"type": metric.text("type")});
    for source in SOURCES.into_iter().filter(|source| metric.has(source)) {
        let new = metric.at(source);
        let target = new.at(if spec { "target" } else { "current" });
        let mut map = Map::new();
        for member in ["name", "container"] {
            copy(&mut map, member, new.at(member));
        }
        for (member, name) in old_names(source, spec) {
            copy(&mut map, name, target.at(member));
        }
        copy(&mut map, "metricName", new.at("metric").at("name"));
        let selector = if source == "external" { "metricSelector" } else { "selector" };
        copy(&mut map, selector, new.at("metric").at("selector"));
        copy(&mut map, "target", new.at("describedObject"));
        old[source] = map.into();
    }
    old
}

fn metric_to_v2(metric: View<'_>, spec: bool) -> Value {
    let mut new = json!({"type": metric.text("type")});
    for source in SOURCES.into_iter().filter(|source| metric.has(source)) {
        let old = metric.at(source);
        let (mut map, mut target) = (Map::new(), Map::new());
        for member in ["name", "container"] {
            copy(&mut map, member, old.at(member));
        }
        for (member, name) in old_names(source, spec) {
            copy(&mut target, member, old.at(name));
        }
        if spec {
            let kind = if target.contains_key("averageUtilization") {
                "Utilization"
            } else if source == "external" && target.contains_key("value") {
                "Value"
            } else if target.contains_key("averageValue") || matches!(source, "pods" | "resource" | "containerResource")
            {
                "AverageValue"
            } else {
                "Value"
            };
            target.insert("type".to_owned(), kind.into());
            if source == "object" && kind == "AverageValue" && target.get("value").is_some_and(|value| value == "0") {
                target.remove("value");
            }
        }
        map.insert((if spec { "target" } else { "current" }).to_owned(), target.into());
        if matches!(source, "object" | "pods" | "external") {
            let mut named = Map::new();
            copy(&mut named, "name", old.at("metricName"));
            let selector = if source == "external" { "metricSelector" } else { "selector" };
            copy(&mut named, "selector", old.at(selector));
            map.insert("metric".to_owned(), named.into());
        }
        copy(&mut map, "describedObject", old.at("target"));
        new[source] = map.into();
    }
    new
}

fn copy(map: &mut Map<String, Value>, member: &str, value: View<'_>) {
    if value.exists() {
        map.insert(member.to_owned(), value.value().clone());
    }
}
