//! Tests of `crd`: cases as data where there are many.

use serde_json::json;

use super::column::Path as JsonPath;
use super::*;

fn widget() -> Structural {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer", "default": 3}, "name": {"type": "string", "pattern": "^[a-z]+$"},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
    }}}});
    Structural::compile(&schema).unwrap()
}

#[test]
fn bodies_are_defaulted_coerced_and_pruned() {
    let body = || {
        json!({"apiVersion": "a/v1", "kind": "Widget", "metadata": {"name": "x", "foo": 1, "labels": {}},
            "spec": {"color": "red", "template": {"kind": "Pod", "metadata": {"bar": 1, "creationTimestamp": null}}}})
    };
    let clean = json!({"apiVersion": "a/v1", "kind": "Widget", "metadata": {"name": "x"},
        "spec": {"size": 3, "template": {"kind": "Pod", "metadata": {}}}});
    let mut object = body();
    let warnings = widget().decode(&mut object, &["spec.size".to_owned()], UnknownFields::Warn).unwrap();
    assert_eq!(object, clean);
    let expected = [
        "duplicate field \"spec.size\"",
        "unknown field \"metadata.foo\"",
        "unknown field \"spec.template.metadata.bar\"",
        "unknown field \"spec.color\"",
    ];
    assert_eq!(warnings, expected);
    assert_eq!(widget().decode(&mut body(), &[], UnknownFields::Ignore), Ok(vec![]));
    let strict = widget().decode(&mut body(), &[], UnknownFields::Strict).unwrap_err();
    assert!(strict.starts_with("strict decoding error: unknown field \"metadata.foo\", "), "{strict}");
}

#[test]
fn metadata_of_the_wrong_type_is_refused() {
    let decode = |mut object: Value| widget().decode(&mut object, &[], UnknownFields::Warn).unwrap_err();
    let kind = decode(json!({"kind": 1}));
    assert_eq!(kind, "kind: Invalid value: 1: must be a string");
    let labels = decode(json!({"metadata": {"labels": {"a": 1}}}));
    let expected = "metadata: Invalid value: {\"labels\":{\"a\":1}}: json: cannot unmarshal number into Go struct field \
                    ObjectMeta.labels of type string";
    assert_eq!(labels, expected);
}

