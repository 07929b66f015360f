//! Ownership, conflicts, merging and removal, as the documentation of server-side apply and structured-merge-diff has them.

use serde_json::{Value, json};

use super::compare::Comparison;
use super::element::{Element, Parsed};
use super::entries::{self, Entry, Operation};
use super::form::Form;
use super::set::Set;
use super::{ApplyError, LAST_APPLIED, Versions, Writer, created, fields, merge, reset, scale, update};
use crate::crd::Structural;
use crate::kinds;
use crate::schema::Type;

const NOW: &str = "2026-01-02T03:04:05Z";
const LATER: &str = "2026-01-02T03:04:06Z";

fn typed(name: &str) -> Form<'static> {
    Form::Type(Type::named(name).expect(name))
}

fn deployment() -> Form<'static> {
    typed("io.k8s.api.apps.v1.Deployment")
}

fn pod() -> Form<'static> {
    typed("io.k8s.api.core.v1.Pod")
}

fn set(fields: Value) -> Set {
    Set::parse(&fields).unwrap()
}

fn shown(set: &Set) -> Value {
    let mut out = Vec::new();
    set.write(&mut out);
    serde_json::from_slice(&out).unwrap()
}

/// A custom resource with a list of each type.
fn lists() -> Structural {
    let item = json!({"type": "object", "properties": {
        "name": {"type": "string"}, "port": {"type": "integer", "default": 80}, "text": {"type": "string"}}});
    let list = |kind: &str, keys: Value, items: &Value| {
        let mut list = json!({"type": "array", "x-kubernetes-list-type": kind, "items": items});
        if !keys.is_null() {
            list["x-kubernetes-list-map-keys"] = keys;
        }
        list
    };
    Structural::of_checked(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "set": list("set", Value::Null, &json!({"type": "string"})),
        "map": list("map", json!(["name", "port"]), &item),
        "atomic": list("atomic", Value::Null, &json!({"type": "string"})),
        "plain": {"type": "array", "items": {"type": "string"}},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
            "a": {"type": "integer"}, "b": {"type": "integer"}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "either": {"x-kubernetes-int-or-string": true},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"a": {"type": "string"}}}
    }}}}))
}

