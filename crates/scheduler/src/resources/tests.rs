//! Sums over containers.

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::json;

use super::of_pod;

#[test]
fn a_pod_needs_its_peak() {
    let container = |cpu: &str, policy: Option<&str>| json!({"name": "c", "restartPolicy": policy, "resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}});
    let cases = [
        (json!({"containers": [container("100m", None), container("1", None)]}), 1100),
        (json!({"containers": [container("100m", None)], "initContainers": [container("2", None)]}), 2000),
        (
            json!({"containers": [container("100m", None)], "initContainers": [container("50m", Some("Always")), container("2", None)]}),
            2050,
        ),
        (
            json!({"containers": [container("3", None)], "initContainers": [container("50m", Some("Always")), container("2", None)]}),
            3050,
        ),
        (json!({"containers": [container("1", None)], "overhead": {"cpu": "10m"}}), 1010),
        (json!({"containers": [container("1", None)], "resources": {"requests": {"cpu": "4"}}}), 4000),
    ];
    for (spec, cpu) in cases {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(of_pod(&spec).get("cpu"), cpu, "{spec:?}");
    }
}
