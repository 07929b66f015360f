//! Tests of `proto`: cases as data where there are many.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::schema::Shape;
use crate::structural::{self, UnknownFields};

/// Upstream's published encodings, where the Go module cache has them.
fn published() -> Vec<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("GOMODCACHE").unwrap_or(format!("{home}/go/pkg/mod"));
    let dir = format!("{cache}/k8s.io/api@v0.37.1/testdata/HEAD");
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "pb")).collect();
    files.sort();
    files
}

/// An envelope as Go writes it, zero values included.
fn as_go(kind: &Gvk, of: Type, value: &Value) -> Vec<u8> {
    let mut raw = Vec::new();
    encode::object(of, value, &mut raw, true).unwrap();
    let mut out = MAGIC.to_vec();
    encode::nested(&mut out, 1, |out| {
        encode::bytes(out, 1, api_version(kind).as_bytes());
        encode::bytes(out, 2, kind.kind.as_bytes());
    });
    encode::bytes(&mut out, 2, &raw);
    encode::bytes(&mut out, 3, b"");
    encode::bytes(&mut out, 4, b"");
    out
}

fn differences(path: String, left: &Value, right: &Value, out: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            for key in l.keys().chain(r.keys().filter(|k| !l.contains_key(*k))) {
                differences(
                    format!("{path}.{key}"),
                    l.get(key).unwrap_or(&Value::Null),
                    r.get(key).unwrap_or(&Value::Null),
                    out,
                );
            }
        }
        (Value::Array(l), Value::Array(r)) if l.len() == r.len() => {
            for (i, (l, r)) in l.iter().zip(r).enumerate() {
                differences(format!("{path}[{i}]"), l, r, out);
            }
        }
        (l, r) if l == r => {}
        (l, r) => out.push(format!("{path}: {l} != {r}")),
    }
}

#[test]
fn upstreams_published_encodings_are_read_and_written_alike() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in published() {
        let bytes = std::fs::read(&file).unwrap();
        let mut expected: Value = serde_json::from_slice(&std::fs::read(file.with_extension("json")).unwrap()).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let Some(kind) = Gvk::of(&expected) else { continue };
        let Some(of) = Type::of_kind(&kind.group, &kind.version, &kind.kind) else { continue };
        structural::check(of, &mut expected, UnknownFields::Strict).unwrap_or_else(|e| panic!("{name}: {e}"));
        match decode_envelope(&bytes) {
            Ok((found, value)) => {
                assert_eq!(found, kind);
                differences(name.clone(), &value, &expected, &mut wrong);
                if as_go(&kind, of, &expected) != bytes {
                    wrong.push(format!("{name}: bytes differ"));
                }
                let ours = encode_envelope(&kind, of, &expected).unwrap();
                let (_, again) = decode_envelope(&ours).unwrap();
                differences(format!("{name} again"), &again, &expected, &mut wrong);
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
        checked += 1;
    }
    eprintln!("{checked} encodings");
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
}

/// A value of this shape with everything set, down to some depth; the number makes values differ.
fn generated(shape: Shape, depth: usize, n: &mut i64) -> Value {
    *n += 1;
    let elem = || shape.elem().unwrap();
    match shape.kind() {
        Kind::String => json!(format!("s{n}")),
        Kind::Bool => json!(true),
        Kind::Int32 => json!(-*n),
        Kind::Int64 => json!(*n << 40),
        Kind::Double => json!(*n as f64 + 0.5),
        Kind::Bytes => json!("AAEC"),
        Kind::IntOrString if *n % 2 == 0 => json!("http"),
        Kind::IntOrString => json!(*n),
        Kind::Quantity => json!(format!("{n}m")),
        Kind::Time => json!("2024-02-29T01:02:03Z"),
        Kind::MicroTime => json!("2024-02-29T01:02:03.000004Z"),
        Kind::RawExtension | Kind::FieldsV1 | Kind::Json => json!({"a": [1, null, {"b": 1.5}]}),
        Kind::List => json!([generated(elem(), depth, n), generated(elem(), depth, n)]),
        Kind::Map => json!({"k1": generated(elem(), depth, n), "k2": generated(elem(), depth, n)}),
        Kind::Ref => object_of(shape.reference().unwrap(), depth.saturating_sub(1), n),
        Kind::SchemaOrArray | Kind::SchemaOrStringArray | Kind::SchemaOrBool => json!({"type": "string"}),
        Kind::Duration | Kind::Any => unreachable!("{shape:?}"),
    }
}

fn object_of(of: Type, depth: usize, n: &mut i64) -> Value {
    let mut map = serde_json::Map::new();
    for field in of.fields().filter(|f| f.number() != 0 && depth > 0) {
        if field.inline() {
            if let Value::Object(embedded) = object_of(field.shape().reference().unwrap(), depth, n) {
                map.extend(embedded);
            }
        } else {
            map.insert(field.name().to_owned(), generated(field.shape(), depth, n));
        }
    }
    Value::Object(map)
}

#[test]
fn values_of_every_type_survive_the_way_through_protobuf() {
    for of in Type::all().filter(|t| has_form(*t)) {
        let mut value = object_of(of, 4, &mut 0);
        structural::check(of, &mut value, UnknownFields::Strict).unwrap();
        let bytes = encode(of, &value).unwrap();
        let mut wrong = Vec::new();
        differences(of.name().to_owned(), &decode(of, &bytes).unwrap(), &value, &mut wrong);
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

#[test]
fn watch_frames_hold_an_enveloped_object_after_their_length() {
    let kind = Gvk::new("", "v1", "ConfigMap");
    let of = Type::named("io.k8s.api.core.v1.ConfigMap").unwrap();
    let object =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"x": "y".repeat(300)}});
    let frame = watch_frame("ADDED", &encode_envelope(&kind, of, &object).unwrap());
    let (length, message) = frame.split_at(4);
    assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, message.len());
    let event = Type::named("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent").unwrap();
    assert_eq!(decode(event, message).unwrap(), json!({"type": "ADDED", "object": object}));
}