#[test]
fn elements_are_read_and_shown() {
    let cases = [
        ("f:name", "f:name", ".name"),
        ("f:app.kubernetes.io/name", "f:app.kubernetes.io/name", ".app.kubernetes.io/name"),
        (
            r#"k:{"protocol":"TCP","containerPort":80}"#,
            r#"k:{"containerPort":80,"protocol":"TCP"}"#,
            r#"[containerPort=80,protocol="TCP"]"#,
        ),
        (r#"v:"a""#, r#"v:"a""#, r#"[="a"]"#),
        ("v:1.0", "v:1", "[=1]"),
        ("v:true", "v:true", "[=true]"),
        ("i:3", "i:3", "[3]"),
    ];
    for (text, kept, path) in cases {
        let Parsed::Element(element) = Element::parse(text).unwrap() else { panic!("{text}") };
        assert_eq!((element.text(), element.to_string().as_str()), (kept, path));
    }
    assert_eq!(Element::parse("z:1"), Ok(Parsed::Unknown));
    for wrong in ["", "f", "name", "k:[1]", "v:{", "i:x"] {
        assert!(Element::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn sets_keep_their_form() {
    let cases = [
        (json!({}), 0),
        (json!({"f:a": {}}), 1),
        (json!({"f:a": {".": {}, "f:b": {}}}), 2),
        (json!({"f:a": {"f:b": {"k:{\"name\":\"x\"}": {".": {}, "f:c": {}}}}}), 2),
    ];
    for (fields, members) in cases {
        let set = set(fields.clone());
        assert_eq!((shown(&set), set.len()), (fields, members));
    }
    // A future kind of element is left out, and what no longer says anything with it.
    assert_eq!(shown(&set(json!({"f:a": {}, "z:b": {"f:c": {}}}))), json!({"f:a": {}}));
    assert!(Set::parse(&json!({"a": {}})).is_err());
    assert!(Set::parse(&json!([])).is_err());
}

#[test]
fn sets_are_combined() {
    let a = set(json!({"f:a": {".": {}, "f:x": {}, "f:y": {}}, "f:b": {}}));
    let b = set(json!({"f:a": {"f:x": {}, "f:z": {}}, "f:c": {}}));
    assert_eq!(shown(&a.union(&b)), json!({"f:a": {".": {}, "f:x": {}, "f:y": {}, "f:z": {}}, "f:b": {}, "f:c": {}}));
    assert_eq!(shown(&a.intersection(&b)), json!({"f:a": {"f:x": {}}}));
    assert_eq!(shown(&a.difference(&b)), json!({"f:a": {".": {}, "f:y": {}}, "f:b": {}}));
    // A parent takes its children only where the difference is recursive.
    let parent = set(json!({"f:a": {}}));
    assert_eq!(shown(&a.difference(&parent)), json!({"f:a": {"f:x": {}, "f:y": {}}, "f:b": {}}));
    assert_eq!(shown(&a.recursive_difference(&parent)), json!({"f:b": {}}));
    assert_eq!(shown(&parent.recursive_difference(&a)), json!({}));
}

#[test]
fn objects_mention_leaves_and_items() {
    let lists = lists();
    let cases = [
        (
            deployment(),
            json!({"spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}}}}),
            json!({"f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {"f:metadata": {"f:labels": {"f:a": {}}}}}}),
        ),
        (
            pod(),
            json!({"spec": {"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 80}], "resources": {}}],
                "nodeSelector": {"k": "v"}, "volumes": []}}),
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}},
                "f:nodeSelector": {}}}),
        ),
        (
            Form::resource(&lists),
            json!({"spec": {"set": ["b", "a"], "map": [{"name": "x", "text": "t"}], "atomic": ["a"], "plain": ["b"],
                "whole": {"a": 1}, "labels": {"k": "v"}, "either": 1, "free": {"x": {"y": [1]}},
                "pod": {"kind": "P", "metadata": {"labels": {"l": "m"}}}}}),
            json!({"f:spec": {"f:set": {"v:\"a\"": {}, "v:\"b\"": {}},
                "f:map": {"k:{\"name\":\"x\",\"port\":80}": {".": {}, "f:name": {}, "f:text": {}}},
                "f:atomic": {}, "f:plain": {}, "f:whole": {}, "f:labels": {"f:k": {}}, "f:either": {},
                "f:free": {"f:x": {".": {}, "f:y": {}}},
                "f:pod": {"f:kind": {}, "f:metadata": {"f:labels": {"f:l": {}}}}}}),
        ),
    ];
    for (form, object, expected) in cases {
        assert_eq!(shown(&fields::of(form, &object)), expected);
    }
}

#[test]
fn differences_are_told() {
    let lists = lists();
    let custom = Form::resource(&lists);
    let spec = |value: Value| json!({"spec": value});
    let cases = [
        // left, right, removed, modified, added
        (
            spec(json!({})),
            spec(json!({"set": ["a"]})),
            json!({}),
            json!({}),
            json!({"f:set": {".": {}, "v:\"a\"": {}}}),
        ),
        (spec(json!({"set": ["a", "b"]})), spec(json!({"set": ["b", "a"]})), json!({}), json!({}), json!({})),
        (
            spec(json!({"set": ["a"]})),
            spec(json!({"set": ["b"]})),
            json!({"f:set": {"v:\"a\"": {}}}),
            json!({}),
            json!({"f:set": {"v:\"b\"": {}}}),
        ),
        (spec(json!({"atomic": ["a"]})), spec(json!({"atomic": ["b"]})), json!({}), json!({"f:atomic": {}}), json!({})),
        (
            spec(json!({"whole": {"a": 1}})),
            spec(json!({"whole": {"a": 1, "b": 2}})),
            json!({}),
            json!({"f:whole": {}}),
            json!({}),
        ),
        (
            spec(json!({"map": [{"name": "x", "text": "t"}]})),
            spec(json!({"map": [{"name": "x", "port": 80, "text": "u"}]})),
            json!({}),
            json!({"f:map": {"k:{\"name\":\"x\",\"port\":80}": {"f:text": {}}}}),
            json!({"f:map": {"k:{\"name\":\"x\",\"port\":80}": {"f:port": {}}}}),
        ),
        (spec(json!({"either": 1})), spec(json!({"either": "1"})), json!({}), json!({"f:either": {}}), json!({})),
        (
            spec(json!({"free": 1})),
            spec(json!({"free": {"a": 1}})),
            json!({}),
            json!({}),
            json!({"f:free": {"f:a": {}}}),
        ),
        // What comes twice is one value, before and after.
        (
            spec(json!({"set": ["a", "a"]})),
            spec(json!({"set": ["a"]})),
            json!({"f:set": {"v:\"a\"": {}}}),
            json!({}),
            json!({"f:set": {"v:\"a\"": {}}}),
        ),
        // Empty and absent differ.
        (spec(json!({})), spec(json!({"labels": {}})), json!({}), json!({}), json!({"f:labels": {}})),
        (
            spec(json!({"labels": {}})),
            spec(json!({"labels": {"a": "b"}})),
            json!({}),
            json!({}),
            json!({"f:labels": {"f:a": {}}}),
        ),
    ];
    for (left, right, removed, modified, added) in cases {
        let compared = Comparison::of(custom, &left, &right);
        let own = |set: &Set| shown(set).get("f:spec").cloned().unwrap_or(json!({}));
        assert_eq!(own(&compared.removed), removed, "removed, {left} {right}");
        assert_eq!(own(&compared.modified), modified, "modified, {left} {right}");
        assert_eq!(own(&compared.added), added, "added, {left} {right}");
    }
}

#[test]
fn what_is_always_printed_is_nobodys_gain() {
    // `resources` is there whether it is sent or not, so that setting a limit takes it from nobody.
    let container = |resources: Value| json!({"spec": {"containers": [{"name": "a", "resources": resources}]}});
    let left = json!({"spec": {"containers": [{"name": "a"}]}});
    assert!(Comparison::of(pod(), &left, &container(json!({}))).is_empty());
    let compared = Comparison::of(pod(), &left, &container(json!({"limits": {"cpu": "1"}})));
    assert_eq!(
        shown(&compared.added),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:resources": {"f:limits": {".": {}, "f:cpu": {}}}}}}})
    );
}

#[test]
fn lists_are_merged_in_the_order_of_who_says_anything() {
    let lists = lists();
    let cases: [(&[&str], &[&str], &[&str]); 7] = [
        (&["a", "b", "c"], &[], &["a", "b", "c"]),
        (&["a", "b", "c"], &["b"], &["a", "b", "c"]),
        (&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]),
        (&["a", "b"], &["d", "a"], &["d", "a", "b"]),
        (&[], &["a"], &["a"]),
        (&["a", "b", "c", "d"], &["d", "b"], &["a", "c", "d", "b"]),
        (&["a"], &["b", "c"], &["a", "b", "c"]),
    ];
    for (object, config, expected) in cases {
        let of = |items: &[&str]| json!({"spec": {"set": items}});
        let merged = merge::merge(Form::resource(&lists), &of(object), &of(config));
        let merged: Vec<&str> =
            merged["spec"]["set"].as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect();
        let mut sorted = (merged.clone(), expected.to_vec());
        sorted.0.sort_unstable();
        sorted.1.sort_unstable();
        assert_eq!(sorted.0, sorted.1, "{object:?} {config:?}");
        // The configuration's items stand in its order.
        let own: Vec<&str> = merged.iter().copied().filter(|item| config.contains(item)).collect();
        assert_eq!(own, config, "{object:?} {merged:?}");
    }
}

#[test]
fn configurations_are_checked() {
    let lists = lists();
    let custom = Form::resource(&lists);
    let spec = |value: Value| json!({"spec": value});
    let cases = [
        (custom, json!({"spec": {}, "other": 1}), ".other: field not declared in schema"),
        (custom, json!({"metadata": {"unknownMeta": 1}}), ".metadata.unknownMeta: field not declared in schema"),
        (custom, spec(json!({"pod": {"metadata": {"x": 1}}})), ".spec.pod.metadata.x: field not declared in schema"),
        (custom, spec(json!({"set": ["a", "a"]})), ".spec.set: duplicate entries for key [=\"a\"]"),
        (
            custom,
            spec(json!({"set": [{}]})),
            ".spec.set: element 0: associative list without keys has an element that's a map type",
        ),
        (
            custom,
            spec(json!({"map": [1]})),
            ".spec.map: element 0: associative list with keys may not have non-map elements",
        ),
        (custom, spec(json!({"atomic": "a"})), ".spec.atomic: expected list, got &{a}"),
        (
            custom,
            spec(json!({"labels": {"a": 1}})),
            ".spec.labels.a: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (deployment(), spec(json!({"replicas": "3"})), ".spec.replicas: expected numeric (int or float), got string"),
        (pod(), spec(json!({"containers": {}})), ".spec.containers: expected list, got &{map[]}"),
        (
            pod(),
            spec(
                json!({"containers": [{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]}]}),
            ),
            ".spec.containers[name=\"a\"].ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]",
        ),
    ];
    for (form, config, expected) in cases {
        assert_eq!(super::check::config(form, &config), Err(expected.to_owned()), "{config}");
    }
    let fine = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 1}}, "ports": [
            {"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]}]}});
    assert_eq!(super::check::config(pod(), &fine), Ok(()));
    // Of an object that is there, items that come twice are let pass.
    assert_eq!(super::check::object(custom, &spec(json!({"set": ["a", "a"]}))), Ok(()));
}

/// One version, no conversion.
struct One<'s> {
    form: Form<'s>,
    version: &'static str,
    reset: Set,
}

impl<'s> One<'s> {
    fn new(form: Form<'s>, version: &'static str) -> Self {
        Self { form, version, reset: Set::default() }
    }

    fn check<T>(&self, run: impl FnOnce(&Versions<'_>) -> T) -> T {
        run(&Versions {
            served: vec![(self.version.to_owned(), self.form)],
            convert: &|object, _| object.clone(),
            reset: &self.reset,
        })
    }

    fn writer<'w>(&'w self, manager: &'w str, now: &'w str) -> Writer<'w> {
        Writer { manager, api_version: self.version, subresource: "", now }
    }

    fn apply(
        &self,
        live: &Value,
        managed: &[Entry],
        manager: &str,
        config: Value,
        force: bool,
    ) -> Result<(Value, Vec<Entry>), ApplyError> {
        let config = self.complete(config);
        let applied = self.check(|versions| {
            super::apply(versions, live, &config, managed.to_vec(), &self.writer(manager, NOW), force)
        })?;
        let mut object = applied.object;
        object["metadata"]["uid"] = json!("u");
        Ok((object, applied.entries))
    }

    fn update(&self, live: &Value, managed: &[Entry], manager: &str, new: &Value) -> Vec<Entry> {
        self.check(|versions| update(versions, live, new, managed.to_vec(), &self.writer(manager, LATER)))
    }

    fn complete(&self, mut object: Value) -> Value {
        object["apiVersion"] = json!(self.version);
        object["kind"] = json!("Kind");
        object["metadata"]["name"] = json!("a");
        object
    }
}

