//! Who gets a socket, and what it answers.

use http::Method;
use serde_json::json;

use super::{
    door::{Let, decide},
    *,
};
use crate::call::Query;

#[test]
fn a_pod_that_names_the_driver_gets_a_socket_while_it_lives() {
    let pod = |driver: &str, phase: &str| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "serviceAccountName": "builder", "imagePullSecrets": [{"name": "s"}],
                "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "csi": {"driver": driver}}]},
            "status": {"phase": phase},
        }))
        .unwrap()
    };
    let found = wanted(&pod(DRIVER, "Running")).unwrap();
    assert_eq!((found.uid.as_str(), found.account.as_str(), found.secrets), ("u", "builder", vec!["s".to_owned()]));
    assert!(wanted(&pod(DRIVER, "Pending")).is_some());
    assert_eq!(wanted(&pod(DRIVER, "Succeeded")), None);
    assert_eq!(wanted(&pod("other.example", "Running")), None);
}

#[test]
fn the_door_opens_for_builds_pulls_and_pushes_alone() {
    let decided = |method: &str, path: &str| {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.split('/').collect();
        decide(&method.parse::<Method>().unwrap(), &parts, &Query::parse(query))
    };
    for (method, path, wanted) in [
        ("HEAD", "_ping", Let::System),
        ("GET", "info", Let::Info),
        ("POST", "build?t=a", Let::Build),
        ("POST", "session", Let::BuildKit),
        ("POST", "grpc", Let::BuildKit),
        ("POST", "images/create?fromImage=a", Let::Images),
        ("GET", "images/json", Let::Images),
        ("GET", "images/r.io/a/b/json", Let::Images),
        ("POST", "images/r.io/a/push", Let::Images),
        ("POST", "images/a/tag?repo=b", Let::Images),
        ("DELETE", "images/r.io/a", Let::Remove),
        ("GET", "distribution/a/json", Let::Images),
    ] {
        assert_eq!(decided(method, path), Some(wanted), "{method} {path}");
    }
    for (method, path) in [
        ("POST", "containers/create"),
        ("GET", "containers/json"),
        ("POST", "containers/x/start"),
        ("POST", "containers/x/exec"),
        ("PUT", "containers/x/archive"),
        ("POST", "exec/x/start"),
        ("GET", "volumes"),
        ("POST", "volumes/create"),
        ("POST", "networks/create"),
        ("POST", "madang/build"),
        ("POST", "commit?container=x"),
        ("POST", "build/prune"),
        ("POST", "images/load"),
        ("POST", "images/prune"),
        ("GET", "images/get?names=a"),
        ("GET", "images/a/get"),
        ("POST", "images/create?fromSrc=-"),
        ("POST", "images/create?fromImage=a&fromSrc=http://x"),
        ("GET", "system/df"),
        ("GET", "events"),
        ("GET", "plugins"),
        ("POST", "swarm/init"),
        ("GET", ""),
    ] {
        assert_eq!(decided(method, path), None, "{method} {path}");
    }
}
