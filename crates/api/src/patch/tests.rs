//! Tests of `patch`: cases as data where there are many.

use serde_json::json as j;

use super::*;
use crate::schema::Type;

#[track_caller]
fn strategically(of: &str, mut object: Value, patch: Value) -> Result<Value, PatchError> {
    strategic(Type::named(&format!("io.k8s.api.{of}")).unwrap(), &mut object, &patch)?;
    Ok(object)
}

#[track_caller]
fn pod_spec(object: Value, patch: Value, expected: Value) {
    let patched = strategically("core.v1.Pod", j!({ "spec": object }), j!({ "spec": patch }));
    assert_eq!(patched, Ok(j!({ "spec": expected })));
}

#[test]
fn lists_with_a_merge_key_are_merged_by_it() {
    pod_spec(
        j!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}),
        j!({"containers": [{"name": "a", "image": "2", "env": [{"name": "Y"}], "command": null}, {"name": "c"}]}),
        j!({"containers": [
            {"name": "a", "image": "2", "env": [{"name": "Y"}, {"name": "X", "value": "1"}]}, {"name": "c"}, {"name": "b"},
        ]}),
    );
}

#[test]
fn lists_without_a_merge_key_and_atomic_values_are_replaced() {
    pod_spec(
        j!({"tolerations": [{"key": "a"}], "nodeSelector": {"a": "1", "b": "2"}, "priority": 1}),
        j!({"tolerations": [{"key": "b"}], "nodeSelector": {"a": null, "c": "3"}, "priority": null}),
        j!({"tolerations": [{"key": "b"}], "nodeSelector": {"b": "2", "c": "3"}}),
    );
    let strategy = |s: Value| j!({ "spec": { "strategy": s } });
    let old = strategy(j!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}));
    let change = strategy(j!({"$retainKeys": ["type"], "type": "Recreate"}));
    assert_eq!(strategically("apps.v1.Deployment", old, change), Ok(strategy(j!({"type": "Recreate"}))));
}