/// What each manager owns.
fn owned(entries: &[Entry]) -> Value {
    let of = |entry: &Entry| {
        let key = format!("{} {}", entry.manager, entry.operation.as_str());
        (key, shown(&entry.fields))
    };
    entries.iter().map(of).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn a_creation_is_written_as_an_update_of_nothing_would_be() {
    let lists = lists();
    let cases = [
        (
            "v1",
            typed("io.k8s.api.core.v1.ConfigMap"),
            json!({"metadata": {"name": "a", "labels": {"x": "y\"z"}}, "data": {"a": "b", "c": ""}}),
        ),
        ("v1", typed("io.k8s.api.core.v1.ConfigMap"), json!({"metadata": {"name": "a"}})),
        (
            "v1",
            typed("io.k8s.api.core.v1.Namespace"),
            json!({"metadata": {"name": "a", "finalizers": ["x", "b"]}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
        ),
        (
            "apps/v1",
            deployment(),
            json!({"metadata": {"name": "a", "ownerReferences": [{"uid": "1", "name": "n"}]}, "spec": {"replicas": 0,
            "selector": {"matchLabels": {"a": "b"}}, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"securityContext": {}, "containers": [
                {"name": "b", "image": "i", "env": [{"name": "E", "value": "1"}, {"name": "E", "value": "2"}]},
                {"name": "a", "ports": [{"containerPort": 80, "protocol": "UDP"}, {"containerPort": 80, "protocol": "TCP"}]}]}}}}),
        ),
        (
            "v1",
            typed("io.k8s.api.core.v1.Event"),
            json!({"metadata": {"name": "a"}, "involvedObject": {"kind": "Pod"}, "reason": "R", "count": 1, "source": {"component": "c"}}),
        ),
        (
            "g/v1",
            Form::resource(&lists),
            json!({"metadata": {"name": "a", "annotations": {}}, "spec": {"set": ["b", "a"], "free": {"x": [{}], "n": null},
            "map": [{"name": "x"}], "labels": {}, "whole": {}}}),
        ),
        ("g/v1", Form::Deduced, json!({"metadata": {"name": "a"}, "x": 1, "y": {"z": []}})),
    ];
    for (version, form, object) in cases {
        for names in [&[][..], &[&["status"][..]], &[&["spec"][..], &["status"]]] {
            let one = One { form, version, reset: Set::of_names(names) };
            let mut object = one.complete(object.clone());
            object["metadata"]["uid"] = json!("u");
            let bytes = created(form, &object, &one.reset, &one.writer("m", LATER));
            let entries = one.update(&Value::Null, &[], "m", &object);
            assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&entries::write(&entries)), "{object}");
            if bytes.is_empty() {
                continue;
            }
            let parsed = entries::parse(&serde_json::from_slice(&bytes).unwrap()).unwrap();
            assert_eq!(parsed, entries);
        }
    }
}

