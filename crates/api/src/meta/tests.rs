//! Tests of `meta`: cases as data where there are many.

use serde_json::json;

use super::*;

#[test]
fn what_is_missing_or_of_the_wrong_type_reads_as_nothing() {
    for object in
        [json!(null), json!(3), json!([]), json!({}), json!({"metadata": 1}), json!({"metadata": {"name": 1}})]
    {
        assert_eq!(name(&object), "");
        assert_eq!(generation(&object), 0);
        assert!(labels(&object).is_none() && finalizers(&object).is_empty() && owner_references(&object).is_empty());
    }
}

#[test]
fn what_is_set_is_read_back() {
    let mut object = json!(null);
    set_name(&mut object, "a");
    set_namespace(&mut object, "b");
    set_uid(&mut object, "u");
    set_resource_version(&mut object, "7");
    set_generation(&mut object, 3);
    set_finalizers(&mut object, &["x/y"]);
    set_label(&mut object, "app", "web");
    set_annotation(&mut object, "k", "v");
    set_deletion(&mut object, Timestamp::from_second(60).unwrap(), 30);
    assert_eq!((name(&object), namespace(&object), uid(&object)), ("a", "b", "u"));
    assert_eq!((resource_version(&object), generation(&object)), ("7", 3));
    assert_eq!((finalizers(&object), label(&object, "app")), (vec!["x/y"], "web"));
    assert_eq!(deletion_timestamp(&object), Some("1970-01-01T00:01:00Z"));
    assert_eq!(deletion_grace_period_seconds(&object), Some(30));
    remove_annotation(&mut object, "k");
    assert!(annotations(&object).is_none());
    set_resource_version(&mut object, "");
    assert!(!metadata(&object).has("resourceVersion"));
}

#[test]
fn api_versions_split_into_group_and_version() {
    for (text, parts) in
        [("v1", Some(("", "v1"))), ("apps/v1", Some(("apps", "v1"))), ("a/b/c", None), ("", Some(("", "")))]
    {
        assert_eq!(split_api_version(text), parts, "{text}");
    }
    let gvk = Gvk::of(&json!({"apiVersion": "apps/v1", "kind": "Deployment"})).unwrap();
    assert_eq!(gvk.to_string(), "apps/v1, Kind=Deployment");
    assert_eq!(Gvk::of(&json!({"kind": "Pod"})), None);
}

#[test]
fn generated_names_end_in_five_letters_and_fit() {
    let mut n = 0;
    let name = generated_name("web-", || {
        n += 1;
        n
    });
    assert_eq!(name, "web-cdfgh");
    assert_eq!(generated_name(&"a".repeat(80), || 0), format!("{}bbbbb", "a".repeat(58)));
    assert_eq!(generated_name(&"é".repeat(40), || 0).len(), 58 + 5);
}

#[test]
fn times_are_written_to_the_second_or_microsecond() {
    let time: Timestamp = "2026-01-02T03:04:05.678901234Z".parse().unwrap();
    assert_eq!(rfc3339(time), "2026-01-02T03:04:05Z");
    assert_eq!(rfc3339_micro(time), "2026-01-02T03:04:05.678901Z");
    assert_eq!(rfc3339_micro("2026-01-02T03:04:05Z".parse().unwrap()), "2026-01-02T03:04:05.000000Z");
}

#[test]
fn two_values_are_the_same_if_they_decode_alike() {
    for (left, right, same) in [
        (json!({"a": 1}), json!({"a": 1, "b": null}), true),
        (json!({"a": 1}), json!({"a": 1, "b": []}), true),
        (json!({"a": 1}), json!({"a": 1, "b": ""}), true),
        (json!({"a": 1}), json!({"a": 2}), false),
        (json!({"a": [1, 2]}), json!({"a": [2, 1]}), false),
        (json!({}), json!({"b": "x"}), false),
        (json!(null), json!({}), true),
    ] {
        assert_eq!(View::new(&left).same(View::new(&right)), same, "{left} {right}");
        assert_eq!(View::new(&right).same(View::new(&left)), same, "{right} {left}");
    }
}
