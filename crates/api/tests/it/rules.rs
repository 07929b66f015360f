//! Objects prepared, checked and printed as upstream's own strategies and printers do it (`cargo xtask schema` writes down
//! what those make of them).

use std::collections::BTreeSet;

use api::kinds::{self, Kind};
use api::meta::{self, View};
use api::schema::Type;
use api::structural::{self, UnknownFields};
use api::{defaults, print, strategy, validate};
use jiff::Timestamp;
use serde_json::Value;

fn kind_of(object: &Value) -> &'static Kind {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    kinds::find_kind(group, version, object["kind"].as_str().unwrap()).unwrap()
}

/// The object as it arrives.
fn read(object: &Value) -> Value {
    let kind = kind_of(object);
    let mut object = object.clone();
    let of = Type::of_kind(kind.group, kind.version, kind.kind).unwrap();
    structural::check(of, &mut object, UnknownFields::Ignore).unwrap();
    defaults::apply(kind, &mut object);
    object
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

fn created(object: &Value) -> (Value, Vec<String>) {
    let (kind, mut object) = (kind_of(object), read(object));
    meta::set_uid(&mut object, "uid");
    meta::set_creation_timestamp(&mut object, now());
    strategy::prepare_create(kind, &mut object);
    strategy::stamp(kind, &mut object, None, now());
    let errors = texts(&validate::create(kind, &object));
    (object, errors)
}

fn updated(subresource: &str, new: &Value, old: &Value) -> Vec<String> {
    let (kind, mut new, old) = (kind_of(new), read(new), read(old));
    strategy::prepare_update(kind, subresource, &mut new, &old);
    texts(&validate::update(kind, subresource, &new, &old))
}

fn texts(errors: &[validate::FieldError]) -> Vec<String> {
    errors.iter().map(|error| plain(&error.to_string())).collect()
}

/// An error without a value that is no text or number: upstream shows such as it holds them in memory. Of several lines the
/// first one only: the others show differences in a form of upstream's own.
fn plain(error: &str) -> String {
    let error = error.lines().next().unwrap_or("");
    for words in ["Invalid value: ", "Unsupported value: ", "Duplicate value: "] {
        let Some((before, value)) = error.split_once(words) else { continue };
        if !value.starts_with(['{', '[', 'n']) {
            return error.to_owned();
        }
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<Value>();
        let read = values.next().is_some_and(|value| value.is_ok());
        let rest = if read { &value[values.byte_offset()..] } else { value };
        return format!("{before}{words}..{rest}");
    }
    error.to_owned()
}

/// Puts a value at a JSON pointer; `null` removes.
fn put(object: &mut Value, pointer: &str, value: &Value) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let last = last.replace("~1", "/").replace("~0", "~");
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) if value.is_null() => drop(items.remove(last.parse().unwrap())),
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = value.clone(),
        Value::Object(map) if value.is_null() => drop(map.remove(&last)),
        Value::Object(map) => drop(map.insert(last, value.clone())),
        other => panic!("{pointer} leads into {other}"),
    }
}