#[test]
fn a_creation_names_what_upstream_names() {
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n", "labels": {"run": "a"}},
        "spec": {"containers": [{"name": "a", "image": "i"}], "restartPolicy": "Always", "securityContext": {}}});
    let writer = Writer { manager: "kubectl-run", api_version: "v1", subresource: "", now: NOW };
    let bytes = created(pod(), &object, &Set::of_names(&[&["status"]]), &writer);
    let expected = concat!(
        r#"[{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:run":{}}},"#,
        r#""f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{},"f:resources":{}}},"#,
        r#""f:restartPolicy":{},"f:securityContext":{}}},"manager":"kubectl-run","operation":"Update","time":"2026-01-02T03:04:05Z"}]"#
    );
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

#[test]
fn applying_adds_changes_and_takes_away() {
    let lists = lists();
    let one = One::new(Form::resource(&lists), "g/v1");
    let spec = |value: Value| json!({"spec": value});
    let first =
        spec(json!({"set": ["a", "b"], "labels": {"k": "v"}, "map": [{"name": "x", "text": "t"}], "atomic": ["q"]}));
    let (object, entries) = one.apply(&Value::Null, &[], "m", first, false).unwrap();
    assert_eq!(object["spec"]["set"], json!(["a", "b"]));
    assert_eq!(entries[0].time.as_deref(), Some(NOW));
    assert_eq!((entries[0].operation, entries.len()), (Operation::Apply, 1));

    let (object, entries) =
        one.apply(&object, &entries, "m", spec(json!({"set": ["b", "c"], "map": [{"name": "x"}]})), false).unwrap();
    assert_eq!(object["spec"], json!({"set": ["b", "c"], "map": [{"name": "x"}]}));
    assert_eq!(
        owned(&entries),
        json!({"m Apply": {"f:spec": {"f:set": {"v:\"b\"": {}, "v:\"c\"": {}},
            "f:map": {"k:{\"name\":\"x\",\"port\":80}": {".": {}, "f:name": {}}}}}})
    );

    // Nothing is left that is applied: nothing is left that was.
    let (object, entries) = one.apply(&object, &entries, "m", json!({}), false).unwrap();
    assert_eq!(object.get("spec").filter(|spec| !spec.is_null()), None);
    assert!(entries.is_empty());
}

