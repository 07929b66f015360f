//! What upstream's code made of a set of inputs (`cargo xtask schema` writes it down) is what ours makes of them.

use api::meta::Gvk;
use api::patch::{self, PatchError};
use api::schema::Type;
use api::structural::{self, UnknownFields};
use api::validate::FieldError;
use api::{crd, json, proto};
use base64::Engine;
use serde_json::Value;

fn fixtures(list: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../data/upstream.json")).unwrap();
    let items = all[list].as_array().unwrap().clone();
    assert!(items.len() > 10);
    items
}

fn type_of(object: &Value) -> (Gvk, Type) {
    let kind = Gvk::of(object).unwrap();
    let of = Type::of_kind(&kind.group, &kind.version, &kind.kind).unwrap();
    (kind, of)
}

#[test]
fn protobuf_bodies_of_upstreams_clients_read_as_their_json_does() {
    for fixture in fixtures("objects") {
        let (kind, of) = type_of(&fixture["input"]);
        let bytes = base64::engine::general_purpose::STANDARD.decode(fixture["protobuf"].as_str().unwrap()).unwrap();
        let mut printed = fixture["printed"].clone();
        structural::check(of, &mut printed, UnknownFields::Strict).unwrap();
        let (found, value) = proto::decode_envelope(&bytes).unwrap();
        assert_eq!((&found, &value), (&kind, &printed));
        let mut input = fixture["input"].clone();
        structural::check(of, &mut input, UnknownFields::Strict).unwrap();
        let mut completed = input.clone();
        structural::complete(of, &mut completed);
        assert_eq!(completed, fixture["printed"]);
        let ours = proto::encode_envelope(&kind, of, &input).unwrap();
        assert!(ours.len() <= bytes.len());
        let (_, mut again) = proto::decode_envelope(&ours).unwrap();
        structural::check(of, &mut again, UnknownFields::Strict).unwrap();
        assert_eq!(again, input);
    }
}

#[test]
fn bodies_are_refused_in_upstreams_words() {
    for fixture in fixtures("bodies") {
        let text = fixture["input"].as_str().unwrap();
        let mut parsed = json::parse(text.as_bytes()).unwrap();
        let (_, of) = type_of(&parsed.value);
        let outcome = structural::check_parsed(of, &mut parsed.value, &parsed.duplicates, UnknownFields::Warn);
        match fixture["error"].as_str() {
            Some(error) => assert_eq!(outcome, Err(error.to_owned()), "{text}"),
            None => {
                let mut found = outcome.unwrap();
                let mut expected: Vec<_> =
                    fixture["strict"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect();
                // The order of the document is not kept.
                found.sort();
                expected.sort();
                assert_eq!(found, expected, "{text}");
            }
        }
    }
}

fn patched(fixture: &Value, apply: impl Fn(&mut Value, &Value) -> Result<(), PatchError>) {
    let mut object = fixture["object"].clone();
    let outcome = apply(&mut object, &fixture["patch"]);
    match fixture["error"].as_str() {
        Some(error) => assert_eq!(outcome.unwrap_err().to_string(), error, "{fixture}"),
        None => {
            outcome.unwrap_or_else(|e| panic!("{fixture}: {e}"));
            assert_eq!(object, fixture["result"], "{fixture}");
        }
    }
}

#[test]
fn strategic_merge_patches_do_what_upstreams_do() {
    for fixture in fixtures("strategic") {
        let (api_version, kind) = fixture["kind"].as_str().unwrap().split_once(' ').unwrap();
        let kind = Gvk::parse(api_version, kind).unwrap();
        let of = Type::of_kind(&kind.group, &kind.version, &kind.kind).unwrap();
        patched(&fixture, |object, change| patch::strategic(of, object, change));
    }
}

#[test]
fn json_patches_do_what_upstreams_do() {
    for fixture in fixtures("json") {
        patched(&fixture, patch::json);
    }
}

fn texts(value: &Value) -> Vec<String> {
    let mut texts: Vec<_> = value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
    texts.sort();
    texts
}

/// Upstream prints values of its internal types, which nobody reads: without them.
fn without_values(text: &str) -> String {
    let details = [": only [", ": must contain unique", ": must have exactly"];
    let end = details.iter().find_map(|d| text.find(d));
    match (text.find("Invalid value: "), end) {
        (Some(start), Some(end)) => format!("{}{}", &text[..start], &text[end..]),
        _ => text.to_owned(),
    }
}

fn sorted(errors: Vec<FieldError>) -> Vec<String> {
    let mut texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}

#[test]
fn definitions_of_custom_resources_have_the_faults_that_upstream_finds() {
    let mut wrong = Vec::new();
    for fixture in fixtures("definitions") {
        let mut object = fixture["object"].clone();
        let of = Type::of_kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
        structural::check(of, &mut object, UnknownFields::Ignore).unwrap();
        let found: Vec<_> = sorted(crd::definition_errors(&object, None)).iter().map(|t| without_values(t)).collect();
        let expected: Vec<_> = texts(&fixture["errors"]).iter().map(|t| without_values(t)).collect();
        if found != expected {
            wrong.push(format!("{}\n  ours {found:#?}\n  upstream's {expected:#?}", fixture["object"]["spec"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn custom_resources_are_decoded_and_checked_as_upstream_does() {
    let mut wrong = Vec::new();
    for fixture in fixtures("resources") {
        let schema = crd::Structural::of_checked(&fixture["schema"]);
        let mut object = fixture["object"].clone();
        schema.default(&mut object);
        let unknown = schema.prune(&mut object);
        assert_eq!(Value::from(unknown), fixture["unknown"], "{}", fixture["schema"]);
        let written = |value: &Value| {
            let mut bytes = Vec::new();
            json::write(&mut bytes, value);
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(written(&object), written(&fixture["decoded"]), "{}", fixture["schema"]);
        let found = match fixture.get("old") {
            None => schema.validate(&object),
            Some(old) => schema.validate_update(&object, old),
        };
        let (found, expected) = (sorted(found), texts(&fixture["errors"]));
        if found != expected {
            wrong.push(format!(
                "{}\n{}\n  ours {found:#?}\n  upstream's {expected:#?}",
                fixture["schema"], fixture["object"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
