//! Tests of `openapi`: cases as data where there are many.

use serde_json::{Map, Value, json};

use super::*;
use crate::kinds;

fn all() -> Vec<Resource<'static>> {
    kinds::all().iter().map(Resource::built_in).collect()
}

fn parsed(bytes: &[u8]) -> Value {
    let parsed = crate::json::parse(bytes).unwrap();
    assert_eq!(parsed.duplicates, Vec::<String>::new());
    parsed.value
}

fn of_group(group: &str, version: &str) -> Vec<Resource<'static>> {
    all().into_iter().filter(|r| (r.kind.group, r.kind.version) == (group, version)).collect()
}

/// Every reference within a document must lead somewhere.
fn check_references(document: &Value, root: &Value) {
    match document {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(root.pointer(pointer).is_some(), "{reference}");
            }
            map.values().for_each(|v| check_references(v, root));
        }
        Value::Array(items) => items.iter().for_each(|v| check_references(v, root)),
        _ => {}
    }
}

fn operation_ids(paths: &Value) -> Vec<&str> {
    let operations = paths.as_object().unwrap().values().flat_map(|p| p.as_object().unwrap().values());
    operations.filter_map(|o| o.get("operationId")?.as_str()).collect()
}

#[test]
fn documents_are_whole() {
    let document = parsed(&v2(&all()));
    check_references(&document, &document);
    let mut ids = operation_ids(&document["paths"]);
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids repeat");
    for (group, versions) in kinds::groups() {
        for version in versions {
            let document = parsed(&v3(&of_group(group, version)));
            check_references(&document, &document);
            assert!(!operation_ids(&document["paths"]).is_empty());
        }
    }
}

/// What is compared with upstream's published document: descriptions and enumerations are not in both.
fn comparable(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let kept = map.iter().filter(|(k, v)| {
                !(k.as_str() == "description" && v.is_string() || k.as_str() == "enum" && v.is_array())
            });
            Value::Object(kept.map(|(k, v)| (k.clone(), comparable(v))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(comparable).collect()),
        other => other.clone(),
    }
}

#[test]
fn definitions_are_those_that_upstream_publishes() {
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("GOMODCACHE").unwrap_or(format!("{home}/go/pkg/mod"));
    // Only where the Go module cache has it.
    let Ok(text) = std::fs::read(format!("{cache}/k8s.io/kubernetes@v1.37.1/api/openapi-spec/swagger.json")) else {
        return;
    };
    let published = parsed(&text);
    let document = parsed(&v2(&all()));
    let definitions = document["definitions"].as_object().unwrap();
    assert!(definitions.len() > 500);
    for (name, ours) in definitions {
        let mut theirs = comparable(&published["definitions"][name]);
        let mut ours = comparable(ours);
        for schema in [&mut ours, &mut theirs] {
            if let Some(Value::Array(required)) = schema.get_mut("required") {
                required.sort_by_key(|v| v.to_string());
            }
        }
        assert_eq!(ours, theirs, "{name}");
    }
    // Operations of upstream's that have bodies are ours too, under the same names.
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let theirs = &published["paths"][path][method]["operationId"];
            if theirs.is_string() && !operation["x-kubernetes-action"].is_null() {
                assert_eq!(&operation["operationId"], theirs, "{method} {path}");
            }
        }
    }
}

#[test]
fn patches_say_that_they_take_field_validation() {
    let document = parsed(&v3(&of_group("apps", "v1")));
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<_> = patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
}

#[test]
fn fields_are_described() {
    let document = parsed(&v3(&of_group("", "v1")));
    let schemas = &document["components"]["schemas"];
    let creation = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"]["creationTimestamp"];
    assert!(creation["description"].as_str().unwrap().starts_with("CreationTimestamp is a timestamp"), "{creation}");
    assert_eq!(creation["allOf"][0]["$ref"], "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Time");
    let policy = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["restartPolicy"];
    assert_eq!(policy["enum"], json!(["Always", "Never", "OnFailure"]));
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
}

fn foo() -> Kind {
    Kind::custom(&kinds::Custom {
        group: "stable.example.com",
        version: "v1",
        kind: "Foo",
        list_kind: "FooList",
        plural: "foos",
        singular: "foo",
        short_names: vec![],
        categories: vec![],
        namespaced: true,
        status: true,
        scale: true,
        storage_version: "v1",
    })
}