#[test]
fn what_others_own_stays_when_one_stops_applying_it() {
    let lists = lists();
    let one = One::new(Form::resource(&lists), "g/v1");
    let spec = |value: Value| json!({"spec": value});
    let both = || spec(json!({"set": ["a"], "labels": {"k": "v"}}));
    let (object, entries) = one.apply(&Value::Null, &[], "m", both(), false).unwrap();
    let (object, entries) = one.apply(&object, &entries, "n", spec(json!({"set": ["a"]})), false).unwrap();
    // Who applies what is there already owns it too, from a time that nobody recorded.
    assert_eq!(entries.iter().find(|entry| entry.manager == "n").unwrap().time, None);
    let (object, entries) = one.apply(&object, &entries, "m", json!({}), false).unwrap();
    assert_eq!(object["spec"], json!({"set": ["a"]}));
    assert_eq!(owned(&entries), json!({"n Apply": {"f:spec": {"f:set": {"v:\"a\"": {}}}}}));

    // An item goes with whoever owns the item itself, whatever others own within it.
    let (object, entries) = one.apply(&Value::Null, &[], "m", spec(json!({"map": [{"name": "x"}]})), false).unwrap();
    let mut new = object.clone();
    new["spec"]["map"][0]["text"] = json!("t");
    let entries = one.update(&object, &entries, "u", &new);
    assert_eq!(owned(&entries)["u Update"]["f:spec"]["f:map"]["k:{\"name\":\"x\",\"port\":80}"], json!({"f:text": {}}));
    let (object, entries) = one.apply(&new, &entries, "m", json!({}), false).unwrap();
    assert_eq!(object["spec"]["map"], Value::Null);
    assert!(entries.is_empty());
}

