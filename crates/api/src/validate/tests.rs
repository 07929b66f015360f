//! Tests of `validate`: cases as data where there are many.

use serde_json::{Value, json};

use super::*;
use harness::{kind, messages};

mod harness;
mod pods;
mod volumes;

#[test]
fn a_path_is_written_as_upstream_writes_it() {
    let spec = Path::new("spec");
    let containers = spec.child("containers");
    assert_eq!(containers.index(2).child("name").to_string(), "spec.containers[2].name");
    assert_eq!(Path::ROOT.child("metadata").child("labels").key("a/b").to_string(), "metadata.labels[a/b]");
}

#[test]
fn errors_are_worded_as_upstream_words_them() {
    let at = Path::new("spec").child("x").to_string();
    for (error, text) in [
        (FieldError::required(&at, ""), "spec.x: Required value"),
        (FieldError::required(&at, "must not be empty"), "spec.x: Required value: must not be empty"),
        (FieldError::invalid(&at, "a\"b", "no"), r#"spec.x: Invalid value: "a\"b": no"#),
        (FieldError::invalid(&at, 70000, "too big"), "spec.x: Invalid value: 70000: too big"),
        (FieldError::invalid(&at, json!({"a": "<"}), "no"), r#"spec.x: Invalid value: {"a":"\u003c"}: no"#),
        (
            FieldError::not_supported(&at, "z", &["A", "B"]),
            r#"spec.x: Unsupported value: "z": supported values: "A", "B""#,
        ),
        (FieldError::duplicate(&at, "z"), r#"spec.x: Duplicate value: "z""#),
        (FieldError::forbidden(&at, "not here"), "spec.x: Forbidden: not here"),
        (FieldError::too_long(&at, 63), "spec.x: Too long: may not be more than 63 bytes"),
        (FieldError::too_many(&at, 5, 1), "spec.x: Too many: 5: must have at most 1 item"),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn several_errors_stand_in_brackets_each_once() {
    let (a, b) = (FieldError::required("a", ""), FieldError::required("b", ""));
    assert_eq!(aggregate(std::slice::from_ref(&a)), "a: Required value");
    assert_eq!(aggregate(&[a.clone(), b, a]), "[a: Required value, b: Required value]");
}

fn created(kind: &Kind, object: Value) -> Vec<String> {
    messages(&create(kind, &object))
}

#[test]
fn metadata_is_checked_as_upstream_checks_it() {
    let config = kind("", "configmaps");
    let subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    for (metadata, expected) in [
        (json!({"name": "a", "namespace": "n"}), vec![]),
        (
            json!({}),
            vec![
                "metadata.name: Required value: name or generateName is required".to_owned(),
                "metadata.namespace: Required value".to_owned(),
            ],
        ),
        (json!({"name": "A_b", "namespace": "n"}), vec![format!("metadata.name: Invalid value: \"A_b\": {subdomain}")]),
        (
            json!({"name": "a", "namespace": "n", "labels": {"a b": "c"}}),
            vec![
                "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')".to_owned(),
            ],
        ),
        (json!({"name": "a", "namespace": "n", "annotations": {"A": "x", "UPPER.com/B": ""}}), vec![]),
        (
            json!({"name": "a", "namespace": "n", "annotations": {"a": "x".repeat(256 * 1024)}}),
            vec!["metadata.annotations: Too long: may not be more than 262144 bytes".to_owned()],
        ),
        (
            json!({"name": "a", "namespace": "n", "finalizers": ["orphan", "mine", "x.test/y"]}),
            vec!["metadata.finalizers[1]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified".to_owned()],
        ),
        (
            json!({"name": "a", "namespace": "n", "ownerReferences": [{"apiVersion": "v1/", "kind": "Pod", "name": "p"}]}),
            vec![
                "metadata.ownerReferences[0].apiVersion: Invalid value: \"v1/\": must be <group>/<version> or <version>".to_owned(),
                "metadata.ownerReferences[0].uid: Required value: must not be empty".to_owned(),
            ],
        ),
    ] {
        assert_eq!(created(config, json!({"metadata": metadata})), expected, "{metadata}");
    }
}

#[test]
fn names_have_the_form_of_their_kind() {
    for (group, plural, name, fine) in [
        ("", "namespaces", "a.b", false),
        ("", "namespaces", "ab-1", true),
        ("", "services", "1a", true),
        ("rbac.authorization.k8s.io", "clusterroles", "system:node", true),
        ("rbac.authorization.k8s.io", "clusterroles", "a/b", false),
        ("apps", "deployments", "a.b", true),
        ("apps", "deployments", "-a", false),
    ] {
        let mut object = json!({"metadata": {"name": name}});
        let mut errors = Errors::new();
        if kind(group, plural).namespaced {
            object["metadata"]["namespace"] = json!("n");
        }
        metadata::create(kind(group, plural), &object, &mut errors);
        assert_eq!(errors.is_empty(), fine, "{plural} {name}: {:?}", errors);
    }
    assert_eq!(format::without_trailing_dash("web-"), "wea");
}

#[test]
fn metadata_that_is_the_servers_cannot_change() {
    let config = kind("", "configmaps");
    let old = json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1",
        "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x.test/a"]}});
    let mut new = old.clone();
    assert_eq!(update(config, "", &new, &old), []);
    new["metadata"]["uid"] = json!("v");
    new["metadata"]["resourceVersion"] = json!("");
    new["metadata"]["finalizers"] = json!(["x.test/a", "x.test/b"]);
    assert_eq!(
        messages(&update(config, "", &new, &old)),
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.test/b\"}",
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.uid: Invalid value: \"v\": field is immutable",
        ]
    );
}

#[test]
fn a_suspended_job_may_be_directed_elsewhere_and_no_more() {
    let jobs = kind("batch", "jobs");
    let base = json!({"metadata": {"name": "j", "namespace": "n"}, "spec": {"suspend": true,
        "selector": {"matchLabels": {"a": "b"}}, "manualSelector": true,
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i"}]}}}});
    let old = harness::defaulted(jobs, base);
    let changed = |pointer: &str, value: Value| {
        let (mut old, mut new) = (old.clone(), old.clone());
        harness::put(&mut old, "/metadata/resourceVersion", "1".into());
        harness::put(&mut new, "/metadata/resourceVersion", "1".into());
        harness::put(&mut new, pointer, value);
        messages(&update(jobs, "", &new, &old)).len()
    };
    let node = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}});
    assert_eq!(changed("/metadata/labels/x", json!("y")), 0);
    assert_eq!(changed("/spec/template/spec/nodeSelector", json!({"disk": "ssd"})), 0);
    assert_eq!(changed("/spec/template/spec/affinity", json!({"nodeAffinity": node})), 0);
    assert_eq!(changed("/spec/template/spec/containers/0/resources", json!({"requests": {"cpu": "1"}})), 0);
    assert_eq!(changed("/spec/template/spec/containers/0/image", json!("other")), 1);
}