#[test]
fn directives_delete_replace_and_order_items() {
    let old = || j!({"containers": [{"name": "a", "image": "1"}, {"name": "b"}, {"name": "c"}]});
    pod_spec(
        old(),
        j!({"containers": [{"name": "b", "$patch": "delete"}]}),
        j!({"containers": [{"name": "a", "image": "1"}, {"name": "c"}]}),
    );
    pod_spec(old(), j!({"containers": [{"$patch": "replace"}, {"name": "z"}]}), j!({"containers": [{"name": "z"}]}));
    pod_spec(
        old(),
        j!({"$setElementOrder/containers": [{"name": "c"}, {"name": "d"}, {"name": "a"}], "containers": [{"name": "d"}, {"name": "a", "image": "2"}]}),
        j!({"containers": [{"name": "b"}, {"name": "c"}, {"name": "d"}, {"name": "a", "image": "2"}]}),
    );
    pod_spec(old(), j!({"$patch": "delete"}), j!({}));
    pod_spec(old(), j!({"$patch": "replace", "priority": 1}), j!({"priority": 1}));
    pod_spec(
        j!({}),
        j!({"containers": [{"name": "x", "$patch": "delete"}, {"name": "y"}]}),
        j!({"containers": [{"name": "y"}]}),
    );
    let finalizers = |f: Value| j!({ "metadata": f });
    let patched = strategically(
        "core.v1.Pod",
        finalizers(j!({"finalizers": ["a", "b", "c"]})),
        finalizers(
            j!({"$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["d", "a", "c"], "finalizers": ["d"]}),
        ),
    );
    assert_eq!(patched, Ok(finalizers(j!({"finalizers": ["d", "a", "c"]}))));
}

#[test]
fn service_ports_are_told_apart_by_port_number() {
    let ports = |p: Value| j!({ "spec": { "ports": p } });
    let old = ports(j!([{"port": 80, "name": "http", "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]));
    let change = ports(j!([{"port": 53, "nodePort": 30053}, {"port": 81}]));
    let expected = ports(
        j!([{"port": 80, "name": "http", "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 81}]),
    );
    assert_eq!(strategically("core.v1.Service", old, change), Ok(expected));
}

#[test]
fn bad_strategic_patches_are_refused_as_upstream_refuses_them() {
    let cases = [
        (j!([]), PatchError::BadRequest("invalid JSON document".into())),
        (j!({"$retainKeys": 1}), PatchError::BadRequest(strategic_text("retainKeys"))),
        (j!({"$retainKeys": ["a"], "spec": {}}), PatchError::BadRequest(strategic_text("retainKeys"))),
        (j!({"$setElementOrder": []}), PatchError::BadRequest(strategic_text("setElementOrder list"))),
        (j!({"$deleteFromPrimitiveListx": []}), PatchError::BadRequest(strategic_text("primitive list"))),
        (j!({"$patch": "boo"}), PatchError::Internal("unknown patch type: boo in map: map[$patch:boo]".into())),
        (
            j!({"spec": {"containers": [{"image": "x"}]}}),
            PatchError::Internal("map: map[image:x] does not contain declared merge key: name".into()),
        ),
        (
            j!({"spec": {"foo": {"a": 2}}}),
            PatchError::Internal("unable to find api field in struct PodSpec for the json field \"foo\"".into()),
        ),
        (
            j!({"spec": {"containers": [[1]]}}),
            PatchError::Internal("list element types are not identical: [[map[name:a]] [[1]]]".into()),
        ),
    ];
    for (patch, expected) in cases {
        let object = j!({"spec": {"containers": [{"name": "a"}], "foo": {"a": 1}}});
        assert_eq!(strategically("core.v1.Pod", object, patch), Err(expected));
    }
}

fn strategic_text(what: &str) -> String {
    format!("invalid patch format of {what}")
}

#[test]
fn merge_patches_follow_the_specification_and_drop_nulls_of_what_they_add() {
    let cases = [
        (j!({"a": "b"}), j!({"a": "c"}), j!({"a": "c"})),
        (j!({"a": "b"}), j!({"a": null, "b": 1}), j!({"b": 1})),
        (j!({"a": ["b"]}), j!({"a": "c"}), j!({"a": "c"})),
        (j!({"a": {"b": "c", "d": 1}}), j!({"a": {"b": null, "e": {"f": null}}}), j!({"a": {"d": 1, "e": {}}})),
        (j!({"a": [1]}), j!({"a": [null, {"x": null}]}), j!({"a": [null, {}]})),
        (j!({"e": null}), j!({"a": 1}), j!({"e": null, "a": 1})),
        (j!({}), j!({"a": {"bb": {"ccc": null}}}), j!({"a": {"bb": {}}})),
        (j!({"a": 1}), j!([1]), j!([1])),
    ];
    for (mut object, patch, expected) in cases {
        merge(&mut object, &patch).unwrap();
        assert_eq!(object, expected);
    }
    assert_eq!(merge(&mut j!({}), &j!(null)), Err(PatchError::BadRequest("Invalid JSON Patch".into())));
}

#[test]
fn json_patches_do_what_their_operations_say() {
    let cases = [
        (
            j!({"a": 1}),
            j!([{"op": "add", "path": "/b", "value": {"c": []}}, {"op": "add", "path": "/b/c/-", "value": 2}]),
            j!({"a": 1, "b": {"c": [2]}}),
        ),
        (
            j!({"a": [1, 2]}),
            j!([{"op": "add", "path": "/a/1", "value": 9}, {"op": "remove", "path": "/a/0"}]),
            j!({"a": [9, 2]}),
        ),
        (j!({"a": [1, 2]}), j!([{"op": "replace", "path": "/a/-1", "value": 3}]), j!({"a": [1, 3]})),
        (
            j!({"a/b": 1, "c~d": 2}),
            j!([{"op": "remove", "path": "/a~1b"}, {"op": "replace", "path": "/c~0d", "value": null}]),
            j!({"c~d": null}),
        ),
        (
            j!({"a": {"b": 1}}),
            j!([{"op": "move", "from": "/a/b", "path": "/c"}, {"op": "copy", "from": "/c", "path": "/d"}]),
            j!({"a": {}, "c": 1, "d": 1}),
        ),
        (
            j!({"a": 1}),
            j!([{"op": "test", "path": "/a", "value": 1}, {"op": "test", "path": "/b", "value": null}, {"op": "replace", "path": "/b", "value": 2}]),
            j!({"a": 1, "b": 2}),
        ),
        (j!({"a": 1}), j!([{"op": "replace", "path": "", "value": {"b": 1}}]), j!({"b": 1})),
    ];
    for (mut object, patch, expected) in cases {
        json(&mut object, &patch).unwrap();
        assert_eq!(object, expected);
    }
}

#[test]
fn bad_json_patches_are_refused_as_upstream_refuses_them() {
    let cases = [
        (j!({}), "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
        (j!([1]), "json: cannot unmarshal number into Go value of type jsonpatch.Operation"),
        (j!([{"op": "boo", "path": "/a"}]), "Unexpected kind: boo"),
        (j!([{"path": "/a"}]), "Unexpected kind: unknown"),
        (j!([{"op": "add", "value": 1}]), "add operation failed to decode path: missing value"),
        (
            j!([{"op": "add", "path": "/x/y", "value": 1}]),
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            j!([{"op": "add", "path": "", "value": 1}]),
            "add operation does not apply: doc is missing path: \"\": missing value",
        ),
        (
            j!([{"op": "remove", "path": "/x"}]),
            "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            j!([{"op": "remove", "path": "/l/7"}]),
            "error in remove for path: '/l/7': Unable to access invalid index: 7: invalid index referenced",
        ),
        (
            j!([{"op": "add", "path": "/l/z", "value": 1}]),
            "error in add for path: '/l/z': value was not a proper array index: 'z': strconv.Atoi: parsing \"z\": invalid syntax",
        ),
        (j!([{"op": "test", "path": "/a", "value": 2}]), "testing value /a failed: test failed"),
        (
            j!([{"op": "replace", "path": "/l/9", "value": 2}]),
            "replace operation does not apply: doc is missing key: /l/9: missing value",
        ),
        (
            j!([{"op": "move", "from": "/q", "path": "/a"}]),
            "error in move for path: 'q': Unable to remove nonexistent key: q: missing value",
        ),
    ];
    for (patch, expected) in cases {
        assert_eq!(json(&mut j!({"a": 1, "l": [1]}), &patch).unwrap_err().to_string(), expected);
    }
}

#[test]
fn long_lists_are_merged_in_little_time() {
    let names = |range: std::ops::Range<usize>| Value::Array(range.map(|i| j!({"name": format!("c{i}")})).collect());
    let object = j!({"spec": {"containers": names(0..20_000)}, "metadata": {"finalizers": (0..20_000).map(|i| i.to_string()).collect::<Vec<_>>()}});
    let change = j!({
        "spec": {"$setElementOrder/containers": names(10_000..30_000), "containers": names(10_000..30_000)},
        "metadata": {"finalizers": (10_000..30_000).map(|i| i.to_string()).collect::<Vec<_>>()},
    });
    let start = std::time::Instant::now();
    let merged = strategically("core.v1.Pod", object, change).unwrap();
    assert_eq!(merged["spec"]["containers"].as_array().unwrap().len(), 30_000);
    assert_eq!(merged["metadata"]["finalizers"].as_array().unwrap().len(), 30_000);
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn patches_cannot_make_objects_deep_or_huge() {
    let many = Value::Array(vec![j!({"op": "test", "path": "/a", "value": 1}); 10_001]);
    let error = json(&mut j!({"a": 1}), &many).unwrap_err();
    assert_eq!(
        error,
        PatchError::TooLarge("The allowed maximum operations in a JSON patch is 10000, got 10001".into())
    );
    let doubling = Value::Array(vec![j!({"op": "copy", "from": "/a", "path": "/a/-"}); 60]);
    assert!(json(&mut j!({"a": ["0123456789"]}), &doubling).unwrap_err().to_string().contains("exceed"));
    let nested: Vec<Value> = (1..2000).map(|n| j!({"op": "add", "path": "/a".repeat(n), "value": {}})).collect();
    let mut object = j!({});
    assert!(json(&mut object, &Value::Array(nested)).is_err());
    assert!(depth(&object) <= crate::json::MAX_DEPTH + 1);
    let to_and_fro: Vec<Value> = (0..3000)
        .map(|n| {
            if n % 2 == 0 {
                j!({"op": "move", "from": "/a", "path": "/b"})
            } else {
                j!({"op": "move", "from": "/b", "path": "/a"})
            }
        })
        .collect();
    json(&mut j!({"a": {"x": [1]}}), &Value::Array(to_and_fro)).unwrap();
}