#[test]
fn what_is_not_an_envelope_of_a_known_kind_is_refused() {
    assert_eq!(decode_envelope(b"{}"), Err(Error::NotAnEnvelope));
    assert_eq!(decode_envelope(b""), Err(Error::NotAnEnvelope));
    let of = Type::named("io.k8s.api.core.v1.Pod").unwrap();
    let unknown = Gvk::new("foo.example", "v1", "Foo");
    let envelope = encode_envelope(&unknown, of, &json!({})).unwrap();
    assert_eq!(envelope_kind(&envelope), Ok(unknown.clone()));
    let error = decode_envelope(&envelope).unwrap_err();
    assert_eq!(error.to_string(), "no kind \"Foo\" is registered for version \"foo.example/v1\"");
    let table = Type::named("io.k8s.apimachinery.pkg.apis.meta.v1.Table").unwrap();
    assert_eq!(encode(table, &json!({})), Err(Error::NoForm(table.name())));
    let wrong = encode(of, &json!({"spec": {"containers": [{"name": 1}]}})).unwrap_err();
    assert_eq!(wrong.to_string(), "encode Container.name: value of the wrong type");
}

#[test]
fn hostile_messages_are_refused_without_panic() {
    let schema = Type::named("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
    let not = schema.field("not").unwrap().number();
    let mut deep: Vec<u8> = Vec::new();
    for _ in 0..20_000 {
        let inner = std::mem::take(&mut deep);
        encode::bytes(&mut deep, not, &inner);
        if deep.len() > 60_000 {
            break;
        }
    }
    assert_eq!(decode(schema, &deep), Err(Error::Malformed("exceeded max depth of 128".to_owned())));
    let pod = Type::named("io.k8s.api.core.v1.Pod").unwrap();
    let cases: [(&[u8], &str); 7] = [
        (b"\x0a\xff\xff\xff\xff\x7f", "unexpected EOF"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "proto: integer overflow"),
        (b"\x00", "proto: Pod: illegal tag 0 (wire type 0)"),
        (b"\x08\x01", "proto: wrong wireType = 0 for field ObjectMeta"),
        (b"\x0c", "proto: Pod: wiretype end group for non-group"),
        (b"\x0f", "proto: illegal wireType 7"),
        (b"\xfb\x07\x0b", "unexpected EOF"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(decode(pod, bytes), Err(Error::Malformed(expected.to_owned())));
    }
    // Every truncation and many bit flips of a real message.
    let mut value = object_of(pod, 5, &mut 0);
    structural::check(pod, &mut value, UnknownFields::Ignore).unwrap();
    let bytes = encode(pod, &value).unwrap();
    for length in (0..bytes.len()).step_by(bytes.len() / 400 + 1) {
        let _ = decode(pod, &bytes[..length]);
    }
    let mut state = 1u64;
    for _ in 0..2000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut flipped = bytes[..bytes.len().min(4000)].to_vec();
        let at = (state >> 33) as usize % flipped.len();
        flipped[at] ^= 1 << (state >> 20 & 7);
        let _ = decode(pod, &flipped);
    }
}
