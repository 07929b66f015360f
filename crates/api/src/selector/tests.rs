//! Tests of `selector`: cases as data where there are many.

use serde_json::json;

use super::*;
use crate::kinds;

fn matches(selector: &str, labels: serde_json::Value) -> bool {
    Labels::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}")).matches(labels.as_object().unwrap())
}

#[test]
fn a_label_selector_matches_as_its_text_says() {
    for (selector, labels, wanted) in [
        ("", json!({}), true),
        ("x=a", json!({"x": "a"}), true),
        ("x=a", json!({"x": "b"}), false),
        ("x==a,y=b", json!({"x": "a", "y": "b"}), true),
        ("x!=a", json!({}), true),
        ("x!=a", json!({"x": "a"}), false),
        ("x", json!({"x": ""}), true),
        ("!x", json!({"x": ""}), false),
        ("!x", json!({}), true),
        ("x in (a,b)", json!({"x": "b"}), true),
        ("x in (a, b ),y notin (c)", json!({"x": "b", "y": "c"}), false),
        ("x notin (a)", json!({}), true),
        ("x in (,a)", json!({"x": ""}), true),
        ("x in ()", json!({"x": ""}), true),
        ("x=", json!({"x": ""}), true),
        ("x=,y=b", json!({"x": "", "y": "b"}), true),
        ("x>1", json!({"x": "2"}), true),
        ("x<1", json!({"x": "2"}), false),
        ("x>1", json!({"x": "two"}), false),
        ("in in (in,notin)", json!({"in": "notin"}), true),
        ("example.com/x = a", json!({"example.com/x": "a"}), true),
    ] {
        assert_eq!(matches(selector, labels.clone()), wanted, "{selector} on {labels}");
    }
}