#[test]
fn messages_are_upstreams() {
    let errors = widget().validate(&json!({"spec": {"size": "x", "name": "A", "template": {}}}));
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'",
        "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        "spec.template.apiVersion: Required value",
        "spec.template.kind: Required value",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn patterns_have_gos_syntax() {
    let cases = [
        (r"^\d+$", "12", "١٢"),
        (r"^[\w-]+$", "a_b-1", "é"),
        (r"^[\s\d]$", " ", "x"),
        (r"^[^\d]$", "x", "1"),
        (r"^[a[b]$", "[", "]"),
        (r"^[]a]$", "]", "b"),
        (r"^[a&&b]+$", "a&b", "c"),
        (r"^[a~~b--]+$", "~a-", "c"),
        (r"^a{b$", "a{b", "ab"),
        (r"^a{2}$", "aa", "a"),
        (r"^{a}$", "{a}", "a"),
        (r"^[[:alpha:]]+$", "ab", "1"),
        (r"^\Qa.b\E$", "a.b", "axb"),
        (r"^\pL\x{41}$", "éA", "1A"),
        (r"^(?P<n>a)\/b$", "a/b", "ab"),
        (r"^a\_b$", "a_b", "ab"),
        (r"\bfoo\b", "a foo", "afoo"),
    ];
    for (source, good, bad) in cases {
        let pattern = Pattern::new(source);
        assert!(pattern::compile(source).is_ok(), "{source}: {:?}", pattern::compile(source));
        assert!(pattern.matches(good), "{source} should match {good}");
        assert!(!pattern.matches(bad), "{source} should not match {bad}");
    }
    assert!(pattern::compile("(((a{1000}){1000}){1000})").is_err());
    assert!(!Pattern::new("(").matches("("));
}

#[test]
fn printer_columns_find_what_their_paths_name() {
    let object = json!({
        "metadata": {"name": "x", "annotations": {"a.b/c": "d"}},
        "spec": {"replicas": 3, "items": [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}, {"n": 3, "t": "b"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
    });
    let cases = [
        (".spec.replicas", json!([3])),
        ("{.spec.replicas}", json!([3])),
        (".metadata.annotations.a\\.b/c", json!(["d"])),
        (".metadata.annotations['a.b/c']", json!(["d"])),
        (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
        (".status.conditions[?(@.type == 'Other')].status", json!(["False"])),
        (".spec.items[?(@.n>=2)].n", json!([2, 3])),
        (".spec.items[?(@.t!='b')].n", json!([1])),
        (".spec.items[?(@.q)].n", json!([])),
        (".spec.items[0].t", json!(["a"])),
        (".spec.items[-1].n", json!([3])),
        (".spec.items[0:2].n", json!([1, 2])),
        (".spec.items[::2].n", json!([1, 3])),
        (".spec.items[*].t", json!(["a", "b", "b"])),
        ("..type", json!(["Ready", "Other"])),
        (".nothing.here", json!([])),
        (".spec.replicas.x", json!([])),
    ];
    for (text, expected) in cases {
        let path = JsonPath::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(json!(path.find(&object)), expected, "{text}");
    }
    for bad in [".a[", ".a[x]", ".a[?(@.b==)]", ".a[?(@.b", "..", ".a.[", ".a]", ".a[0:1:0]", ".a[?(@.b[?(@.c)])]"] {
        assert!(JsonPath::parse(bad).is_err(), "{bad}");
    }
    assert!(JsonPath::parse(&".a".repeat(10_000)).is_err());
    let cells = [
        ("string", json!({"b": [1]}), json!("{\"b\":[1]}")),
        ("integer", json!(1.0), json!(1)),
        ("integer", json!("x"), json!(null)),
        ("number", json!(1.5), json!(1.5)),
        ("boolean", json!(true), json!(true)),
        ("date", json!("2024-01-01T00:00:00Z"), json!("2024-01-01T00:00:00Z")),
    ];
    for (kind, value, expected) in cells {
        assert_eq!(column::cell(kind, Some(&value)), expected);
    }
    assert_eq!(column::cell("string", None), Value::Null);
}

#[test]
fn the_deepest_schema_and_object_need_little_stack() {
    let depth = crate::json::MAX_DEPTH / 2 - 4;
    let mut schema = json!({"type": "object"});
    let mut object = json!({});
    for _ in 0..depth {
        schema = json!({"type": "object", "properties": {"a": schema}});
        object = json!({"a": object});
    }
    let run = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        let compiled = Structural::compile(&schema).unwrap();
        let mut decoded = object.clone();
        compiled.decode(&mut decoded, &[], UnknownFields::Strict).unwrap();
        assert_eq!(decoded, object);
        compiled.validate(&object)
    });
    assert_eq!(run.unwrap().join().unwrap(), vec![]);
}

#[test]
fn hostile_schemas_and_objects_cost_no_more_than_their_size() {
    let start = std::time::Instant::now();
    for text in ["}", "{", "[", "(", "a{", "{1"] {
        let _ = pattern::compile(&text.repeat(200_000));
    }
    let schema = json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "required": ["k"],
        "properties": {"k": {"type": "integer"}, "v": {"type": "string"}}}}}});
    let compiled = Structural::compile(&schema).unwrap();
    let list = |v: Value| json!({"l": (0..10_000).map(|k| json!({"k": k, "v": v})).collect::<Vec<_>>()});
    assert_eq!(compiled.validate_update(&list(json!(1)), &list(json!("x"))).len(), 200);
    assert_eq!(compiled.validate_update(&list(json!(1)), &list(json!(1))).len(), 0);
    assert!(start.elapsed().as_secs() < 60);
}