#[test]
fn custom_resources_are_published_with_their_schemas() {
    let kind = foo();
    let schema = json!({
        "type": "object", "description": "Foo for tests", "required": ["spec", "gone"],
        "properties": {
            "spec": {"type": "object", "properties": {
                "size": {"x-kubernetes-int-or-string": true},
                "either": {"type": "object", "oneOf": [{"required": ["a"]}], "properties": {"a": {"type": "string", "enum": ["x"]}}},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"b": {"type": "string"}}},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
            }},
            "gone": {"type": "string", "nullable": true},
        },
    });
    let text = schema.to_string();
    let resource = Resource { kind: &kind, schema: Some(text.as_bytes()), selectable: &[".spec.color"] };
    let old = parsed(&v2(&[resource]));
    check_references(&old, &old);
    let published = &old["definitions"]["com.example.stable.v1.Foo"];
    let spec = &published["properties"]["spec"]["properties"];
    assert_eq!(published["description"], "Foo for tests");
    assert_eq!(published["required"], json!(["spec"]));
    assert_eq!(published["properties"]["gone"], json!({}));
    assert_eq!(spec["size"], json!({"x-kubernetes-int-or-string": true}));
    assert_eq!(spec["either"], json!({"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}}));
    assert_eq!(spec["open"], json!({"x-kubernetes-preserve-unknown-fields": true}));
    assert_eq!(
        published["x-kubernetes-group-version-kind"],
        json!([{"group": "stable.example.com", "version": "v1", "kind": "Foo"}])
    );
    assert_eq!(published["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.color"}]));
    assert!(published["properties"]["apiVersion"]["description"].as_str().unwrap().starts_with("APIVersion defines"));
    assert!(old["definitions"]["com.example.stable.v1.FooList"]["properties"]["items"]["items"]["$ref"].is_string());
    let new = parsed(&v3(&[resource]));
    check_references(&new, &new);
    let published = &new["components"]["schemas"]["com.example.stable.v1.Foo"];
    let spec = &published["properties"]["spec"]["properties"];
    assert_eq!(spec["size"]["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
    assert_eq!(spec["either"]["oneOf"], json!([{"required": ["a"]}]));
    assert_eq!(spec["pod"]["required"], json!(["kind", "apiVersion"]));
    assert!(
        published["properties"]["metadata"]["description"].as_str().unwrap().starts_with("Standard object's metadata")
    );
    let paths = new["paths"].as_object().unwrap();
    assert!(paths.contains_key("/apis/stable.example.com/v1/namespaces/{namespace}/foos/{name}/scale"));
    assert!(paths.contains_key("/apis/stable.example.com/v1/namespaces/{namespace}/foos/{name}/status"));
}

#[test]
fn custom_resources_without_a_schema_are_open() {
    let kind = foo();
    let document = parsed(&v2(&[Resource::built_in(&kind)]));
    let expected = json!({"type": "object", "x-kubernetes-group-version-kind": [{"group": "stable.example.com", "version": "v1", "kind": "Foo"}]});
    assert_eq!(document["definitions"]["com.example.stable.v1.Foo"], expected);
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}});
    let text = open.to_string();
    let resource = Resource { kind: &kind, schema: Some(text.as_bytes()), selectable: &[] };
    assert_eq!(parsed(&v2(&[resource]))["definitions"]["com.example.stable.v1.Foo"], expected);
}

#[test]
fn the_index_names_each_document_with_its_hash() {
    let kind = foo();
    let (one, other) = (r#"{"type": "object"}"#, r#"{"type": "object", "properties": {}}"#);
    let with = |schema: Option<&str>| {
        let schema = schema.map(str::as_bytes);
        hash(&[Resource { kind: &kind, schema, selectable: &[] }])
    };
    assert_ne!(with(Some(one)), with(Some(other)));
    assert_eq!(with(Some(one)), with(Some(one)));
    let index = parsed(&v3_index([("apis/stable.example.com/v1", with(None))]));
    let url = index["paths"]["apis/stable.example.com/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(url, format!("/openapi/v3/apis/stable.example.com/v1?hash={}", with(None)));
}

#[test]
fn documents_are_written_in_little_time() {
    let start = std::time::Instant::now();
    let (v2, v3) = (v2(&all()), v3(&of_group("", "v1")));
    eprintln!("v2 {} bytes, core/v1 {} bytes in {:?}", v2.len(), v3.len(), start.elapsed());
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn the_old_document_has_a_binary_form() {
    let kind = foo();
    let schema = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}, "default": [1]},
        "b": {"type": "object", "additionalProperties": {"type": "integer", "maximum": 1.5}}}});
    let text = schema.to_string();
    let resource = Resource { kind: &kind, schema: Some(text.as_bytes()), selectable: &[] };
    let bytes = v2_protobuf(&[resource]);

    let has = |part: &[u8]| bytes.windows(part.len()).any(|w| w == part);
    assert!(has(b"\x0a\x032.0"));
    // Definitions: an entry's name, then its schema; the default as YAML within `Any`.
    assert!(has(b"com.example.stable.v1.FooList\x12"));
    assert!(has(b"\x2a\x05\x12\x03[1]"));
    assert!(has(b"\x0a\x1fx-kubernetes-group-version-kind\x12"));
}