#[test]
fn who_changes_what_another_owns_is_told_or_takes_it() {
    let one = One::new(deployment(), "apps/v1");
    let spec = |replicas: i64| json!({"spec": {"replicas": replicas}});
    let (object, entries) = one.apply(&Value::Null, &[], "m", spec(1), false).unwrap();
    let error = one.apply(&object, &entries, "n", spec(2), false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"m\": .spec.replicas");
    let ApplyError::Conflicts(conflicts) = error else { panic!() };
    assert_eq!((conflicts[0].field(), conflicts[0].owner.shown()), (".spec.replicas".into(), "\"m\"".into()));

    let (object, entries) = one.apply(&object, &entries, "n", spec(2), true).unwrap();
    assert_eq!(owned(&entries), json!({"n Apply": {"f:spec": {"f:replicas": {}}}}));
    // An update takes without asking, and applying it again is a conflict with the update.
    let mut new = object.clone();
    new["spec"]["replicas"] = json!(3);
    new["spec"]["paused"] = json!(true);
    let entries = one.update(&object, &entries, "kubectl-edit", &new);
    assert_eq!(owned(&entries), json!({"kubectl-edit Update": {"f:spec": {"f:paused": {}, "f:replicas": {}}}}));
    let config = json!({"spec": {"replicas": 4, "paused": false}});
    let error = one.apply(&new, &entries, "n", config, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-edit\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let one = One::new(deployment(), "apps/v1");
    let config = json!({"spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}}});
    let (object, entries) = one.apply(&Value::Null, &[], "m", config.clone(), false).unwrap();
    let config = one.complete(config);
    let again = one.check(|versions| {
        super::apply(versions, &object, &config, entries.clone(), &one.writer("m", LATER), false).unwrap()
    });
    assert_eq!(again.entries, entries);
    assert_eq!(again.entries[0].time.as_deref(), Some(NOW));
    assert!(super::same(&again.object, &object));
}

#[test]
fn what_was_there_before_belongs_to_a_manager_of_its_own() {
    let one = One::new(deployment(), "apps/v1");
    let live = one.complete(json!({"metadata": {"uid": "u"}, "spec": {"replicas": 1, "paused": true}}));
    // What is not tracked stays so under updates.
    assert!(one.update(&live, &[], "u", &one.complete(json!({"metadata": {"uid": "u"}}))).is_empty());
    let (_, entries) = one.apply(&live, &[], "m", json!({"spec": {"replicas": 1}}), false).unwrap();
    assert_eq!(
        owned(&entries),
        json!({"m Apply": {"f:spec": {"f:replicas": {}}},
            "before-first-apply Update": {"f:spec": {"f:paused": {}, "f:replicas": {}}}})
    );
}

#[test]
fn kubectl_takes_over_what_it_applied_by_itself() {
    let one = One::new(deployment(), "apps/v1");
    let last = one.complete(json!({"spec": {"replicas": 1, "paused": true}}));
    let mut live = last.clone();
    live["metadata"]["uid"] = json!("u");
    live["metadata"]["annotations"] = json!({LAST_APPLIED: last.to_string()});
    let entries = one.update(&Value::Null, &[], "kubectl-client-side-apply", &live);
    let config = json!({"spec": {"replicas": 2, "paused": true}});
    assert!(one.apply(&live, &entries, "other", config.clone(), false).is_err());
    let (object, entries) = one.apply(&live, &entries, "kubectl", config, false).unwrap();
    assert_eq!(object["spec"]["replicas"], 2);
    let kept: Value = serde_json::from_str(crate::meta::annotation(&object, LAST_APPLIED)).unwrap();
    assert_eq!(kept["spec"]["replicas"], 2);
    assert!(owned(&entries)["kubectl Apply"]["f:spec"]["f:replicas"].is_object());
    // What somebody changed since is no longer client-side applying's to give.
    let mut new = object.clone();
    new["spec"]["replicas"] = json!(7);
    let entries = one.update(&object, &entries, "hpa", &new);
    let error = one.apply(&new, &entries, "kubectl", json!({"spec": {"replicas": 2}}), false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"hpa\" using apps/v1: .spec.replicas");
}

#[test]
fn updates_keep_ten_managers() {
    let one = One::new(typed("io.k8s.api.core.v1.ConfigMap"), "v1");
    let mut object = one.complete(json!({"data": {"k": "v"}}));
    let mut entries = one.update(&Value::Null, &[], "m00", &object);
    object["metadata"]["uid"] = json!("u");
    for i in 1..14 {
        let mut new = object.clone();
        new["data"][format!("k{i}")] = json!("v");
        entries = one.update(&object, &entries, &format!("m{i:02}"), &new);
        object = new;
    }
    assert_eq!(entries.len(), 10);
    let ancient = entries.iter().find(|entry| entry.manager == "ancient-changes").unwrap();
    // Data itself, and the five oldest of fourteen.
    assert_eq!(ancient.fields.len(), 6);
    let owned: usize = entries.iter().map(|entry| entry.fields.len()).sum();
    assert_eq!(owned, 15);
}

#[test]
fn entries_of_versions_that_are_gone_are_dropped() {
    let one = One::new(deployment(), "apps/v1");
    let object = one.complete(json!({"metadata": {"uid": "u"}, "spec": {"replicas": 1}}));
    let old = Entry {
        manager: "old".into(),
        operation: Operation::Update,
        api_version: "extensions/v1beta1".into(),
        subresource: String::new(),
        time: None,
        fields: set(json!({"f:spec": {"f:replicas": {}}})),
    };
    let mut new = object.clone();
    new["spec"]["paused"] = json!(true);
    assert_eq!(owned(&one.update(&object, &[old], "m", &new)), json!({"m Update": {"f:spec": {"f:paused": {}}}}));
}

#[test]
fn fields_follow_a_schema_that_becomes_atomic() {
    let granular = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "m": {"type": "object", "additionalProperties": {"type": "string"}}}}}});
    let mut atomic = granular.clone();
    atomic["properties"]["spec"]["properties"]["m"]["x-kubernetes-map-type"] = json!("atomic");
    let (granular, atomic) = (Structural::of_checked(&granular), Structural::of_checked(&atomic));
    let before = One::new(Form::resource(&granular), "g/v1");
    let (object, entries) = before.apply(&Value::Null, &[], "m", json!({"spec": {"m": {"a": "1"}}}), false).unwrap();
    assert_eq!(owned(&entries), json!({"m Apply": {"f:spec": {"f:m": {"f:a": {}}}}}));
    let after = One::new(Form::resource(&atomic), "g/v1");
    let error = after.apply(&object, &entries, "n", json!({"spec": {"m": {"b": "1"}}}), false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"m\": .spec.m");
}

