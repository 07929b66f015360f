//! HorizontalPodAutoscalers of both versions, and Scale.

use serde_json::{Value, json};

use super::edit::{self, Object, amount, items, made, member, set};

pub fn apply(version: &str, kind: &str, object: &mut Object) {
    match (version, kind) {
        ("v2", "HorizontalPodAutoscaler") => v2(object),
        ("v1", "HorizontalPodAutoscaler") => v1(object),
        ("v1", "Scale") => super::core::scale(object),
        _ => {}
    }
}

fn v1(object: &mut Object) {
    let others = member(object, "metadata")
        .and_then(|metadata| member(metadata, "annotations"))
        .is_some_and(|annotations| annotations.contains_key("autoscaling.alpha.kubernetes.io/metrics"));
    if let Some(spec) = made(object, "spec") {
        set(spec, "minReplicas", 1);
        if !others {
            set(spec, "targetCPUUtilizationPercentage", 80);
        }
    }
    if let Some(status) = made(object, "status") {
        set(status, "currentReplicas", 0);
        set(status, "desiredReplicas", 0);
    }
}

fn v2(object: &mut Object) {
    if let Some(spec) = made(object, "spec") {
        set(spec, "minReplicas", 1);
        if edit::empty(spec, "metrics") {
            let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}});
            spec.insert("metrics".to_owned(), json!([{"type": "Resource", "resource": cpu}]));
        }
        for metric in items(spec, "metrics") {
            metric_amounts(metric, "target");
        }
        if let Some(behavior) = member(spec, "behavior") {
            let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
            let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
            rules(behavior, "scaleUp", json!([pods, percent]));
            rules(behavior, "scaleDown", json!([percent]));
            if let Some(up) = member(behavior, "scaleUp") {
                set(up, "stabilizationWindowSeconds", 0);
            }
        }
    }
    if let Some(status) = made(object, "status") {
        set(status, "desiredReplicas", 0);
        for metric in items(status, "currentMetrics") {
            metric_amounts(metric, "current");
        }
    }
}

fn rules(behavior: &mut Object, direction: &str, policies: Value) {
    let Some(rules) = made(behavior, direction) else { return };
    set(rules, "selectPolicy", "Max");
    set(rules, "policies", policies);
    amount(rules, "tolerance");
}

fn metric_amounts(metric: &mut Object, holder: &str) {
    for source in ["resource", "containerResource", "pods", "object", "external"] {
        if let Some(target) = member(metric, source).and_then(|source| member(source, holder)) {
            amount(target, "value");
            amount(target, "averageValue");
        }
    }
}
