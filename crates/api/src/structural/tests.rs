//! Tests of `structural`: cases as data where there are many.

use serde_json::json;

use super::*;

fn of(name: &str) -> Type {
    Type::named(&format!("io.k8s.api.{name}")).unwrap()
}

fn pod(spec: Value) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": spec})
}

#[track_caller]
fn refused(name: &str, mut value: Value, expected: &str) {
    assert_eq!(check(of(name), &mut value, UnknownFields::Ignore), Err(expected.to_owned()));
}

#[test]
fn wrong_types_are_named_as_go_names_them() {
    let cases = [
        (
            json!({"containers": "x"}),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            json!({"hostNetwork": "yes"}),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            json!({"containers": [{"name": 1}]}),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string",
        ),
        (
            json!({"containers": [true]}),
            "json: cannot unmarshal bool into Go struct field PodSpec.spec.containers of type v1.Container",
        ),
        (
            json!({"terminationGracePeriodSeconds": 1.5}),
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64",
        ),
        (
            json!({"priority": 3_000_000_000u32}),
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            json!({"volumes": [{"emptyDir": 3}]}),
            "json: cannot unmarshal number into Go struct field Volume.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource",
        ),
        (
            json!({"nodeSelector": {"a": []}}),
            "json: cannot unmarshal array into Go struct field PodSpec.spec.nodeSelector of type string",
        ),
        (
            json!({"restartPolicy": {}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
    ];
    for (spec, expected) in cases {
        refused("core.v1.Pod", pod(spec), expected);
    }
    refused("core.v1.Pod", json!([]), "json: cannot unmarshal array into Go value of type v1.Pod");
    refused(
        "core.v1.Pod",
        pod(json!("x")),
        "json: cannot unmarshal string into Go struct field Pod.spec of type v1.PodSpec",
    );
    refused(
        "core.v1.Pod",
        json!({"kind": 1}),
        "json: cannot unmarshal number into Go struct field Pod.TypeMeta.kind of type string",
    );
}

#[test]
fn an_error_of_a_scalars_own_decoder_wins_over_earlier_mismatches() {
    let quantity = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    for wrong in [json!("1.5.x"), json!({}), json!([1])] {
        let spec = json!({"containers": [{"image": 1, "resources": {"limits": {"cpu": wrong}}}]});
        refused("core.v1.Pod", pod(spec), quantity);
    }
    let when = |text: Value| json!({"metadata": {"creationTimestamp": text}});
    refused(
        "core.v1.Pod",
        when(json!("yesterday")),
        "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
    );
    refused(
        "core.v1.Pod",
        when(json!("2024-13-01T00:00:00Z")),
        "parsing time \"2024-13-01T00:00:00Z\": month out of range",
    );
    refused(
        "core.v1.Pod",
        when(json!("2024-01-01T00:00:00Zx")),
        "parsing time \"2024-01-01T00:00:00Zx\": extra text: \"x\"",
    );
    refused(
        "core.v1.Pod",
        when(json!(5)),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
    );
    refused("core.v1.Secret", json!({"data": {"a": "x"}}), "illegal base64 data at input byte 0");
    refused("core.v1.Secret", json!({"data": {"a": "YW*x"}}), "illegal base64 data at input byte 2");
    refused(
        "core.v1.Service",
        json!({"spec": {"ports": [{"targetPort": true}]}}),
        "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type int32",
    );
}

#[test]
fn unknown_fields_are_dropped_and_reported_with_their_path() {
    let body = || {
        pod(json!({"containers": [{"name": "a", "foo": {"bar": 1}, "Image": "x"}], "bar": null, "securitycontext": {}}))
    };
    let clean = pod(json!({"containers": [{"name": "a"}]}));
    let mut ignored = body();
    assert_eq!(check(of("core.v1.Pod"), &mut ignored, UnknownFields::Ignore), Ok(vec![]));
    assert_eq!(ignored, clean);
    let mut warned = body();
    let warnings = check(of("core.v1.Pod"), &mut warned, UnknownFields::Warn).unwrap();
    assert_eq!(warned, clean);
    let expected = ["spec.bar", "spec.containers[0].Image", "spec.containers[0].foo", "spec.securitycontext"];
    assert_eq!(warnings, expected.map(|p| format!("unknown field \"{p}\"")));
    let strict = check(of("core.v1.Pod"), &mut body(), UnknownFields::Strict).unwrap_err();
    assert!(strict.starts_with("strict decoding error: unknown field \"spec.bar\", unknown field "), "{strict}");
}

#[test]
fn duplicate_keys_are_reported_unless_the_field_is_unknown() {
    let text =
        br#"{"metadata":{"labels":{"a":"1","a":"2"}},"foo":{"a":1,"a":2},"spec":{"containers":[],"containers":[]}}"#;
    let mut parsed = crate::json::parse(text).unwrap();
    let warnings = check_parsed(of("core.v1.Pod"), &mut parsed.value, &parsed.duplicates, UnknownFields::Warn).unwrap();
    let expected =
        [r#"unknown field "foo""#, r#"duplicate field "metadata.labels.a""#, r#"duplicate field "spec.containers""#];
    assert_eq!(warnings, expected);
}

#[test]
fn values_are_left_as_go_would_print_them() {
    let mut value = json!({
        "metadata": {"creationTimestamp": null, "labels": {}, "annotations": {"a": null}, "deletionTimestamp": "2024-02-29T23:59:59.5+02:00"},
        "spec": {
            "containers": [null, {"env": [], "command": null, "tty": false, "stdin": true, "image": "",
                "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "x": "1000m", "y": 2}}}],
            "terminationGracePeriodSeconds": 0, "hostNetwork": false,
            "volumes": [{"emptyDir": {}, "name": "v"}],
        },
        "status": {},
    });
    assert_eq!(check(of("core.v1.Pod"), &mut value, UnknownFields::Strict), Ok(vec![]));
    let expected = json!({
        "metadata": {"annotations": {"a": ""}, "deletionTimestamp": "2024-02-29T21:59:59Z"},
        "spec": {
            "containers": [{}, {"stdin": true, "resources": {"limits": {"cpu": "500m", "memory": "1Gi", "x": "1", "y": "2"}}}],
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"emptyDir": {}, "name": "v"}],
        },
    });
    assert_eq!(value, expected);
    let mut lease = json!({"spec": {"renewTime": "2024-02-29T23:59:59.123456+02:00"}});
    check(of("coordination.v1.Lease"), &mut lease, UnknownFields::Strict).unwrap();
    assert_eq!(lease["spec"]["renewTime"], "2024-02-29T21:59:59.123456Z");
    let mut secret = json!({"data": {"a": "YW\nJj", "b": [97, 98], "c": null}});
    check(of("core.v1.Secret"), &mut secret, UnknownFields::Strict).unwrap();
    assert_eq!(secret["data"], json!({"a": "YWJj", "b": "YWI=", "c": ""}));
}

#[test]
fn schemas_within_custom_resource_definitions_take_their_forms() {
    let crd = Type::of_kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    let with = |schema: Value| json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}});
    let mut good = with(json!({
        "type": "object",
        "properties": {"a": {"items": {"type": "string", "foo": 1}}, "b": {"additionalProperties": true, "default": {"x": null}}},
        "maximum": 1.5, "x-kubernetes-preserve-unknown-fields": false, "enum": [1, "a", null],
    }));
    assert_eq!(check(crd, &mut good, UnknownFields::Strict), Ok(vec![]));
    let schema = &good["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    assert_eq!(schema["properties"]["a"], json!({"items": {"type": "string"}}));
    assert_eq!(schema["properties"]["b"], json!({"additionalProperties": true, "default": {"x": null}}));
    let mut wrong = with(json!({"additionalProperties": "x"}));
    assert_eq!(check(crd, &mut wrong, UnknownFields::Strict), Err("boolean or JSON schema expected".to_owned()));
}

#[test]
fn what_is_completed_is_taken_away_again() {
    for of in Type::all() {
        let mut object = json!({});
        complete(of, &mut object);
        let completed = object.clone();
        check(of, &mut object, UnknownFields::Strict).unwrap_or_else(|e| panic!("{of:?}: {e} {completed}"));
        complete(of, &mut object);
        assert_eq!(object, completed, "{of:?}");
    }
}

#[test]
fn no_value_of_any_type_makes_it_panic() {
    let junk =
        [json!(null), json!(1.5), json!("x"), json!(true), json!([[1], {}]), json!({"a": {"b": [null]}}), json!(-1)];
    for of in Type::all() {
        for field in of.properties() {
            for value in &junk {
                let mut object = json!({ field.name(): value });
                let _ = check(of, &mut object, UnknownFields::Warn);
            }
        }
    }
}

#[test]
fn the_deepest_document_that_parses_is_checked_on_a_small_stack() {
    let crd = Type::of_kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    let depth = crate::json::MAX_DEPTH - 6;
    for (open, close) in [(r#"{"not":"#, "}"), (r#"{"items":"#, "}"), (r#"{"allOf":["#, "]}")] {
        let levels = depth * 6 / (open.matches(['{', '[']).count() * 6);
        let schema = format!("{}{{}}{}", open.repeat(levels), close.repeat(levels));
        let text = format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{schema}}}}}]}}}}"#);
        let mut value = crate::json::parse(text.as_bytes()).unwrap().value;
        let checked = std::thread::Builder::new().stack_size(1 << 20);
        let checked = checked.spawn(move || check(crd, &mut value, UnknownFields::Strict)).unwrap().join().unwrap();
        assert_eq!(checked, Ok(vec![]));
    }
}