#[test]
fn versions_are_compared_each_in_its_own() {
    let schema = |field: &str| {
        let spec = json!({"type": "object", "properties": {field: {"type": "integer"}, "other": {"type": "string"}}});
        Structural::of_checked(&json!({"type": "object", "properties": {"spec": spec}}))
    };
    let (one, two) = (schema("size"), schema("replicas"));
    let convert = |object: &Value, to: &str| {
        let mut object = object.clone();
        let (from, into) = if to == "g/v2" { ("size", "replicas") } else { ("replicas", "size") };
        if let Some(value) = object["spec"].as_object_mut().and_then(|spec| spec.remove(from)) {
            object["spec"][into] = value;
        }
        object["apiVersion"] = json!(to);
        object
    };
    let reset = Set::default();
    let versions = Versions {
        served: vec![("g/v1".into(), Form::resource(&one)), ("g/v2".into(), Form::resource(&two))],
        convert: &convert,
        reset: &reset,
    };
    let apply = |live: &Value, managed: Vec<Entry>, manager: &str, version: &str, spec: Value, force: bool| {
        let config = json!({"apiVersion": version, "kind": "K", "metadata": {"name": "a"}, "spec": spec});
        let writer = Writer { manager, api_version: version, subresource: "", now: NOW };
        super::apply(&versions, live, &config, managed, &writer, force)
    };
    let first = apply(&Value::Null, Vec::new(), "m", "g/v1", json!({"size": 1, "other": "x"}), false).unwrap();
    let live = convert(&first.object, "g/v2");
    let error = apply(&live, first.entries.clone(), "n", "g/v2", json!({"replicas": 2}), false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"m\": .spec.size");
    // The same manager in another version: what it applied in the old one and not now goes.
    let next = apply(&live, first.entries, "m", "g/v2", json!({"replicas": 3}), false).unwrap();
    assert_eq!(next.object["spec"], json!({"replicas": 3}));
    assert_eq!((next.entries.len(), next.entries[0].api_version.as_str()), (1, "g/v2"));
}

