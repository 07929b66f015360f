//! Tests of `kinds`: cases as data where there are many.

use super::*;

#[test]
fn rows_are_found_by_path_and_by_kind() {
    for (group, version, plural, kind, namespaced) in [
        ("", "v1", "pods", "Pod", true),
        ("", "v1", "endpoints", "Endpoints", true),
        ("apps", "v1", "deployments", "Deployment", true),
        ("", "v1", "nodes", "Node", false),
        ("autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true),
        ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true),
        ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false),
        ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", false),
    ] {
        let row = find(group, version, plural).unwrap_or_else(|| panic!("{group}/{version} {plural}"));
        assert_eq!((row.kind, row.namespaced), (kind, namespaced));
        assert_eq!(find_kind(group, version, kind), Some(row));
    }
    assert_eq!(find("", "v1", "nothings"), None);
    assert_eq!(find("apps", "v1", "pods"), None);
}

#[test]
fn no_two_rows_answer_the_same_path_and_every_row_is_whole() {
    let mut seen = HashSet::new();
    for kind in all() {
        assert!(seen.insert((kind.group, kind.version, kind.plural)), "{kind:?}");
        assert!(kind.schema.starts_with("io.k8s."), "{kind:?}");
        assert_eq!(kind.is_stored(), !kind.list_kind.is_empty(), "{kind:?}");
        assert_eq!(kind.is_stored(), !kind.storage_hash.is_empty(), "{kind:?}");
        for sub in kind.subresources {
            assert!(!sub.verbs.is_empty(), "{sub:?}");
            assert!(!sub.schema.is_empty() || sub.kind.ends_with("Options"), "{sub:?}");
        }
    }
}

#[test]
fn the_core_group_comes_first_and_hpa_prefers_v2() {
    let groups = groups();
    assert_eq!(groups[0], ("", vec!["v1"]));
    assert!(groups.contains(&("autoscaling", vec!["v2", "v1"])));
}

#[test]
fn events_and_autoscalers_are_one_set_of_objects_each() {
    let others = |group, version, plural| -> Vec<(&str, &str)> {
        find(group, version, plural).unwrap().equivalents().map(|kind| (kind.group, kind.version)).collect()
    };
    assert_eq!(others("", "v1", "events"), [("events.k8s.io", "v1")]);
    assert_eq!(others("events.k8s.io", "v1", "events"), [("", "v1")]);
    assert_eq!(others("autoscaling", "v1", "horizontalpodautoscalers"), [("autoscaling", "v2")]);
    assert_eq!(others("", "v1", "pods"), []);
}

#[test]
fn a_custom_kind_made_twice_keeps_its_strings_once() {
    let of = Custom {
        group: "example.test",
        version: "v1",
        kind: "Widget",
        list_kind: "WidgetList",
        plural: "widgets",
        singular: "widget",
        short_names: vec!["wd"],
        categories: vec!["all"],
        namespaced: true,
        status: true,
        scale: true,
        storage_version: "v1",
    };
    let (first, second) = (Kind::custom(&of), Kind::custom(&of));
    assert_eq!(first, second);
    assert_eq!(first.group.as_ptr(), second.group.as_ptr());
    assert_eq!(first.subresources.as_ptr(), second.subresources.as_ptr());
    assert!(first.subresource("scale").is_some() && first.is_custom());
    assert_eq!(first.resource().to_string(), "widgets.example.test");
}

#[test]
fn an_event_is_the_same_in_both_groups() {
    let (core, new) = (find("", "v1", "events").unwrap(), find("events.k8s.io", "v1", "events").unwrap());
    let event = serde_json::json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"name": "p"},
        "message": "m", "reason": "r", "count": 3, "reportingComponent": "c", "reportingInstance": "i"});
    let mut other = event.clone();
    convert(core, new, &mut other);
    assert_eq!(
        other,
        serde_json::json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "regarding": {"name": "p"},
            "note": "m", "reason": "r", "deprecatedCount": 3, "reportingController": "c", "reportingInstance": "i"})
    );
    convert(new, core, &mut other);
    assert_eq!(other, event);
}

#[test]
fn an_autoscaler_survives_the_older_version() {
    let v1 = find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
    let v2 = find("autoscaling", "v2", "horizontalpodautoscalers").unwrap();
    let scaler = serde_json::json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
            {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "3"}}},
            {"type": "External", "external": {"metric": {"name": "x"}, "target": {"type": "Value", "value": "9"}}},
            {"type": "Object", "object": {"metric": {"name": "o"}, "describedObject": {"kind": "Service", "name": "s"},
                "target": {"type": "Value", "value": "4"}}},
        ], "behavior": {"scaleDown": {"selectPolicy": "Max"}}},
        "status": {"currentReplicas": 1, "desiredReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}],
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current":
                {"averageUtilization": 10, "averageValue": "1m"}}}]}});
    let mut other = scaler.clone();
    convert(v2, v1, &mut other);
    assert_eq!(other["spec"], serde_json::json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}));
    assert_eq!(other["status"]["currentCPUUtilizationPercentage"], 10);
    convert(v1, v2, &mut other);
    assert_eq!(other, scaler);
}
