//! Tests of `schema`: cases as data where there are many.

use super::*;

#[test]
fn every_row_refers_to_rows_that_exist() {
    assert_eq!(&TABLE[..4], b"MDT1");
    let mut last = "";
    for t in Type::all() {
        assert!(t.name() > last || last.is_empty(), "{t:?} is out of order");
        last = t.name();
        assert_eq!(Type::named(t.name()), Some(t));
        assert!(t.kinds().count() < 200);
        for field in t.fields() {
            assert_eq!(field.name().is_empty(), field.inline(), "{t:?} {field:?}");
            let mut shape = field.shape();
            while let Some(elem) = shape.elem() {
                shape = elem;
            }
            if let Some(reference) = shape.reference() {
                assert!(!reference.name().is_empty());
            }
            for key in field.map_keys() {
                let item = field.shape().elem().and_then(Shape::reference);
                assert!(item.is_some_and(|i| i.field(key).is_some()), "{t:?} {field:?} has no key {key}");
            }
            if !field.default().is_empty() {
                serde_json::from_str::<serde_json::Value>(field.default()).unwrap();
            }
        }
    }
}

#[test]
fn protobuf_numbers_are_distinct_within_a_type() {
    for t in Type::all() {
        let mut seen = std::collections::HashSet::new();
        for field in t.fields().filter(|f| f.number() != 0) {
            assert!(seen.insert(field.number()), "{t:?} {field:?}");
        }
    }
}

#[test]
fn a_pod_is_what_upstream_says() {
    let spec = Type::named("io.k8s.api.core.v1.PodSpec").unwrap();
    let containers = spec.field("containers").unwrap();
    assert_eq!((containers.number(), containers.merge_key(), containers.list_type()), (2, "name", ListType::Map));
    assert!(containers.required() && containers.patch_strategy().merge && !containers.patch_strategy().retain_keys);
    assert_eq!(containers.shape().go_name(), "[]v1.Container");
    assert!(spec.field("volumes").unwrap().patch_strategy().retain_keys);
    let volume = Type::named("io.k8s.api.core.v1.Volume").unwrap();
    let (path, field) = volume.field_path("emptyDir").unwrap();
    assert_eq!((path, field.number(), field.shape().pointer()), (vec!["VolumeSource"], 2, true));
    let policies: Vec<_> = spec.field("restartPolicy").unwrap().enumeration().collect();
    assert_eq!(policies, ["Always", "Never", "OnFailure"]);
    let port = Type::named("io.k8s.api.core.v1.ServiceSpec").unwrap().field("ports").unwrap();
    assert_eq!(port.map_keys().collect::<Vec<_>>(), ["port", "protocol"]);
}

#[test]
fn types_are_found_by_group_version_and_kind() {
    let cases = [
        ("", "v1", "Pod", "io.k8s.api.core.v1.Pod"),
        ("rbac.authorization.k8s.io", "v1", "Role", "io.k8s.api.rbac.v1.Role"),
        ("apps", "v1", "DeleteOptions", "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"),
        (
            "meta.k8s.io",
            "v1",
            "PartialObjectMetadataList",
            "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
        ),
        ("meta.k8s.io", "v1", "Table", "io.k8s.apimachinery.pkg.apis.meta.v1.Table"),
        ("admission.k8s.io", "v1", "AdmissionReview", "io.k8s.api.admission.v1.AdmissionReview"),
        ("", "v1", "PodExecOptions", "io.k8s.api.core.v1.PodExecOptions"),
        (
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        ),
    ];
    for (group, version, kind, name) in cases {
        assert_eq!(Type::of_kind(group, version, kind).map(Type::name), Some(name));
    }
    assert_eq!(Type::of_kind("apps", "v1", "Pod"), None);
    assert_eq!(Type::of_kind("", "v1", ""), None);
}