#[test]
fn entries_are_read_as_upstream_reads_them() {
    let entry = |changes: Value| {
        let mut entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}});
        entry.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!([entry])
    };
    let cases = [
        (entry(json!({"operation": "Other"})), "operation must be `Apply` or `Update`"),
        (entry(json!({"apiVersion": ""})), "apiVersion must not be empty"),
        (entry(json!({"fieldsType": ""})), "missing fieldsType in managed fields entry 0"),
        (entry(json!({"fieldsType": "V2"})), "invalid fieldsType \"V2\" in managed fields entry 0"),
        (entry(json!({"fieldsV1": {"a": {}}})), "error decoding set"),
    ];
    for (managed, expected) in cases {
        let error = entries::parse(&managed).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    for (managed, reset) in [(json!([]), true), (json!([{}]), true), (json!([{}, {}]), false), (Value::Null, false)] {
        assert_eq!(entries::is_reset(&managed), reset, "{managed}");
    }
    assert!(!entries::is_reset(&entry(json!({}))));
}

#[test]
fn managers_are_named_by_the_first_word_of_the_agent() {
    let cases = [("kubectl/v1.37.1 (linux/amd64)", "kubectl"), ("curl", "curl"), ("", ""), ("a\u{7}b/1", "ab")];
    for (agent, name) in cases {
        assert_eq!(super::manager_of_agent(agent), name);
    }
    assert_eq!(super::manager_of_agent(&"é".repeat(100)).len(), 128);
}

#[test]
fn the_size_of_a_workload_is_owned_through_its_scale() {
    let places = [("apps/v1".to_owned(), Some(scale::place("/spec/replicas")))];
    let entry = |manager: &str, operation, version: &str, subresource: &str, fields: Value| Entry {
        manager: manager.into(),
        operation,
        api_version: version.into(),
        subresource: subresource.into(),
        time: Some(NOW.into()),
        fields: set(fields),
    };
    let size = json!({"f:spec": {"f:replicas": {}}});
    let workload = [
        entry("m", Operation::Apply, "apps/v1", "", json!({"f:spec": {"f:paused": {}, "f:replicas": {}}})),
        entry("other", Operation::Update, "apps/v1", "", json!({"f:spec": {"f:paused": {}}})),
    ];
    let seen = scale::to_scale(&workload, &places);
    assert_eq!(seen, [entry("m", Operation::Apply, scale::VERSION, "", size.clone())]);
    // Untouched, it stays; taken by another, it moves.
    assert_eq!(scale::to_workload(&workload, seen, &places, "apps/v1"), workload);
    let taken = vec![entry("hpa", Operation::Update, scale::VERSION, "scale", size.clone())];
    assert_eq!(
        scale::to_workload(&workload, taken, &places, "apps/v1"),
        [
            entry("m", Operation::Apply, "apps/v1", "", json!({"f:spec": {"f:paused": {}}})),
            entry("hpa", Operation::Update, "apps/v1", "scale", size),
            entry("other", Operation::Update, "apps/v1", "", json!({"f:spec": {"f:paused": {}}})),
        ]
    );
}

#[test]
fn strategies_reset_what_is_not_a_writes_to_set() {
    let cases = [
        ("apps", "v1", "deployments", "", json!({"f:status": {}})),
        ("apps", "v1", "deployments", "status", json!({"f:metadata": {"f:labels": {}}, "f:spec": {}})),
        ("", "v1", "configmaps", "", json!({})),
        ("", "v1", "pods", "resize", json!({"f:status": {}})),
        ("storage.k8s.io", "v1", "volumeattachments", "status", json!({"f:metadata": {}, "f:spec": {}})),
    ];
    for (group, version, plural, sub, expected) in cases {
        let kind = kinds::find(group, version, plural).unwrap();
        assert_eq!(shown(&reset::fields(kind, sub)), expected, "{plural}/{sub}");
    }
}