/// Times of upstream's clock become ours.
fn settle(value: &mut Value) {
    let recently = Timestamp::from_second(1_750_000_000).unwrap();
    match value {
        Value::String(text) if text.parse::<Timestamp>().is_ok_and(|time| time > recently) => {
            *text = meta::rfc3339(now());
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(map) => map.values_mut().for_each(settle),
        _ => {}
    }
}

fn fixtures(list: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../data/rules.json")).unwrap();
    all[list].as_array().unwrap().clone()
}

#[test]
fn objects_are_prepared_as_upstream_prepares_them() {
    for fixture in fixtures("objects") {
        let kind = kind_of(&fixture["input"]);
        let (mut object, errors) = created(&fixture["input"]);
        assert_eq!(errors, Vec::<String>::new(), "{}", fixture["input"]);
        let mut stored = fixture["stored"].clone();
        settle(&mut stored);
        if kind.is("autoscaling", "HorizontalPodAutoscaler") && kind.version == "v1" {
            continue; // Upstream shows what the older form cannot say in annotations, which conversion does here.
        }
        for object in [&mut object, &mut stored] {
            defaults::apply(kind, object);
        }
        assert!(View::new(&object).same(View::new(&stored)), "ours {object}\ntheirs {stored}");
    }
}

#[test]
fn objects_are_shown_as_upstream_shows_them() {
    for fixture in fixtures("objects") {
        let Some(cells) = fixture["cells"].as_array() else { continue };
        let object = fixture["old"].clone();
        let kind = kind_of(&object);
        let columns = print::columns(kind);
        let shown: Vec<Value> = columns
            .iter()
            .map(|column| serde_json::json!([column.name, column.kind, column.format, column.priority]))
            .collect();
        assert_eq!(Value::from(shown), fixture["columns"], "{}", kind.kind);
        let ours = print::row(kind, &read(&object), now());
        for ((column, ours), theirs) in columns.iter().zip(&ours).zip(cells) {
            if !matches!(column.name.as_str(), "Age" | "Last Seen" | "First Seen" | "Last Schedule" | "Duration") {
                assert_eq!(ours, theirs, "{} of {object}", column.name);
            }
        }
    }
}

/// Where we are known to say something else.
fn differs(error: &str) -> bool {
    let known = [
        // Expressions in CEL and the names of time zones are looked at elsewhere.
        "matchConditions[0].expression",
        "spec.timeZone: Invalid value",
        "webhooks[1].clientConfig.url",
        // Privileged pods are allowed.
        "securityContext.privileged: Forbidden: disallowed by cluster policy",
        // The addresses of a Service are allocated and agreed on before it is checked.
        "spec.clusterIP",
        "spec.ipFamil",
        "spec.healthCheckNodePort",
        // Bytes of JSON in a Secret, named in Latin 1.
        "looking for beginning of value",
        // A long name's form is not looked at.
        "handler: Invalid value: \"xxxx",
        // A truth value that is false and one that is not there are the same to us.
        "spec: Forbidden: pod updates may not change fields",
        // An empty list and none are the same to us.
        "policies: Required value: must specify at least one Policy",
        "spec is immutable after creation except resources.requests",
    ];
    known.iter().any(|part| error.contains(part))
}

#[test]
fn faults_are_those_that_upstream_finds() {
    let objects = fixtures("objects");
    let mut wrong = Vec::new();
    let cases = fixtures("cases");
    assert!(cases.len() > 1000);
    for case in &cases {
        let object = &objects[usize::try_from(case["object"].as_u64().unwrap()).unwrap()];
        let (at, subresource) = (case["at"].as_str().unwrap(), case["sub"].as_str().unwrap());
        let found = if case["verb"] == "create" {
            let mut new = object["input"].clone();
            put(&mut new, at, &case["to"]);
            created(&new).1
        } else {
            let mut new = object["old"].clone();
            put(&mut new, at, &case["to"]);
            updated(subresource, &new, &object["old"])
        };
        let ours: BTreeSet<String> = found.into_iter().filter(|error| !differs(error)).collect();
        let theirs = case["errors"].as_array().unwrap().iter().map(|error| plain(error.as_str().unwrap()));
        let theirs: BTreeSet<String> = theirs.filter(|error| !differs(error)).collect();
        if ours != theirs {
            let kind = &object["input"]["kind"];
            wrong.push(format!(
                "{kind} {} {subresource} {at} = {}\n  ours {ours:#?}\n  theirs {theirs:#?}",
                case["verb"], case["to"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Every place in a value.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut visit = |step: String, value: &Value| {
        let place = format!("{at}/{step}");
        places(value, &place, found);
        found.push(place);
    };
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| visit(key.replace('~', "~0").replace('/', "~1"), value));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(position, value)| visit(position.to_string(), value))
        }
        _ => {}
    }
}

#[test]
fn nothing_panics_on_values_of_any_type() {
    let odd = serde_json::json!([7, -1, i64::MAX, 0.5, true, "", "ü", "-", "ü-", [null], [[]], [{}, 1], {"": ""}, {"a": {}}, null]);
    for fixture in fixtures("objects") {
        let (old, kind) = (&fixture["old"], kind_of(&fixture["old"]));
        let mut found = Vec::new();
        places(old, "", &mut found);
        for (number, place) in found.iter().enumerate() {
            {
                let value = &odd[number % 15];
                let mut object = old.clone();
                put(&mut object, place, value);
                let bare = object.clone();
                defaults::apply(kind, &mut object);
                let mut new = object.clone();
                strategy::prepare_create(kind, &mut new);
                strategy::stamp(kind, &mut new, None, now());
                let _ = validate::create(kind, &new);
                let subresources = std::iter::once("").chain(kind.subresources.iter().map(|sub| sub.name));
                for subresource in subresources {
                    for (new, old) in [(&object, old), (old, &bare)] {
                        let mut new = new.clone();
                        strategy::prepare_update(kind, subresource, &mut new, old);
                        let _ = validate::update(kind, subresource, &new, old);
                    }
                }
                let _ = print::row(kind, &bare, now());
            }
        }
    }
}