#[test]
fn a_bad_label_selector_gets_upstreams_message() {
    for (selector, message) in [
        ("x=a,", "found '', expected: identifier after ','"),
        (",x", "found ',', expected: !, identifier, or 'end of string'"),
        ("x in a", "unable to parse requirement: found 'a' expected: '('"),
        ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
        ("x=a b", "found 'b', expected: ',' or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("x=(", "unable to parse requirement: found '(', expected: identifier"),
        (
            "x>a",
            r#"unable to parse requirement: values[0]: Invalid value: "a": for 'Gt', 'Lt' operators, the value must be an integer"#,
        ),
        (
            "x=a@b",
            r#"unable to parse requirement: values[0][x]: Invalid value: "a@b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"#,
        ),
        (
            "@=a",
            r#"unable to parse requirement: <nil>: Invalid value: "@": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#,
        ),
    ] {
        assert_eq!(Labels::parse(selector).unwrap_err(), message, "{selector}");
    }
}

#[test]
fn a_label_selector_is_shown_sorted() {
    for (given, shown) in
        [("y=b,x=a", "x=a,y=b"), ("x in (b,a,b)", "x in (a,b)"), ("!z , x", "x,!z"), ("x notin (a)", "x notin (a)")]
    {
        assert_eq!(Labels::parse(given).unwrap().to_string(), shown);
    }
}

#[test]
fn a_selector_object_means_what_its_parts_mean_together() {
    let selector = json!({"matchLabels": {"x": "a"}, "matchExpressions": [
        {"key": "y", "operator": "In", "values": ["b", "c"]}, {"key": "z", "operator": "DoesNotExist"}]});
    let selector = Labels::from_value(&selector).unwrap();
    assert_eq!(selector.to_string(), "x=a,y in (b,c),!z");
    assert!(selector.matches_object(&json!({"metadata": {"labels": {"x": "a", "y": "c"}}})));
    assert!(!selector.matches_object(&json!({"metadata": {"labels": {"x": "a", "y": "c", "z": ""}}})));
    assert!(!selector.matches_object(&json!({})));
    assert!(Labels::from_value(&json!({})).unwrap().is_everything());
    assert!(!Labels::from_value(&json!(null)).unwrap().matches_object(&json!({})));
    assert_eq!(
        Labels::from_value(&json!({"matchExpressions": [{"key": "a", "operator": "Near"}]})).unwrap_err(),
        r#""Near" is not a valid label selector operator"#
    );
}

#[test]
fn fields_are_selected_by_what_the_kind_offers() {
    let pod = json!({"metadata": {"name": "a", "namespace": "n"},
        "spec": {"nodeName": "n1", "restartPolicy": "Always"},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}});
    let kind = kinds::find("", "v1", "pods").unwrap();
    for (text, wanted) in [
        ("", true),
        ("metadata.name=a", true),
        ("metadata.name==b", false),
        ("metadata.name!=b,spec.nodeName=n1", true),
        ("spec.host=n1", true),
        ("spec.nodeName!=", true),
        ("status.phase!=Running", false),
        ("status.podIPs=10.0.0.1", true),
        ("spec.hostNetwork=false", true),
        ("spec.serviceAccountName=", true),
    ] {
        assert_eq!(Fields::parse(kind, text).unwrap().matches(kind, &pod), wanted, "{text}");
    }
    let fields = Fields::parse(kind, r"metadata.name=a\,b").unwrap();
    assert_eq!((fields.exact("metadata.name"), fields.to_string().as_str()), (Some("a,b"), r"metadata.name=a\,b"));
}

#[test]
fn other_kinds_show_their_fields_as_text() {
    for (group, plural, object, text) in [
        ("", "nodes", json!({"spec": {}}), "spec.unschedulable=false"),
        ("", "secrets", json!({"type": "Opaque"}), "type=Opaque"),
        ("", "namespaces", json!({"status": {"phase": "Active"}}), "status.phase=Active"),
        ("batch", "jobs", json!({"status": {"succeeded": 2}}), "status.successful=2"),
        (
            "",
            "events",
            json!({"involvedObject": {"name": "a"}, "reportingComponent": "kubelet"}),
            "involvedObject.name=a,source=kubelet",
        ),
        ("events.k8s.io", "events", json!({"regarding": {"kind": "Pod"}}), "regarding.kind=Pod"),
        ("", "configmaps", json!({"metadata": {"name": "a"}}), "metadata.name=a"),
    ] {
        let kind = kinds::find(group, "v1", plural).unwrap();
        assert!(Fields::parse(kind, text).unwrap().matches(kind, &object), "{plural} {text}");
    }
}

#[test]
fn a_bad_field_selector_gets_upstreams_message() {
    for (plural, text, message) in [
        ("pods", "spec.nothing=a", "field label not supported: spec.nothing"),
        (
            "configmaps",
            "data.a=b",
            r#""data.a" is not a known field selector: only "metadata.name", "metadata.namespace""#,
        ),
        ("pods", "metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("pods", r"metadata.name=a\x", r"invalid field selector: invalid escape sequence: \x"),
        ("pods", "metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
        ("nodes", "metadata.namespace=a", "field label not supported: metadata.namespace"),
    ] {
        let kind = kinds::find("", "v1", plural).unwrap();
        assert_eq!(Fields::parse(kind, text).unwrap_err(), message, "{text}");
    }
}

#[test]
fn a_custom_resource_names_its_own_fields() {
    let kind = kinds::Kind::custom(&kinds::Custom {
        group: "example.test",
        version: "v1",
        kind: "Widget",
        list_kind: "WidgetList",
        plural: "widgets",
        singular: "widget",
        short_names: vec![],
        categories: vec![],
        namespaced: true,
        status: false,
        scale: false,
        storage_version: "v1",
    });
    let fields = Fields::parse_custom(&kind, "spec.color=red", &[".spec.color"]).unwrap();
    assert!(fields.matches(&kind, &json!({"spec": {"color": "red"}})));
    assert_eq!(Fields::parse(&kind, "spec.color=red").unwrap_err(), "field label not supported: spec.color");
}

#[test]
fn no_text_makes_a_parser_panic() {
    let kind = kinds::find("", "v1", "pods").unwrap();
    for text in [
        "\0",
        "=",
        "==",
        "!=",
        "((",
        "))",
        "a in",
        "a in (",
        "a in (,",
        "a notin",
        "!!a",
        "마당=마당",
        "a\\",
        "\\",
        "=,=,",
    ] {
        let _ = (Labels::parse(text), Fields::parse(kind, text));
    }
}
